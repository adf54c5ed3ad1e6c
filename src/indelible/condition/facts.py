"""The facts of an event that a condition can test, by the names that they have in its JSON.

The first segment of a path names one of `FACTS`. A fact that an event doesn't have is missing: a
product event has no `meta`, and an erased event has only the facts of its leaf.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Type(StrEnum):
    """The type of a value. Values of different types are never equal, and never converted."""

    TEXT = "text"
    NUMBER = "number"
    BOOL = "bool"
    TIME = "time"
    NULL = "null"

    @property
    def meaning(self) -> str:
        """What its values are, and when two of them are equal."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    Type.TEXT: "Unicode, compared by code point: no case folding, normalisation or collation.",
    Type.NUMBER: "An integer from -2⁶³ to 2⁶⁴ - 1 is exact; any other number is the nearest IEEE "
    "754 double. Integers and doubles are compared exactly: 1 = 1.0, and 2⁵³ + 1 is more than "
    "2⁵³. What is no finite double equals nothing.",
    Type.BOOL: "true, false.",
    Type.TIME: "Milliseconds since 1970, UTC; anything finer is cut off. JSON has no times: a "
    "member of an object is a time if it is text `YYYY-MM-DD`, or that and `Thh:mm:ss` (or a space "
    "for the T), then optionally a fraction of up to 9 digits and `Z` or `±hh:mm`. A date alone is "
    "its midnight; without an offset it is UTC. A number is never a time.",
    Type.NULL: "JSON's null, which is not the same as missing.",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact.

    Attributes:
        type: its type, or None where it may be any JSON value.
        meaning: for the reference page.
        members: the type that the members of an object all have; such an object is flat.
        is_object: whether it has members.
    """

    type: Type | None
    meaning: str
    members: Type | None = None
    is_object: bool = False


def _object(meaning: str, members: Type | None = None) -> Fact:
    return Fact(None, meaning, members, is_object=True)


FACTS: Final[Mapping[str, Fact]] = {
    "index": Fact(Type.NUMBER, "The event's place in the project's log, from 0."),
    "tx_id": Fact(Type.TEXT, "The transaction id, `tx_…`."),
    "kind": Fact(Type.TEXT, "`product`, `audit`, `erasure`, `administration` or `loss`."),
    "received_at": Fact(Type.TIME, "When the server had read the event."),
    "erased": Fact(Type.BOOL, "`true` if the event has been erased; missing otherwise."),
    "event": Fact(Type.TEXT, "The event's name: `event`, or `meta.event_name` of an audit event."),
    "distinct_id": Fact(Type.TEXT, "Who did it (product events)."),
    "uuid": Fact(Type.TEXT, "The client's id of a product event, or one made from `tx_id`."),
    "timestamp": Fact(
        Type.TIME,
        "The client's time of a product event; missing if none was sent, or it cannot be read.",
    ),
    "process_id": Fact(Type.TEXT, "The process that captured a product event."),
    "sequence": Fact(Type.NUMBER, "How many events that process had captured before."),
    "properties": _object("The properties of a product event."),
    "$set": _object("Properties of the person to write (product events)."),
    "$set_once": _object("Properties of the person to write if absent (product events)."),
    "$unset": Fact(None, "Names of properties of the person to remove; only `exists` applies."),
    "idempotency_key": Fact(Type.TEXT, "The Idempotency-Key of an audit event."),
    "payload": Fact(Type.TEXT, "The payload of an audit event: opaque text, never parsed."),
    "meta": _object("The `meta` of an audit event: flat, and always text.", Type.TEXT),
    "facts": _object("What an administration, erasure or loss entry says."),
    "request": _object("What is known of the request that brought the event."),
    "$extra": _object("Members that were sent and have no meaning here."),
}
