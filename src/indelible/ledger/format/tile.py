"""Tiles as C2SP tlog-tiles 0.1.0 defines them: the tree, and its entries, cut into files. Pure.

A tile at level l holds up to 256 consecutive hashes of 32 bytes: hash i of tile n is the root of
the leaves ``[(n*256 + i) * 256**l, (n*256 + i + 1) * 256**l)``. An entry bundle holds the entries
of one level-0 tile, each a big-endian u16 length and its bytes. Paths are

    tile/<L>/<N>[.p/<W>]            tile/entries/<N>[.p/<W>]

with N in groups of three digits, all but the last after an x, and W the width of a partial tile.

>>> [Tile(0, 5).path, Tile(1, 1234067).path, Tile(0, 273, 112).path, Tile(ENTRIES, 7).path]
['tile/0/005', 'tile/1/x001/x234/067', 'tile/0/273.p/112', 'tile/entries/007']
>>> [tile.path for tile in tiles_between(0, 70_000) if tile.width < WIDTH]
['tile/0/273.p/112', 'tile/entries/273.p/112', 'tile/1/001.p/17', 'tile/2/000.p/1']
>>> [tile.path for tile in tiles_between(255, 256)]
['tile/0/000', 'tile/entries/000', 'tile/1/000.p/1']

A perfect subtree of height j lies in one tile, of level j // 8, and is the root of 2**(j % 8)
hashes of it; so a proof needs a handful of tiles.
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from indelible.errors import TileMalformed
from indelible.ledger.format.tree import HASH_SIZE, Subtree, root_of_perfect

HEIGHT: Final = 8
WIDTH: Final = 256
ENTRIES: Final = -1
"""Stands where the level does in the `Tile` of an entry bundle."""

_LARGEST_LEVEL: Final = 63
_PATH: Final = re.compile(
    # Six groups of three digits hold any number below 2**56, the most level-0 tiles that indexes of
    # 64 bits need; without a bound int() would refuse what somebody typed into a URL.
    r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?",
    re.ASCII,
)
_LENGTH: Final = struct.Struct(">H")
_LONGEST_ENTRY: Final = 65_535


class Tile(NamedTuple):
    """One tile, or, at the level ENTRIES, one entry bundle; `width` 1 to 256 hashes or entries."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies below the log's prefix."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        digits = f"{self.number % 1000:03d}"
        rest = self.number // 1000
        while rest:
            digits = f"x{rest % 1000:03d}/{digits}"
            rest //= 1000
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{digits}{partial}"

    @property
    def full(self) -> "Tile":
        """The same tile at its full width."""
        return self._replace(width=WIDTH)


