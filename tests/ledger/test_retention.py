"""Retention: what has become too old is erased, and nothing else."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.errors import JournalUnwritable
from indelible.event import Kind
from indelible.ledger.retention import Retention, Rule
from tests.journal.contract import DAY_MS, a_draft, numbered, whole_log
from tests.journal.rig import SqliteRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SqliteRig]:
    rig = SqliteRig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[SqliteRig]:
    """One that does not wait long for a disk that takes nothing."""
    rig = SqliteRig(tmp_path, sweep_s=0.1)
    yield rig
    rig.close()


def retention_of(rig: SqliteRig, *rules: Rule, period_s: float = 3600.0) -> Retention:
    return Retention(rig.journal, rules=lambda: rules, clock=rig.clock, period_s=period_s)


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
        rig.journal.append([a_draft(project), a_draft(project, kind=Kind.AUDIT)])
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
    rig.journal.move_cursor("retention", project, 0)  # as if power was lost before it was moved

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
        with pytest.raises(JournalUnwritable):
            retention_of(quick, rule).expire()
        quick.disk.writes_left = None
        quick.reopen()

        retention_of(quick, rule).expire()

        assert [] == kept(quick, rule.project_id), f"after {eighth} eighths of {needed} writes"


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
    rig.journal.append(numbered(project, 5, prefix="later"))
    rig.clock.now_ms += 2 * DAY_MS
    while kept(rig, project) and time.monotonic() < deadline:
        time.sleep(0.01)
    retention.stop()
    assert [] == kept(rig, project)
