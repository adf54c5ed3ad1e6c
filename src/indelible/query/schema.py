"""The schema that traffic has, as it is shown: events, their properties, and their contracts."""

import base64
import hashlib
from difflib import get_close_matches
from typing import Final

import msgspec

from indelible.clock import rfc3339
from indelible.errors import InvalidCursor, NotFound
from indelible.event import Kind, tx_text
from indelible.quality.contract import Contract
from indelible.quality.learning import Learning
from indelible.quality.schema import EventSchema, Held, Moment, Property
from indelible.quality.schemas import Listed
from indelible.quality.shape import name_of
from indelible.registry.values import Project

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500
_SUGGESTED: Final = 3
_SHARE_DIGITS: Final = 4


class SeenAt(msgspec.Struct):
    """An entry of the log, and when it was received."""

    index: int
    at: str


class EventSummary(msgspec.Struct):
    """An event, by its name: how many there were, and when the first and the last came.

    `properties` is how many are known. `checked` and `unfit` are null without a contract: how many
    events were held to it, and how many of those do not fit. An event that has a contract and was
    never seen has a `count` of 0, and no times.
    """

    event: str
    kind: str
    count: int
    first_seen: str | None
    last_seen: str | None
    properties: int
    checked: int | None
    unfit: int | None


class LaneSummary(msgspec.Struct):
    """What is known of a project's product or audit events together.

    `events` and `properties` are the names that are kept. `left_out` events have names for which
    there was no room. `erased` had been erased before they were learned: no one knows what they
    were called.
    """

    kind: str
    events: int
    properties: int
    left_out: int
    erased: int


class SchemaPage(msgspec.Struct):
    """One page of events; `next` is the cursor of the following one, null at the end.

    `next_index`: the entries of the log below it are learned.
    """

    events: list[EventSummary]
    next: str | None
    lanes: list[LaneSummary]
    next_index: int


class ShapeCount(msgspec.Struct):
    """What sort of value it is, never the value; and how many events had such a one."""

    shape: str
    count: int


class PropertyView(msgspec.Struct):
    """A property of an event.

    `seen` of the events looked into have it, which is the `share` of them. `types` counts how many
    have a value of each type, `shapes` how many have one of each shape; `other_shapes` have one for
    which there was no room.
    """

    path: str
    share: float
    seen: int
    types: dict[str, int]
    shapes: list[ShapeCount]
    other_shapes: int
    first_seen: SeenAt
    last_seen: SeenAt


class BrokenRule(msgspec.Struct):
    """A rule of the contract that events do not fit, of which property, and the newest of them."""

    rule: str
    property: str
    count: int
    first_seen: SeenAt
    last_seen: SeenAt
    tx_ids: list[str]


class ContractView(msgspec.Struct):
    """The contract of an event. It applies to the entries behind `since`, whose index is its
    version; null: it is stored, and not in force yet.

    Of `checked` events `unfit` do not fit it. `rules` says which; `other_rules` counts the rest.
    """

    event: str
    kind: str
    contract: Contract
    since: SeenAt | None
    checked: int
    unfit: int
    rules: list[BrokenRule]
    other_rules: int


class EventView(msgspec.Struct):
    """All that is known of an event.

    All of them are in `count`. Of those, `looked_into` were read: shares refer to them.
    `too_large` would have been read, and are longer than 32 KiB; `cut` were read in part, since
    they are deeper than 4 names or have more than 500 values. `left_out` is how often a property
    was met for which there was no room.
    """

    event: str
    kind: str
    count: int
    looked_into: int
    too_large: int
    cut: int
    left_out: int
    first_seen: SeenAt | None
    last_seen: SeenAt | None
    properties: list[PropertyView]
    contract: ContractView | None
    next_index: int


