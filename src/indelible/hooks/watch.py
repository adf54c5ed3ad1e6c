"""One request under way, from the hook's side: what `indelible.hooks.run` is for work.

A hook opens a watch before the application runs and closes it afterwards:

    watch = open_watch(observer, method=…, path=…, header=…, read=…)
    if watch is None: …                     # skipped: run the application and do nothing
    watch.began(status) … watch.finished()  # the answer's first and last byte
    watch.failed(error)                     # what the application raised
    watch.left()                            # the client did not stay for the end
    watch.close()                           # always, in a `finally`

A request that is under way when the process ends is closed then, as one whose client left.
"""

import threading
import time
from collections.abc import Callable
from contextvars import Token
from typing import Final

from indelible.client import context as contexts
from indelible.client import lifecycle
from indelible.client.context import Context
from indelible.hooks.observation import METHODS, OTHER_METHOD, UNMATCHED, Failure, Request
from indelible.hooks.observer import Header, Observer, quietly

Read = Callable[[Context], str | None]
"""Asked once, when a request is over: the route's template, None if none matched. May complete the
request's context by what the application left elsewhere."""

_ABORTED: Final = 499


@quietly
def open_watch(
    observer: Observer,
    *,
    method: str,
    path: str,
    header: Header,
    read: Read,
    peer: str | None = None,
) -> "Watch | None":
    """Begin to watch a request; None when it leaves no event.

    Args:
        observer: of the hook.
        method, path: as received; `path` without the query.
        header: looks up a header by its lower-case name.
        read: asked for the route when the request is over.
        peer: the address that the connection comes from.
    """
    here = observer.admit(method=method, path=path, header=header)
    if here is None:
        return None
    return Watch(observer, here, method=method, path=path, header=header, read=read, peer=peer)


class Watch:
    """One request under way: its context, its clocks, and what came of it.

    Opened by `open_watch`, which makes its context the current one. `close` must be called
    exactly when nothing of the request runs any more; later calls do nothing.
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
    ) -> None:
        self.client = observer.client
        self.context = here
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
        self._token: Token[Context | None] | None = contexts.enter(here)
        _under_way.add(self)
        self._start = time.perf_counter()

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
            self._failure = Failure.of(error)

    def left(self) -> None:
        """The client went away before the end: what the application raises then is no fault."""
        self._left = self._end is None

    def detach(self) -> None:
        """Stop being the current context, while the request goes on elsewhere."""
        token, self._token = self._token, None
        if token is not None:
            contexts.leave(token)

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
        status, failure = self.status, self._failure
        aborted = self._end is None and (failure is None or self._left)
        if aborted:
            status, failure = _ABORTED, None
        elif failure is not None:
            status = status or 500
        self._observer.saw(
            Request(
                method=self._method if self._method in METHODS else OTHER_METHOD,
                route=self._route() or UNMATCHED,
                path=self._path,
                status=status,
                duration_s=(self._end or now) - self._start,
                first_byte_s=None if self._first is None else self._first - self._start,
                request_bytes=self._request_bytes,
                response_bytes=self._response_bytes
                if self._response_bytes is not None
                else self._counted or None,
                framework=self._observer.framework,
                context=self.context,
                failure=failure,
                aborted=aborted,
                client_ip=self._forwarded,
                user_agent=self._user_agent,
            )
        )

    @quietly
    def _route(self) -> str | None:
        return self._read(self.context)


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
