"""A stretch of the log as facts about ids: who did what, who is who, and what was written. Pure.

Most events say only that an id was seen. So of most events only two members of the record are read,
and their payload is searched for four short byte strings.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from indelible import leaf
from indelible.errors import UnknownVersion
from indelible.event import Kind, is_refused_id
from indelible.identity.decisions import PERSONS_MERGED, PERSONS_UNMERGED
from indelible.identity.person import MergeKind, is_person_id, key_of_person
from indelible.journal.contract import Rows
from indelible.record import JOINS, VERSION, joined_id, plain_id

MAX_UNITS: Final = 5
"""Most groups of one event that are kept; the rest is counted."""

MAX_UNIT_CHARS: Final = 200
"""Most characters of a group type, a group key or a tenant; longer ones are counted as left out."""

MAX_ACTOR_CHARS: Final = 200
"""Most characters of an actor; a longer one is nobody's id."""

MAX_NAMED: Final = 2_000
"""Most persons that are read of one decision."""

LEFT_OUT: Final = ("", "")
"""The unit that stands for all that were left out."""

_KIND_AT: Final = 1  # in a leaf entry; see indelible.leaf
_PRODUCT, _AUDIT = Kind.PRODUCT.value, Kind.AUDIT.value
_ERASURE, _ADMINISTRATION = Kind.ERASURE.value, Kind.ADMINISTRATION.value

Unit = tuple[str, str]
"""A type and a name; the type of a tenant is empty."""


class Change(NamedTuple):
    """What one event writes of its person's properties: JSON values by name, and names."""

    set: Mapping[str, bytes]
    set_once: Mapping[str, bytes]
    unset: Sequence[str]


class ClaimFact(Struct, frozen=True, gc=False, array_like=True):
    """An event says that `one` and its own id, `other`, are a person.

    `one` is None in an `$identify` that names no second id, which says only that `other` is a user
    id, and where the second id is refused.
    """

    index: int
    kind: MergeKind
    one: str | None
    other: str
    is_refused: bool = False


class MergedFact(Struct, frozen=True, gc=False, array_like=True, tag="merged"):
    """A decision that persons, by keys of their ids, are one."""

    index: int
    persons: tuple[bytes, ...]


class UnmergedFact(Struct, frozen=True, gc=False, array_like=True, tag="unmerged"):
    """A decision that a person is not one; see `indelible.identity.fold.Unmerged`."""

    index: int
    person: bytes
    apart: tuple[bytes, ...]
    taken_out: tuple[bytes, ...] | None
    pair: tuple[bytes, bytes] | None


DecisionFact = MergedFact | UnmergedFact


@dataclass(slots=True)
class Stretch:
    """What a stretch of one project's log says. Indexes are ascending.

    Attributes:
        seen: the places of the product events of each id that is not refused.
        claims, decisions: in the order of the log.
        writes: the place, the id and what it writes, in the order of the log.
        actors, units: the places of the events that name each.
        erased: what entries of kind erasure list: half-open runs.
    """

    seen: dict[str, list[int]] = field(default_factory=dict)
    claims: list[ClaimFact] = field(default_factory=list)
    writes: list[tuple[int, str, Change]] = field(default_factory=list)
    actors: dict[str, list[int]] = field(default_factory=dict)
    units: dict[Unit, list[int]] = field(default_factory=dict)
    decisions: list[DecisionFact] = field(default_factory=list)
    erased: list[tuple[int, int]] = field(default_factory=list)


class _Meta(Struct, gc=False):
    tenant: Any = None


class _Record(Struct, gc=False):
    """The members of a record that count here; the rest is skipped."""

    set: Raw | UnsetType = msgspec.field(default=UNSET, name="$set")
    set_once: Raw | UnsetType = msgspec.field(default=UNSET, name="$set_once")
    unset: Raw | UnsetType = msgspec.field(default=UNSET, name="$unset")
    distinct_id: str = ""
    event: str = ""
    meta: _Meta | None = None
    v: Literal[1] = VERSION


