"""Reading the logs in SQLite, through connections of whoever opened them.

The writer and a reader in another process share all of this. They differ in where connections come
from, and in how a client id is looked up.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Final, Protocol

import apsw
import msgspec

from indelible import leaf
from indelible.errors import LeafMalformed, NotFound, Tampered
from indelible.event import Lane
from indelible.journal.contract import Entry, Rows, Size
from indelible.journal.keys_file import Mark
from indelible.journal.moments import Block, Moments
from indelible.journal.stored import COLUMNS, StoredRows, changed, entry_of, row_at
from indelible.journal.tables import (
    INDEX_BITS,
    INDEX_MASK,
    MOST_ARMS,
    id_of,
    ids_of,
    next_index_of,
    projects_of,
    table_of,
)

_FEW_LEAVES: Final = 256
_SCANNED_AT_ONCE: Final = 8_192  # some 8 ms: an erasure waits for a reader of an older state

_NUMBERS: Final = msgspec.json.Decoder(list[int])


class Keys(Protocol):
    """The look-up of unique keys, as far as it reaches: see `indelible.journal.unique`."""

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]: ...

    def mark(self, project_id: int) -> Mark | None: ...

    def blocks(self, project_id: int, first: int) -> list[Block]: ...


class SqliteReading:
    """The reading half of `indelible.journal.contract.Journal`.

    `connection` returns the calling thread's connection.
    """

    def __init__(
        self, connection: Callable[[], apsw.Connection], rows: StoredRows, keys: Keys
    ) -> None:
        self.connection = connection
        self._lookup = keys
        self._makes_keys: dict[tuple[int, Lane], Callable[[bytes], bytes]] = {}
        self._moments = Moments(rows, keys.blocks)

    def newest(self) -> list[Entry]:
        """The last entry of each log."""
        connection = self.connection()
        last: list[Entry] = []
        for project_id in projects_of(connection):
            newest = next_index_of(connection, project_id) - 1
            last += self.read(project_id, newest, newest + 1)
        return last

    def next_index(self, project_id: int) -> int:
        return next_index_of(self.connection(), project_id)

    def next_indexes(self, project_ids: Iterable[int]) -> dict[int, int]:
        return self._read_ends(list(project_ids))

    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        rows = self.connection().execute(
            f"SELECT {COLUMNS} FROM {table_of(project_id)} WHERE id >= ? AND id < ?",  # noqa: S608
            ids_of(project_id, start, end),
        )
        return [entry_of(row) for row in rows]

    def leaves(self, project_id: int, start: int, end: int) -> list[bytes]:
        # A row that was changed from outside may hold any type, hence the cast.
        reader, table = self.connection(), table_of(project_id)
        if end - start > _FEW_LEAVES:
            rows = reader.execute(
                f"SELECT CAST(leaf AS BLOB) FROM {table} WHERE id >= ? AND id < ?",  # noqa: S608
                ids_of(project_id, start, end),
            )
            return [bytes(entry or b"") for (entry,) in rows]
        # A few of hundreds of projects in one step each, as `records`; of many the hex costs more.
        text: str | None = reader.execute(_leaves(table), ids_of(project_id, start, end)).get
        return [] if text is None else [bytes.fromhex(leaf) for leaf in text.split(",")]

    def leaf_run(self, project_id: int, start: int, end: int) -> bytes:
        # In one step, as `rows`.
        run, count, longest = (
            self.connection()
            .execute(_leaf_run(table_of(project_id)), ids_of(project_id, start, end))
            .get
        )
        if len(run or b"") != leaf.SIZE * count or (longest or 0) > leaf.SIZE:
            raise Tampered(f"journal.db: a leaf of project {project_id} is not as it was stored")
        return run or b""

    def rows(self, project_id: int, start: int, end: int, *, with_payloads: bool = True) -> Rows:
        # Put together within one step, which holds no lock of the interpreter: a row at a time
        # would take that lock back for each, in competition with the event loop.
        columns = ("record", "payload") if with_payloads else ("record",)
        found = self.connection().execute(
            _rows(table_of(project_id), columns), ids_of(project_id, start, end)
        )
        leaves, *parts = found.get
        records = _parts(*parts[:2])
        payloads = _parts(*parts[2:]) if with_payloads else []
        if len(leaves or b"") != leaf.SIZE * len(records):
            raise Tampered(f"journal.db: a leaf of project {project_id} is not as it was stored")
        return Rows(leaves or b"", records, payloads)

    def sizes(self, project_id: int, start: int, end: int) -> list[Size]:
        # In one step, as above. The length of a column stands in the head of its row: no content
        # is read, and none of the pages that it fills.
        text = (
            self.connection()
            .execute(_sizes(table_of(project_id)), ids_of(project_id, start, end))
            .get
        )
        numbers = iter(_NUMBERS.decode(f"[{text or ''}]"))
        return [Size(record, payload) for record, payload in zip(numbers, numbers, strict=True)]

    def find(self, project_id: int, lane: Lane, client_id: str) -> Entry | None:
        connection = self.connection()
        unique_key = self._unique_keys(connection, project_id, lane)
        key = unique_key(client_id.encode("utf-8", "replace"))
        # Read the mark before the index: rows up to the mark are indexed, later rows are scanned
        # below. In the other order a row committed in between would be missed.
        mark = self._lookup.mark(project_id)
        if mark is not None and (at := self._lookup.find([key]).get(key)) is not None:
            return entry_of(row_at(connection, at))
        start = 0 if mark is None else (mark.last_id & INDEX_MASK) + 1
        for first in range(start, self.next_index(project_id), _SCANNED_AT_ONCE):
            found = connection.execute(
                f"SELECT {COLUMNS} FROM {table_of(project_id)}"  # noqa: S608
                " WHERE id >= ? AND id < ? AND unique_key = ?",
                (*ids_of(project_id, first, first + _SCANNED_AT_ONCE), key),
            ).fetchall()
            if found:
                return entry_of(found[0])
        return None

    def find_tx(self, project_id: int, tx: bytes) -> Entry | None:
        index = self._first_index_from(project_id, tx)
        for entry in self.read(project_id, index, index + 1):
            if entry.leaf.tx == tx:
                return entry
        return None

    def received_between(
        self, project_id: int, from_ms: int, to_ms: int | None, *, start: int = 0
    ) -> list[tuple[int, int]]:
        return self._moments.received_between(project_id, from_ms, to_ms, start=start)

    def projects(self) -> list[int]:
        return projects_of(self.connection())

    def subkey(self, project_id: int, use: str) -> bytes:
        row = self.connection().execute("SELECT secret FROM project WHERE id = ?", (project_id,))
        secret = row.get
        if secret is None:
            raise NotFound(f"The journal has no project {project_id}")
        # No lane of the unique keys begins like this, so no such key is ever a subkey.
        return leaf.hmac_sha256(secret, b"indelible/subkey/v1\x00" + use.encode())

    # Behind the scenes

    def _read_ends(self, project_ids: Sequence[int]) -> dict[int, int]:
        """The next indexes of these projects, in few steps however many there are."""
        ends = dict.fromkeys(project_ids, 0)
        for start in range(0, len(project_ids), MOST_ARMS):
            last = " UNION ALL ".join(
                f"SELECT max(id) AS id FROM {table_of(project_id)}"  # noqa: S608
                for project_id in project_ids[start : start + MOST_ARMS]
            )
            ids = self.connection().execute(f"SELECT group_concat(id) FROM ({last})").get  # noqa: S608
            for row_id in map(int, str(ids).split(",") if ids is not None else ()):
                ends[row_id >> INDEX_BITS] = (row_id & INDEX_MASK) + 1
        return ends

    def _unique_keys(
        self, connection: apsw.Connection, project_id: int, lane: Lane
    ) -> Callable[[bytes], bytes]:
        """What makes the unique key of a name in this lane."""
        makes = self._makes_keys.get((project_id, lane))
        if makes is None:
            row = connection.execute("SELECT secret FROM project WHERE id = ?", (project_id,))
            makes = leaf.hmac_under(row.get, lane.encode() + b"\x00")
            self._makes_keys[project_id, lane] = makes
        return makes

    def _first_index_from(self, project_id: int, tx: bytes) -> int:
        """The index of the first entry whose transaction id is not below `tx`.

        Raises:
            Tampered: a leaf on the way was changed.
        """
        connection = self.connection()
        low, high = 0, next_index_of(connection, project_id)
        while low < high:
            middle = (low + high) // 2
            row_id = id_of(project_id, middle)
            row = connection.execute(
                f"SELECT CAST(leaf AS BLOB) FROM {table_of(project_id)} WHERE id = ?",  # noqa: S608
                (row_id,),
            )
            try:
                middle_tx = leaf.decode(row.get or b"").tx
            except LeafMalformed as error:
                raise changed(row_id, "leaf") from error
            if middle_tx < tx:
                low = middle + 1
            else:
                high = middle
        return low


def _parts(content: bytes | None, sizes: str | None) -> list[bytes | None]:
    """Cut the contents of a column apart; a size of -1 stands for NULL."""
    whole, at = content or b"", 0
    parts: list[bytes | None] = []
    for size in _NUMBERS.decode(f"[{sizes or ''}]"):
        if size < 0:
            parts.append(None)
        else:
            parts.append(whole[at : at + size])
            at += size
    return parts


@cache
def _leaves(table: str) -> str:
    rows = f"SELECT leaf FROM {table} WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608
    return f"SELECT group_concat(hex(CAST(leaf AS BLOB)), ',') FROM ({rows})"  # noqa: S608


@cache
def _leaf_run(table: str) -> str:
    rows = f"SELECT leaf FROM {table} WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608
    return (
        "SELECT CAST(group_concat(CAST(leaf AS TEXT), '') AS BLOB), count(*),"  # noqa: S608
        f" max(octet_length(leaf)) FROM ({rows})"
    )


@cache
def _rows(table: str, columns: tuple[str, ...]) -> str:
    # Text has no check of its bytes on the way through, and as a blob no decoding at the end.
    whole = ", ".join(
        f"CAST(group_concat(CAST({column} AS TEXT), '') AS BLOB),"
        f" group_concat(coalesce(octet_length({column}), -1), ',')"
        for column in columns
    )
    rows = f"SELECT leaf, {', '.join(columns)} FROM {table} WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608
    return f"SELECT CAST(group_concat(CAST(leaf AS TEXT), '') AS BLOB), {whole} FROM ({rows})"  # noqa: S608


@cache
def _sizes(table: str) -> str:
    rows = (
        "SELECT coalesce(length(record), 0) AS record, coalesce(length(payload), 0) AS payload"  # noqa: S608
        f" FROM {table} WHERE id >= ? AND id < ? ORDER BY id"
    )
    return f"SELECT group_concat(record || ',' || payload, ',') FROM ({rows})"  # noqa: S608
