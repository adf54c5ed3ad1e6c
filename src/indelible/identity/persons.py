"""Reading the persons of a project. Any thread of the reader process may call it.

    now          a look-up by key, and what is counted of the person
    at an index  the facts that connect the person's ids are folded again, those below the index

A read sees one state of the file, however many statements it takes; a walk along all entries of
an id, one for each million entries of the log.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import apsw
import msgspec

from indelible import leaf
from indelible.derived import Derived
from indelible.errors import NotFound, NotMergeable, NotUnmergeable
from indelible.event import is_refused_id
from indelible.identity.decisions import (
    MAX_MERGED,
    MAX_TAKEN_OUT,
    merge_facts,
    undo_facts,
    unmerge_facts,
)
from indelible.identity.facts import change_of
from indelible.identity.fold import NEVER, Fate, Fold, Merged, Unmerged
from indelible.identity.keys import USE, key_of
from indelible.identity.person import (
    IDS_SHOWN,
    PROPERTIES_KEPT,
    PROPERTY_BYTES_KEPT,
    Id,
    IdPage,
    IndexPage,
    MergeFact,
    MergeKind,
    MergePage,
    MergeState,
    Named,
    Person,
    PersonPage,
    Refusal,
    Role,
    Unit,
    UnitPage,
    Write,
    WritePage,
    is_person_id,
    key_of_person,
    person_id_of,
)
from indelible.identity.postings import Span, count, last_of, walk
from indelible.identity.properties import Kept, Last, of_person
from indelible.identity.refolding import Hull, connected, load, refused_claims
from indelible.identity.tables import SEGMENT_BITS, WRITES, rows_in, segment_of
from indelible.journal.contract import JournalReader

PERSONS_FILE: Final = "persons.db"

LOOKED_AT: Final = 1_000
"""Most persons that one page with a choice looks at."""

SEGMENTS_LOOKED_AT: Final = 10
"""Most segments of the log (65,536 entries each) that one page is looked for in."""

PROPERTIES_READ: Final = 20_000
"""Most properties of a person's ids that are read to find its values."""

WRITES_READ: Final = 10_000
"""Most events that are read to find the properties that a person had at an index, newest first."""

_WALKED_AT_ONCE: Final = 1 << 20
"""Entries of a log that one state of the file is held for."""

_NEAR: Final = 8
_LEAVES_AT_ONCE: Final = 256

_ID: Final = (
    "number, key, text, identified_at, first, last_index, events FROM id JOIN seen USING (number)"
)


@dataclass(frozen=True, slots=True)
class _Row:
    """An id as its table has it; `first` is twice the first index, and 1 if only a claim has it."""

    number: int
    key: bytes
    text: str
    identified_at: int
    first: int
    last_index: int
    events: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.identified_at, self.first


@dataclass(frozen=True, slots=True)
class _Whole:
    """A person: `principal` names it; the others come in the order in which they were seen.

    `at` is None for now; else `members` has all ids, as they were.
    """

    root: int
    principal: _Row
    id_count: int
    events: int
    first_index: int
    last_index: int
    is_identified: bool
    at: int | None = None
    members: tuple[_Row, ...] = ()


