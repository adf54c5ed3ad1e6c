"""The tables of `persons.db`, and the statements on them that take many rows at once.

    id          every id that an event names, and those that only a decision names (without text)
    seen        the last entry of each id, and how many it has: what every stretch changes of most
                ids that it names, in rows so short that few pages are written for it
    person      persons of several ids; an id without a row here is a person by itself
    side        what an unmerge took apart: see `indelible.identity.fold`
    claim       every `$identify` and alias; edge: the pairs that they name, both ways round
    decision    merges and unmerges on request; named: the ids that they name
    posting     which entries a subject has: an id, an actor, a unit, or an id that writes
    property    the last writes of an id, by name
    actor, unit who audit events name; groups and tenants

Subjects are numbers. Their two lowest bits say what they are. Postings are kept in segments of
65,536 entries of a log, so what is added at a time lies close together, and an erasure looks
through the segments that it reaches without an index from entries to subjects.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

import apsw

from indelible.connections import in_runs
from indelible.derived import MARKS

SEGMENT_BITS: Final = 16
LOW_MASK: Final = (1 << SEGMENT_BITS) - 1

ID, ACTOR, UNIT, WRITES = range(4)
"""The two lowest bits of a subject's number. What an id wrote has the subject `id | WRITES`."""

STEP: Final = 4

IDENTIFY, ALIAS = 1, 2
"""`claim.kind`."""

NO_ONE, REFUSED_ONE = 0, 1
"""`claim.one` of an `$identify` that names no second id, and of a claim on a refused id."""

SET, SET_ONCE, UNSET, LEFT_OUT = 1, 2, 3, 4
"""`property.kind`. Left out: it was set, and there was no room for the value."""

SCHEMA: Final = f"""
{MARKS};
CREATE TABLE IF NOT EXISTS id (
    number        INTEGER PRIMARY KEY,
    project_id    INTEGER NOT NULL,
    key           BLOB NOT NULL,
    text          TEXT,              -- NULL: only a decision names it
    person        INTEGER NOT NULL,  -- the number of one id of the person
    identified_at INTEGER,           -- its first $identify
    first         INTEGER,           -- twice the first index; and 1 if only a claim names it there
    left_out      INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS seen (
    number INTEGER PRIMARY KEY, last_index INTEGER, events INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS id_key ON id (key);
CREATE INDEX IF NOT EXISTS id_person ON id (person, first) WHERE person != number;
CREATE TABLE IF NOT EXISTS person (
    root            INTEGER PRIMARY KEY,
    ids             INTEGER NOT NULL,
    events          INTEGER NOT NULL,
    first_index     INTEGER NOT NULL,
    last_index      INTEGER NOT NULL,
    identified_at   INTEGER,
    principal       INTEGER NOT NULL,
    principal_first INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS side (
    root INTEGER, unmerge INTEGER, side INTEGER, PRIMARY KEY (root, unmerge, side)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claim (
    other INTEGER, one INTEGER, at INTEGER, kind INTEGER NOT NULL, PRIMARY KEY (other, one, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edge (a INTEGER, b INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision (
    project_id INTEGER, at INTEGER, facts BLOB NOT NULL, PRIMARY KEY (project_id, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS named (
    number INTEGER, project_id INTEGER, at INTEGER, PRIMARY KEY (number, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posting (
    segment INTEGER, subject INTEGER, low INTEGER, PRIMARY KEY (segment, subject, low)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS property (
    number INTEGER, name TEXT, kind INTEGER NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL,
    unset_at INTEGER, value BLOB, PRIMARY KEY (number, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS actor (
    number INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, key BLOB NOT NULL UNIQUE,
    first_index INTEGER NOT NULL, last_index INTEGER NOT NULL, events INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS unit (
    number INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL,
    first_index INTEGER NOT NULL, last_index INTEGER NOT NULL, events INTEGER NOT NULL,
    UNIQUE (project_id, type, name)
);
CREATE INDEX IF NOT EXISTS unit_seen ON unit (project_id, last_index)
"""

TABLES: Final = (
    "mark",
    "id",
    "seen",
    "person",
    "side",
    "claim",
    "edge",
    "decision",
    "named",
    "posting",
    "property",
    "actor",
    "unit",
)


def rows_in(
    connection: apsw.Connection, before: str, values: Iterable[Any], after: str = ""
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query that ends in `IN (values)`, however many those are."""
    for run in in_runs(list(values)):
        yield from connection.execute(_in(before, len(run), after), run)


def change_rows(
    connection: apsw.Connection, before: str, flat: list[Any], width: int, after: str = ""
) -> None:
    """Run a statement with `VALUES (…), (…)`, of `width` columns each, on all of `flat`."""
    for run in in_runs(flat, width=width):
        connection.execute(_values(before, width, len(run) // width, after), run)


def update_rows(
    connection: apsw.Connection,
    table: str,
    columns: tuple[str, ...],
    flat: list[Any],
    key: str = "number",
    where: str = "",
) -> None:
    """Set columns of many rows: `flat` has the key and the values of each."""
    change_rows(
        connection,
        f"WITH new ({key}, {', '.join(columns)}) AS (",
        flat,
        1 + len(columns),
        f") UPDATE {table} SET {', '.join(f'{c} = new.{c}' for c in columns)} FROM new"  # noqa: S608
        f" WHERE {table}.{key} = new.{key} {where}",
    )


def segment_of(index: int) -> int:
    """The segment of the postings that an index of a log belongs to."""
    return index >> SEGMENT_BITS


@cache
def _in(before: str, count: int, after: str) -> str:
    return f"{before} IN ({', '.join('?' * count)}) {after}"


@cache
def _values(before: str, width: int, rows: int, after: str) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{before} VALUES {', '.join([row] * rows)} {after}"
