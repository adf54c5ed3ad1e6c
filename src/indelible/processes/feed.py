"""What edges know of the registry: the whole of it when they are born, then each change.

A change is acknowledged when every edge goes by it, so that a revoked key opens nothing any more.
Everything here runs on the event loop of the writer, but `publish`, which waits on the thread of
whoever makes the change. An edge that is gone is not waited for; one that hangs is ended.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

from indelible.processes.messages import Changed, Known
from indelible.processes.writing import EdgeLine
from indelible.registry.snapshot import Rows, Snapshot
from indelible.registry.values import LogRow, Row

logger = logging.getLogger(__name__)

TAKEN_WITHIN_S: Final = 5.0
"""An edge that has not taken a change of the registry within this time is killed."""


class _Numbered(NamedTuple):
    """The registry after the change of this number."""

    number: int
    snapshot: Snapshot


class _Taking:
    """A change that is being told, and the lines that have not taken it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lines: list[EdgeLine] = []
        self.done = threading.Event()


class Feed:
    """Tells the edges. `end` is called with the name of one that does not take what it is told."""

    def __init__(self, snapshot: Snapshot, end: Callable[[str], None]) -> None:
        self._end = end
        self._number = 0  # counted by whoever changes the registry, one at a time
        self._newest = _Numbered(0, snapshot)
        self._lines: list[EdgeLine] = []
        self._taking: list[_Taking] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        # Of its own: the other threads may all wait for a disk that hangs.
        self._encoding = ThreadPoolExecutor(1, "introducing")

    def start(self) -> None:
        """Begin; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def stop(self) -> None:
        """End the thread."""
        self._encoding.shutdown(wait=False)

    async def introduce(self, line: EdgeLine) -> None:
        """Tell a new edge the registry as it is, and from then on what changes.

        Of a large registry the telling takes a thread some time, in which it may change; an edge
        that knows nothing yet is told no change.
        """
        loop = asyncio.get_running_loop()
        self._lines = [other for other in self._lines if not other.is_over]
        while not line.is_over:
            newest = self._newest
            snapshot = await loop.run_in_executor(self._encoding, newest.snapshot.encode)
            if newest is self._newest:
                self._lines.append(line)
                line.say(Known(newest.number, snapshot))
                return

    def publish(self, snapshot: Snapshot, rows: Sequence[Row]) -> None:
        """Tell a change of the registry, and return when every edge goes by it.

        Not on the event loop, which has to hear their answers.
        """
        if all(isinstance(row, LogRow) for row in rows):
            return  # of signed logs an edge knows nothing
        self._number += 1
        newest = _Numbered(self._number, snapshot)
        if self._loop is None:
            self._newest = newest
            return
        assert threading.get_ident() != self._thread, "a change of the registry on the event loop"
        taken = _Taking(newest.number)
        with suppress(RuntimeError):  # the loop has ended, and all edges with it
            self._loop.call_soon_threadsafe(self._tell, newest, Rows.of(rows), taken)
            if not taken.done.wait(TAKEN_WITHIN_S):
                self._loop.call_soon_threadsafe(self._end_those_without, taken)
                taken.done.wait(TAKEN_WITHIN_S)

    def look(self) -> None:
        """An edge has taken something, or is gone: see who is still waited for."""
        for taken in list(self._taking):
            taken.lines = [
                line for line in taken.lines if line.taken < taken.number and not line.is_over
            ]
            if not taken.lines:
                self._taking.remove(taken)
                taken.done.set()

    def _tell(self, newest: _Numbered, rows: Rows, taken: _Taking) -> None:
        self._newest = newest
        taken.lines = [line for line in self._lines if not line.is_over]
        self._taking.append(taken)
        for line in taken.lines:
            line.say(Changed(newest.number, rows))
        self.look()

    def _end_those_without(self, taken: _Taking) -> None:
        for line in taken.lines:
            logger.error("%s does not take a change of the registry: it is ended", line.name)
            self._end(line.name)
