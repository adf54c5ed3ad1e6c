"""One TCP connection: bytes in and out, one request after the other.

All of this runs on the event loop's thread. A connection is in one of four modes:

    HEAD ──a whole head──▶ BODY ──its last byte──▶ BUSY ──answered──▶ HEAD, for the next request
      │                     │                        │
      └──── refused, cut off, too slow, or no more requests ────▶ DISCARD ──▶ closed

In BODY and BUSY the application has an `Exchange` under way. Pipelined requests wait in `_unread`
and are answered in order; the socket is not read while they wait. In DISCARD the last answer has
been sent, and further input is thrown away for a while: closing at once would reset the connection,
and the client might never see the answer.

`due` is the deadline of the current mode. `HttpServer` checks it twice a second, so that requests
need no timers. `held` counts the bytes this connection keeps in memory: an unfinished head, the
body of the request under way, and read-ahead.
"""

import asyncio
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Final

from indelible.errors import (
    BodyIncomplete,
    IndelibleError,
    Overloaded,
    RequestMalformed,
    RequestTimeout,
    Stopping,
)
from indelible.serving.exchange import PIECE_BYTES, Exchange, head_of_answer
from indelible.serving.framing import Chunked, Sized
from indelible.serving.head import CHUNKED, MOST_HEAD_BYTES, check_unfinished, parse
from indelible.serving.patience import CloseReason

if TYPE_CHECKING:
    from indelible.serving.server import HttpServer

_MOST_UNTAKEN_BYTES: Final = 4 * PIECE_BYTES
"""Stop reading a body while this much of it waits for the application."""


class Mode(Enum):
    """Which part of a request the next bytes belong to."""

    HEAD = 1
    BODY = 2
    BUSY = 3
    DISCARD = 4


_HEAD, _BODY, _BUSY, _DISCARD = Mode


