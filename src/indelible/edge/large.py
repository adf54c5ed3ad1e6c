"""Large bodies: read off the event loop, one at a time, in turn.

    request ──small──▶ loop: unpack, read, admit ──▶ journal
            ──large──▶ wait for the turn ──▶ thread `body-reader`: unpack, read, admit ──▶ journal

The loop answers everybody, so what it does for one request must take milliseconds. A body that
unpacks to more than `body.SMALL_BYTES` is read by the one thread of this module. One thread, since
only one can hold the interpreter's lock at a time, and since the memory of large bodies is then
that of one: its turn ends when its events are stored. The others wait as they were sent, for a
limited time and with a limited number of bytes between them. Beyond that they are answered 503.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from indelible.errors import Overloaded
from indelible.journal.commit import Committer
from indelible.journal.contract import Draft, Outcome

LONGEST_WAIT_S: Final = 10.0
"""A large body that has not had its turn by then is refused."""

# Of a large request so much goes into one group of the journal, so that the events of others do
# not wait for all of it: some 20 ms.
_RUN_DRAFTS: Final = 500
_RUN_BYTES: Final = 1 << 20
_PAUSE_S: Final = 0.05

_Result = TypeVar("_Result")


class LargeBodies:
    """The turns of large bodies. Belongs to one event loop."""

    def __init__(self, *, max_waiting_bytes: int) -> None:
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._turn = asyncio.Lock()  # first come, first served
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="body-reader")

    @asynccontextmanager
    async def turn(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for the turn of a body of this length, and have it during the `with`.

        Raises:
            Overloaded: too much is waiting, or its turn did not come in time.
        """
        if self._waiting_bytes and self._waiting_bytes + size_bytes > self._max_waiting_bytes:
            raise Overloaded
        self._waiting_bytes += size_bytes
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise Overloaded from None
        finally:
            self._waiting_bytes -= size_bytes
        try:
            yield
        finally:
            self._turn.release()

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Call `work` on the thread; for the request that has the turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def stop(self) -> None:
        """End the thread once it is done."""
        await asyncio.to_thread(self._thread.shutdown)


async def submit_in_runs(committer: Committer, drafts: Sequence[Draft]) -> list[Outcome]:
    """Store the drafts of one request in order, many of them in several groups.

    Raises:
        Overloaded, Unavailable, JournalUnwritable: as `Committer.submit` does. The groups before
            the one that failed are stored.
    """
    outcomes: list[Outcome] = []
    for run in _runs(drafts):
        while True:
            try:
                outcomes += await committer.submit(run)
                break
            except Overloaded:
                if not outcomes:
                    raise
                await asyncio.sleep(_PAUSE_S)  # what the request began it brings to its end
    return outcomes


def _runs(drafts: Sequence[Draft]) -> Iterator[Sequence[Draft]]:
    start = size = 0
    for end, draft in enumerate(drafts):
        size += len(draft.payload) + len(draft.record)
        if end - start == _RUN_DRAFTS or (size > _RUN_BYTES and end > start):
            yield drafts[start:end]
            start, size = end, len(draft.payload) + len(draft.record)
    yield drafts[start:] if start else drafts
