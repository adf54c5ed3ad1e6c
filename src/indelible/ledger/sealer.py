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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from indelible import leaf
from indelible.errors import (
    JournalDiffers,
    LockMoved,
    LockUnwritable,
    RootMismatch,
    SealingStopped,
    SyncFailed,
    Tampered,
    Unverifiable,
)
from indelible.journal.contract import JournalReader
from indelible.journal.follow import Run
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    Tile,
    TileHashes,
    decode_entries,
    edge_of,
    tile_at,
    tiles_between,
)
from indelible.ledger.format.tree import Frontier, leaf_hashes, prove_root
from indelible.ledger.growth import MOST_ENTRIES, added, integrate
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import Log
from indelible.ledger.recomputing import recompute
from indelible.ledger.soundness import Soundness
from indelible.metrics import SEAL_SECONDS

logger = logging.getLogger(__name__)

_STOPPING_ALL: Final = (SyncFailed, LockUnwritable)
_THREADS: Final = 8
_TILES_AT_ONCE: Final = 32  # each such part of a log syncs its folders once more


class Sealer:
    """`indelible.journal.follow.GroupHandler`: seals what it is handed.

    Up to `together` logs are sealed at once: their tiles are synced side by side, their checkpoints
    enter the lock store in one synced step, and only then each is published. Only what waits for
    the disk is done side by side: threads that read and compute as well spend as much time again on
    handing the interpreter's lock around. A log whose own files contradict what was signed stops
    alone; a disk or a lock store that cannot be trusted any more stops them all.

    Args:
        log_of: the log of a project.
        publish: puts a checkpoint before the log's readers.
        published: called with the logs whose checkpoints were published together.
    """

    name: Final = "sealer"
    batch: Final = MOST_ENTRIES
    together: Final = 32

    def __init__(
        self,
        journal: JournalReader,
        lock: LockStore,
        soundness: Soundness,
        *,
        log_of: Callable[[int], Log | None],
        publish: Callable[[Log, Head], None],
        published: Callable[[Sequence[tuple[Log, Head]]], None],
    ) -> None:
        self._journal = journal
        self._lock = lock
        self._soundness = soundness
        self._log_of = log_of
        self._publish = publish
        self._published = published
        self._failure: str | None = None
        self._stopped: dict[str, str] = {}
        self._unpublished: dict[str, Head] = {}
        self._pool = ThreadPoolExecutor(_THREADS, "sealer")

    @property
    def failure(self) -> str | None:
        """Why nothing is signed any more, or None while all is well."""
        return self._failure

    def stopped(self) -> dict[str, str]:
        """The origins of logs that this process signs no further, and why."""
        return dict(self._stopped)

    def next_index(self, project_id: int) -> int:
        """How many events the last signed checkpoint of the project's log covers.

        While that one could not be published, one less: there is something left to do.

        Raises:
            LockUnwritable: the lock store is damaged.
        """
        log = self._log_of(project_id)
        head = None if log is None else self._lock.head(log.origin)
        if head is None:
            return 0
        return head.size - 1 if head.origin in self._unpublished else head.size

    def handle(self, project_id: int, start: int, end: int) -> None:
        """Seal one project's log up to `end`; raises what `handle_group` returns or raises."""
        for error in self.handle_group([Run(project_id, start, end)]).values():
            raise error

    def handle_group(self, runs: Sequence[Run]) -> dict[int, Exception]:
        """Seal the logs of these projects; what the lock store has is sealed already.

        Returns, by project, what kept its log from being sealed:
            SealingStopped: the log is not signed any further by this process.
            OSError: nothing was signed, or what was signed could not be published; it may be
                tried again.

        Raises:
            SealingStopped: now and for every later call, until the process is restarted.
        """
        if self._failure is not None:
            raise SealingStopped(self._failure)
        failures: dict[int, Exception] = {}
        try:
            for group in _groups(runs):
                with SEAL_SECONDS.time():
                    self._seal_together(group, failures)
        except _STOPPING_ALL as error:
            self._failure = f"{error.code}: {error.message}"
            logger.error("sealing has stopped: %s", self._failure)  # noqa: TRY400
            raise
        return failures

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _seal_together(self, runs: Sequence[Run], failures: dict[int, Exception]) -> None:
        """
        Raises:
            SyncFailed, LockUnwritable.
        """

        def succeeded(seals: Sequence[_Seal], errors: Sequence[Exception | None]) -> list[_Seal]:
            """Those without an error; the others' are noted."""
            for seal, error in zip(seals, errors, strict=True):
                if isinstance(error, _STOPPING_ALL):
                    raise error
                if error is not None:
                    failures[seal.log.project_id] = self._noted(seal.log, error)
            return [seal for seal, error in zip(seals, errors, strict=True) if error is None]

        seals = [seal for run in runs if (seal := self._begin(run, failures)) is not None]
        to_sign = [seal for seal in seals if seal.size > seal.old.size]
        built = succeeded(to_sign, _one_by_one([partial(self._build, seal) for seal in to_sign]))
        written = succeeded(built, self._write(built))
        signed = succeeded(written, _one_by_one([partial(self._sign, seal) for seal in written]))
        refused = self._lock.advance_all([(seal.old, seal.new) for seal in signed])
        # power lost here: nobody has seen the signatures, and the next start publishes them
        for seal in signed:
            error = refused.get(seal.log.origin)
            if error is not None:
                failures[seal.log.project_id] = self._noted(seal.log, error)
            else:
                self._unpublished[seal.log.origin] = seal.new
        to_publish = [seal for seal in seals if seal.log.origin in self._unpublished]
        heads = dict(self._unpublished)
        put_forward = [partial(self._put_forward, seal) for seal in to_publish]
        errors = self._side_by_side(put_forward)
        published = [
            (seal.log, heads[seal.log.origin])
            for seal, error in zip(to_publish, errors, strict=True)
            if error is None
        ]
        if published:
            self._published(published)
        succeeded(to_publish, errors)

    def _begin(self, run: Run, failures: dict[int, Exception]) -> "_Seal | None":
        """What there is to do for one project; None, and why among `failures`, if nothing can be.

        Raises:
            LockUnwritable: the lock store is damaged.
        """
        log = self._log_of(run.project_id)
        assert log is not None
        old = self._lock.head(log.origin)
        why = self._stopped.get(log.origin)
        if why is not None:
            failures[run.project_id] = SealingStopped(why)
        elif old is None:
            failures[run.project_id] = self._noted(log, LockMoved("its checkpoint is gone"))
        else:
            return _Seal(log, old, run.end, old)
        return None

    def _build(self, seal: "_Seal") -> None:
        log, old = seal.log, seal.old
        entries = self._leaves(log, old.size, seal.size)
        try:
            with log.tiles.reader() as read:
                # What is there is held to the last root: nothing is built on a damaged tile.
                sound = self._soundness.tiles(log, old, read)
                sound(edge_of(old.size))
                seal.tiles = added(sound, old.size, leaf.split(entries))
        except Tampered as error:
            raise RootMismatch(error.message) from error

    def _write(self, seals: Sequence["_Seal"]) -> list[Exception | None]:
        """Write the tiles of these, those of one large log in parts; what each raised."""
        parts = [
            (place, seal.tiles[at : at + _TILES_AT_ONCE])
            for place, seal in enumerate(seals)
            for at in range(0, len(seal.tiles), _TILES_AT_ONCE)
        ]
        work = [partial(seals[place].log.tiles.write, part) for place, part in parts]
        errors: list[Exception | None] = [None] * len(seals)
        for (place, _), error in zip(parts, self._side_by_side(work), strict=True):
            if errors[place] is None or isinstance(error, _STOPPING_ALL):
                errors[place] = error
        for seal in seals:
            seal.tiles = []
        return errors

    def _sign(self, seal: "_Seal") -> None:
        assert seal.log.signer is not None
        log, old, size = seal.log, seal.old, seal.size
        # From the journal once more, now that all is written.
        stored = self._leaves(log, old.size // WIDTH * WIDTH, size)
        root = recompute(log, stored, old, size)
        note = seal.log.signer.sign(Checkpoint(log.origin, size, root).text)
        seal.new = Head(log.origin, size, root, note)

    def _leaves(self, log: Log, start: int, end: int) -> bytes:
        """
        Raises:
            RootMismatch: the journal lacks leaves, or one was changed.
        """
        try:
            run = self._journal.leaf_run(log.project_id, start, end)
        except Tampered as error:
            raise RootMismatch(error.message) from error
        if len(run) != (end - start) * leaf.SIZE:
            raise RootMismatch(f"{log.origin}: the journal lacks leaves below {end:,}")
        return run

    def _put_forward(self, seal: "_Seal") -> None:
        # Of an earlier call, if publishing failed then and nothing was stored since.
        head = self._unpublished[seal.log.origin]
        self._publish(seal.log, head)
        del self._unpublished[seal.log.origin]
        full = [tile for tile in tiles_between(seal.old.size, head.size) if tile.width == WIDTH]
        seal.log.tiles.discard_partials(full)

    def _side_by_side(self, work: Sequence[Callable[[], None]]) -> list[Exception | None]:
        """Run these, several at a time so that their syncs share the disk's; what each raised."""
        if len(work) <= 1:
            return _one_by_one(work)
        left = deque(enumerate(work))
        errors: list[Exception | None] = [None] * len(work)

        def take_turns() -> None:
            with suppress(IndexError):
                while True:
                    place, one = left.popleft()
                    errors[place] = _attempt(one)

        # One task a thread: handing over each piece of work cost as much as doing it.
        threads = [self._pool.submit(take_turns) for _ in range(min(_THREADS, len(work)))]
        for thread in threads:
            thread.result()
        return errors

    def _noted(self, log: Log, error: Exception) -> Exception:
        """Stop signing a log whose files are not what was signed."""
        if isinstance(error, SealingStopped) and log.origin not in self._stopped:
            self._stopped[log.origin] = f"{error.code}: {error.message}"
            logger.error("sealing %s has stopped: %s: %s", log.origin, error.code, error.message)
        return error


@dataclass(slots=True)
class _Seal:
    """A checkpoint of one log on its way: `tiles` are to be written, and `new` is the old head
    until it is signed."""

    log: Log
    old: Head
    size: int
    new: Head
    tiles: list[tuple[Tile, bytes]] = field(default_factory=list)


def _one_by_one(work: Sequence[Callable[[], None]]) -> list[Exception | None]:
    """Run these; what each raised."""
    return [_attempt(one) for one in work]


def _attempt(one: Callable[[], None]) -> Exception | None:
    try:
        one()
    except Exception as error:  # of one log, and none of the others' business
        return error
    return None


def _groups(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Cut a round into groups that together hold no more in memory than one log may alone."""
    group: list[Run] = []
    entries = 0
    for run in runs:
        entries += run.end - run.start
        if group and entries > MOST_ENTRIES:
            yield group
            group, entries = [], run.end - run.start
        group.append(run)
    if group:
        yield group


def mend(log: Log, journal: JournalReader, head: Head, soundness: Soundness) -> None:
    """Rebuild the tiles that a log needs at its last checkpoint, where some are missing or damaged.

    Raises:
        JournalDiffers: the journal's leaves do not give the root that was signed; nothing was
            changed.
    """
    lacking = log.tiles.missing(tiles_between(0, head.size))
    if not lacking:
        if not _is_sound(log, journal, head):
            _look_at_edge(log, head, soundness)  # rebuilds the few tiles that it finds damaged
        if _is_sound(log, journal, head):
            return
    # From the journal first: only tiles of the signed tree may take the place of damaged ones.
    frontier = Frontier()
    for start in range(0, head.size, MOST_ENTRIES):
        end = min(start + MOST_ENTRIES, head.size)
        frontier.append(leaf_hashes(journal.leaves(log.project_id, start, end)))
    if frontier.root() != head.root:
        raise JournalDiffers(
            f"{log.origin}: the journal is not what was signed at {head.size:,} events"
        )
    logger.warning(
        "%s: %s; rebuilding its tiles from the journal",
        log.origin,
        f"{len(lacking):,} tiles are missing" if lacking else "a tile at its end is damaged",
    )
    for start in range(0, head.size, MOST_ENTRIES):
        end = min(start + MOST_ENTRIES, head.size)
        integrate(log.tiles, start, journal.leaves(log.project_id, start, end), replace=True)
    if not _is_sound(log, journal, head):
        raise JournalDiffers(
            f"{log.origin}: what lies on disk is not what was signed at {head.size:,} events"
        )


def _look_at_edge(log: Log, head: Head, soundness: Soundness) -> None:
    last = tile_at(ENTRIES, (head.size - 1) // WIDTH, head.size)
    with suppress(Tampered, Unverifiable):
        soundness.tiles(log, head)([last._replace(level=0), last])


def _is_sound(log: Log, journal: JournalReader, head: Head) -> bool:
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
