"""The lock store: the last checkpoint of a log changes in one step, from the one before, or not."""

import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from indelible.errors import LockMissing, LockMoved, LockUnwritable, LogForked
from indelible.layout import LOCK_FILE
from indelible.ledger.lockstore import Halt, Head, LockStore, read_halts
from tests.journal.disk import FaultyDisk

ORIGIN = "log.example/shop"


def head(size: int, root: int = 0, origin: str = ORIGIN) -> Head:
    return Head(origin, size, (root or size).to_bytes(32, "big"), f"note of {size}, {root}\n")


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[LockStore]:
    """With one log that has signed nothing but its empty tree."""
    lock = LockStore(tmp_path / LOCK_FILE, may_create=True)
    lock.create(head(0))
    yield lock
    lock.close()


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    disk = FaultyDisk()
    yield disk
    disk.unregister()


def test_the_last_checkpoint_is_the_one_that_was_entered_last(lock: LockStore) -> None:
    lock.advance(head(0), head(5))
    lock.advance(head(5), head(7))

    assert head(7) == lock.head(ORIGIN)
    assert None is lock.head("log.example/other")


def test_it_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    first = LockStore(tmp_path / LOCK_FILE, may_create=True)
    first.create(head(0))
    first.advance(head(0), head(5))
    first.close()

    again = LockStore(tmp_path / LOCK_FILE, may_create=False)

    assert head(5) == again.head(ORIGIN)
    again.close()


@pytest.mark.parametrize("old", [head(4), head(5, root=6), head(6), head(0)])
def test_nothing_is_entered_on_top_of_what_is_not_the_last(lock: LockStore, old: Head) -> None:
    lock.advance(head(0), head(5))

    with pytest.raises(LockMoved):
        lock.advance(old, head(8))

    assert head(5) == lock.head(ORIGIN)
    lock.advance(head(5), head(8))  # the store itself is well
    assert head(8) == lock.head(ORIGIN)


HALT = Halt(ORIGIN, 1_700_000_000_000, 5, "The witnesses have seen another history.")


def test_a_halted_log_never_advances_until_it_is_resumed(lock: LockStore) -> None:
    other = head(0, origin="log.example/other")
    lock.create(other)
    lock.advance(head(0), head(5))
    lock.halt(HALT)
    lock.halt(HALT._replace(size=6))  # the first reason stays

    with pytest.raises(LogForked, match="another history"):
        lock.advance(head(5), head(8))
    refused = lock.advance_all([(head(5), head(8)), (other, head(2, origin=other.origin))])

    assert [ORIGIN] == list(refused)
    assert (head(5), 2) == (lock.head(ORIGIN), size_of(lock, other.origin))
    assert [HALT] == lock.halts()
    lock.resume(ORIGIN)
    assert [] == lock.halts()
    lock.advance(head(5), head(8))
    assert head(8) == lock.head(ORIGIN)


def size_of(lock: LockStore, origin: str) -> int:
    found = lock.head(origin)
    assert found is not None
    return found.size


def test_a_halt_is_still_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    store = LockStore(path, may_create=True)
    store.create(head(0))
    assert [] == read_halts(path)
    store.halt(HALT)
    assert [HALT] == read_halts(path)
    store.close()

    again = LockStore(path, may_create=False)
    with pytest.raises(LogForked):
        again.advance(head(0), head(1))
    assert [HALT] == again.halts()
    again.close()


def test_of_many_heads_those_that_moved_are_refused_and_the_others_advance(
    lock: LockStore,
) -> None:
    origins = [f"log.example/{n}" for n in range(4)]
    for origin in origins:
        lock.create(head(0, origin=origin))
    lock.advance(head(0, origin=origins[2]), head(1, root=77, origin=origins[2]))

    pairs = [(head(0, origin=origin), head(3, origin=origin)) for origin in origins]
    refused = lock.advance_all(pairs)

    assert {origins[2]: LockMoved} == {origin: type(error) for origin, error in refused.items()}
    assert [3, 3, 1, 3] == [size_of(lock, origin) for origin in origins]
    assert {} == lock.advance_all([])


def test_a_log_is_created_once(lock: LockStore) -> None:
    with pytest.raises(LockMoved):
        lock.create(head(0, root=9))

    assert head(0) == lock.head(ORIGIN)


def test_logs_do_not_know_each_other(lock: LockStore) -> None:
    other = head(0, origin="log.example/other")
    lock.create(other)
    lock.advance(head(0), head(5))

    assert other == lock.head(other.origin)
    assert head(5) == lock.head(ORIGIN)


def test_of_two_who_race_for_each_step_one_wins(tmp_path: Path) -> None:
    stores = [LockStore(tmp_path / LOCK_FILE, may_create=True) for _ in range(2)]
    stores[0].create(head(0))
    barrier = threading.Barrier(2)

    def run(me: int) -> list[int]:
        won = []
        for size in range(40):
            old = stores[me].head(ORIGIN)
            assert old is not None
            barrier.wait(30)
            try:
                stores[me].advance(old, head(size + 1, root=1_000 * (me + 1) + size))
                won.append(size)
            except LockMoved:
                pass
            barrier.wait(30)
        return won

    with ThreadPoolExecutor(2) as threads:
        mine, theirs = threads.map(run, range(2))

    assert list(range(40)) == sorted(mine + theirs)  # every step by exactly one of the two
    last = stores[0].head(ORIGIN)
    assert last is not None
    assert 40 == last.size
    for store in stores:
        store.close()


