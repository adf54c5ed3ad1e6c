"""The balance of a project: what became of all events that were captured, as figures.

    captured = stored + dropped + in flight

The equation is true of every answer, line by line, for `captured` is made of its parts. There are
two lines in each lane, and no event is in both. Of senders that number their events their accounts
are the source: they say themselves how many they captured and lost, and what nobody explains is in
flight. Of all others nothing is known but what reached the server.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from indelible.accounting.accounting import Accounting
from indelible.accounting.accounts import Total
from indelible.clock import rfc3339
from indelible.drops import DropsOf
from indelible.event import Lane
from indelible.registry.values import Project

COVERS: Final[Mapping[str, str]] = {
    "captured": "numbered: what senders say they captured, since the log began. others: what the "
    "server read of them and stored or dropped.",
    "stored": "Since the log began. numbered: distinct numbers. others: entries of the log. An "
    "event that came twice is stored once, and counts once.",
    "dropped": "numbered: what senders report as lost, by their reasons, since the log began; an "
    "event that the server dropped is among them once its sender has reported it. others: what the "
    "server dropped for good, by its reasons, since `dropped_since`, each time that it came. "
    "Requests that were refused as a whole are in no term: nobody has read what was in them.",
    "in_flight": "numbered: captured, and neither stored nor reported: under way, in a spool, "
    "dropped by the server a moment ago, or gone. others: 0, for an event that did not arrive is "
    "not known.",
}


class Line(msgspec.Struct):
    """`captured` = `stored` + the sum of `dropped` + `in_flight`, exactly."""

    captured: int
    stored: int
    dropped: dict[str, int]
    in_flight: int


class LaneBalance(msgspec.Struct):
    """The balance of one lane.

    `numbered`: of senders that number their events; `others`: of all others; `total`: their sum.
    `erased_uncounted` of the stored events had been erased before they were counted; they are with
    the others, whoever sent them, and may be in flight by their sender's account.
    `dropped_numbered`: what the server dropped of numbered events since `dropped_since`; it is in
    flight until its sender reports it.
    """

    lane: str
    numbered: Line
    others: Line
    total: Line
    erased_uncounted: int
    dropped_numbered: dict[str, int]


class BalanceView(msgspec.Struct):
    """The balance of a project, lane by lane.

    `covers` says what each term is made of. `dropped_since`: when this server began to count what
    it drops. `next_index`: the entries of the log below it are in the balance.
    """

    project: str
    at: str
    dropped_since: str
    next_index: int
    lanes: list[LaneBalance]
    covers: dict[str, str]


class Balance:
    """The balance of every project, for reading."""

    def __init__(self, accounting: Accounting, drops_of: DropsOf) -> None:
        self._accounting = accounting
        self._drops_of = drops_of

    def of(self, project: Project, *, at_ms: int) -> BalanceView:
        """The balance as far as events are counted. Not on an event loop.

        Raises:
            Unavailable: the accounts are damaged.
        """
        drops = self._drops_of(project.name)
        next_index = self._accounting.next_index(project.id)
        totals = self._accounting.accounts.totals(project.id)
        return BalanceView(
            project=project.name,
            at=rfc3339(at_ms),
            dropped_since=rfc3339(drops.since_ms),
            next_index=next_index,
            lanes=[
                _lane(
                    lane,
                    totals.get(lane, Total()),
                    dropped=drops.others.get(lane, {}),
                    dropped_numbered=drops.numbered.get(lane, {}),
                )
                for lane in Lane
            ],
            covers=dict(COVERS),
        )


def _lane(
    lane: Lane, total: Total, *, dropped: Mapping[str, int], dropped_numbered: Mapping[str, int]
) -> LaneBalance:
    lost = {reason: count for reason, count in total.lost.items() if count}
    numbered = _line(total.stored, lost, max(0, total.missing))
    others = _line(total.unnumbered + total.erased, dropped, 0)
    reasons = sorted({*numbered.dropped, *others.dropped})
    both = {
        reason: numbered.dropped.get(reason, 0) + others.dropped.get(reason, 0)
        for reason in reasons
    }
    return LaneBalance(
        lane=lane.value,
        numbered=numbered,
        others=others,
        total=_line(numbered.stored + others.stored, both, numbered.in_flight),
        erased_uncounted=total.erased,
        dropped_numbered=dict(dropped_numbered),
    )


def _line(stored: int, dropped: Mapping[str, int], in_flight: int) -> Line:
    return Line(stored + sum(dropped.values()) + in_flight, stored, dict(dropped), in_flight)
