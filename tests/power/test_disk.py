"""The disk that the stories are told on: what it keeps, what it may lose, and what it cannot miss.

Each test records a program of a few lines and looks at every state that a power cut may have left.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.power.disk import PAGE, SECTOR, Unbelievable, assert_believable, crash_points
from tests.power.recording import Call, Op, Recording, contents_of, record

Folder = dict[str, bytes | None]
Tell = Callable[[str], list[Folder]]

BEGINNING = """
import os, sys
from pathlib import Path
from tests.power.recording import fail_syncs, mark

def put(name, data, flags=os.O_CREAT):
    handle = os.open(name, os.O_WRONLY | flags)
    os.write(handle, data)
    return handle

def sync(name):
    handle = os.open(name, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)

"""


@pytest.fixture
def recorded(library: Path, tmp_path: Path) -> Callable[[str], Recording]:
    """Record a program whose current folder has a file `old` that says "before"."""

    def run(text: str) -> Recording:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "old").write_bytes(b"before")
        program = f"{BEGINNING}os.chdir(sys.argv[1])\n{textwrap.dedent(text)}"
        recording = record(library, folder, [["-c", program, folder]])
        assert_believable(recording, folder, contents_of(folder))
        return recording

    return run


@pytest.fixture
def left(recorded: Callable[[str], Recording]) -> Tell:
    """What a power cut at the program's end may leave."""

    def run(text: str) -> list[Folder]:
        recording = recorded(text)
        points = list(crash_points(recording, seed="0", wanted={len(recording.calls)}))
        return [dict(state.files) for point in points for state in point.states]

    return run


OLD: Folder = {"old": b"before"}


def test_what_was_synced_with_its_folder_is_there_whatever_happens(left: Tell) -> None:
    states = left("put('new', b'data'); sync('new'); sync('.')")

    assert [{**OLD, "new": b"data"}] == states


def test_a_file_that_was_synced_may_be_without_a_name(left: Tell) -> None:
    states = left("put('new', b'data'); sync('new')")

    assert OLD in states
    assert {**OLD, "new": b"data"} in states
    assert 2 == len(states)


def test_a_name_that_was_synced_may_be_without_its_bytes(left: Tell) -> None:
    states = left("put('new', b'data'); sync('.')")

    assert {**OLD, "new": b""} in states


def test_a_file_that_was_renamed_and_not_synced_may_be_empty_under_its_new_name(left: Tell) -> None:
    states = left("put('draft', b'after'); os.rename('draft', 'old'); sync('.')")

    assert {"old": b""} in states
    assert {"old": b"after"} in states


def test_a_rename_is_whole_or_not_at_all(left: Tell) -> None:
    states = left("os.mkdir('sub'); sync('.'); os.rename('old', 'sub/new')")

    assert {"sub": None, "old": b"before"} in states
    assert {"sub": None, "sub/new": b"before"} in states
    assert 2 == len(states)


def test_a_removed_file_may_be_back(left: Tell) -> None:
    states = left("os.unlink('old')")

    assert OLD in states
    assert {} in states


def test_a_link_may_be_missing(left: Tell) -> None:
    states = left("os.link('old', 'new')")

    assert [OLD, {**OLD, "new": b"before"}] == states


def test_a_folder_that_was_not_synced_above_takes_what_is_in_it_along(left: Tell) -> None:
    states = left("os.mkdir('sub'); put('sub/new', b'data'); sync('sub/new'); sync('sub')")

    assert OLD in states
    assert {**OLD, "sub": None, "sub/new": b"data"} in states


def test_a_folder_is_gone_only_once_all_that_was_in_it_is(left: Tell) -> None:
    states = left(
        """
        os.mkdir('sub'); put('sub/kept', b'data'); sync('sub/kept'); sync('sub'); sync('.')
        os.rename('sub/kept', 'kept')
        os.rmdir('sub')
        """
    )

    assert all(b"data" in (state.get("kept"), state.get("sub/kept")) for state in states)
    assert {**OLD, "kept": b"data"} in states
    assert {**OLD, "sub": None, "sub/kept": b"data"} in states


def test_a_file_may_be_as_long_as_before_it_was_cut(left: Tell) -> None:
    states = left("os.ftruncate(put('old', b''), 2)")

    assert [OLD, {"old": b"be"}] == states


def test_writes_reach_the_disk_in_any_order(left: Tell) -> None:
    states = left("h = put('old', b'a'); os.pwrite(h, b'b', 3); os.pwrite(h, b'c', 6)")

    contents = {state["old"] for state in states}
    assert {b"before", b"aefbrec", b"befbre", b"aefore", b"beforec"} <= contents


