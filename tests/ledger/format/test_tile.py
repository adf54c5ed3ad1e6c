"""Tiles against a recursion of their own, for every size to 600; paths and bundles both ways."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import TileMalformed
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    Tile,
    TileHashes,
    check_width,
    decode_entries,
    encode_entries,
    hashes_of,
    parse_path,
    root_of_full,
    tile_at,
    tiles_between,
)
from indelible.ledger.format.tree import (
    Frontier,
    Hashes,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    prove_root,
    root_of,
)

LARGEST = 600
LEAVES = [leaf_hash(str(i).encode()) for i in range(LARGEST)]
# Every aligned run of 256, once: what stands one level up.
ABOVE = [root_of(LEAVES[at : at + WIDTH]) for at in range(0, LARGEST - WIDTH + 1, WIDTH)]

PATHS = [
    (Tile(0, 0), "tile/0/000"),
    (Tile(0, 5), "tile/0/005"),
    (Tile(0, 999), "tile/0/999"),
    (Tile(0, 1000), "tile/0/x001/000"),
    (Tile(1, 1234067), "tile/1/x001/x234/067"),
    (Tile(63, 0, 1), "tile/63/000.p/1"),
    (Tile(0, 273, 112), "tile/0/273.p/112"),
    (Tile(2, 0, 255), "tile/2/000.p/255"),
    (Tile(ENTRIES, 7), "tile/entries/007"),
    (Tile(ENTRIES, 1234067, 8), "tile/entries/x001/x234/067.p/8"),
    (Tile(0, 2**56 - 1), "tile/0/x072/x057/x594/x037/x927/935"),
]

NOT_PATHS = [
    "",
    "checkpoint",
    "tile/0/5",
    "tile/0/05",
    "tile/0/0005",
    "tile/0/x000/005",  # a leading group of zeros
    "tile/0/x000/x001/005",
    "tile/0/001/005",  # no x
    "tile/0/x001/x005",
    "tile/64/000",
    "tile/00/000",
    "tile/-1/000",
    "tile/data/000",
    "tile/8/0/000",  # with the height, as Go writes it
    "tile/0/000.p/0",
    "tile/0/000.p/01",
    "tile/0/000.p/256",
    "tile/0/000.p/257",
    "tile/0/000.p/999",
    "tile/0/000.p/1000",
    "tile/0/000.p/",
    "tile/0/000.p",
    "tile/0/000/",
    "/tile/0/000",
    "tile//000",
    "tile/0/000\n",
    "tile/0/\u0660\u0660\u0660",
    "tile/0/../000",
    "tile/entries/",
    "tile/0/" + "x001/" * 6 + "000",
    "tile/0/" + "x001/" * 5_000 + "000",  # more digits than int() takes
]


@pytest.mark.parametrize(("tile", "path"), PATHS)
def test_a_path_is_read_as_it_is_written(tile: Tile, path: str) -> None:
    assert path == tile.path
    assert tile == parse_path(path)
    assert tile.full == parse_path(path.partition(".p/")[0])


@pytest.mark.parametrize("path", NOT_PATHS, ids=lambda path: path[:40])
def test_no_other_spelling_is_a_path(path: str) -> None:
    assert parse_path(path) is None


@given(
    st.builds(
        Tile,
        level=st.integers(ENTRIES, 63),
        number=st.integers(0, 2**56 - 1),
        width=st.integers(1, WIDTH),
    )
)
def test_every_tile_has_one_path(tile: Tile) -> None:
    assert tile == parse_path(tile.path)


@given(st.text(alphabet="tile/entrsx0123456789.p-", max_size=40))
def test_what_is_read_as_a_path_is_written_the_same(path: str) -> None:
    tile = parse_path(path)
    assert tile is None or path == tile.path


def test_every_size_to_600_has_the_tiles_of_the_recursion() -> None:
    for size in range(1, LARGEST + 1):
        tiles = list(tiles_between(0, size))
        assert len(set(tiles)) == len(tiles)
        assert set(_tiles(size)) == {tile for tile in tiles if tile.level != ENTRIES}
        bundles = {tile._replace(level=0) for tile in tiles if tile.level == ENTRIES}
        assert {tile for tile in tiles if tile.level == 0} == bundles
        assert all(tile == tile_at(tile.level, tile.number, size) for tile in tiles)
        assert all(1 <= tile.width <= WIDTH for tile in tiles)


def test_a_tree_that_grew_has_the_tiles_of_both_and_the_old_partial_ones_wider() -> None:
    sizes = [*range(1, 10), *range(250, 262), *range(508, 518), 599, 600]
    for new in sizes:
        for old in (0, *sizes):
            added = set(tiles_between(old, new))
            assert set(tiles_between(0, new)) - set(tiles_between(0, old)) == added or old >= new
            if old >= new:
                assert set() == added


@pytest.mark.parametrize(
    ("size", "partial"),
    [
        (255, {Tile(0, 0, 255)}),
        (256, {Tile(1, 0, 1)}),
        (257, {Tile(0, 1, 1), Tile(1, 0, 1)}),
        (65_535, {Tile(0, 255, 255), Tile(1, 0, 255)}),
        (65_536, {Tile(2, 0, 1)}),
        (70_000, {Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)}),
    ],
)
def test_a_width_is_what_the_size_leaves_over(size: int, partial: set[Tile]) -> None:
    tiles = [tile for tile in tiles_between(0, size) if tile.level != ENTRIES]
    assert partial == {tile for tile in tiles if tile.width < WIDTH}
    # floor(size / 256^l) hashes stand at level l, and none is counted twice
    for level in range(4):
        held = sum(tile.width for tile in tiles if tile.level == level)
        assert size // WIDTH**level == held


def test_the_largest_tree_ends_at_the_last_level() -> None:
    top = 1 << (8 * 63)
    tiles = list(tiles_between(top - 1, top))
    assert [*range(64)] == sorted({tile.level for tile in tiles} - {ENTRIES})


def test_every_root_to_600_is_found_in_tiles() -> None:
    frontier = Frontier()
    for size in range(1, LARGEST + 1):
        frontier.append([LEAVES[size - 1]])
        assert frontier.root() == prove_root(TileHashes(_read, size), size)


def test_the_roots_of_full_tiles_are_the_hashes_of_the_next_level() -> None:
    for number, root in enumerate(ABOVE):
        (data,) = _read([Tile(0, number)])
        assert root == root_of_full(data)
        assert LEAVES[number * WIDTH : (number + 1) * WIDTH] == hashes_of(data)


def test_proofs_from_tiles_are_those_from_the_leaves() -> None:
    for size in (1, 2, 255, 256, 257, 300, 511, 512, 513, 600):
        tiles, direct = TileHashes(_read, size), Hashes(LEAVES[:size])
        for index in {0, 1, size // 3, size // 2, 255, 256, size - 2, size - 1}:
            if 0 <= index < size:
                expected = prove_inclusion(direct, index, size)
                assert expected == prove_inclusion(tiles, index, size)
        for old in {1, 2, size // 2, 255, 256, 257, size - 1}:
            if 0 < old <= size:
                expected = prove_consistency(direct, old, size)
                assert expected == prove_consistency(tiles, old, size)


def test_a_proof_asks_for_each_tile_once_and_for_a_handful() -> None:
    asked: list[Tile] = []

    def read(tiles: Sequence[Tile]) -> list[bytes]:
        asked.extend(tiles)
        return _read(tiles)

    for index in range(0, LARGEST, 7):
        asked.clear()
        prove_inclusion(TileHashes(read, LARGEST), index, LARGEST)
        assert len(set(asked)) == len(asked) <= 3
        assert all(tile == tile_at(tile.level, tile.number, LARGEST) for tile in asked)


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(64), bytes(8191), bytes(8193)])
def test_a_tile_of_another_length_is_none(wrong: bytes) -> None:
    for tile in (Tile(0, 0), Tile(0, 0, 3)):
        with pytest.raises(TileMalformed, match="tile/0/000"):
            check_width(tile, wrong)
    with pytest.raises(TileMalformed):
        prove_root(TileHashes(lambda tiles: [wrong for _ in tiles], 3), 3)


ENTRIES_OF = [b"", b"a", bytes(96), b"\xff" * 65_535, b"z"]
BUNDLE = Tile(ENTRIES, 0, len(ENTRIES_OF))


def test_a_bundle_is_big_endian_lengths_and_bytes() -> None:
    assert b"\x00\x02hi\x00\x00\x01\x00" + bytes(256) == encode_entries([b"hi", b"", bytes(256)])
    assert ENTRIES_OF == decode_entries(BUNDLE, encode_entries(ENTRIES_OF))


def test_a_bundle_cut_anywhere_is_none() -> None:
    entries = [b"", b"abc", bytes(300), b"z"]
    whole, tile = encode_entries(entries), Tile(ENTRIES, 0, len(entries))
    for end in range(len(whole)):
        with pytest.raises(TileMalformed, match="tile/entries/000"):
            decode_entries(tile, whole[:end])


@pytest.mark.parametrize("more", [b"\x00", b"\x00\x00", b"\x00\x01x", b"\xff\xff"])
def test_a_bundle_has_nothing_behind_its_last_entry(more: bytes) -> None:
    with pytest.raises(TileMalformed):
        decode_entries(BUNDLE, encode_entries(ENTRIES_OF) + more)


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=20))
def test_a_bundle_is_read_as_it_was_written(entries: list[bytes]) -> None:
    tile = Tile(ENTRIES, 3, len(entries))
    assert entries == decode_entries(tile, encode_entries(entries))


@given(st.integers(1, WIDTH), st.binary(max_size=600))
def test_whatever_is_read_as_a_bundle_is_written_the_same(width: int, data: bytes) -> None:
    try:
        entries = decode_entries(Tile(ENTRIES, 0, width), data)
    except TileMalformed:
        return
    assert (width, data) == (len(entries), encode_entries(entries))


def _tiles(size: int) -> list[Tile]:
    """Every tile of hashes, counted level by level as the format's text does."""
    tiles = []
    for level in range(3):
        full, width = divmod(size // WIDTH**level, WIDTH)
        tiles += [Tile(level, number) for number in range(full)]
        if width:
            tiles.append(Tile(level, full, width))
    return tiles


def _read(tiles: Sequence[Tile]) -> list[bytes]:
    """Tiles by the recursion: hash i of tile n at level l is a root of 256**l leaves."""
    levels = {0: LEAVES, 1: ABOVE}
    found = []
    for level, number, width in tiles:
        start = number * WIDTH
        found.append(b"".join(levels[level][start : start + width]))
    return found
