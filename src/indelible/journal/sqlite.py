"""The journal in SQLite.

Unique key, index, payload, salts, record and leaf of an event are one row, written in one synced
transaction, so there is no moment at which one exists without the others.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Final

import apsw
import msgspec
from msgspec.structs import replace

from indelible import leaf
from indelible.clock import Clock, month_of, now_ms
from indelible.errors import (
    JournalUnwritable,
    LeafMalformed,
    NotErasable,
    NotFound,
    Tampered,
)
from indelible.event import Kind, Lane, tx_text
from indelible.journal.connections import in_runs
from indelible.journal.contract import (
    Draft,
    Duplicate,
    Entry,
    Erased,
    Outcome,
    OverLimit,
    Records,
    Size,
    Stored,
)
from indelible.journal.database import Database
from indelible.journal.erasing import ERASABLE, erasure, leaves_of, wipe
from indelible.journal.moments import BLOCK, Block, Moments
from indelible.journal.tables import INDEX_BITS, INDEX_MASK, MOST_ARMS, table_of
from indelible.journal.txids import TxIds
from indelible.journal.unique import Mark, UniqueKeys
from indelible.record import comparable, says_the_same

KEYS_FILE: Final = "unique.db"

_COUNTED: Final = frozenset({Kind.PRODUCT, Kind.AUDIT})
_MOST_ERASED: Final = 2_000  # in one transaction: ingest waits for it, some 50 ms
_FEW_LEAVES: Final = 256
_RANDOM_BYTES: Final = 2 * leaf.SALT_SIZE + 8  # two salts, and the tail of a transaction id

_COLUMNS: Final = "id, leaf, salts, record, payload"

_NUMBERS: Final = msgspec.json.Decoder(list[int])

_Row = tuple[int, bytes, bytes | None, bytes | None, bytes | None]
"""One row of `event`, in the order of _COLUMNS."""

_NewRow = tuple[int, bytes, bytes | None, bytes, bytes, bytes]
"""A row to be written, in the order of `_insert`: with its unique key in third place."""


class SqliteJournal:
    """`indelible.journal.contract.Journal` over a `Database`."""

    def __init__(self, database: Database, *, clock: Clock = now_ms) -> None:
        self.database = database
        self._clock = clock
        self._secrets: dict[int, bytes] = {}
        self._tx_ids = TxIds(clock, last=self._last_tx())
        newest = [entry.leaf.received_at_ms for entry in self._newest()]
        self.newest_at_start_ms: int | None = max(newest, default=None)
        """When the newest entry of any log had been received, ms since the epoch."""
        self._appending = threading.Lock()
        # Followers ask for all ends after each commit: those of hundreds of logs are not read from
        # the file each time. This process alone adds entries.
        self._ends_lock = threading.Lock()
        self._ends: dict[int, int] = {}
        self._logged: dict[int, int] = {}
        rows = _StoredRows(database)
        self._keys = UniqueKeys(database.path.with_name(KEYS_FILE), rows, vfs=database.vfs)
        self._moments = Moments(rows, self._keys.blocks)

    @property
    def newest_tx_ms(self) -> int:
        """The time in the newest transaction id, ms since the epoch; 0 in an empty journal."""
        return self._tx_ids.ms

    @property
    def failure(self) -> str | None:
        """Why nothing is stored any more, or None while all is well."""
        return self.database.failure or self._keys.failure

    # Writing

    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        # Held until the new keys can be found, or a second append could miss them.
        with self._appending:
            if self._keys.failure is not None:  # before anything is written
                raise JournalUnwritable(self._keys.failure)
            with self.database.transaction(patience_s=None, looks_first=False) as connection:
                group = self._group(connection)
                outcomes = group.take_all(drafts)
                group.write()
            marks = group.marks()
            with self._ends_lock:
                for project_id, mark in marks.items():
                    end = (mark.last_id & INDEX_MASK) + 1
                    self._ends[project_id] = max(end, self._ends.get(project_id, 0))
            self._keys.add(group.new_keys(), marks)
        # They are stored in the file that is open: is it still the one that a restart would find?
        if (misplaced := self.database.out_of_place()) is not None:
            raise JournalUnwritable(misplaced)
        return outcomes

    def probe(self) -> None:
        if self._keys.failure is not None:
            raise JournalUnwritable(self._keys.failure)
        self.database.probe()

    def log(self, connection: apsw.Connection, draft: Draft) -> Stored:
        """Add one uncounted event without a client id, in a transaction that the caller holds."""
        assert draft.client_id is None
        group = self._group(connection)
        (outcome,) = group.take_all([draft])
        group.write()
        assert isinstance(outcome, Stored)
        with self._ends_lock:
            self._logged[draft.project_id] = outcome.index + 1
        return outcome

    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        wanted = sorted(set(indexes))
        self._refuse_unerasable(project_id, wanted)
        entries: list[Stored] = []
        erased = 0
        for start in range(0, len(wanted), _MOST_ERASED):
            row_ids = [_id(project_id, index) for index in wanted[start : start + _MOST_ERASED]]
            with self.database.transaction() as connection:
                wiped = [
                    row_id & INDEX_MASK
                    for row_id in wipe(connection, table_of(project_id), row_ids)
                ]
                if wiped:
                    self.database.must_sweep()
                    draft = erasure(project_id, wiped, reason=reason, at_ms=received_at_ms)
                    entries.append(self.log(connection, draft))
            # power lost here: the entries are erased, and the next start sweeps their bytes away
            erased += len(wiped)
        return Erased(tuple(entries), erased, len(wanted) - erased, self.database.sweep())

    def sweep(self) -> bool:
        return self.database.sweep()

    def close(self) -> None:
        """Close the journal and the database below it."""
        self._keys.close()
        self.database.close()

    def move_cursor(self, name: str, project_id: int, next_index: int) -> None:
        self.move_cursors(name, {project_id: next_index})

    def move_cursors(self, name: str, next_indexes: Mapping[int, int]) -> None:
        rows = [(name, project_id, index) for project_id, index in next_indexes.items()]
        with self.database.transaction() as connection:
            for run in in_runs(rows):
                values = [value for row in run for value in row]
                connection.execute(_move_cursors(len(run)), values)

    # Reading

    def next_index(self, project_id: int) -> int:
        return _next_index(self.database.reader(), project_id)

    def next_indexes(self, project_ids: Iterable[int]) -> dict[int, int]:
        wanted = list(project_ids)
        with self._ends_lock:
            self._read_ends([one for one in wanted if one not in self._ends])
            # Entries of `log` count once their transaction, which is the caller's, is committed.
            for project_id in [one for one in wanted if one in self._logged]:
                self._ends[project_id] = self.next_index(project_id)
                if self._ends[project_id] >= self._logged[project_id]:
                    del self._logged[project_id]
            return {project_id: self._ends[project_id] for project_id in wanted}

    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        rows = self.database.reader().execute(
            f"SELECT {_COLUMNS} FROM {table_of(project_id)} WHERE id >= ? AND id < ?",  # noqa: S608
            _ids(project_id, start, end),
        )
        return [_entry(row) for row in rows]

    def leaves(self, project_id: int, start: int, end: int) -> list[bytes]:
        # A row that was changed from outside may hold any type, hence the cast.
        reader, table = self.database.reader(), table_of(project_id)
        if end - start > _FEW_LEAVES:
            rows = reader.execute(
                f"SELECT CAST(leaf AS BLOB) FROM {table} WHERE id >= ? AND id < ?",  # noqa: S608
                _ids(project_id, start, end),
            )
            return [bytes(entry or b"") for (entry,) in rows]
        # A few of hundreds of projects in one step each, as `records`; of many the hex costs more.
        text: str | None = reader.execute(_leaves(table), _ids(project_id, start, end)).get
        return [] if text is None else [bytes.fromhex(leaf) for leaf in text.split(",")]

    def records(self, project_id: int, start: int, end: int) -> Records:
        # Put together within one step, which holds no lock of the interpreter: a row at a time
        # would take that lock back for each, in competition with the event loop.
        rows = self.database.reader().execute(
            _records(table_of(project_id)), _ids(project_id, start, end)
        )
        leaves, records = rows.get
        return Records(bytes.fromhex(leaves or ""), f"[{records or ''}]")

    def sizes(self, project_id: int, start: int, end: int) -> list[Size]:
        # In one step, as above. The length of a column stands in the head of its row: no content
        # is read, and none of the pages that it fills.
        text = (
            self.database.reader()
            .execute(_sizes(table_of(project_id)), _ids(project_id, start, end))
            .get
        )
        numbers = iter(_NUMBERS.decode(f"[{text or ''}]"))
        return [Size(record, payload) for record, payload in zip(numbers, numbers, strict=True)]

    def find(self, project_id: int, lane: Lane, client_id: str) -> Entry | None:
        connection = self.database.reader()
        key = self._unique_key(connection, project_id, lane, client_id.encode("utf-8", "replace"))
        # The mark first: what is not behind it can be found by key, and what is, by looking there.
        mark = self._keys.mark(project_id)
        row_id = self._keys.find([key]).get(key)
        if row_id is not None:
            return _entry(_row(connection, row_id))
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM {table_of(project_id)} WHERE id > ? AND unique_key = ?",  # noqa: S608
            (
                _id(project_id, 0) - 1 if mark is None else mark.last_id,
                key,
            ),
        )
        return next((_entry(row) for row in rows), None)

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

    def cursor(self, name: str, project_id: int) -> int:
        # A follower starts here. Without this check it would recreate a folder that was moved.
        if (misplaced := self.database.out_of_place()) is not None:
            raise JournalUnwritable(misplaced)
        rows = self.database.reader().execute(
            "SELECT next_index FROM follower WHERE name = ? AND project_id = ?", (name, project_id)
        )
        return next((int(index) for (index,) in rows), 0)

    # Behind the scenes

    def _read_ends(self, project_ids: Sequence[int]) -> None:
        """Read the next indexes of these projects, in few steps however many there are."""
        ends = dict.fromkeys(project_ids, 0)
        for start in range(0, len(project_ids), MOST_ARMS):
            last = " UNION ALL ".join(
                f"SELECT max(id) AS id FROM {table_of(project_id)}"  # noqa: S608
                for project_id in project_ids[start : start + MOST_ARMS]
            )
            ids = self.database.reader().execute(f"SELECT group_concat(id) FROM ({last})").get  # noqa: S608
            for row_id in map(int, str(ids).split(",") if ids is not None else ()):
                ends[row_id >> INDEX_BITS] = (row_id & INDEX_MASK) + 1
        self._ends |= ends

    def _refuse_unerasable(self, project_id: int, indexes: Sequence[int]) -> None:
        """
        Raises:
            NotFound, NotErasable.
        """
        if indexes and not 0 <= indexes[0] <= indexes[-1] < self.next_index(project_id):
            raise NotFound(f"The log has no index {indexes[0] if indexes[0] < 0 else indexes[-1]}")
        reader = self.database.reader()
        row_ids = [_id(project_id, index) for index in indexes]
        for entry in leaves_of(reader, table_of(project_id), row_ids).values():
            read = leaf.decode(entry)
            if read.kind not in ERASABLE:
                raise NotErasable(f"{tx_text(read.tx)} is of kind {read.kind.word}")

    def _group(self, connection: apsw.Connection) -> "_Group":
        month = month_of(self._clock())
        return _Group(connection, self._keys, self._unique_key, self._tx_ids, month=month)

    def _unique_key(
        self, connection: apsw.Connection, project_id: int, lane: Lane, name: bytes
    ) -> bytes:
        secret = self._secrets.get(project_id)
        if secret is None:
            row = connection.execute("SELECT secret FROM project WHERE id = ?", (project_id,))
            secret = self._secrets[project_id] = row.get
        return leaf.hmac_sha256(secret, lane.encode() + b"\x00" + name)

    def _last_tx(self) -> bytes | None:
        return max((entry.leaf.tx for entry in self._newest()), default=None)

    def _newest(self) -> list[Entry]:
        """The last entry of each log."""
        connection = self.database.reader()
        last: list[Entry] = []
        for (project_id,) in connection.execute("SELECT id FROM project").fetchall():
            assert isinstance(project_id, int)
            newest = _next_index(connection, project_id) - 1
            last += self.read(project_id, newest, newest + 1)
        return last

    def _first_index_from(self, project_id: int, tx: bytes) -> int:
        """The index of the first entry whose transaction id is not below `tx`.

        Raises:
            Tampered: a leaf on the way was changed.
        """
        connection = self.database.reader()
        low, high = 0, _next_index(connection, project_id)
        while low < high:
            middle = (low + high) // 2
            row_id = _id(project_id, middle)
            row = connection.execute(
                f"SELECT CAST(leaf AS BLOB) FROM {table_of(project_id)} WHERE id = ?",  # noqa: S608
                (row_id,),
            )
            try:
                middle_tx = leaf.decode(row.get or b"").tx
            except LeafMalformed as error:
                raise _changed(row_id, "leaf") from error
            if middle_tx < tx:
                low = middle + 1
            else:
                high = middle
        return low


class _StoredRows:
    """The rows of a journal, as `UniqueKeys` reads them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tx_of(self, row_id: int) -> bytes | None:
        # The view: the mark of another journal may name a project that this one does not have.
        rows = self._database.reader().execute("SELECT leaf FROM event WHERE id = ?", (row_id,))
        return next((leaf.decode(entry).tx for (entry,) in rows), None)

    def behind(self, marks: Mapping[int, Mark]) -> Iterator[tuple[int, int, bytes, bytes | None]]:
        reader = self._database.reader()
        for (project_id,) in reader.execute("SELECT id FROM project").fetchall():
            assert isinstance(project_id, int)
            mark = marks.get(project_id)
            after = _id(project_id, 0) - 1 if mark is None else mark.last_id
            rows = reader.execute(
                f"SELECT id, substr(leaf, 17, 16), unique_key FROM {table_of(project_id)}"  # noqa: S608
                " WHERE id > ?",
                (after,),
            )
            for row_id, tx, key in rows:
                assert isinstance(row_id, int)
                yield project_id, row_id, tx, key

    def next_index(self, project_id: int) -> int:
        return _next_index(self._database.reader(), project_id)

    def blocks(self, project_id: int, first: int, behind: int) -> list[Block]:
        reader, made = self._database.reader(), []
        ask = (
            "SELECT min(substr(leaf, 9, 8)), max(substr(leaf, 9, 8))"  # noqa: S608
            f" FROM {table_of(project_id)} WHERE id >= ? AND id < ?"
        )
        for begin in range(first, behind, BLOCK):
            run = _ids(project_id, begin, min(begin + BLOCK, behind))
            made.append(Block(*map(bytes, reader.execute(ask, run).get)))
        return made

    def received(
        self, project_id: int, first: int, behind: int, low: bytes, high: bytes
    ) -> tuple[int, int] | None:
        least, most = (
            self._database.reader()
            .execute(
                f"SELECT min(id), max(id) FROM {table_of(project_id)} WHERE id >= ? AND id < ?"  # noqa: S608
                " AND substr(leaf, 9, 8) >= ? AND substr(leaf, 9, 8) < ?",
                (*_ids(project_id, first, behind), low, high),
            )
            .get
        )
        return None if least is None else (least & INDEX_MASK, (most & INDEX_MASK) + 1)


