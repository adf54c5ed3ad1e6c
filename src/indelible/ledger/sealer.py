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

from indelible.errors import (
    IndelibleError,
    JournalDiffers,
    RootMismatch,
    SealingStopped,
    Unverifiable,
)
from indelible.journal.contract import Journal
from indelible.ledger.checkpoint import Checkpoint
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import SEALER, Log
from indelible.ledger.tile import (
    ENTRIES,
    WIDTH,
    Tile,
    TileHashes,
    check_width,
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

    name: Final = SEALER
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
        self._unpublished: dict[str, Head] = {}

    @property
    def failure(self) -> str | None:
        """Why nothing is signed any more, or None while all is well."""
        return self._failure

    def handle(self, project_id: int, start: int, end: int) -> None:  # noqa: ARG002 — a Handler
        """Seal the project's log up to `end`; what the lock store has is sealed already.

        Raises:
            SealingStopped: now and for every later call, until the process is restarted.
            OSError: nothing was signed, or what was signed could not be published; it may be
                tried again.
        """
        if self._failure is not None:
            raise SealingStopped(self._failure)
        log = self._log_of(project_id)
        assert log is not None
        try:
            head = self._lock.head(log.origin)
            assert head is not None
            if end > head.size:
                with SEAL_SECONDS.time():
                    self._seal(log, head, end)
            elif log.origin in self._unpublished:  # signed, and then publishing it failed
                self._put_forward(log, head)
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
        self._unpublished[log.origin] = new
        self._put_forward(log, new)
        full = [tile for tile in tiles_between(old.size, size) if tile.width == WIDTH]
        log.tiles.discard_partials(full)

    def _put_forward(self, log: Log, head: Head) -> None:
        self._publish(log, head)
        del self._unpublished[log.origin]


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
    Every tile that was written must be the hashes of what is below it as well: a full one that no
    root is made from today is in somebody's proof tomorrow.

    Raises:
        RootMismatch: anything of this is not so. Nothing may be signed.
    """
    try:
        edge = TileHashes(log.tiles.read, old.size).read(subtrees_of(0, old.size))
        frontier = Frontier(old.size, edge)
        if frontier.root() != old.root:
            raise RootMismatch(f"The tiles do not give the root that was signed at {old.size:,}")
        for number in range(old.size // WIDTH, -(-size // WIDTH)):
            first = number * WIDTH
            bundle = tile_at(ENTRIES, number, size)
            (content,) = log.tiles.read([bundle])
            entries = decode_entries(bundle, content)
            if entries != journal.leaves(log.project_id, first, first + bundle.width):
                raise RootMismatch(f"{bundle.path} does not hold the journal's leaves")
            frontier.append(map(leaf_hash, entries[max(old.size - first, 0) :]))
        _check_levels(log, old.size, size)
        root = prove_root(TileHashes(log.tiles.read, size), size)
    except SealingStopped:
        raise
    except IndelibleError as error:
        raise RootMismatch(f"What was written cannot be read back: {error.message}") from error
    if root != frontier.root():
        raise RootMismatch(f"Tiles and bundles give two roots at {size:,}")
    return root


def _check_levels(log: Log, old: int, size: int) -> None:
    """
    Raises:
        RootMismatch: a hash in a tile is not the root of the full tile below it that is new.
    """
    level, before, behind = 1, old // WIDTH, size // WIDTH
    while behind > before:
        for number in range(before, behind):
            below, above = Tile(level - 1, number), tile_at(level, number // WIDTH, size)
            hashes, parents = log.tiles.read([below, above])
            check_width(below, hashes)
            check_width(above, parents)
            if hashes_of(parents)[number % WIDTH] != root_of_full(hashes):
                raise RootMismatch(f"{above.path} does not hold the root of {below.path}")
        level, before, behind = level + 1, before // WIDTH, behind // WIDTH


def mend(log: Log, journal: Journal, head: Head) -> None:
    """Make the tiles that a log needs at its last checkpoint and that are not there.

    Raises:
        JournalDiffers: the journal's leaves do not give the root that was signed; nothing was
            changed.
        TileConflict: they do, and a tile that is there holds something else.
    """
    lacking = log.tiles.missing(tiles_between(0, head.size))
    if not lacking and _is_sound(log, journal, head):
        return
    # From the journal first: tiles that it must not have made would stand in the way of those that
    # are made once the right journal is back.
    frontier = Frontier()
    for start in range(0, head.size, MOST_ENTRIES):
        end = min(start + MOST_ENTRIES, head.size)
        frontier.append(map(leaf_hash, journal.leaves(log.project_id, start, end)))
    if frontier.root() != head.root:
        raise JournalDiffers(
            f"{log.origin}: the journal is not what was signed at {head.size:,} events"
        )
    logger.warning("%s: %d tiles are missing; making them anew", log.origin, len(lacking))
    for start in range(0, head.size, MOST_ENTRIES):
        end = min(start + MOST_ENTRIES, head.size)
        integrate(log.tiles, start, journal.leaves(log.project_id, start, end))
    if not _is_sound(log, journal, head):
        raise JournalDiffers(
            f"{log.origin}: what lies on disk is not what was signed at {head.size:,} events"
        )


def _is_sound(log: Log, journal: Journal, head: Head) -> bool:
    """Whether the tiles give the root, and the last bundle holds the journal's leaves."""
    if head.size == 0:
        return True
    last = tile_at(ENTRIES, (head.size - 1) // WIDTH, head.size)
    try:
        root = prove_root(TileHashes(log.tiles.read, head.size), head.size)
        (content,) = log.tiles.read([last])
        entries = decode_entries(last, content)
    except Unverifiable:
        return False
    expected = journal.leaves(log.project_id, last.number * WIDTH, head.size)
    return (root, entries) == (head.root, expected)
