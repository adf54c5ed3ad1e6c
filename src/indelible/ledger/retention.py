"""Retention: what a project keeps for so many days only is erased by the hour.

The same erasure as on request, with the reason `retention`. Only product and audit events are
erased; the log's own entries stay. How far a log has expired is remembered, so that each round
looks at what has become too old since the last one.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from indelible.clock import Clock, monotonic_s
from indelible.errors import IndelibleError
from indelible.journal.contract import Journal
from indelible.journal.erasing import ERASABLE
from indelible.leaf import decode

logger = logging.getLogger(__name__)

CURSOR: Final = "retention"
REASON: Final = "retention"

_PERIOD_S: Final = 3600.0
_SWEEP_PERIOD_S: Final = 10.0
_DAY_MS: Final = 24 * 60 * 60 * 1000
_BATCH: Final = 2_000  # ingest waits while one is erased: some 50 ms
_PAUSE_S: Final = 0.05  # between two, so that they never take the whole journal


class Rule(NamedTuple):
    """A project whose events are kept for so many days."""

    project_id: int
    days: int


class Retention:
    """Expires every project's log by its rule, at the start and then each hour, on a thread.

    Args:
        rules: the projects that have one, asked for anew in each round.
        clock: what the age of an event is taken against. LIMIT: a machine whose clock is ahead
            erases too early, and nothing brings that back.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        rules: Callable[[], Iterable[Rule]],
        clock: Clock,
        period_s: float = _PERIOD_S,
    ) -> None:
        self._journal = journal
        self._rules = rules
        self._clock = clock
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, then end; returns when the thread has."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def expire(self) -> int:
        """Erase what is too old now; how many events that was.

        Raises:
            JournalUnwritable: what was not erased is next time.
        """
        return sum(self._expire(rule) for rule in self._rules())

    def _expire(self, rule: Rule) -> int:
        project_id = rule.project_id
        oldest_kept_ms = self._clock() - rule.days * _DAY_MS
        start = self._journal.cursor(CURSOR, project_id)
        end = self._journal.first_index_stored_at(project_id, oldest_kept_ms)
        erased = 0
        while start < end and not self._stopping.is_set():
            behind = min(start + _BATCH, end)
            leaves = self._journal.leaves(project_id, start, behind)
            old = [start + n for n, entry in enumerate(leaves) if decode(entry).kind in ERASABLE]
            done = self._journal.erase(project_id, old, reason=REASON, received_at_ms=self._clock())
            # power lost here: the same events are passed over as erased already
            self._journal.move_cursor(CURSOR, project_id, behind)
            erased += done.erased
            start = behind
            self._stopping.wait(_PAUSE_S)
        return erased

    def _run(self) -> None:
        due_s = monotonic_s()
        while True:
            try:
                if monotonic_s() >= due_s:
                    self.expire()
                    due_s = monotonic_s() + self._period_s
                # Whoever erased may not have been able to finish, as long as somebody was reading.
                self._journal.sweep()
            except Exception as error:  # this thread's one door: a failure is tried again
                code = error.code if isinstance(error, IndelibleError) else type(error).__name__
                logger.warning("retention: %s; again in %g s", code, _SWEEP_PERIOD_S)
            if self._stopping.wait(min(_SWEEP_PERIOD_S, self._period_s)):
                return
