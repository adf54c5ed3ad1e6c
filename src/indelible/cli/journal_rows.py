"""What an audit reads of a data folder: the journal's rows, the logs it knows, the lock's heads.

Everything here only reads, also beside a server that writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from indelible.cli.journal_file import DAMAGED, RIGHTS_HINT, open_to_read
from indelible.errors import JournalUnreadable, Unverifiable
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
    head = _head(path, origin) if path.exists() else None
    if head is None and not may_be_missing:
        raise Unverifiable(
            "The last signed checkpoint of this log is not there: nothing shows whether the log "
            "was cut short, and no server starts on this folder"
        )
    return head


def _head(path: Path, origin: str) -> SignedHead | None:
    with _readable(path):
        connection = open_to_read(path)
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
        and isinstance(log.project_id, int)
        and all(isinstance(one, str | None) for one in (log.origin, log.vkey))
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        hint = None if isinstance(error, DAMAGED) else RIGHTS_HINT
        raise JournalUnreadable(f"{path}: {type(error).__name__}: {error}", hint=hint) from error
