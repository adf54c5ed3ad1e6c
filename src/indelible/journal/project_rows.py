"""What an audit reads of the journal's file: the rows of a project as they are, and the logs.

Types are not promised of a row: whoever altered the file may have left a text where bytes were.
As all that `indelible.journal.outside` does, this only reads, also beside a server that writes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from indelible.errors import JournalUnreadable
from indelible.journal.outside import limit_time, open_to_read, readable
from indelible.journal.tables import INDEX_BITS, INDEX_MASK, table_of
from indelible.registry.values import SERVER_ID

LONGEST_S: Final = 60.0
"""How long one call here may take: each reads a bounded part of the file."""

_MOST_LOGS: Final = 100_000
_LARGEST_PROJECT: Final = (1 << (63 - INDEX_BITS)) - 1
# The name of a project, of a successor, or the server's: it names a folder, and must not lead out
# of the ledger.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_COLUMNS: Final = ("leaf", "salts", "record", "payload")
# Text that is not UTF-8 would stop the library. The audit only needs to know that it is text, where
# bytes were stored.
_WITHOUT_TEXTS: Final = tuple(f"iif(typeof({one}) = 'text', 'text', {one})" for one in _COLUMNS)

RawRow = tuple[int, bytes, bytes | None, bytes | None, bytes | None]
"""Index, leaf, salts, record and payload; what is not there is None."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A log that the journal knows."""

    name: str
    project_id: int
    project: str
    origin: str | None
    vkey: str | None
    state: str


class ProjectRows:
    """The rows of one project; each process that it is handed to opens the file for itself."""

    def __init__(self, path: Path, project_id: int) -> None:
        self._path = path
        self._project_id = project_id
        self._connection: apsw.Connection | None = None
        self._table = ""

    def next_index(self) -> int:
        """How many events the project has, if none is missing.

        Raises:
            JournalUnreadable.
        """
        first = self._project_id << INDEX_BITS
        with readable(self._path):
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

    def rows(self, start: int, end: int) -> Iterator[RawRow]:
        """The rows that there are with start <= index < end, in order, one after the other.

        Raises as it goes:
            JournalUnreadable.
        """
        first = self._project_id << INDEX_BITS
        end = min(end, INDEX_MASK + 1)
        behind, last = first + end, first + start - 1
        columns: Sequence[str] = _COLUMNS
        with readable(self._path):
            while True:
                try:
                    for row_id, leaf, salts, record, payload in self._select(
                        columns, last + 1, behind
                    ):
                        if type(row_id) is not int or not last < row_id < behind:
                            raise JournalUnreadable(f"{self._path}: its ids are in no order")
                        last = row_id
                        yield row_id - first, leaf, salts, record, payload
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
            self._connection = open_to_read(self._path, timeout_s=LONGEST_S)
            named = self._connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN (?, 'event')"
                " ORDER BY name DESC",
                (table_of(self._project_id),),
            ).get
            if not isinstance(named, str):
                raise JournalUnreadable(f"{self._path} has no table of this log's events")
            self._table = named  # one of the two that were asked for
        limit_time(self._connection, LONGEST_S)
        return self._connection


def logs_of(path: Path) -> list[StoredLog]:
    """The logs that a journal knows, by name, the server's own last; none when it is older than
    logs are.

    Raises:
        JournalUnreadable.
    """
    with readable(path):
        connection = open_to_read(path, timeout_s=LONGEST_S)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log'").fetchall():
                return []
            rows: list[Any] = connection.execute(
                "SELECT log.name, project_id, project.name, origin, vkey, state"
                " FROM log JOIN project ON project.id = project_id"
                " ORDER BY project_id = ?, log.name LIMIT ?",
                (SERVER_ID, _MOST_LOGS),
            ).fetchall()
            found = [StoredLog(*row) for row in rows]
            if not all(map(_is_as_stored, found)):
                raise JournalUnreadable(f"{path}: a row of its table `log` is not as it was stored")
            return found
        finally:
            connection.close()


def _is_as_stored(log: StoredLog) -> bool:
    """Whether the types are those that the server stores: SQLite keeps what it is given."""
    return (
        all(isinstance(one, str) for one in (log.name, log.project, log.state))
        and _NAME.fullmatch(log.name) is not None
        and isinstance(log.project_id, int)
        and SERVER_ID <= log.project_id <= _LARGEST_PROJECT
        and all(isinstance(one, str | None) for one in (log.origin, log.vkey))
    )
