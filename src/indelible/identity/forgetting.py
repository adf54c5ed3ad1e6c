"""What an erasure takes from `persons.db`: all that came from the erased entries, and no more.

The entry of kind erasure lists ranges of the log. Their postings say which subjects the entries
had. Those lose the postings, and what was known from them: claims, first and last index, values of
properties. An id of which nothing is left goes, with its text, unless a decision names its key;
then the key stays without a text. What the facts that are left say is folded again.

Values are read again from the journal, and only where one that is kept came from an erased entry.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

import apsw

from indelible.identity.facts import Change, change_of
from indelible.identity.postings import first_of, last_of, postings
from indelible.identity.properties import Kept
from indelible.identity.refolding import (
    connected,
    fold_again,
    known_ids,
    members_of,
    settle,
)
from indelible.identity.stored import write_kept
from indelible.identity.tables import (
    ACTOR,
    ID,
    IDENTIFY,
    LEFT_OUT,
    LOW_MASK,
    SEGMENT_BITS,
    STEP,
    UNIT,
    WRITES,
    change_rows,
    rows_in,
    segment_of,
)
from indelible.journal.contract import JournalReader

_REMOVALS: Final = (
    "DELETE FROM id WHERE number = ?",
    "DELETE FROM seen WHERE number = ?",
    "DELETE FROM property WHERE number = ?",
    "DELETE FROM side WHERE root = ?",
)


def forget(
    connection: apsw.Connection,
    journal: JournalReader,
    project_id: int,
    runs: Iterable[tuple[int, int]],
) -> bool:
    """Take out what came from the erased entries [start, end); whether there was anything."""
    gone = _take_postings(connection, project_id, runs)
    if not gone:
        return False
    for subject, places in gone.items():
        if subject % STEP == ACTOR:
            _shrink(connection, "actor", subject, places)
        elif subject % STEP == UNIT:
            _shrink(connection, "unit", subject, places)
    ids = {subject: places for subject, places in gone.items() if subject % STEP == ID}
    touched, freed = _take_claims(connection, ids)
    # Whom facts connected before: of these some may be parted now, and others joined.
    hull = connected(connection, touched) if touched else set()
    _take_edges(connection, freed)
    partners = {number for pair in freed for number in pair if number > 1}
    for number in sorted(set(ids) | partners):
        _recount(connection, number, ids.get(number, ()))
    for subject, places in gone.items():
        if subject % STEP == WRITES:
            _write_again(connection, journal, project_id, subject - WRITES, set(places))
    affected = set(ids) | partners | hull
    persons = {known.person for known in known_ids(connection, affected)}
    left = _drop_empty(connection, affected)
    for table in ("person", "side"):
        list(rows_in(connection, f"DELETE FROM {table} WHERE root", persons & hull))  # noqa: S608
    fold_again(connection, hull & left)
    for root in persons - hull:
        members = known_ids(connection, members_of(connection, root))
        if members:
            settle(connection, root, members)
    return True


def _take_postings(
    connection: apsw.Connection, project_id: int, runs: Iterable[tuple[int, int]]
) -> dict[int, list[int]]:
    """Remove the postings of these entries; the subjects that had them, and where, ascending."""
    lows: defaultdict[int, set[int]] = defaultdict(set)
    for start, end in runs:
        for index in range(start, end):
            lows[segment_of(index)].add(index & LOW_MASK)
    gone: defaultdict[int, list[int]] = defaultdict(list)
    for segment, erased in sorted(lows.items()):
        found: list[Any] = connection.execute(
            "SELECT subject, low FROM posting WHERE segment = ?"
            " AND low IN (SELECT value FROM json_each(?))",
            (segment, json.dumps(sorted(erased))),
        ).fetchall()
        mine = _of_project(connection, project_id, {subject for subject, _ in found})
        flat: list[int] = []
        for subject, low in found:
            if subject in mine:
                gone[subject].append((segment << SEGMENT_BITS) + low)
                flat += (segment, subject, low)
        change_rows(
            connection, "DELETE FROM posting WHERE (segment, subject, low) IN (", flat, 3, ")"
        )
    return dict(gone)


def _of_project(
    connection: apsw.Connection, project_id: int, subjects: Collection[int]
) -> set[int]:
    """Those of the subjects that are the project's: all projects share the segments."""
    mine: set[int] = set()
    for kind, table in ((ID, "id"), (ACTOR, "actor"), (UNIT, "unit")):
        numbers = {s for s in subjects if s % STEP == kind}
        if kind == ID:
            numbers |= {s - WRITES for s in subjects if s % STEP == WRITES}
        before = f"SELECT number FROM {table} WHERE project_id = {project_id:d} AND number"  # noqa: S608
        mine.update(number for (number,) in rows_in(connection, before, numbers))
    return mine | {s for s in subjects if s % STEP == WRITES and s - WRITES in mine}


