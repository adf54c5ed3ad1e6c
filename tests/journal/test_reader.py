"""The journal as another process reads it, beside a writer that goes on."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from indelible.errors import DataUnreadable, JournalNewer
from indelible.event import Lane
from indelible.journal.database import SCHEMA_VERSION, Database
from indelible.journal.keys_file import KEYS_FILE
from indelible.journal.reader import open_reader
from indelible.journal.unique import SCHEMA
from tests.journal.contract import NEW_YEAR_MS, MakeRig, a_draft, numbered
from tests.journal.reading_contract import ReadingContract
from tests.journal.rig import BesideRig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[BesideRig]:
    """A journal with a reader beside its writer."""
    rig = BesideRig(tmp_path)
    yield rig
    rig.close()


class TestSqliteReader(ReadingContract):
    """The contract, kept by a reader beside the writer."""

    @pytest.fixture
    def make_rig(self, beside: BesideRig) -> MakeRig:
        return lambda: beside


def test_a_client_id_is_found_whether_its_key_was_merged_or_not(beside: BesideRig) -> None:
    one, two = beside.new_project(), beside.new_project()
    for turn in range(70):  # 70,000 keys: the first 65,536 of them are merged
        beside.journal.append(numbered(one, 1_000, prefix=f"{turn}-"))
    beside.journal.append(numbered(two, 3, prefix="two-"))
    wait_until(lambda: merged_keys(beside.folder) >= 65_536, "the keys were not merged")

    for project, name, index in (
        (one, "0-0", 0),
        (one, "0-999", 999),
        (one, "65-534", 65_534),
        (one, "69-999", 69_999),
        (two, "two-2", 2),
    ):
        found = beside.reader.find(project, Lane.PRODUCT, name)
        assert found is not None, name
        assert index == found.index
    assert beside.reader.find(two, Lane.PRODUCT, "0-0") is None
    assert beside.reader.find(one, Lane.PRODUCT, "70-0") is None
    assert [(1, 2)] == beside.reader.received_between(two, NEW_YEAR_MS + 1, NEW_YEAR_MS + 2)


@pytest.mark.parametrize("becomes", ["is gone", "is another journal's", "is empty"])
def test_the_file_of_keys_only_ever_makes_a_search_quicker(
    beside: BesideRig, tmp_path: Path, becomes: str
) -> None:
    project = beside.new_project()
    beside.journal.append(numbered(project, 40))
    beside.journal.close()  # merges nothing: the rows have it all
    keys = beside.folder / KEYS_FILE
    keys.unlink()
    if becomes == "is another journal's":
        connection = apsw.Connection(str(keys))
        connection.execute(SCHEMA)
        stranger = b"\x01" * 16
        connection.execute(
            "INSERT INTO mark VALUES (?, ?, ?)", (project, project << 40 | 39, stranger)
        )
        connection.close()
    elif becomes == "is empty":
        keys.touch()

    for n in range(40):
        found = beside.reader.find(project, Lane.PRODUCT, f"e{n}")
        assert found is not None
        assert n == found.index
    assert [(7, 8)] == beside.reader.received_between(project, NEW_YEAR_MS + 7, NEW_YEAR_MS + 8)


def test_an_erasure_beside_a_reader_that_reads_on_leaves_no_bytes(beside: BesideRig) -> None:
    project = beside.new_project()
    beside.journal.append(
        [a_draft(project, f"e{n}", payload=b'"mark-%03d"' % n) for n in range(200)]
    )
    reads, done = 0, threading.Event()

    def read_on() -> None:
        nonlocal reads
        while not done.is_set():
            beside.reader.rows(project, 0, 200)
            beside.reader.wait(0, timeout_s=0)
            reads += 1

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read_on) for _ in range(2)]
        try:
            wait_until(lambda: reads > 10, "nothing was read")
            for first in range(0, 200, 50):
                gone = beside.journal.erase(
                    project, range(first, first + 50), reason="request", received_at_ms=1
                )
                assert (50, True) == (gone.erased, gone.swept)
        finally:
            done.set()
        for one in reading:
            one.result(60)
    assert b"mark-" not in beside.files()
    assert [None] * 200 == beside.reader.rows(project, 0, 200).payloads


def test_a_journal_that_was_replaced_is_refused_and_one_that_was_put_back_is_read(
    beside: BesideRig, tmp_path: Path
) -> None:
    project = beside.new_project()
    beside.journal.append(numbered(project, 3))
    reader, journal = beside.reader, beside.folder / "journal.db"
    away = journal.with_name("away.db")
    assert {project: 3} == reader.next_indexes([project])

    journal.rename(away)
    with pytest.raises(DataUnreadable, match=r"journal\.db is gone"):
        reader.next_index(project)
    shutil.copy(away, journal)
    for call in (
        lambda: reader.read(project, 0, 3),
        lambda: reader.find(project, Lane.PRODUCT, "e0"),
        lambda: reader.received_between(project, 0, None),
        lambda: reader.next_indexes([project]),
        reader.projects,
    ):
        with pytest.raises(DataUnreadable, match=r"journal\.db is another file than"):
            call()
    assert "another file" in (reader.failure or "")
    assert reader.wait(10**9, timeout_s=0.05) >= 0  # whoever waits is not kept

    away.replace(journal)
    assert 3 == reader.next_index(project)
    assert reader.failure is None


def test_the_ends_of_logs_are_read_from_the_file_only_after_a_commit(beside: BesideRig) -> None:
    projects = [beside.new_project() for _ in range(3)]
    reader = open_reader(beside.folder / "journal.db")
    asked: list[str] = []

    def note(_cursor: object, statement: str, _bindings: object) -> bool:
        asked.append(statement)
        return True

    reader.connection().exec_trace = note
    assert [0, 0] == list(reader.next_indexes(projects[:2]).values())
    assert 1 == len(asked)
    assert [0, 0] == list(reader.next_indexes(projects[:2]).values())
    assert 1 == len(asked)

    reader.wake()
    assert [0, 0, 0] == list(reader.next_indexes(projects).values())
    assert "UNION" not in asked[-1]  # of the third one alone

    beside.journal.append(numbered(projects[2], 2))
    assert [0, 0, 2] == list(reader.next_indexes(projects).values())
    assert 3 == len(asked)
    reader.close()


def test_what_is_no_journal_of_this_version_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(DataUnreadable, match="cannot be opened"):
        open_reader(path)
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(DataUnreadable, match=r"cannot be (read|opened)"):
        open_reader(path)
    path.unlink()
    Database(path).close()
    connection = apsw.Connection(str(path))
    for version, error in ((SCHEMA_VERSION + 1, JournalNewer), (1, DataUnreadable)):
        connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(error, match=f"schema {version}"):
            open_reader(path)
    connection.close()


def test_a_reader_sees_what_another_process_stores_though_that_is_killed_and_started_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    Database(path).close()
    reader, seen = open_reader(path), 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.journal.writer", str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert writer.stdout is not None
        for _ in range(20):
            stored = int(writer.stdout.readline())
            (project,) = reader.projects()
            assert stored < reader.next_index(project)
            assert reader.find(project, Lane.PRODUCT, f"e{stored}") is not None
            seen = reader.wait(seen, timeout_s=60)
        writer.kill()
        writer.wait(60)
        length = reader.next_index(project)
        whole = reader.read(project, 0, length)
        assert list(range(length)) == [entry.index for entry in whole]
        assert reader.failure is None
        writer.stdout.close()
    reader.close()


def test_a_reader_cannot_write(beside: BesideRig) -> None:
    project = beside.new_project()
    reader = open_reader(beside.folder / "journal.db")
    with pytest.raises(apsw.ReadOnlyError):
        reader.connection().execute(f"DELETE FROM event_{project}")
    reader.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def merged_keys(folder: Path) -> int:
    """How many keys are in the file."""
    reader = apsw.Connection(str(folder / KEYS_FILE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(reader.execute("SELECT count(*) FROM unique_key").get)
    finally:
        reader.close()
