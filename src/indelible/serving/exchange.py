"""One request and its answer, as the ASGI application sees them (ASGI 3, HTTP 2.3).

`receive` returns the body in pieces of at least `PIECE_BYTES`, or whole: a small body is a single
message however its bytes arrived, and a million one-byte chunks never become a list of a million
parts. `http.disconnect` is exact. Before the end of the body it means that the body was cut off and
must not be processed; after it, that the client is gone or has its answer.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from indelible.errors import IndelibleError
from indelible.fault import place_of
from indelible.serving.head import Head
from indelible.serving.patience import CloseReason

if TYPE_CHECKING:
    from indelible.serving.connection import Connection

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Refusal = Callable[[IndelibleError, Scope | None], tuple[int, Headers, bytes]]
"""Build status, headers and body of an answer that the server gives in place of the application.
The scope is None if no complete head was read."""

AtOnce = Callable[["Exchange"], bool]
"""Takes a request that has arrived whole, and calls its `reply` in a later turn of the loop, if it
is one that it can answer; else the application gets it."""

PIECE_BYTES: Final = 64 * 1024
"""Smallest piece of a body that is not the last piece."""

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_WITHOUT_BODY: Final = frozenset({204, 304})
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class BrokenAnswer(Exception):
    """The application's messages do not form an HTTP answer."""