def _take_claims(
    connection: apsw.Connection, ids: dict[int, list[int]]
) -> tuple[set[int], set[tuple[int, int]]]:
    """Remove the claims of erased entries.

    Returns the ids that the fold has to look at again, and the pairs (other, one) concerned.
    """
    touched: set[int] = set()
    pairs: set[tuple[int, int]] = set()
    for other, places in ids.items():
        erased = set(places)
        rows: list[Any] = connection.execute(
            "SELECT one, at FROM claim WHERE other = ?", (other,)
        ).fetchall()
        for one, at in rows:
            if at in erased:
                connection.execute(
                    "DELETE FROM claim WHERE other = ? AND one = ? AND at = ?", (other, one, at)
                )
                touched.add(other)
                pairs.add((other, one))
                if one > 1:
                    touched.add(one)
    return touched, pairs


def _take_edges(connection: apsw.Connection, pairs: Iterable[tuple[int, int]]) -> None:
    """Remove the edges of pairs that no claim names any more."""
    for other, one in pairs:
        left = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM claim WHERE other = ? AND one = ?)"
            " OR EXISTS (SELECT 1 FROM claim WHERE other = ? AND one = ?)",
            (other, one, one, other),
        ).get
        if not left:
            connection.execute(
                "DELETE FROM edge WHERE (a, b) IN (VALUES (?, ?), (?, ?))", (other, one, one, other)
            )


def _recount(connection: apsw.Connection, number: int, gone: Sequence[int]) -> None:
    """Write first, last and number of what is left of an id."""
    row: Any = connection.execute(
        "SELECT first, last_index, events FROM id JOIN seen USING (number) WHERE number = ?",
        (number,),
    ).get
    first, last, events = row
    events -= len(gone)
    begin, end = (first or 0) >> 1, last or 0
    own_first = own_last = None
    if events:
        own_first = first_of(connection, number, begin, end + 1)
        own_last = last_of(connection, number, begin, end + 1)
    ranks = [] if own_first is None else [own_first << 1]
    named = _first_claim_on(connection, number)
    if named is not None:
        ranks.append((named << 1) + 1)
    identified = connection.execute(
        "SELECT min(at) FROM claim WHERE other = ? AND kind = ?", (number, IDENTIFY)
    ).get
    connection.execute(
        "UPDATE id SET first = ?, identified_at = ? WHERE number = ?",
        (min(ranks, default=None), identified, number),
    )
    connection.execute(
        "UPDATE seen SET last_index = ?, events = ? WHERE number = ?",
        (named if own_last is None else own_last, events, number),
    )


def _first_claim_on(connection: apsw.Connection, number: int) -> int | None:
    """The first claim of another id on this one."""
    found: int | None = connection.execute(
        "SELECT min(claim.at) FROM edge JOIN claim ON claim.other = edge.b AND claim.one = edge.a"
        " WHERE edge.a = ?",
        (number,),
    ).get
    return found


def _shrink(connection: apsw.Connection, table: str, number: int, gone: Sequence[int]) -> None:
    """Take events from an actor or a unit; one without any goes."""
    row: Any = connection.execute(
        f"SELECT first_index, last_index, events FROM {table} WHERE number = ?",  # noqa: S608
        (number,),
    ).get
    first, last, events = row
    if events <= len(gone):
        connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))  # noqa: S608
        return
    connection.execute(
        f"UPDATE {table} SET first_index = ?, last_index = ?, events = ? WHERE number = ?",  # noqa: S608
        (
            first_of(connection, number, first, last + 1),
            last_of(connection, number, first, last + 1),
            events - len(gone),
            number,
        ),
    )


def _write_again(
    connection: apsw.Connection,
    journal: JournalReader,
    project_id: int,
    number: int,
    erased: Collection[int],
) -> None:
    """Take out the values that came from erased entries, and put in what had been written over."""
    rows: list[Any] = connection.execute(
        "SELECT kind, at, unset_at FROM property WHERE number = ?", (number,)
    ).fetchall()
    left_out: int = connection.execute("SELECT left_out FROM id WHERE number = ?", (number,)).get
    if not left_out and not any(
        kind == LEFT_OUT or at in erased or unset_at in erased for kind, at, unset_at in rows
    ):
        return
    connection.execute("DELETE FROM property WHERE number = ?", (number,))
    kept = Kept(left_out_before=left_out)
    for at, change in _changes(connection, journal, project_id, number):
        kept.apply(at, change)
    write_kept(connection, {number: kept})


def _changes(
    connection: apsw.Connection, journal: JournalReader, project_id: int, number: int
) -> Iterator[tuple[int, Change]]:
    end = journal.next_index(project_id)
    for at in list(postings(connection, number | WRITES, 0, end)):
        for entry in journal.read(project_id, at, at + 1):
            change = change_of(entry.record, entry.payload)
            if change is not None:
                yield at, change


def _drop_empty(connection: apsw.Connection, numbers: Collection[int]) -> set[int]:
    """Remove the ids that no entry names any more; which are left of these."""
    empty = [
        (number, bool(named))
        for number, named in rows_in(
            connection,
            "SELECT number, EXISTS (SELECT 1 FROM named WHERE named.number = id.number) FROM id"
            " WHERE first IS NULL AND text IS NOT NULL AND number",
            numbers,
        )
    ]
    for number, is_named in empty:
        if is_named:
            connection.execute(
                "UPDATE id SET text = NULL, left_out = 0 WHERE number = ?", (number,)
            )
        else:
            for statement in _REMOVALS:
                connection.execute(statement, (number,))
    return set(numbers) - {number for number, is_named in empty if not is_named}
