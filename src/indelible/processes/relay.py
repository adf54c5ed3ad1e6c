"""Requests of all routes that are not hot, passed on to the process that has the API.

They go as what they are after HTTP was read once: ASGI messages, in frames, over a pair of sockets
that the edge makes for each request. There is no second HTTP parser that could understand a request
in another way, and the caller's address is a field, not a header.

The edge pulls: the body is read from the client when the application asks for it, one piece at a
time, so a client that waits for `100 Continue` gets it when it would have got it, and no body
gathers between the processes. In the other direction the application waits while the edge holds
more than `_MOST_UNSENT_BYTES` of its answer. If either end goes, the line ends: the application
sees that the client has left, or the client is answered 503.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from indelible.edge.http import Message, Receive, Request, Scope, Send, refuse
from indelible.errors import IndelibleError, Overloaded, Unavailable
from indelible.processes.frames import FrameBroken, Line
from indelible.refusals import Refusals
from indelible.serving import lifespan
from indelible.serving.exchange import is_event_stream

logger = logging.getLogger(__name__)

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_RELAYED: Final = 1_000
"""Requests that an edge passes on at once; each costs a descriptor in both processes."""

_MOST_UNSENT_BYTES: Final = 256 * 1024
_PIECE_BYTES: Final = 64 * 1024
_MOST_FRAME_BYTES: Final = 2 * 1024 * 1024
_OPEN_AGAIN_S: Final = 0.005
_OPEN_WITHIN_S: Final = 5.0
_GONE: Final[Message] = {"type": "http.disconnect"}


class Head(Struct, frozen=True, array_like=True, tag=1):
    """The scope of a request. `is_whole`: it has no body."""

    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    http_version: str
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    is_whole: bool


class Part(Struct, frozen=True, array_like=True, tag=2):
    """A piece of the body."""

    body: bytes
    more: bool


class Pull(Struct, frozen=True, array_like=True, tag=1):
    """The application asks for the next piece of the body, or to be told that the client left."""


class Start(Struct, frozen=True, array_like=True, tag=2):
    """Status and headers of the answer."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Piece(Struct, frozen=True, array_like=True, tag=3):
    """A piece of the answer."""

    body: bytes
    more: bool


_REQUEST: Final[msgspec.msgpack.Decoder[Head | Part]] = msgspec.msgpack.Decoder(Head | Part)
_ANSWER: Final[msgspec.msgpack.Decoder[Pull | Start | Piece]] = msgspec.msgpack.Decoder(
    Pull | Start | Piece
)


class BrokenOff(Exception):
    """The process that was answering has gone in the middle of its answer."""


