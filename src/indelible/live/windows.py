"""The figures of one project's last half hour, exact and in little memory. Pure.

Time is cut into ticks of half a second. Events of ticks that are not settled yet lie in `_open`, by
tick, counted with `Counter`. A tick is settled once no more of it is expected: its counts become
rows of three numbers in flat columns, and totals by name are kept beside them, so that settling
costs by the distinct names of a tick, an answer by the distinct names of the window, and neither by
the events.

    _open: tick ▶ Counter of names, Counter of pages, set of ids
              │ settle(tick)
              ▼
    _Table:    name ▶ slot, and the total of each slot in the window
               (tick, slot, count), …  oldest first; a row that leaves the window is subtracted
    ActiveIds: the distinct ids of five minutes

An event of a tick that was settled before is late. It is counted in the window to which it belongs
from then on, and the number of late ones is told with the figures.

How much is kept of all projects together is bounded by a `Budget`. What finds no room is counted as
not listed; the events of each minute are always exact.
"""

import heapq
from array import array
from collections import Counter
from typing import Final, NamedTuple

import msgspec

from indelible.live.active import ActiveIds
from indelible.live.budget import Budget
from indelible.live.facts import MOST_PATH_CHARS, Stretch

TICK_MS: Final = 500
WINDOW_MS: Final = 30 * 60 * 1000
ACTIVE_MS: Final = 5 * 60 * 1000
MINUTE_MS: Final = 60_000
MINUTES: Final = 30
TOP: Final = 10

MOST_NAMES: Final = 20_000
"""Distinct names, and distinct pages, of a project's window."""
_WINDOW_TICKS: Final = WINDOW_MS // TICK_MS
_ACTIVE_TICKS: Final = ACTIVE_MS // TICK_MS
_CUT_FROM: Final = 256  # rows that have left the window before a column is cut


class Counted(msgspec.Struct, frozen=True, gc=False):
    """A name and how often it came."""

    name: str
    count: int


class Unlisted(NamedTuple):
    """Events of the window that are in no list, since it has no room: by name, by page; and the
    distinct ids that found none."""

    events: int
    pages: int
    ids: int


class Figures(NamedTuple):
    """What a window holds, up to `as_of_ms` and without it.

    `minutes` has the events of each of the last 30 minutes of the clock, oldest first; the last is
    the one that is running. `ids` is how many distinct ids came in the last five minutes, and
    `id_texts` has them, or is None if they are too many to be kept. `late` events of the window
    came after it had been settled.
    """

    as_of_ms: int
    minutes: list[tuple[int, int]]
    names: list[Counted]
    pages: list[Counted]
    ids: int
    id_texts: list[str] | None
    late: int
    unlisted: Unlisted


class _Tick:
    __slots__ = ("count", "ids", "long_pages", "names", "pages")

    def __init__(self) -> None:
        self.count = 0
        self.names: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()
        self.long_pages = 0
        self.ids: set[str] = set()


