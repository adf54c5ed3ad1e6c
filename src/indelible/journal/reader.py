"""The journal as a process reads it that does not write it.

    the writer's process               this process
    append ──▶ journal.db, its WAL ──▶ a read-only connection for each thread
    merge  ──▶ unique.db           ──▶ the same
                                       one more connection, asked whether anything was committed

A reader never takes SQLite's write lock, so nothing it does can make an append wait. Only one thing
waits for readers: `sweep`, which needs a moment in which no statement of theirs runs. So every
statement here reads a bounded range, and no transaction spans two of them.

Each statement sees everything that was committed before it began. Nobody tells this process of a
commit, so `wait` looks for one every few milliseconds; a process that does hear of commits calls
`wake`, and pays for no delay. Followers ask for the ends of all logs after each: these are kept for
as long as nothing is committed.

The writer may restart, fold its WAL into the file, erase and sweep: open connections see all of it.
If another file takes the place of the journal, as `indelible restore` does, every call raises
`DataUnreadable`: what this process derived from the old file says nothing about the new one.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

import apsw

from indelible.clock import monotonic_s
from indelible.connections import BUSY_TIMEOUT_MS, Readers, identity_of
from indelible.errors import DataUnreadable, JournalNewer
from indelible.journal.contract import Erased
from indelible.journal.database import SCHEMA_VERSION
from indelible.journal.keys_file import KEYS_FILE, KeysElsewhere
from indelible.journal.reading import SqliteReading
from indelible.journal.stored import StoredRows

_POLL_S: Final = 0.02  # one look takes some 10 us
_ENDS_AT_ONCE: Final = 100
"""Logs whose ends are read in one statement: apsw keeps no longer ones prepared, and preparing it
costs three times as much as the rest."""

Reader = TypeVar("Reader", bound="SqliteReader")


def open_reader(path: Path, *, vfs: str | None = None) -> "SqliteReader":
    """Open the journal at `path` for reading, whether its writer runs or not.

    Call it after a fork, never before: SQLite's connections do not survive one. `vfs` names the
    SQLite file layer; None is the operating system's own.

    Raises:
        DataUnreadable: it is not there, is no journal, or its writer has not raised it to this
            version's schema yet.
        JournalNewer: a later version wrote it.
    """
    return _opened(path, lambda: SqliteReader(path, vfs=vfs))


class Erasing(Protocol):
    """Erases in the process that writes: see `indelible.journal.contract.ErasableJournal`."""

    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased: ...

    def sweep(self) -> bool: ...


def open_erasable(path: Path, erasing: Erasing) -> "ErasableReader":
    """As `open_reader`, and what is to be erased is erased by `erasing`."""
    return _opened(path, lambda: ErasableReader(path, erasing))


def _opened(path: Path, make: Callable[[], Reader]) -> Reader:
    """
    Raises:
        DataUnreadable, JournalNewer: as `open_reader`.
    """
    try:
        reader = make()
    except apsw.Error as error:
        raise DataUnreadable(f"{path} cannot be opened: {error}") from error
    try:
        _check_version(path, int(reader.connection().pragma("user_version")))
    except apsw.Error as error:
        reader.close()
        raise DataUnreadable(f"{path} cannot be read: {error}") from error
    except BaseException:
        reader.close()
        raise
    return reader


def _check_version(path: Path, version: int) -> None:
    """
    Raises:
        DataUnreadable, JournalNewer.
    """
    if version > SCHEMA_VERSION:
        raise JournalNewer(f"{path} has schema {version}; this version reads {SCHEMA_VERSION}")
    if version < SCHEMA_VERSION:
        raise DataUnreadable(f"{path} has schema {version}: its writer has not raised it yet")


class SqliteReader(SqliteReading):
    """`indelible.journal.contract.JournalReader` over files that another process writes."""

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        self._path = str(path)
        self._identity = identity_of(self._path)
        self._readers = Readers(path, vfs=vfs)
        self._commits = 0
        self._changed = threading.Condition()
        # Under `_changed`: connections are for one thread at a time.
        self._watch = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
        self._watch.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._version = 0
        self._watch_failure: str | None = None
        self._look()
        self._ends_lock = threading.Lock()
        self._ends: dict[int, int] = {}
        self._ends_version: int | None = None
        rows = StoredRows(self._connect)
        self._keys = KeysElsewhere(path.with_name(KEYS_FILE), rows.tx_of, vfs=vfs)
        super().__init__(self._connect, rows, self._keys)

    @property
    def failure(self) -> str | None:
        return self._misplaced() or self._watch_failure

    def next_indexes(self, project_ids: Iterable[int]) -> dict[int, int]:
        wanted = list(project_ids)
        self._connect()  # what is kept counts only while the journal is in its place
        with self._ends_lock:
            # First the version, then the ends: those of a commit in between are read once more.
            version = self._version_now()
            if version is None or version != self._ends_version:
                self._ends, self._ends_version = {}, version
            unknown = sorted(set(wanted) - self._ends.keys())
            for at in range(0, len(unknown), _ENDS_AT_ONCE):
                self._ends |= self._read_ends(unknown[at : at + _ENDS_AT_ONCE])
            return {project_id: self._ends[project_id] for project_id in wanted}

    def wait(self, seen: int, *, timeout_s: float) -> int:
        deadline_s = monotonic_s() + timeout_s
        with self._changed:
            while True:
                self._look()
                left_s = deadline_s - monotonic_s()
                if self._commits > seen or left_s <= 0:
                    return self._commits
                self._changed.wait(min(left_s, _POLL_S))

    def wake(self) -> None:
        with self._changed:
            self._commits += 1
            self._changed.notify_all()

    def close(self) -> None:
        self._keys.close()
        self._readers.close()
        with self._changed, suppress(apsw.Error):
            self._watch.close()

    def _connect(self) -> apsw.Connection:
        """
        Raises:
            DataUnreadable: another file is in the journal's place.
        """
        if (misplaced := self._misplaced()) is not None:
            raise DataUnreadable(misplaced, hint="Restart the server.")
        return self._readers.mine()

    def _misplaced(self) -> str | None:
        found = identity_of(self._path)
        if found == self._identity:
            return None
        state = "gone" if found is None else "another file than the one that is open"
        return f"{self._path} is {state}"

    def _version_now(self) -> int | None:
        """A number that another commit changes; None if the journal cannot be asked."""
        with self._changed:
            self._look()
            return None if self._watch_failure is not None else self._version

    def _look(self) -> None:
        """Count it if anything was committed since the last look."""
        try:
            version = int(self._watch.execute("PRAGMA data_version").get)
        except apsw.Error as error:
            self._watch_failure = f"{self._path}: {error}"
            return
        self._watch_failure = None
        if version != self._version:
            self._version = version
            self._commits += 1


class ErasableReader(SqliteReader):
    """`indelible.journal.contract.ErasableJournal` over files that another process writes."""

    def __init__(self, path: Path, erasing: Erasing) -> None:
        super().__init__(path, vfs=None)
        self.erase = erasing.erase
        self.sweep = erasing.sweep
