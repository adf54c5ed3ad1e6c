"""One piece of work under way: a task, a message, a job, a call, a command.

    run = Run(observer, kind="job", name="nightly-report")
    try: …
    except BaseException as error:
        run.failed(error)
        raise
    finally:
        run.end()

What `indelible.hooks.watch` is for requests this is for the rest: it makes a context the current
one, keeps the clock, and leaves the events; work that is under way when the process ends failed,
and is `aborted`.
`headers_of` and `context_of` carry a context over a broker.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Final, Self

from indelible.client import context as contexts
from indelible.client import lifecycle
from indelible.client.context import Context, clean_id, request_id_of, trace_id_of
from indelible.hooks.observation import Failure, Work
from indelible.hooks.observer import Observer

REQUEST_ID: Final = "x-request-id"
TRACEPARENT: Final = "traceparent"


class Run:
    """Work that began now, in `context`, or in a copy of the one around it.

    That is the current context until the end, unless it is not to be entered: whoever makes the
    run then enters it for each step of the work.

    Ends once; later calls do nothing. As a context manager it ends with the block, and what the
    block raises is its failure.

    Attributes:
        name: may be changed until the end, where it is known only then.
        known_as: what `skip` calls it; None means by its name.
        outcome: what `end` says when it is told nothing else; None means by the failure.
        details: more members of the event.
    """

    def __init__(
        self,
        observer: Observer,
        *,
        kind: str,
        name: str,
        context: Context | None = None,
        enter: bool = True,
    ) -> None:
        self.kind = kind
        self.name = name
        self.known_as: str | None = None
        self.outcome: str | None = None
        self.details: dict[str, object] = {}
        self.context = context or contexts.inherited()
        self.context.request_id = self.context.request_id or request_id_of(None)
        self.context.trace_id = contexts.active_trace_id() or self.context.trace_id
        self.failure: Failure | None = None
        self._observer = observer
        # Never released: of two that end it, its own thread and the end of the process, one does.
        self._ending = threading.Lock()
        self._token: Token[Context | None] | None = None
        if enter:
            self._token = contexts.enter(self.context)
        self._start = time.perf_counter()
        _under_way.add(self)

    def failed(self, error: BaseException) -> None:
        """It raised; the first thing that it raised counts."""
        if self.failure is None:
            self.failure = self._observer.failure_of(error)

    def detach(self) -> None:
        """Have no more to do with the work: its end is told elsewhere, or by nobody."""
        _under_way.discard(self)
        token, self._token = self._token, None
        if token is not None:
            contexts.leave(token)

    def end(self, outcome: str | None = None) -> None:
        """It is over; leaves its events."""
        if not self._ending.acquire(blocking=False):
            return
        duration_s = time.perf_counter() - self._start
        self.detach()
        if not self._observer.wants(self.kind, self.known_as or self.name):
            return
        by_failure = "success" if self.failure is None else "error"
        self._observer.saw(
            Work(
                kind=self.kind,
                name=self.name,
                outcome=outcome or self.outcome or by_failure,
                framework=self._observer.framework,
                context=self.context,
                duration_s=duration_s,
                failure=self.failure,
                details=self.details,
            )
        )

    def cut_off(self) -> None:
        """The process ends in the middle of it."""
        if self.name:
            self.details["aborted"] = True
            self.end("error")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.failed(error)
        self.end()


_under_way: Final[set[Run]] = set()


def _end_those_under_way() -> None:
    for run in list(_under_way):
        run.cut_off()


lifecycle.before_end(_end_those_under_way)
# They are the parent's to end.
lifecycle.in_each_child(_under_way.clear)


def headers_of(context: Context | None) -> dict[str, str]:
    """What to send along so that whoever takes the work goes on in `context`.

    The span of the `traceparent` is OpenTelemetry's current one; else it is made up, since we
    record none.
    """
    headers = {}
    if context is not None and context.request_id:
        headers[REQUEST_ID] = context.request_id
    trace_id, span_id = _active_span()
    trace_id = trace_id or (context.trace_id if context is not None else None)
    if trace_id:
        headers[TRACEPARENT] = f"00-{trace_id}-{span_id or os.urandom(8).hex()}-01"
    return headers


def context_of(header: Callable[[str], str | None]) -> Context:
    """The context that work arrives with; `header` looks up a header by its lower-case name."""
    return Context(
        request_id=request_id_of(header(REQUEST_ID)),
        trace_id=trace_id_of(header(TRACEPARENT)),
    )


def person_of(headers: Mapping[str, object], name: str) -> str | None:
    """An id that one of our own processes sent along."""
    value = headers.get(name)
    return clean_id(value) if isinstance(value, str) else None


def _active_span() -> tuple[str | None, str | None]:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None, None
    span = trace.get_current_span().get_span_context()
    return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else (None, None)
