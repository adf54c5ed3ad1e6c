"""The files of a log as its readers get them: none that does not fit what was signed.

A damaged tile would turn a monitor away from a log that is sound, and once fetched it stays in
caches for ever. So each is held to the last checkpoint and rebuilt if need be, and refused when it
cannot be.
"""

from collections.abc import Callable

from indelible.errors import IndelibleError, NotFound, Tampered, TileMissing
from indelible.event import Level
from indelible.ledger import notes
from indelible.ledger.format.layout import CHECKPOINT, NOTES, POLICY, WITNESSED
from indelible.ledger.format.tile import Tile, parse_path
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import Log, Logs
from indelible.ledger.progress import Progress
from indelible.ledger.soundness import Soundness


class Files:
    """Reads the files of logs.

    Args:
        damaged: called with a log, the number of a tile and a sentence when it cannot be rebuilt.
    """

    def __init__(
        self,
        logs: Logs,
        lock: LockStore,
        progress: Progress,
        soundness: Soundness,
        *,
        damaged: Callable[[Log, int, str], None],
    ) -> None:
        self._logs = logs
        self._lock = lock
        self._progress = progress
        self._soundness = soundness
        self._damaged = damaged

    def read(self, log: Log, path: str) -> bytes:
        """The file at `path`: one of NOTES, or a tile or bundle that a checkpoint covers.

        Raises:
            NotFound: the log has no such file.
            Tampered: it has, and it is damaged beyond repair.
        """
        if path in NOTES:
            note = self._note(log, path)
            if note is None:
                raise NotFound(f"The log has no file {path!r} yet")
            return note.encode()
        tile = parse_path(path)
        if tile is None:
            raise NotFound("No file of a log has this name")
        try:
            return self._tile(log, tile)
        except (TileMissing, OSError):
            # A link or a pipe is none of its files.
            raise NotFound("The log has no such tile") from None
        except Tampered as error:
            self._damaged(log, tile.number, error.message)
            raise

    def head(self, log: Log) -> Head | None:
        """The last checkpoint of a log: the lock's, or, where a frozen one has none, what it
        published."""
        head = self._lock.head(log.origin)
        if head is not None or log.signer is not None:
            return head
        note = notes.text(log.tiles, CHECKPOINT)
        try:
            checkpoint = None if note is None else notes.signed_by(note, log.key)
        except IndelibleError:
            return None
        if note is None or checkpoint is None:
            return None
        return Head(log.origin, checkpoint.size, checkpoint.root, note)

    def _tile(self, log: Log, tile: Tile) -> bytes:
        head = self.head(log)
        if head is None:
            (content,) = log.tiles.read([tile])  # nothing is left that it could be held to
            return content
        return self._soundness.tile(log, head, tile)

    def _note(self, log: Log, name: str) -> str | None:
        """What was published under this name, from memory when the file is damaged."""
        note = notes.text(log.tiles, name)
        if log.signer is None:
            return note
        policy = self._logs.policy_of(log)
        if name == POLICY:
            return policy.text
        if note is not None and notes.is_sound(note, log.key, policy):
            return note
        level = Level.WITNESSED if name == WITNESSED else Level.SEALED
        head = self._progress.head(log.project_id, level)
        return None if head is None else head.note