class Exchange:
    """A request under way. It ends when the application returns."""

    __slots__ = (
        "_body",
        "_connection",
        "_is_chunked",
        "_is_taken",
        "_left",
        "_owes_continue",
        "_start",
        "_waiter",
        "closes",
        "has_begun",
        "head",
        "is_answered",
        "is_arrived",
        "is_endless",
        "is_over",
        "task",
    )

    def __init__(self, connection: "Connection", head: Head) -> None:
        self._connection = connection
        self.head = head
        self.task: asyncio.Task[None] | None = None
        self.is_arrived = False  # the whole body has been received
        self.is_over = False  # detached: the client is gone or was refused, sends are dropped
        self.has_begun = False  # the head of the answer has been written
        self.is_answered = False
        self.is_endless = False  # an event stream: it ends with the server, not by itself
        self.closes = False  # the connection ends with this answer
        self._body: bytes | bytearray = b""
        self._is_taken = False  # the application has the last piece of the body
        self._owes_continue = head.expects_continue
        self._waiter: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._is_chunked = False
        self._left = 0.0  # bytes of the answer still to come, by its Content-Length

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the body that the application has not taken yet."""
        return len(self._body)

    @property
    def body(self) -> bytes:
        """The body, as far as it has arrived and was not taken."""
        return bytes(self._body)

    @property
    def peer(self) -> tuple[str, int] | None:
        """Where the request comes from."""
        return self._connection.peer

    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        head, connection = self.head, self._connection
        path = head.path
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1" if head.minor else "1.0",
            "method": head.method,
            "scheme": "http",
            "path": (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": head.query,
            "root_path": "",
            "headers": list(head.headers),
            "client": connection.peer,
            "server": connection.name,
            "state": {},
            "extensions": {},
        }

    async def run(self, application: Application) -> None:
        """Run the application, and hand the connection back whatever happens."""
        try:
            await application(self.scope(), self.receive, self.send)
            if not self.is_answered and not self.is_over:
                raise BrokenAnswer("no answer")  # noqa: TRY301 — to be logged as any other
        except Exception as error:  # a bug in the application must not leave the client waiting
            _tell(error)
        finally:
            self._connection.finish(self)

    def fail(self, error: Exception) -> None:
        """Answer that the server failed, without the application."""
        _tell(error)
        self._connection.finish(self)

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer, without the application, a request that has arrived whole.

        Raises:
            BrokenAnswer: a field contains a line break.
        """
        connection = self._connection
        if not self.is_over:
            self.closes = not self.head.is_persistent or connection.is_ending
            if self.closes:
                headers.append((b"connection", b"close"))
            elif not self.head.minor:
                headers.append((b"connection", b"keep-alive"))
            answer = head_of_answer(status, headers, connection.date) + body
            self.is_answered = self.has_begun = True
            connection.write(answer)
            if not connection.is_writable:
                self.task = asyncio.get_running_loop().create_task(self._end_when_read())
                return
        connection.finish(self)

    async def _end_when_read(self) -> None:
        await self._connection.drained()
        self._connection.finish(self)

    # Called by the connection.

    def add(self, part: bytes) -> None:
        """Append the next bytes of the body."""
        if not self._body:
            self._body = part
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
        if self._waiter is not None and len(self._body) >= PIECE_BYTES:
            self._wake()

    def arrive(self) -> None:
        """Note that the body is complete."""
        self.is_arrived = True
        self._wake()

    def abandon(self) -> None:
        """Detach from the connection: the client is gone or was answered by the server."""
        self.is_over = True
        self._body = b""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """End an event stream, since the server stops; the application learns of it. A client that
        does not read is not waited for."""
        if not self.has_begun or self.is_answered or self.is_over:
            return
        if not self._connection.is_writable:
            self._connection.abort(CloseReason.STOPPING)
            return
        self._connection.write(b"0\r\n\r\n" if self._is_chunked else b"")
        self.closes = self.is_answered = True
        self._wake()

    # Called by the application.

    async def receive(self) -> Message:
        """The ASGI callable."""
        while not self.is_over and not self.is_answered:
            if not self._is_taken and (self.is_arrived or len(self._body) >= PIECE_BYTES):
                return self._take()
            if self._owes_continue and not self.is_arrived:
                self._owes_continue = False
                if not self._body:
                    self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return {"type": "http.disconnect"}

    def _take(self) -> Message:
        body, self._body = bytes(self._body), b""
        if self.is_arrived:
            self._is_taken = True
        else:
            self._connection.read_more()
        return {"type": "http.request", "body": body, "more_body": not self._is_taken}

    async def send(self, message: Message) -> None:
        """The ASGI callable. Waits while the client reads more slowly than this is sent.

        Raises:
            BrokenAnswer: the messages do not form an HTTP answer; the connection is reset.
        """
        if self.is_over or self.is_answered:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is None:
            raise BrokenAnswer("a body before its start")
        body: bytes = message.get("body", b"")
        goes_on: bool = message.get("more_body", False)
        head = b"" if self.has_begun else self._begin(self._start, None if goes_on else len(body))
        if self.head.method == "HEAD" or self._start["status"] in _WITHOUT_BODY:
            body, goes_on = b"", False
        elif self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = body if goes_on else body + b"0\r\n\r\n"
        else:
            self._left -= len(body)
            if self._left < 0 or (not goes_on and self._left not in (0, math.inf)):
                raise BrokenAnswer("another length than its Content-Length")
        if head or body:
            self._connection.write(head + body if body else head)
        if not goes_on:
            self.is_answered = True
            self._wake()
        elif self.is_endless and self._connection.is_stopping:
            self.end()
        if not self._connection.is_writable:
            await self._connection.drained()

    def _begin(self, start: Message, length: int | None) -> bytes:
        """Return the head of the answer; `length` is None if the body is streamed."""
        headers: list[tuple[bytes, bytes]] = list(start.get("headers", ()))
        closes = not (self.head.is_persistent and self.is_arrived) or self._connection.is_ending
        declared: int | None = None
        for name, value in headers:
            if name == b"content-length":
                declared = int(value)
            elif name == b"connection":
                closes = closes or value.lower() == b"close"
            elif name == b"content-type":
                self.is_endless = is_event_stream(value)
        headers = [header for header in headers if header[0] != b"connection"]
        if declared is None and start["status"] not in _WITHOUT_BODY:
            if length is not None:
                declared = length
                headers.append((b"content-length", b"%d" % length))
            elif self.head.minor:
                self._is_chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                closes = True
        self._left = math.inf if declared is None else declared
        self.closes = closes
        if closes:
            headers.append((b"connection", b"close"))
        elif not self.head.minor:
            headers.append((b"connection", b"keep-alive"))
        data = head_of_answer(start["status"], headers, self._connection.date)
        self.has_begun = True
        return data


def is_event_stream(content_type: bytes) -> bool:
    """Whether an answer of this type goes on for as long as the client wants it."""
    return content_type.partition(b";")[0].strip().lower() == b"text/event-stream"


def _tell(error: Exception) -> None:
    # The message might quote a payload, so only the place goes to the log.
    logger.error("%s in %s", type(error).__name__, place_of(error))


def head_of_answer(status: int, headers: Headers, date: bytes) -> bytes:
    """Return status line and fields, with the empty line at their end.

    Raises:
        BrokenAnswer: a field contains a line break.
    """
    fields = [b"%b: %b\r\n" % header for header in headers]
    block = b"".join((_STATUS_LINES[status], *fields, date, b"\r\n"))
    if block.count(b"\n") != len(fields) + 3:
        raise BrokenAnswer("a line break in a header")
    return block
