"""Who and what an event is about, when the caller does not say: the context of a request or a job.

A context variable holds one mutable `Context` for each request, and code below *changes that
object*; it never sets the variable anew. A value set in a handler that runs on a worker thread
would be invisible to the middleware afterwards; a change of the object is seen everywhere, and two
requests at the same time never share one.

Trace ids follow W3C Trace Context (level 1, section 3.2.2):

>>> trace_id_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
'4bf92f3577b34da6a3ce929d0e0e4736'
>>> trace_id_of("00-00000000000000000000000000000000-00f067aa0ba902b7-01") is None
True
"""

import random
import re
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar

from indelible.client.decorate import Run, decorated
from indelible.client.encode import IdLike

P = ParamSpec("P")
R = TypeVar("R")

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MAX_ID_CHARS: Final = 200


@dataclass(slots=True)
class Context:
    """What is known of the request or job that runs now. Change it; never replace it.

    Attributes:
        distinct_id: the person that events belong to, if the application said so.
        anonymous_id: the visitor before that, such as the cookie `vt_anon`.
        properties: added to every product event captured inside.
        meta: added to every audit event sent inside (text to text).
        request_id: of this request or job; every event captured inside has it, of either kind.
        trace_id: 32 hex digits, from `traceparent` or made here; every event inside has it too.
        event_name: of the middleware's audit event; the property `event_name` of the other.
        trail: the business key that groups audit events (`immutable_trail`).
        ignored: the middleware records nothing for this request.
    """

    distinct_id: IdLike | None = None
    anonymous_id: IdLike | None = None
    properties: dict[str, object] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    request_id: str | None = None
    trace_id: str | None = None
    event_name: str | None = None
    trail: str | None = None
    ignored: bool = False

    def of_product_events(self) -> dict[str, object]:
        """The properties of a product event captured inside, where it does not say otherwise.

        Its ids stand under the names that the request's own event has them under.
        """
        return {**self._ids(), **self.properties}

    def of_audit_events(self) -> dict[str, str]:
        """The same for the meta of an audit event."""
        trail = {"immutable_trail": self.trail} if self.trail else {}
        return {**self.meta, **self._ids(), **trail}

    def _ids(self) -> dict[str, str]:
        known = {"request_id": self.request_id, "trace_id": self.trace_id}
        return {name: value for name, value in known.items() if value}


_current: Final[ContextVar[Context | None]] = ContextVar("indelible_context", default=None)


def current() -> Context | None:
    """The context of what runs now; None outside every request and job."""
    return _current.get()


def enter(context: Context) -> Token[Context | None]:
    """Make `context` the current one, until `leave` is called with what this returns."""
    return _current.set(context)


def leave(token: Token[Context | None]) -> None:
    """Undo `enter`. Threads are used again: without this the next request would inherit it."""
    try:
        _current.reset(token)
    except ValueError:
        # Left in another context than it was entered in, as a generator closed by a garbage
        # collector is: there is nothing of ours to undo here.
        return


class Block:
    """A context of its own for a ``with`` block, or, as a decorator, for each call of a function.

    A decorated coroutine function, generator or async generator has it for as long as its body
    runs: what runs while a generator waits for its caller has the caller's context.
    """

    def __init__(self, make: Callable[[], Context]) -> None:
        self._make = make
        self._entered: dict[int, list[Token[Context | None]]] = {}

    def __enter__(self) -> Context:
        inner = self._make()
        self._entered.setdefault(id(inner), []).append(enter(inner))
        return inner

    def __exit__(self, *error: object) -> None:
        # Threads and tasks may share a block: each leaves what it entered.
        entered = id(current())
        if entered not in self._entered and len(self._entered) == 1:
            entered = next(iter(self._entered))
        tokens = self._entered.pop(entered, [])
        if tokens:
            leave(tokens.pop())
        if tokens:
            self._entered[entered] = tokens

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, whose body runs in a context of its own, new for each call.

        Raises:
            TypeError: it is a class, a property, or nothing that can be called.
        """
        return decorated(function, lambda *_, **__: _Run(self._make()))


class _Run(Run):
    """One call of a function that was decorated with a `Block`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def step(self) -> AbstractContextManager[object]:
        return Block(lambda: self._context)


