"""What an audit reads of a data folder: the journal's rows, the logs it knows, the lock's heads.

Everything here only reads, also beside a server that writes.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from indelible.errors import JournalUnreadable, Unverifiable
from indelible.journal.outside import DAMAGED, RIGHTS_HINT, limit_time, open_to_read
from indelible.journal.tables import INDEX_BITS, INDEX_MASK, table_of
from indelible.ledger.audit.known import Row, SignedHead
from indelible.registry.values import SERVER_ID
from indelible.untrusted import FileRefused

_LONGEST_S: Final = 60.0  # of one call here, each of which reads a bounded part of the file
_MOST_LOGS: Final = 100_000
_LARGEST_PROJECT: Final = (1 << (63 - INDEX_BITS)) - 1
# The name of a project, of a successor, or the server's: it names a folder, and must not lead out
# of the ledger.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_COLUMNS: Final = ("leaf", "salts", "record", "payload")
# Text that is not UTF-8 would stop the library. The audit only needs to know that it is text, where
# bytes were stored.
_WITHOUT_TEXTS: Final = tuple(f"iif(typeof({one}) = 'text', 'text', {one})" for one in _COLUMNS)


@dataclass(frozen=True, slots=True)
class LogRow:
    """A log that the journal knows."""

    name: str
    project_id: int
    project: str
    origin: str | None
    vkey: str | None
    state: str


class JournalFile:
    """The rows of one project: an `indelible.ledger.audit.known.JournalRows`.

    Each process that it is handed to opens the file for itself.
    """

    def __init__(self, path: Path, project_id: int) -> None:
        self._path = path
        self._project_id = project_id
        self._connection: apsw.Connection | None = None
        self._table = ""

    def next_index(self) -> int:
        first = self._project_id << INDEX_BITS
        with _readable(self._path):
            row = self._open().execute(
                f"SELECT max(id) FROM {self._table} WHERE id BETWEEN ? AND ?",  # noqa: S608
                (first, first | INDEX_MASK),
            )
            last = row.get
        if last is None:
            return 0
        if not isinstance(last, int):
            raise JournalUnreadable(f"{self._path}: the id of an event is no number")
        return (last & INDEX_MASK) + 1

    def rows(self, start: int, end: int) -> Iterator[Row]:
        first = self._project_id << INDEX_BITS
        end = min(end, INDEX_MASK + 1)
        behind, last = first + end, first + start - 1
        columns: Sequence[str] = _COLUMNS
        with _readable(self._path):
            while True:
                try:
                    for row_id, leaf, salts, record, payload in self._select(
                        columns, last + 1, behind
                    ):
                        if type(row_id) is not int or not last < row_id < behind:
                            raise JournalUnreadable(f"{self._path}: its ids are in no order")
                        last = row_id
                        yield Row(row_id - first, leaf, salts, record, payload)
                except UnicodeDecodeError:
                    if columns is _WITHOUT_TEXTS:
                        raise
                    columns = _WITHOUT_TEXTS  # from the row on at which it stopped
                else:
                    return

    def _select(self, columns: Sequence[str], start: int, end: int) -> Iterator[Any]:
        # A sound file has no more rows than this; one whose pages lead back to themselves may.
        return self._open().execute(
            f"SELECT id, {', '.join(columns)} FROM {self._table}"  # noqa: S608
            " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (start, end, max(0, end - start)),
        )

    def __getstate__(self) -> tuple[Path, int]:
        return self._path, self._project_id

    def __setstate__(self, state: tuple[Path, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = open_to_read(self._path, timeout_s=_LONGEST_S)
            named = self._connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN (?, 'event')"
                " ORDER BY name DESC",
                (table_of(self._project_id),),
            ).get
            if not isinstance(named, str):
                raise JournalUnreadable(f"{self._path} has no table of this log's events")
            self._table = named  # one of the two that were asked for
        limit_time(self._connection, _LONGEST_S)
        return self._connection


def logs_of(path: Path) -> list[LogRow]:
    """The logs that a journal knows, by name, the server's own last; none when it is older than
    logs are.

    Raises:
        JournalUnreadable.
    """
    with _readable(path):
        connection = open_to_read(path, timeout_s=_LONGEST_S)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log'").fetchall():
                return []
            rows: list[Any] = connection.execute(
                "SELECT log.name, project_id, project.name, origin, vkey, state"
                " FROM log JOIN project ON project.id = project_id"
                " ORDER BY project_id = ?, log.name LIMIT ?",
                (SERVER_ID, _MOST_LOGS),
            ).fetchall()
            found = [LogRow(*row) for row in rows]
            if not all(map(_is_as_stored, found)):
                raise JournalUnreadable(f"{path}: a row of its table `log` is not as it was stored")
            return found
        finally:
            connection.close()


def head_of(path: Path, origin: str, *, may_be_missing: bool) -> SignedHead | None:
    """The last signed checkpoint of a log in a lock store; None when it has none, and may.

    Raises:
        Unverifiable: it cannot be read, or is not there.
    """
    head = _head(path, origin) if os.path.lexists(path) else None
    if head is None and not may_be_missing:
        raise Unverifiable(
            "The last signed checkpoint of this log is not there: nothing shows whether the log "
            "was cut short, and no server starts on this folder"
        )
    return head


def _head(path: Path, origin: str) -> SignedHead | None:
    with _readable(path):
        connection = open_to_read(path, timeout_s=_LONGEST_S)
        try:
            for size, root, note in connection.execute(
                "SELECT size, root, note FROM head WHERE origin = ?", (origin,)
            ):
                if isinstance(size, int) and isinstance(root, bytes) and isinstance(note, str):
                    return SignedHead(size, root, note)
                raise Unverifiable("Its checkpoint of this log is not as it was stored")
            return None
        finally:
            connection.close()


def _is_as_stored(log: LogRow) -> bool:
    """Whether the types are those that the server stores: SQLite keeps what it is given."""
    return (
        all(isinstance(one, str) for one in (log.name, log.project, log.state))
        and _NAME.fullmatch(log.name) is not None
        and isinstance(log.project_id, int)
        and SERVER_ID <= log.project_id <= _LARGEST_PROJECT
        and all(isinstance(one, str | None) for one in (log.origin, log.vkey))
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileRefused as error:
        raise JournalUnreadable(f"{path}: {error.strerror}") from error
    except (apsw.Error, UnicodeDecodeError) as error:
        hint = None if isinstance(error, (*DAMAGED, UnicodeDecodeError)) else RIGHTS_HINT
        raise JournalUnreadable(f"{path}: {type(error).__name__}: {error}", hint=hint) from error
