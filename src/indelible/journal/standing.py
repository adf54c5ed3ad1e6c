"""How far each log and the count of each month have come, kept in memory.

Only the process that writes adds to them, so what was read once need not be read again: not by each
group, and not by followers, who ask for the ends of hundreds of logs after each commit. A figure is
taken over when its transaction is committed, never before.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import apsw

from indelible.clock import month_of
from indelible.event import Lane
from indelible.journal.keys_file import Mark
from indelible.journal.tables import INDEX_MASK, next_index_of

_HOUR_MS: Final = 3_600_000


class Standing:
    """Safe from any thread; `end` and `used` are for the one that holds the transaction.

    `read_ends` reads the ends of logs as they are committed.
    """

    def __init__(self, read_ends: Callable[[Sequence[int]], dict[int, int]]) -> None:
        self._read_ends = read_ends
        self._lock = threading.Lock()
        self._ends: dict[int, int] = {}
        # Ends with entries whose transaction, which is somebody else's, may not be committed yet.
        self._begun: dict[int, int] = {}
        self._used: dict[tuple[int, Lane], tuple[str, int]] = {}
        self._month = (-1, "")  # since the epoch, in hours

    def month(self, now_ms: int) -> str:
        """The calendar month; as all months, it begins with an hour."""
        hour = now_ms // _HOUR_MS
        if hour != self._month[0]:
            self._month = (hour, month_of(now_ms))
        return self._month[1]

    def end(self, connection: apsw.Connection, project_id: int) -> int:
        """The index that the project's next entry gets."""
        with self._lock:
            end = None if project_id in self._begun else self._ends.get(project_id)
        return next_index_of(connection, project_id) if end is None else end

    def used(self, connection: apsw.Connection, project_id: int, lane: Lane, month: str) -> int:
        """How many events of `lane` the project stored in `month` (``2026-01``)."""
        known = self._used.get((project_id, lane))
        if known is not None and known[0] == month:
            return known[1]
        return events_used(connection, project_id, lane, month)

    def committed(
        self, marks: Mapping[int, Mark], used: Mapping[tuple[int, Lane], int], month: str
    ) -> None:
        """Take over what a group came to: the last row of each log, and the counts."""
        with self._lock:
            for project_id, mark in marks.items():
                end = (mark.last_id & INDEX_MASK) + 1
                self._ends[project_id] = max(end, self._ends.get(project_id, 0))
            for key, count in used.items():
                self._used[key] = (month, count)

    def begun(self, project_id: int, end: int) -> None:
        """Note that a log ends here if a transaction that is under way is committed."""
        with self._lock:
            self._begun[project_id] = end

    def ends(self, project_ids: Iterable[int]) -> dict[int, int]:
        """The next index of each of these projects."""
        wanted = list(project_ids)
        with self._lock:
            unknown = [one for one in wanted if one not in self._ends or one in self._begun]
            if unknown:
                self._ends |= self._read_ends(unknown)
                for project_id in unknown:
                    if self._ends[project_id] >= self._begun.get(project_id, 0):
                        self._begun.pop(project_id, None)
            return {project_id: self._ends[project_id] for project_id in wanted}

    def forget(self) -> None:
        """Know nothing, as after a start."""
        with self._lock:
            self._ends.clear()
            self._used.clear()


def events_used(connection: apsw.Connection, project_id: int, lane: Lane, month: str) -> int:
    """How many events of `lane` the project stored in `month`, by the table."""
    rows = connection.execute(
        "SELECT events FROM usage WHERE project_id = ? AND month = ? AND lane = ?",
        (project_id, month, lane.value),
    )
    return next((int(events) for (events,) in rows), 0)
