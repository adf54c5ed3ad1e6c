"""What the edges of this server have dropped, by project: one term of the balance.

Each process counts by itself, as all metrics are counted, and the one that stores adds them up.
What an ended edge had counted stays; what a server has counted ends with it, so `since_ms` is told
with every answer. There are as many figures as projects have reasons, which are a closed list.
"""

from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from indelible.clock import Clock
from indelible.metrics import NUMBERED, PROJECT_EVENTS_DROPPED, counts_of

ByReason = dict[str, dict[str, int]]
"""How many events, by lane and reason."""


class Drops(Struct, frozen=True, array_like=True):
    """What was dropped of one project for good, since this server counts.

    Attributes:
        since_ms: when it began to.
        numbered: of senders that number their events, so that these are in their accounts too.
        others: of all others.
    """

    since_ms: int
    numbered: ByReason
    others: ByReason


DropsOf = Callable[[str], Drops]
"""Returns the drops of a project, by its name. Not on an event loop."""


class Dropping:
    """What this server has dropped since it was built."""

    def __init__(self, clock: Clock) -> None:
        self._since_ms = clock()
        self._before = counts_of(PROJECT_EVENTS_DROPPED)

    def of(self, project: str) -> Drops:
        """What was dropped of the project of this name."""
        drops = Drops(self._since_ms, {}, {})
        counts = Counter(counts_of(PROJECT_EVENTS_DROPPED))
        counts.subtract(self._before)
        for (name, lane, reason, sender), count in sorted(counts.items()):
            if name == project and count > 0:
                of_sender = drops.numbered if sender == NUMBERED else drops.others
                of_sender.setdefault(lane, {})[reason] = count
        return drops
