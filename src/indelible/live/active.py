"""The distinct ids of one project's last five minutes: how many, and, while few, which. Pure.

Of every id there is a hash of 64 bits for each tick in which it came, in flat arrays: SipHash under
a key that each process makes at its start, so that nobody can choose ids that count as one. Texts
are kept as well, since only they can be joined to persons, but no more than `MOST_TEXTS`: then the
number of ids stays exact, and that of persons is not known until there are fewer again.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from typing import Final

from indelible.live.budget import Budget

MOST_TEXTS: Final = 50_000
"""Distinct ids of a project that are kept as text."""

_PARTS: Final = 16  # of the hashes' range, of which one is in memory as a set at a time


class ActiveIds:
    """The distinct ids of the ticks from `leave` on. For one thread at a time."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._hashes: dict[int, array[int]] = {}
        self._unlisted: Counter[int] = Counter()
        self._last: dict[str, int] = {}  # the last tick of each text, nearly in their order
        self._texts_from = 0  # those of earlier ticks are not all here

    @property
    def unlisted(self) -> int:
        """Ids that found no room: of each tick, so that one may count often."""
        return sum(self._unlisted.values())

    def add(self, tick: int, ids: set[str]) -> None:
        """Take the ids of a tick, which may be an earlier one than others that are here."""
        if not ids:
            return
        room = max(0, self._budget.ids)
        hashes = sorted(map(hash, ids))
        if len(hashes) > room:
            self._unlisted[tick] += len(hashes) - room
            del hashes[room:]
        self._budget.ids -= len(hashes)
        known = self._hashes.get(tick)
        self._hashes[tick] = array("q", hashes if known is None else sorted([*known, *hashes]))
        self._add_texts(tick, ids)

    def leave(self, first: int) -> None:
        """Forget the ticks before `first`."""
        for tick in [tick for tick in self._hashes if tick < first]:
            self._budget.ids += len(self._hashes.pop(tick))
        for tick in [tick for tick in self._unlisted if tick < first]:
            del self._unlisted[tick]
        old = list(takewhile(lambda text: self._last[text] < first, self._last))
        for text in old:
            del self._last[text]
        self._budget.texts += len(old)

    def count(self) -> int:
        """How many distinct ids there are."""
        return sum(len(set().union(*part)) for part in self._parts())

    def texts(self, first: int) -> list[str] | None:
        """The distinct ids of the ticks from `first` on; None if they are not all known."""
        if first < self._texts_from or self._unlisted:
            return None
        return [text for text, tick in self._last.items() if tick >= first]

    def clear(self) -> None:
        """Give back what is used."""
        self._budget.ids += sum(map(len, self._hashes.values()))
        self._budget.texts += len(self._last)

    def _add_texts(self, tick: int, ids: set[str]) -> None:
        last, before = self._last, len(self._last)
        for text in ids:
            # Taken out first, so that it goes to the end.
            if last.get(text, 0) <= tick:
                last.pop(text, None)
                last[text] = tick
        self._budget.texts -= len(last) - before
        if len(last) > MOST_TEXTS or self._budget.texts < 0:
            self._budget.texts += len(last)
            last.clear()
            self._texts_from = tick + 1

    def _parts(self) -> "Iterator[list[array[int]]]":
        """The hashes of all ticks, an equal part of their range at a time."""
        starts = dict.fromkeys(self._hashes, 0)
        for number in range(1, _PARTS + 1):
            bound = -(1 << 63) + number * ((1 << 64) // _PARTS)
            part = []
            for tick, hashes in self._hashes.items():
                end = len(hashes) if number == _PARTS else bisect_left(hashes, bound)
                part.append(hashes[starts[tick] : end])
                starts[tick] = end
            yield part
