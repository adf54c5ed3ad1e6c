"""The account of one process in one lane. Pure.

A process numbers what it captures from 0, whatever becomes of it, and reports by reason what it
lost. So, from the log alone,

    captured = stored + lost + missing

where `missing` is what nobody has explained: under way, or gone. An account is made of facts that
may come in any order: `merge` is commutative and associative, and a stretch of the log is itself an
account.

>>> one = account_of({0, 1, 2, 4, 5}, {}, first_seen_ms=5, last_seen_ms=5)
>>> other = account_of({9}, {"exit": 2}, first_seen_ms=7, last_seen_ms=9)
>>> whole = merge(one, other)
>>> whole.captured, whole.stored, whole.lost_in_all, whole.missing
(10, 6, 2, 2)
>>> whole.gaps(), (whole.first_seen_ms, whole.last_seen_ms)
([(3, 4), (6, 9)], (5, 9))
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from heapq import merge as in_order
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from indelible.event import MAX_COUNT

MAX_GAPS: Final = 1_000

Run = tuple[int, int]
"""Sequence numbers [start, end)."""


class Account(Struct, frozen=True, gc=False):
    """What is known of one process in one lane.

    Attributes:
        first_seen_ms, last_seen_ms: when the server received the first and the last word of it.
        runs: the sequence numbers that are stored, ascending, no two touching.
        lost: what it reported, by reason.
        floor: below it the numbers are not known one by one any more, since there were more than
            MAX_GAPS gaps; 0 as long as there were not.
        settled: how many stored events have numbers below `floor`.
        announced: how many events it said it had captured, in its last report.
    """

    first_seen_ms: int
    last_seen_ms: int
    runs: list[Run]
    lost: Mapping[str, int]
    floor: int = 0
    settled: int = 0
    announced: int = 0

    @property
    def stored(self) -> int:
        """How many numbers are stored. Above `floor` a number that came twice counts once."""
        return self.settled + sum(end - start for start, end in self.runs)

    @property
    def lost_in_all(self) -> int:
        """How many events were reported lost, whatever the reason."""
        return sum(self.lost.values())

    @property
    def captured(self) -> int:
        """How many events the process captured, at the least.

        The highest number tells, or the process's own word: what was lost behind the highest
        number has reports, but no numbers.
        """
        behind = self.runs[-1][1] if self.runs else 0
        return max(behind, self.announced, self.stored + self.lost_in_all)

    @property
    def missing(self) -> int:
        """How many events were captured, and are neither stored nor reported lost."""
        return self.captured - self.stored - self.lost_in_all

    def gaps(self) -> list[Run]:
        """The numbers above `floor` that no stored event has; those that were lost are among them.

        At most MAX_GAPS.
        """
        edges = [(0, self.floor), *self.runs]
        return [(end, start) for (_, end), (start, _) in pairwise(edges) if end < start]


def account_of(
    numbers: AbstractSet[int],
    lost: Mapping[str, int],
    *,
    first_seen_ms: int,
    last_seen_ms: int,
    announced: int = 0,
) -> Account:
    """The account of a process of which these numbers are stored and these losses reported."""
    account = Account(
        first_seen_ms, last_seen_ms, _runs_of(numbers), sum_of({}, lost), announced=announced
    )
    return _bounded(account)


def merge(one: Account, other: Account) -> Account:
    """The account of all that is known from either.

    While neither has a `floor`, the order in which accounts are merged makes no difference. With
    one, `stored` and all that is derived from it make none either, so long as no number comes
    twice; which gaps are still known may depend on it.
    """
    floor = max(one.floor, other.floor)
    merged = Account(
        min(one.first_seen_ms, other.first_seen_ms),
        max(one.last_seen_ms, other.last_seen_ms),
        _joined(in_order(one.runs, other.runs)),
        sum_of(one.lost, other.lost),
        settled=one.settled + other.settled,
        announced=max(one.announced, other.announced),
    )
    return _bounded(_raised(merged, floor) if floor else merged)


def sum_of(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, added up."""
    both = Counter(one)
    both.update(other)
    # Never above MAX_COUNT, whatever senders say: a sum must fit into a column.
    return {reason: min(count, MAX_COUNT) for reason, count in sorted(both.items())}


def _bounded(account: Account) -> Account:
    """The same account with MAX_GAPS gaps at the most: the newest, which may still be closed."""
    gaps = account.gaps()
    surplus = len(gaps) - MAX_GAPS
    return _raised(account, gaps[surplus - 1][1]) if surplus > 0 else account


def _runs_of(numbers: AbstractSet[int]) -> list[Run]:
    """The runs that these numbers make."""
    if not numbers:
        return []
    first, behind = min(numbers), max(numbers) + 1
    if behind - first == len(numbers):  # no gap, as long as nothing is lost
        return [(first, behind)]
    return _joined((number, number + 1) for number in sorted(numbers))


def _joined(runs: Iterable[Run]) -> list[Run]:
    """Runs in the order of their starts, with those that touch or overlap made one."""
    joined: list[Run] = []
    for start, end in runs:
        if joined and start <= joined[-1][1]:
            if end > joined[-1][1]:
                joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _raised(account: Account, floor: int) -> Account:
    """The same account with the numbers below `floor` counted only."""
    below = [(start, min(end, floor)) for start, end in account.runs if start < floor]
    settled = account.settled + sum(end - start for start, end in below)
    runs = [(max(start, floor), end) for start, end in account.runs if end > floor]
    return replace(account, runs=runs, floor=floor, settled=settled)
