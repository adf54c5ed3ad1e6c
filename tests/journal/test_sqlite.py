"""The SQLite journal against the contract, and the contract against broken journals."""

import functools
import random
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from indelible.clock import Clock
from indelible.errors import JournalUnwritable
from indelible.event import Kind, Lane
from indelible.journal.contract import (
    Draft,
    Duplicate,
    Entry,
    Erased,
    Outcome,
    OverLimit,
    Size,
    Stored,
)
from indelible.journal.database import Database
from indelible.journal.moments import BLOCK
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry
from tests.journal.contract import (
    MODEL_SETTINGS,
    JournalContract,
    MakeRig,
    Rig,
    a_draft,
    erase,
    numbered,
    whole_log,
)
from tests.journal.model import machine_for
from tests.journal.reading_contract import ReadingContract
from tests.journal.rig import MakeRigOf, SqliteRig


class TestSqliteJournal(JournalContract):
    """The contract, kept by SQLite."""


class TestReadingSqliteJournal(ReadingContract):
    """The reading half of it, in the writer's own process."""


def test_a_full_disk_stores_nothing_and_the_next_append_finds_room(make_rig: MakeRig) -> None:
    rig = make_rig()
    project = rig.new_project()
    for writes in (0, 1, 2, 5):
        rig.disk.writes_left = writes
        with pytest.raises(JournalUnwritable):
            rig.journal.append(numbered(project, 400, prefix=f"{writes}-"))
        rig.disk.writes_left = None
        before = rig.journal.next_index(project)
        assert [Stored] == [type(o) for o in rig.journal.append([a_draft(project)])]
        assert before + 1 == rig.journal.next_index(project)
    assert 4 == rig.journal.next_index(project)


def test_the_client_id_is_nowhere_in_the_file(tmp_path: Path) -> None:
    rig = SqliteRig(tmp_path)
    project = rig.new_project()
    rig.journal.append([a_draft(project, "customer-4711@example.com", payload=b"seen-payload")])
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    rig.reopen()
    files += [path.read_bytes() for path in tmp_path.iterdir()]
    rig.close()
    assert any(b"seen-payload" in content for content in files)
    assert not any(b"customer-4711" in content for content in files)


# Erasing, where SQLite keeps more than one copy of a page.


def test_a_reader_that_keeps_erased_bytes_is_told_of_and_waited_for(tmp_path: Path) -> None:
    sqlite = SqliteRig(tmp_path, sweep_s=0.5)
    project = sqlite.new_project()
    sqlite.journal.append([a_draft(project, payload=b'"kept-by-a-reader"')])
    assert sqlite.journal.sweep()
    reader = apsw.Connection(str(sqlite.folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    assert 1 == reader.execute("SELECT count(*) FROM project").get  # it holds this state from here

    done = erase(sqlite.journal, project, 0)

    assert (1, False) == (done.erased, done.swept)
    assert b"kept-by-a-reader" in sqlite.files()
    (again,) = sqlite.journal.append([a_draft(project)])  # events are stored all the same
    assert isinstance(again, Stored)
    reader.execute("COMMIT")
    assert sqlite.journal.sweep()
    assert b"kept-by-a-reader" not in sqlite.files()
    assert erase(sqlite.journal, project, 0).swept
    reader.close()
    sqlite.close()


class NeverSweeps(SqliteJournal):
    """As if the process had died between the transaction and the sweep."""

    def sweep(self) -> bool:
        return False

    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        self.database.sweep = self.sweep  # type: ignore[method-assign]
        return super().erase(project_id, indexes, reason=reason, received_at_ms=received_at_ms)


def test_an_erasure_that_was_cut_short_is_finished_by_the_next_start(
    make_rig_of: MakeRigOf, tmp_path: Path
) -> None:
    rig = make_rig_of(NeverSweeps)
    project = rig.new_project()
    rig.journal.append([a_draft(project, payload=b'"left-in-the-wal"')])
    erase(rig.journal, project, 0)
    killed = tmp_path / "killed"
    shutil.copytree(rig.folder, killed)  # what kill -9 leaves: everything, the WAL included
    assert b"left-in-the-wal" in (killed / "journal.db-wal").read_bytes()

    database = Database(killed / "journal.db")

    assert {file.name: False for file in killed.iterdir()} == {
        file.name: b"left-in-the-wal" in file.read_bytes() for file in killed.iterdir()
    }
    assert [(None,)] == database.reader().execute("SELECT payload FROM event LIMIT 1").fetchall()
    database.close()


def test_nothing_is_stored_after_a_sweep_that_could_not_be_synced(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 3))
    sqlite.database.must_sweep()
    sqlite.disk.sync_fails = True

    with pytest.raises(JournalUnwritable, match=r"folded in.*sync failed.*restart"):
        sqlite.journal.sweep()

    sqlite.disk.sync_fails = False
    for tried in (lambda: sqlite.journal.append([a_draft(project)]), sqlite.journal.sweep):
        with pytest.raises(JournalUnwritable, match=r"folded in.*sync failed.*restart"):
            tried()
    assert "folded in" in (sqlite.journal.failure or "")


def test_an_entry_counts_from_its_commit_on_though_it_was_asked_for_before(
    sqlite: SqliteRig,
) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 1))
    with sqlite.database.transaction() as connection:
        sqlite.journal.log(connection, a_draft(project, kind=Kind.ADMINISTRATION))
        assert {project: 1} == sqlite.journal.next_indexes([project])
    assert {project: 2} == sqlite.journal.next_indexes([project])