def test_a_write_is_torn_between_sectors_only(left: Tell) -> None:
    states = left(f"put('new', b'x' * {3 * SECTOR + 1}); sync('.')")

    sizes = {len(state["new"] or b"") for state in states}
    assert sizes <= {0, SECTOR, 2 * SECTOR, 3 * SECTOR, 3 * SECTOR + 1}
    assert sizes & {SECTOR, 2 * SECTOR, 3 * SECTOR}


def test_what_a_failed_sync_left_no_later_sync_makes_durable(left: Tell) -> None:
    states = left(
        """
        handle = put('old', b'after.')
        fail_syncs('old')
        try:
            os.fsync(handle)
        except OSError:
            fail_syncs('')
            os.fsync(handle)
        """
    )

    assert {"old": b"before"} in states
    assert {"old": b"after."} in states


def test_writing_it_again_does(left: Tell) -> None:
    states = left(
        """
        handle = put('old', b'after.')
        fail_syncs('old')
        try:
            os.fsync(handle)
        except OSError:
            fail_syncs('')
            os.pwrite(handle, b'after.', 0)
            os.fsync(handle)
        """
    )

    assert [{"old": b"after."}] == states


def test_a_page_that_was_not_written_again_stays_lost(left: Tell) -> None:
    states = left(
        f"""
        handle = put('old', b'x' * {2 * PAGE})
        fail_syncs('old')
        try:
            os.fsync(handle)
        except OSError:
            fail_syncs('')
            os.pwrite(handle, b'y', 0)
            os.fsync(handle)
        """
    )

    assert {"old": b"y" + b"x" * (PAGE - 1)} in states
    assert {"old": b"y" + b"x" * (2 * PAGE - 1)} in states


def test_no_state_is_looked_at_twice_but_where_more_was_promised(
    recorded: Callable[[str], Recording],
) -> None:
    recording = recorded("h = put('old', b'a'); mark('one'); mark('two'); os.fsync(h); os.fsync(h)")
    points = list(crash_points(recording, seed="0"))

    assert ["one", "two"] == [said["promise"] for said in recording.marks()]
    by_promises = [(len(recording.marks(point.after)), len(point.states)) for point in points]
    # Nothing, then the write, then both again after each promise; nothing new after the syncs.
    assert [(0, 1), (0, 1), (1, 2), (2, 2)] == by_promises


def test_the_same_seed_gives_the_same_states(recorded: Callable[[str], Recording]) -> None:
    recording = recorded(
        "h = put('new', b'a' * 9000); [os.pwrite(h, b'b' * 700, n) for n in range(9)]"
    )

    def tried(seed: str) -> list[str]:
        return [state.how for point in crash_points(recording, seed=seed) for state in point.states]

    assert tried("7") == tried("7")
    assert tried("7") != tried("8")


# That nothing goes by unseen


@pytest.mark.parametrize(
    "text",
    [
        "import mmap; m = mmap.mmap(os.open('old', os.O_RDWR), 6)",
        "os.posix_fallocate(os.open('old', os.O_RDWR), 0, 99)",
        "os.sendfile(os.open('new', os.O_CREAT | os.O_WRONLY), os.open('old', os.O_RDONLY), 0, 6)",
        "os.symlink('old', 'new')",
    ],
)
def test_a_change_that_cannot_be_followed_is_told(
    text: str, recorded: Callable[[str], Recording]
) -> None:
    with pytest.raises(Unbelievable, match="cannot be followed"):
        recorded(text)


def test_a_recording_that_lacks_a_call_is_not_believed(
    recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    recording = recorded("put('new', b'data'); os.rename('new', 'newer'); os.unlink('old')")

    for number, call in enumerate(recording.calls):
        calls = (*recording.calls[:number], *recording.calls[number + 1 :])
        with pytest.raises(Unbelievable):
            assert_believable(
                Recording(recording.before, calls), tmp_path, contents_of(tmp_path / "folder")
            )
        assert call.op in (Op.CREATE, Op.WRITE, Op.RENAME, Op.UNLINK)


def test_sqlite_is_seen_as_well(recorded: Callable[[str], Recording]) -> None:
    recording = recorded(
        """
        import apsw
        database = apsw.Connection('some.db')
        database.execute('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
        database.execute('CREATE TABLE t (x)')
        mark('made')
        os._exit(0)
        """
    )

    made = next(n for n, call in enumerate(recording.calls) if call.op is Op.MARK)
    assert Op.SYNC is recording.calls[made - 1].op
    assert "some.db-wal" == recording.calls[made - 1].path
    assert all(not isinstance(call, Call) or "-shm" not in call.path for call in recording.calls)