class _Properties(Struct, gc=False):
    """The members of `properties` that count here."""

    set: Raw | UnsetType = msgspec.field(default=UNSET, name="$set")
    set_once: Raw | UnsetType = msgspec.field(default=UNSET, name="$set_once")
    unset: Raw | UnsetType = msgspec.field(default=UNSET, name="$unset")
    groups: Any = msgspec.field(default=None, name="$groups")
    anon_distinct_id: Any = msgspec.field(default=None, name="$anon_distinct_id")
    anonymous_id: Any = None
    anonymousId: Any = None  # noqa: N815 — its name on the wire
    device_id: Any = msgspec.field(default=None, name="$device_id")
    alias: Any = None

    def get(self, place: str) -> object:
        return getattr(self, place.removeprefix("$"))


class _Actor(Struct, gc=False):
    actor: Any = None


class _Said(Struct, gc=False):
    """What an erasure or a decision says."""

    erased: list[tuple[int, int]] = []
    persons: list[str] | None = None
    person: str | None = None
    apart: list[str] = []
    pair: tuple[str, str] | None = None


_RECORDS: Final = msgspec.json.Decoder(list[_Record | None])
_PROPERTIES: Final = msgspec.json.Decoder(_Properties)
_VALUES: Final = msgspec.json.Decoder(dict[str, Raw])
_ACTOR: Final = msgspec.json.Decoder(_Actor)
_SAID: Final = msgspec.json.Decoder(_Said)
_NONE: Final = _Properties()
_MARKS: Final = (b"$set", b"$unset", b"$groups", b"\\u0024")
"""What is in the text of properties that count, however they are written."""


def read(stretch: Stretch, start: int, rows: Rows) -> None:
    """Add what the entries from `start` on say; `rows` has their payloads.

    Raises:
        UnknownVersion: a record has a form that is not known here.
    """
    kinds, text = rows.leaves[_KIND_AT :: leaf.SIZE], rows.records_json
    seen, payloads = stretch.seen, rows.payloads
    marked = _marked(payloads)
    records_write = b'"$set' in text or b'"$unset"' in text
    for at, (kind, record) in enumerate(zip(kinds, _records(text), strict=True)):
        if record is None:
            continue
        if kind == _PRODUCT:
            who = record.distinct_id
            places = seen.get(who)
            if places is not None:
                places.append(start + at)
            elif not is_refused_id(who):
                seen[who] = [start + at]
            if at in marked or record.event in JOINS or (records_write and _writes(record)):
                _look_into(stretch, start + at, record, payloads[at] or b"")
        elif kind == _AUDIT:
            _look_at_audit(stretch, start + at, record, payloads[at] or b"")
        elif kind == _ERASURE:
            stretch.erased += _said(payloads[at]).erased
        elif kind == _ADMINISTRATION and record.event in (PERSONS_MERGED, PERSONS_UNMERGED):
            decision = _decision(start + at, record.event, _said(payloads[at]))
            if decision is not None:
                stretch.decisions.append(decision)


def change_of(record: bytes | None, payload: bytes | None) -> Change | None:
    """What a product event writes; None if it writes nothing, or was erased."""
    if record is None:
        return None
    (read_record,) = _records(b"[%b]" % record)
    return None if read_record is None else _change(read_record, _properties(payload or b""))


def _marked(payloads: Sequence[bytes | None]) -> set[int]:
    """Which payloads have one of `_MARKS`; looked for in one piece, which costs a tenth.

    None lies across a border that counts: properties end with a bracket, or with `null`.

    >>> _marked([b'{"$set":{}}', None, b"{}", b'{"$groups":{"$set":1}}'])
    {0, 3}
    """
    pieces = [payload or b"" for payload in payloads]
    whole = b"".join(pieces)
    found: set[int] = set()
    starts: list[int] = []
    for mark in _MARKS:
        at = whole.find(mark)
        if at >= 0 and not starts:
            starts = list(accumulate(map(len, pieces), initial=0))
        while at >= 0:
            place = bisect_right(starts, at) - 1
            found.add(place)
            at = whole.find(mark, starts[place + 1])
    return found


def _writes(record: _Record) -> bool:
    sent = (record.set, record.set_once, record.unset)
    return any(part is not UNSET for part in sent)


def _records(text: bytes) -> list[_Record | None]:
    try:
        return _RECORDS.decode(text)
    except msgspec.ValidationError:
        raise UnknownVersion("A record of the log has a form that is not known here") from None