def parse_path(path: str) -> Tile | None:
    """The tile that lies at `path`; None when no tile can lie there."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    level, digits, width = match.groups()
    number = int(digits.replace("/", "").replace("x", ""))
    tile = Tile(
        ENTRIES if level == "entries" else int(level),
        number,
        WIDTH if width is None else int(width),
    )
    # Leading groups of zeros, and a width of 256, are other spellings: there is one only.
    return tile if tile.width <= WIDTH and tile.path == path else None


def tiles_between(old: int, new: int) -> Iterator[Tile]:
    """The tiles and bundles that a tree of `new` leaves has and one of `old` has not.

    With old = 0, all of them. Each has the width that the tree of `new` gives it.
    """
    level, old_count, new_count = 0, old, new
    while new_count > old_count:
        levels = (level, ENTRIES) if level == 0 else (level,)
        for one in levels:
            for number in range(old_count // WIDTH, -(-new_count // WIDTH)):
                yield Tile(one, number, min(WIDTH, new_count - number * WIDTH))
        if level == _LARGEST_LEVEL:
            return
        level, old_count, new_count = level + 1, old_count // WIDTH, new_count // WIDTH


def edge_of(size: int) -> list[Tile]:
    """The partial tiles of a tree of `size` leaves, one of a level at most, lowest level first.

    >>> [tile.path for tile in edge_of(65_792)], edge_of(65_536), edge_of(0)
    (['tile/1/001.p/1', 'tile/2/000.p/1'], [Tile(level=2, number=0, width=1)], [])
    """
    edge: list[Tile] = []
    level, count = 0, size
    while count:
        if count % WIDTH:
            edge.append(Tile(level, count // WIDTH, count % WIDTH))
        level, count = level + 1, count // WIDTH
    return edge


def tile_at(level: int, number: int, size: int) -> Tile:
    """The tile of `level` with `number`, as wide as a tree of `size` leaves makes it."""
    count = size >> (HEIGHT * max(level, 0))
    return Tile(level, number, min(WIDTH, count - number * WIDTH))


ReadTiles = Callable[[Sequence[Tile]], list[bytes]]
"""Reads the bytes of each tile, in the order asked."""


class TileHashes:
    """A `tree.HashReader` over the tiles of a tree of `size` leaves.

    Raises from `read`:
        TileMalformed: a tile has not the length that its width asks for.
    """

    def __init__(self, read_tiles: ReadTiles, size: int) -> None:
        self._read_tiles = read_tiles
        self._size = size

    def read(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        places = [self._place(subtree) for subtree in subtrees]
        wanted = list(dict.fromkeys(tile for tile, _, _ in places))
        held = dict(zip(wanted, self._read_tiles(wanted), strict=True))
        for tile, data in held.items():
            check_width(tile, data)
        return [_pairwise(held[tile], start, count) for tile, start, count in places]

    def _place(self, subtree: Subtree) -> tuple[Tile, int, int]:
        """The tile that a subtree's hash is made from, with the first hash and their number."""
        level, rest = divmod(subtree.level, HEIGHT)
        first = subtree.number << rest
        tile = tile_at(level, first // WIDTH, self._size)
        start = first % WIDTH
        assert start + (1 << rest) <= tile.width
        return tile, start, 1 << rest


def check_width(tile: Tile, data: bytes) -> None:
    """
    Raises:
        TileMalformed: `data` is not `tile.width` hashes.
    """
    if len(data) != tile.width * HASH_SIZE:
        raise TileMalformed(
            f"{tile.path} has {len(data):,} bytes; {tile.width} hashes are "
            f"{tile.width * HASH_SIZE:,}"
        )


def hashes_of(data: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def root_of_full(data: bytes) -> bytes:
    """The root above the 256 hashes of a full tile: one hash of the level above."""
    return _pairwise(data, 0, WIDTH)


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle; an entry has at most 65,535 bytes."""
    lengths = set(map(len, entries))
    assert max(lengths, default=0) <= _LONGEST_ENTRY
    if len(lengths) == 1:  # as all entries of our logs
        prefix = _LENGTH.pack(*lengths)
        return prefix + prefix.join(entries)
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def decode_entries(tile: Tile, data: bytes) -> list[bytes]:
    """The entries of the bundle `tile`.

    Raises:
        TileMalformed: it is cut short, or has more or fewer entries than its width.
    """
    entries = _entries_of_one_length(data)
    if entries is None:
        entries = _entries_of_any_length(tile, data)
    if len(entries) != tile.width:
        raise TileMalformed(f"{tile.path} has {len(entries)} entries, not {tile.width}")
    return entries


def _entries_of_one_length(data: bytes) -> list[bytes] | None:
    """The entries of a bundle, or None if they are not all as long as the first."""
    prefix = data[: _LENGTH.size]
    if len(prefix) < _LENGTH.size:
        return None
    step = _LENGTH.size + _LENGTH.unpack(prefix)[0]
    count, rest = divmod(len(data), step)
    if rest or any(data[at::step] != prefix[at : at + 1] * count for at in range(_LENGTH.size)):
        return None
    return [data[at + _LENGTH.size : at + step] for at in range(0, len(data), step)]


def _entries_of_any_length(tile: Tile, data: bytes) -> list[bytes]:
    """
    Raises:
        TileMalformed: it is cut short.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        behind = at + _LENGTH.size
        if behind > len(data):
            raise TileMalformed(f"{tile.path} is cut short within entry {len(entries)}")
        end = behind + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            raise TileMalformed(f"{tile.path} is cut short within entry {len(entries)}")
        entries.append(data[behind:end])
        at = end
    return entries


def _pairwise(data: bytes, start: int, count: int) -> bytes:
    """The root above `count` hashes of a tile, a power of two, from hash `start` on."""
    return root_of_perfect(hashes_of(data[start * HASH_SIZE : (start + count) * HASH_SIZE]))
