"""Jobs of cron and scripts: one event for each run.

    @job("nightly-report")
    def report(): …

    with job("import"):
        …

Audit events sent inside have the run's request id. The event of the run is delivered when the
process ends, also by SIGTERM; a process that ends otherwise, as by `os._exit` or by being frozen
after each call, needs `flush_s`.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, Unpack, cast

from indelible.client import context as contexts
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.run import Run

P = ParamSpec("P")
R = TypeVar("R")

_FRAMEWORK: Final = "job"


class job:  # noqa: N801 — a decorator and a block, both written in lower case
    """Records the runs of a function or coroutine function, or one block.

    A run that ends by `SystemExit` with 0 or None succeeded; with anything else it failed, and the
    event has its `exit_code`. One that the end of the process cuts off failed, and is `aborted`.

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
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} makes a generator: decorate what runs it")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*arguments: P.args, **named: P.kwargs) -> Any:
                run = self._begin()
                try:
                    return await function(*arguments, **named)
                except BaseException as error:
                    _failed(run, error)
                    raise
                finally:
                    run.end()
                    if self._flush_s is not None:
                        await asyncio.to_thread(self._flush)

            return cast("Callable[P, R]", awaited)

        @functools.wraps(function)
        def called(*arguments: P.args, **named: P.kwargs) -> R:
            run = self._begin()
            try:
                return function(*arguments, **named)
            except BaseException as error:
                _failed(run, error)
                raise
            finally:
                run.end()
                self._flush()

        return called

    def __enter__(self) -> Context:
        run = self._begin()
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

    def _begin(self) -> Run:
        return Run(self._observer, kind="job", name=self.name)

    def _flush(self) -> None:
        if self._flush_s is not None:
            self._observer.client.flush(self._flush_s)


def _failed(run: Run, error: BaseException) -> None:
    if not isinstance(error, SystemExit):
        run.failed(error)
        return
    # Text is printed by the interpreter, which then exits with 1.
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    run.details["exit_code"] = code
    run.outcome = "error" if code else "success"
