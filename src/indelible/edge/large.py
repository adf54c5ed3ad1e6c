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
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from indelible.errors import Overloaded, Unavailable

LONGEST_WAIT_S: Final = 10.0
"""A large body that has not had its turn by then is refused."""

_TOO_MANY: Final = "More large bodies are waiting to be read than the server will hold."

# A request takes the interpreter's lock some ten times, on three threads. While a large body is
# read it waits for it this long each time; of Python's usual 5 ms it would notice. At other times
# the shorter interval would only cost: 5 to 7 % of the CPU time of a batched event.
_SWITCH_S: Final = 0.001

_Result = TypeVar("_Result")


class LargeBodies:
    """The turns of large bodies. Belongs to one event loop."""

    def __init__(self, *, max_waiting_bytes: int) -> None:
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._is_stopped = False
        self._turn = asyncio.Lock()  # first come, first served
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="body-reader")

    @asynccontextmanager
    async def turn(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for the turn of a body of this length, and have it during the `with`.

        Raises:
            Overloaded: too much is waiting, or its turn did not come in time.
            Unavailable: the server is stopping.
        """
        if self._waiting_bytes and self._waiting_bytes + size_bytes > self._max_waiting_bytes:
            raise Overloaded(_TOO_MANY)
        self._waiting_bytes += size_bytes
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise Overloaded(_TOO_MANY) from None
        finally:
            self._waiting_bytes -= size_bytes
        usual_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            if self._is_stopped:
                raise Unavailable("The server is stopping")
            yield
        finally:
            sys.setswitchinterval(usual_s)
            self._turn.release()

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Call `work` on the thread; for the request that has the turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def stop(self) -> None:
        """End the thread once it is done; no body gets a turn any more."""
        self._is_stopped = True
        await asyncio.to_thread(self._thread.shutdown)
