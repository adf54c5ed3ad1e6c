"""The connections of one listening socket: admission, eviction, deadlines, shutdown.

A connection costs a descriptor, never the service:

- There are at most `limit` connections. At the limit a new one evicts the connection that has
  waited longest for a request (silent, idle, or with half a head). If every connection has a
  request under way, the new one gets 503.
- Deadlines are checked twice a second; `Patience` has them all.
- The memory held for requests under way has a budget. Over it, the incomplete request that has
  cost most so far, in bytes times seconds, is refused. The cost of a body that trickles in grows by
  itself, so it cannot keep out a fast one. Small requests have a reserve that large ones cannot
  use.

During shutdown new requests get 503, event streams end at once, other requests under way are
finished, and only then are the socket and the connections closed: no client waits for an answer
that never comes.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Final, NamedTuple

from indelible.errors import Overloaded, Stopping
from indelible.metrics import CONNECTIONS_CLOSED, CONNECTIONS_OPEN, REQUEST_BYTES_HELD
from indelible.serving.connection import Connection, Mode
from indelible.serving.exchange import Application, AtOnce, Exchange, Refusal
from indelible.serving.patience import CloseReason, Patience

_MOST_STALL_S: Final = 1.0
BACKLOG: Final = 2048
_CLOSING_S: Final = 1.0
_ARRIVING_S: Final = (
    0.01  # read the requests that were sent before the stop, so that they get their 503
)

# Connections to end before others get their turn: a few milliseconds of work.
_MOST_ENDED_A_TURN: Final = 100
# How far over the limit connections are refused with an answer; beyond it they are reset.
_MOST_REFUSED: Final = 0.05
# Making room scans every connection, so free enough that the next scan is a while away.
_ROOM: Final = 0.125


class Ending(NamedTuple):
    """What became of the requests that were under way when the server was told to stop."""

    finished: int
    cut_off: int


class HttpServer:
    """Serves an ASGI application on the running loop, to one listening socket."""

    def __init__(
        self,
        application: Application,
        *,
        refusal: Refusal,
        limit: int,
        patience: Patience,
        closed: Callable[[CloseReason], None] = lambda _: None,
        at_once: AtOnce | None = None,
    ) -> None:
        self.refusal = refusal
        self.patience = patience
        self.is_stopping = False
        self.now = 0.0
        """The clock of deadlines, in seconds. It skips stalls of our own loop."""
        self.date = b""
        self.waiting: dict[Connection, None] = {}
        """Connections without a complete head, the longest waiting first."""
        self._application = application
        self._at_once = at_once
        self._limit = limit
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._exchanges: set[Exchange] = set()
        self._held = 0
        self._shown = 0  # of the held bytes, in the metrics: they are the sum of all servers
        self._room_at: float = patience.memory_bytes  # held bytes at which to look for room
        self._is_making_room = False
        self._looked_at = self._loop.time()
        self._next_look: asyncio.TimerHandle | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Begin to accept connections."""
        self._look()
        self._listener = await self._loop.create_server(
            lambda: Connection(self), sock=listening, backlog=BACKLOG
        )

    async def stop(self) -> Ending:
        """Finish the requests under way and close everything, within `stop_s` and a second."""
        self.is_stopping = True  # from here on no exchange begins
        under_way = len(self._exchanges)
        await asyncio.sleep(_ARRIVING_S)
        for exchange in list(self._exchanges):
            if exchange.is_endless:
                exchange.end()
        await self._until(lambda: not self._exchanges, within_s=self.patience.stop_s)
        cut_off = len(self._exchanges)
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            if connection.mode is Mode.HEAD:
                connection.close_idle(CloseReason.STOPPING)
            elif connection.mode is not Mode.DISCARD:
                connection.refuse(Stopping(), CloseReason.STOPPING)
        await self._until(lambda: not self._connections, within_s=_CLOSING_S)
        for connection in list(self._connections):
            connection.abort(CloseReason.STOPPING)
        if self._next_look is not None:
            self._next_look.cancel()
        return Ending(under_way - cut_off, cut_off)

    async def _until(self, holds: Callable[[], bool], *, within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not holds():
                    await asyncio.sleep(0.005)

    # Called by the connections.

    def admit(self, connection: Connection) -> None:
        """Admit a new connection, or refuse it."""
        CONNECTIONS_OPEN.value += 1
        self._connections.add(connection)
        if len(self._connections) <= self._limit:
            self.waiting[connection] = None
        elif self.waiting:
            next(iter(self.waiting)).close_idle(CloseReason.CROWDED_OUT)
            self.waiting[connection] = None
        elif len(self._connections) <= self._limit * (1 + _MOST_REFUSED):
            connection.refuse(Overloaded("Too many connections"), CloseReason.NO_PLACE)
        else:
            connection.abort(CloseReason.NO_PLACE)

    def forget(self, connection: Connection, reason: CloseReason) -> None:
        """Remove a closed connection."""
        CONNECTIONS_OPEN.value -= 1
        CONNECTIONS_CLOSED.add(reason)
        self._closed(reason)
        self._connections.discard(connection)
        self.waiting.pop(connection, None)

    def start_exchange(self, exchange: Exchange) -> None:
        """Start on a request."""
        self._exchanges.add(exchange)
        if self._at_once is not None and exchange.is_arrived and self._at_once(exchange):
            return
        exchange.task = self._loop.create_task(exchange.run(self._application))

    def end_exchange(self, exchange: Exchange) -> None:
        """Note that the application has returned."""
        self._exchanges.discard(exchange)

    def hold(self, connection: Connection, more_bytes: int) -> None:
        """Count bytes that a connection keeps in memory, and make room if they are too many."""
        connection.held += more_bytes
        self._held += more_bytes
        if self._held > self._room_at and not self._is_making_room:
            self._make_room()

    def release(self, connection: Connection) -> None:
        """Stop counting the bytes of a connection."""
        self._held -= connection.held
        connection.held = 0
        if self._held <= self.patience.memory_bytes:
            self._room_at = self.patience.memory_bytes

    def _make_room(self) -> None:
        patience = self.patience
        most = patience.memory_bytes
        smallest = patience.small_bytes
        if self._held > most + patience.reserved_bytes:
            most, smallest = most + patience.reserved_bytes, 0
        holders = [connection for connection in self._connections if connection.held > smallest]
        holders.sort(key=lambda c: c.held * (self.now - c.began + patience.look_s), reverse=True)
        self._shed(deque(holders), round(most * (1 - _ROOM)))
        # Where no one had to give way, another look at every connection is due after some more
        # bytes, not at the next one: each takes milliseconds where thousands hold a little.
        hard = patience.memory_bytes + patience.reserved_bytes
        after_more = self._held + patience.reserved_bytes * _ROOM
        self._room_at = max(patience.memory_bytes, min(after_more, hard))

    def _shed(self, holders: deque[Connection], enough_bytes: int) -> None:
        """Shed requests of these connections, in order, until at most `enough_bytes` are held."""
        for _ in range(_MOST_ENDED_A_TURN):
            if not holders or self._held <= enough_bytes:
                self._is_making_room = False
                return
            holders.popleft().shed()
        self._is_making_room = True
        self._loop.call_soon(self._shed, holders, enough_bytes)

    # The clock.

    def _look(self) -> None:
        """Handle every missed deadline, and schedule the next look."""
        time = self._loop.time()
        self.now += min(time - self._looked_at, _MOST_STALL_S)
        self._looked_at = time
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        REQUEST_BYTES_HELD.value += self._held - self._shown
        self._shown = self._held
        self._end_overdue(deque(c for c in self._connections if c.due <= self.now))
        self._next_look = self._loop.call_later(self.patience.look_s, self._look)

    def _end_overdue(self, overdue: deque[Connection]) -> None:
        for _ in range(min(len(overdue), _MOST_ENDED_A_TURN)):
            connection = overdue.popleft()
            if connection.due <= self.now:
                connection.overdue(self.now)
        if overdue:
            self._loop.call_soon(self._end_overdue, overdue)
