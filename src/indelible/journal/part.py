"""The journal and the clock as parts of the server."""

from functools import partial
from typing import Final

from indelible.clock import Clock, Steadiness, rfc3339
from indelible.journal.commit import STUCK_S, Committer
from indelible.journal.sqlite import SqliteJournal
from indelible.parts import Look, Part, PartHealth

AHEAD_MS: Final = 60_000


class JournalHealth(PartHealth):
    """`failure` says why no event is acknowledged now, or is null. `under_way_s` is the age of the
    group being written. `last_failure` and `last_failure_at` say why and when storing last failed;
    they stay after the journal has recovered."""

    failure: str | None
    under_way_s: float | None
    last_failure: str | None
    last_failure_at: str | None


class ClockHealth(PartHealth):
    """`failure` says what is wrong with the clock, or is null. `doubt` says why retention does not
    trust the clock at the moment, and erases nothing; null if it does. `ids_ahead_s` is how far the
    newest transaction id is ahead of the clock. IDs only ever grow, so one event stored while the
    clock was ahead leaves all later ids ahead. `last_jump_s` is the latest step of the clock since
    the server started."""

    failure: str | None
    doubt: str | None
    ids_ahead_s: float
    last_jump_s: float | None
    last_jump_at: str | None


def journal_part(journal: SqliteJournal, committer: Committer) -> Part:
    """The journal with the thread that writes it; its files are closed by who opened them."""
    misplaced: str | None = None

    def find() -> None:
        nonlocal misplaced
        misplaced = journal.database.out_of_place()

    def health() -> JournalHealth:
        under_way_s, last = committer.under_way_s, committer.last_failure
        failure = journal.failure or misplaced
        if failure is None and (under_way_s or 0.0) > STUCK_S:
            failure = f"one sync has been under way for {under_way_s:.1f} s"
        if failure is None and committer.is_failing and last is not None:
            failure = last.message
        return JournalHealth(
            status="failing" if failure else "ok",
            failure=failure,
            under_way_s=None if under_way_s is None else round(under_way_s, 1),
            last_failure=None if last is None else last.message,
            last_failure_at=None if last is None else rfc3339(last.at_ms),
        )

    return Part(
        name="journal",
        start=committer.start,
        stop=committer.stop,
        health=health,
        form=JournalHealth,
        looks=[Look("the journal's files", find)],
    )


def clock_part(journal: SqliteJournal, clock: Clock, steadiness: Steadiness) -> Part:
    """The clock, and how the ids of the journal stand to it."""
    return Part(
        name="clock",
        health=partial(_health_of_clock, journal, clock, steadiness),
        form=ClockHealth,
    )


def _health_of_clock(journal: SqliteJournal, clock: Clock, steadiness: Steadiness) -> ClockHealth:
    ahead_ms = max(0, journal.newest_tx_ms - clock())
    doubt, jump = steadiness.in_doubt(), steadiness.last_jump
    failure = None if jump is None else doubt
    if ahead_ms > AHEAD_MS:
        failure = f"transaction ids are {ahead_ms / 1000:,.0f} s ahead of the clock"
    return ClockHealth(
        status="degraded" if failure else "ok",
        failure=failure,
        doubt=doubt,
        ids_ahead_s=ahead_ms / 1000,
        last_jump_s=None if jump is None else jump.by_ms / 1000,
        last_jump_at=None if jump is None else rfc3339(jump.at_ms),
    )
