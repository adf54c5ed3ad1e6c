"""The look-up of unique keys: derived from the rows, never missing one, whatever becomes of it."""

import collections
import hashlib
import itertools
import random
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import apsw
import pytest

from indelible.errors import JournalUnwritable
from indelible.journal import unique
from indelible.journal.contract import Duplicate
from indelible.journal.keys_file import Mark
from indelible.journal.moments import BLOCK, Block
from indelible.journal.unique import UniqueKeys
from tests.journal.contract import numbered, stored
from tests.journal.disk import FaultyDisk
from tests.journal.rig import SqliteRig

if TYPE_CHECKING:
    from _typeshed import TraceFunction

MERGED = 4_096
"""So many keys are merged into the file at once here; a server merges sixteen times as many."""


class RowsInMemory:
    """The rows of a journal with two projects, and the same in the file's eyes."""

    def __init__(self, salt: str = "") -> None:
        self._salt = salt
        self._lock = threading.Lock()
        self.keys: dict[int, list[bytes]] = {1: [], 2: []}

    def add(self, project_id: int, count: int) -> tuple[dict[bytes, int], dict[int, Mark]]:
        """Store `count` rows; what `UniqueKeys.add` is told of them."""
        with self._lock:
            log = self.keys[project_id]
            first = len(log)
            log += [self._digest(f"{project_id}/{n}") for n in range(first, first + count)]
        new = {log[n]: self._id(project_id, n) for n in range(first, first + count)}
        last = self._id(project_id, first + count - 1)
        return new, {project_id: Mark(last, self._tx(last))}

    def tx_of(self, row_id: int) -> bytes | None:
        project_id, index = row_id >> 40, row_id & (2**40 - 1)
        return self._tx(row_id) if index < len(self.keys[project_id]) else None

    def behind(self, marks: Mapping[int, Mark]) -> Iterator[tuple[int, int, bytes, bytes | None]]:
        for project_id, log in self.keys.items():
            after = marks[project_id].last_id if project_id in marks else project_id << 40
            start = after - (project_id << 40) + (project_id in marks)
            for index in range(start, len(log)):
                row_id = self._id(project_id, index)
                yield project_id, row_id, self._tx(row_id), log[index]

    def blocks(self, project_id: int, first: int, behind: int) -> list[Block]:
        return [
            Block(*[b"%d/%d" % (project_id, number)] * 2)
            for number in range(first // BLOCK, -(-behind // BLOCK))
        ]

    def expected(self) -> dict[bytes, int]:
        return {
            key: self._id(project_id, index)
            for project_id, log in self.keys.items()
            for index, key in enumerate(log)
        }

    def _id(self, project_id: int, index: int) -> int:
        return project_id << 40 | index

    def _tx(self, row_id: int) -> bytes:
        return self._digest(f"tx {row_id}")[:16]

    def _digest(self, text: str) -> bytes:
        return hashlib.sha256((self._salt + text).encode()).digest()


def filled(keys: UniqueKeys, rows: RowsInMemory, count: int, *, at_once: int = 500) -> None:
    for turn in range(0, count, at_once):
        keys.add(*rows.add(1 + turn // at_once % 2, at_once))


def assert_knows(keys: UniqueKeys, rows: RowsInMemory) -> None:
    """Every stored key is found, and no other."""
    expected = rows.expected()
    assert expected == keys.find(list(expected))
    strangers = [hashlib.sha256(b"stranger %d" % n).digest() for n in range(300)]
    assert {} == keys.find(strangers)


def until_merged(path: Path) -> None:
    """Wait until the first keys are in the file."""
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    while not reader.execute("SELECT EXISTS (SELECT * FROM unique_key)").get:
        threading.Event().wait(0.01)
    reader.close()


def test_every_key_is_found_through_many_merges_and_restarts(tmp_path: Path) -> None:
    path, rows = tmp_path / "unique.db", RowsInMemory()
    for count in (0, 500, 2 * MERGED, 500):
        keys = UniqueKeys(path, rows, merge_at=MERGED)
        filled(keys, rows, count)
        assert_knows(keys, rows)
        keys.close()


def test_every_key_is_found_once_the_file_is_asked_only_where_the_sieve_holds_back(
    tmp_path: Path,
) -> None:
    path, rows = tmp_path / "unique.db", RowsInMemory()
    for count in (0, 500, 3 * MERGED, 3 * MERGED, 1):
        keys = UniqueKeys(path, rows, merge_at=MERGED)
        assert_knows(keys, rows)
        while not keys._sieves:
            threading.Event().wait(0.01)
        assert_knows(keys, rows)
        filled(keys, rows, count)
        assert_knows(keys, rows)
        keys.close()


def test_no_key_is_missed_while_keys_are_merged(tmp_path: Path) -> None:
    rows = RowsInMemory()
    keys = UniqueKeys(tmp_path / "unique.db", rows, merge_at=MERGED)
    added: list[tuple[bytes, int]] = []
    looks = [0, 0]
    done = threading.Event()

    def look(seed: int) -> None:
        choose = random.Random(seed)
        while not done.is_set():
            known = added[:]
            chosen = [choose.choice(known) for _ in range(20)] + known[-20:] if known else []
            assert dict(chosen) == keys.find([key for key, _ in chosen])
            looks[seed] += 1

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(look, seed) for seed in range(2)]
        try:
            for turn in itertools.count():
                new, marks = rows.add(1 + turn % 2, MERGED // 16)
                keys.add(new, marks)
                added += new.items()
                looked = min(looks) > 10 or any(reader.done() for reader in readers)
                if turn >= 50 and looked:
                    break
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert_knows(keys, rows)
    keys.close()


def test_between_any_two_steps_of_taking_keys_in_all_are_found(tmp_path: Path) -> None:
    rows, taken, steps = RowsInMemory(), dict[bytes, int](), collections.Counter[str]()

    def look(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
        if frame.f_code.co_filename != unique.__file__:
            return None
        if event == "line":  # the next line of this thread waits until this has returned
            assert taken == keys.find(list(taken))
            steps[frame.f_code.co_name] += 1
        return look

    before = sys.gettrace()
    keys = UniqueKeys(tmp_path / "unique.db", rows, merge_at=4)
    try:
        sys.settrace(look)
        for turn in range(40):
            new, marks = rows.add(1 + turn % 2, 1)
            keys.add(new, marks)
            taken |= new
    finally:
        sys.settrace(before)
    keys.close()
    assert steps["_hand_over"] > 5


@pytest.mark.parametrize(
    "damage",
    [
        "missing",
        "empty",
        "not a database",
        "cut short",
        "of another version",
        "another's",
        "another's, as long",
    ],
)
def test_a_file_that_is_damaged_is_made_anew_from_the_rows(tmp_path: Path, damage: str) -> None:
    path, rows = tmp_path / "unique.db", RowsInMemory()
    keys = UniqueKeys(path, rows, merge_at=MERGED)
    filled(keys, rows, MERGED + 500)
    until_merged(path)
    keys.close()
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "not a database":
            path.write_bytes(random.Random(1).randbytes(50_000))
        case "cut short":
            path.write_bytes(path.read_bytes()[:4096])
        case "of another version":
            with apsw.Connection(str(path)) as connection:
                connection.execute("PRAGMA user_version = 1; UPDATE unique_key SET id = 0")
        case "another's":
            rows = RowsInMemory("another journal: ")
            rows.add(1, 600)
        case "another's, as long":
            lengths = {project: len(log) for project, log in rows.keys.items()}
            rows = RowsInMemory("another journal: ")
            for project, length in lengths.items():
                rows.add(project, length)

    keys = UniqueKeys(path, rows, merge_at=MERGED)
    assert_knows(keys, rows)
    filled(keys, rows, MERGED)
    assert_knows(keys, rows)
    keys.close()


def test_the_keys_of_a_journal_that_was_put_back_are_forgotten(tmp_path: Path) -> None:
    path, rows = tmp_path / "unique.db", RowsInMemory()
    keys = UniqueKeys(path, rows, merge_at=MERGED)
    filled(keys, rows, 3 * MERGED)
    until_merged(path)
    keys.close()

    del rows.keys[1][MERGED // 4 :]  # an older backup of the journal beside the newer file
    keys = UniqueKeys(path, rows, merge_at=MERGED)
    assert_knows(keys, rows)
    keys.close()


def test_after_a_power_cut_every_key_of_a_row_is_found(tmp_path: Path) -> None:
    rows, disk = RowsInMemory(), FaultyDisk()
    (tmp_path / "0").mkdir()

    def keys_of(turn: int) -> UniqueKeys:
        path = tmp_path / str(turn) / "unique.db"
        return UniqueKeys(path, rows, vfs=disk.name, merge_at=MERGED // 4)

    keys = keys_of(0)
    for turn in range(1, 4):
        # Enough for SQLite to write its log back into the file between two merges.
        filled(keys, rows, 3 * MERGED)
        disk.cut_power(tmp_path / str(turn - 1), tmp_path / str(turn))
        keys.close()
        keys = keys_of(turn)
        assert_knows(keys, rows)
    keys.close()
    disk.unregister()


def test_the_times_of_full_blocks_are_kept_as_far_as_keys_were_merged(tmp_path: Path) -> None:
    path, rows = tmp_path / "unique.db", RowsInMemory()
    keys = UniqueKeys(path, rows, merge_at=MERGED)
    count = 3 * BLOCK // MERGED + 2
    for _ in range(count):
        filled(keys, rows, MERGED)
    keys.close()
    full = [
        (rows.blocks(project, 0, len(log) // BLOCK * BLOCK)) for project, log in rows.keys.items()
    ]

    keys = UniqueKeys(path, rows, merge_at=MERGED)

    for project, expected in enumerate(full, start=1):
        kept = keys.blocks(project, 0)
        assert kept
        assert expected[: len(kept)] == kept
        assert kept[1:] == keys.blocks(project, 1)
    keys.close()
    keys = UniqueKeys(path, RowsInMemory("another"), merge_at=MERGED)
    assert [] == keys.blocks(1, 0) + keys.blocks(2, 0)
    keys.close()


def test_a_disk_that_is_full_for_a_while_loses_no_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, rows, disk = tmp_path / "unique.db", RowsInMemory(), FaultyDisk()
    keys = UniqueKeys(path, rows, vfs=disk.name, merge_at=MERGED)
    filled(keys, rows, MERGED // 2)
    disk.writes_left = 20
    filled(keys, rows, 2 * MERGED)
    assert_knows(keys, rows)
    while not caplog.messages:
        threading.Event().wait(0.01)
    disk.writes_left = None
    filled(keys, rows, MERGED)
    assert_knows(keys, rows)
    keys.close()

    keys = UniqueKeys(path, rows, vfs=disk.name, merge_at=MERGED)
    assert_knows(keys, rows)
    keys.close()
    disk.unregister()


def test_a_journal_knows_its_ids_through_merges_restarts_and_without_the_file(
    sqlite: SqliteRig,
) -> None:
    one, two = sqlite.new_project(), sqlite.new_project()
    drafts = [numbered(project, 20_000) for project in (one, two)]
    for start, log in itertools.product(range(0, 20_000, 1_000), drafts):
        stored(sqlite.journal.append(log[start : start + 1_000]))

    def assert_all_known() -> None:
        for project, log in zip((one, two), drafts, strict=True):
            again = sqlite.journal.append(log[::37] + log[-5:])
            assert {Duplicate} == {type(outcome) for outcome in again}
            assert [draft.payload for draft in log[::37] + log[-5:]] == [
                sqlite.journal.read(project, outcome.index, outcome.index + 1)[0].payload
                for outcome in again
                if isinstance(outcome, Duplicate)
            ]
            assert 20_000 == sqlite.journal.next_index(project)
            for draft in log[:: 20_000 // 7]:
                assert draft.client_id is not None
                found = sqlite.journal.find(project, draft.lane, draft.client_id)
                assert found is not None
                assert draft.payload == found.payload

    assert_all_known()
    sqlite.reopen()
    assert_all_known()
    sqlite.lose_power()
    assert_all_known()
    sqlite.journal.close()
    (sqlite.folder / "unique.db").unlink()
    sqlite.reopen()
    assert_all_known()


def test_a_damaged_page_stops_the_journal_and_the_next_start_makes_the_file_anew(
    sqlite: SqliteRig,
) -> None:
    project = sqlite.new_project()
    drafts = numbered(project, 70_000)
    for start in range(0, 70_000, 1_000):
        stored(sqlite.journal.append(drafts[start : start + 1_000]))
    path = sqlite.folder / "unique.db"
    while (sqlite.folder / "unique.db-wal").stat().st_size < 500_000:
        threading.Event().wait(0.01)  # until a merge is in the file
    sqlite.journal.close()
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = bytes(200)
    path.write_bytes(content)
    sqlite.reopen()

    with pytest.raises(JournalUnwritable):
        sqlite.journal.append(drafts[:1_000])
    sqlite.reopen()

    outcomes = sqlite.journal.append(drafts[::7])
    assert {Duplicate} == {type(outcome) for outcome in outcomes}


def test_after_a_failed_sync_of_the_keys_nothing_is_stored_and_their_file_is_not_believed(
    sqlite: SqliteRig, caplog: pytest.LogCaptureFixture
) -> None:
    project = sqlite.new_project()
    drafts = numbered(project, 70_000)
    sqlite.disk.broken = "unique.db"
    for first in range(0, len(drafts), 1_000):
        if sqlite.journal.failure is not None:
            break  # the merge of the first 65,536 has failed
        stored(sqlite.journal.append(drafts[first : first + 1_000]))
    while sqlite.journal.failure is None:
        threading.Event().wait(0.01)
    first = refused = sqlite.journal.next_index(project)

    # A disk that works again proves nothing of what it lost.
    sqlite.disk.broken = None
    for _ in range(2):
        with pytest.raises(JournalUnwritable, match=r"unique\.db"):
            sqlite.journal.append(drafts[:1])
        with pytest.raises(JournalUnwritable):
            sqlite.journal.probe()
    assert refused == sqlite.journal.next_index(project)
    assert "unique.db" in (sqlite.journal.failure or "")
    while (sqlite.folder / "unique.db").exists():  # its thread says so first, then removes it
        threading.Event().wait(0.01)
    assert "restart" in caplog.text

    sqlite.reopen()

    again = sqlite.journal.append(drafts[:first:97])
    assert {Duplicate} == {type(outcome) for outcome in again}
    assert refused == sqlite.journal.next_index(project)


@pytest.mark.slow
def test_keys_that_a_failed_sync_may_have_lost_are_read_from_the_rows(tmp_path: Path) -> None:
    path, rows, disk = tmp_path / "unique.db", RowsInMemory(), FaultyDisk()
    keys = UniqueKeys(path, rows, vfs=disk.name, merge_at=MERGED)
    filled(keys, rows, 3 * MERGED)
    disk.sync_fails = True
    for _ in range(2_000):  # until SQLite folds its WAL in, and syncs
        filled(keys, rows, MERGED)
        if keys.failure is not None:
            break
    assert "sync failed" in (keys.failure or "")
    assert not path.exists()
    keys.close()

    disk.sync_fails = False
    keys = UniqueKeys(path, rows, vfs=disk.name, merge_at=MERGED)
    assert_knows(keys, rows)
    keys.close()
    disk.unregister()
