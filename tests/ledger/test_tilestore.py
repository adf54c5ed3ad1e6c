"""Tiles in a folder keep the promises of a tile store, and the contract notices stores that do not.

The faults are the file system's own: a folder that may not be written, a name that is taken.
"""

import os
import resource
import shutil
import signal
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from indelible import durable
from indelible.errors import IndelibleError, TileConflict, TileMalformed, TileMissing
from indelible.ledger.format.layout import CHECKPOINT
from indelible.ledger.format.tile import ENTRIES, WIDTH, ReadTiles, Tile
from indelible.ledger.tilestore import FolderTiles
from tests.ledger.tilestore import MakeTiles, TileStoreContract, bundle, hashes


class TestFolderTiles(TileStoreContract):
    @pytest.fixture
    def make_tiles(self) -> MakeTiles:
        return FolderTiles


# Stores that break a promise, each with the test of the contract that must notice it.


class Overwrites(FolderTiles):
    def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        for tile, content in tiles:
            path = self.folder / tile.path
            durable.keep_folder(path.parent)
            durable.write_file(path, content)


class KeepsTheOldInSilence(FolderTiles):
    def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        super().write([one for one in tiles if not (self.folder / one[0].path).exists()])


class ForgetsTheWidth(FolderTiles):
    def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        super().write([(tile._replace(width=3), content) for tile, content in tiles])


class KnowsNoFallback(FolderTiles):
    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        if not all((self.folder / tile.path).exists() for tile in tiles):
            raise TileMissing
        return super().read(tiles)


class FallsBackToTheWholeTile(FolderTiles):
    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        there = [(self.folder / tile.path).exists() for tile in tiles]
        return super().read(
            [tile if is_there else tile.full for tile, is_there in zip(tiles, there, strict=True)]
        )


class CutsBundlesAsTiles(FolderTiles):
    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        return [
            one[: tile.width * 98] if tile.level == ENTRIES else one
            for tile, one in zip(tiles, super().read(tiles), strict=True)
        ]


class ReadsOutOfOrder(FolderTiles):
    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        return super().read(sorted(tiles))


class AnswersEmptyForMissing(FolderTiles):
    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        there = [tile for tile in tiles if not self.missing([tile])]
        held = dict(zip(there, super().read(there), strict=True))
        return [held.get(tile, b"") for tile in tiles]


class ReplacesNothing(FolderTiles):
    def replace(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        self.write([one for one in tiles if self.missing([one[0]])])


class ReadsWholeTilesInABatch(FolderTiles):
    @contextmanager
    def reader(self) -> Iterator[ReadTiles]:
        with super().reader() as read:
            yield lambda tiles: read([tile.full for tile in tiles])


class DiscardsFullTiles(FolderTiles):
    def discard_partials(self, tiles: Sequence[Tile]) -> None:
        super().discard_partials(tiles)
        for tile in tiles:
            (self.folder / tile.path).unlink(missing_ok=True)


class CountsCoveredAsMissing(FolderTiles):
    def missing(self, tiles: Iterable[Tile]) -> list[Tile]:
        return [tile for tile in tiles if not (self.folder / tile.path).exists()]


class PublishesInPlace(FolderTiles):
    def publish(self, name: str, note: str) -> None:
        durable.keep_folder(self.folder)
        (self.folder / name).write_text(note)


class PublishesOnce(FolderTiles):
    def publish(self, name: str, note: str) -> None:
        if self.published(name) is None:
            super().publish(name, note)


class KeepsItInMemory(FolderTiles):
    opened = count()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / str(next(self.opened)))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Overwrites, "test_other_bytes_at_the_same_place_are_refused_and_change_nothing"),
        (KeepsTheOldInSilence, "test_other_bytes_at_the_same_place_are_refused_and_change_nothing"),
        (ForgetsTheWidth, "test_each_width_and_level_is_a_place_of_its_own"),
        (KnowsNoFallback, "test_a_partial_tile_that_is_gone_is_the_beginning_of_the_full_one"),
        (
            FallsBackToTheWholeTile,
            "test_a_partial_tile_that_is_gone_is_the_beginning_of_the_full_one",
        ),
        (CutsBundlesAsTiles, "test_a_partial_tile_that_is_gone_is_the_beginning_of_the_full_one"),
        (ReadsOutOfOrder, "test_what_was_written_is_read_back_in_the_order_asked"),
        (AnswersEmptyForMissing, "test_a_tile_that_was_never_written_is_missing"),
        (ReplacesNothing, "test_a_tile_that_is_replaced_is_another_one_from_then_on"),
        (ReadsWholeTilesInABatch, "test_a_reader_for_a_few_calls_reads_what_read_does"),
        (DiscardsFullTiles, "test_partials_that_were_discarded_are_read_from_the_full_tile"),
        (CountsCoveredAsMissing, "test_missing_is_what_read_would_not_find"),
        (PublishesInPlace, "test_a_reader_sees_one_note_or_the_other_and_never_a_part"),
        (PublishesOnce, "test_nothing_is_published_at_first_and_then_the_newest"),
        (KeepsItInMemory, "test_it_is_still_there_when_the_store_is_opened_again"),
    ],
)
def test_the_contract_notices_a_store_that_breaks_a_promise(
    broken: type[FolderTiles], test: str, tmp_path: Path
) -> None:
    arguments: dict[str, object] = {}
    if test.startswith("test_other_bytes"):
        arguments["other"] = hashes(2, 9)
    if "beginning_of_the_full" in test:
        arguments["width"] = 128
    if "opened_again" in test:
        arguments |= {"make_tiles": broken, "tmp_path": tmp_path}
    else:
        arguments["tiles"] = broken(tmp_path / "log")

    with pytest.raises((AssertionError, pytest.fail.Exception, IndelibleError)):
        getattr(TestFolderTiles(), test)(**arguments)


