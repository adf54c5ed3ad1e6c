"""How far every log is sealed and witnessed, and waiting for it."""

import asyncio
import threading
from contextlib import suppress
from typing import NamedTuple

from indelible.event import Level
from indelible.ledger.lockstore import Head


class _Waiting(NamedTuple):
    size: int
    loop: asyncio.AbstractEventLoop
    reached: "asyncio.Future[None]"


class Progress:
    """The newest checkpoint of each project at each level. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heads: dict[tuple[int, Level], Head] = {}
        self._waiting: dict[tuple[int, Level], list[_Waiting]] = {}

    def head(self, project_id: int, level: Level) -> Head | None:
        """The newest checkpoint at this level; None when there is none."""
        return self._heads.get((project_id, level))

    def size(self, project_id: int, level: Level) -> int:
        """How many events of the project have reached this level."""
        head = self.head(project_id, level)
        return 0 if head is None else head.size

    def reached(self, project_id: int, index: int) -> Level | None:
        """The highest level that this event has reached."""
        for level in reversed(Level):
            if index < self.size(project_id, level):
                return level
        return None

    def advance(self, project_id: int, level: Level, head: Head) -> None:
        """A checkpoint has reached this level; whoever waited for it goes on.

        One that is older than the newest changes nothing.
        """
        key = (project_id, level)
        with self._lock:
            newest = self._heads.get(key)
            if newest is not None and newest.size > head.size:
                return
            self._heads[key] = head
            waiting = self._waiting.get(key, [])
            self._waiting[key] = [one for one in waiting if one.size > head.size]
        for one in waiting:
            if one.size <= head.size:
                with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    one.loop.call_soon_threadsafe(_resolve, one.reached)

    async def wait(self, project_id: int, index: int, level: Level, *, timeout_s: float) -> bool:
        """Whether the event reaches this level within the time."""
        key = (project_id, level)
        loop = asyncio.get_running_loop()
        one = _Waiting(index + 1, loop, loop.create_future())
        with self._lock:
            if index < self.size(project_id, level):
                return True
            self._waiting.setdefault(key, []).append(one)
        try:
            await asyncio.wait_for(one.reached, timeout_s)
        except TimeoutError:
            return False
        finally:
            with self._lock, suppress(ValueError):
                self._waiting[key].remove(one)
        return True


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