class Schema:
    """The schemas of every project, for reading."""

    def __init__(self, learning: Learning) -> None:
        self._learning = learning
        self._schemas = learning.schemas

    def page(
        self, project: Project, *, kind: Kind | None, limit: int, cursor: str | None
    ) -> SchemaPage:
        """One page of at most `limit` events, by kind and name.

        Raises:
            InvalidCursor: it is of another list.
            Unavailable: the schemas are damaged.
        """
        after = None if cursor is None else _read_cursor(cursor, project.id, kind)
        next_index = self._schemas.next_index(project.id)
        found = self._schemas.page(project.id, kind=kind, after=after, limit=limit + 1)
        is_last = len(found) <= limit
        return SchemaPage(
            [_summary(one) for one in found[:limit]],
            None if is_last else _cursor(found[limit - 1], project.id, kind),
            [
                LaneSummary(each.word, lane.events, lane.properties, lane.left_out, lane.erased)
                for each, lane in self._schemas.lanes(project.id).items()
                if kind in (None, each)
            ],
            next_index,
        )

    def event(self, project: Project, kind: Kind, sent: str) -> EventView:
        """All that is known of an event of this name.

        Raises:
            NotFound: none was seen, nor has it a contract.
            Unavailable: the schemas are damaged.
        """
        name = name_of(sent)
        next_index = self._schemas.next_index(project.id)
        state = self._schemas.event(project.id, kind, name)
        held = self._schemas.contract(project.id, kind, name)
        if state is None and held is None:
            raise self._unknown(project, kind, name)
        contract = None if held is None else _contract(name, kind, held)
        if state is None:
            return EventView(name, kind.word, 0, 0, 0, 0, 0, None, None, [], contract, next_index)
        return EventView(
            event=name,
            kind=kind.word,
            count=state.count,
            looked_into=state.looked,
            too_large=state.too_large,
            cut=state.cut,
            left_out=state.left_out,
            first_seen=_seen(state.first),
            last_seen=_seen(state.last),
            properties=_properties(state),
            contract=contract,
            next_index=next_index,
        )

    def contract(self, project: Project, kind: Kind, sent: str) -> ContractView:
        """The contract of an event, and what came of it.

        Raises:
            NotFound: it has none.
            Unavailable: the schemas are damaged.
        """
        name = name_of(sent)
        held = self._schemas.contract(project.id, kind, name)
        if held is None:
            raise NotFound(
                f"The {kind.word} event {name!r} has no contract",
                hint="Set one: indelible contract set EVENT FILE, or PUT /v1/schema/contract.",
            )
        return _contract(name, kind, held)

    def contracts(self, project: Project) -> int:
        """How many events of the project have a contract."""
        return self._schemas.contracts(project.id)

    def is_learned(self, project: Project, next_index: int, *, timeout_s: float) -> bool:
        """Wait until the log is learned up to this index; whether it is."""
        return self._learning.wait_for(project.id, next_index, timeout_s=timeout_s)

    def _unknown(self, project: Project, kind: Kind, name: str) -> NotFound:
        for other in (Kind.PRODUCT, Kind.AUDIT):
            if other is not kind and self._schemas.event(project.id, other, name):
                hint = f"There is an {other.word} event of this name: add kind={other.word}."
                if other is Kind.PRODUCT:
                    hint = hint.replace("an product", "a product")
                break
        else:
            listed = self._schemas.page(project.id, kind=kind, after=None, limit=MAX_LIMIT)
            close = get_close_matches(name, [one.name for one in listed], _SUGGESTED)
            meant = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
            hint = f"{meant}See GET /v1/schema, or: indelible schema."
        return NotFound(f"No {kind.word} event is called {name!r}", hint=hint)


def _summary(listed: Listed) -> EventSummary:
    return EventSummary(
        listed.name,
        listed.kind,
        listed.count,
        None if listed.first_ms is None else rfc3339(listed.first_ms),
        None if listed.last_ms is None else rfc3339(listed.last_ms),
        listed.properties,
        listed.checked,
        listed.unfit,
    )


def _properties(state: EventSchema) -> list[PropertyView]:
    """What most events have comes first."""
    ordered = sorted(state.properties.items(), key=lambda one: (-one[1].seen, one[0]))
    return [_property(path, known, state.looked) for path, known in ordered]


def _property(path: str, known: Property, looked: int) -> PropertyView:
    shapes = sorted(known.shapes.items(), key=lambda one: (-one[1], one[0]))
    return PropertyView(
        path,
        round(known.seen / looked, _SHARE_DIGITS),
        known.seen,
        dict(sorted(known.types.items(), key=lambda one: (-one[1], one[0]))),
        [ShapeCount(*shape) for shape in shapes],
        known.other_shapes,
        _seen(known.first),
        _seen(known.last),
    )


def _contract(name: str, kind: Kind, held: Held) -> ContractView:
    broken = sorted(held.rules.items(), key=lambda one: (-one[1].count, one[0]))
    return ContractView(
        event=name,
        kind=kind.word,
        contract=held.contract,
        since=_seen(held.since),
        checked=held.checked,
        unfit=held.unfit,
        rules=[
            BrokenRule(
                key.partition(" ")[0],
                key.partition(" ")[2],
                unfit.count,
                _seen(unfit.first),
                _seen(unfit.last),
                [tx_text(tx) for tx in unfit.tx_ids],
            )
            for key, unfit in broken
        ],
        other_rules=held.other_rules,
    )


def _seen(at: Moment) -> SeenAt:
    return SeenAt(at.index, rfc3339(at.at_ms))


def _cursor(listed: Listed, project_id: int, kind: Kind | None) -> str:
    """Opaque to callers. It begins with a digest of the list and the place, so that a cursor of one
    list is not taken for a place in another."""
    place = f"{listed.kind} {listed.name}"
    digest = hashlib.sha256(repr((project_id, kind, place)).encode()).hexdigest()[:16]
    return base64.urlsafe_b64encode(f"{digest} {place}".encode()).decode().rstrip("=")


def _read_cursor(text: str, project_id: int, kind: Kind | None) -> tuple[str, str]:
    """
    Raises:
        InvalidCursor: it is not to the letter what `_cursor` wrote for this list.
    """
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        _, word, name = decoded.split(" ", 2)
    except ValueError:
        raise InvalidCursor from None
    if _cursor(Listed(name, word, 0, None, None, 0, 0, None, None), project_id, kind) != text:
        raise InvalidCursor
    return word, name
