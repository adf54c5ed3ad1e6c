"""What an audit reads of a data folder: the journal's rows, the logs it knows, the lock's heads.

Everything here only reads, also beside a server that writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from indelible.cli.journal_file import open_to_read
from indelible.errors import JournalUnreadable
from indelible.journal.tables import INDEX_BITS, INDEX_MASK
from indelible.ledger.known import Row, SignedHead


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
    """The rows of one project: an `indelible.ledger.known.JournalRows`.

    Each process that it is handed to opens the file for itself.
    """

    def __init__(self, path: Path, project_id: int) -> None:
        self._path = path
        self._project_id = project_id
        self._connection: apsw.Connection | None = None

    def next_index(self) -> int:
        first = self._project_id << INDEX_BITS
        with _readable(self._path):
            row = self._open().execute(
                "SELECT max(id) FROM event WHERE id BETWEEN ? AND ?", (first, first | INDEX_MASK)
            )
            last = row.get
        return 0 if last is None else (int(last) & INDEX_MASK) + 1

    def rows(self, start: int, end: int) -> list[Row]:
        first = self._project_id << INDEX_BITS
        with _readable(self._path):
            return [
                Row(row_id - first, leaf, salts, record, payload)
                for row_id, leaf, salts, record, payload in self._open().execute(
                    "SELECT id, leaf, salts, record, payload FROM event WHERE id >= ? AND id < ?",
                    (first + start, first + end),
                )
            ]

    def __getstate__(self) -> tuple[Path, int]:
        return self._path, self._project_id

    def __setstate__(self, state: tuple[Path, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = open_to_read(self._path)
        return self._connection


def logs_of(path: Path) -> list[LogRow]:
    """The logs that a journal knows, by name; none when it is older than logs are.

    Raises:
        JournalUnreadable.
    """
    with _readable(path):
        connection = open_to_read(path)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log'").fetchall():
                return []
            rows: list[Any] = connection.execute(
                "SELECT log.name, project_id, project.name, origin, vkey, state"
                " FROM log JOIN project ON project.id = project_id ORDER BY log.name"
            ).fetchall()
            return [LogRow(*row) for row in rows]
        finally:
            connection.close()


def head_of(path: Path, origin: str) -> SignedHead | None:
    """The last signed checkpoint of a log in a lock store; None when it has none.

    Raises:
        JournalUnreadable: it cannot be read.
    """
    if not path.exists():
        return None
    with _readable(path):
        connection = open_to_read(path)
        try:
            rows: list[Any] = connection.execute(
                "SELECT size, root, note FROM head WHERE origin = ?", (origin,)
            ).fetchall()
            return next((SignedHead(*row) for row in rows), None)
        finally:
            connection.close()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise JournalUnreadable(f"{path}: {type(error).__name__}: {error}") from error
