"""The journal in SQLite.

Unique key, index, payload, salts, record and leaf of an event are written in one transaction, so
there is no moment at which one exists without the others.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Final, TypeVar

import apsw
import msgspec
from msgspec.structs import replace

from indelible import leaf
from indelible.clock import Clock, month_of, now_ms
from indelible.event import Kind, Lane
from indelible.journal.contract import Draft, Duplicate, Entry, Outcome, OverLimit, Stored
from indelible.journal.database import Database
from indelible.journal.txids import TxIds

_INDEX_BITS: Final = 40
_INDEX_MASK: Final = (1 << _INDEX_BITS) - 1
_COUNTED: Final = frozenset({Kind.PRODUCT, Kind.AUDIT})
_RANDOM_BYTES: Final = 2 * leaf.SALT_SIZE + 8  # two salts, and the tail of a transaction id

_COLUMNS: Final = "id, leaf, salts, record, payload"
_BY_KEY: Final = f"SELECT unique_key, {_COLUMNS} FROM event WHERE unique_key = ?"  # noqa: S608 — a constant
_LAST: Final = "SELECT id FROM event WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1"

_LARGEST_RUN: Final = 256
_T = TypeVar("_T")

_Row = tuple[int, bytes, bytes | None, bytes | None, bytes | None]
"""One row of `event`, in the order of _COLUMNS."""


class SqliteJournal:
    """`indelible.journal.contract.Journal` over a `Database`."""

    def __init__(self, database: Database, *, clock: Clock = now_ms) -> None:
        self.database = database
        self._clock = clock
        self._secrets: dict[int, bytes] = {}
        self._tx_ids = TxIds(clock, last=self._last_tx())

    # Writing

    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        with self.database.transaction() as connection:
            return self.insert(connection, drafts)

    def insert(self, connection: apsw.Connection, drafts: Sequence[Draft]) -> list[Outcome]:
        """`append` within a transaction that the caller holds and will commit."""
        group = _Group(connection, self._unique_key, self._tx_ids, month=month_of(self._clock()))
        keys = [
            None
            if draft.client_id is None
            else self._unique_key(
                connection, draft.project_id, draft.lane, draft.client_id.encode()
            )
            for draft in drafts
        ]
        group.look_up(key for key in keys if key is not None)
        outcomes = [group.take(draft, key) for draft, key in zip(drafts, keys, strict=True)]
        group.write()
        return outcomes

    def move_cursor(self, name: str, project_id: int, next_index: int) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO follower (name, project_id, next_index) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET next_index = excluded.next_index",
                (name, project_id, next_index),
            )

    # Reading

    def next_index(self, project_id: int) -> int:
        return _next_index(self.database.reader(), project_id)

    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        first = _id(project_id, max(start, 0))
        behind = _id(project_id, min(end, _INDEX_MASK))
        rows = self.database.reader().execute(
            f"SELECT {_COLUMNS} FROM event WHERE id >= ? AND id < ?",  # noqa: S608 — a constant
            (first, behind),
        )
        return [_entry(row) for row in rows]

    def find(self, project_id: int, lane: Lane, client_id: str) -> Entry | None:
        connection = self.database.reader()
        key = self._unique_key(connection, project_id, lane, client_id.encode("utf-8", "replace"))
        for _, *row in connection.execute(_BY_KEY, (key,)):
            return _entry(tuple(row))
        return None

    def find_tx(self, project_id: int, tx: bytes) -> Entry | None:
        index = self._first_index_from(project_id, tx)
        for entry in self.read(project_id, index, index + 1):
            if entry.leaf.tx == tx:
                return entry
        return None

    def first_index_stored_at(self, project_id: int, at_ms: int) -> int:
        bounded = min(max(at_ms, 0), (1 << 48) - 1)
        return self._first_index_from(project_id, (bounded << 80).to_bytes(16, "big"))

    def cursor(self, name: str, project_id: int) -> int:
        rows = self.database.reader().execute(
            "SELECT next_index FROM follower WHERE name = ? AND project_id = ?", (name, project_id)
        )
        return next((int(index) for (index,) in rows), 0)

    # Behind the scenes

    def _unique_key(
        self, connection: apsw.Connection, project_id: int, lane: Lane, name: bytes
    ) -> bytes:
        secret = self._secrets.get(project_id)
        if secret is None:
            row = connection.execute("SELECT secret FROM project WHERE id = ?", (project_id,))
            secret = self._secrets[project_id] = row.get
        return leaf.hmac_sha256(secret, lane.encode() + b"\x00" + name)

    def _last_tx(self) -> bytes | None:
        connection = self.database.reader()
        last: list[bytes] = []
        for (project_id,) in connection.execute("SELECT id FROM project").fetchall():
            assert isinstance(project_id, int)
            newest = _next_index(connection, project_id) - 1
            last += [entry.leaf.tx for entry in self.read(project_id, newest, newest + 1)]
        return max(last, default=None)

    def _first_index_from(self, project_id: int, tx: bytes) -> int:
        """The index of the first entry whose transaction id is not below `tx`."""
        connection = self.database.reader()
        low, high = 0, _next_index(connection, project_id)
        while low < high:
            middle = (low + high) // 2
            row = connection.execute(
                "SELECT leaf FROM event WHERE id = ?", (_id(project_id, middle),)
            )
            if leaf.decode(row.get).tx < tx:
                low = middle + 1
            else:
                high = middle
        return low


_UniqueKey = Callable[[apsw.Connection, int, Lane, bytes], bytes]


class _Group:
    """The events of one transaction: decided one by one, written together."""

    def __init__(
        self,
        connection: apsw.Connection,
        unique_key: _UniqueKey,
        tx_ids: TxIds,
        *,
        month: str,
    ) -> None:
        self._connection = connection
        self._unique_key = unique_key
        self._tx_ids = tx_ids
        self._month = month
        self._known: dict[bytes, _Row] = {}
        self._rows: list[tuple[int, bytes, bytes | None, bytes, bytes, bytes]] = []
        self._next: dict[int, int] = {}
        self._used: dict[int, int] = {}

    def look_up(self, keys: Iterable[bytes]) -> None:
        """Find out which of `keys` are stored already."""
        for part in _in_powers_of_two(list(keys)):
            for key, *row in self._connection.execute(_by_keys(len(part)), part):
                self._known[key] = tuple(row)

    def take(self, draft: Draft, key: bytes | None) -> Outcome:
        """Decide what becomes of `draft`; nothing is written yet."""
        first = None if key is None else self._known.get(key)
        if first is None:
            return self._admit(draft, key)
        same = _same_content(first[3], first[4], draft)
        if same is False and draft.new_entry_on_conflict:
            return self._take_beside(draft)
        return Duplicate(first[0] & _INDEX_MASK, leaf.decode(first[1]).tx, same)

    def _take_beside(self, draft: Draft) -> Outcome:
        """The id is taken by other content: know `draft` by its id and content together."""
        content = hashlib.sha256(draft.payload + _comparable(draft.record)).digest()
        assert draft.client_id is not None
        name = draft.client_id.encode() + b"\x00" + content
        key = self._unique_key(self._connection, draft.project_id, draft.lane, name)
        self.look_up([key])
        outcome = self.take(replace(draft, new_entry_on_conflict=False), key)
        return replace(outcome, conflict=True) if isinstance(outcome, Stored) else outcome

    def write(self) -> None:
        """Write what was decided."""
        for rows in _in_powers_of_two(self._rows):
            self._connection.execute(_insert(len(rows)), [value for row in rows for value in row])
        self._connection.executemany(
            "INSERT INTO usage (project_id, month, events) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET events = excluded.events",
            [(project_id, self._month, used) for project_id, used in self._used.items()],
        )

    def _admit(self, draft: Draft, key: bytes | None) -> Outcome:
        if draft.kind in _COUNTED:
            used = self._events_used(draft.project_id)
            if draft.monthly_limit is not None and used >= draft.monthly_limit:
                return OverLimit()
            self._used[draft.project_id] = used + 1
        return self._add(draft, key)

    def _add(self, draft: Draft, key: bytes | None) -> Stored:
        project_id = draft.project_id
        index = self._next.get(project_id)
        if index is None:
            index = _next_index(self._connection, project_id)
        self._next[project_id] = index + 1

        random = os.urandom(_RANDOM_BYTES)
        salts = random[: 2 * leaf.SALT_SIZE]
        tx = self._tx_ids.next(random[2 * leaf.SALT_SIZE :])
        entry = leaf.encode(
            draft.kind,
            received_at_ms=draft.received_at_ms,
            tx=tx,
            payload=leaf.commit(salts[: leaf.SALT_SIZE], leaf.PAYLOAD, draft.payload),
            record=leaf.commit(salts[leaf.SALT_SIZE :], leaf.RECORD, draft.record),
        )
        row_id = _id(project_id, index)
        self._rows.append((row_id, entry, key, salts, draft.record, draft.payload))
        if key is not None:
            self._known[key] = (row_id, entry, salts, draft.record, draft.payload)
        return Stored(index, tx)

    def _events_used(self, project_id: int) -> int:
        used = self._used.get(project_id)
        if used is None:
            used = events_used(self._connection, project_id, self._month)
        return used


def _in_powers_of_two(items: list[_T]) -> Iterator[list[_T]]:
    """Cut `items` into runs of 256 at most, each a power of two long.

    SQLite lets go of the interpreter's lock at each step, and getting it back beside a busy event
    loop costs milliseconds: so many rows go into one statement, and there are few statements to
    keep prepared.
    """
    start = 0
    while start < len(items):
        size = min(_LARGEST_RUN, 1 << ((len(items) - start).bit_length() - 1))
        yield items[start : start + size]
        start += size


@cache
def _insert(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO event (id, leaf, unique_key, salts, record, payload) VALUES {values}"  # noqa: S608


@cache
def _by_keys(keys: int) -> str:
    marks = ", ".join("?" * keys)
    return f"SELECT unique_key, {_COLUMNS} FROM event WHERE unique_key IN ({marks})"  # noqa: S608


def events_used(connection: apsw.Connection, project_id: int, month: str) -> int:
    """How many product and audit events the project stored in `month` (``2026-01``)."""
    rows = connection.execute(
        "SELECT events FROM usage WHERE project_id = ? AND month = ?", (project_id, month)
    )
    return next((int(events) for (events,) in rows), 0)


def _id(project_id: int, index: int) -> int:
    return project_id << _INDEX_BITS | index


def _next_index(connection: apsw.Connection, project_id: int) -> int:
    bounds = (_id(project_id, 0), _id(project_id, _INDEX_MASK))
    return next((int(i & _INDEX_MASK) + 1 for (i,) in connection.execute(_LAST, bounds)), 0)


def _entry(row: Sequence[object]) -> Entry:
    row_id, leaf_entry, salts, record, payload = row
    assert isinstance(row_id, int)
    assert isinstance(leaf_entry, bytes)
    assert isinstance(salts, bytes | None)
    assert isinstance(record, bytes | None)
    assert isinstance(payload, bytes | None)
    return Entry(
        project_id=row_id >> _INDEX_BITS,
        index=row_id & _INDEX_MASK,
        leaf_entry=leaf_entry,
        leaf=leaf.decode(leaf_entry),
        payload=payload,
        record=record,
        payload_salt=salts[: leaf.SALT_SIZE] if salts else None,
        record_salt=salts[leaf.SALT_SIZE :] if salts else None,
    )


def _same_content(record: bytes | None, payload: bytes | None, draft: Draft) -> bool | None:
    """Whether a stored event says the same as `draft`; None when it has been erased."""
    if record is None or payload is None:
        return None
    return payload == draft.payload and _comparable(record) == _comparable(draft.record)


def _comparable(record: bytes) -> bytes:
    """A record without what clients renew for each attempt: the request, and meta.request_id."""
    fields = msgspec.json.decode(record)
    fields.pop("request", None)
    fields.get("meta", {}).pop("request_id", None)
    return msgspec.json.encode(fields, order="sorted")
