"""The last signed checkpoint of every log, in a tiny file of its own: `DATA/lock.db`.

A signature is written here, synced, before anybody sees it, and only if the one before is still the
last: whoever else may hold the key, no two heads of one log can both pass. This file and the
journal are trusted; tiles are not. It is never part of a backup: a lock that is as old as the
journal beside it would prove nothing.

A log may be halted here as well. The decision lies where every signature must pass, and in the same
transaction: no head advances past it, whichever thread signs, and no restart forgets it.
"""

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from indelible.connections import BUSY_TIMEOUT_MS, open_for_writing
from indelible.errors import (
    LockMissing,
    LockMoved,
    LockUnwritable,
    LogForked,
    SealingStopped,
    Unverifiable,
)
from indelible.journal.outside import open_to_read, readable
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
CREATE TABLE IF NOT EXISTS halt (
    origin TEXT PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    size   INTEGER NOT NULL,  -- the log's size when it was decided
    reason TEXT NOT NULL
) WITHOUT ROWID;
"""


class Head(NamedTuple):
    """The last checkpoint of a log; `note` is its signed text."""

    origin: str
    size: int
    root: bytes
    note: str


class Halt(NamedTuple):
    """Why a log must not be signed any further: so many of its witnesses have seen another history
    that the quorum of its policy cannot be met."""

    origin: str
    at_ms: int
    size: int
    reason: str


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
                head = _head(self._connection, origin)
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
        with self._changing() as connection:
            connection.execute(
                "INSERT INTO head (origin, size, root, note) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (head.origin, head.size, head.root, head.note),
            )
            changed = connection.changes()
        if changed != 1:
            raise LockMoved

    def advance(self, old: Head, new: Head) -> None:
        """Make `new` the last checkpoint if `old` still is; on return it survives power loss.

        Raises:
            LockMoved: `old` is not the last; nothing was changed.
            OSError: there is no room, or another process holds the file; nothing was changed, and
                it may be tried again.
            LockUnwritable: nobody may see the signature.
        """
        for error in self.advance_all([(old, new)]).values():
            raise error

    def advance_all(self, pairs: Sequence[tuple[Head, Head]]) -> dict[str, SealingStopped]:
        """`advance` for the heads of several logs, in one synced step.

        Returns, by origin, why one was left as it was.

        Raises:
            OSError, LockUnwritable: as `advance`, for all of them.
        """
        if not pairs:
            return {}
        refused: dict[str, SealingStopped] = {}
        with self._changing() as connection:
            for old, new in pairs:
                assert old.origin == new.origin
                connection.execute(
                    "UPDATE head SET size = ?, root = ?, note = ?"
                    " WHERE origin = ? AND size = ? AND root = ?"
                    " AND NOT EXISTS (SELECT 1 FROM halt WHERE halt.origin = head.origin)",
                    (new.size, new.root, new.note, old.origin, old.size, old.root),
                )
                if connection.changes() != 1:
                    halt = _halt(connection, old.origin)
                    refused[old.origin] = LockMoved() if halt is None else LogForked(halt.reason)
        return refused

    def halt(self, halt: Halt) -> None:
        """Let this log's head never advance again, until `resume`; the first reason stays.

        Raises:
            OSError, LockUnwritable: as `advance`.
        """
        with self._changing() as connection:
            connection.execute(
                "INSERT INTO halt (origin, at_ms, size, reason) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                halt,
            )

    def resume(self, origin: str) -> None:
        """Let the head of this log advance again.

        Raises:
            OSError, LockUnwritable: as `advance`.
        """
        with self._changing() as connection:
            connection.execute("DELETE FROM halt WHERE origin = ?", (origin,))

    def halts(self) -> list[Halt]:
        """The logs that must not be signed any further, oldest first.

        Raises:
            LockUnwritable: the file is damaged.
        """
        with self._lock:
            try:
                return _halts(self._connection)
            except apsw.Error as error:
                raise LockUnwritable(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        with suppress(apsw.Error):
            self._connection.close()

    @contextmanager
    def _changing(self) -> Iterator[apsw.Connection]:
        """Hold the connection for one atomic change; on leaving it is synced.

        Raises:
            OSError, LockUnwritable: as `advance`.
        """
        with self._lock:
            if self._failure is not None:
                raise LockUnwritable(self._failure)
            try:
                with self._connection:
                    yield self._connection
            except _PASSING as error:
                raise OSError(errno.EAGAIN, f"{LOCK_FILE}: {error}") from error
            except apsw.Error as error:
                # After a failed sync a second one proves nothing: the next start reads which of
                # the two checkpoints the disk holds.
                self._failure = f"{type(error).__name__}: {error}"
                raise LockUnwritable(self._failure) from error


def read_halts(path: Path) -> list[Halt]:
    """The logs in a lock store that must not be signed any further; a server may have it open.

    Raises:
        LockUnwritable: the file cannot be read.
    """
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'halt'").get
            return [] if known is None else _halts(connection)
        finally:
            connection.close()
    except apsw.Error as error:
        raise LockUnwritable(f"{path}: {error}") from error


def read_head(path: Path, origin: str, *, timeout_s: float) -> Head | None:
    """The last checkpoint of a log in a lock store that is not trusted, nor its schema.

    Raises:
        Unverifiable: it cannot be read, or not within `timeout_s`.
    """
    with readable(path):
        connection = open_to_read(path, timeout_s=timeout_s)
        try:
            head = _head(connection, origin)
        finally:
            connection.close()
    if head is not None and not _is_as_stored(head):
        raise Unverifiable("Its checkpoint of this log is not as it was stored")
    return head


def _head(connection: apsw.Connection, origin: str) -> Head | None:
    rows = connection.execute(
        "SELECT origin, size, root, note FROM head WHERE origin = ?", (origin,)
    )
    return next((Head(*row) for row in rows), None)


def _halts(connection: apsw.Connection) -> list[Halt]:
    rows: list[Any] = connection.execute(
        "SELECT origin, at_ms, size, reason FROM halt ORDER BY at_ms, origin"
    ).fetchall()
    return [Halt(*row) for row in rows]


def _halt(connection: apsw.Connection, origin: str) -> Halt | None:
    return next((halt for halt in _halts(connection) if halt.origin == origin), None)


def _is_as_stored(head: Head) -> bool:
    """SQLite keeps what it is given, whatever type the column has."""
    return (
        isinstance(head.size, int) and isinstance(head.root, bytes) and isinstance(head.note, str)
    )