def _properties(payload: bytes) -> _Properties:
    try:
        return _PROPERTIES.decode(payload)
    except (msgspec.DecodeError, RecursionError):  # `[]`, as PHP writes an empty object
        return _NONE


def _look_into(stretch: Stretch, index: int, record: _Record, payload: bytes) -> None:
    who, properties = record.distinct_id, _properties(payload)
    if properties.groups is not None:
        _take_units(stretch, index, properties.groups)
    if is_refused_id(who):
        return
    if record.event in JOINS:
        is_identify = record.event == "$identify"
        kind = MergeKind.IDENTIFY if is_identify else MergeKind.ALIAS
        before = joined_id(record.event, properties.get, who)
        if before is not None:
            is_refused = is_refused_id(before)
            claim = ClaimFact(index, kind, None if is_refused else before, who, is_refused)
            stretch.claims.append(claim)
        elif is_identify:
            stretch.claims.append(ClaimFact(index, kind, None, who))
    change = _change(record, properties)
    if change is not None:
        stretch.writes.append((index, who, change))


def _change(record: _Record, properties: _Properties) -> Change | None:
    """What is written; a name at both places has the value that stands next to `properties`."""
    change = Change(
        {**_values(properties.set), **_values(record.set)},
        {**_values(properties.set_once), **_values(record.set_once)},
        (*_names(properties.unset), *_names(record.unset)),
    )
    return change if any(change) else None


def _values(raw: Raw | UnsetType) -> dict[str, bytes]:
    if raw is UNSET:
        return {}
    try:
        return {name: bytes(value) for name, value in _VALUES.decode(raw).items()}
    except msgspec.DecodeError:
        return {}


def _names(raw: Raw | UnsetType) -> list[str]:
    if raw is UNSET:
        return []
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _take_units(stretch: Stretch, index: int, groups: object) -> None:
    named: dict[Unit, None] = {}
    if isinstance(groups, dict):
        for kind, value in groups.items():
            name = plain_id(value)
            if name and kind:
                fits = len(named) < MAX_UNITS and max(len(kind), len(name)) <= MAX_UNIT_CHARS
                named[(kind, name) if fits else LEFT_OUT] = None
    for unit in named:
        stretch.units.setdefault(unit, []).append(index)


def _look_at_audit(stretch: Stretch, index: int, record: _Record, payload: bytes) -> None:
    tenant = record.meta.tenant if record.meta is not None else None
    if isinstance(tenant, str) and tenant:
        unit = ("", tenant) if len(tenant) <= MAX_UNIT_CHARS else LEFT_OUT
        stretch.units.setdefault(unit, []).append(index)
    actor = actor_of(payload)
    if actor is not None:
        stretch.actors.setdefault(actor, []).append(index)


def actor_of(payload: bytes) -> str | None:
    """Who did it, by the payload of an audit event: its `actor`, a text, or that object's `id`."""
    if b'"actor"' not in payload and b"\\u" not in payload:
        return None
    try:
        actor = _ACTOR.decode(payload).actor
    except (msgspec.DecodeError, RecursionError):
        return None
    if isinstance(actor, dict):
        actor = actor.get("id")
    found = plain_id(actor)
    return found if found and len(found) <= MAX_ACTOR_CHARS else None


def _said(payload: bytes | None) -> _Said:
    try:
        return _SAID.decode(payload or b"{}")
    except msgspec.DecodeError:
        return _Said()


def _decision(index: int, event: str, said: _Said) -> DecisionFact | None:
    """A decision as it was written; None if it names nobody."""
    if event == PERSONS_MERGED:
        persons = _keys(said.persons or [])
        return MergedFact(index, persons) if len(persons) > 1 else None
    if said.person is None or not is_person_id(said.person):
        return None
    pair = _keys(said.pair) if said.pair is not None else ()
    return UnmergedFact(
        index,
        key_of_person(said.person),
        _keys(said.apart),
        None if said.persons is None or pair else _keys(said.persons),
        (pair[0], pair[1]) if len(pair) == 2 else None,
    )


def _keys(persons: Iterable[str]) -> tuple[bytes, ...]:
    """The keys in what persons are named by, each once, in order."""
    named = [text for text in persons if is_person_id(text)][:MAX_NAMED]
    return tuple(dict.fromkeys(map(key_of_person, named)))
