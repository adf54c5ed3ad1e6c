"""Persons, as they are shown: lists, one person, its history and timeline; and merges on request.

What is shown is as known at one index, `as_of`: the fold of the entries below it. Asked without an
index, it is as far as the follower has come within a second: nearly always the end of the log.

A merge or an unmerge is decided by `Turns`: one at a time in each project, on persons that are up
to date. It is an administration event; what becomes of it is the fold's to say, and the answer
waits for that.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Final

import msgspec

from indelible.clock import rfc3339
from indelible.condition import Condition, InCohort, Moment, leaves, prepared, roots
from indelible.errors import InvalidCondition, InvalidCursor, NotFound
from indelible.event import Kind, tx_text
from indelible.identity.decisions import PERSONS_MERGED, PERSONS_UNMERGED
from indelible.identity.person import Id, MergeFact, Named, Person, Role, Write
from indelible.identity.persons import LOOKED_AT, Persons
from indelible.journal.contract import LARGEST_INDEX, JournalReader
from indelible.query.erasures import Turns, ids_of
from indelible.query.events import Events, Step
from indelible.query.facts import View
from indelible.registry.registry import Registry
from indelible.registry.store import Told
from indelible.registry.values import Project

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_IDS: Final = 1_000
"""Most ids of a page of ids."""
PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page of persons or of writes ends once it has this many bytes of properties."""
_AT_ONCE: Final = 10  # persons or writes: each may have a mebibyte of properties
MERGES_SHOWN: Final = 20
"""Most merge facts that the answer for one person has; `merges` has all of them, by pages."""
FOLDED_WITHIN_S: Final = 5.0
"""How long the answer to a merge or an unmerge waits until the persons are as it says."""

FRESH_WITHIN_S: Final = 1.0
"""How long a read waits for the follower, so that who has just sent an event finds it; then it is
answered as of where the follower is."""

_FACTS: Final = frozenset({"distinct_id", "properties", "received_at"})


class IdView(msgspec.Struct):
    """One id of a person. `person_id` is made from this id, and finds the person as any other."""

    distinct_id: str
    person_id: str
    role: str
    events: int
    first_seen: str
    last_seen: str


class PersonView(msgspec.Struct):
    """A person, named by its principal: the id that was identified first, else seen first.

    `ids` are the first 100 of `id_count`. `properties_left_out` counts what the limits of one
    person left out.
    """

    person_id: str
    distinct_id: str
    identified: bool
    properties: dict[str, Any]
    properties_left_out: int
    ids: list[IdView]
    id_count: int
    events: int
    first_seen: str
    last_seen: str
    first_index: int
    last_index: int


class Side(msgspec.Struct):
    """One side of a merge fact; `distinct_id` is null where it is not known, or was erased."""

    person_id: str | None
    distinct_id: str | None


class MergeView(msgspec.Struct):
    """A fact of the log about two ids: an identify, an alias, a merge or an unmerge.

    `state` is `accepted`, `repeated`, `refused` or `void`; `reason` says why it is refused,
    `void_since` is the index of the unmerge that took it back. `times` is how often it was claimed.
    """

    index: int
    kind: str
    one: Side
    other: Side | None
    state: str
    reason: str | None
    meaning: str | None
    void_since: int | None
    times: int
    taken_out: int


class PersonDetails(PersonView, kw_only=True):
    """A person, with the newest facts that joined or parted its ids; `as_of`: as known at this
    index of the log. `more_merges`: there are more than these 20."""

    merges: list[MergeView]
    more_merges: bool
    as_of: int


class PersonList(msgspec.Struct):
    """One page of persons, last seen first; `next` is the cursor of the following one, null at the
    end. A page may be short, even empty, and still have a `next`."""

    persons: list[PersonView]
    next: str | None
    as_of: int


class IdList(msgspec.Struct):
    """One page of the ids of a person, the principal first, then in the order in which they were
    seen."""

    ids: list[IdView]
    next: str | None
    as_of: int


class MergeList(msgspec.Struct):
    """One page of the facts that joined, would have joined, or parted ids of a person, newest
    first."""

    merges: list[MergeView]
    next: str | None
    as_of: int


class WriteView(msgspec.Struct, rename={"set": "$set", "set_once": "$set_once", "unset": "$unset"}):
    """What one event wrote of the properties of a person, as it was sent."""

    index: int
    distinct_id: str
    at: str
    set: dict[str, Any]
    set_once: dict[str, Any]
    unset: list[str]


class History(msgspec.Struct):
    """One page of what was written of the properties of a person, newest first."""

    writes: list[WriteView]
    next: str | None
    as_of: int


