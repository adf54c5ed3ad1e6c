"""What an erasure writes: which rows lose their content, and the entry that says so.

Pure but for the statements it runs in a transaction that its caller holds.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

import apsw
import msgspec

from indelible.clock import rfc3339
from indelible.connections import in_runs
from indelible.errors import LegalHold
from indelible.event import Kind
from indelible.journal.contract import Draft
from indelible.record import Erasure, encode_record

ERASABLE: Final = frozenset({Kind.PRODUCT, Kind.AUDIT})
"""The kinds that hold what somebody sent; every other entry is the log's own."""

_RECORD: Final = encode_record(Erasure())


def runs_of(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """Indexes in ascending order as half-open runs.

    >>> runs_of([3, 4, 5, 9])
    [(3, 6), (9, 10)]
    """
    runs: list[tuple[int, int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def erasure(project_id: int, indexes: Sequence[int], *, reason: str, at_ms: int) -> Draft:
    """The entry that says which indexes were erased, when, and why; it names no person."""
    facts = {"at": rfc3339(at_ms), "erased": runs_of(indexes), "reason": reason}
    return Draft(
        project_id=project_id,
        kind=Kind.ERASURE,
        received_at_ms=at_ms,
        payload=msgspec.json.encode(facts, order="sorted"),
        record=_RECORD,
    )


def refuse_held(connection: apsw.Connection, project_id: int, erased: int) -> None:
    """
    Raises:
        LegalHold: the project is on hold; `erased` events lost their content before it was set.
    """
    row = connection.execute("SELECT name FROM project WHERE id = ? AND legal_hold", (project_id,))
    name = row.get
    if name is not None:
        raise LegalHold.of(str(name), erased)


def leaves_of(connection: apsw.Connection, table: str, row_ids: Sequence[int]) -> dict[int, bytes]:
    """The leaf entries of those rows that are there."""
    found: dict[int, bytes] = {}
    for run in in_runs(list(row_ids)):
        found.update(connection.execute(_leaves(table, len(run)), run))
    return found


def wipe(connection: apsw.Connection, table: str, row_ids: Sequence[int]) -> list[int]:
    """Take payload, record and salts from the rows that have any; returns those, in order.

    The unique key stays: it is an HMAC, and tells a late resend for the duplicate that it is.
    """
    wiped: list[int] = []
    for run in in_runs(list(row_ids)):
        left = [int(row_id) for (row_id,) in connection.execute(_not_erased(table, len(run)), run)]
        for rows in in_runs(left):
            connection.execute(_wipe(table, len(rows)), rows)
        wiped += left
    return sorted(wiped)


@cache
def _leaves(table: str, rows: int) -> str:
    return f"SELECT id, leaf FROM {table} WHERE id IN ({_marks(rows)})"  # noqa: S608


@cache
def _not_erased(table: str, rows: int) -> str:
    return f"SELECT id FROM {table} WHERE id IN ({_marks(rows)}) AND salts IS NOT NULL"  # noqa: S608


@cache
def _wipe(table: str, rows: int) -> str:
    return (
        f"UPDATE {table} SET salts = NULL, record = NULL, payload = NULL"  # noqa: S608
        f" WHERE id IN ({_marks(rows)})"
    )


def _marks(count: int) -> str:
    return ", ".join("?" * count)