_UniqueKey = Callable[[apsw.Connection, int, Lane, bytes], bytes]


class _Group:
    """The events of one transaction: decided one by one, written together."""

    def __init__(
        self,
        connection: apsw.Connection,
        keys: UniqueKeys,
        unique_key: _UniqueKey,
        tx_ids: TxIds,
        *,
        month: str,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._unique_key = unique_key
        self._tx_ids = tx_ids
        self._month = month
        self._known: dict[bytes, int] = {}
        self._rows: list[_NewRow] = []
        self._by_key: dict[bytes, _NewRow] = {}
        self._next: dict[int, int] = {}
        self._used: dict[tuple[int, Lane], int] = {}
        self._random = BytesIO()

    def take_all(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Decide what becomes of each draft, in order; nothing is written yet."""
        keys = [
            None
            if draft.client_id is None
            else self._unique_key(
                self._connection, draft.project_id, draft.lane, draft.client_id.encode()
            )
            for draft in drafts
        ]
        self._known = self._keys.find([key for key in keys if key is not None])
        # In one step for all of them: each would hand the interpreter's lock around.
        self._random = BytesIO(os.urandom(_RANDOM_BYTES * len(drafts)))
        return [self._take(draft, key) for draft, key in zip(drafts, keys, strict=True)]

    def write(self) -> None:
        """Write what was decided."""
        by_project: dict[int, list[_NewRow]] = {}
        for row in self._rows:
            by_project.setdefault(row[0] >> INDEX_BITS, []).append(row)
        for project_id, mine in by_project.items():
            for rows in in_runs(mine):
                values = [value for row in rows for value in row]
                self._connection.execute(_insert(table_of(project_id), len(rows)), values)
        for (project_id, lane), used in self._used.items():
            self._connection.execute(
                "INSERT INTO usage (project_id, month, lane, events) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET events = excluded.events",
                (project_id, self._month, lane.value, used),
            )

    def new_keys(self) -> list[tuple[bytes, int]]:
        """The keys that were written, with their row ids."""
        return [(key, row[0]) for key, row in self._by_key.items()]

    def marks(self) -> Mapping[int, Mark]:
        """The last row of every project that was written to."""
        return {row[0] >> INDEX_BITS: Mark(row[0], row[1][16:32]) for row in self._rows}

    def _take(self, draft: Draft, key: bytes | None) -> Outcome:
        first = None if key is None else self._first(key)
        if first is None:
            return self._admit(draft, key)
        same = _same_content(first[3], first[4], draft)
        if same is False and draft.new_entry_on_conflict:
            return self._take_beside(draft)
        return Duplicate(first[0] & INDEX_MASK, leaf.decode(first[1]).tx, same)

    def _take_beside(self, draft: Draft) -> Outcome:
        """The id is taken by other content: know `draft` by its id and content together."""
        content = hashlib.sha256(draft.payload + comparable(draft.record)).digest()
        assert draft.client_id is not None
        name = draft.client_id.encode() + b"\x00" + content
        key = self._unique_key(self._connection, draft.project_id, draft.lane, name)
        self._known.update(self._keys.find([key]))
        outcome = self._take(replace(draft, new_entry_on_conflict=False), key)
        return replace(outcome, conflict=True) if isinstance(outcome, Stored) else outcome

    def _first(self, key: bytes) -> _Row | None:
        """The event that has this key: of this group, or stored before."""
        new = self._by_key.get(key)
        if new is not None:
            row_id, entry, _, salts, record, payload = new
            return row_id, entry, salts, record, payload
        known_id = self._known.get(key)
        return None if known_id is None else _row(self._connection, known_id)

    def _admit(self, draft: Draft, key: bytes | None) -> Outcome:
        if draft.kind in _COUNTED:
            used = self._events_used(draft.project_id, draft.lane)
            if draft.monthly_limit is not None and used >= draft.monthly_limit:
                return OverLimit()
            self._used[draft.project_id, draft.lane] = used + 1
        return self._add(draft, key)

    def _add(self, draft: Draft, key: bytes | None) -> Stored:
        project_id = draft.project_id
        index = self._next.get(project_id)
        if index is None:
            index = _next_index(self._connection, project_id)
        self._next[project_id] = index + 1

        random = self._random.read(_RANDOM_BYTES)
        salts = random[: 2 * leaf.SALT_SIZE]
        tx = self._tx_ids.next(random[2 * leaf.SALT_SIZE :])
        entry = leaf.encode(
            draft.kind,
            received_at_ms=draft.received_at_ms,
            tx=tx,
            payload=leaf.commit(salts[: leaf.SALT_SIZE], leaf.PAYLOAD, draft.payload),
            record=leaf.commit(salts[leaf.SALT_SIZE :], leaf.RECORD, draft.record),
        )
        row = (_id(project_id, index), entry, key, salts, draft.record, draft.payload)
        self._rows.append(row)
        if key is not None:
            self._by_key[key] = row
        return Stored(index, tx)

    def _events_used(self, project_id: int, lane: Lane) -> int:
        used = self._used.get((project_id, lane))
        if used is None:
            used = events_used(self._connection, project_id, lane, self._month)
        return used


@cache
def _insert(table: str, rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO {table} (id, leaf, unique_key, salts, record, payload) VALUES {values}"  # noqa: S608


@cache
def _leaves(table: str) -> str:
    rows = f"SELECT leaf FROM {table} WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608
    return f"SELECT group_concat(hex(CAST(leaf AS BLOB)), ',') FROM ({rows})"  # noqa: S608


@cache
def _move_cursors(rows: int) -> str:
    values = ", ".join(["(?, ?, ?)"] * rows)
    return (
        f"INSERT INTO follower (name, project_id, next_index) VALUES {values}"  # noqa: S608
        " ON CONFLICT DO UPDATE SET next_index = excluded.next_index"
    )


@cache
def _records(table: str) -> str:
    rows = f"SELECT leaf, record FROM {table} WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608
    return (
        "SELECT group_concat(hex(leaf), ''),"  # noqa: S608
        f" group_concat(coalesce(CAST(record AS TEXT), 'null'), ',') FROM ({rows})"
    )


@cache
def _sizes(table: str) -> str:
    rows = (
        "SELECT coalesce(length(record), 0) AS record, coalesce(length(payload), 0) AS payload"  # noqa: S608
        f" FROM {table} WHERE id >= ? AND id < ? ORDER BY id"
    )
    return f"SELECT group_concat(record || ',' || payload, ',') FROM ({rows})"  # noqa: S608


def events_used(connection: apsw.Connection, project_id: int, lane: Lane, month: str) -> int:
    """How many events of `lane` the project stored in `month` (``2026-01``)."""
    rows = connection.execute(
        "SELECT events FROM usage WHERE project_id = ? AND month = ? AND lane = ?",
        (project_id, month, lane.value),
    )
    return next((int(events) for (events,) in rows), 0)


def _row(connection: apsw.Connection, row_id: int) -> _Row:
    row: _Row
    table = table_of(row_id >> INDEX_BITS)
    (row,) = connection.execute(f"SELECT {_COLUMNS} FROM {table} WHERE id = ?", (row_id,))  # noqa: S608
    return row


def _id(project_id: int, index: int) -> int:
    return project_id << INDEX_BITS | index


def _ids(project_id: int, start: int, end: int) -> tuple[int, int]:
    """The row ids of the indexes [start, end), half-open too."""
    first, behind = (min(max(index, 0), INDEX_MASK + 1) for index in (start, end))
    return _id(project_id, 0) + first, _id(project_id, 0) + behind


def _next_index(connection: apsw.Connection, project_id: int) -> int:
    last = connection.execute(f"SELECT max(id) FROM {table_of(project_id)}").get  # noqa: S608
    return 0 if last is None else (int(last) & INDEX_MASK) + 1


def _entry(row: Sequence[object]) -> Entry:
    """
    Raises:
        Tampered: the row has other types than it was stored with, or no leaf.
    """
    row_id, leaf_entry, salts, record, payload = row
    assert isinstance(row_id, int)
    if not isinstance(leaf_entry, bytes):
        raise _changed(row_id, "leaf")
    try:
        decoded = leaf.decode(leaf_entry)
    except LeafMalformed as error:
        raise _changed(row_id, "leaf") from error
    if not isinstance(salts, bytes | None):
        raise _changed(row_id, "salts")
    if not isinstance(record, bytes | None):
        raise _changed(row_id, "record")
    if not isinstance(payload, bytes | None):
        raise _changed(row_id, "payload")
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


def _changed(row_id: int, column: str) -> Tampered:
    return Tampered(
        f"journal.db: the {column} of the event with index {row_id & INDEX_MASK} of project"
        f" {row_id >> INDEX_BITS} is not as it was stored"
    )


def _same_content(record: bytes | None, payload: bytes | None, draft: Draft) -> bool | None:
    """Whether a stored event says the same as `draft`; None when it has been erased."""
    if record is None or payload is None:
        return None
    return payload == draft.payload and says_the_same(record, draft.record)