class Timeline(msgspec.Struct):
    """One page of the events of a person, newest first: the product events of all its ids, and the
    audit events whose actor is one of them."""

    events: list[View]
    next: str | None
    as_of: int


class FactStored(msgspec.Struct):
    """The administration event that a merge or an unmerge is."""

    index: int
    tx_id: str


class MergeDone(msgspec.Struct):
    """The persons after a merge or an unmerge, 100 at most, and the event that it is.

    `folded` false (with status 202): the event is stored, and the persons are not up to date yet;
    they will be once `as_of` of an answer is greater than the index of the event.
    """

    persons: list[PersonView]
    event: FactStored
    folded: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which persons: of whom a condition is true, that were seen at or after a time, or one of
    whose ids is this one."""

    filter: Condition | None = None
    last_seen_from_ms: int | None = None
    distinct_id: str | None = None


class PersonQueries:
    """The persons of every project, for reading, merging and taking apart."""

    def __init__(
        self,
        journal: JournalReader,
        events: Events,
        persons: Persons,
        registry: Registry,
        turns: Turns,
    ) -> None:
        self._journal = journal
        self._events = events
        self._persons = persons
        self._registry = registry
        self._turns = turns

    def page(
        self, project: Project, choice: Choice, *, limit: int, cursor: str | None
    ) -> PersonList:
        """One page of persons, last seen first.

        Raises:
            InvalidCondition, InvalidCursor.
            Unavailable: the file of persons is damaged.
        """
        shape = ("persons", project.id, choice)
        before = _read_cursor(cursor, shape)
        as_of = self._as_of(project, None)
        chosen = None if choice.filter is None else _chooser(choice.filter)
        if choice.distinct_id is not None:
            one = self._persons.find(project.id, choice.distinct_id)
            from_ms = choice.last_seen_from_ms or 0
            is_it = one is not None and one.last_ms >= from_ms and (not chosen or chosen(one))
            return PersonList([person_view(one)] if one and is_it else [], None, as_of)
        found: list[PersonView] = []
        looked_at = size_bytes = 0
        while True:
            page = self._persons.page(
                project.id,
                chosen=chosen,
                last_seen_from_ms=choice.last_seen_from_ms,
                before=before,
                limit=min(_AT_ONCE, limit - len(found)),
            )
            found += map(person_view, page.persons)
            before, looked_at = page.before, looked_at + page.looked_at
            size_bytes += sum(_size(person.properties) for person in page.persons)
            is_full = len(found) == limit or size_bytes >= PAGE_BYTES or looked_at >= LOOKED_AT
            if before is None or is_full:
                return PersonList(found, _cursor(before, shape), as_of)

    def one(self, project: Project, who: str, *, at: int | None = None) -> PersonDetails:
        """One person, by its person id or any of its ids.

        Raises:
            NotFound: there is no such person, or the log has no index `at` yet; Unavailable.
        """
        as_of = self._as_of(project, at)
        person = self._found(project, who, at)
        merges = self._persons.merges(project.id, who, limit=MERGES_SHOWN, at=at)
        shown = msgspec.structs.asdict(person_view(person))
        return PersonDetails(
            **shown,
            merges=list(map(_merge_view, merges.facts)),
            more_merges=merges.before is not None,
            as_of=as_of,
        )

    def ids(
        self, project: Project, who: str, *, at: int | None, limit: int, cursor: str | None
    ) -> IdList:
        """One page of the ids of a person. Raises: as `one`; InvalidCursor."""
        as_of, shape = self._as_of(project, at), ("ids", project.id, who, at)
        self._found(project, who, at)
        page = self._persons.ids(
            project.id, who, after=_read_cursor(cursor, shape), limit=limit, at=at
        )
        return IdList(list(map(id_view, page.ids)), _cursor(page.after, shape), as_of)

    def merges(
        self, project: Project, who: str, *, at: int | None, limit: int, cursor: str | None
    ) -> MergeList:
        """One page of the merge facts of a person. Raises: as `one`; InvalidCursor."""
        as_of, shape = self._as_of(project, at), ("merges", project.id, who, at)
        self._found(project, who, at)
        page = self._persons.merges(
            project.id, who, before=_read_cursor(cursor, shape), limit=limit, at=at
        )
        return MergeList(list(map(_merge_view, page.facts)), _cursor(page.before, shape), as_of)

    def history(
        self, project: Project, who: str, *, at: int | None, limit: int, cursor: str | None
    ) -> History:
        """One page of what was written of the properties. Raises: as `one`; InvalidCursor."""
        as_of, shape = self._as_of(project, at), ("history", project.id, who, at)
        self._found(project, who, at)
        before, size_bytes = _read_cursor(cursor, shape), 0
        writes: list[WriteView] = []
        while True:
            page = self._persons.history(
                project.id, who, before=before, limit=min(_AT_ONCE, limit - len(writes)), at=at
            )
            writes += map(_write_view, page.writes)
            before = page.before
            size_bytes += sum(_size(write.set) + _size(write.set_once) for write in page.writes)
            if before is None or len(writes) == limit or size_bytes >= PAGE_BYTES:
                return History(writes, _cursor(before, shape), as_of)

    def timeline(
        self, project: Project, who: str, *, at: int | None, limit: int, cursor: str | None
    ) -> Timeline:
        """One page of the events of a person. Raises: as `one`; InvalidCursor."""
        as_of, shape = self._as_of(project, at), ("timeline", project.id, who, at)
        self._found(project, who, at)
        page = self._persons.timeline(
            project.id, who, before=_read_cursor(cursor, shape), limit=limit, at=at
        )
        shown = self._events.listed(project, page.indexes)
        before = page.before
        if len(shown) < len(page.indexes):  # the page was cut by its bytes
            before = page.indexes[len(shown) - 1]
        return Timeline(shown, _cursor(before, shape), as_of)

    def resolved(self, project: Project, event: View) -> View:
        """A product event with its life, and the person whose it is now.

        Without the person while the follower has not come to the event, and where its distinct id
        is nobody's.
        """
        distinct_id = event.get("distinct_id")
        if not isinstance(distinct_id, str) or event["kind"] != Kind.PRODUCT.word:
            return event
        if self._persons.next_index(project.id) <= event["index"]:
            return event
        person = self._persons.find(project.id, distinct_id)
        if person is None:
            return event
        life = [*event["life"], Step("resolved", None, person.person_id)]
        return {**event, "person": person.person_id, "life": life}

    def indexes(self, project: Project, person: str | None, actor: str | None) -> list[int]:
        """The places of the product events of a person and of the audit events of an actor,
        ascending.

        Raises:
            NotFound: there is no such person; Unavailable.
        """
        self._turns.catch_up(project.id, self._journal.next_index(project.id))
        product: Iterable[int] = ()
        if person is not None:
            self._found(project, person, None)
            ids = ids_of(self._persons, project.id, person)
            product = self._persons.indexes_of_ids(project.id, ids)
        audit: Iterable[int] = ()
        if actor is not None:
            audit = self._persons.indexes_of_actors(project.id, [actor])
        return list(merge(product, audit))

    def merge(self, project: Project, who: Sequence[str]) -> MergeDone:
        """Make these persons one.

        Raises:
            NotFound: one of them is not known; NotMergeable; Unavailable; JournalUnwritable.
        """
        with self._turns.turn(project.id):
            facts = self._persons.merge_facts(project.id, who)
            return self._decided(project, PERSONS_MERGED, facts, who[:1])

    def unmerge(
        self,
        project: Project,
        who: str,
        *,
        taken_out: Sequence[str] | None = None,
        merge: int | None = None,
    ) -> MergeDone:
        """Take a person apart: every id by itself, or the ids `taken_out`, or undo one merge.

        Raises:
            NotFound; NotUnmergeable; Unavailable; JournalUnwritable.
        """
        with self._turns.turn(project.id):
            self._found(project, who, None)
            were = [each.distinct_id for each in self._persons.ids(project.id, who, limit=100).ids]
            facts = self._persons.unmerge_facts(project.id, who, taken_out=taken_out, merge=merge)
            return self._decided(project, PERSONS_UNMERGED, facts, [who, *(taken_out or ()), *were])

    def _decided(
        self, project: Project, name: str, facts: dict[str, Any], who: Sequence[str]
    ) -> MergeDone:
        """Log what was decided, and wait until the persons are so."""
        (told,) = self._registry.tell(name, [facts], log=project.log)
        is_folded = self._turns.reaches(project.id, told.at + 1, within_s=FOLDED_WITHIN_S)
        after: dict[str, PersonView] = {}
        for each in who:
            if is_folded and len(after) < _PERSONS_AFTER:
                person = self._persons.find(project.id, each)
                if person is not None:
                    after.setdefault(person.person_id, person_view(person))
        return MergeDone(list(after.values()), _stored(told), is_folded)

    def _found(self, project: Project, who: str, at: int | None) -> Person:
        person = self._persons.find(project.id, who, at=at)
        if person is None:
            raise NotFound(
                "This project has no such person" + ("" if at is None else f" at index {at}"),
                hint="`indelible persons list` shows those that there are. Ids are compared to the "
                "byte; encode a slash in a path as %2F.",
            )
        return person

    def _as_of(self, project: Project, at: int | None) -> int:
        """The index that the answer is as of; waits for the follower if need be.

        Raises:
            NotFound: the log does not go that far; what it will say there is not known.
            Unavailable.
        """
        end = self._journal.next_index(project.id)
        if at is None:
            self._turns.reaches(project.id, end, within_s=FRESH_WITHIN_S)
            return self._persons.next_index(project.id)
        if at > end:
            raise NotFound(
                f"The log has no index {at:,} yet: it has {end:,} entries",
                hint="Leave `at` out for the persons as they are now.",
            )
        self._turns.catch_up(project.id, at)
        return at


_PERSONS_AFTER: Final = 100


def person_view(person: Person) -> PersonView:
    """Show a person."""
    return PersonView(
        person_id=person.person_id,
        distinct_id=person.principal,
        identified=person.is_identified,
        properties=dict(person.properties),
        properties_left_out=person.properties_left_out,
        ids=list(map(id_view, person.ids)),
        id_count=person.id_count,
        events=person.events,
        first_seen=rfc3339(person.first_ms),
        last_seen=rfc3339(person.last_ms),
        first_index=person.first_index,
        last_index=person.last_index,
    )


def id_view(one: Id) -> IdView:
    """Show an id."""
    return IdView(
        distinct_id=one.distinct_id,
        person_id=one.person_id,
        role=Role(one.role).value,
        events=one.events,
        first_seen=rfc3339(one.first_ms),
        last_seen=rfc3339(one.last_ms),
    )


def _merge_view(fact: MergeFact) -> MergeView:
    return MergeView(
        index=fact.index,
        kind=fact.kind.value,
        one=_side(fact.one),
        other=None if fact.other is None else _side(fact.other),
        state=fact.state.value,
        reason=None if fact.reason is None else fact.reason.value,
        meaning=None if fact.reason is None else fact.reason.meaning,
        void_since=fact.void_since,
        times=fact.times,
        taken_out=fact.taken_out,
    )


def _side(named: Named) -> Side:
    return Side(named.person_id, named.distinct_id)


def _write_view(write: Write) -> WriteView:
    return WriteView(
        index=write.index,
        distinct_id=write.distinct_id,
        at=rfc3339(write.at_ms),
        set=dict(write.set),
        set_once=dict(write.set_once),
        unset=list(write.unset),
    )


def _size(properties: Mapping[str, Any]) -> int:
    return len(msgspec.json.encode(properties)) if properties else 0


def _stored(told: Told) -> FactStored:
    return FactStored(told.at, tx_text(told.tx))


def _chooser(condition: Condition) -> Callable[[Person], bool]:
    """Whether a condition is true of a person.

    Its facts are `properties`, `distinct_id` (of the principal) and `received_at`, when the person
    was last seen.

    Raises:
        InvalidCondition: it looks at another fact, or names a cohort.
    """
    for leaf in leaves(condition):
        if isinstance(leaf, InCohort):
            raise InvalidCondition(
                f"There is no cohort {leaf.cohort!r}", hint="Test the facts of the person."
            )
    if others := sorted(roots(condition) - _FACTS):
        raise InvalidCondition(
            f"A person has no {others[0]!r}",
            hint="Known here: properties, distinct_id (the principal's), received_at (last seen).",
        )
    test = prepared(condition)

    def chosen(person: Person) -> bool:
        facts = {
            "properties": dict(person.properties),
            "distinct_id": person.principal,
            "received_at": Moment(person.last_ms),
        }
        return test(facts, ())

    return chosen


def _cursor(place: int | None, shape: tuple[object, ...]) -> str | None:
    """Opaque to callers. It ends in a digest of the list, so that a cursor of one is not taken for
    a place in another."""
    if place is None:
        return None
    digest = hashlib.sha256(repr(shape).encode("utf-8", "replace")).hexdigest()[:16]
    return base64.urlsafe_b64encode(f"{place}.{digest}".encode()).decode().rstrip("=")


def _read_cursor(text: str | None, shape: tuple[object, ...]) -> int | None:
    """
    Raises:
        InvalidCursor: it is not to the letter what `_cursor` wrote for this list.
    """
    if text is None:
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        place = int(decoded.partition(".")[0])
    except ValueError:
        raise InvalidCursor from None
    if _cursor(place, shape) != text or not 0 <= place <= LARGEST_INDEX + 1:
        raise InvalidCursor
    return place
