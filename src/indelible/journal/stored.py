"""The rows of a log's table, as they are stored, and the entries they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import apsw

from indelible import leaf
from indelible.errors import LeafMalformed, Tampered
from indelible.journal.contract import Entry
from indelible.journal.keys_file import Mark
from indelible.journal.moments import BLOCK, Block
from indelible.journal.tables import (
    INDEX_BITS,
    INDEX_MASK,
    id_of,
    ids_of,
    next_index_of,
    projects_of,
    table_of,
)

COLUMNS: Final = "id, leaf, salts, record, payload"

Row = tuple[int, bytes, bytes | None, bytes | None, bytes | None]
"""One row of a log's table, in the order of COLUMNS."""


class StoredRows:
    """The rows of a journal, as what is derived from them reads them.

    `connect` returns the calling thread's connection.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect

    def tx_of(self, row_id: int) -> bytes | None:
        # The view: the mark of another journal may name a project that this one does not have.
        rows = self._connect().execute("SELECT leaf FROM event WHERE id = ?", (row_id,))
        return next((leaf.decode(entry).tx for (entry,) in rows), None)

    def behind(self, marks: Mapping[int, Mark]) -> Iterator[tuple[int, int, bytes, bytes | None]]:
        reader = self._connect()
        for project_id in projects_of(reader):
            mark = marks.get(project_id)
            after = id_of(project_id, 0) - 1 if mark is None else mark.last_id
            rows = reader.execute(
                f"SELECT id, substr(leaf, 17, 16), unique_key FROM {table_of(project_id)}"  # noqa: S608
                " WHERE id > ?",
                (after,),
            )
            for row_id, tx, key in rows:
                assert isinstance(row_id, int)
                yield project_id, row_id, tx, key

    def next_index(self, project_id: int) -> int:
        return next_index_of(self._connect(), project_id)

    def blocks(self, project_id: int, first: int, behind: int) -> list[Block]:
        reader, made = self._connect(), []
        ask = (
            "SELECT min(substr(leaf, 9, 8)), max(substr(leaf, 9, 8))"  # noqa: S608
            f" FROM {table_of(project_id)} WHERE id >= ? AND id < ?"
        )
        for begin in range(first, behind, BLOCK):
            run = ids_of(project_id, begin, min(begin + BLOCK, behind))
            made.append(Block(*map(bytes, reader.execute(ask, run).get)))
        return made

    def received(
        self, project_id: int, first: int, behind: int, low: bytes, high: bytes
    ) -> tuple[int, int] | None:
        least, most = (
            self._connect()
            .execute(
                f"SELECT min(id), max(id) FROM {table_of(project_id)} WHERE id >= ? AND id < ?"  # noqa: S608
                " AND substr(leaf, 9, 8) >= ? AND substr(leaf, 9, 8) < ?",
                (*ids_of(project_id, first, behind), low, high),
            )
            .get
        )
        return None if least is None else (least & INDEX_MASK, (most & INDEX_MASK) + 1)


def row_at(connection: apsw.Connection, at: int) -> Row:
    """The row with this id, which is there."""
    row: Row
    table = table_of(at >> INDEX_BITS)
    (row,) = connection.execute(f"SELECT {COLUMNS} FROM {table} WHERE id = ?", (at,))  # noqa: S608
    return row


def entry_of(row: Sequence[object]) -> Entry:
    """
    Raises:
        Tampered: the row has other types than it was stored with, or no leaf.
    """
    row_id, leaf_entry, salts, record, payload = row
    assert isinstance(row_id, int)
    if not isinstance(leaf_entry, bytes):
        raise changed(row_id, "leaf")
    try:
        decoded = leaf.decode(leaf_entry)
    except LeafMalformed as error:
        raise changed(row_id, "leaf") from error
    if not isinstance(salts, bytes | None):
        raise changed(row_id, "salts")
    if not isinstance(record, bytes | None):
        raise changed(row_id, "record")
    if not isinstance(payload, bytes | None):
        raise changed(row_id, "payload")
    return Entry(
        project_id=row_id >> INDEX_BITS,
        index=row_id & INDEX_MASK,
        leaf_entry=leaf_entry,
        leaf=decoded,
        payload=payload,
        record=record,
        payload_salt=salts[: leaf.SALT_SIZE] if salts else None,
        record_salt=salts[leaf.SALT_SIZE :] if salts else None,
    )


def changed(row_id: int, column: str) -> Tampered:
    return Tampered(
        f"journal.db: the {column} of the event with index {row_id & INDEX_MASK} of project"
        f" {row_id >> INDEX_BITS} is not as it was stored"
    )
