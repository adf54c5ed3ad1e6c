"""The events of one transaction: which are new, their rows, and their unique keys."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any, Final

import apsw
from msgspec.structs import replace

from indelible import leaf
from indelible.connections import in_runs
from indelible.event import Kind, Lane
from indelible.journal.commitments import SALTS_BYTES, commitments_of
from indelible.journal.contract import Draft, Duplicate, Outcome, OverLimit, Stored
from indelible.journal.keys_file import Mark
from indelible.journal.standing import Standing
from indelible.journal.stored import Row, row_at
from indelible.journal.tables import INDEX_BITS, INDEX_MASK, id_of, table_of
from indelible.journal.txids import TxIds
from indelible.journal.unique import UniqueKeys
from indelible.record import comparable, says_the_same

_COUNTED: Final = frozenset({Kind.PRODUCT, Kind.AUDIT})
_TX_RANDOM_BYTES: Final = 8
_COLUMNS: Final = 6
"""Of a row to be written: id, leaf, unique key, salts, record, payload."""

UniqueKeyOf = Callable[[bytes], bytes]
"""Makes the unique key of a name in one lane of one project."""


class _Log:
    """What a group adds to the log of one project."""

    __slots__ = ("begin_id", "first", "next", "used", "used_before", "values")

    def __init__(self, project_id: int, first: int) -> None:
        self.begin_id = id_of(project_id, 0)
        self.first = self.next = first  # index
        self.values: list[Any] = []
        """The rows in order, one column after the other."""
        # The month's events in each lane: with this group, and as the table has them.
        self.used: dict[Lane, int] = {}
        self.used_before: dict[Lane, int] = {}

    def row(self, row_id: int) -> Row:
        """A row of this group."""
        at = (row_id - self.begin_id - self.first) * _COLUMNS
        row_id, entry, _, salts, record, payload = self.values[at : at + _COLUMNS]
        return row_id, entry, salts, record, payload


class Group:
    """The events of one transaction: decided one by one, written together.

    Deciding is done for every event there is, so what can be made for all of them at once is:
    their keys, the look-up, random bytes and ids. A new event then is one pass through `_take`.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        keys: UniqueKeys,
        unique_keys: Callable[[apsw.Connection, int, Lane], UniqueKeyOf],
        tx_ids: TxIds,
        standing: Standing,
        *,
        month: str,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._unique_keys = unique_keys
        self._tx_ids = tx_ids
        self._standing = standing
        self.month = month
        self._known: dict[bytes, int] = {}
        self._logs: dict[int, _Log] = {}
        self._salts = BytesIO()
        self._next_tx: Iterator[bytes] = iter(())
        self.new_keys: dict[bytes, int] = {}
        """The keys that are written, with their row ids."""

    def take_all(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Decide what becomes of each draft, in order; nothing is written yet."""
        keys = self._keys_of(drafts)
        self._known = self._keys.find([key for key in keys if key is not None])
        # In one step for all of them: each would hand the interpreter's lock around.
        self._next_tx = iter(self._tx_ids.make(os.urandom(_TX_RANDOM_BYTES * len(drafts))))
        bare = sum([draft.commitments is None for draft in drafts])
        self._salts = BytesIO(os.urandom(SALTS_BYTES * bare))
        return list(map(self._take, drafts, keys))

    def write(self) -> None:
        """Write what was decided."""
        for project_id, log in self._logs.items():
            table = table_of(project_id)
            for values in in_runs(log.values, width=_COLUMNS):
                self._connection.execute(_insert(table, len(values) // _COLUMNS), values)
            for lane, used in log.used.items():
                if used == log.used_before[lane]:
                    continue
                self._connection.execute(
                    "INSERT INTO usage (project_id, month, lane, events) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET events = excluded.events",
                    (project_id, self.month, lane.value, used),
                )

    def marks(self) -> Mapping[int, Mark]:
        """The last row of every project that was written to."""
        marks = {}
        for project_id, log in self._logs.items():
            if log.values:
                last_id, entry = log.values[-_COLUMNS : 2 - _COLUMNS]
                marks[project_id] = Mark(last_id, entry[16:32])
        return marks

    def used(self) -> dict[tuple[int, Lane], int]:
        """How many events each lane has in its month now, of those that were looked at."""
        return {
            (project_id, lane): used
            for project_id, log in self._logs.items()
            for lane, used in log.used.items()
        }

    def _keys_of(self, drafts: Sequence[Draft]) -> list[bytes | None]:
        keys: list[bytes | None] = []
        project_id = lane = None
        for draft in drafts:
            if draft.client_id is None:
                keys.append(None)
                continue
            if draft.project_id != project_id or draft.lane is not lane:
                project_id, lane = draft.project_id, draft.lane
                unique_key = self._unique_keys(self._connection, project_id, lane)
            keys.append(unique_key(draft.client_id.encode()))
        return keys

    def _take(self, draft: Draft, key: bytes | None) -> Outcome:
        tx = next(self._next_tx)
        if key is not None and (key in self._known or key in self.new_keys):
            return self._repeated(draft, key, tx)
        return self._admit(draft, key, tx)

    def _repeated(self, draft: Draft, key: bytes, tx: bytes) -> Outcome:
        """Its id is known: of an event of this group, or stored before."""
        new = self.new_keys.get(key)
        first = (
            row_at(self._connection, self._known[key])
            if new is None
            else self._logs[new >> INDEX_BITS].row(new)
        )
        same = _same_content(first[3], first[4], draft)
        if same is False and draft.new_entry_on_conflict:
            return self._take_beside(draft, tx)
        return Duplicate(first[0] & INDEX_MASK, leaf.decode(first[1]).tx, same)

    def _take_beside(self, draft: Draft, tx: bytes) -> Outcome:
        """The id is taken by other content: know `draft` by its id and content together."""
        content = hashlib.sha256(draft.payload + comparable(draft.record)).digest()
        assert draft.client_id is not None
        name = draft.client_id.encode() + b"\x00" + content
        key = self._unique_keys(self._connection, draft.project_id, draft.lane)(name)
        self._known.update(self._keys.find([key]))
        if key in self._known or key in self.new_keys:
            return self._repeated(replace(draft, new_entry_on_conflict=False), key, tx)
        outcome = self._admit(draft, key, tx)
        return replace(outcome, conflict=True) if isinstance(outcome, Stored) else outcome

    def _admit(self, draft: Draft, key: bytes | None, tx: bytes) -> Stored | OverLimit:
        log = self._logs.get(draft.project_id) or self._begin(draft.project_id)
        if draft.kind in _COUNTED:
            used = log.used.get(draft.lane)
            if used is None:
                used = self._begin_lane(log, draft)
            if draft.monthly_limit is not None and used >= draft.monthly_limit:
                return OverLimit()
            log.used[draft.lane] = used + 1
        index = log.next
        log.next = index + 1
        made = draft.commitments or commitments_of(draft, self._salts.read(SALTS_BYTES))
        entry = leaf.encode(
            draft.kind,
            received_at_ms=draft.received_at_ms,
            tx=tx,
            payload=made.payload,
            record=made.record,
        )
        row_id = log.begin_id + index
        log.values += (row_id, entry, key, made.salts, draft.record, draft.payload)
        if key is not None:
            self.new_keys[key] = row_id
        return Stored(index, tx)

    def _begin(self, project_id: int) -> _Log:
        log = _Log(project_id, self._standing.end(self._connection, project_id))
        self._logs[project_id] = log
        return log

    def _begin_lane(self, log: _Log, draft: Draft) -> int:
        standing = self._standing
        used = standing.used(self._connection, draft.project_id, draft.lane, self.month)
        log.used[draft.lane] = log.used_before[draft.lane] = used
        return used


@cache
def _insert(table: str, rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO {table} (id, leaf, unique_key, salts, record, payload) VALUES {values}"  # noqa: S608


def _same_content(record: bytes | None, payload: bytes | None, draft: Draft) -> bool | None:
    """Whether a stored event says the same as `draft`; None when it has been erased."""
    if record is None or payload is None:
        return None
    return payload == draft.payload and says_the_same(record, draft.record)