class Persons:
    """The persons of every project, as far as the follower has come.

    `at` is an index of the project's log: the answer is the fold of the entries below it. None is
    the fold of all that the follower has taken, at the cost of a look-up. `who` names a person by
    the person id or the distinct id of any member; a text in the form of a person id is looked up
    as that first, and then as a distinct id.

    Every method raises `Unavailable` if the file is damaged; the next start makes it again.
    """

    def __init__(
        self, file: Derived, journal: JournalReader, next_index: Callable[[int], int]
    ) -> None:
        self._file = file
        self._journal = journal
        self._next_index = next_index
        self._subkeys: dict[int, bytes] = {}

    def next_index(self, project_id: int) -> int:
        """How far the fold is: every entry below has been taken."""
        return self._next_index(project_id)

    def person_id(self, project_id: int, distinct_id: str) -> str:
        """The person id of a distinct id, whether it was ever seen or not."""
        return person_id_of(self._key(project_id, distinct_id))

    def find(self, project_id: int, who: str, *, at: int | None = None) -> Person | None:
        """The person, or None if no entry that is left names it."""
        with self._reading() as connection:
            whole = self._whole(connection, project_id, who, at)
            return None if whole is None else self._person(connection, project_id, whole)

    def find_id(self, project_id: int, who: str, *, at: int | None = None) -> Id | None:
        """The one id that `who` names, or None if no entry that is left does."""
        with self._reading() as connection:
            for row, _ in self._rows_of(connection, project_id, who):
                if row is not None and (at is None or row.first >> 1 < at):
                    shown = row if at is None else _as_of(connection, row, at)
                    return self._ids(project_id, [shown])[0]
        return None

    def ids(
        self,
        project_id: int,
        who: str,
        *,
        after: int | None = None,
        limit: int,
        at: int | None = None,
    ) -> IdPage:
        """The ids of a person, the principal first, then in the order in which they were seen.

        `after` is that of the page before. Empty if the person is not known.
        """
        with self._reading() as connection:
            whole = self._whole(connection, project_id, who, at)
            if whole is None:
                return IdPage((), None)
            rows = list(islice(self._members(connection, whole, after, limit + 1), limit + 1))
            more = rows[limit - 1].first if len(rows) > limit else None
            if after is None and limit == 1 and more is not None:
                more = -1  # the principal alone: all others come after it
            return IdPage(tuple(self._ids(project_id, rows[:limit])), more)

    def all_ids(self, project_id: int, who: str) -> Iterator[Id]:
        """Every id of a person, however many there are; none if the person is not known."""
        after: int | None = None
        while True:
            page = self.ids(project_id, who, after=after, limit=1_000)
            yield from page.ids
            if page.after is None:
                return
            after = page.after

    def page(
        self,
        project_id: int,
        *,
        chosen: Callable[[Person], bool] | None = None,
        last_seen_from_ms: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> PersonPage:
        """Persons who have events, last seen first; only those that are `chosen`.

        Looks at `LOOKED_AT` persons at most, and returns how to go on. `last_seen_from_ms`: only
        those seen then or later. `before` is that of the page before.
        """
        lowest = 0
        if last_seen_from_ms is not None:
            runs = self._journal.received_between(project_id, last_seen_from_ms, None)
            lowest = runs[0][0] if runs else NEVER
        found: list[Person] = []
        looked_at = 0
        before = min(self.next_index(project_id), NEVER if before is None else before)
        with self._reading() as connection:
            for _ in range(SEGMENTS_LOOKED_AT):
                if before <= lowest:
                    return PersonPage(tuple(found), None, looked_at)
                segment = segment_of(before - 1)
                base = segment << SEGMENT_BITS
                rows: list[Any] = connection.execute(
                    _LAST_SEEN, (base, segment, before - base, project_id, LOOKED_AT - looked_at)
                ).fetchall()
                for low, root in rows:
                    looked_at += 1
                    before = base + low
                    if before < lowest:
                        return PersonPage(tuple(found), None, looked_at)
                    whole = self._now(connection, root)
                    assert whole is not None, "one of its ids has just been read"
                    person = self._person(connection, project_id, whole)
                    if last_seen_from_ms is not None and person.last_ms < last_seen_from_ms:
                        continue
                    if chosen is None or chosen(person):
                        found.append(person)
                        if len(found) == limit:
                            return PersonPage(tuple(found), before or None, looked_at)
                if looked_at == LOOKED_AT:
                    break
                before = base
        return PersonPage(tuple(found), before or None, looked_at)

    def merges(
        self,
        project_id: int,
        who: str,
        *,
        before: int | None = None,
        limit: int,
        at: int | None = None,
    ) -> MergePage:
        """The facts that joined, would have joined, or parted ids of the person, newest first.

        A fact that has one side in the person belongs to it. Reads the facts of all ids that were
        ever named together with one of the person's.
        """
        with self._reading() as connection:
            whole = self._whole(connection, project_id, who, at)
            if whole is None:
                return MergePage((), None)
            facts = self._merge_facts(connection, whole, NEVER if at is None else at)
            below = [fact for fact in facts if before is None or fact.index < before]
            below.sort(key=lambda fact: -fact.index)
            return MergePage(
                tuple(below[:limit]), below[limit - 1].index if len(below) > limit else None
            )

    def history(
        self,
        project_id: int,
        who: str,
        *,
        before: int | None = None,
        limit: int,
        at: int | None = None,
    ) -> WritePage:
        """What was written of the person's properties, newest first; read from the journal."""
        with self._reading() as connection:
            whole = self._whole(connection, project_id, who, at)
            if whole is None:
                return WritePage((), None)
            rows = {row.number | WRITES: row for row in self._members(connection, whole, None)}
            end = min(whole.last_index + 1, NEVER if before is None else before)
            places = walk(connection, _spans(rows), 0, end, down=True)
            found: list[Write] = []
            last: int | None = None
            for index, subject in places:
                if len(found) == limit:
                    return WritePage(tuple(found), last)
                last = index
                write = self._write(project_id, index, rows[subject].text)
                if write is not None:
                    found.append(write)
            return WritePage(tuple(found), None)

    def timeline(
        self,
        project_id: int,
        who: str,
        *,
        before: int | None = None,
        limit: int,
        at: int | None = None,
        with_audit: bool = True,
    ) -> IndexPage:
        """The places of the person's product events, newest first.

        `with_audit`: also those of audit events whose payload has one of the person's ids as its
        `actor` (a text, or an object's `id`).
        """
        with self._reading() as connection:
            whole = self._whole(connection, project_id, who, at)
            if whole is None:
                return IndexPage((), None)
            rows = list(self._members(connection, whole, None))
            spans = [Span(row.number, row.first >> 1, row.last_index) for row in rows]
            if with_audit:
                spans += self._actors(connection, [row.key for row in rows])
            end = min(NEVER if at is None else at, NEVER if before is None else before)
            end = min(end, 1 + max(span.last for span in spans))
            walked = walk(connection, spans, 0, end, down=True)
            places = [index for index, _ in islice(walked, limit + 1)]
            more = places[limit - 1] if len(places) > limit else None
            return IndexPage(tuple(places[:limit]), more)

    def indexes_of_ids(self, project_id: int, distinct_ids: Collection[str]) -> Iterator[int]:
        """The places of all product events of these ids, ascending, as far as the fold is.

        Only the ids given: for all of a person, pass `all_ids`.
        """
        keys = [self._key(project_id, distinct_id) for distinct_id in distinct_ids]
        with self._reading() as connection:
            spans = [
                Span(number, first >> 1, last)
                for number, first, last in rows_in(
                    connection,
                    "SELECT number, first, last_index FROM id JOIN seen USING (number)"
                    " WHERE text IS NOT NULL AND key",
                    keys,
                )
            ]
        yield from self._walk_up(spans)

    def indexes_of_actors(self, project_id: int, actors: Collection[str]) -> Iterator[int]:
        """The places of all audit events with one of these actors, ascending."""
        keys = [self._key(project_id, actor) for actor in actors]
        with self._reading() as connection:
            spans = self._actors(connection, keys)
        yield from self._walk_up(spans)

    def count(self, project_id: int, distinct_ids: Collection[str]) -> int:
        """How many persons these ids are; thousands of ids in a few ms.

        An id that is not known yet counts as a person; a refused id (`null`, `guest`, …) as none.
        """
        keys = {
            self._key(project_id, distinct_id)
            for distinct_id in distinct_ids
            if not is_refused_id(distinct_id)
        }
        with self._reading() as connection:
            known = list(rows_in(connection, "SELECT person FROM id WHERE key", keys))
            return len(keys) - len(known) + len(set(known))

    def units(self, project_id: int, *, before: int | None = None, limit: int) -> UnitPage:
        """The groups (`$groups`) and tenants (audit `meta`) that events name, last seen first.

        A unit without a type and a name stands for those that were left out: too many in an event,
        or too long. Units last seen in one event come together, so a page can have a few more.
        """
        with self._reading() as connection:
            rows: list[Any] = connection.execute(
                "SELECT type, name, first_index, last_index, events FROM unit"
                " WHERE project_id = ?1 AND last_index < ?2 AND last_index >= coalesce((SELECT"
                " last_index FROM unit WHERE project_id = ?1 AND last_index < ?2"
                " ORDER BY last_index DESC LIMIT 1 OFFSET ?3), 0)"
                " ORDER BY last_index DESC, type, name",
                (project_id, NEVER if before is None else before, limit - 1),
            ).fetchall()
        units = tuple(Unit(kind or None, *more) for kind, *more in rows)
        return UnitPage(units, units[-1].last_index if len(units) >= limit else None)

    def totals(self) -> dict[str, int]:
        """How many persons, ids, ids that share a person, and events, over all projects."""
        with self._reading() as connection:
            ids, events = connection.execute(
                "SELECT count(*), total(events) FROM id JOIN seen USING (number)"
                " WHERE text IS NOT NULL"
            ).get
            several, joined = connection.execute(
                "SELECT count(*), total(ids) FROM person WHERE ids > 0"
            ).get
        persons = ids - int(joined) + several
        return {"persons": persons, "ids": ids, "merged_ids": int(joined), "events": int(events)}

    def merge_facts(self, project_id: int, who: Sequence[str]) -> dict[str, Any]:
        """The facts of the administration event `persons_merged` that makes these one person.

        Raises:
            NotFound: one of them is not known.
            NotMergeable: they are one person already, or fewer than two, or too many.
        """
        with self._reading() as connection:
            roots: dict[int, str] = {}
            for name in who:
                whole = self._known(connection, project_id, name)
                roots.setdefault(whole.root, person_id_of(whole.principal.key))
        if len(roots) < 2:
            raise NotMergeable("There is only one person here: nothing is to be merged")
        if len(roots) > MAX_MERGED:
            raise NotMergeable(f"At most {MAX_MERGED:,} persons can be merged at once")
        return merge_facts(list(roots.values()))

    def unmerge_facts(
        self,
        project_id: int,
        who: str,
        *,
        taken_out: Sequence[str] | None = None,
        merge: int | None = None,
    ) -> dict[str, Any]:
        """The facts of the administration event `persons_unmerged`.

        Every id becomes a person by itself; or only the ids `taken_out` (distinct ids, or person
        ids made from them) leave the person; or the merge at the index `merge` is undone.

        Raises:
            NotFound: the person, an id to take out, or the merge is not known.
            NotUnmergeable: there is nothing to take apart.
        """
        with self._reading() as connection:
            whole = self._known(connection, project_id, who)
            person = person_id_of(whole.principal.key)
            if whole.id_count < 2:
                raise NotUnmergeable("The person has only one id")
            if merge is not None:
                pair = self._pair_of(connection, whole, merge)
                return undo_facts(person, apart=(), merge=merge, pair=pair)
            out: dict[str, None] | None = None
            if taken_out is not None:
                out = self._taken_out(connection, project_id, whole, taken_out)
            most = MAX_TAKEN_OUT + len(out or ())
            rows = self._members(connection, whole, None, most)
            ids = (person_id_of(row.key) for row in rows)
            apart = list(islice((one for one in ids if not out or one not in out), MAX_TAKEN_OUT))
            return unmerge_facts(person, apart=apart, taken_out=None if out is None else list(out))

    # Finding

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        """This thread's connection, with one state of the file for as long as it is held."""
        with self._file.watched():
            connection = self._file.reader()
            with connection:
                yield connection

    def _walk_up(self, spans: Sequence[Span]) -> Iterator[int]:
        """The places of these subjects, ascending; the file may change in between."""
        for start in range(0, 1 + max((span.last for span in spans), default=-1), _WALKED_AT_ONCE):
            with self._reading() as connection:
                places = list(walk(connection, spans, start, start + _WALKED_AT_ONCE))
            yield from (index for index, _ in places)

    def _key(self, project_id: int, distinct_id: str) -> bytes:
        if project_id not in self._subkeys:
            self._subkeys[project_id] = self._journal.subkey(project_id, USE)
        return key_of(distinct_id, self._subkeys[project_id])

    def _rows_of(
        self, connection: apsw.Connection, project_id: int, who: str
    ) -> Iterator[tuple[_Row | None, int]]:
        """The id that `who` is made from, then the id that it is: the row, None if only a decision
        names it, and the person's root."""
        keys = [key_of_person(who)] if is_person_id(who) else []
        for key in (*keys, self._key(project_id, who)):
            found: Any = connection.execute(
                f"SELECT person, {_ID} WHERE key = ? AND project_id = ?",
                (key, project_id),
            ).get
            if found is not None:
                root, *row = found
                yield (None if row[2] is None else _row(row)), root

    def _whole(
        self, connection: apsw.Connection, project_id: int, who: str, at: int | None
    ) -> _Whole | None:
        for row, root in self._rows_of(connection, project_id, who):
            if at is None or at >= self.next_index(project_id):
                whole = self._now(connection, root)
            elif row is None:
                continue
            else:
                whole = self._then(connection, row, at)
            if whole is not None:
                return whole
        return None

    def _known(self, connection: apsw.Connection, project_id: int, who: str) -> _Whole:
        whole = self._whole(connection, project_id, who, None)
        if whole is None:
            raise NotFound("No person of the project has this id")
        return whole

    def _now(self, connection: apsw.Connection, root: int) -> _Whole | None:
        found: Any = connection.execute(
            "SELECT principal, ids, events, first_index, last_index, identified_at IS NOT NULL"
            " FROM person WHERE root = ?",
            (root,),
        ).get
        row = self._row_at(connection, root if found is None else found[0])
        if row is None:
            return None
        if found is None:
            known = row.identified_at != NEVER
            return _Whole(root, row, 1, row.events, row.first >> 1, row.last_index, known)
        _, ids, events, first, last, known = found
        return _Whole(root, row, ids, events, first, last, bool(known))

    def _then(self, connection: apsw.Connection, row: _Row, at: int) -> _Whole | None:
        if row.first >> 1 >= at:
            return None
        hull = load(connection, connected(connection, [row.number]), every_claim=False)
        fold = Fold(hull.facts().below(at))
        group = fold.group_of[row.number]
        members = [
            _as_of(connection, one, at)
            for one in self._rows_at(connection, [n for n in group.nodes if isinstance(n, int)])
            if one.first >> 1 < at
        ]
        members.sort(key=lambda one: one.first)
        principal = min(members, key=lambda one: one.rank)
        return _Whole(
            row.number,
            principal,
            len(members),
            sum(one.events for one in members),
            min(one.first for one in members) >> 1,
            max(one.last_index for one in members),
            principal.identified_at != NEVER,
            at,
            tuple(members),
        )

    def _row_at(self, connection: apsw.Connection, number: int) -> _Row | None:
        return next(iter(self._rows_at(connection, [number])), None)

    def _rows_at(self, connection: apsw.Connection, numbers: Iterable[int]) -> list[_Row]:
        rows = rows_in(
            connection,
            f"SELECT {_ID} WHERE text IS NOT NULL AND number",
            list(numbers),
        )
        return [_row(row) for row in rows]

    def _members(
        self, connection: apsw.Connection, whole: _Whole, after: int | None, limit: int = -1
    ) -> Iterator[_Row]:
        """The ids of a person: the principal, then the others after the rank `after`.

        With a limit, at least this many if there are.
        """
        if after is None:
            yield whole.principal
            after = -1
        others: Iterator[_Row]
        if whole.at is not None:
            others = (row for row in whole.members if row.first > after)
        else:
            rows: list[Any] = connection.execute(
                f"SELECT {_ID} WHERE person = ? AND person != number AND first > ?"
                " AND text IS NOT NULL ORDER BY first LIMIT ?",
                (whole.root, after, limit if limit < 0 else limit + 1),
            ).fetchall()
            found = [_row(row) for row in rows]
            found += [row for row in self._rows_at(connection, [whole.root]) if row.first > after]
            found.sort(key=lambda row: row.first)
            others = iter(found)
        for row in others:
            if row.number != whole.principal.number:
                yield row

    def _actors(self, connection: apsw.Connection, keys: Collection[bytes]) -> list[Span]:
        rows = rows_in(
            connection, "SELECT number, first_index, last_index FROM actor WHERE key", keys
        )
        return [Span(*row) for row in rows]

    # Showing

    def _person(self, connection: apsw.Connection, project_id: int, whole: _Whole) -> Person:
        rows = list(islice(self._members(connection, whole, None, IDS_SHOWN), IDS_SHOWN))
        values, left_out = self._properties(connection, project_id, whole)
        times = self._times(project_id, {whole.first_index, whole.last_index})
        return Person(
            person_id=person_id_of(whole.principal.key),
            principal=whole.principal.text,
            ids=tuple(self._ids(project_id, rows)),
            id_count=whole.id_count,
            is_identified=whole.is_identified,
            first_index=whole.first_index,
            last_index=whole.last_index,
            first_ms=times[whole.first_index],
            last_ms=times[whole.last_index],
            events=whole.events,
            properties=values,
            properties_left_out=left_out,
        )

    def _ids(self, project_id: int, rows: Sequence[_Row]) -> list[Id]:
        places = {place for row in rows for place in (row.first >> 1, row.last_index)}
        times = self._times(project_id, places)
        return [
            Id(
                distinct_id=row.text,
                person_id=person_id_of(row.key),
                role=Role.ANONYMOUS if row.identified_at == NEVER else Role.IDENTIFIED,
                first_index=row.first >> 1,
                last_index=row.last_index,
                first_ms=times[row.first >> 1],
                last_ms=times[row.last_index],
                events=row.events,
            )
            for row in rows
        ]

    def _times(self, project_id: int, places: Iterable[int]) -> dict[int, int]:
        """When the entries at these places were received; their leaves are never erased."""
        times: dict[int, int] = {}
        for start, end in _runs(sorted(set(places))):
            leaves = self._journal.leaves(project_id, start, end)
            for place, entry in enumerate(leaves, start=start):
                times[place] = leaf.decode(entry).received_at_ms
        return times

    def _properties(
        self, connection: apsw.Connection, project_id: int, whole: _Whole
    ) -> tuple[dict[str, Any], int]:
        if whole.at is None:
            of_ids, left_out = self._kept_now(connection, whole)
        else:
            of_ids, left_out = self._kept_then(connection, project_id, whole)
        identified = [last for is_identified, last in of_ids if is_identified]
        others = [last for is_identified, last in of_ids if not is_identified]
        values: dict[str, Any] = {}
        size = 0
        for name, last in of_person(identified, others).items():
            size += last.size
            if len(values) == PROPERTIES_KEPT or size > PROPERTY_BYTES_KEPT:
                left_out += 1
                continue
            value = last.value
            if value is None:
                value = connection.execute(
                    "SELECT value FROM property WHERE number = ? AND name = ?", (last.owner, name)
                ).get
            if value is not None:
                values[name] = msgspec.json.decode(value)
        return values, left_out

    def _kept_now(
        self, connection: apsw.Connection, whole: _Whole
    ) -> tuple[list[tuple[bool, dict[str, Last]]], int]:
        """The properties of each id, without the values, and how many writes were left out."""
        of_ids: dict[int, tuple[bool, dict[str, Last]]] = {}
        left_out = 0
        read = 0
        for condition, value in (("id.number = ?", whole.root), (_OTHERS, whole.root)):
            if condition == _OTHERS and whole.id_count == 1:
                break
            rows: list[Any] = connection.execute(
                _PROPERTIES_OF.format(condition),
                (value, PROPERTIES_READ - read),
            ).fetchall()
            read += len(rows)
            for number, is_identified, name, kind, at, size, unset_at in rows:
                last = Last(kind, at, size, unset_at, None, number)
                of_ids.setdefault(number, (bool(is_identified), {}))[1][name] = last
            left_out += connection.execute(
                f"SELECT total(left_out) FROM id WHERE {condition}",  # noqa: S608
                (value,),
            ).get
            if read >= PROPERTIES_READ:
                left_out += connection.execute(
                    _COUNT_OF.format(condition),
                    (value,),
                ).get - len(rows)
        return list(of_ids.values()), int(left_out)

    def _kept_then(
        self, connection: apsw.Connection, project_id: int, whole: _Whole
    ) -> tuple[list[tuple[bool, dict[str, Last]]], int]:
        """The same as it was: read from the journal, the newest `WRITES_READ` events."""
        assert whole.at is not None
        rows = {row.number | WRITES: row for row in whole.members}
        walked = walk(connection, _spans(rows), 0, whole.at, down=True)
        places = list(islice(walked, WRITES_READ + 1))
        left_out = sum(1 for _ in walked) + 1 if len(places) > WRITES_READ else 0
        kept = {subject: Kept() for subject in rows}
        for index, subject in reversed(places[:WRITES_READ]):
            for entry in self._journal.read(project_id, index, index + 1):
                change = change_of(entry.record, entry.payload)
                if change is not None:
                    kept[subject].apply(index, change)
        return [
            (rows[subject].identified_at != NEVER, one.last) for subject, one in kept.items()
        ], left_out + sum(one.left_out for one in kept.values())

    def _write(self, project_id: int, index: int, distinct_id: str) -> Write | None:
        for entry in self._journal.read(project_id, index, index + 1):
            change = change_of(entry.record, entry.payload)
            if change is not None:
                return Write(
                    index,
                    distinct_id,
                    entry.leaf.received_at_ms,
                    {name: msgspec.json.decode(value) for name, value in change.set.items()},
                    {name: msgspec.json.decode(value) for name, value in change.set_once.items()},
                    tuple(change.unset),
                )
        return None

    # Merges

    def _merge_facts(self, connection: apsw.Connection, whole: _Whole, at: int) -> list[MergeFact]:
        numbers = [row.number for row in self._members(connection, whole, None)]
        mine: set[object] = set(numbers)
        hull = load(connection, connected(connection, numbers), every_claim=True)
        fold = Fold(hull.facts().below(at))
        names = self._names(connection, hull)
        facts: list[MergeFact] = []
        runs: dict[tuple[object, object, MergeKind], MergeFact] = {}
        for claim in sorted(hull.claims, key=lambda claim: claim.index):
            if claim.index >= at or not {claim.one, claim.other} & mine:
                continue
            fate = fold.fates[claim.index]
            key = claim.one, claim.other, claim.kind
            run = runs.get(key)
            if run is not None and _goes_on(run, fate):
                runs[key] = _longer(run, claim.index)
                continue
            if run is not None:
                facts.append(run)
            runs[key] = MergeFact(
                claim.index,
                claim.kind,
                names[claim.one],
                names[claim.other],
                *fate,
                last_index=claim.index,
            )
        facts += runs.values()
        for refused in refused_claims(connection, numbers):
            if refused.index < at:
                facts.append(
                    MergeFact(
                        refused.index,
                        refused.kind,
                        Named(None, None),
                        names[refused.other],
                        MergeState.REFUSED,
                        Refusal.REFUSED_ID,
                        last_index=refused.index,
                    )
                )
        for decision in hull.decisions:
            if decision.index < at:
                fact = _decided(decision, fold.fates[decision.index], names, mine)
                if fact is not None:
                    facts.append(fact)
        return facts

    def _names(self, connection: apsw.Connection, hull: Hull) -> dict[object, Named]:
        return {
            number: Named(person_id_of(key), text)
            for number, key, text in rows_in(
                connection, "SELECT number, key, text FROM id WHERE number", hull.ids
            )
        }

    def _pair_of(self, connection: apsw.Connection, whole: _Whole, merge: int) -> tuple[str, str]:
        """The person ids of the two that a merge in force joined.

        Raises:
            NotFound, NotUnmergeable.
        """
        for fact in self._merge_facts(connection, whole, NEVER):
            last = fact.index if fact.last_index is None else fact.last_index
            if not fact.index <= merge <= last or fact.kind is MergeKind.UNMERGE:
                continue
            if fact.state not in (MergeState.ACCEPTED, MergeState.REPEATED):
                raise NotUnmergeable(f"The merge at index {merge} is not in force")
            assert fact.other is not None
            assert fact.one.person_id is not None
            assert fact.other.person_id is not None
            return fact.one.person_id, fact.other.person_id
        raise NotFound(f"The person has no merge at index {merge}")

    def _taken_out(
        self,
        connection: apsw.Connection,
        project_id: int,
        whole: _Whole,
        taken_out: Sequence[str],
    ) -> dict[str, None]:
        """The person ids of the ids to take out.

        Raises:
            NotFound, NotUnmergeable.
        """
        out: dict[str, None] = {}
        for name in taken_out:
            rows = [
                r for r, root in self._rows_of(connection, project_id, name) if root == whole.root
            ]
            if not rows or rows[0] is None:
                raise NotFound("An id to take out is none of the person's")
            out[person_id_of(rows[0].key)] = None
        if not out:
            raise NotUnmergeable("No id to take out was named")
        if len(out) >= whole.id_count:
            raise NotUnmergeable("These are all ids of the person: take it apart as a whole")
        if len(out) > MAX_TAKEN_OUT:
            raise NotUnmergeable(f"At most {MAX_TAKEN_OUT:,} ids can be taken out at once")
        return out


# The last event of its id, which is the last one of its person too.
_LAST_SEEN: Final = (
    "SELECT low, id.person FROM posting"
    " JOIN seen ON seen.number = posting.subject AND seen.last_index = ? + posting.low"
    " JOIN id ON id.number = posting.subject"
    " LEFT JOIN person ON person.root = id.person"
    " WHERE segment = ? AND low < ? AND project_id = ?"
    " AND coalesce(person.last_index, seen.last_index) = seen.last_index ORDER BY low DESC LIMIT ?"
)
_PROPERTIES_OF: Final = (
    "SELECT id.number, id.identified_at IS NOT NULL, name, kind, at, size, unset_at"
    " FROM id JOIN property ON property.number = id.number WHERE {} LIMIT ?"
)
_COUNT_OF: Final = "SELECT count(*) FROM id JOIN property ON property.number = id.number WHERE {}"
_OTHERS: Final = "id.person = ? AND id.person != id.number"


def _row(row: Sequence[Any]) -> _Row:
    number, key, text, identified_at, first, last_index, events = row
    return _Row(
        number,
        key,
        text,
        NEVER if identified_at is None else identified_at,
        first,
        last_index,
        events,
    )


def _as_of(connection: apsw.Connection, row: _Row, at: int) -> _Row:
    """An id as it was, known below the index `at`."""
    events, last = row.events, row.last_index
    first = row.first >> 1
    if last >= at:
        span = Span(row.number, first, last)
        events = count(connection, span, at)
        found = last_of(connection, row.number, first, at)
        last = first if found is None else found
    known_at = row.identified_at if row.identified_at < at else NEVER
    return _Row(row.number, row.key, row.text, known_at, row.first, last, events)


def _spans(rows: dict[int, _Row]) -> list[Span]:
    return [Span(subject, row.first >> 1, row.last_index) for subject, row in rows.items()]


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs [start, end) that have all these places, which are ascending, and few others.

    >>> list(_runs([1, 2, 5, 90]))
    [(1, 6), (90, 91)]
    """
    start = end = -_NEAR
    for place in places:
        if place - end >= _NEAR or end - start >= _LEAVES_AT_ONCE:
            if end > start:
                yield start, end
            start = place
        end = place + 1
    if end > start:
        yield start, end


def _goes_on(run: MergeFact, fate: Fate) -> bool:
    """Whether a claim says again what a run of equal claims says."""
    if run.state is MergeState.ACCEPTED:
        return fate.state is MergeState.REPEATED
    return (run.state, run.reason, run.void_since) == fate


def _longer(run: MergeFact, index: int) -> MergeFact:
    return replace(run, times=run.times + 1, last_index=index)


def _decided(
    decision: Merged | Unmerged, fate: Fate, names: dict[object, Named], mine: set[object]
) -> MergeFact | None:
    """A decision that names one of the person's ids."""
    if isinstance(decision, Merged):
        if not mine & set(decision.nodes):
            return None
        one, other, *_ = decision.nodes
        return MergeFact(decision.index, MergeKind.MERGE, names[one], names[other], *fate)
    out = decision.pair[1:] if decision.pair else decision.taken_out or ()
    person = decision.pair[0] if decision.pair else decision.node
    if not mine & {decision.node, *decision.apart, *(decision.pair or ()), *out}:
        return None
    return MergeFact(
        decision.index,
        MergeKind.UNMERGE,
        names[person],
        names[out[0]] if out else None,
        *fate,
        taken_out=len(out),
    )