def test_many_threads_may_use_one_store(lock: LockStore) -> None:
    def log(number: int) -> Head | None:
        origin = f"log.example/{number}"
        lock.create(head(0, origin=origin))
        for size in range(20):
            lock.advance(head(size, origin=origin), head(size + 1, origin=origin))
        return lock.head(origin)

    with ThreadPoolExecutor(4) as threads:
        assert [head(20, origin=f"log.example/{n}") for n in range(4)] == list(
            threads.map(log, range(4))
        )


# The file


def test_a_file_that_should_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LockMissing):
        LockStore(tmp_path / LOCK_FILE, may_create=False)

    assert [] == list(tmp_path.iterdir())


def test_an_empty_file_is_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()

    with pytest.raises(LockMissing):
        LockStore(tmp_path / LOCK_FILE, may_create=False)

    assert b"" == (tmp_path / LOCK_FILE).read_bytes()


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_bytes(b"not a database" * 1000)

    with pytest.raises(LockUnwritable):
        LockStore(tmp_path / LOCK_FILE, may_create=False)

    assert b"not a database" * 1000 == (tmp_path / LOCK_FILE).read_bytes()


def test_a_damaged_page_is_said_to_be_one(tmp_path: Path) -> None:
    lock = LockStore(tmp_path / LOCK_FILE, may_create=True)
    lock.create(head(0))
    lock.close()
    content = bytearray((tmp_path / LOCK_FILE).read_bytes())
    content[4096:4200] = b"\xff" * 104  # the beginning of the page of the table's rows
    (tmp_path / LOCK_FILE).write_bytes(content)

    lock = LockStore(tmp_path / LOCK_FILE, may_create=False)

    with pytest.raises(LockUnwritable):
        lock.head(ORIGIN)
    lock.close()


def test_nobody_else_may_read_it(lock: LockStore, tmp_path: Path) -> None:
    for file in tmp_path.glob(f"{LOCK_FILE}*"):
        assert 0o600 == stat.S_IMODE(file.stat().st_mode), file.name


# Faults


def test_what_was_entered_survives_a_power_cut(tmp_path: Path, disk: FaultyDisk) -> None:
    (tmp_path / "0").mkdir()
    store = LockStore(tmp_path / "0" / LOCK_FILE, may_create=True, vfs=disk.name)
    store.create(head(0))
    for size in range(1, 30):
        store.advance(head(size - 1), head(size))
        after = tmp_path / str(size)

        disk.cut_power(tmp_path / "0", after)

        survivor = LockStore(after / LOCK_FILE, may_create=False)
        assert head(size) == survivor.head(ORIGIN)
        survivor.close()
    store.close()


def test_without_syncs_a_power_cut_is_noticed(tmp_path: Path, disk: FaultyDisk) -> None:
    """The test above can fail: the same with a store that does not sync."""
    lost = 0
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        store = LockStore(folder / LOCK_FILE, may_create=True, vfs=disk.name)
        store.create(head(0))
        store._connection.execute("PRAGMA synchronous = OFF")
        store.advance(head(0), head(1))
        disk.cut_power(folder, folder / "after")
        survivor = LockStore(folder / "after" / LOCK_FILE, may_create=False)
        lost += survivor.head(ORIGIN) != head(1)
        survivor.close()
        store.close()
    assert lost > 0


def test_after_a_failed_sync_nothing_more_is_entered_and_one_of_the_two_is_on_disk(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    seen = set()
    for attempt in range(30):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        store = LockStore(folder / LOCK_FILE, may_create=True, vfs=disk.name)
        store.create(head(0))
        disk.sync_fails = True
        with pytest.raises(LockUnwritable):
            store.advance(head(0), head(1))
        disk.sync_fails = False
        with pytest.raises(LockUnwritable):
            store.advance(head(0), head(1))

        disk.cut_power(folder, folder / "after")

        survivor = LockStore(folder / "after" / LOCK_FILE, may_create=False)
        seen.add(survivor.head(ORIGIN))
        survivor.close()
        store.close()
    assert head(0) in seen
    assert seen <= {head(0), head(1)}


def test_on_a_full_disk_the_one_before_stays_until_there_is_room(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    store = LockStore(tmp_path / LOCK_FILE, may_create=True, vfs=disk.name)
    store.create(head(0))
    disk.writes_left = 0
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            store.advance(head(0), head(1))
    assert head(0) == store.head(ORIGIN)

    disk.writes_left = None
    store.advance(head(0), head(1))

    store.close()
    again = LockStore(tmp_path / LOCK_FILE, may_create=False)
    assert head(1) == again.head(ORIGIN)
    again.close()


def test_a_lock_that_somebody_holds_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    store = LockStore(tmp_path / LOCK_FILE, may_create=True)
    store.create(head(0))
    store._connection.set_busy_timeout(50)
    other = apsw.Connection(str(tmp_path / LOCK_FILE))
    with other:
        other.execute("UPDATE head SET size = size")
        with pytest.raises(OSError, match="locked"):
            store.advance(head(0), head(1))
    other.close()
    store.advance(head(0), head(1))
    assert head(1) == store.head(ORIGIN)
    store.close()
