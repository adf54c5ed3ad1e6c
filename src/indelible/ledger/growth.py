"""The tiles and bundles that new entries add to a log, or make wider."""

from collections.abc import Sequence
from typing import Final

from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    ReadTiles,
    Tile,
    check_width,
    encode_entries,
    root_of_full,
)
from indelible.ledger.format.tree import HASH_SIZE, leaf_hashes
from indelible.ledger.tilestore import TileStore

MOST_ENTRIES: Final = 65_536
"""The most that one checkpoint adds: 256 tiles."""

Made = list[tuple[Tile, bytes]]
"""Tiles and their contents."""


def integrate(
    tiles: TileStore, old: int, entries: Sequence[bytes], *, replace: bool = False
) -> None:
    """Write the tiles and bundles that `entries` add to a tree of `old` leaves.

    `replace` takes other bytes away where these belong.

    Raises:
        TileConflict, TileMissing, TileMalformed, OSError, SyncFailed.
    """
    (tiles.replace if replace else tiles.write)(added(tiles.read, old, entries))


def added(read: ReadTiles, old: int, entries: Sequence[bytes]) -> Made:
    """The tiles and bundles that `entries` add to a tree of `old` leaves, or make wider.

    `read` gives the partial ones that are there.

    Raises:
        TileMissing, TileMalformed.
    """
    made: Made = []
    number, held = divmod(old, WIDTH)
    at = 0
    while at < len(entries):
        # A bundle at a time, each in a few large steps: what it is made from stays in the cache.
        new = entries[at : at + WIDTH - held]
        at += len(new)
        bundle, tile = (Tile(level, number, held + len(new)) for level in (ENTRIES, 0))
        made.append((bundle, _begun(read, bundle, held) + encode_entries(new)))
        made.append((tile, _begun(read, tile, held) + b"".join(leaf_hashes(new))))
        number, held = number + 1, 0
    level, start = 0, old
    while roots := [root_of_full(data) for tile, data in made if _is_full(tile, level)]:
        level, start = level + 1, start // WIDTH
        made += _above(read, level, start, roots)
    return made


def _is_full(tile: Tile, level: int) -> bool:
    return tile.level == level and tile.width == WIDTH


def _above(read: ReadTiles, level: int, start: int, hashes: Sequence[bytes]) -> Made:
    """The tiles of `level` that change when `hashes` follow the first `start`, whole."""
    number, held = divmod(start, WIDTH)
    data = _begun(read, Tile(level, number), held) + b"".join(hashes)
    parts = [data[at : at + WIDTH * HASH_SIZE] for at in range(0, len(data), WIDTH * HASH_SIZE)]
    return [(Tile(level, number + n, len(part) // HASH_SIZE), part) for n, part in enumerate(parts)]


def _begun(read: ReadTiles, tile: Tile, width: int) -> bytes:
    """The content of a tile or bundle as it is now, with this width."""
    if not width:
        return b""
    before = tile._replace(width=width)
    (content,) = read([before])
    if tile.level != ENTRIES:
        check_width(before, content)
    return content
