"""Where pages and pieces of the log are made: off the event loop, a few at a time.

A thread that builds JSON holds the interpreter's lock, and ingest on the event loop waits for it.
Each of them costs memory as well. So there are few such threads, however many ask: the others wait
for their turn, in order, and hold nothing meanwhile. What is short (one event, a list of keys) does
not go through here, and never waits behind an export.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread

MADE_AT_ONCE: Final = 2
"""Pages and pieces that are made at the same time, on the whole server."""

_T = TypeVar("_T")


class Reading:
    """Takes turns at making pages and pieces. For one event loop."""

    def __init__(self) -> None:
        self._turns = CapacityLimiter(MADE_AT_ONCE)

    async def made(self, make: Callable[[], _T]) -> _T:
        """The result of `make`, called on a thread when it is its turn."""
        return await to_thread.run_sync(make, limiter=self._turns)

    async def pieces(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Each of `pieces`, made when the one before it has been sent.

        An empty one is not sent: it is where others get their turn, and where the search for the
        next piece ends if the client has gone.
        """
        while (piece := await self.made(lambda: next(pieces, None))) is not None:
            if piece:
                yield piece
