"""Celery: one event for each run of a task, and the context of whoever sent it.

    install(client)                                    # where the application is made

By Celery's signals, which are the process's own: one `install` holds for every application in it.

    before_task_publish      the sender's context goes into the message's headers
    task_prerun              the run begins, in that context
    task_retry, task_failure what came of it
    task_postrun             the run ends; this comes after a retry too
    worker_process_shutdown, worker_shutdown    what is queued is delivered, the rest is spooled

A run whose process died (`WorkerLostError`, a hard time limit) is told by the worker's main process
and has no duration.
"""

from collections.abc import Callable, MutableMapping
from typing import Any, Final, Unpack

import billiard
import celery
from celery import signals, states

from indelible.client import context as contexts
from indelible.client.client import Indelible
from indelible.client.context import Context, trace_id_of
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observation import Work
from indelible.hooks.run import REQUEST_ID, TRACEPARENT, Run, headers_of, person_of

DISTINCT_ID: Final = "x-distinct-id"
_OUTCOMES: Final = {
    states.SUCCESS: "success",
    states.FAILURE: "error",
    states.RETRY: "retry",
    states.IGNORED: "skipped",
    states.REJECTED: "skipped",
}
_RUN: Final = "indelible_run"

_installed: "list[Tasks]" = []


def install(client: Indelible | None = None, **settings: Unpack[Settings]) -> "Tasks":
    """Record the tasks that this process sends and runs; what was installed before is removed.

    SIGTERM is left to Celery, which ends its processes itself and lets us flush.

    Args:
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`;
            `skip` takes names of tasks.
    """
    while _installed:
        _installed[-1].remove()
    return Tasks(client, settings)


class Tasks:
    """What is connected to Celery's signals. Use `install`."""

    def __init__(self, client: Indelible | None, settings: Any) -> None:
        framework = f"celery {celery.__version__}"
        self._observer = observer_of(
            client, settings, framework=framework, install_signal_handlers=False
        )
        self._connected: tuple[tuple[Any, Callable[..., None]], ...] = (
            (signals.before_task_publish, self._sent),
            (signals.task_prerun, self._began),
            (signals.task_retry, self._retried),
            (signals.task_failure, self._failed),
            (signals.task_postrun, self._ended),
            (signals.worker_process_shutdown, self._shut_down),
            (signals.worker_shutdown, self._shut_down),
        )
        for signal, receiver in self._connected:
            signal.connect(receiver, weak=False)
        _installed.append(self)

    def remove(self) -> None:
        """Record no more."""
        for signal, receiver in self._connected:
            signal.disconnect(receiver)
        if self in _installed:
            _installed.remove(self)

    # Celery logs what a receiver raises and goes on; in a receiver nothing of the task's is lost.

    def _sent(self, headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
        here = contexts.current()
        if headers is None:
            return
        ours: dict[str, str] = headers_of(here)
        if here is not None and here.distinct_id:
            ours[DISTINCT_ID] = str(here.distinct_id)  # it may be a number yet
        # Headers of protocol 2 that Celery keeps apart: whoever looks there finds ours too.
        nested = headers.get("headers")
        for place in (headers, nested) if isinstance(nested, dict) else (headers,):
            for name, value in ours.items():
                place.setdefault(name, value)

    def _began(self, task: Any = None, **_: Any) -> None:
        request = task.request
        run = Run(self._observer, kind="task", name=task.name, context=_context_of(request))
        run.details["retries"] = request.retries
        setattr(request, _RUN, run)

    def _retried(self, request: Any = None, reason: Any = None, **_: Any) -> None:
        run = getattr(request, _RUN, None)
        error = getattr(reason, "exc", None)
        if run is not None and isinstance(error, BaseException):
            # Not `failed`: a run that will be tried again is no error yet.
            run.details["error_type"] = type(error).__name__

    def _failed(self, sender: Any = None, exception: Any = None, **_: Any) -> None:
        run = getattr(sender.request, _RUN, None)
        if run is not None:
            run.failed(exception)
        elif sender.request.id is None:
            return  # without its request, as after a Reject or a time limit: told elsewhere too
        elif self._observer.wants("task", sender.name):
            # Nothing of this run is known here but its end: its process is gone.
            self._observer.saw(
                Work(
                    kind="task",
                    name=sender.name,
                    outcome="error",
                    framework=self._observer.framework,
                    context=_context_of(sender.request),
                    failure=self._observer.failure_of(exception),
                    details={"retries": sender.request.retries},
                )
            )

    def _ended(self, task: Any = None, state: str | None = None, **_: Any) -> None:
        run = getattr(task.request, _RUN, None)
        if run is None:
            return
        if state is not None:
            run.end(_OUTCOMES.get(state))
        elif billiard.current_process().name == "MainProcess":
            run.end("error")  # the task ends the process, which nobody else will tell
        else:
            run.detach()  # the same in a child: the main process tells it as a lost one

    def _shut_down(self, **_: Any) -> None:
        # A child of the pool ends by os._exit: no handler of atexit runs in it.
        client = self._observer.client
        client._at_exit(client.options.exit_s)


def _context_of(request: Any) -> Context:
    """The sender's context, over what is known here already, as in an eager task."""
    headers = {**(request.headers or {})}
    for name in (REQUEST_ID, TRACEPARENT, DISTINCT_ID):
        if getattr(request, name, None) is not None:
            headers.setdefault(name, getattr(request, name))
    here = contexts.inherited()
    here.request_id = person_of(headers, REQUEST_ID) or here.request_id
    here.trace_id = trace_id_of(_text(headers.get(TRACEPARENT))) or here.trace_id
    here.distinct_id = person_of(headers, DISTINCT_ID) or here.distinct_id
    return here


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
