"""Large bodies: read off the event loop, in turns.

    request ──small──▶ loop: unpack, read, admit ──▶ journal
            ──large──▶ wait for a turn ──▶ thread `body-reader`: unpack, read, admit ──▶ journal

The loop answers everybody, so what it does for one request must take milliseconds. A body that
unpacks to more than `body.SMALL_BYTES` is read by a thread of this module. There are two, each for
one body at a time: one for bodies of up to `SHORT_BYTES` as sent, one for longer ones. More would
read no faster, since decoding holds the interpreter's lock, and would take the memory of more
bodies: a turn ends when the events are stored.

Anybody can send a body that takes a second to read, without a token and as often as they like. So
turns are not first come, first served. Of the bodies that wait, those of a caller whose key was
checked come first, then the shorter before the longer. A flood of long bodies delays none but long
ones of unknown callers. Bodies wait as they were sent, for a limited time and with a limited number
of bytes between them; over it, the one whose turn would come last is refused with 503.
"""

import asyncio
import bisect
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, NamedTuple, TypeVar

from indelible.errors import Overloaded, Unavailable

LONGEST_WAIT_S: Final = 10.0
"""A large body that has not had its turn by then is refused."""

SHORT_BYTES: Final = 256 * 1024
"""As sent, a body of up to this length does not wait for longer ones."""

_TOO_MANY: Final = "More large bodies are waiting to be read than the server will hold."

# A request takes the interpreter's lock some ten times, on three threads. While a large body is
# read it waits for it this long each time; of Python's usual 5 ms it would notice. At other times
# the shorter interval would only cost: 5 to 7 % of the CPU time of a batched event.
_SWITCH_S: Final = 0.001

_Result = TypeVar("_Result")


class _Waiting(NamedTuple):
    """A body that waits; in the order of turns."""

    is_unknown: bool
    size_bytes: int
    number: int
    turn: "asyncio.Future[None]"


class LargeBodies:
    """The turns of large bodies. Belongs to one event loop."""

    def __init__(self, *, max_waiting_bytes: int) -> None:
        self._short = Turns(max_waiting_bytes=max_waiting_bytes)
        self._long = Turns(max_waiting_bytes=max_waiting_bytes)
        self._under_way = 0
        self._usual_s = sys.getswitchinterval()

    @asynccontextmanager
    async def turn(self, size_bytes: int, *, is_known: bool = False) -> AsyncIterator["Turns"]:
        """Wait for the turn of a body of this length, and have it during the `with`.

        `is_known`: the caller's key was checked.

        Raises:
            Overloaded: too much is waiting, or its turn did not come in time.
            Unavailable: the server is stopping.
        """
        turns = self._short if size_bytes <= SHORT_BYTES else self._long
        async with turns.turn(size_bytes, is_known=is_known):
            self._under_way += 1
            sys.setswitchinterval(_SWITCH_S)
            try:
                yield turns
            finally:
                self._under_way -= 1
                if not self._under_way:
                    sys.setswitchinterval(self._usual_s)

    async def stop(self) -> None:
        """End the threads once they are done; no body gets a turn any more."""
        await asyncio.gather(self._short.stop(), self._long.stop())


class Turns:
    """A thread that reads one body at a time, and who comes next."""

    def __init__(self, *, max_waiting_bytes: int) -> None:
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._waiting: list[_Waiting] = []  # sorted: the first is next
        self._numbers = count()
        self._is_taken = False
        self._is_stopped = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="body-reader")

    @asynccontextmanager
    async def turn(self, size_bytes: int, *, is_known: bool) -> AsyncIterator[None]:
        """As `LargeBodies.turn`."""
        if self._is_taken:
            await self._wait(size_bytes, is_known=is_known)
        self._is_taken = True
        try:
            if self._is_stopped:
                raise Unavailable("The server is stopping")
            yield
        finally:
            self._hand_on()

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Call `work` on the thread; for the request that has the turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def stop(self) -> None:
        """End the thread once it is done; no body gets a turn any more."""
        self._is_stopped = True
        await asyncio.to_thread(self._thread.shutdown)

    async def _wait(self, size_bytes: int, *, is_known: bool) -> None:
        turn = asyncio.get_running_loop().create_future()
        mine = _Waiting(not is_known, size_bytes, next(self._numbers), turn)
        bisect.insort(self._waiting, mine)
        self._waiting_bytes += size_bytes
        # A body that alone is over the limit may wait when nothing else does.
        while self._waiting_bytes > self._max_waiting_bytes and len(self._waiting) > 1:
            last = self._waiting[-1]
            self._leave(last)
            last.turn.set_exception(Overloaded(_TOO_MANY))
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._hand_on()  # its turn had come, and nobody is there to have it
            self._leave(mine)
            if isinstance(error, TimeoutError):
                raise Overloaded(_TOO_MANY) from None
            raise

    def _leave(self, one: _Waiting) -> None:
        """Let it wait no longer, if it does."""
        place = bisect.bisect_left(self._waiting, one)
        if place < len(self._waiting) and self._waiting[place] is one:
            del self._waiting[place]
            self._waiting_bytes -= one.size_bytes

    def _hand_on(self) -> None:
        """End a turn; of the bodies that wait the first has the next."""
        self._is_taken = False
        while self._waiting and not self._is_taken:
            following = self._waiting[0]
            self._leave(following)
            if not following.turn.done():  # else its client has just left
                self._is_taken = True
                following.turn.set_result(None)