def bound(context: Context | None = None, **fields: object) -> Block:
    """Run a block with a context of its own, which begins as a copy of the one around it.

    >>> with bound(distinct_id="user_42") as here:
    ...     current() is here, here.distinct_id
    (True, 'user_42')
    """

    def make() -> Context:
        inner = context or inherited()
        for name, value in fields.items():
            setattr(inner, name, value)
        return inner

    return Block(make)


def described(
    *,
    distinct_id: IdLike | None = None,
    anonymous_id: IdLike | None = None,
    properties: Mapping[str, object] | None = None,
    meta: Mapping[str, str] | None = None,
    trail: str | None = None,
) -> Block:
    """A block, or a decorator, in which events have these unless they say otherwise.

    Args:
        distinct_id, anonymous_id: whose they are.
        properties: of product events.
        meta: of audit events.
        trail: groups audit events (`immutable_trail`).
    """

    def make() -> Context:
        inner = inherited()
        inner.distinct_id = first_id(distinct_id, inner.distinct_id)
        inner.anonymous_id = first_id(anonymous_id, inner.anonymous_id)
        inner.properties.update(properties or {})
        inner.meta.update(meta or {})
        inner.trail = trail or inner.trail
        return inner

    return Block(make)


def first_id(*ids: Any) -> Any:
    """The first id that there is: 0 is one, an empty text is none."""
    for one in ids:
        if one is not None and (type(one) is not str or one):
            return one
    return None


def inherited() -> Context:
    """A copy of the current context: for work that outlives the request that began it."""
    outer = current()
    if outer is None:
        return Context()
    return Context(
        distinct_id=outer.distinct_id,
        anonymous_id=outer.anonymous_id,
        properties=dict(outer.properties),
        meta=dict(outer.meta),
        request_id=outer.request_id,
        trace_id=outer.trace_id,
        trail=outer.trail,
    )


def set_distinct_id(distinct_id: IdLike | None) -> None:
    """Say who the current request or job belongs to; sends nothing, and never raises.

    The request's own events belong to this person, however late in the request this is called and
    from whichever layer: a handler, a dependency, a middleware. So do the product events that are
    captured inside from here on. None takes it back. Outside a request it does nothing.
    """
    context = current()
    if context is not None:
        context.distinct_id = distinct_id


def set_anonymous_id(anonymous_id: IdLike | None) -> None:
    """The same for a visitor who is not known yet: counts while no `distinct_id` is set."""
    context = current()
    if context is not None:
        context.anonymous_id = anonymous_id


def set_event_name(name: str) -> None:
    """Name the audit event that the middleware sends for this request; nothing outside one.

    Its product event stays an `http_request`, so that requests can be counted, and has this name
    as its property `event_name`.
    """
    context = current()
    if context is not None:
        context.event_name = name


def set_trail(trail: str) -> None:
    """Group this request's audit events under a business key (`immutable_trail`)."""
    context = current()
    if context is not None:
        context.trail = trail


def ignore() -> None:
    """Let the middleware record nothing for this request."""
    context = current()
    if context is not None:
        context.ignored = True


def add_properties(properties: Mapping[str, object]) -> None:
    """Add these to every product event captured in this request from now on."""
    context = current()
    if context is not None:
        context.properties.update(properties)


def request_id_of(header: str | None) -> str:
    """The caller's X-Request-ID if it is 1 to 128 visible ASCII characters, else a new one."""
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header

    # Unique is enough; `uuid4` asks the system for bits that nobody can guess, which costs more.
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def trace_id_of(header: str | None) -> str | None:
    """The trace id of a `traceparent` header; None when there is none or it is invalid."""
    match = _TRACEPARENT.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    version, trace, span, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return trace


def active_trace_id() -> str | None:
    """The trace of OpenTelemetry's current span, where the application uses OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else None


def clean_id(text: str | None) -> str | None:
    """An id as a browser may send it: controls and outer blanks removed, at most 200 characters.

    >>> clean_id(" a\\r\\nb "), clean_id("  ")
    ('ab', None)
    """
    if text is None:
        return None
    return _CONTROLS.sub("", text).strip()[:MAX_ID_CHARS] or None
