"""The sealer: a follower that makes checkpoints. Recovery after a crash is the same function.

The order of one seal, and what holds if power fails after each step (the journal's transaction and
the answer to the client came before):

    integrate     bundles and tiles are written and synced: ahead of the checkpoint, harmless
    recompute     the root, from what is on disk now, by another path: nothing has changed
    lock          the signed checkpoint is the last one in the lock store: it is the truth, unseen
    publish       it is the file `checkpoint`: its events are sealed

One flipped bit in a leaf hash, once signed, ends a log for good (Yeti 2022): hence the second step.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from indelible.errors import IndelibleError, JournalDiffers, RootMismatch, SealingStopped
from indelible.journal.contract import Journal
from indelible.ledger.checkpoint import Checkpoint
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import Log
from indelible.ledger.tile import (
    ENTRIES,
    WIDTH,
    Tile,
    TileHashes,
    decode_entries,
    encode_entries,
    hashes_of,
    root_of_full,
    tile_at,
    tiles_between,
)
from indelible.ledger.tilestore import TileStore
from indelible.ledger.tree import Frontier, leaf_hash, prove_root, subtrees_of
from indelible.metrics import SEAL_SECONDS

logger = logging.getLogger(__name__)

MOST_ENTRIES: Final = 65_536
"""The most that one checkpoint adds: 256 tiles."""


class Sealer:
    """`indelible.journal.follow.Handler`: seals what it is handed.

    Args:
        log_of: the log of a project.
        publish: puts a checkpoint before the log's readers.
    """

    name: Final = "sealer"
    batch: Final = MOST_ENTRIES

    def __init__(
        self,
        journal: Journal,
        lock: LockStore,
        *,
        log_of: Callable[[int], Log | None],
        publish: Callable[[Log, Head], None],
    ) -> None:
        self._journal = journal
        self._lock = lock
        self._log_of = log_of
        self._publish = publish
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why nothing is signed any more, or None while all is well."""
        return self._failure

    def handle(self, project_id: int, start: int, end: int) -> None:  # noqa: ARG002 — a Handler
        """Seal the project's log up to `end`; what the lock store has is sealed already.

        Raises:
            SealingStopped: now and for every later call, until the process is restarted.
            OSError: nothing was signed; it may be tried again.
        """
        if self._failure is not None:
            raise SealingStopped(self._failure)
        log = self._log_of(project_id)
        assert log is not None
        head = self._lock.head(log.origin)
        assert head is not None
        if end <= head.size:
            return
        try:
            with SEAL_SECONDS.time():
                self._seal(log, head, end)
        except SealingStopped as error:
            self._failure = f"{error.code}: {error.message}"
            logger.error("sealing %s has stopped: %s", log.origin, self._failure)  # noqa: TRY400
            raise

    def _seal(self, log: Log, old: Head, size: int) -> None:
        assert log.signer is not None
        integrate(log.tiles, old.size, self._journal.leaves(log.project_id, old.size, size))
        root = recompute(log, self._journal, old, size)
        checkpoint = Checkpoint(log.origin, size, root)
        new = Head(log.origin, size, root, log.signer.sign(checkpoint.text))
        self._lock.advance(old, new)
        # power lost here: nobody has seen the signature, and the next start publishes it
        self._publish(log, new)
        full = [tile for tile in tiles_between(old.size, size) if tile.width == WIDTH]
        log.tiles.discard_partials(full)


def integrate(tiles: TileStore, old: int, entries: Sequence[bytes]) -> None:
    """Write the tiles and bundles that `entries` add to a tree of `old` leaves.

    Raises:
        TileConflict, TileMissing, TileMalformed, OSError, SyncFailed.
    """
    written = [(tile, encode_entries(run)) for tile, run in _runs(tiles, ENTRIES, old, entries)]
    level, start, hashes = 0, old, [leaf_hash(entry) for entry in entries]
    while hashes:
        runs = [(tile, b"".join(run)) for tile, run in _runs(tiles, level, start, hashes)]
        written += runs
        hashes = [root_of_full(data) for tile, data in runs if tile.width == WIDTH]
        level, start = level + 1, start // WIDTH
    tiles.write(written)


def _runs(
    tiles: TileStore, level: int, start: int, added: Sequence[bytes]
) -> list[tuple[Tile, list[bytes]]]:
    """The tiles of `level` that change when `added` follows `start` hashes, whole."""
    number, held = divmod(start, WIDTH)
    items = list(added)
    if held:
        before = Tile(level, number, held)
        (content,) = tiles.read([before])
        whole = decode_entries(before, content) if level == ENTRIES else hashes_of(content)
        items = whole + items
    runs = [items[at : at + WIDTH] for at in range(0, len(items), WIDTH)]
    return [(Tile(level, number + n, len(run)), run) for n, run in enumerate(runs)]


def recompute(log: Log, journal: Journal, old: Head, size: int) -> bytes:
    """The root at `size`, found in two ways from what the disk holds now.

    Upwards: the subtrees of the last checkpoint, which must give its root, and on top of them the
    bundles, which must be the journal's leaves. Downwards: the tiles, as a reader would use them.

    Raises:
        RootMismatch: anything of this is not so. Nothing may be signed.
    """
    try:
        edge = TileHashes(log.tiles.read, old.size).read(subtrees_of(0, old.size))
        frontier = Frontier(old.size, edge)
        if frontier.root() != old.root:
            raise RootMismatch(f"The tiles do not give the root that was signed at {old.size:,}")
        for number in range(old.size // WIDTH, -(-size // WIDTH)):
            first = max(number * WIDTH, old.size)
            bundle = tile_at(ENTRIES, number, size)
            (content,) = log.tiles.read([bundle])
            entries = decode_entries(bundle, content)[first - number * WIDTH :]
            if entries != journal.leaves(log.project_id, first, number * WIDTH + bundle.width):
                raise RootMismatch(f"{bundle.path} does not hold the journal's leaves")
            frontier.append(map(leaf_hash, entries))
        root = prove_root(TileHashes(log.tiles.read, size), size)
    except SealingStopped:
        raise
    except IndelibleError as error:
        raise RootMismatch(f"What was written cannot be read back: {error.message}") from error
    if root != frontier.root():
        raise RootMismatch(f"Tiles and bundles give two roots at {size:,}")
    return root


def mend(log: Log, journal: Journal, head: Head) -> None:
    """Make the tiles that a log needs at its last checkpoint and that are not there.

    Raises:
        JournalDiffers: the tiles, or the journal's leaves, do not give the root that was signed.
    """
    hashes = TileHashes(log.tiles.read, head.size)
    try:
        sound = prove_root(hashes, head.size) == head.root
    except IndelibleError:
        logger.warning("%s: tiles are missing; making them from the journal", log.origin)
        for start in range(0, head.size, MOST_ENTRIES):
            end = min(start + MOST_ENTRIES, head.size)
            integrate(log.tiles, start, journal.leaves(log.project_id, start, end))
        sound = prove_root(hashes, head.size) == head.root
    if sound and head.size:
        last = tile_at(ENTRIES, (head.size - 1) // WIDTH, head.size)
        first = last.number * WIDTH
        (content,) = log.tiles.read([last])
        sound = decode_entries(last, content) == journal.leaves(log.project_id, first, head.size)
    if not sound:
        raise JournalDiffers(
            f"{log.origin}: what lies on disk is not what was signed at {head.size:,} events"
        )