class Connection(asyncio.Protocol):
    """One connection of an `HttpServer`."""

    __slots__ = (
        "_checked",
        "_discard_until",
        "_drained",
        "_exchange",
        "_framing",
        "_has_served",
        "_is_closed",
        "_is_half_closed",
        "_is_paused",
        "_reason",
        "_received",
        "_server",
        "_taken_before",
        "_transport",
        "_unread",
        "_written",
        "began",
        "due",
        "held",
        "is_writable",
        "mode",
        "name",
        "peer",
    )

    def __init__(self, server: "HttpServer") -> None:
        self._server = server
        self.mode = _HEAD
        self.due = inf
        self.held = 0
        self.began = 0.0  # when the head or body that is arriving began
        self.is_writable = True
        self.peer: tuple[str, int] | None = None
        self.name: tuple[str, int] | None = None
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._framing: Sized | Chunked | None = None
        self._unread: bytes | bytearray = b""
        self._checked = 0  # bytes of an unfinished head
        self._has_served = False
        self._received = 0  # bytes of the body under way
        self._is_paused = False
        self._is_half_closed = False  # by the client
        self._is_closed = False
        self._written = 0
        self._drained: asyncio.Future[None] | None = None
        self._taken_before = 0  # bytes sent from the write buffer by the last check
        self._discard_until = inf
        self._reason = CloseReason.CLIENT

    # Called by the transport.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.peer = _address(transport.get_extra_info("peername"))
        self.name = _address(transport.get_extra_info("sockname"))
        self.due = self._server.now + self._server.patience.first_byte_s
        self._server.admit(self)

    def data_received(self, data: bytes) -> None:
        mode = self.mode
        if mode is _HEAD:
            self._read_more_of_head(data) if self._unread else self._read_head(data)
        elif mode is _BODY:
            self._read_body(data)
        elif mode is _BUSY:
            self._keep_for_later(bytes(self._unread) + data)
        else:
            self.due = min(
                self._server.now + self._server.patience.linger_quiet_s, self._discard_until
            )

    def eof_received(self) -> bool:
        """Handle a FIN: the client sends no more, but it may still read."""
        self._is_half_closed = True
        if self.mode is _BODY:
            self.refuse(BodyIncomplete(), CloseReason.CUT_BODY)
        elif self.mode is not _BUSY:
            self._close()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        is_cut = self.mode is _BODY and self._reason is CloseReason.CLIENT
        self._is_closed = True
        self._leave_exchange()
        self._server.forget(self, CloseReason.CUT_BODY if is_cut else self._reason)
        self.resume_writing()

    def pause_writing(self) -> None:
        self.is_writable = False
        self._taken_before = self._taken()
        self.due = self._server.now + self._server.patience.answer_window_s

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.mode is _BUSY:
            self.due = inf

    # Reading.

    def _read_more_of_head(self, data: bytes) -> None:
        """Append to an unfinished head, and look at what is new: a head may come byte by byte."""
        begun = self._unread if isinstance(self._unread, bytearray) else bytearray(self._unread)
        known = len(begun)
        begun += data
        self._unread = begun
        self._server.hold(self, len(data))
        if self.mode is not _HEAD or self._unread is not begun:
            return  # there was no memory for it
        # The end of the head may have begun in what was there.
        is_whole = begun.find(b"\r\n\r\n", max(0, known - 3)) >= 0
        if is_whole or len(begun) > MOST_HEAD_BYTES or begun.startswith(b"\r\n"):
            self._read_head(bytes(begun))
        elif b"\n" in data:
            try:
                self._checked = check_unfinished(begun, self._checked)
            except IndelibleError as error:
                self.refuse(error, CloseReason.REFUSED)

    def _read_head(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):  # RFC 9112 section 2.2: some send one after a body
            data = data[2:]
        end = data.find(b"\r\n\r\n")
        try:
            if end < 0 or end > MOST_HEAD_BYTES:
                self._checked = check_unfinished(data, self._checked)
                self._wait_for_rest_of_head(data)
                return
            head = parse(data[: end + 2])
        except IndelibleError as error:
            self.refuse(error, CloseReason.REFUSED)
            return
        if self._unread:
            self._unread = b""
            self._checked = 0
            self._server.release(self)
        self._server.waiting.pop(self, None)
        self._has_served = True
        exchange = self._exchange = Exchange(self, head)
        rest = data[end + 4 :]
        self.began = self._server.now
        if not head.length or head.length == len(rest):  # nearly always the whole request is here
            if head.length:
                self.mode = _BODY
                exchange.add(rest)
                self._server.hold(self, len(rest))
                if self._exchange is not exchange:
                    return  # there was no memory for it
                rest = b""
            self.mode = _BUSY
            self.due = inf
            exchange.is_arrived = True
        else:
            self.mode = _BODY
            self._framing = Chunked() if head.length == CHUNKED else Sized(head.length)
            self._received = 0
            self.due = self.began + self._server.patience.body_grace_s
        if self._server.is_stopping:
            self.refuse(Stopping(), CloseReason.STOPPING)
            return
        if rest:
            self.data_received(rest)
        if self._exchange is exchange:
            self._server.start_exchange(exchange)

    def _wait_for_rest_of_head(self, data: bytes) -> None:
        if not self._unread and data:
            self.began = self._server.now
            self.due = self.began + self._server.patience.head_s
        grown = len(data) - len(self._unread)
        self._unread = data
        self._server.hold(self, grown)
        if self._is_half_closed:
            self._close()

    def _read_body(self, data: bytes) -> None:
        exchange, framing = self._exchange, self._framing
        assert exchange is not None
        assert framing is not None
        try:
            part, rest = framing.feed(data)
        except RequestMalformed as error:
            self.refuse(error, CloseReason.CUT_BODY)
            return
        if part:
            self._received += len(part)
            exchange.add(part)
            self._server.hold(self, len(part))
            if self._exchange is not exchange:
                return  # there was no memory for it
        if framing.is_done:
            self.mode = _BUSY
            if self.is_writable:
                self.due = inf
            exchange.arrive()
            if rest:
                self._keep_for_later(rest)
        elif rest:
            self._unread = rest
            self._pause()
            asyncio.get_running_loop().call_soon(self._read_on)
        elif exchange.waiting_bytes > _MOST_UNTAKEN_BYTES:
            self._pause()

    def _read_on(self) -> None:
        """Continue with chunks that were too many for one turn of the loop."""
        if self.mode is _BODY and not self._is_closed:
            rest, self._unread = bytes(self._unread), b""
            self._resume()
            self._read_body(rest)

    def _keep_for_later(self, data: bytes) -> None:
        """Keep pipelined bytes, and stop reading until the request under way is answered."""
        grown = len(data) - len(self._unread)
        self._unread = data  # first: where there is no memory for it, it is dropped again
        self._server.hold(self, grown)
        self._pause()

    def _pause(self) -> None:
        if not self._is_paused and not self._is_closed:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._is_closed:
            self._is_paused = False
            self._transport.resume_reading()

    # Called by the exchange.

    @property
    def is_ending(self) -> bool:
        """Whether the connection ends with the next answer."""
        return self._server.is_stopping or (self._is_half_closed and not self._unread)

    @property
    def is_stopping(self) -> bool:
        """Whether the server takes no more requests."""
        return self._server.is_stopping

    @property
    def date(self) -> bytes:
        """The current Date header line."""
        return self._server.date

    def read_more(self) -> None:
        """Resume reading after the application has taken the buffered part of the body."""
        if not self._unread:
            self._resume()

    def write(self, data: bytes) -> None:
        """Send `data`, unless the client is gone."""
        if not self._is_closed:
            self._written += len(data)
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the write buffer is nearly empty or the client is gone."""
        if not self.is_writable and not self._is_closed:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def finish(self, exchange: Exchange) -> None:
        """Take the next request, or end the connection, after the application has returned."""
        self._server.end_exchange(exchange)
        if self._exchange is not exchange:
            return
        if not exchange.is_answered:
            if exchange.has_begun:
                self.abort(CloseReason.BROKEN)
            else:
                self.refuse(IndelibleError(), CloseReason.BROKEN)
            return
        self._exchange = None
        self._server.release(self)
        if exchange.closes or (self._is_half_closed and not self._unread):
            self._end(CloseReason.DONE, discard=not exchange.is_arrived)
            return
        self.mode = _HEAD
        self.due = self._server.now + self._server.patience.idle_s
        self._server.waiting[self] = None
        self._resume()
        if self._unread:
            rest, self._unread = bytes(self._unread), b""
            self._read_head(rest)

    # The end.

    def refuse(self, error: IndelibleError, reason: CloseReason) -> None:
        """End the connection with this error, or with a reset if an answer has begun."""
        exchange = self._leave_exchange()
        if exchange is not None and exchange.has_begun:
            self.abort(reason)
            return
        scope = None if exchange is None else exchange.scope()
        status, headers, body = self._server.refusal(error, scope)
        headers = [*headers, (b"connection", b"close")]
        if exchange is not None and exchange.head.method == "HEAD":
            body = b""
        self.write(head_of_answer(status, headers, self.date) + body)
        self._end(reason, discard=True)

    def shed(self) -> None:
        """Free the memory of an incomplete request: refuse it, or drop the read-ahead."""
        if self.mode is _BUSY:
            if self._unread:
                self._is_half_closed = True  # the dropped requests are never answered
                dropped, self._unread = len(self._unread), b""
                self._server.hold(self, -dropped)
        elif self.mode is not _DISCARD:
            self.refuse(Overloaded("Too much is being received"), CloseReason.NO_MEMORY)

    def abort(self, reason: CloseReason) -> None:
        """Reset the connection; the client sees that the answer is incomplete."""
        self._reason = reason
        self._leave_exchange()
        self._is_closed = True
        self._transport.abort()

    def close_idle(self, reason: CloseReason) -> None:
        """Close a connection that has no request under way."""
        self._reason = reason
        self._close()

    def overdue(self, now: float) -> None:
        """Act on a missed deadline, or extend it if there was enough progress."""
        patience = self._server.patience
        if not self.is_writable or (self._is_closed and self._transport.get_write_buffer_size()):
            taken = self._taken()
            if taken - self._taken_before < patience.answer_window_s * patience.answer_bytes_per_s:
                self.abort(CloseReason.UNREAD)
            self._taken_before = taken
            self.due = now + patience.answer_window_s
        elif self._is_closed or self.mode is _DISCARD:
            self.abort(self._reason)
        elif self.mode is _BODY:
            allowed_s = patience.body_grace_s + self._received / patience.body_bytes_per_s
            self.due = self.began + min(allowed_s, patience.body_s)
            if self._is_paused:  # the application takes its time, not the client
                self.due = now + patience.body_grace_s
            elif self.due <= now:
                self.refuse(RequestTimeout(), CloseReason.SLOW_BODY)
        elif self._unread:
            self.refuse(RequestTimeout(), CloseReason.SLOW_HEAD)
        else:
            self.close_idle(CloseReason.IDLE if self._has_served else CloseReason.SILENT)

    def _leave_exchange(self) -> Exchange | None:
        """Detach the request under way from this connection, and return it."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        self._unread = b""
        self._server.release(self)
        return exchange

    def _end(self, reason: CloseReason, *, discard: bool) -> None:
        self._reason = reason
        self._unread = b""
        self._server.release(self)
        if not discard or self._is_half_closed or self._is_closed:
            self._close()
            return
        self.mode = _DISCARD
        self._server.waiting.pop(self, None)
        self._discard_until = self._server.now + self._server.patience.linger_s
        self.due = self._server.now + self._server.patience.linger_quiet_s
        self._transport.write_eof()
        self._resume()

    def _close(self) -> None:
        """Close after the write buffer is sent, or when the client stops reading it."""
        self.mode = _DISCARD
        self._server.waiting.pop(self, None)
        self.due = self._server.now + self._server.patience.answer_window_s
        self._taken_before = self._taken()
        if not self._is_closed:
            self._is_closed = True
            self._transport.close()

    def _taken(self) -> int:
        return self._written - self._transport.get_write_buffer_size()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