def test_a_sweep_that_could_not_be_made_says_why_and_is_made_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sqlite = SqliteRig(tmp_path, sweep_s=0.1)
    project = sqlite.new_project()
    sqlite.journal.append([a_draft(project, payload=b'"swept-in-the-end"')])
    reader = apsw.Connection(str(sqlite.folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    assert 1 == reader.execute("SELECT count(*) FROM project").get
    assert not erase(sqlite.journal, project, 0).swept
    assert ["may still be in journal.db-wal: it is being read"] == said(caplog)
    reader.close()
    sqlite.disk.writes_left = 0

    assert not sqlite.journal.sweep()

    assert ["may still be in journal.db-wal: the disk is full"] == said(caplog)
    sqlite.disk.writes_left = None
    assert sqlite.journal.sweep()
    assert b"swept-in-the-end" not in sqlite.files()
    sqlite.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since the last time, from `may` to the reason."""
    found = ["may" + text.partition("may")[2].partition(";")[0] for text in caplog.messages]
    caplog.clear()
    return found


class Witnessed(apsw.VFS):
    """The operating system's file layer, with the files that were opened without a name."""

    def __init__(self) -> None:
        self.name = f"witnessed-{uuid.uuid4().hex}"
        self.nameless = 0
        super().__init__(self.name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        self.nameless += name is None
        return apsw.VFSFile("", name, flags)


def test_nothing_that_changes_the_journal_writes_a_file_outside_the_folder(tmp_path: Path) -> None:
    files = Witnessed()
    database = Database(tmp_path / "journal.db", vfs=files.name)
    journal = SqliteJournal(database)
    project = Registry(RegistryTables(journal)).projects.create("p").id
    journal.append([a_draft(project, payload=b"x" * 2_000) for _ in range(2_000)])

    assert 2_000 == erase(journal, project, *range(2_000)).erased

    # A statement that could fail half-way keeps what it overwrites, to undo it.
    with database.transaction() as connection:
        connection.execute("UPDATE event_1 SET leaf = leaf, payload = zeroblob(3000)")
    assert 0 == files.nameless
    journal.close()
    files.unregister()


def test_erased_bytes_are_in_no_file_where_projects_take_turns(sqlite: SqliteRig) -> None:
    # Rows of one tree that are added in the middle split its pages, and a split may leave a copy
    # of a row on the page that it has left: nothing ever zeroes that one.
    chance = random.Random(4711)
    projects = [sqlite.new_project() for _ in range(4)]
    sent: dict[tuple[int, int], bytes] = {}
    for turn in range(400):
        project = chance.choice(projects)
        drafts = []
        for n in range(chance.randint(1, 40)):
            mark = b"mark-%d-%d-%d-" % (project, turn, n)
            sent[project, sqlite.journal.next_index(project) + n] = mark
            size = chance.choice([0, 1, 5, 20, 60, 300])
            drafts.append(
                a_draft(project, payload=b'"%s"' % (mark * size), record=b'{"m":"%s"}' % mark)
            )
        sqlite.journal.append(drafts)
    for project in projects[:3]:
        mine = [index for p, index in sent if p == project]
        named = mine if project == projects[1] else chance.sample(mine, len(mine) // 20)
        for index in named:
            del sent[project, index]
        assert erase(sqlite.journal, project, *named).swept

    found = set(re.findall(rb"mark-\d+-\d+-\d+-", sqlite.files()))

    assert set() == found - set(sent.values())
    assert set() == set(sent.values()) - found


V1_SCHEMA = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY, leaf BLOB NOT NULL CHECK (length(leaf) = 96), unique_key BLOB,
    salts BLOB, record BLOB, payload BLOB
);
CREATE TABLE project (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('live', 'test')), secret BLOB NOT NULL,
    monthly_limit INTEGER, bot_policy TEXT, created_at_ms INTEGER NOT NULL
);
CREATE TABLE access_key (
    id TEXT PRIMARY KEY, project_id INTEGER, role TEXT NOT NULL, digest BLOB NOT NULL UNIQUE,
    token TEXT, prefix TEXT NOT NULL, label TEXT NOT NULL, networks TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL, expires_at_ms INTEGER, revoked_at_ms INTEGER,
    fixed INTEGER NOT NULL
);
CREATE TABLE usage (
    project_id INTEGER NOT NULL, month TEXT NOT NULL, events INTEGER NOT NULL,
    PRIMARY KEY (project_id, month)
) WITHOUT ROWID;
CREATE TABLE follower (
    name TEXT NOT NULL, project_id INTEGER NOT NULL, next_index INTEGER NOT NULL,
    PRIMARY KEY (name, project_id)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_journal_of_the_first_version_is_taken_over_whole(
    sqlite: SqliteRig, tmp_path: Path
) -> None:
    projects = [sqlite.new_project() for _ in range(3)]
    for n in range(20):
        for project in projects[:2]:
            sqlite.journal.append(numbered(project, 7, prefix=f"{n}-"))
    before = [whole_log(sqlite.journal, project) for project in projects]
    sqlite.reopen()
    old = tmp_path / "old"
    old.mkdir()
    connection = apsw.Connection(str(old / "journal.db"))
    connection.execute(V1_SCHEMA)
    connection.execute("ATTACH ? AS newest", (str(sqlite.folder / "journal.db"),))
    connection.execute("INSERT INTO event SELECT * FROM newest.event")
    connection.execute(
        "INSERT INTO project SELECT id, name, kind, secret, monthly_limit, bot_policy,"
        " created_at_ms FROM newest.project"
    )
    connection.close()

    journal = SqliteJournal(Database(old / "journal.db"))

    assert before == [whole_log(journal, project) for project in projects]
    again = journal.append(numbered(projects[0], 7, prefix="3-"))
    assert {Duplicate} == {type(outcome) for outcome in again}
    assert erase(journal, projects[0], 0).swept
    names = journal.database.reader().execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '*event*'"
    )
    assert {f"event_{project}" for project in projects} <= {name for (name,) in names}
    journal.close()


# Journals that break one promise each, and the test of the contract that must notice.


class ReusesAnIndex(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        outcomes = super().append(drafts)
        return [
            replace(o, index=max(0, o.index - 1)) if isinstance(o, Stored) else o for o in outcomes
        ]


class CountsOverAllProjects(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append([replace(draft, project_id=1) for draft in drafts])


class AnswersInReverse(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append(drafts)[::-1]


class ForgetsDuplicatesWithinAnAppend(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        seen: set[str | None] = set()
        fresh = []
        for draft in drafts:
            fresh.append(replace(draft, client_id=None) if draft.client_id in seen else draft)
            seen.add(draft.client_id)
        return super().append(fresh)


class ForgetsDuplicatesOfEarlierAppends(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        turn = self.next_index(drafts[0].project_id) if drafts else 0
        return super().append(
            [replace(d, client_id=d.client_id and f"{d.client_id}{turn}") for d in drafts]
        )


class MixesLanes(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append([replace(draft, lane=Lane.PRODUCT) for draft in drafts])

    def find(self, project_id: int, lane: Lane, client_id: str) -> Entry | None:
        return super().find(project_id, Lane.PRODUCT, client_id)


class IgnoresCase(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append(
            [replace(d, client_id=d.client_id and d.client_id.lower()) for d in drafts]
        )


class CallsEveryDuplicateTheSame(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return [
            replace(o, same_content=True) if isinstance(o, Duplicate) else o
            for o in super().append(drafts)
        ]


class StoresEveryConflictAgain(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        outcomes = super().append([replace(d, new_entry_on_conflict=False) for d in drafts])
        for place, (draft, outcome) in enumerate(zip(drafts, outcomes, strict=True)):
            if draft.new_entry_on_conflict and isinstance(outcome, Duplicate):
                (again,) = super().append([replace(draft, client_id=None)])
                assert isinstance(again, Stored)
                outcomes[place] = replace(again, conflict=True)
        return outcomes


class AllowsOneMore(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append(
            [
                replace(d, monthly_limit=None if d.monthly_limit is None else d.monthly_limit + 1)
                for d in drafts
            ]
        )


class CountsBothLanesTogether(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append([replace(d, lane=Lane.PRODUCT) for d in drafts])


class CountsAdministration(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return super().append([replace(d, kind=Kind.PRODUCT) for d in drafts])


class NeverBeginsANewMonth(SqliteJournal):
    def __init__(self, database: Database, *, clock: Clock) -> None:
        started_ms = clock()
        super().__init__(database, clock=lambda: started_ms)


class ReadsOneTooMany(SqliteJournal):
    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        return super().read(project_id, start, end + 1)


class MeasuresCharacters(SqliteJournal):
    def sizes(self, project_id: int, start: int, end: int) -> list[Size]:
        return [
            Size(len((entry.record or b"").decode()), len((entry.payload or b"").decode()))
            for entry in self.read(project_id, start, end)
        ]


class FindsTransactionsOfEveryProject(SqliteJournal):
    def find_tx(self, project_id: int, tx: bytes) -> Entry | None:
        return super().find_tx(project_id, tx) or super().find_tx(project_id - 1, tx)


class TakesTheNearestTransaction(SqliteJournal):
    def find_tx(self, project_id: int, tx: bytes) -> Entry | None:
        return next(
            iter(self.read(project_id, self._first_index_from(project_id, tx), 10**6)), None
        )


class TrustsTransactionIds(SqliteJournal):
    def received_between(
        self, project_id: int, from_ms: int, to_ms: int | None, *, start: int = 0
    ) -> list[tuple[int, int]]:
        def first_from(at_ms: int) -> int:
            bounded = min(max(at_ms, 0), (1 << 48) - 1)
            return self._first_index_from(project_id, (bounded << 80).to_bytes(16, "big"))

        end = self.next_index(project_id) if to_ms is None else first_from(to_ms)
        first = max(first_from(from_ms), start)
        return [(first, end)] if first < end else []


class LooksAtFullBlocksAlone(SqliteJournal):
    def received_between(
        self, project_id: int, from_ms: int, to_ms: int | None, *, start: int = 0
    ) -> list[tuple[int, int]]:
        full = self.next_index(project_id) // BLOCK * BLOCK
        found = super().received_between(project_id, from_ms, to_ms, start=start)
        return [(first, min(behind, full)) for first, behind in found if first < full]


class ForgetsTheLastTransaction(SqliteJournal):
    def _last_tx(self) -> bytes | None:
        return None


class RemembersTheLastTransactionOfOneProject(SqliteJournal):
    def _last_tx(self) -> bytes | None:
        return next((entry.leaf.tx for entry in reversed(self.newest())), None)


class SwapsSalts(SqliteJournal):
    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        return [
            replace(e, payload_salt=e.record_salt, record_salt=e.payload_salt)
            for e in super().read(project_id, start, end)
        ]


class SaltsOnce(SqliteJournal):
    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        return [
            replace(e, record_salt=e.payload_salt) for e in super().read(project_id, start, end)
        ]


class ForgetsErasedIds(SqliteJournal):
    def find(self, project_id: int, lane: Lane, client_id: str) -> Entry | None:
        entry = super().find(project_id, lane, client_id)
        return None if entry is None or entry.payload is None else entry


class KeepsSalts(SqliteJournal):
    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        salts = [
            (project_id << 40 | entry.index, entry.payload_salt + entry.record_salt)
            for entry in self.read(project_id, 0, 1_000)
            if entry.payload_salt is not None and entry.record_salt is not None
        ]
        done = super().erase(project_id, indexes, reason=reason, received_at_ms=received_at_ms)
        with self.database.transaction() as connection:
            connection.executemany(
                f"UPDATE event_{project_id} SET salts = ?2 WHERE id = ?1 AND payload IS NULL", salts
            )
        return done


class LeavesTheOldBytes(SqliteJournal):
    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        with self.database.transaction() as connection:
            connection.execute("PRAGMA secure_delete = OFF")
        return super().erase(project_id, indexes, reason=reason, received_at_ms=received_at_ms)


class ErasesEverything(SqliteJournal):
    def _refuse_unerasable(self, project_id: int, indexes: Sequence[int]) -> None:
        pass


class ForgetsTheKeys(SqliteJournal):
    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        done = super().erase(project_id, indexes, reason=reason, received_at_ms=received_at_ms)
        self._keys._recent.clear()
        return done


class ErasesAgain(SqliteJournal):
    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        done = super().erase(project_id, indexes, reason=reason, received_at_ms=received_at_ms)
        return replace(done, erased=done.erased + done.already, already=0)


class CommitsOneByOne(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        return [outcome for draft in drafts for outcome in super(type(self), self).append([draft])]


class NeverSyncs(SqliteJournal):
    def __init__(self, database: Database, *, clock: Clock) -> None:
        database._writer.execute("PRAGMA synchronous = OFF")
        super().__init__(database, clock=clock)


class TriesAgainAfterAFailedSync(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        self.database._failure = None
        return super().append(drafts)


class SwallowsFailures(SqliteJournal):
    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        try:
            return super().append(drafts)
        except JournalUnwritable:
            return [OverLimit() for _ in drafts]


Promise = Callable[[Any, Rig], None]
C = JournalContract
R = ReadingContract

BROKEN: list[tuple[type[SqliteJournal], Promise]] = [
    (ReusesAnIndex, C.test_the_indexes_of_each_project_are_contiguous_from_0),
    (CountsOverAllProjects, C.test_the_indexes_of_each_project_are_contiguous_from_0),
    (AnswersInReverse, C.test_outcomes_come_in_the_order_of_the_drafts),
    (
        ForgetsDuplicatesWithinAnAppend,
        C.test_a_client_id_that_stands_twice_in_one_append_is_stored_once,
    ),
    (ForgetsDuplicatesOfEarlierAppends, C.test_a_client_id_is_stored_once_however_often_it_is_sent),
    (MixesLanes, C.test_the_lanes_never_collide),
    (IgnoresCase, C.test_client_ids_are_compared_to_the_letter),
    (CallsEveryDuplicateTheSame, C.test_a_duplicate_says_whether_its_content_is_that_of_the_first),
    (StoresEveryConflictAgain, C.test_two_that_collide_within_one_append_are_both_stored),
    (AllowsOneMore, C.test_the_monthly_limit_is_exact_over_many_appends_and_a_restart),
    (CountsBothLanesTogether, C.test_each_lane_has_a_month_of_its_own),
    (CountsAdministration, C.test_only_product_and_audit_events_are_counted),
    (NeverBeginsANewMonth, C.test_each_month_begins_with_nothing_used),
    (ReadsOneTooMany, R.test_a_range_is_half_open_and_may_reach_beyond_the_log),
    (MeasuresCharacters, R.test_the_sizes_of_a_range_are_those_of_what_is_read),
    (
        FindsTransactionsOfEveryProject,
        R.test_each_entry_is_found_by_its_client_id_and_by_its_transaction_id,
    ),
    (TakesTheNearestTransaction, R.test_an_unknown_id_is_not_found),
    (
        TrustsTransactionIds,
        R.test_what_was_received_within_a_time_is_found_in_a_long_log_and_after_a_restart,
    ),
    (
        LooksAtFullBlocksAlone,
        R.test_what_was_received_within_a_time_is_found_in_a_long_log_and_after_a_restart,
    ),
    (ForgetsTheLastTransaction, C.test_transaction_ids_grow_with_the_index_whatever_the_clock_does),
    (
        RemembersTheLastTransactionOfOneProject,
        C.test_an_id_is_greater_than_every_projects_before_a_clock_that_was_set_back,
    ),
    (SwapsSalts, C.test_leaf_and_commitments_are_recomputed_from_what_is_read),
    (SaltsOnce, C.test_no_salt_is_ever_used_twice),
    (ForgetsErasedIds, R.test_an_erased_entry_keeps_its_place_and_its_ids_and_loses_its_content),
    (KeepsSalts, C.test_erased_bytes_are_in_no_file),
    (LeavesTheOldBytes, C.test_erased_bytes_are_in_no_file),
    (NeverSweeps, C.test_an_erasure_is_an_entry_that_says_what_was_erased),
    (
        ErasesEverything,
        functools.partial(C.test_an_entry_of_the_logs_own_is_never_erased, kind=Kind.ERASURE),
    ),
    (
        ErasesEverything,
        functools.partial(C.test_an_index_that_is_not_there_keeps_everything, unknown=3),
    ),
    (
        ForgetsTheKeys,
        functools.partial(
            C.test_a_late_resend_of_an_erased_event_brings_nothing_back, new_entry_on_conflict=False
        ),
    ),
    (ErasesAgain, C.test_what_was_erased_before_is_passed_over),
    (CommitsOneByOne, R.test_readers_see_whole_appends_while_a_writer_adds),
    (NeverSyncs, C.test_what_was_answered_survives_a_power_cut_at_once),
    (TriesAgainAfterAFailedSync, C.test_after_a_failed_sync_nothing_is_stored_until_the_restart),
    (SwallowsFailures, C.test_a_failed_append_uses_nothing_of_the_month),
]


@pytest.mark.parametrize(
    ("broken", "promise"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN]
)
def test_the_contract_notices_a_journal_that(
    broken: type[SqliteJournal], promise: Promise, make_rig_of: MakeRigOf
) -> None:
    # SQLError: with a power cut even a project's table may be lost.
    with pytest.raises((AssertionError, pytest.fail.Exception, apsw.SQLError)):
        promise(JournalContract(), make_rig_of(broken))


# A fault is enough here; shrinking it to the smallest one takes a minute.
FIRST_FAULT = settings(
    MODEL_SETTINGS,
    max_examples=100,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    database=None,
)


@pytest.mark.parametrize("broken", [ReusesAnIndex, MixesLanes, CallsEveryDuplicateTheSame])
def test_the_model_notices_a_journal_that(
    broken: type[SqliteJournal], make_rig_of: MakeRigOf
) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine_for(lambda: make_rig_of(broken)), settings=FIRST_FAULT)
