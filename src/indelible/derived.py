"""A SQLite file that can be made again: what all of them do alike.

Everything in such a file was derived from the journal, or is worth less than a start that fails. So
a file that is damaged, or that another version wrote, is removed and begun again, and a power cut
may take the last transactions (`synchronous = NORMAL`): whole ones, each with the mark that says
how far it reached. Damage that shows later ends the use of the file by this process: it is removed,
and the next start makes it again.

    one connection writes, for one thread at a time    `transaction`
    a connection for each thread that reads            `reader`
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from indelible.connections import Readers, open_for_writing
from indelible.errors import Unavailable
from indelible.folder import private

logger = logging.getLogger(__name__)

DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)
"""What SQLite says of the file itself; every other error is of the machine around it."""

RESTART_HINT: Final = "Restart the server: it makes the file again."

MARKS: Final = """
CREATE TABLE IF NOT EXISTS mark (
    project_id INTEGER PRIMARY KEY,
    next_index INTEGER NOT NULL,  -- every entry below it has been handled
    last_tx    BLOB NOT NULL      -- the transaction id before it: tells another journal apart
);
"""
"""The table of a follower's positions: part of its schema, if it keeps them."""


class Mark(NamedTuple):
    """How far into a project's log a follower has come, and the transaction id before that."""

    next_index: int
    last_tx: bytes


class Derived:
    """One file, open for writing by this process.

    Args:
        schema: makes the tables; every statement says IF NOT EXISTS.
        version: of the schema. A file of version 0 is new, or older than versions are.
        probe: a query that fails if the rows cannot be read.
        secure: overwrite what is deleted with zeros. The WAL keeps it until `fold_in`.
        vfs: names the SQLite file layer; None is the operating system's own.

    Raises on building:
        apsw.Error, OSError: the file can be neither opened nor made.
    """

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        version: int,
        probe: str,
        cache_kib: int,
        secure: bool = False,
        vfs: str | None = None,
    ) -> None:
        self.path = path
        self._secure = secure
        self._schema = schema
        self._version = version
        self._probe = probe
        self._cache_kib = cache_kib
        self._vfs = vfs
        self._failure: str | None = None
        self._lock = threading.RLock()
        self._writer = self._open()
        self._readers = Readers(path, vfs=vfs)

    @property
    def failure(self) -> str | None:
        """Why the file is of no use to this process any more, or None while all is well."""
        return self._failure

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Hold the writing connection for one atomic change; it may be lost with the power.

        Raises:
            Unavailable: as `watched`.
            apsw.Error: nothing was changed; it may be tried again.
        """
        with self._lock, self.watched(), self._writer:
            yield self._writer

    def fold_in(self) -> bool:
        """Move the WAL into the file and empty it; False if a reader of an older state is in the
        way, so that it has to be tried again.

        Raises what `transaction` raises.
        """
        with self._lock, self.watched():
            busy, *_ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
        return not busy

    def reader(self) -> apsw.Connection:
        """This thread's connection for reading; use it within `watched`."""
        return self._readers.mine()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notice damage.

        Raises:
            Unavailable: the file is damaged, now or before; the next start makes it again.
        """
        if self._failure is None:
            try:
                yield
            except DAMAGED as error:
                self.give_up(f"{self.path.name} is damaged ({error})")
            else:
                return
        raise Unavailable(f"{self.path.name} is damaged", hint=RESTART_HINT)

    def give_up(self, why: str) -> None:
        """Use the file no more, and remove it, so that the next start makes it again."""
        self._failure = f"{why}; restart the server"
        logger.critical("%s", self._failure)
        remove(self.path)

    def close(self) -> None:
        """Close every connection."""
        self._readers.close()
        with suppress(apsw.Error):  # what is not folded in is read from the WAL at the next start
            self._writer.close()

    def _open(self) -> apsw.Connection:
        try:
            return self._prepared()
        except (*DAMAGED, _OtherVersion) as error:
            logger.warning("%s: %s; making it again", self.path.name, error)
            remove(self.path)
            return self._prepared()

    def _prepared(self) -> apsw.Connection:
        connection = open_for_writing(private(self.path), vfs=self._vfs, cache_kib=self._cache_kib)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            if self._secure:
                connection.execute("PRAGMA secure_delete = ON")
            self._settle_version(connection)
            connection.execute(self._probe).fetchall()  # the schema says nothing about the rows
        except BaseException:
            connection.close()  # closed later, it would take the WAL of the new file with it
            raise
        return connection

    def _settle_version(self, connection: apsw.Connection) -> None:
        """
        Raises:
            _OtherVersion.
        """
        found = int(connection.pragma("user_version"))
        if found not in (0, self._version):
            raise _OtherVersion(f"it is of version {found}")
        if found != self._version:
            with connection:
                connection.execute(f"{self._schema}; PRAGMA user_version = {self._version}")


def set_mark(connection: apsw.Connection, project_id: int, mark: Mark) -> None:
    """Move a project's position, within the transaction that holds the result."""
    connection.execute(
        "INSERT OR REPLACE INTO mark (project_id, next_index, last_tx) VALUES (?, ?, ?)",
        (project_id, *mark),
    )


def marks(connection: apsw.Connection) -> dict[int, Mark]:
    """The position of every project that has one."""
    rows = connection.execute("SELECT project_id, next_index, last_tx FROM mark")
    return {project_id: Mark(*mark) for project_id, *mark in rows}


def remove(path: Path) -> None:
    """Remove the file, with what SQLite keeps next to it."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


class _OtherVersion(Exception):
    """Another version of this software wrote the file."""
