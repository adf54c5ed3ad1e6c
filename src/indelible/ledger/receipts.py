"""Receipts: the portable proof of one event, with the opening that shows its payload.

No receipt is handed out that does not verify. What the event's row shows is compared with its leaf,
and the leaf with the root of the signed checkpoint, by the hashes of the very proof: some twenty
hashes. Where a damaged tile is why they do not lead to the root, it is rebuilt (`soundness`), and
the proof is made from what was signed.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from indelible.errors import NotSealed, NotWitnessed, Tampered, Unverifiable
from indelible.event import Level
from indelible.journal.contract import Entry, JournalReader
from indelible.leaf import decode
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tile import (
    ENTRIES,
    HEIGHT,
    WIDTH,
    Tile,
    TileHashes,
    check_width,
    decode_entries,
    hashes_of,
    tile_at,
)
from indelible.ledger.format.tree import (
    Subtree,
    check_inclusion,
    leaf_hash,
    node_hash,
    prove_inclusion,
)
from indelible.ledger.lockstore import Head
from indelible.ledger.logs import Log, Logs
from indelible.ledger.progress import Progress
from indelible.ledger.soundness import Soundness
from indelible.ledger.stored import entries

_TILES_KEPT: Final = 512  # of 511 hashes each: some 20 MiB at most


class Receipts:
    """Makes receipts from the tiles, under the newest checkpoint that serves.

    Args:
        damaged: called with a log, an index and a sentence when there can be no receipt of the
            event with this index.
    """

    def __init__(
        self,
        journal: JournalReader,
        logs: Logs,
        progress: Progress,
        soundness: Soundness,
        *,
        damaged: Callable[[Log, int, str], None],
    ) -> None:
        self._journal = journal
        self._logs = logs
        self._progress = progress
        self._soundness = soundness
        self._damaged = damaged
        self._tiles = _KeptTiles()

    def of(self, entry: Entry, *, level: Level | None = None) -> str:
        """The receipt of a stored event: a `.tlog-proof`.

        Its checkpoint is a witnessed one where that covers the event, else a sealed one; `level`
        asks for more than sealed.

        Raises:
            NotSealed, NotWitnessed: it has not come that far.
            Tampered: the row, or the log's tiles beyond repair, are not what was signed.
        """
        log = self._logs.of_project(entry.project_id)
        head = self._head(entry, level)
        if log is None or head is None:
            raise NotWitnessed if level is Level.WITNESSED else NotSealed
        try:
            opening = sound_opening(entry, log.origin)
            hashes = self._prove(log, head, entry)
        except Tampered as error:
            self._damaged(log, entry.index, error.message)
            raise
        return Proof(entry.index, tuple(hashes), head.note, opening.encode()).text

    def find(self, project_id: int, tx: bytes) -> Entry | None:
        """The sealed event with this transaction id, found in the bundles as they were signed:
        for when the journal, whose rows may be damaged, does not know it. None when there is none.

        Raises:
            Tampered: there is one, and its row is not what was signed.
        """
        log = self._logs.of_project(project_id)
        head = self._progress.head(project_id, Level.SEALED)
        if log is None or head is None:
            return None
        index = self._index_of(log, head, tx)
        if index is None:
            return None
        (entry,) = entries(self._journal, project_id, index, index + 1)
        if isinstance(entry, Entry) and entry.leaf.tx == tx:
            return entry
        error = entry if isinstance(entry, Tampered) else changed(log.origin, index, "leaf")
        self._damaged(log, index, error.message)
        raise error

    def _index_of(self, log: Log, head: Head, tx: bytes) -> int | None:
        """Entries lie in the order of their transaction ids: the bundle first, then the entry."""
        sound = self._soundness.tiles(log, head)

        def bundle(number: int) -> list[bytes]:
            tile = tile_at(ENTRIES, number, head.size)
            (content,) = sound([tile])
            return [decode(entry).tx for entry in decode_entries(tile, content)]

        numbers = range(-(-head.size // WIDTH))
        number = bisect_right(numbers, tx, key=lambda number: bundle(number)[0]) - 1
        held = bundle(number) if number >= 0 else []
        return number * WIDTH + held.index(tx) if tx in held else None

    def _prove(self, log: Log, head: Head, entry: Entry) -> list[bytes]:
        """The inclusion proof, which leads from the entry's leaf to the checkpoint's root.

        Raises:
            Tampered: there is none.
        """
        index, size, hashed = entry.index, head.size, leaf_hash(entry.leaf_entry)
        try:
            hashes = prove_inclusion(_Hashes(log, self._tiles, size), index, size)
            if check_inclusion(index, size, hashed, hashes, head.root):
                return hashes
        except (Unverifiable, OSError):
            pass  # a tile is gone, or cut short
        self._tiles.forget(log)
        sound = TileHashes(self._soundness.tiles(log, head), size)
        hashes = prove_inclusion(sound, index, size)
        if not check_inclusion(index, size, hashed, hashes, head.root):
            raise changed(log.origin, index, "leaf")
        return hashes

    def _head(self, entry: Entry, level: Level | None) -> Head | None:
        for candidate in (Level.WITNESSED, Level.SEALED):
            head = self._progress.head(entry.project_id, candidate)
            if head is not None and entry.index < head.size:
                return head
            if candidate is level:
                return None
        return None


def sound_opening(entry: Entry, origin: str) -> Opening:
    """What a receipt of this event shows.

    Raises:
        Tampered: it is not what the event's leaf commits to.
    """
    opening = Opening(
        entry.leaf_entry, entry.payload, entry.payload_salt, entry.record, entry.record_salt
    )
    parts = (entry.payload, entry.record, entry.payload_salt, entry.record_salt)
    if not opening.erased:
        for part in opening.wrong_commitments():
            raise changed(origin, entry.index, part)
    if any(part is None for part in parts) and any(part is not None for part in parts):
        raise changed(origin, entry.index, "content, a part of which is missing,")
    return opening


def changed(origin: str, index: int, part: str) -> Tampered:
    """What is said of an event whose row is not what was signed."""
    return Tampered(
        f"{origin}: in journal.db, the {part} of the event with index {index} is not what was"
        " signed"
    )


class _Hashes:
    """A `tree.HashReader` that hashes the inside of a tile once, not for every proof."""

    def __init__(self, log: Log, tiles: "_KeptTiles", size: int) -> None:
        self._log = log
        self._tiles = tiles
        self._size = size

    def read(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        return [self._hash(subtree) for subtree in subtrees]

    def _hash(self, subtree: Subtree) -> bytes:
        level, height = divmod(subtree.level, HEIGHT)
        number, place = divmod(subtree.number, WIDTH >> height)
        tile = tile_at(level, number, self._size)
        return self._tiles.rows(self._log, tile)[height][place]


class _KeptTiles:
    """The hashes within tiles, row by row from the tile's own upwards; the last used are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Tile], list[list[bytes]]] = OrderedDict()

    def forget(self, log: Log) -> None:
        """Read the tiles of this log again."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == log.name]:
                del self._kept[key]

    def rows(self, log: Log, tile: Tile) -> list[list[bytes]]:
        key = (log.name, tile)
        with self._lock:
            rows = self._kept.get(key)
            if rows is not None:
                self._kept.move_to_end(key)
                return rows
        (content,) = log.tiles.read([tile])
        check_width(tile, content)
        rows = _rows(hashes_of(content))
        with self._lock:
            self._kept[key] = rows
            while len(self._kept) > _TILES_KEPT:
                self._kept.popitem(last=False)
        return rows


def _rows(hashes: list[bytes]) -> list[list[bytes]]:
    """`hashes`, the hashes of pairs of them, and so on; one that is left over has no pair."""
    rows = [hashes]
    while len(rows[-1]) > 1:
        below = rows[-1]
        rows.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
    return rows
