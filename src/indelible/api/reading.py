"""Where pages and pieces of the log are made: off the event loop, a few at a time.

A thread that builds JSON holds the interpreter's lock, and ingest on the event loop waits for it.
Each of them costs memory as well. So there are few such threads, however many ask: the others wait
for their turn and hold nothing meanwhile. A project has no more than that waiting for a thread, the
rest of it waits in a line of its own: one that exports thirty times at once keeps nobody else
waiting for longer than one piece. What is short (one event, a list of keys) does
not go through here, and never waits behind an export.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread

MADE_AT_ONCE: Final = 2
"""Pages and pieces that are made at the same time, on the whole server."""

_T = TypeVar("_T")


class Reading:
    """Takes turns at making pages and pieces of projects, by their ids. For one event loop."""

    def __init__(self) -> None:
        self._turns = CapacityLimiter(MADE_AT_ONCE)
        self._turns_of: dict[int, CapacityLimiter] = {}

    async def made(self, project_id: int, make: Callable[[], _T]) -> _T:
        """The result of `make`, called on a thread when it is its turn."""
        if (turns := self._turns_of.get(project_id)) is None:
            turns = self._turns_of[project_id] = CapacityLimiter(MADE_AT_ONCE)
        async with turns:
            return await to_thread.run_sync(make, limiter=self._turns)

    async def pieces(self, project_id: int, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Each of `pieces`, made when the one before it has been sent.

        An empty one is not sent: it is where others get their turn, and where the search for the
        next piece ends if the client has gone. The first is sent even so, since the head of the
        answer goes with it: nobody waits for that until something is found, and HEAD is answered.
        """
        is_first = True
        while (piece := await self.made(project_id, lambda: next(pieces, None))) is not None:
            if piece or is_first:
                yield piece
            is_first = False
