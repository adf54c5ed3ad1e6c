"""One request under way, from the hook's side: what `indelible.hooks.run` is for work.

A hook opens a watch before the application runs and closes it afterwards:

    watch = open_watch(observer, method=…, path=…, header=…, read=…)
    if watch is None: …                     # skipped: run the application and do nothing
    watch.began(status) … watch.finished()  # the answer's first and last byte
    watch.failed(error)                     # what the application raised
    watch.left()                            # the client did not stay for the end
    watch.close()                           # always, in a `finally`

A request that is under way when the process ends is closed then, as one whose client left.

A request may pass several hooks: given twice, in an application that is mounted, in a WSGI
application inside an ASGI one. They share one context. Of those with the same client the outermost
leaves the events; the watches inside leave none, and tell it what only they know, the route and
what was raised:

    outer hook ─ open ────────────────────────────────────────────── close ─▶ one record
                   inner hook ─ open ──────────── close ─▶ tell(route, …) ▲

Hooks with two different clients leave a record each.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Final

from indelible.client import context as contexts
from indelible.client import lifecycle
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.hooks.observation import METHODS, OTHER_METHOD, UNMATCHED, Failure, Request
from indelible.hooks.observer import Header, Observer, quietly

Read = Callable[[Context], str | None]
"""Asked once, when a request is over: the route's template, None if none matched. May complete the
request's context by what the application left elsewhere."""

MARK: Final = "indelible.watch"
"""Where a hook leaves its watch, in the scope or the environ, for hooks further inside."""

_ABORTED: Final = 499
_NOWHERE: Final = (404, 405)
_MOUNTED: Final = "/{path}"  # the end of a route that leads to an application of another kind


@quietly
def open_watch(
    observer: Observer,
    *,
    method: str,
    path: str,
    header: Header,
    read: Read,
    root: str = "",
    peer: str | None = None,
    mark: object = None,
) -> "Watch | None":
    """Begin to watch a request; None when it leaves no event, as far as this hook is concerned.

    Args:
        observer: of the hook.
        method, path: as received; `path` without the query.
        header: looks up a header by its lower-case name.
        read: asked for the route when the request is over.
        root: the beginning of `path` that the application is served under.
        peer: the address that the connection comes from.
        mark: what the request carries at `MARK`, left by a hook further outside.
    """
    outer = _around(mark, method, path)
    around = None if outer is None else outer.context
    here = observer.admit(method=method, path=path, header=header, root=root, around=around)
    if here is None:
        return None
    return Watch(
        observer, here, method=method, path=path, header=header, read=read, peer=peer, outer=outer
    )


def is_same(client: Indelible, other: Indelible) -> bool:
    """Whether two clients are one: the same object, or made of the same options."""
    return client is other or client.options == other.options


def _around(mark: object, method: str, path: str) -> "Watch | None":
    """The innermost open watch on the same request, if another hook has one.

    A mark does not pass from a server's protocol to another (WSGI inside ASGI); the context
    variable does. But a request that a handler sends to another application of this process has
    the variable too, and is another request.
    """
    while isinstance(mark, Watch):
        if mark.is_open:
            return mark
        mark = mark.outer
    near = _innermost.get()
    return near if near is not None and near.is_open and near.is_of(method, path) else None


@dataclass(frozen=True, slots=True)
class _Told:
    """What a watch further inside knows of the request."""

    route: str | None
    framework: str
    failure: Failure | None