class _Table:
    """How often each name came in the window. What leaves the window is subtracted."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._totals = array("q")
        self._free: list[int] = []
        self._ticks = array("I")
        self._slot_of = array("I")
        self._counts = array("I")
        self._head = 0
        self._late: list[tuple[int, int, int]] = []
        self._base = 0  # of the ticks in the column, which has 32 bits for each
        self._unlisted: Counter[int] = Counter()

    @property
    def unlisted(self) -> int:
        """Of the window, the events whose name found no room."""
        return sum(self._unlisted.values())

    def add(self, tick: int, counts: Counter[str]) -> None:
        """Take the counts of a tick that is not before those already here."""
        self._base = self._base or tick
        for name, count in counts.items():
            slot = self._slot(name)
            if slot is None:
                self._unlisted[tick] += count
                continue
            self._totals[slot] += count
            self._ticks.append(tick - self._base)
            self._slot_of.append(slot)
            self._counts.append(count)

    def unlist(self, tick: int, count: int) -> None:
        """Count events whose name is not kept."""
        if count:
            self._unlisted[tick] += count

    def add_late(self, tick: int, counts: Counter[str]) -> None:
        """Take counts of a tick that is before some of those already here."""
        for name, count in counts.items():
            slot = self._slot(name)
            if slot is None:
                self._unlisted[tick] += count
                continue
            self._totals[slot] += count
            heapq.heappush(self._late, (tick, slot, count))

    def leave(self, first: int) -> None:
        """Subtract the ticks before `first`."""
        ticks, head, before = self._ticks, self._head, first - self._base
        while head < len(ticks) and ticks[head] < before:
            self._subtract(self._slot_of[head], self._counts[head])
            head += 1
        self._head = head
        if head > _CUT_FROM and head > len(ticks) // 4:
            for column in (self._ticks, self._slot_of, self._counts):
                del column[:head]
            self._head = 0
        while self._late and self._late[0][0] < first:
            _, slot, count = heapq.heappop(self._late)
            self._subtract(slot, count)
        for tick in [tick for tick in self._unlisted if tick < first]:
            del self._unlisted[tick]

    def top(self) -> list[Counted]:
        """The names that came most often, ties by name."""
        each = ((-self._totals[slot], name) for name, slot in self._slots.items())
        return [Counted(name, -count) for count, name in heapq.nsmallest(TOP, each)]

    def clear(self) -> None:
        """Give back what is used."""
        self._budget.rows += len(self._ticks) - self._head + len(self._late)
        self._budget.text_bytes += sum(map(_cost, self._slots))

    def _slot(self, name: str) -> int | None:
        budget = self._budget
        if budget.rows <= 0:
            return None
        slot = self._slots.get(name)
        if slot is None:
            cost = _cost(name)
            if len(self._slots) >= MOST_NAMES or budget.text_bytes < cost:
                return None
            budget.text_bytes -= cost
            if self._free:
                slot = self._free.pop()
                self._names[slot] = name
            else:
                slot = len(self._names)
                self._names.append(name)
                self._totals.append(0)
            self._slots[name] = slot
        budget.rows -= 1
        return slot

    def _subtract(self, slot: int, count: int) -> None:
        self._budget.rows += 1
        self._totals[slot] -= count
        if not self._totals[slot]:
            name = self._names[slot]
            self._budget.text_bytes += _cost(name)
            del self._slots[name]
            self._names[slot] = ""
            self._free.append(slot)


class Windows:
    """The windows of one project. For one thread at a time."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._names = _Table(budget)
        self._pages = _Table(budget)
        self._open: dict[int, _Tick] = {}
        self._minutes: Counter[int] = Counter()
        self._ids = ActiveIds(budget)
        self._late: Counter[int] = Counter()
        self._settled = 0
        self._figures: Figures | None = None

    @property
    def settled_ms(self) -> int:
        """Everything before is settled; 0 at the beginning."""
        return self._settled * TICK_MS

    def take(self, stretch: Stretch) -> None:
        """Count the events of a stretch of the log."""
        tick = stretch.tick
        if tick < self._settled:
            self._take_late(stretch)
            return
        one = self._open.get(tick)
        if one is None:
            one = self._open[tick] = _Tick()
        self._put(one, stretch)

    def settle(self, up_to_ms: int) -> None:
        """Expect no more events that were received before `up_to_ms`, and forget what is no longer
        in any window that ends there. Going back is passed over."""
        up_to = up_to_ms // TICK_MS
        if up_to <= self._settled:
            return
        self._settled = up_to
        for tick in sorted(tick for tick in self._open if tick < up_to):
            one = self._open.pop(tick)
            self._minutes[tick * TICK_MS // MINUTE_MS] += one.count
            self._names.add(tick, one.names)
            self._pages.add(tick, one.pages)
            self._pages.unlist(tick, one.long_pages)
            self._ids.add(tick, one.ids)
        self._forget(up_to)

    def figures(self) -> Figures:
        """The figures as of `settled_ms`."""
        as_of_ms = self.settled_ms
        found = self._figures
        if found is None or found.as_of_ms != as_of_ms:
            last = as_of_ms // MINUTE_MS
            found = self._figures = Figures(
                as_of_ms,
                [
                    (minute * MINUTE_MS, self._minutes.get(minute, 0))
                    for minute in range(last - MINUTES + 1, last + 1)
                ],
                self._names.top(),
                self._pages.top(),
                self._ids.count(),
                self._ids.texts(),
                sum(self._late.values()),
                Unlisted(self._names.unlisted, self._pages.unlisted, self._ids.unlisted),
            )
        return found

    def clear(self) -> None:
        """Give back what is used; nothing may be called afterwards."""
        self._names.clear()
        self._pages.clear()
        self._ids.clear()

    def _put(self, one: _Tick, stretch: Stretch) -> None:
        one.count += stretch.count
        one.names.update(stretch.names)
        short = [page for page in stretch.pages if len(page) <= MOST_PATH_CHARS]
        one.pages.update(short)
        one.long_pages += len(stretch.pages) - len(short)
        one.ids.update(stretch.ids)

    def _take_late(self, stretch: Stretch) -> None:
        tick, settled = stretch.tick, self._settled
        self._figures = None
        if tick < settled - _WINDOW_TICKS:
            return
        self._late[tick] += stretch.count
        self._minutes[tick * TICK_MS // MINUTE_MS] += stretch.count
        one = _Tick()
        self._put(one, stretch)
        self._names.add_late(tick, one.names)
        self._pages.add_late(tick, one.pages)
        self._pages.unlist(tick, one.long_pages)
        if tick >= settled - _ACTIVE_TICKS:
            self._ids.add(tick, one.ids)

    def _forget(self, settled: int) -> None:
        first, active = settled - _WINDOW_TICKS, settled - _ACTIVE_TICKS
        self._names.leave(first)
        self._pages.leave(first)
        self._ids.leave(active)
        for tick in [tick for tick in self._late if tick < first]:
            del self._late[tick]
        before = settled * TICK_MS // MINUTE_MS - MINUTES
        for minute in [minute for minute in self._minutes if minute <= before]:
            del self._minutes[minute]


def _cost(name: str) -> int:
    """About what a name takes in memory, in bytes."""
    return len(name.encode("utf-8", "surrogatepass")) + 200
