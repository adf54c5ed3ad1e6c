"""The distinct ids of one project's last five minutes: how many, and, while few, which. Pure.

As long as there are few, each is kept as text with the tick in which it came last: only texts can
be joined to persons. When there are more than `MOST_TEXTS`, hashes of 64 bits take their place, in
flat arrays, a sorted one for each tick: SipHash under a key that each process makes at its start,
so that nobody can choose ids that count as one. Then the number of ids stays exact, and that of
persons is not known. Texts go on being collected beside the hashes; once those of five minutes are
complete again, the hashes are dropped.
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
        self._first = 0
        self._last: dict[str, int] = {}  # the last tick of each text, nearly in their order
        self._texts_from = 0  # those of earlier ticks are not all here
        self._hashes: dict[int, array[int]] = {}  # empty while all texts are here
        self._unlisted: Counter[int] = Counter()

    @property
    def unlisted(self) -> int:
        """Ids that found no room: of each tick, so that one may count often."""
        return sum(self._unlisted.values())

    @property
    def _are_few(self) -> bool:
        return self._texts_from <= self._first

    def add(self, tick: int, ids: set[str]) -> None:
        """Take the ids of a tick, which may be an earlier one than others that are here."""
        if not self._are_few:
            self._add_hashes(tick, map(hash, ids))
        last, before = self._last, len(self._last)
        for text in ids:
            # Taken out first, so that it goes to the end.
            if last.get(text, 0) <= tick:
                last.pop(text, None)
                last[text] = tick
        self._budget.texts -= len(last) - before
        if len(last) > MOST_TEXTS or self._budget.texts < 0:
            self._give_up_texts()

    def leave(self, first: int) -> None:
        """Forget the ticks before `first`."""
        self._first = first
        for tick in [tick for tick in self._hashes if tick < first or self._are_few]:
            self._budget.ids += len(self._hashes.pop(tick))
        for tick in [tick for tick in self._unlisted if tick < first or self._are_few]:
            del self._unlisted[tick]
        old = list(takewhile(lambda text: self._last[text] < first, self._last))
        for text in old:
            del self._last[text]
        self._budget.texts += len(old)

    def count(self) -> int:
        """How many distinct ids there are."""
        if self._are_few:
            return sum(tick >= self._first for tick in self._last.values())
        return sum(len(set().union(*part)) for part in self._parts())

    def texts(self) -> list[str] | None:
        """The distinct ids; None if they are too many to be known."""
        if not self._are_few:
            return None
        return [text for text, tick in self._last.items() if tick >= self._first]

    def clear(self) -> None:
        """Give back what is used."""
        self._budget.ids += sum(map(len, self._hashes.values()))
        self._budget.texts += len(self._last)

    def _give_up_texts(self) -> None:
        """Keep hashes from now on; the texts are begun again with the next tick."""
        last = self._last
        if self._are_few:
            by_tick: dict[int, list[int]] = {}
            for text, tick in last.items():
                by_tick.setdefault(tick, []).append(hash(text))
            for tick, hashes in by_tick.items():
                self._add_hashes(tick, hashes)
        self._texts_from = max(last.values()) + 1
        self._budget.texts += len(last)
        last.clear()

    def _add_hashes(self, tick: int, hashes: "Iterator[int] | list[int]") -> None:
        room, new = max(0, self._budget.ids), sorted(hashes)
        if len(new) > room:
            self._unlisted[tick] += len(new) - room
            del new[room:]
        self._budget.ids -= len(new)
        known = self._hashes.get(tick)
        self._hashes[tick] = array("q", new if known is None else sorted([*known, *new]))

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
