"""The writer's end of a child's line, whatever the child does. Belongs to the writer's event loop.

What only one kind of child says is in `writing` (edges) and `following` (the reader).
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import msgspec

from indelible import metrics
from indelible.metrics import Counts
from indelible.processes.frames import Line
from indelible.processes.messages import Count

Said = TypeVar("Said")


class ChildLine(Generic[Said]):
    """The line to one child, for as long as that one lives.

    Attributes:
        name: the child's place in the family.
        failure: what keeps the child from its work, as it says itself.
        on_reported: is called whenever the child reports: it does not hang.
        on_serves: is called once, when the child does what it is for.
        on_ended: is called once, when nothing more will come.
    """

    def __init__(self, name: str, form: msgspec.msgpack.Decoder[Said]) -> None:
        self.name = name
        self.failure: str | None = None
        self.on_reported: Callable[[], None] = _nothing
        self.on_serves: Callable[[], None] = _nothing
        self.on_ended: Callable[[], None] = _nothing
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._asked: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._line: Line[Said] = Line(form, heard=self._heard, ended=self._is_over)

    async def take(self, line: socket.socket) -> None:
        """Use this socket, and close it in the end."""
        await self._line.take(line)

    @property
    def is_over(self) -> bool:
        """Whether the child is gone."""
        return self._line.is_over

    def say(self, message: object) -> None:
        """Tell the child something."""
        self._line.say(message)

    def close(self) -> None:
        """End the line, whatever the child does."""
        self._line.close()

    async def report(self) -> None:
        """Return when the child has reported what it has counted up to now, or is gone."""
        self._number += 1
        reported = self._asked[self._number] = asyncio.Event()
        if self.is_over:
            return
        self.say(Count(self._number))
        await reported.wait()

    def _reported(self, counts: Counts, number: int) -> None:
        metrics.take(self.name, counts)
        for asked in [asked for asked in self._asked if asked <= number]:
            self._asked.pop(asked).set()
        self.on_reported()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_over(self) -> None:
        for reported in self._asked.values():
            reported.set()
        for task in self._tasks:
            task.cancel()
        self.on_ended()

    def _heard(self, message: Said) -> None:
        raise NotImplementedError


def _nothing() -> None:
    pass
