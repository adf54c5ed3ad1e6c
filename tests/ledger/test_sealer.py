"""The sealer: what it signs is what the journal holds, whatever happens in between."""

import contextlib
import errno
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.errors import (
    LockMoved,
    RootMismatch,
    SealingStopped,
    SyncFailed,
    TileConflict,
)
from indelible.event import Level
from indelible.journal.follow import Run
from indelible.layout import LOCK_FILE
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT
from indelible.ledger.format.note import open_note
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.tile import ENTRIES, WIDTH, Tile, tiles_between
from indelible.ledger.format.tree import (
    Hashes,
    check_consistency,
    leaf_hash,
    prove_consistency,
    root_of,
)
from indelible.ledger.growth import integrate
from indelible.ledger.ledger import Choices, Ledger
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import Log
from indelible.ledger.sealer import Sealer
from indelible.ledger.soundness import Soundness
from indelible.ledger.tilestore import FolderTiles
from tests.journal.contract import NEW_YEAR_MS, ManualClock, a_draft
from tests.ledger.sealing import Parts
from tests.ledger.test_tilestore import no_room
from tests.query.log import new_log
from tests.world import product, started


class Bench:
    """The parts of a server over a folder, without its threads: it seals when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """Every checkpoint that readers could have seen, in order."""
        self.open()

    def open(self) -> None:
        self.parts = Parts(self.folder)
        self.look()

    def close(self) -> None:
        self.parts.close()

    @property
    def log(self) -> Log:
        return self.parts.log

    @property
    def project_id(self) -> int:
        return self.parts.project_id

    @property
    def size(self) -> int:
        return self.parts.journal.next_index(self.project_id)

    @property
    def lock(self) -> LockStore:
        return self.parts.ledger._lock

    @property
    def head(self) -> Head:
        head = self.lock.head(self.log.origin)
        assert head is not None
        return head

    def append(self, count: int) -> None:
        self.parts.store(count)

    def seal(self, end: int | None = None) -> None:
        self.parts.ledger.sealer.handle(self.project_id, 0, self.size if end is None else end)
        self.look()

    def look(self) -> None:
        note = self.published()
        if note not in self.notes:
            self.notes.append(note)

    def published(self) -> str:
        note = self.log.tiles.published(CHECKPOINT)
        assert note is not None
        return note

    def leaves(self) -> list[bytes]:
        return self.parts.journal.leaves(self.project_id, 0, self.size)

    def sealer(
        self,
        tiles: FolderTiles | None = None,
        publish: Callable[[Log, Head], None] = lambda log, head: None,
    ) -> Sealer:
        """Another sealer of the same log, with another tile store."""
        log = replace(self.log, tiles=tiles or self.log.tiles)
        soundness = Soundness(self.parts.journal)
        return Sealer(
            self.parts.journal,
            self.lock,
            soundness,
            log_of=lambda _: log,
            publish=publish,
            published=lambda _: None,
        )

    def check(self) -> None:
        """Every checkpoint that was ever published is of one log, and has its tiles."""
        hashes = [leaf_hash(entry) for entry in self.leaves()]
        checkpoints = [Checkpoint.parse(open_note(n, [self.log.key]).text) for n in self.notes]
        for one in checkpoints:
            assert root_of(hashes[: one.size]) == one.root
            wanted = list(tiles_between(0, one.size))
            assert [] == self.log.tiles.missing(wanted)
            for tile, held in zip(wanted, self.log.tiles.read(wanted), strict=True):
                if tile.level == 0:
                    first = tile.number * WIDTH
                    assert b"".join(hashes[first : first + tile.width]) == held
        for old, new in itertools.pairwise(checkpoints):
            assert old.size <= new.size
            proof = prove_consistency(Hashes(hashes), old.size, new.size)
            assert check_consistency(old.size, new.size, proof, old.root, new.root)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "data")
    yield bench
    bench.close()


# What may happen to a log between two checkpoints


def files_of(log: Log) -> set[Path]:
    return {path for path in (log.tiles.folder / "tile").rglob("*") if path.is_file()}


class Story:
    """What the property test does to a log, step by step."""

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        self.bench = bench
        self.chance = chance
        self.synced = files_of(bench.log)

    def append(self, count: int) -> None:
        self.bench.append(count)

    def seal(self) -> None:
        self.bench.seal()
        self.synced = files_of(self.bench.log)

    def seal_in_part(self) -> None:
        self.bench.seal(self.chance.randint(self.bench.head.size, self.bench.size))
        self.synced = files_of(self.bench.log)

    def restart(self) -> None:
        self.bench.close()
        self.bench.open()

    def lose_power_while_integrating(self) -> None:
        """Any of the files that no checkpoint covers are gone; of the rest, all is there."""
        self._integrate()
        for path in files_of(self.bench.log) - self.synced:
            if self.chance.random() < 0.5:
                path.unlink()
        self.restart()

    def lose_power_before_it_is_published(self) -> None:
        """The lock has a checkpoint that nobody has seen."""
        self.bench.sealer(publish=lambda log, head: None).handle(
            self.bench.project_id, 0, self.bench.size
        )
        self.restart()
        self.synced = files_of(self.bench.log)

    def lose_tiles(self) -> None:
        """A disk was exchanged: what is made from the journal alone is made anew."""
        for path in files_of(self.bench.log):
            path.unlink()
        self.bench.notes = self.bench.notes[-1:]  # narrower tiles are not made for older ones
        self.restart()

    def _integrate(self) -> None:
        head = self.bench.head
        leaves = self.bench.leaves()
        end = self.chance.randint(head.size, len(leaves))
        integrate(self.bench.log.tiles, head.size, leaves[head.size : end])


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from([1, 2, 3, 100, 254, 255, 256, 257]),
            st.sampled_from(
                [
                    Story.seal,
                    Story.seal,
                    Story.seal_in_part,
                    Story.restart,
                    Story.lose_power_while_integrating,
                    Story.lose_power_before_it_is_published,
                    Story.lose_tiles,
                ]
            ),
        ),
        max_size=14,
    ),
    seed=st.integers(0, 2**32),
)
def test_whatever_happens_all_that_was_ever_signed_is_one_log(
    steps: list[int | Callable[[Story], None]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "data")
        story = Story(bench, random.Random(seed))
        for step in steps:
            if isinstance(step, int):
                story.append(step)
            else:
                step(story)
            bench.check()
        story.seal()
        bench.check()
        assert bench.size == bench.head.size
        bench.close()


def test_a_log_that_was_signed_wrongly_is_noticed_by_the_check(bench: Bench) -> None:
    """The test above can fail."""
    bench.append(5)
    signer = bench.log.signer
    assert signer is not None
    bench.notes.append(signer.sign(Checkpoint(bench.log.origin, 5, bytes(32)).text))

    with pytest.raises(AssertionError):
        bench.check()


@pytest.mark.parametrize("old", [0, 1, 255, 256, 257, 511, 512])
@pytest.mark.parametrize("added", [1, 2, 255, 256, 257])
def test_a_log_that_grew_is_the_one_that_was_made_at_once(
    bench: Bench, tmp_path: Path, old: int, added: int
) -> None:
    bench.append(old)
    bench.seal()
    bench.append(added)
    bench.seal()

    fresh = FolderTiles(tmp_path / "fresh")
    integrate(fresh, 0, bench.leaves())

    wanted = list(tiles_between(0, bench.size))
    assert fresh.read(wanted) == bench.log.tiles.read(wanted)
    bench.check()


def test_partial_tiles_go_once_the_full_one_is_signed(bench: Bench) -> None:
    for count in (3, 250, 10):
        bench.append(count)
        bench.seal()

    there = sorted(str(path.relative_to(bench.log.tiles.folder)) for path in files_of(bench.log))

    size = bench.size - WIDTH
    assert [
        "tile/0/000",
        f"tile/0/001.p/{size}",
        "tile/1/000.p/1",
        "tile/entries/000",
        f"tile/entries/001.p/{size}",
    ] == there


def test_what_the_lock_has_is_not_signed_again(bench: Bench) -> None:
    bench.append(3)
    bench.seal()
    note = bench.published()

    bench.seal()
    bench.seal(1)

    assert note == bench.published()
    assert note == bench.head.note


# A bit that flips between the writing and the signing


class Meddling(FolderTiles):
    """Tiles that somebody, or a cosmic ray, changes right after they were written."""

    def __init__(self, folder: Path, meddle: Callable[[], None]) -> None:
        super().__init__(folder)
        self._meddle = meddle

    def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        super().write(tiles)
        self._meddle()


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize(("old", "size"), [(0, 3), (3, 5), (250, 600), (256, 512), (3, 256)])
def test_a_bit_that_flips_in_any_file_before_the_signature_is_never_signed(
    bench: Bench, old: int, size: int
) -> None:
    chance = random.Random(old * 1_000 + size)
    bench.append(old)
    bench.seal()
    bench.append(size - old)
    before = bench.published(), bench.head
    integrate(bench.log.tiles, old, bench.leaves()[old:])  # so that what is written is known
    for tile in tiles_between(old, size):
        path = bench.log.tiles.folder / tile.path
        bits = path.stat().st_size * 8
        for bit in {0, bits - 1, *(chance.randrange(bits) for _ in range(12))}:
            sealer = bench.sealer(
                Meddling(bench.log.tiles.folder, lambda path=path, bit=bit: flip(path, bit))  # type: ignore[misc]
            )

            with pytest.raises(RootMismatch):
                sealer.handle(bench.project_id, old, size)

            assert before == (bench.published(), bench.head)
            flip(path, bit)
            with pytest.raises(SealingStopped):  # and it stays stopped, though the bit is right
                sealer.handle(bench.project_id, old, size)
            assert sealer.stopped()[bench.log.origin].startswith("root_mismatch: ")
    bench.seal()
    bench.check()


def test_nor_is_one_in_a_full_tile_above_others_that_no_root_is_made_from(bench: Bench) -> None:
    old, size = WIDTH * WIDTH - 6, WIDTH * WIDTH + 4
    bench.append(old)
    bench.seal()
    bench.append(size - old)
    before = bench.head
    path = bench.log.tiles.folder / Tile(1, 0).path
    for bit in (5 * 256 + 3, WIDTH * 256 - 1):
        sealer = bench.sealer(
            Meddling(bench.log.tiles.folder, lambda bit=bit: flip(path, bit))  # type: ignore[misc]
        )

        with pytest.raises(RootMismatch):
            sealer.handle(bench.project_id, old, size)

        assert before == bench.head
        flip(path, bit)


@pytest.mark.parametrize("index", [0, 3, 4])
def test_a_leaf_that_changes_in_the_journal_before_the_signature_is_never_signed(
    bench: Bench, index: int
) -> None:
    bench.append(3)
    bench.seal()
    bench.append(2)
    before = bench.head

    def meddle() -> None:
        with bench.parts.journal.database.transaction() as connection:
            connection.execute(
                "UPDATE event_1 SET leaf = CAST(substr(leaf, 1, 64) || zeroblob(32) AS BLOB)"
                " WHERE id = ?",
                (bench.project_id << 40 | index,),
            )

    sealer = bench.sealer(Meddling(bench.log.tiles.folder, meddle))
    # One that was signed before is noticed as well while its bundle still grows.
    with pytest.raises(RootMismatch):
        sealer.handle(bench.project_id, 3, 5)

    assert before == bench.head


@pytest.mark.parametrize("old", [5, 256 + 5, 256])
@pytest.mark.parametrize("level", [0, 1, ENTRIES])
def test_a_tile_that_was_changed_since_the_last_checkpoint_is_rebuilt_before_it_is_built_upon(
    bench: Bench, old: int, level: int
) -> None:
    bench.append(old)
    bench.seal()
    tiles = [tile for tile in tiles_between(0, old) if tile.level == level and tile.width < WIDTH]
    contents = bench.log.tiles.read(tiles)
    for tile in tiles:
        flip(bench.log.tiles.folder / tile.path, 77)
    bench.append(1)

    bench.seal()

    assert old + 1 == bench.head.size
    assert contents == bench.log.tiles.read(tiles)
    bench.check()


def test_a_leaf_that_was_changed_since_the_last_checkpoint_is_not_signed(bench: Bench) -> None:
    bench.append(5)
    bench.seal()
    before = bench.head
    change_leaf(bench.folder, 3)
    bench.append(1)

    with pytest.raises(RootMismatch):
        bench.seal()

    assert before == bench.head


@pytest.mark.parametrize(
    "becomes",
    ["substr(leaf, 1, 95)", "CAST(leaf || x'00' AS BLOB)", "''"],
    ids=["shorter", "longer", "empty"],
)
def test_leaves_that_are_not_as_long_as_they_were_are_not_signed(
    bench: Bench, becomes: str
) -> None:
    bench.append(5)
    before = bench.head
    change_rows(bench.folder, f"leaf = {becomes} WHERE id & 0xFFFFFFFF = 3")

    with pytest.raises(RootMismatch):
        bench.seal()

    assert before == bench.head


def test_nor_are_two_that_together_are_as_long(bench: Bench) -> None:
    bench.append(5)
    before = bench.head
    change_rows(
        bench.folder,
        "leaf = CAST(CASE id & 0xFFFFFFFF WHEN 2 THEN substr(leaf, 1, 95) ELSE leaf || x'00' END"
        " AS BLOB) WHERE id & 0xFFFFFFFF IN (2, 3)",
    )

    with pytest.raises(RootMismatch):
        bench.seal()

    assert before == bench.head


def test_a_journal_that_has_lost_leaves_is_not_signed(bench: Bench) -> None:
    bench.append(5)
    before = bench.head

    with pytest.raises(RootMismatch):
        bench.seal(end=6)

    assert before == bench.head


def change_rows(folder: Path, change: str) -> None:
    """Change rows of the journal behind the server's back, whatever its tables demand."""
    connection = apsw.Connection(str(folder / "journal.db"))
    connection.set_busy_timeout(5_000)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(f"UPDATE event_1 SET {change}")
    connection.close()


