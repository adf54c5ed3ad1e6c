"""The room's own composition: a follower without a file, and a listener of notices.

    the follower's thread  takes stored entries into rings and windows (`handle`)
    the event loop         takes notices into rings, and has the streams
    a reader's thread      asks for figures

The windows of all projects share one lock, as they share one budget: whoever counts or asks holds
it for milliseconds. The position is in memory, and begins where the windows do: half an hour back.

Figures are of a moment that is settled: `SETTLING_MS` ago, or earlier while the follower has not
come so far. The clock may step. Forwards, windows empty by themselves; backwards, they are filled
again from the journal. Events that were received ahead of the clock wait there until it gets to
them. What is erased in the journal is forgotten by counting its project's window again.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

import msgspec

from indelible.clock import Clock
from indelible.edge.notice import Listening, Notices
from indelible.journal.contract import JournalReader, Rows
from indelible.journal.follow import Follower
from indelible.journal.pieces import pieces
from indelible.leaf import decode
from indelible.live.budget import Budget
from indelible.live.facts import erasures, last_received_ms, stretches
from indelible.live.ring import MOST_ENTRIES
from indelible.live.rings import Rings
from indelible.live.streams import Streams
from indelible.live.windows import TICK_MS, WINDOW_MS, Figures, Windows
from indelible.metrics import LIVE_BYTES, LIVE_ENTRIES
from indelible.registry.values import SERVER_ID

SETTLING_MS: Final = 300
"""From its receipt until an event is stored and seen here, nearly always."""
MOST_REFILLED: Final = 4_000_000
"""Entries, of all projects together, that are read again at a start."""
AHEAD_MS: Final = 60_000

_READ_BYTES: Final = 1024 * 1024
_FEW: Final = 8  # as many as are read without being measured: each is bounded by itself
_PACE_S: Final = 0.1
_TIDY_S: Final = 10.0
_LAZILY_MS: Final = 5_000  # after which a tick is settled though nobody asks
_STEP_MS: Final = 2_000  # back: the clock was set
_READ_BACK_MS: Final = WINDOW_MS + 2_000  # for a moment that was settled a little while ago

_ERASED: Final = msgspec.json.Decoder(dict[str, object])


class Live:
    """`indelible.journal.follow.Handler`, and what it feeds.

    `projects` has the ids of all logs that are followed, the server's own among them.
    """

    name: Final = "live"
    batch: Final = 2_000

    def __init__(
        self,
        journal: JournalReader,
        *,
        projects: Callable[[], Iterable[int]],
        notices: Notices,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._projects = projects
        self._notices = notices
        self._clock = clock
        self.rings = Rings(clock)
        self.streams = Streams(journal, self.rings)
        self._lock = threading.Lock()
        self._budget = Budget()
        self._refillable = MOST_REFILLED
        self._logs: dict[int, _Log] = {}
        self._follower = Follower(journal, self, projects=projects, pace_s=_PACE_S)
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: Listening | None = None

    def start(self) -> None:
        """Begin to follow and to listen; call it on the event loop."""
        self.streams.start()
        self._listening = self._notices.listen()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._hear(self._listening)),
            loop.create_task(self._tidy_now_and_then()),
        ]
        self._follower.start()

    async def stop(self) -> None:
        """End streams and threads."""
        self.streams.close()
        if self._listening is not None:
            self._listening.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._follower.stop)

    # The follower's.

    def next_index(self, project_id: int) -> int:
        """See `indelible.journal.follow.Handler.next_index`."""
        with self._lock:
            return self._log(project_id).position

    def handle(self, project_id: int, start: int, end: int) -> None:  # noqa: ARG002 — a Handler
        """Take the project's log up to `end` into its window and its ring."""
        with self._lock:
            log = self._log(project_id)
            self._mend(project_id, log)
        for first, behind in self._runs(project_id, log.position, end):
            rows = self._journal.rows(project_id, first, behind)
            with self._lock:
                is_erased = self._take(project_id, log, rows)
                log.position = behind
                log.windows.settle(self._clock() - _LAZILY_MS)
                if is_erased:
                    self._refill(project_id, log)
            if behind > log.ring_from:
                at_ms = last_received_ms(rows)
                self.rings.add_events(project_id, max(first, log.ring_from), behind, at_ms)

    # What others ask.

    def figures(self, project_id: int) -> "Now":
        """The figures of a project as of the newest moment that is settled. Not on the loop."""
        now_ms = self._clock()
        (end,) = self._journal.next_indexes([project_id]).values()
        with self._lock:
            log = self._log(project_id)
            self._mend(project_id, log)
            settled_ms = now_ms - SETTLING_MS
            if log.position < end:
                waiting = self._journal.leaves(project_id, log.position, log.position + 1)
                settled_ms = min([settled_ms, *(decode(each).received_at_ms for each in waiting)])
            log.windows.settle(settled_ms)
            figures = log.windows.figures()
            is_whole = log.complete_from_ms <= figures.as_of_ms - WINDOW_MS
            return Now(figures, None if is_whole else log.complete_from_ms)

    def oldest_waiting_ms(self) -> int | None:
        """How long the oldest entry that is not taken has been stored; None: there is none."""
        ages = []
        for project_id, end in self._journal.next_indexes(self._projects()).items():
            log = self._logs.get(project_id)
            if log is None or log.position >= end:
                continue
            waiting = self._journal.leaves(project_id, log.position, log.position + 1)
            ages += [self._clock() - decode(each).received_at_ms for each in waiting]
        return max(0, *ages) if ages else None

    # Behind the scenes.

    def _log(self, project_id: int) -> "_Log":
        log = self._logs.get(project_id)
        if log is None:
            log = self._logs[project_id] = _Log(self._budget)
            end = self._journal.next_index(project_id)
            log.position = self._begin(project_id, log, end)
            log.ring_from = max(log.position, end - MOST_ENTRIES)
        return log

    def _begin(self, project_id: int, log: "_Log", end: int) -> int:
        """Where the window of a project begins in its log."""
        from_ms = self._clock() - _READ_BACK_MS
        runs = self._journal.received_between(project_id, from_ms, None)
        first = runs[0][0] if runs else end
        fair = MOST_REFILLED // max(1, len(list(self._projects())))
        most = max(fair, self._refillable // 2)
        start = max(first, end - most)
        self._refillable = max(0, self._refillable - (end - start))
        log.complete_from_ms = from_ms
        if start > first:
            for each in self._journal.leaves(project_id, start, start + 1):
                log.complete_from_ms = decode(each).received_at_ms
        return start

    def _runs(self, project_id: int, start: int, end: int) -> Iterable[tuple[int, int]]:
        """What is in memory at a time."""
        if start >= end:
            return ()
        if end - start <= _FEW:  # as of each of hundreds of projects, all the time
            return [(start, end)]
        return pieces(self._journal, project_id, start, end, most_bytes=_READ_BYTES)

    def _take(self, project_id: int, log: "_Log", rows: Rows) -> bool:
        """Count a run of the log; whether something of the window was erased by it."""
        self._count(log, rows)
        ends = [end for payload in erasures(rows) for end in _erased_ends(payload)]
        if not ends:
            return False
        from_ms = self._clock() - _READ_BACK_MS
        runs = self._journal.received_between(project_id, from_ms, None)
        return bool(runs) and max(ends) > runs[0][0]

    def _count(self, log: "_Log", rows: Rows) -> None:
        latest = (self._clock() + AHEAD_MS) // TICK_MS
        for stretch in stretches(rows, TICK_MS):
            if stretch.tick <= latest:
                log.windows.take(stretch)
            else:
                log.ahead_from_ms = min(log.ahead_from_ms, stretch.tick * TICK_MS)

    def _mend(self, project_id: int, log: "_Log") -> None:
        """Count again if the clock was set back, or has come to what was ahead of it."""
        now_ms = self._clock()
        if log.windows.settled_ms > now_ms + _STEP_MS or now_ms >= log.ahead_from_ms:
            self._refill(project_id, log)

    def _refill(self, project_id: int, log: "_Log") -> None:
        """Count the window of a project again, up to its position. What was erased is not there."""
        log.windows.clear()
        log.windows = Windows(self._budget)
        log.ahead_from_ms = _NEVER
        self._refillable = MOST_REFILLED
        start = self._begin(project_id, log, log.position)
        for first, behind in self._runs(project_id, start, log.position):
            self._count(log, self._journal.rows(project_id, first, behind))

    async def _hear(self, listening: Listening) -> None:
        while (heard := await listening.hear()) is not None:
            for project_id, count in heard.missed.items():
                self.rings.missed(_ring_of(project_id), count)
            for notice in heard.notices:
                self.rings.reject(_ring_of(notice.project_id), notice)

    async def _tidy_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_S)
            await asyncio.to_thread(self._tidy)

    def _tidy(self) -> None:
        """Forget what is too old, of projects too in which nothing happens."""
        self.rings.expire()
        LIVE_ENTRIES.value, LIVE_BYTES.value = self.rings.held()
        settled_ms = self._clock() - _LAZILY_MS
        for project_id, log in list(self._logs.items()):
            with self._lock:
                (end,) = self._journal.next_indexes([project_id]).values()
                if log.position >= end:
                    log.windows.settle(settled_ms)


class Now(msgspec.Struct, frozen=True):
    """Figures, and from when on they are complete if the window begins before that."""

    figures: Figures
    complete_from_ms: int | None


class _Log:
    """One project, as far as it was followed."""

    def __init__(self, budget: Budget) -> None:
        self.windows = Windows(budget)
        self.position = 0
        self.ring_from = 0
        self.complete_from_ms = 0
        self.ahead_from_ms = _NEVER


_NEVER: Final = 1 << 62


def _ring_of(project_id: int | None) -> int:
    """Where a notice is shown: without a project to those who may read the server's own log."""
    return SERVER_ID if project_id is None else project_id


def _erased_ends(payload: bytes) -> Iterator[int]:
    """The ends of the ranges that an erasure lists."""
    with suppress(msgspec.DecodeError, ValueError, TypeError):
        ranges = _ERASED.decode(payload).get("erased")
        if isinstance(ranges, list):
            for _, end in ranges:
                yield int(end)
