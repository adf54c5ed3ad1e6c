"""Retention: what a project keeps for so many days only is erased by the hour.

The same erasure as on request, with the reason `retention`. Only product and audit events are
erased; the log's own entries stay. How far a log has expired is kept nowhere but in the journal: an
entry without content is passed over, by its size, without reading it. So no restore and no power
cut can let an old event slip through. Within one process each round looks only at what has become
too old since the last one.

The age of an event counts from its time of receipt. Erasure cannot be undone and a clock may be
wrong, so two rules protect what is young:

    A round is postponed while the clock is in doubt (`indelible.clock.Steadiness`): it has jumped,
    or at the start it was a day away from the newest event.
    The first round of each day notes the length of the log. Entries stored after such a note are
    younger than it, whatever time they carry. So events received while the clock was a year behind
    are not erased as a year old.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from indelible.clock import Clock, monotonic_s
from indelible.erasure.lengths import LENGTHS_FILE, Lengths
from indelible.errors import IndelibleError, LegalHold
from indelible.journal.contract import ErasableJournal
from indelible.journal.erasing import ERASABLE
from indelible.leaf import decode

logger = logging.getLogger(__name__)

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


class _Done(NamedTuple):
    """Of the first `stored` entries, all that were received before `before_ms` are erased."""

    before_ms: int
    stored: int


class Retention:
    """Expires every project's log by its rule, at the start and then each hour, on a thread.

    Args:
        rules: the projects that have one and are on no legal hold, asked for anew in each round.
        clock: tells how old an event is. LIMIT: if the clock runs ahead for hours, events are
            erased too early.
        in_doubt: says why the clock is not trusted at the moment, or returns None.
    """

    def __init__(
        self,
        data_dir: Path,
        journal: ErasableJournal,
        *,
        rules: Callable[[], Iterable[Rule]],
        clock: Clock,
        in_doubt: Callable[[], str | None] = lambda: None,
        period_s: float = _PERIOD_S,
    ) -> None:
        self._journal = journal
        self._lengths = Lengths(data_dir / LENGTHS_FILE, journal)
        self._rules = rules
        self._clock = clock
        self._in_doubt = in_doubt
        self._period_s = period_s
        self._done: dict[int, _Done] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, then end; returns when the thread has."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Close the file of notes."""
        self._lengths.close()

    def expire(self) -> int:
        """Erase what is too old now; how many events that was.

        Raises:
            JournalUnwritable: what was not erased is next time.
        """
        return sum(map(self._expire_unheld, self._rules()))

    def _expire_unheld(self, rule: Rule) -> int:
        try:
            return self._expire(rule)
        except LegalHold:  # set since the rules were asked for: nothing of it is due any more
            return 0

    def _expire(self, rule: Rule) -> int:
        project_id, now_ms = rule.project_id, self._clock()
        oldest_kept_ms = now_ms - rule.days * _DAY_MS
        stored = self._journal.next_index(project_id)
        self._note(project_id, now_ms, stored)
        done = self._done.get(project_id, _Done(0, 0))
        runs = [
            *self._journal.received_between(project_id, done.before_ms, oldest_kept_ms),
            *self._journal.received_between(project_id, 0, done.before_ms, start=done.stored),
        ]
        if not runs:
            return 0
        behind = self._youngest_of(project_id, oldest_kept_ms, now_ms, stored)
        erased = 0
        for first, end in runs:
            for begin in range(first, min(end, behind), _BATCH):
                if self._stopping.is_set():
                    return erased
                many = min(begin + _BATCH, end, behind)
                now_erased = self._erase(project_id, begin, many, oldest_kept_ms)
                if now_erased:
                    self._stopping.wait(_PAUSE_S)
                erased += now_erased
        # power lost here: the next process passes over what is erased
        if behind >= stored:
            self._done[project_id] = _Done(oldest_kept_ms, stored)
            self._lengths.forget(project_id, before_day=oldest_kept_ms // _DAY_MS)
        return erased

    def _erase(self, project_id: int, first: int, behind: int, oldest_kept_ms: int) -> int:
        sizes = self._journal.sizes(project_id, first, behind)
        if not any(size.whole for size in sizes):
            return 0
        entries = map(decode, self._journal.leaves(project_id, first, behind))
        old = [
            index
            for index, (size, entry) in enumerate(zip(sizes, entries, strict=True), start=first)
            if size.whole and entry.kind in ERASABLE and entry.received_at_ms < oldest_kept_ms
        ]
        if not old:
            return 0
        done = self._journal.erase(project_id, old, reason=REASON, received_at_ms=self._clock())
        return done.erased

    def _note(self, project_id: int, now_ms: int, stored: int) -> None:
        """Note the length of the log, once a day."""
        self._lengths.note(project_id, now_ms // _DAY_MS, stored)

    def _youngest_of(self, project_id: int, oldest_kept_ms: int, now_ms: int, stored: int) -> int:
        """Return the index from which every entry is certainly too young, by the daily notes."""
        first_day, last_day = -(-oldest_kept_ms // _DAY_MS), now_ms // _DAY_MS
        noted = self._lengths.on(project_id, first_day, last_day)
        return stored if noted is None else min(noted, stored)

    def _run(self) -> None:
        due_s, doubted = monotonic_s(), None
        while True:
            try:
                if monotonic_s() >= due_s:
                    was_doubted, doubted = doubted, self._in_doubt()
                    if doubted is None:
                        self.expire()
                        due_s = monotonic_s() + self._period_s
                    elif was_doubted is None and any(self._rules()):
                        logger.warning("retention is postponed: %s", doubted)
                # Whoever erased may not have been able to finish, as long as somebody was reading.
                self._journal.sweep()
            except Exception as error:  # this thread's one door: a failure is tried again
                code = error.code if isinstance(error, IndelibleError) else type(error).__name__
                logger.warning("retention: %s; again in %g s", code, _SWEEP_PERIOD_S)
            if self._stopping.wait(min(_SWEEP_PERIOD_S, self._period_s)):
                return
