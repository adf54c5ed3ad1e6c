"""The events of one transaction: which are new, their rows, and their unique keys."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Final

import apsw
from msgspec.structs import replace

from indelible import leaf
from indelible.connections import in_runs
from indelible.event import Kind, Lane
from indelible.journal.commitments import SALTS_BYTES, commitments_of
from indelible.journal.contract import Draft, Duplicate, Outcome, OverLimit, Stored
from indelible.journal.keys_file import Mark
from indelible.journal.stored import Row, row_at
from indelible.journal.tables import INDEX_BITS, INDEX_MASK, id_of, next_index_of, table_of
from indelible.journal.txids import TxIds
from indelible.journal.unique import UniqueKeys
from indelible.record import comparable, says_the_same

_COUNTED: Final = frozenset({Kind.PRODUCT, Kind.AUDIT})
_RANDOM_BYTES: Final = SALTS_BYTES + 8  # two salts, and the tail of a transaction id


_NewRow = tuple[int, bytes, bytes | None, bytes, bytes, bytes]
"""A row to be written, in the order of `_insert`: with its unique key in third place."""

UniqueKey = Callable[[apsw.Connection, int, Lane, bytes], bytes]


class Group:
    """The events of one transaction: decided one by one, written together."""

    def __init__(
        self,
        connection: apsw.Connection,
        keys: UniqueKeys,
        unique_key: UniqueKey,
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

    def _first(self, key: bytes) -> Row | None:
        """The event that has this key: of this group, or stored before."""
        new = self._by_key.get(key)
        if new is not None:
            row_id, entry, _, salts, record, payload = new
            return row_id, entry, salts, record, payload
        known_id = self._known.get(key)
        return None if known_id is None else row_at(self._connection, known_id)

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
            index = next_index_of(self._connection, project_id)
        self._next[project_id] = index + 1

        random = self._random.read(_RANDOM_BYTES)
        tx = self._tx_ids.next(random[SALTS_BYTES:])
        made = draft.commitments or commitments_of(draft, random[:SALTS_BYTES])
        entry = leaf.encode(
            draft.kind,
            received_at_ms=draft.received_at_ms,
            tx=tx,
            payload=made.payload,
            record=made.record,
        )
        row = (id_of(project_id, index), entry, key, made.salts, draft.record, draft.payload)
        self._rows.append(row)
        if key is not None:
            self._by_key[key] = row
        return Stored(index, tx)

    def _events_used(self, project_id: int, lane: Lane) -> int:
        used = self._used.get((project_id, lane))
        if used is None:
            used = events_used(self._connection, project_id, lane, self._month)
        return used


def events_used(connection: apsw.Connection, project_id: int, lane: Lane, month: str) -> int:
    """How many events of `lane` the project stored in `month` (``2026-01``)."""
    rows = connection.execute(
        "SELECT events FROM usage WHERE project_id = ? AND month = ? AND lane = ?",
        (project_id, month, lane.value),
    )
    return next((int(events) for (events,) in rows), 0)


@cache
def _insert(table: str, rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO {table} (id, leaf, unique_key, salts, record, payload) VALUES {values}"  # noqa: S608


def _same_content(record: bytes | None, payload: bytes | None, draft: Draft) -> bool | None:
    """Whether a stored event says the same as `draft`; None when it has been erased."""
    if record is None or payload is None:
        return None
    return payload == draft.payload and says_the_same(record, draft.record)
