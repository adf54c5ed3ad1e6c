"""The journal's rows, changed behind everybody's back: of a copy, never of a journal that serves.

This is the operator whom an audit has to find out. No rule of the journal holds here, nothing is
synced, and whatever was stored may be altered. `indelible.journal.copying` makes the copy.
"""

from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from indelible.journal.tables import INDEX_MASK, id_of, ids_of, table_of

_BEHIND: Final = INDEX_MASK + 1  # every index


class EventRow(NamedTuple):
    """The event at an index, as the journal's table has it."""

    at: int
    leaf: bytes
    unique_key: bytes | None
    salts: bytes | None
    record: bytes | None
    payload: bytes | None


class ForgeableRows:
    """The rows of one project in the copy at `path`."""

    def __init__(self, path: Path, project_id: int) -> None:
        self._path = path
        self._project_id = project_id

    def row(self, index: int) -> EventRow:
        ((_, *columns),) = self._run("SELECT * FROM {log} WHERE id = ?", self._id(index))
        return EventRow(index, *columns)

    def leaves(self, size: int) -> list[bytes]:
        """The leaf entries of the first `size` events."""
        ids = ids_of(self._project_id, 0, size)
        found = self._run("SELECT leaf FROM {log} WHERE id >= ? AND id < ? ORDER BY id", *ids)
        return [entry for (entry,) in found]

    def put(self, row: EventRow) -> None:
        """Add a row where there is none."""
        at, *columns = row
        self._run("INSERT INTO {log} VALUES (?, ?, ?, ?, ?, ?)", self._id(at), *columns)

    def replace(self, row: EventRow) -> None:
        """Give the event at this index other content."""
        self._run(
            "UPDATE {log} SET leaf = ?, salts = ?, record = ?, payload = ? WHERE id = ?",
            row.leaf,
            row.salts,
            row.record,
            row.payload,
            self._id(row.at),
        )

    def remove(self, start: int, end: int | None = None) -> None:
        """Take out the events from `start` on and before `end`, by default all of them."""
        ids = ids_of(self._project_id, start, _BEHIND if end is None else end)
        self._run("DELETE FROM {log} WHERE id >= ? AND id < ?", *ids)

    def shift(self, start: int, by: int) -> None:
        """Give the events from `start` on other indexes; two steps, as ids must stay unique."""
        ids, far = ids_of(self._project_id, start, _BEHIND), 1 << 62
        self._run("UPDATE {log} SET id = id + ? WHERE id >= ? AND id < ?", far, *ids)
        self._run("UPDATE {log} SET id = id - ? WHERE id > ?", far - by, far)

    def _id(self, index: int) -> int:
        return id_of(self._project_id, index)

    def _run(self, statement: str, *values: "apsw.SQLiteValue") -> list[Any]:
        """Run one statement; `{log}` stands for the log's table."""
        with closing(apsw.Connection(str(self._path))) as connection:
            connection.execute("PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON")
            named = statement.format(log=table_of(self._project_id))
            return connection.execute(named, values).fetchall()
