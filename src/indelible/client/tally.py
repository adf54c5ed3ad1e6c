"""What became of everything that was captured, by lane and reason.

A tally is added to from any thread, from signal handlers and while the interpreter ends. So adding
takes no lock that could be held by the code it interrupts: it appends to a deque, which is atomic,
and whoever reads folds the deque into the sums.
"""

import operator
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from indelible.event import LossReason

_FOLD_AT: Final = 1_024
_MOST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events of one lane in this process, at one moment.

    captured = delivered + waiting + the sum of lost, always.

    Attributes:
        captured: Calls that meant an event.
        delivered: Stored by the server, as it said itself.
        waiting: In memory, or in this process's spool.
        lost: Let go, by reason.
        repaired: Had a value in another form than given, or went as a stub.
        retried: Batches that were sent again.
        adopted: Delivered for a process that ended before it could: not among `captured`.
        unspooled: Were to be kept on disk, and the disk refused or was full.
        failures: Faults inside the client or a hook that the caller was spared.
    """

    captured: int
    delivered: int
    waiting: int
    lost: dict[LossReason, int]
    repaired: int = 0
    retried: int = 0
    adopted: int = 0
    unspooled: int = 0
    failures: int = 0


class Numbers:
    """Numbers from 0, each given out once, and how many were.

    One step of C, so that neither a thread nor a signal handler can come between: the cheapest
    count there is.

    >>> numbers = Numbers()
    >>> numbers.draw(), numbers.draw(), numbers.drawn
    (0, 1, 2)
    """

    __slots__ = ("_left", "draw")

    def __init__(self) -> None:
        self._left = iter(range(_MOST))
        self.draw = self._left.__next__

    @property
    def drawn(self) -> int:
        return _MOST - operator.length_hint(self._left)


class Tally:
    """Sums under any hashable name, added to from anywhere."""

    def __init__(self) -> None:
        self._added: deque[tuple[str, int]] = deque()
        self._sums: Counter[str] = Counter()
        self._folding = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Count; safe in a signal handler."""
        self._added.append((name, count))
        if len(self._added) > _FOLD_AT:
            self._fold(wait_s=0)

    def sums(self) -> Counter[str]:
        """A copy of the sums; what another thread adds meanwhile may be missing."""
        self._fold(wait_s=0.1)
        return Counter(self._sums)

    def _fold(self, *, wait_s: float) -> None:
        # Never waits for long: a signal handler may have interrupted the thread that folds.
        if not self._folding.acquire(timeout=wait_s):
            return
        try:
            while self._added:
                name, count = self._added.popleft()
                self._sums[name] += count
        finally:
            self._folding.release()
