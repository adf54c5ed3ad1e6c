"""What lies on disk of a log, compared with what was signed before anybody gets it; and rebuilt.

Tiles are trusted for nothing. Each is held to the root of the log's last checkpoint, which lies in
the lock store, from the top of the tree downwards:

    checkpoint's root ── the partial tiles at the right edge, together
                            └─ each of their hashes ── the full tile below it ── … ── a bundle

A tile that does not fit is rebuilt: from the tiles below it, from the leaves in the journal, or, at
the lowest level, from its bundle, and a bundle from the journal. A candidate is taken only if it
fits, so a damaged source can never get into a tile; it is written in place of the damaged file,
synced, by whichever thread found it (one at a time). When no candidate fits, the journal has lost
or changed leaves too, and nothing may be handed out that depends on them.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from indelible.connections import SqliteError
from indelible.errors import (
    IndelibleError,
    SyncFailed,
    Tampered,
    TileConflict,
    TileMissing,
    Unverifiable,
)
from indelible.journal.contract import JournalReader
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    ReadTiles,
    Tile,
    TileHashes,
    check_width,
    decode_entries,
    edge_of,
    encode_entries,
    hashes_of,
    root_of_full,
    tile_at,
)
from indelible.ledger.format.tree import HASH_SIZE, Frontier, leaf_hashes, prove_root
from indelible.ledger.lockstore import Head
from indelible.ledger.logs import Log
from indelible.metrics import TILES_REBUILT

logger = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 65_536


class Soundness:
    """Reads tiles of logs, each held to a signed root; safe from any thread."""

    def __init__(self, journal: JournalReader) -> None:
        self._journal = journal
        self._rebuilding = threading.Lock()

    def tiles(self, log: Log, head: Head, read: ReadTiles | None = None) -> ReadTiles:
        """A reader of the log's tiles and bundles as they were signed at `head`.

        `read` reads what lies there; None for `log.tiles.read`.

        Raises from the reader:
            Tampered: a tile differs, and so does what it could be rebuilt from.
            TileMissing: the tree has no such tile at this size.
        """
        look = _Look(log, head, self._journal, read or log.tiles.read)

        def sound(tiles: Sequence[Tile]) -> list[bytes]:
            try:
                return [look.beginning(tile) for tile in tiles]
            finally:
                self._put_right(log, look)

        return sound

    def tile(self, log: Log, head: Head, tile: Tile) -> bytes:
        """One tile or bundle, as `tiles` reads it."""
        (content,) = self.tiles(log, head)([tile])
        return content

    def _put_right(self, log: Log, look: "_Look") -> None:
        """Write what was rebuilt in place of the damaged files."""
        rebuilt, look.rebuilt = look.rebuilt, []
        if not rebuilt:
            return
        for tile, _ in rebuilt:
            TILES_REBUILT.inc()
            logger.error(
                "%s: %s was damaged or missing, and was rebuilt: test the disk and the memory",
                log.origin,
                log.tiles.folder / tile.path,
            )
        try:
            with self._rebuilding:
                log.tiles.replace(rebuilt)
        except (OSError, SyncFailed, TileConflict) as error:
            # What is handed out is sound all the same; the next look tries it again.
            logger.error("%s: it could not be written: %s", log.origin, error)  # noqa: TRY400


class _Look:
    """The tiles of one log under one checkpoint, as far as they were looked at.

    Attributes:
        rebuilt: tiles whose files are to be replaced.
    """

    def __init__(self, log: Log, head: Head, journal: JournalReader, read: ReadTiles) -> None:
        self._log = log
        self._head = head
        self._journal = journal
        self._read = read
        self._sound: dict[Tile, bytes] = {}
        self._lying: dict[Tile, bytes] = {}
        self.rebuilt: list[tuple[Tile, bytes]] = []

    def beginning(self, tile: Tile) -> bytes:
        """The content of a tile, which may be narrower than the tree makes it by now."""
        whole = tile_at(tile.level, tile.number, self._head.size)
        if whole.width < tile.width:
            raise TileMissing(f"{tile.path} is not in the tree of {self._head.size:,} events")
        content = self._bundle(whole) if tile.level == ENTRIES else self._hashes(whole)
        if whole.width == tile.width:
            return content
        if tile.level == ENTRIES:
            content = encode_entries(decode_entries(whole, content)[: tile.width])
        else:
            content = content[: tile.width * HASH_SIZE]
        # A width that no checkpoint ever had is nobody's file, and is not made one.
        return content if self._log.tiles.missing([tile]) else self._keep(tile, content)

    def _hashes(self, tile: Tile) -> bytes:
        if tile in self._sound:
            return self._sound[tile]
        if tile.width < WIDTH:
            self._look_at_edge()
            return self._sound[tile]
        above = tile_at(tile.level + 1, tile.number // WIDTH, self._head.size)
        expected = hashes_of(self._hashes(above))[tile.number % WIDTH]
        for content in self._candidates(tile):
            if root_of_full(content) == expected:
                return self._keep(tile, content)
        raise self._damage(tile)

    def _look_at_edge(self) -> None:
        """Hold the partial tiles to the root: every hash in them is a part of it."""
        size = self._head.size
        edge = edge_of(size)
        # One damaged tile is the rule, so of all combinations the first few are tried.
        every = [_Lazy(self._candidates(tile)) for tile in edge]
        for places in sorted(itertools.product(range(3), repeat=len(edge)), key=sum):
            found: dict[Tile, bytes] = {}
            for tile, candidates, place in zip(edge, every, places, strict=True):
                content = candidates.at(place)
                if content is not None:
                    found[tile] = content
            if len(found) == len(edge) and _root(found, size) == self._head.root:
                for tile, content in found.items():
                    self._keep(tile, content)
                return
        raise self._damage(*edge)

    def _candidates(self, tile: Tile) -> Iterator[bytes]:
        """What a tile of hashes may hold, cheapest first: what its file has, then what it can be
        made from. Each is as long as the tile; none is trusted yet."""
        sources: tuple[Callable[[Tile], bytes], ...] = (
            (self._on_disk, self._from_leaves, self._from_bundle)
            if tile.level == 0
            else (self._on_disk, self._from_below, self._from_leaves)
        )
        for source in sources:
            try:
                content = source(tile)
            except (IndelibleError, OSError, SqliteError):
                continue  # this source is damaged too
            if len(content) == tile.width * HASH_SIZE:
                yield content

    def _on_disk(self, tile: Tile) -> bytes:
        content = self._lying.get(tile)
        if content is None:
            (content,) = self._read([tile])
            self._lying[tile] = content
        return content

    def _from_below(self, tile: Tile) -> bytes:
        below = [Tile(tile.level - 1, tile.number * WIDTH + n) for n in range(tile.width)]
        for one in below:
            check_width(one, self._on_disk(one))
        return b"".join(root_of_full(self._on_disk(one)) for one in below)

    def _from_bundle(self, tile: Tile) -> bytes:
        bundle = tile._replace(level=ENTRIES)
        return b"".join(leaf_hashes(decode_entries(bundle, self._on_disk(bundle))))

    def _from_leaves(self, tile: Tile) -> bytes:
        width = WIDTH**tile.level
        first = tile.number * WIDTH
        return b"".join(self._root_of(n * width, width) for n in range(first, first + tile.width))

    def _root_of(self, first: int, count: int) -> bytes:
        """The root above some of the journal's leaves."""
        frontier = Frontier()
        for start in range(first, first + count, _READ_AT_ONCE):
            end = min(start + _READ_AT_ONCE, first + count)
            entries = self._journal.leaves(self._log.project_id, start, end)
            if len(entries) != end - start:
                raise TileMissing("The journal lacks leaves")
            frontier.append(leaf_hashes(entries))
        return frontier.root()

    def _bundle(self, tile: Tile) -> bytes:
        if tile in self._sound:
            return self._sound[tile]
        expected = self._hashes(tile._replace(level=0))
        for source in (self._on_disk, self._as_stored):
            try:
                content = source(tile)
                hashes = b"".join(leaf_hashes(decode_entries(tile, content)))
            except (IndelibleError, OSError, SqliteError):
                continue
            if hashes == expected:
                return self._keep(tile, content)
        raise self._damage(tile)

    def _as_stored(self, tile: Tile) -> bytes:
        first = tile.number * WIDTH
        entries = self._journal.leaves(self._log.project_id, first, first + tile.width)
        return encode_entries(entries)

    def _keep(self, tile: Tile, content: bytes) -> bytes:
        self._sound[tile] = content
        try:
            held = self._on_disk(tile)
        except (Unverifiable, OSError):
            held = None
        if held != content:
            self.rebuilt.append((tile, content))
        return content

    def _damage(self, *tiles: Tile) -> Tampered:
        places = ", ".join(tile.path for tile in tiles)
        return Tampered(
            f"{self._log.origin}: {places} is not what was signed at {self._head.size:,} events,"
            " and the journal's leaves do not give it back"
        )


class _Lazy:
    """The items of an iterator by their place, as far as they were asked for; None: fewer."""

    def __init__(self, items: Iterator[bytes]) -> None:
        self._items = items
        self._had: list[bytes] = []

    def at(self, place: int) -> bytes | None:
        while len(self._had) <= place:
            item = next(self._items, None)
            if item is None:
                return None
            self._had.append(item)
        return self._had[place]


def _root(edge: dict[Tile, bytes], size: int) -> bytes:
    """The root that the partial tiles of a tree give."""
    return prove_root(TileHashes(lambda tiles: [edge[tile] for tile in tiles], size), size)
