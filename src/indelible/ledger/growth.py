"""The tiles and bundles that new entries add to a log, or make wider."""

from collections.abc import Sequence
from typing import Final

from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    ReadTiles,
    Tile,
    decode_entries,
    encode_entries,
    hashes_of,
    root_of_full,
)
from indelible.ledger.format.tree import leaf_hash
from indelible.ledger.tilestore import TileStore

MOST_ENTRIES: Final = 65_536
"""The most that one checkpoint adds: 256 tiles."""


def integrate(
    tiles: TileStore, old: int, entries: Sequence[bytes], *, replace: bool = False
) -> None:
    """Write the tiles and bundles that `entries` add to a tree of `old` leaves.

    `replace` takes other bytes away where these belong.

    Raises:
        TileConflict, TileMissing, TileMalformed, OSError, SyncFailed.
    """
    (tiles.replace if replace else tiles.write)(added(tiles.read, old, entries))


def added(read: ReadTiles, old: int, entries: Sequence[bytes]) -> list[tuple[Tile, bytes]]:
    """The tiles and bundles that `entries` add to a tree of `old` leaves, or make wider.

    `read` gives the partial ones that are there.

    Raises:
        TileMissing, TileMalformed.
    """
    made = [(tile, encode_entries(run)) for tile, run in _runs(read, ENTRIES, old, entries)]
    level, start, hashes = 0, old, [leaf_hash(entry) for entry in entries]
    while hashes:
        runs = [(tile, b"".join(run)) for tile, run in _runs(read, level, start, hashes)]
        made += runs
        hashes = [root_of_full(data) for tile, data in runs if tile.width == WIDTH]
        level, start = level + 1, start // WIDTH
    return made


def _runs(
    read: ReadTiles, level: int, start: int, added: Sequence[bytes]
) -> list[tuple[Tile, list[bytes]]]:
    """The tiles of `level` that change when `added` follows `start` hashes, whole."""
    number, held = divmod(start, WIDTH)
    items = list(added)
    if held:
        before = Tile(level, number, held)
        (content,) = read([before])
        whole = decode_entries(before, content) if level == ENTRIES else hashes_of(content)
        items = whole + items
    runs = [items[at : at + WIDTH] for at in range(0, len(items), WIDTH)]
    return [(Tile(level, number + n, len(run)), run) for n, run in enumerate(runs)]
