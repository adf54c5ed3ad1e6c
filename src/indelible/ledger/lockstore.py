"""The last signed checkpoint of every log, in a tiny file of its own: `DATA/lock.db`.

A signature is written here, synced, before anybody sees it, and only if the one before is still the
last: whoever else may hold the key, no two heads of one log can both pass. This file and the
journal are trusted; tiles are not. It is never part of a backup: a lock that is as old as the
journal beside it would prove nothing.
"""

import errno
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from indelible.errors import LockMissing, LockMoved, LockUnwritable
from indelible.journal.connections import open_for_writing
from indelible.layout import LOCK_FILE

# After these SQLite has undone the change, and nothing half-written was called durable.
_PASSING: Final = (apsw.FullError, apsw.BusyError)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS head (
    origin TEXT PRIMARY KEY,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL,
    note   TEXT NOT NULL      -- the checkpoint with its log's signature
) WITHOUT ROWID;
"""


class Head(NamedTuple):
    """The last checkpoint of a log; `note` is its signed text."""

    origin: str
    size: int
    root: bytes
    note: str


class LockStore:
    """`lock.db`, open for writing by this process.

    `may_create`: no log has ever signed anything here, so there need be no file.

    Raises:
        LockMissing: there is no file, and there should be.
        LockUnwritable: it cannot be opened.
    """

    def __init__(self, path: Path, *, may_create: bool, vfs: str | None = None) -> None:
        if not may_create and (not path.exists() or path.stat().st_size == 0):
            raise LockMissing(f"{path} is not there, and logs of this journal are signed")
        path.touch(mode=0o600)
        self._lock = threading.Lock()
        self._failure: str | None = None
        try:
            self._connection = open_for_writing(path, vfs=vfs, cache_kib=256)
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(_SCHEMA)
        except apsw.Error as error:
            raise LockUnwritable(f"{path}: {error}") from error

    def head(self, origin: str) -> Head | None:
        """The last checkpoint of this log; None when it was never created here.

        Raises:
            LockUnwritable: the file is damaged.
        """
        with self._lock:
            try:
                rows = self._connection.execute(
                    "SELECT origin, size, root, note FROM head WHERE origin = ?", (origin,)
                )
                head = next((Head(*row) for row in rows), None)
            except apsw.Error as error:
                raise LockUnwritable(f"{type(error).__name__}: {error}") from error
        if head is not None and not _is_as_stored(head):
            raise LockUnwritable(f"{LOCK_FILE}: its checkpoint of {origin} is not as it was stored")
        return head

    def create(self, head: Head) -> None:
        """Enter a new log.

        Raises:
            LockMoved: it is here already.
            OSError, LockUnwritable: as `advance`.
        """
        self._change(
            "INSERT INTO head (origin, size, root, note) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (head.origin, head.size, head.root, head.note),
        )

    def advance(self, old: Head, new: Head) -> None:
        """Make `new` the last checkpoint if `old` still is; on return it survives power loss.

        Raises:
            LockMoved: `old` is not the last; nothing was changed.
            OSError: there is no room, or another process holds the file; nothing was changed, and
                it may be tried again.
            LockUnwritable: nobody may see the signature.
        """
        assert old.origin == new.origin
        self._change(
            "UPDATE head SET size = ?, root = ?, note = ?"
            " WHERE origin = ? AND size = ? AND root = ?",
            (new.size, new.root, new.note, old.origin, old.size, old.root),
        )

    def close(self) -> None:
        with suppress(apsw.Error):
            self._connection.close()

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        with self._lock:
            if self._failure is not None:
                raise LockUnwritable(self._failure)
            try:
                with self._connection:
                    self._connection.execute(statement, values)
                    changed = self._connection.changes()
            except _PASSING as error:
                raise OSError(errno.EAGAIN, f"{LOCK_FILE}: {error}") from error
            except apsw.Error as error:
                # After a failed sync a second one proves nothing: the next start reads which of
                # the two checkpoints the disk holds.
                self._failure = f"{type(error).__name__}: {error}"
                raise LockUnwritable(self._failure) from error
        if changed != 1:
            raise LockMoved


def _is_as_stored(head: Head) -> bool:
    """SQLite keeps what it is given, whatever type the column has."""
    return (
        isinstance(head.size, int) and isinstance(head.root, bytes) and isinstance(head.note, str)
    )