class Watch:
    """One request under way: its context, its clocks, and what came of it.

    Opened by `open_watch`, which makes its context the current one. `close` must be called
    exactly when nothing of the request runs any more; later calls do nothing.

    Attributes:
        context: of the request; the same for all watches on it.
        outer: the watch of the next hook further outside, if there is one.
        product, audit: whether this watch leaves such an event; not where one further outside does.
    """

    def __init__(
        self,
        observer: Observer,
        here: Context,
        *,
        method: str,
        path: str,
        header: Header,
        read: Read,
        peer: str | None,
        outer: "Watch | None" = None,
    ) -> None:
        self.client = observer.client
        self.context = here
        self.outer = outer
        same = [one for one in self._layers_outside() if is_same(one.client, self.client)]
        self.product: bool = observer.recording.product and not any(one.product for one in same)
        self.audit: bool = observer.recording.audits and not any(one.audit for one in same)
        self.status: int | None = None
        self._observer = observer
        self._method = method
        self._path = path
        self._read = read
        self._forwarded = observer.client_ip(peer, header)
        self._user_agent = header("user-agent") if observer.recording.user_agent else None
        self._request_bytes = _length(header("content-length"))
        self._response_bytes: int | None = None
        self._counted = 0
        self._first: float | None = None
        self._end: float | None = None
        self._failure: Failure | None = None
        self._left = False
        # Never released: of two that close, a server's thread and the end of the process, one does.
        self._closing = threading.Lock()
        self._told: _Told | None = None
        self._tokens: tuple[Token[Context | None], Token[Watch | None]] | None = (
            # A block of the application's, between two layers, goes on inside.
            contexts.enter(here if outer is None else contexts.current() or here),
            _innermost.set(self),
        )
        _under_way.add(self)
        self._start = time.perf_counter()

    def _layers_outside(self) -> Iterator["Watch"]:
        layer = self.outer
        while layer is not None:
            yield layer
            layer = layer.outer

    @property
    def is_open(self) -> bool:
        """Whether the request is not over yet."""
        return self in _under_way

    def is_of(self, method: str, path: str) -> bool:
        """Whether the watch is on a request of this method and path."""
        return method == self._method and path.rstrip("/") == self._path.rstrip("/")

    @quietly
    def began(self, status: int, *, content_length: str | None = None) -> None:
        """The answer begins: its status, and its Content-Length where it has one."""
        self.status = status
        self._first = time.perf_counter()
        self._response_bytes = _length(content_length)

    def sent(self, size_bytes: int) -> None:
        """So many bytes of the body were sent."""
        self._counted += size_bytes

    def finished(self) -> None:
        """The last byte of the body was sent: the clock of the duration stops here."""
        if not self._left:
            self._end = time.perf_counter()

    @quietly
    def failed(self, error: BaseException) -> None:
        """The application raised; the first thing that it raised counts."""
        if self._failure is None:
            self._failure = self._observer.failure_of(error)

    @property
    def is_whole(self) -> bool:
        """Whether as many bytes were sent as the Content-Length says; False without one."""
        return self._response_bytes is not None and self._counted >= self._response_bytes

    def left(self) -> None:
        """The client went away before the end: what the application raises then is no fault."""
        self._left = self._end is None

    def detach(self) -> None:
        """Stop being the current context, while the request goes on elsewhere."""
        tokens, self._tokens = self._tokens, None
        if tokens is None:
            return
        contexts.leave(tokens[0])
        try:
            _innermost.reset(tokens[1])
        except ValueError:  # left in another context than it was entered in, as `leave` explains
            return

    @quietly
    def tell(self, route: str | None, framework: str, failure: Failure | None) -> None:
        """A watch on the same request, further inside, is closed, and knows this."""
        self._told = _Told(route, framework, failure)

    def dismiss(self) -> bool:
        """Be done with the request, and leave no event; False if it was over already."""
        if not self._closing.acquire(blocking=False):
            return False
        _under_way.discard(self)
        self.detach()
        return True

    @quietly
    def close(self) -> None:
        """The request is over; leaves its events."""
        if not self.dismiss():
            return
        now = time.perf_counter()
        route, framework = self._route(), self._observer.framework
        status, failure = self.status, self._failure
        told = self._told
        if told is not None:
            if told.route is not None:
                route, framework = _below(route, told.route), told.framework
            if failure is None and (status is None or status >= 500):
                failure = told.failure  # made an answer of, further inside
        aborted = self._end is None and (failure is None or self._left)
        if aborted:
            status, failure = _ABORTED, None
        elif failure is not None:
            status = status or 500
        if self.outer is not None:
            # Where this layer knows of no route it may be because it knows none at all.
            known = route or (UNMATCHED if self.status in _NOWHERE else None)
            self.outer.tell(known, framework, failure)
        if not (self.product or self.audit):
            return
        self._observer.saw(
            Request(
                method=self._method if self._method in METHODS else OTHER_METHOD,
                route=route or UNMATCHED,
                path=self._path,
                status=status,
                duration_s=(self._end or now) - self._start,
                first_byte_s=None if self._first is None else self._first - self._start,
                request_bytes=self._request_bytes,
                response_bytes=self._response_bytes
                if self._response_bytes is not None
                else self._counted or None,
                framework=framework,
                context=self.context,
                failure=failure,
                aborted=aborted,
                client_ip=self._forwarded,
                user_agent=self._user_agent,
            ),
            product=self.product,
            audit=self.audit,
        )

    @quietly
    def _route(self) -> str | None:
        return self._read(self.context)


def _below(own: str | None, told: str) -> str:
    """The route that an application inside tells, below the template of the mount that led to it.

    It knows its mount as it was asked for, ``/tenants/7/items/{id}``; the outer application knows
    the template, ``/tenants/{tenant}/{path}``.
    """
    if own is None or told == UNMATCHED or not own.endswith(_MOUNTED):
        return told
    mount = own.removesuffix(_MOUNTED)
    rest = told.split("/")[mount.count("/") + 1 :]
    return "/".join([mount, *rest])


_innermost: Final[ContextVar[Watch | None]] = ContextVar("indelible_watch", default=None)
_under_way: Final[set[Watch]] = set()


def _leave_those_under_way() -> None:
    for watch in list(_under_way):
        watch.left()
        watch.close()


lifecycle.before_end(_leave_those_under_way)
# They are the parent's to close.
lifecycle.in_each_child(_under_way.clear)


def _length(header: str | None) -> int | None:
    return int(header) if header is not None and header.isascii() and header.isdigit() else None
