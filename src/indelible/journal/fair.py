"""Whose turn it is: deficit round robin (Shreedhar and Varghese, 1995).

Requests wait in the order in which they came, each source by itself. In its turn a source may give
as much as `QUANTUM`, plus what it was short of the last time, so that one large request gets no
more than many small ones. A source with little to give therefore waits for one turn of each of the
others, and not for all that they have brought.
"""

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

_Item = TypeVar("_Item")

QUANTUM: Final = 100
"""What a source may give in its turn."""


class FairQueue(Generic[_Item]):
    """Items that wait, by their source. Not safe across threads."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[tuple[int, _Item]]] = {}
        self._credit: dict[Hashable, int] = {}
        self._turns: deque[Hashable] = deque()  # each source that has something waiting, once

    def __bool__(self) -> bool:
        return bool(self._turns)

    def put(self, source: Hashable, cost: int, item: _Item) -> None:
        """Let an item of this cost, at least 0, wait behind those of its source."""
        waiting = self._waiting.get(source)
        if waiting is None:
            waiting = self._waiting[source] = deque()
            self._credit[source] = 0
            self._turns.append(source)
        waiting.append((cost, item))

    def take(self, enough: int) -> list[_Item]:
        """The next items, until their costs come to `enough` or nothing waits."""
        taken: list[_Item] = []
        spent = 0
        while self._turns and spent < enough:
            source = self._turns.popleft()
            waiting = self._waiting[source]
            credit = self._credit[source] + QUANTUM
            while waiting and waiting[0][0] <= credit and spent < enough:
                cost, item = waiting.popleft()
                credit -= cost
                spent += cost
                taken.append(item)
            if waiting:
                self._credit[source] = credit
                self._turns.append(source)
            else:  # credit is not kept for later
                del self._waiting[source], self._credit[source]
        return taken
