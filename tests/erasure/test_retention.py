"""Retention: what has become too old is erased, and nothing else."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.erasure.lengths import LENGTHS_FILE
from indelible.erasure.retention import Retention, Rule
from indelible.errors import JournalUnwritable
from indelible.event import Kind
from tests.journal.contract import DAY_MS, a_draft, numbered, whole_log
from tests.journal.rig import SqliteRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SqliteRig]:
    folder = tmp_path / "data"
    folder.mkdir()
    rig = SqliteRig(folder)
    yield rig
    rig.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[SqliteRig]:
    """One that does not wait long for a disk that takes nothing."""
    rig = SqliteRig(tmp_path, sweep_s=0.1)
    yield rig
    rig.close()


def retention_of(rig: SqliteRig, *rules: Rule, period_s: float = 3600.0) -> Retention:
    return Retention(
        rig.folder, rig.journal, rules=lambda: rules, clock=rig.clock, period_s=period_s
    )


def kept(rig: SqliteRig, project: int) -> list[int]:
    """The indexes of what still has its content, but for the erasures."""
    return [
        entry.index
        for entry in whole_log(rig.journal, project)
        if entry.record is not None and entry.leaf.kind is not Kind.ERASURE
    ]


def test_events_are_erased_once_they_are_older_than_the_rule(rig: SqliteRig) -> None:
    project = rig.new_project()
    for _ in range(5):
        now_ms = rig.clock.now_ms
        kinds = (Kind.PRODUCT, Kind.AUDIT)
        rig.journal.append([a_draft(project, kind=k, received_at_ms=now_ms) for k in kinds])
        rig.clock.now_ms += DAY_MS
    retention = retention_of(rig, Rule(project, days=3))

    assert 4 == retention.expire()  # those of exactly three days ago are kept
    assert [4, 5, 6, 7, 8, 9] == kept(rig, project)
    assert 0 == retention.expire()
    rig.clock.now_ms += 1
    assert 2 == retention.expire()
    assert [6, 7, 8, 9] == kept(rig, project)
    said = [json.loads(e.payload or b"") for e in rig.journal.read(project, 10, 99)]
    assert [([[0, 4]], "retention"), ([[4, 6]], "retention")] == [
        (facts["erased"], facts["reason"]) for facts in said
    ]


def test_a_project_without_a_rule_and_the_logs_own_entries_are_kept(rig: SqliteRig) -> None:
    ruled, free = rig.new_project(), rig.new_project()
    for project in (ruled, free):
        kinds = (Kind.PRODUCT, Kind.ADMINISTRATION, Kind.LOSS, Kind.AUDIT)
        rig.journal.append([a_draft(project, kind=kind) for kind in kinds])
    rig.clock.now_ms += 40 * DAY_MS

    assert 2 == retention_of(rig, Rule(ruled, days=30)).expire()

    assert [1, 2] == kept(rig, ruled)
    assert [0, 1, 2, 3] == kept(rig, free)


def test_it_goes_on_where_it_stopped_after_a_restart(rig: SqliteRig) -> None:
    project = rig.new_project()
    rig.journal.append(numbered(project, 300))
    rig.clock.now_ms += 2 * DAY_MS
    rule = Rule(project, days=1)
    rig.disk.writes_left = 0
    with pytest.raises(JournalUnwritable):
        retention_of(rig, rule).expire()
    rig.disk.writes_left = None
    assert 300 == len(kept(rig, project))

    assert 300 == retention_of(rig, rule).expire()
    rig.reopen()

    assert 0 == retention_of(rig, rule).expire()
    assert 301 == rig.journal.next_index(project)


def test_it_never_moves_on_past_what_it_did_not_erase(quick: SqliteRig) -> None:
    """Whichever of its writes is the last that the disk takes, the next round erases all of it."""

    def due() -> Rule:
        project = quick.new_project()
        quick.journal.append(numbered(project, 30, prefix=f"p{project}"))
        quick.clock.now_ms += 2 * DAY_MS
        return Rule(project, days=1)

    rule, plenty = due(), 1_000_000
    quick.disk.writes_left = plenty
    retention_of(quick, rule).expire()
    needed = plenty - quick.disk.writes_left
    for eighth in range(8):
        rule = due()
        quick.disk.writes_left = eighth * needed // 8
        with suppress(JournalUnwritable):  # the last writes are those of the sweep
            retention_of(quick, rule).expire()
        quick.disk.writes_left = None
        quick.reopen()

        retention_of(quick, rule).expire()

        assert [] == kept(quick, rule.project_id), f"after {eighth} eighths of {needed} writes"


def test_what_a_backup_brings_back_expires_again(rig: SqliteRig, tmp_path: Path) -> None:
    project = rig.new_project()
    rig.journal.append(numbered(project, 20))
    rig.journal.close()
    backup = tmp_path / "backup.db"
    shutil.copy(rig.folder / "journal.db", backup)
    rig.reopen()
    rig.clock.now_ms += 2 * DAY_MS
    rule = Rule(project, days=1)
    assert 20 == retention_of(rig, rule).expire()
    rig.journal.close()

    shutil.copy(backup, rig.folder / "journal.db")
    rig.reopen()

    assert list(range(20)) == kept(rig, project)
    assert 20 == retention_of(rig, rule).expire()
    assert [] == kept(rig, project)


def test_a_large_log_expires_in_steps(rig: SqliteRig) -> None:
    project = rig.new_project()
    for _ in range(9):
        rig.journal.append([a_draft(project) for _ in range(500)])
    rig.clock.now_ms += 2 * DAY_MS

    assert 4_500 == retention_of(rig, Rule(project, days=1)).expire()

    assert [] == kept(rig, project)
    assert 4_503 == rig.journal.next_index(project)


def test_the_thread_expires_at_its_start_and_stops_when_told(rig: SqliteRig) -> None:
    project = rig.new_project()
    rig.journal.append(numbered(project, 10))
    rig.clock.now_ms += 2 * DAY_MS
    retention = retention_of(rig, Rule(project, days=1), period_s=0.01)
    retention.start()
    deadline = time.monotonic() + 60
    while kept(rig, project) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [] == kept(rig, project)
    later = [a_draft(project, received_at_ms=rig.clock.now_ms) for _ in range(5)]
    rig.journal.append(later)
    rig.clock.now_ms += 2 * DAY_MS
    while kept(rig, project) and time.monotonic() < deadline:
        time.sleep(0.01)
    retention.stop()
    assert [] == kept(rig, project)


# Clocks that are wrong


def received(rig: SqliteRig, project: int, count: int = 1, *, days_off: int = 0) -> None:
    """Store events as a clock that is wrong by so many days would have them received."""
    right_ms = rig.clock.now_ms
    rig.clock.now_ms += days_off * DAY_MS
    drafts = [a_draft(project, received_at_ms=rig.clock.now_ms) for _ in range(count)]
    rig.journal.append(drafts)
    rig.clock.now_ms = right_ms


def test_events_behind_one_of_a_clock_that_was_ahead_expire_by_their_own_time(
    rig: SqliteRig,
) -> None:
    project = rig.new_project()
    received(rig, project, 2)
    received(rig, project, days_off=40)
    for _ in range(8):
        received(rig, project, 2)
        rig.clock.now_ms += DAY_MS
    retention = retention_of(rig, Rule(project, days=5))

    assert 8 == retention.expire()
    assert [2, *range(9, 19)] == kept(rig, project)
    assert 0 == retention.expire()
    received(rig, project, days_off=-9)  # late in the log, and old by its time
    rig.clock.now_ms += DAY_MS
    assert 2 == retention.expire()
    assert [2, *range(11, 19)] == [index for index in kept(rig, project) if index < 19]
    rig.reopen()
    assert 0 == retention_of(rig, Rule(project, days=5)).expire()
    rig.clock.now_ms += 60 * DAY_MS
    assert 10 == retention_of(rig, Rule(project, days=5)).expire()
    assert [] == kept(rig, project)


def test_events_received_while_the_clock_was_behind_are_not_taken_for_old(rig: SqliteRig) -> None:
    project = rig.new_project()
    received(rig, project, 3)
    retention = retention_of(rig, Rule(project, days=30))
    rig.clock.now_ms += DAY_MS
    assert 0 == retention.expire()
    received(rig, project, 2, days_off=-365)
    received(rig, project, 2)

    assert 0 == retention.expire()
    assert list(range(7)) == kept(rig, project)
    rig.clock.now_ms += 30 * DAY_MS
    assert 3 == retention.expire()
    rig.clock.now_ms += DAY_MS
    assert 4 == retention.expire()


@pytest.mark.parametrize("becomes", ["stays", "is lost", "is damaged"])
def test_the_notes_that_protect_the_young_survive_a_restart_and_begin_again_if_lost(
    rig: SqliteRig, becomes: str
) -> None:
    project, rule = rig.new_project(), Rule(1, days=30)
    received(rig, project, 3)
    before = retention_of(rig, rule)
    assert 0 == before.expire()
    before.close()
    received(rig, project, 2, days_off=-365)
    file = rig.folder / LENGTHS_FILE
    rig.reopen()
    if becomes == "is lost":
        file.unlink()
    elif becomes == "is damaged":
        file.write_bytes(b"no database" * 1_000)

    retention = retention_of(rig, rule)

    assert (0 if becomes == "stays" else 2) == retention.expire()
    received(rig, project, 2, days_off=-365)
    assert 0 == retention.expire()


def test_a_note_of_another_journal_protects_nothing(rig: SqliteRig, tmp_path: Path) -> None:
    project = rig.new_project()
    received(rig, project, 3)
    other = SqliteRig(tmp_path)
    received(other, other.new_project(), 1)
    noting = retention_of(other, Rule(project, days=30))
    assert 0 == noting.expire()
    noting.close()
    other.close()
    shutil.copy(tmp_path / LENGTHS_FILE, rig.folder / LENGTHS_FILE)
    rig.clock.now_ms += 30 * DAY_MS
    received(rig, project, 2, days_off=-365)

    assert 2 == retention_of(rig, Rule(project, days=30)).expire()


def test_an_event_received_while_the_clock_was_behind_expires_in_the_end(rig: SqliteRig) -> None:
    project = rig.new_project()
    received(rig, project, 2)
    rig.clock.now_ms += 10 * DAY_MS
    retention = retention_of(rig, Rule(project, days=5))
    assert 2 == retention.expire()
    received(rig, project, days_off=-9)
    rig.clock.now_ms += DAY_MS
    assert 0 == retention.expire()

    rig.clock.now_ms += 10 * DAY_MS

    assert 1 == retention.expire()
    assert [] == kept(rig, project)


@given(st.data())
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_clock_does_what_a_round_leaves_is_young_and_what_it_takes_is_old(
    rig: SqliteRig, data: st.DataObject
) -> None:
    project = rig.new_project()
    retention = retention_of(rig, Rule(project, days=3))
    true_ms: list[int] = []
    for _ in range(data.draw(st.integers(1, 12))):
        count, off = data.draw(st.integers(0, 3)), data.draw(st.sampled_from([0, 0, 0, 40, 2]))
        received(rig, project, count, days_off=off)
        true_ms += [rig.clock.now_ms] * count
        rig.clock.now_ms += data.draw(st.integers(0, 2 * DAY_MS))
        before = rig.journal.next_index(project)
        retention.expire()
        true_ms += [rig.clock.now_ms] * (rig.journal.next_index(project) - before)
        oldest_kept_ms = rig.clock.now_ms - 3 * DAY_MS
        for entry in whole_log(rig.journal, project):
            if entry.leaf.kind is Kind.PRODUCT:
                is_old = entry.leaf.received_at_ms < oldest_kept_ms
                assert is_old == (entry.payload is None)
                assert entry.payload is not None or true_ms[entry.index] < oldest_kept_ms


def test_no_round_is_made_while_the_clock_is_in_doubt(
    rig: SqliteRig, caplog: pytest.LogCaptureFixture
) -> None:
    project = rig.new_project()
    received(rig, project, 3)
    rig.clock.now_ms += 40 * DAY_MS
    doubt: list[str | None] = ["the clock jumped"]
    retention = Retention(
        rig.folder,
        rig.journal,
        rules=lambda: [Rule(project, days=30)],
        clock=rig.clock,
        in_doubt=lambda: doubt[0],
        period_s=0.01,
    )
    retention.start()
    time.sleep(0.2)
    assert [0, 1, 2] == kept(rig, project)
    assert 1 == caplog.text.count("retention is postponed: the clock jumped")

    doubt[0] = None

    deadline = time.monotonic() + 60
    while kept(rig, project) and time.monotonic() < deadline:
        time.sleep(0.01)
    retention.stop()
    assert [] == kept(rig, project)