class _Inbox:
    """What was heard on a line and not taken yet, bounded by no longer hearing."""

    def __init__(self) -> None:
        self.line: Line[Any]
        self._messages: deque[Any] = deque()
        self._bytes = 0
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None

    def heard(self, message: Any) -> None:
        self._messages.append(message)
        self._bytes += len(getattr(message, "body", b""))
        if self._bytes > _MOST_UNSENT_BYTES:
            self.line.pause()
        self._wake()

    def ended(self) -> None:
        self._is_over = True
        self._wake()

    async def next(self) -> Any:
        """The next message; None when there are no more."""
        while not self._messages:
            if self._is_over:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        self._bytes -= len(getattr(message, "body", b""))
        if self._bytes <= _MOST_UNSENT_BYTES // 2:
            self.line.resume()
        return message

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Relay:
    """The edge's end: an ASGI application that passes requests on.

    `bell` is the socket over which the other process gets its end of each new pair. It outlives
    that process: what is handed over waits for the next one. `is_there` tells whether there is one
    now; while there is none, requests are refused at once.
    """

    def __init__(
        self, bell: socket.socket, refusals: Refusals, is_there: Callable[[], bool]
    ) -> None:
        self._bell = bell
        self._is_there = is_there
        self._refusals = refusals
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)  # the application itself lives elsewhere
            return
        if self._under_way >= MOST_RELAYED:
            crowd = Overloaded("Too many requests are waiting to be answered")
            await self._refuse(crowd, scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._pass_on(scope, receive, send)
        except _NoLine:
            gone = Unavailable("The process that answers this request is not there")
            gone.retry_after_s = 2
            await self._refuse(gone, scope, receive, send)
        finally:
            self._under_way -= 1

    async def _refuse(
        self, error: IndelibleError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._refusals.refused(error, None)
        await refuse(error, Request(scope, receive)).send(send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        inbox = _Inbox()
        line = inbox.line = Line(
            _ANSWER, heard=inbox.heard, ended=inbox.ended, most_bytes=_MOST_FRAME_BYTES
        )
        await line.take(await self._open())
        client = _Client(line, receive)
        try:
            line.say(await client.head(scope))
            start: Start | None = None
            has_begun = False
            while True:
                message = await inbox.next()
                match message:
                    case Pull():
                        client.pull()
                    case Start():
                        start = message
                    case Piece(body, more) if start is not None:
                        if not has_begun:
                            has_begun = True
                            answer = {"status": start.status, "headers": start.headers}
                            await send({"type": "http.response.start", **answer})
                        await send({"type": "http.response.body", "body": body, "more_body": more})
                        if not more:
                            return
                    case None if client.has_left:
                        return
                    case None if has_begun and start is not None and _goes_on(start):
                        # Its client connects again, and is told what it missed.
                        await send({"type": "http.response.body", "body": b"", "more_body": False})
                        return
                    case None if not has_begun:
                        raise _NoLine
                    case _:
                        raise BrokenOff
        finally:
            client.leave()
            line.close()

    async def _open(self) -> socket.socket:
        """Make a pair of sockets, and hand one of them over.

        Raises:
            _NoLine: there is nobody to take it.
        """
        if not self._is_there():
            raise _NoLine
        try:
            mine, theirs = socket.socketpair()
        except OSError as error:
            raise _NoLine from error
        deadline = asyncio.get_running_loop().time() + _OPEN_WITHIN_S
        with theirs:
            while True:
                try:
                    socket.send_fds(self._bell, [b"r"], [theirs.fileno()])
                except BlockingIOError:
                    if asyncio.get_running_loop().time() < deadline:
                        await asyncio.sleep(_OPEN_AGAIN_S)
                        continue
                except OSError:
                    pass
                else:
                    return mine
                mine.close()
                raise _NoLine


class _NoLine(Exception):
    pass


def _goes_on(start: Start) -> bool:
    """Whether an answer is an event stream, which has no end that it could miss."""
    return any(name == b"content-type" and is_event_stream(value) for name, value in start.headers)


class _Client:
    """The client's side of a request that is passed on."""

    def __init__(self, line: Line[Any], receive: Receive) -> None:
        self._line = line
        self._receive = receive
        self._reading: asyncio.Task[None] | None = None
        self.has_left = False

    async def head(self, scope: Scope) -> Head:
        names = {name for name, _ in scope["headers"]}
        is_whole = names.isdisjoint({b"content-length", b"transfer-encoding"})
        if is_whole:
            await self._receive()  # that there is none; from now on it tells when the client leaves
            self._read(self._watch())
        return Head(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope["raw_path"],
            query_string=scope["query_string"],
            headers=scope["headers"],
            http_version=scope["http_version"],
            client=scope["client"],
            server=scope["server"],
            is_whole=is_whole,
        )

    def pull(self) -> None:
        """Read the next piece of the body, and pass it on."""
        if self._reading is None or self._reading.done():
            self._read(self._pass_on())

    def leave(self) -> None:
        """Take nothing more from the client."""
        if self._reading is not None:
            self._reading.cancel()

    def _read(self, task: Any) -> None:
        self._reading = asyncio.get_running_loop().create_task(task)

    async def _pass_on(self) -> None:
        message = await self._receive()
        if message["type"] != "http.request":
            self._leave_line()
            return
        body: bytes = message["body"]
        for start in range(0, len(body), _PIECE_BYTES):
            more = message["more_body"] or start + _PIECE_BYTES < len(body)
            self._line.say(Part(body[start : start + _PIECE_BYTES], more))
        if not body:
            self._line.say(Part(b"", message["more_body"]))
        if not message["more_body"]:
            await self._watch()

    async def _watch(self) -> None:
        """Close the line if the client leaves."""
        await self._receive()
        self._leave_line()

    def _leave_line(self) -> None:
        self.has_left = True
        self._line.close()


class Counter:
    """The other end: runs the application for each request that is passed on.

    `bell` is where edges hand over sockets. Belongs to one event loop.
    """

    def __init__(self, application: Application, bell: socket.socket) -> None:
        self._application = application
        self._bell = bell
        self._tasks: set[asyncio.Task[None]] = set()
        bell.setblocking(False)  # noqa: FBT003
        asyncio.get_running_loop().add_reader(bell.fileno(), self._look)

    def close(self) -> None:
        """Take no more requests; those under way go on until their edge is gone."""
        if self._bell.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._bell.fileno())
            self._bell.close()

    def _look(self) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    said, handles, _, _ = socket.recv_fds(self._bell, 1, 1)
                except ConnectionError:
                    said, handles = b"", []
                if not said:
                    self.close()
                    return
                for handle in handles:  # none, if this process has no descriptor left
                    task = asyncio.get_running_loop().create_task(
                        self._serve(socket.socket(fileno=handle))
                    )
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _serve(self, own: socket.socket) -> None:
        inbox = _Inbox()
        line = inbox.line = Line(
            _REQUEST, heard=inbox.heard, ended=inbox.ended, most_bytes=_MOST_FRAME_BYTES
        )
        await line.take(own)
        try:
            head = await inbox.next()
            if not isinstance(head, Head):
                return
            ends = _Ends(line, inbox, is_whole=head.is_whole)
            await self._application(_scope_of(head), ends.receive, ends.send)
        except FrameBroken as error:
            logger.error("answering a request: %s", error)  # noqa: TRY400 — says all
        except Exception as error:  # the request's one door, as in `indelible.serving.exchange`
            logger.error("%s while answering a request", type(error).__name__)  # noqa: TRY400
        finally:
            line.close()


class _Ends:
    """`receive` and `send` of an application whose client is another process's."""

    def __init__(self, line: Line[Any], inbox: _Inbox, *, is_whole: bool) -> None:
        self._line = line
        self._inbox = inbox
        self._is_whole = is_whole
        self._has_head = False
        self._is_read = False
        self._is_pulling = False

    async def receive(self) -> Message:
        """The ASGI callable."""
        if self._is_whole and not self._has_head:
            self._has_head = self._is_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self._is_pulling and not self._is_read:
            self._is_pulling = True
            self._line.say(Pull())
        message = await self._inbox.next()
        if not isinstance(message, Part):
            return _GONE
        if not message.more:
            self._is_read = True
        self._is_pulling = False
        return {"type": "http.request", "body": message.body, "more_body": message.more}

    async def send(self, message: Message) -> None:
        """The ASGI callable. Waits while the edge has more than it can send."""
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._line.say(Start(message["status"], headers))
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        for start in range(0, len(body), _MOST_UNSENT_BYTES):
            end = start + _MOST_UNSENT_BYTES
            self._line.say(Piece(body[start:end], more or end < len(body)))
            await self._line.drained()
        if not body:
            self._line.say(Piece(b"", more))
            await self._line.drained()


def _scope_of(head: Head) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.http_version,
        "method": head.method,
        "scheme": "http",
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query_string,
        "root_path": "",
        "headers": list(head.headers),
        "client": head.client,
        "server": head.server,
        "state": {},
        "extensions": {},
    }
