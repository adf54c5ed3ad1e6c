"""What can be said of a person: the values that reading returns. Pure.

An *id* is a distinct id, compared to the byte: ids that differ by case or by Unicode form are two.
Each id has a *key*, a keyed hash of it, and a *person id*, `per_` and the 32 hex digits of the key.
A *person* is a set of ids that merges join. It is named by its *principal*: the id that was
identified first, or, if none was, the id that was seen first. The person id of any member finds the
person, so a link to a person stays good after merges and unmerges.

Times are milliseconds since the epoch, by the server's clock. Indexes are places in the project's
log. Everything is as known at one index: the fold of the entries below it, without those that have
been erased since.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

IDS_SHOWN: Final = 100
"""Most ids that a `Person` carries; `Persons.ids` pages through all of them."""

PROPERTIES_KEPT: Final = 1_000
"""Most properties kept of an id, and shown of a person."""

PROPERTY_BYTES_KEPT: Final = 1024 * 1024
"""Most bytes of property names and values (JSON) kept of an id, and shown of a person."""

_PERSON_ID: Final = re.compile(r"per_[0-9a-f]{32}", re.ASCII)


class Role(StrEnum):
    """What an id is to its person."""

    IDENTIFIED = "identified"
    """A user id: it is the `distinct_id` of an `$identify`."""
    ANONYMOUS = "anonymous"
    """Every other id."""


@dataclass(frozen=True, slots=True)
class Id:
    """One id of a person.

    Attributes:
        distinct_id: as it was sent.
        person_id: made from this id; it finds the person.
        first_index, last_index: its first and last product event that is left; of an id that only
            a merge names, the place of that merge.
        first_ms, last_ms: when those were received.
        events: how many product events are left of it.
    """

    distinct_id: str
    person_id: str
    role: Role
    first_index: int
    last_index: int
    first_ms: int
    last_ms: int
    events: int


@dataclass(frozen=True, slots=True)
class Person:
    """One person.

    Attributes:
        person_id, principal: of the id that names the person.
        ids: at most `IDS_SHOWN`, the principal first, then in the order in which they were seen.
        id_count: how many ids there are.
        is_identified: whether one of the ids is.
        first_index, last_index, first_ms, last_ms: of the first and the last event of all ids.
        events: how many product events are left of all ids.
        properties: the values as JSON values, by name.
        properties_left_out: how many writes were not kept, or values not shown, since the person
            has more properties than `PROPERTIES_KEPT` or `PROPERTY_BYTES_KEPT` allow.
    """

    person_id: str
    principal: str
    ids: tuple[Id, ...]
    id_count: int
    is_identified: bool
    first_index: int
    last_index: int
    first_ms: int
    last_ms: int
    events: int
    properties: Mapping[str, Any]
    properties_left_out: int


@dataclass(frozen=True, slots=True)
class IdPage:
    """Some ids of a person; `after` is what to pass for the next ones, None at the end."""

    ids: tuple[Id, ...]
    after: int | None


@dataclass(frozen=True, slots=True)
class PersonPage:
    """Some persons, last seen first.

    Attributes:
        before: pass it for the next page; None at the end. A page can be empty and still have it:
            none of the persons that were looked at was chosen.
        looked_at: how many persons were.
    """

    persons: tuple[Person, ...]
    before: int | None
    looked_at: int


class MergeKind(StrEnum):
    """By what two ids are, or would be, joined or parted."""

    IDENTIFY = "identify"
    ALIAS = "alias"
    MERGE = "merge"
    UNMERGE = "unmerge"


class MergeState(StrEnum):
    """What became of a fact about two ids."""

    ACCEPTED = "accepted"
    """It joined two persons, or (unmerge) parted one."""
    REPEATED = "repeated"
    """The two ids were one person already, or (unmerge) were none."""
    REFUSED = "refused"
    VOID = "void"
    """It was accepted, and an unmerge took it back."""


class Refusal(StrEnum):
    """Why a claim that two ids are one person is refused. Public and closed."""

    REFUSED_ID = "refused_id"
    OTHER_PERSON = "other_person"
    ALIAS_IDENTIFIED = "alias_identified"
    TAKEN_APART = "taken_apart"

    @property
    def meaning(self) -> str:
        """One sentence for a person who reads the reason in an answer or on a page."""
        return _REFUSAL_MEANINGS[self]


_REFUSAL_MEANINGS: Final = {
    Refusal.REFUSED_ID: "One of the two ids is a placeholder such as `null` or `guest`, which is "
    "nobody's.",
    Refusal.OTHER_PERSON: "The ids belong to two identified persons, who are merged on request "
    "only.",
    Refusal.ALIAS_IDENTIFIED: "The alias is itself the id of an identified person.",
    Refusal.TAKEN_APART: "An unmerge has taken the two apart: only a merge on request joins them "
    "again.",
}


@dataclass(frozen=True, slots=True)
class Named:
    """One side of a merge fact; `distinct_id` is None where it isn't known, or was erased."""

    person_id: str | None
    distinct_id: str | None