def test_a_log_whose_files_contradict_what_was_signed_stops_alone(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server, new_log(server) as other:
        answer = server.http.post("/api/e?wait=sealed&timeout=10s", json=product())
        assert "sealed" == answer.json()["events"][0]["status"]
        change_leaf(server.data_dir, 0)
        answer = server.http.post("/api/e?wait=sealed&timeout=500ms", json=product())
        assert "receipt" not in answer.json()["events"][0]

        for _ in range(3):
            body = product(api_key=other.token)
            answer = server.http.post("/api/e?wait=sealed&timeout=5s", json=body)
            assert "receipt" in answer.json()["events"][0]

        health = server.http.get("/healthz").json()["ledger"]
        assert "failing" == health["status"]
        (alarm,) = [said for said in health["alarms"] if "not signed any further" in said]
        assert "/default is not" in alarm


def change_leaf(folder: Path, index: int) -> None:
    """Change one bit of a leaf in the journal, behind the server's back."""
    connection = apsw.Connection(str(folder / "journal.db"))
    connection.set_busy_timeout(5_000)
    rows = connection.execute("SELECT leaf FROM event_1 WHERE id & 0xFFFFFFFF = ?", (index,))
    leaf = bytearray(rows.get)
    leaf[90] ^= 4
    connection.execute(
        "UPDATE event_1 SET leaf = ? WHERE id & 0xFFFFFFFF = ?", (bytes(leaf), index)
    )
    connection.close()


def test_a_tile_that_is_there_with_other_bytes_stops_it(bench: Bench) -> None:
    bench.append(5)
    bench.log.tiles.write([(Tile(ENTRIES, 0, 5), b"other bytes")])

    with pytest.raises(TileConflict):
        bench.seal()

    assert 0 == bench.head.size


def test_while_nothing_is_signed_health_is_red_and_events_are_stored(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server:
        answer = server.http.post("/api/e?wait=sealed&timeout=10s", json=product())
        assert "sealed" == answer.json()["events"][0]["status"]
        size = len(server.events())
        until(lambda: published_size(server.data_dir) == size)
        change_leaf(server.data_dir, size - 1)

        answers = [
            server.http.post("/api/e?wait=sealed&timeout=500ms", json=product()) for _ in range(3)
        ]

        assert [200] * 3 == [answer.status_code for answer in answers]
        assert ["receipt" in answer.json()["events"][0] for answer in answers] == [False] * 3
        health = server.http.get("/healthz")
        assert 503 == health.status_code
        assert "failing" == health.json()["ledger"]["status"]
        assert health.json()["ledger"]["failure"].startswith("root_mismatch: ")
        assert "ok" == health.json()["journal"]["status"]
        assert size + 3 == len(server.events())
        assert size == published_size(server.data_dir)


def published_size(folder: Path) -> int:
    return int((folder / "ledger/default" / CHECKPOINT).read_text().split("\n")[1])


def until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


# Faults


def test_a_second_writer_is_noticed_and_nothing_more_is_signed(bench: Bench) -> None:
    bench.append(3)
    bench.seal()
    theirs = LockStore(bench.folder / LOCK_FILE, may_create=False)

    class Late(FolderTiles):
        def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
            super().write(tiles)
            head = bench.head
            theirs.advance(head, Head(head.origin, 4, bytes(32), "theirs"))

    bench.append(2)
    published: list[Head] = []
    sealer = bench.sealer(
        Late(bench.log.tiles.folder), publish=lambda log, head: published.append(head)
    )
    with pytest.raises(LockMoved):
        sealer.handle(bench.project_id, 3, 5)
    with pytest.raises(SealingStopped):
        sealer.handle(bench.project_id, 3, 5)

    assert "theirs" == bench.head.note
    assert [] == published
    theirs.close()


def test_on_a_full_disk_nothing_is_signed_until_there_is_room_again(bench: Bench) -> None:
    bench.append(3)
    bench.seal()
    before = bench.head
    bench.append(300)

    for _ in range(2):
        with no_room(), pytest.raises(OSError, match=r"in part only|too large"):
            bench.seal()
        assert before == bench.head
    assert None is bench.parts.ledger.sealer.failure

    bench.seal()
    assert bench.size == bench.head.size
    bench.check()


def test_a_failed_sync_is_never_tried_again(bench: Bench) -> None:
    class Unsynced(FolderTiles):
        fails = True

        def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
            super().write(tiles)
            if self.fails:
                raise SyncFailed("the folder")

    tiles = Unsynced(bench.log.tiles.folder)
    sealer = bench.sealer(tiles)
    bench.append(3)

    with pytest.raises(SyncFailed):
        sealer.handle(bench.project_id, 0, 3)
    tiles.fails = False
    with pytest.raises(SealingStopped, match="the folder"):
        sealer.handle(bench.project_id, 0, 3)

    assert 0 == bench.head.size


def test_a_part_of_many_tiles_that_cannot_be_written_leaves_the_log_unsigned_until_it_can_be(
    bench: Bench,
) -> None:
    class FullForAMoment(FolderTiles):
        left = 1

        def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
            if self.left and any(tile.number == 0 for tile, _ in tiles):
                self.left -= 1
                raise OSError(errno.ENOSPC, "no room")
            super().write(tiles)

    bench.append(20 * WIDTH + 7)  # more tiles than are written in one part
    before = bench.head
    sealer = bench.sealer(FullForAMoment(bench.log.tiles.folder))

    with pytest.raises(OSError, match="no room"):
        sealer.handle(bench.project_id, 0, bench.size)
    assert before == bench.head
    sealer.handle(bench.project_id, 0, bench.size)

    assert bench.size == bench.head.size
    bench.check()


def test_what_was_published_counts_as_sealed_though_a_sync_of_another_log_fails(
    bench: Bench,
) -> None:
    parts = bench.parts
    other = parts.registry.projects.create("other").id
    parts.ledger.settle()
    bench.append(2)
    parts.journal.append([a_draft(other)])
    noted: list[tuple[int, int]] = []

    def publish(log: Log, head: Head) -> None:
        if log.project_id == other:
            raise SyncFailed("the disk is gone")

    sealer = Sealer(
        parts.journal,
        bench.lock,
        Soundness(parts.journal),
        log_of=parts.ledger.logs.of_project,
        publish=publish,
        published=lambda some: noted.extend((log.project_id, head.size) for log, head in some),
    )
    runs = [Run(one, 0, parts.journal.next_index(one)) for one in (bench.project_id, other)]

    with pytest.raises(SyncFailed):
        sealer.handle_group(runs)

    assert [(bench.project_id, runs[0].end)] == noted


def test_a_checkpoint_that_could_not_be_published_is_published_when_it_can_be(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "data") as server:
        in_the_way = server.data_dir / "ledger/default" / f".{CHECKPOINT}.tmp"
        until(lambda: published_size(server.data_dir) == len(server.events()))
        in_the_way.mkdir()
        answer = server.http.post("/api/e?wait=sealed&timeout=300ms", json=product())
        result = answer.json()["events"][0]
        assert "receipt" not in result
        size = len(server.events())
        assert size > published_size(server.data_dir)

        in_the_way.rmdir()  # and no event comes after this one

        until(lambda: published_size(server.data_dir) == size)
        assert 200 == server.http.get("/healthz").status_code


def test_a_clock_that_steps_back_does_no_harm(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data")
    bench.append(3)
    clock = ManualClock(NEW_YEAR_MS)
    bench.parts.ledger.close()
    ledger = Ledger(
        bench.folder,
        journal=bench.parts.journal,
        registry=bench.parts.registry,
        choices=Choices(origin=None, seal_interval_ms=1, witness_interval_ms=1, witnesses=Policy()),
        clock=clock,
    )
    ledger.sealer.handle(bench.project_id, 0, 3)
    clock.now_ms = 0  # before the next two were received
    bench.append(2)

    assert 0 == ledger.oldest_unsealed_ms()
    ledger.sealer.handle(bench.project_id, 3, 5)

    assert None is ledger.oldest_unsealed_ms()
    times = [ledger.times(bench.project_id, index).sealed_at_ms for index in (2, 3)]
    assert [NEW_YEAR_MS, 0] == times
    assert 5 == ledger.progress.size(bench.project_id, Level.SEALED)
    ledger.close()
    with contextlib.suppress(apsw.Error):
        bench.close()
