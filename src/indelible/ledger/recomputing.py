"""The root of a log once more, from what the disk holds, before it is signed.

What the sealer wrote was computed downwards from leaves in memory, tile by tile. Here it is read
back, and the root is found in two ways that share nothing with that but the hash itself:

    upwards     the subtrees of the last checkpoint, which must give its root; on top of them each
                bundle, which must be the journal's leaves, read once more. A `Frontier` for each
                level carries as an odometer does: 256 hashes of one are a hash of the next.
    downwards   the tiles at the right edge, as a reader who checks a proof would use them.

On the way up every tile that was written is held to it: a full one that no root is made from today
is in somebody's proof tomorrow.
"""

from collections.abc import Sequence
from typing import Final

from indelible import leaf
from indelible.errors import IndelibleError, RootMismatch, SealingStopped
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    ReadTiles,
    Tile,
    TileHashes,
    check_width,
    encode_entries,
    root_of_full,
    tile_at,
)
from indelible.ledger.format.tree import (
    EMPTY_ROOT,
    HASH_SIZE,
    Frontier,
    fold,
    leaf_hashes,
    prove_root,
    subtrees_of,
)
from indelible.ledger.lockstore import Head
from indelible.ledger.logs import Log

_BUNDLE_BYTES: Final = WIDTH * leaf.SIZE


def recompute(log: Log, stored: bytes, old: Head, size: int) -> bytes:
    """The root at `size`, found in two ways.

    `stored` are the journal's leaves, in one piece, from the first of the last checkpoint's last
    bundle on.

    Raises:
        RootMismatch: the disk does not hold what it should. Nothing may be signed.
    """
    begin = old.size // WIDTH
    try:
        with log.tiles.reader() as read:
            growing = _Growing(read, old, size)
            for number in range(begin, -(-size // WIDTH)):
                at = (number - begin) * _BUNDLE_BYTES
                growing.add(number, leaf.split(stored[at : at + _BUNDLE_BYTES]))
            root = prove_root(TileHashes(read, size), size)
    except SealingStopped:
        raise
    except IndelibleError as error:
        raise RootMismatch(f"What was written cannot be read back: {error.message}") from error
    if root != growing.root():
        raise RootMismatch(f"Tiles and bundles give two roots at {size:,}")
    return root


class _Growing:
    """The tree of the last checkpoint, growing to `size` leaves bundle by bundle.

    Raises on building:
        RootMismatch: the tiles do not give the root that was signed.
    """

    def __init__(self, read: ReadTiles, old: Head, size: int) -> None:
        self._read = read
        self._old = old
        self._size = size
        edge = TileHashes(read, old.size).read(subtrees_of(0, old.size))
        self._levels: list[Frontier] = []
        count = old.size
        while count:
            own = (count % WIDTH).bit_count()
            self._levels.append(Frontier(count % WIDTH, edge[len(edge) - own :]))
            del edge[len(edge) - own :]
            count //= WIDTH
        if self.root() != old.root:
            raise RootMismatch(f"The tiles do not give the root that was signed at {old.size:,}")

    def root(self) -> bytes:
        """The root of all leaves so far."""
        hashes = [one for level in reversed(self._levels) for one in level.hashes]
        return fold(hashes) if hashes else EMPTY_ROOT

    def add(self, number: int, entries: Sequence[bytes]) -> None:
        """Add what is new in a bundle, whose entries are these in the journal.

        Raises:
            RootMismatch, TileMissing, TileMalformed.
        """
        bundle = tile_at(ENTRIES, number, self._size)
        (content,) = self._read([bundle])
        if content != encode_entries(entries) or len(entries) != bundle.width:
            raise RootMismatch(f"{bundle.path} does not hold the journal's leaves")
        begun = max(self._old.size - number * WIDTH, 0)
        hashes = leaf_hashes(entries[begun:])
        if self._tile(0, number)[begun * HASH_SIZE :] != b"".join(hashes):
            raise RootMismatch(f"{Tile(0, number).path} does not hold the hashes of its bundle")
        self._carry(0, number, hashes)

    def _carry(self, level: int, number: int, hashes: Sequence[bytes]) -> None:
        """Add hashes to the tile of a level with this number; a full one is a hash above.

        Raises:
            RootMismatch, TileMissing, TileMalformed.
        """
        if level == len(self._levels):
            self._levels.append(Frontier())
        frontier = self._levels[level]
        was_compared = level == 0 and frontier.size == 0  # all of it, with the bundle
        frontier.append(hashes)
        if frontier.size == WIDTH:
            root = frontier.root()
            if not was_compared and root_of_full(self._tile(level, number)) != root:
                raise RootMismatch(f"{Tile(level, number).path} does not hold what is below it")
            self._levels[level] = Frontier()
            self._carry(level + 1, number // WIDTH, [root])

    def _tile(self, level: int, number: int) -> bytes:
        """A tile as the new tree has it."""
        tile = tile_at(level, number, self._size)
        (content,) = self._read([tile])
        check_width(tile, content)
        return content