@dataclass(frozen=True, slots=True)
class MergeFact:
    """One fact about two ids: repetitions of a claim are one fact.

    Attributes:
        index: its place in the log; of repeated claims, that of the first.
        one, other: the anonymous or alias id and the user id (identify, alias); the two persons
            (merge); the person and one that was taken out of it (unmerge: `other` is None if every
            id was taken out).
        reason: why it was refused; None unless `state` is REFUSED.
        void_since: the index of the unmerge that took it back; None unless `state` is VOID.
        times: how many times it was claimed, and `last_index`, where last.
        taken_out: how many ids an unmerge names; 0 of other kinds.
    """

    index: int
    kind: MergeKind
    one: Named
    other: Named | None
    state: MergeState
    reason: Refusal | None = None
    void_since: int | None = None
    times: int = 1
    last_index: int | None = None
    taken_out: int = 0


@dataclass(frozen=True, slots=True)
class MergePage:
    """Some merge facts of a person, newest first; `before` is for the next page, or None."""

    facts: tuple[MergeFact, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class Write:
    """One event that wrote properties of a person.

    Attributes:
        set, set_once: the values by name, as sent.
        unset: the names to remove.
    """

    index: int
    distinct_id: str
    at_ms: int
    set: Mapping[str, Any]
    set_once: Mapping[str, Any]
    unset: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WritePage:
    """Some writes, newest first; `before`: pass it for the next page, None at the end."""

    writes: tuple[Write, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Places in the log, newest first; `before`: pass it for the next page, None at the end."""

    indexes: tuple[int, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A company, team or tenant that events name.

    Attributes:
        type: the group type of `$groups`; None for the `tenant` of an audit event's meta.
        name: its key, or the tenant.
        first_index, last_index: the first and the last event that names it.
        events: how many do.
    """

    type: str | None
    name: str
    first_index: int
    last_index: int
    events: int


@dataclass(frozen=True, slots=True)
class UnitPage:
    """Some units, last seen first; `before`: pass it for the next page, None at the end."""

    units: tuple[Unit, ...]
    before: int | None


def is_person_id(text: str) -> bool:
    """Whether `text` has the form of a person id.

    >>> is_person_id("per_0123456789abcdef0123456789abcdef"), is_person_id("per_1")
    (True, False)
    """
    return _PERSON_ID.fullmatch(text) is not None


def person_id_of(key: bytes) -> str:
    """The person id made from the key of an id (16 bytes)."""
    return "per_" + key.hex()


def key_of_person(person_id: str) -> bytes:
    """The key of the id that a person id was made from.

    Raises:
        ValueError: it is no person id.
    """
    if not is_person_id(person_id):
        raise ValueError(person_id)
    return bytes.fromhex(person_id[4:])
