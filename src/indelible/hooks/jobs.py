"""Jobs of cron and scripts: one event for each run.

    @job("nightly-report")
    def report(): …

    with job("import"):
        …

Audit events sent inside have the run's request id. The event of the run is delivered when the
process ends, also by SIGTERM; a process that ends otherwise, as by `os._exit` or by being frozen
after each call, needs `flush_s`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, ParamSpec, TypeVar, Unpack

from indelible.client import context as contexts
from indelible.client import decorate
from indelible.client.asynchronous import elsewhere
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.client.decorate import decorated
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.run import Run

P = ParamSpec("P")
R = TypeVar("R")

_FRAMEWORK: Final = "job"
_KIND: Final = "job"


class job:  # noqa: N801 — a decorator and a block, both written in lower case
    """Records the runs of a function of any kind, or one block.

    A run of a coroutine function or a generator lasts until its body has ended. One that ends by
    `SystemExit` with 0 or None succeeded; with anything else it failed, and the event has its
    `exit_code`. One that is cut off, as by the end of the process, by the cancellation of its task
    or by whoever closes its generator, is an `error` and `aborted`.

    Args:
        name: of few values: ``nightly-report``.
        client: the client to send with; without one, that of `settings`, else the default one.
        flush_s: after each run, wait so long for delivery; None leaves it to the background.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`.
    """

    def __init__(
        self,
        name: str,
        client: Indelible | None = None,
        *,
        flush_s: float | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.name = name
        self._observer = observer_of(client, settings, framework=_FRAMEWORK)
        self._flush_s = flush_s
        self._open: list[Run] = []  # blocks: threads may share one `job`

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, each call of which is a run that lasts until its body has ended.

        Raises:
            TypeError: it is a class, a property, or nothing that can be called.
        """
        return decorated(function, lambda *_, **__: _Call(self))

    def __enter__(self) -> Context:
        run = Run(self._observer, kind=_KIND, name=self.name)
        self._open.append(run)
        return run.context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run = self._ending()
        if run is not None:
            if error is not None:
                _failed(run, error)
            run.end()
        self._flush()

    def _ending(self) -> Run | None:
        """The run of the block that ends here; the newest where it was begun in another context."""
        here = contexts.current()
        found = [run for run in self._open if run.context is here] or self._open[-1:]
        for run in found:
            self._open.remove(run)
        return found[0] if found else None

    def _flush(self) -> None:
        if self._flush_s is not None:
            self._observer.client.flush(self._flush_s)


class _Call(decorate.Run):
    """One call of a function that is a job."""

    def __init__(self, job: job) -> None:
        self._job = job
        self._run = Run(job._observer, kind=_KIND, name=job.name, enter=False)

    def step(self) -> AbstractContextManager[object]:
        return contexts.bound(self._run.context)

    def ended(self, error: BaseException | None) -> None:
        self._end(error)
        self._job._flush()

    async def ended_on_a_loop(self, error: BaseException | None) -> None:
        self._end(error)
        if self._job._flush_s is not None:
            await elsewhere(self._job._flush)

    def _end(self, error: BaseException | None) -> None:
        if decorate.is_aborted(error):
            self._run.cut_off()
        elif error is not None:
            _failed(self._run, error)
        self._run.end()


def _failed(run: Run, error: BaseException) -> None:
    if not isinstance(error, SystemExit):
        run.failed(error)
        return
    # Text is printed by the interpreter, which then exits with 1.
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    run.details["exit_code"] = code
    run.outcome = "error" if code else "success"
