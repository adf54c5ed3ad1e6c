"""What any tile store must do: `TileStoreContract` holds an implementation to its Protocol.

To run it, derive a class `Test…` from `TileStoreContract` and give it the fixture `make_tiles`,
which opens the store in a folder, whatever lies there.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indelible.errors import TileConflict, TileMissing
from indelible.ledger.format.layout import CHECKPOINT, NOTES
from indelible.ledger.format.tile import ENTRIES, WIDTH, Tile, encode_entries
from indelible.ledger.format.tree import HASH_SIZE
from indelible.ledger.tilestore import TileStore

MakeTiles = Callable[[Path], TileStore]


def hashes(width: int, salt: int = 0) -> bytes:
    """The content of a tile; a narrower one is the beginning of a wider one."""
    return b"".join((salt * WIDTH + n).to_bytes(HASH_SIZE, "big") for n in range(width))


def bundle(width: int) -> bytes:
    """The content of an entry bundle, with entries of many lengths."""
    return encode_entries([bytes([n]) * (n % 7 * 40) for n in range(width)])


class TileStoreContract:
    """The promises of `TileStore`."""

    @pytest.fixture
    def tiles(self, make_tiles: MakeTiles, tmp_path: Path) -> TileStore:
        return make_tiles(tmp_path / "log")

    def test_what_was_written_is_read_back_in_the_order_asked(self, tiles: TileStore) -> None:
        low, high, entries = Tile(0, 1234, 7), Tile(3, 0), Tile(ENTRIES, 1234, 7)
        tiles.write([(low, hashes(7)), (high, hashes(WIDTH, 1)), (entries, bundle(7))])

        assert [hashes(WIDTH, 1), bundle(7), hashes(7)] == tiles.read([high, entries, low])
        assert [] == tiles.read([])

    def test_it_is_still_there_when_the_store_is_opened_again(
        self, make_tiles: MakeTiles, tmp_path: Path
    ) -> None:
        make_tiles(tmp_path / "log").write([(Tile(0, 0, 3), hashes(3))])
        make_tiles(tmp_path / "log").publish(CHECKPOINT, "a note\n")

        again = make_tiles(tmp_path / "log")

        assert [hashes(3)] == again.read([Tile(0, 0, 3)])
        assert "a note\n" == again.published(CHECKPOINT)

    def test_each_width_and_level_is_a_place_of_its_own(self, tiles: TileStore) -> None:
        places = [Tile(level, number, w) for level in (0, 1) for number in (0, 1) for w in (1, 2)]
        tiles.write([(tile, hashes(tile.width, n)) for n, tile in enumerate(places)])

        expected = [hashes(tile.width, n) for n, tile in enumerate(places)]
        assert expected == tiles.read(places)

    def test_the_same_bytes_may_be_written_again(self, tiles: TileStore) -> None:
        for _ in range(2):
            tiles.write([(Tile(0, 0, 2), hashes(2)), (Tile(ENTRIES, 0, 2), bundle(2))])

        assert [hashes(2)] == tiles.read([Tile(0, 0, 2)])

    @pytest.mark.parametrize("other", [hashes(2, 9), hashes(2)[:-1], b"", hashes(2) + b"\x00"])
    def test_other_bytes_at_the_same_place_are_refused_and_change_nothing(
        self, tiles: TileStore, other: bytes
    ) -> None:
        tiles.write([(Tile(0, 0, 2), hashes(2))])

        with pytest.raises(TileConflict):
            tiles.write([(Tile(0, 0, 2), other)])

        assert [hashes(2)] == tiles.read([Tile(0, 0, 2)])

    def test_a_tile_that_was_never_written_is_missing(self, tiles: TileStore) -> None:
        tiles.write([(Tile(0, 0, 2), hashes(2))])

        for absent in (Tile(0, 0), Tile(0, 0, 1), Tile(0, 0, 3), Tile(1, 0, 2), Tile(0, 1, 2)):
            with pytest.raises(TileMissing):
                tiles.read([Tile(0, 0, 2), absent])

    @pytest.mark.parametrize("width", [1, 2, 128, 255])
    def test_a_partial_tile_that_is_gone_is_the_beginning_of_the_full_one(
        self, tiles: TileStore, width: int
    ) -> None:
        tiles.write([(Tile(0, 5), hashes(WIDTH)), (Tile(ENTRIES, 5), bundle(WIDTH))])

        assert [hashes(width)] == tiles.read([Tile(0, 5, width)])
        assert [bundle(width)] == tiles.read([Tile(ENTRIES, 5, width)])

    def test_a_partial_tile_that_is_there_is_read_as_it_is(self, tiles: TileStore) -> None:
        tiles.write([(Tile(0, 5, 2), hashes(2, 9)), (Tile(0, 5), hashes(WIDTH))])

        assert [hashes(2, 9)] == tiles.read([Tile(0, 5, 2)])

    def test_partials_that_were_discarded_are_read_from_the_full_tile(
        self, tiles: TileStore
    ) -> None:
        full, entries, neighbour = Tile(0, 0), Tile(ENTRIES, 0), Tile(0, 1, 2)
        tiles.write([(Tile(0, 0, 2), hashes(2)), (Tile(ENTRIES, 0, 2), bundle(2))])
        tiles.write([(full, hashes(WIDTH)), (entries, bundle(WIDTH)), (neighbour, hashes(2, 3))])

        for _ in range(2):
            tiles.discard_partials([full, entries])

        assert [hashes(2), bundle(2)] == tiles.read([Tile(0, 0, 2), Tile(ENTRIES, 0, 2)])
        assert [hashes(WIDTH), hashes(2, 3)] == tiles.read([full, neighbour])

    def test_a_tile_that_is_replaced_is_another_one_from_then_on(self, tiles: TileStore) -> None:
        there, new = Tile(0, 0, 2), Tile(ENTRIES, 3, 2)
        tiles.write([(there, hashes(2))])

        tiles.replace([(there, hashes(2, 5)), (new, bundle(2))])

        assert [hashes(2, 5), bundle(2)] == tiles.read([there, new])

    def test_a_reader_for_a_few_calls_reads_what_read_does(self, tiles: TileStore) -> None:
        tiles.write([(Tile(0, 0), hashes(WIDTH)), (Tile(ENTRIES, 0), bundle(WIDTH))])

        with tiles.reader() as read:
            assert [hashes(WIDTH)] == read([Tile(0, 0)])
            assert [bundle(7), hashes(7)] == read([Tile(ENTRIES, 0, 7), Tile(0, 0, 7)])
            with pytest.raises(TileMissing):
                read([Tile(0, 1)])

    def test_missing_is_what_read_would_not_find(self, tiles: TileStore) -> None:
        there = [Tile(0, 0), Tile(0, 1, 2), Tile(ENTRIES, 1234, 9), Tile(2, 0, 1)]
        covered = [Tile(0, 0, 17)]
        absent = [Tile(0, 1), Tile(0, 1, 3), Tile(ENTRIES, 0), Tile(1, 0, 1), Tile(0, 999_999)]
        tiles.write([(tile, hashes(tile.width)) for tile in there])

        assert absent == tiles.missing([*there, *covered, *absent])
        for tile in absent:
            with pytest.raises(TileMissing):
                tiles.read([tile])

    def test_nothing_is_published_at_first_and_then_the_newest(self, tiles: TileStore) -> None:
        assert [None] * len(NOTES) == [tiles.published(name) for name in NOTES]

        for name in NOTES:
            tiles.publish(name, f"{name} 1 —\n")
            tiles.publish(name, f"{name} 2 —\n")

        assert [f"{name} 2 —\n" for name in NOTES] == [tiles.published(name) for name in NOTES]

    def test_a_reader_sees_one_note_or_the_other_and_never_a_part(self, tiles: TileStore) -> None:
        notes = ["a" * 100_000, "b" * 100_000]
        tiles.publish(CHECKPOINT, notes[0])
        with ThreadPoolExecutor(1) as others:
            seen = others.submit(lambda: [tiles.published(CHECKPOINT) for _ in range(2_000)])
            for number in itertools.count(1):
                if seen.done():
                    break
                tiles.publish(CHECKPOINT, notes[number % 2])
        assert set(notes) == set(seen.result())