# Files


def test_a_write_that_is_broken_off_leaves_nothing_in_its_place(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path / "log")
    tiles.write([(Tile(0, 0, 2), hashes(2))])

    with no_room(), pytest.raises(OSError, match=r"in part only|too large"):
        tiles.write([(Tile(0, 0), hashes(WIDTH))])

    assert [Tile(0, 0)] == tiles.missing([Tile(0, 0)])
    tiles.write([(Tile(0, 0), hashes(WIDTH))])
    assert [hashes(WIDTH)] == tiles.read([Tile(0, 0)])
    assert [] == drafts_in(tmp_path)


def test_a_note_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path / "log")
    tiles.publish(CHECKPOINT, "first\n")

    with no_room(), pytest.raises(OSError, match=r"in part only|too large"):
        tiles.publish(CHECKPOINT, "second" * 1000)

    assert "first\n" == tiles.published(CHECKPOINT)
    assert [] == drafts_in(tmp_path)


def test_tidy_takes_away_what_a_killed_writer_left_and_nothing_else(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path / "log")
    tiles.write([(Tile(0, 0, 2), hashes(2)), (Tile(ENTRIES, 0, 2), bundle(2))])
    tiles.publish(CHECKPOINT, "note\n")
    left = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for path in left:
        path.with_name(f".{path.name}{durable.DRAFT_SUFFIX}").write_bytes(b"half of")

    tiles.tidy()

    assert left == sorted(path for path in tmp_path.rglob("*") if path.is_file())


def test_a_draft_that_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path / "log")
    place = tiles.folder / Tile(0, 0, 2).path
    place.parent.mkdir(parents=True)
    (place.parent / f".{place.name}{durable.DRAFT_SUFFIX}").write_bytes(b"x" * 10_000)

    tiles.write([(Tile(0, 0, 2), hashes(2))])

    assert [hashes(2)] == tiles.read([Tile(0, 0, 2)])
    assert [] == drafts_in(tmp_path)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    tiles = FolderTiles(tmp_path / "log")
    (tiles.folder / "tile").mkdir(parents=True)
    (tiles.folder / "tile/0").symlink_to(elsewhere)
    one = (Tile(0, 0, 2), hashes(2))

    for put in (tiles.write, tiles.replace):
        with pytest.raises(TileConflict, match="is a link"):
            put([one])

    assert [] == list(elsewhere.iterdir())


@pytest.mark.parametrize("which", ["tile", "tile/0", "tile/0/000.p"])
def test_nor_through_a_folder_that_becomes_a_link_later(tmp_path: Path, which: str) -> None:
    tiles = FolderTiles(tmp_path / "log")
    tiles.write([(Tile(0, 0, 2), hashes(2))])
    folder, aside = tiles.folder / which, tmp_path / "aside"
    folder.rename(aside)
    folder.symlink_to(aside)
    before = sorted(aside.rglob("*"))

    for put in (tiles.write, tiles.replace):
        with pytest.raises(TileConflict, match="is a link"):
            put([(Tile(0, 0, 3), hashes(3))])

    assert before == sorted(aside.rglob("*"))


def test_a_tile_that_is_a_link_or_a_pipe_is_read_by_nobody(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path / "log")
    tiles.write([(Tile(0, n), hashes(WIDTH)) for n in range(3)])
    (tiles.folder / Tile(0, 0).path).unlink()
    (tiles.folder / Tile(0, 0).path).symlink_to(tiles.folder / Tile(0, 2).path)
    (tiles.folder / Tile(0, 1).path).unlink()
    os.mkfifo(tiles.folder / Tile(0, 1).path)

    with tiles.reader() as read:
        for read_tiles in (tiles.read, read):
            for tile in (Tile(0, 0), Tile(0, 1)):
                with pytest.raises(TileMalformed):
                    read_tiles([tile])


def test_a_folder_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path / "log")
    tiles.write([(Tile(0, 0, 2), hashes(2))])
    shutil.rmtree(tiles.folder)

    tiles.write([(Tile(0, 0, 3), hashes(3))])
    tiles.publish(CHECKPOINT, "note\n")

    assert [hashes(3)] == tiles.read([Tile(0, 0, 3)])
    assert "note\n" == tiles.published(CHECKPOINT)


def test_a_private_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "key", b"secret", mode=0o600)

    assert 0o600 == stat.S_IMODE((tmp_path / "key").stat().st_mode)


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow beyond one KiB: a disk that is full within a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def drafts_in(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names if name.endswith(".tmp")]
