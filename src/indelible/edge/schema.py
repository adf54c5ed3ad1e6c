"""How a dialect describes what it takes and answers: pieces of an OpenAPI document.

A dialect brings its `Schema` itself, next to what reads and writes the bodies; `indelible.api`
makes the document.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from indelible.edge.lost import MAX_REPORT_BYTES, LostWarning
from indelible.edge.waiting import DEFAULT_WAIT_S, LONGEST_WAIT_S, MOST_RECEIPTS
from indelible.errors import (
    BodyTooLarge,
    IndelibleError,
    InvalidEncoding,
    InvalidJson,
    Overloaded,
    Unavailable,
    UnsupportedMediaType,
)
from indelible.event import MAX_COUNT, Level, LossReason
from indelible.record import MAX_REASONS

Json = dict[str, Any]

READ_REFUSALS: Final = (InvalidJson, InvalidEncoding, BodyTooLarge, UnsupportedMediaType)
"""What any body may be refused for."""
STORE_REFUSALS: Final = (IndelibleError, Overloaded, Unavailable)
"""What keeps any event from being stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        summary, description: for people.
        operation_id: unique in the document.
        parameters: of query and headers.
        body: the content of the request by media type; None if it has none.
        answers: responses that are no errors, by status.
        refusals: errors that it may answer.
    """

    summary: str
    description: str
    operation_id: str
    parameters: list[Json]
    body: Json | None
    answers: dict[str, Json]
    refusals: tuple[type[IndelibleError], ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """A dialect, described: its operations by path and method, and the schemas they refer to."""

    operations: Mapping[str, Mapping[str, Operation]]
    components: Mapping[str, Json]


def ref(name: str) -> Json:
    """A reference to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(description: str, schema: Json, media_type: str = "application/json") -> Json:
    """A response with one kind of body."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


TX: Final[Json] = {"type": "string", "pattern": "^tx_[0-9a-f]{32}$"}
INDEX: Final[Json] = {
    "type": "integer",
    "minimum": 0,
    "description": "The event's place in the project's log, from 0 without gaps.",
}
RECEIPT: Final[Json] = {
    "type": ["string", "null"],
    "description": "The portable proof, `.tlog-proof`, where the request waited for it.",
}
WAIT: Final[list[Json]] = [
    {
        "name": "wait",
        "in": "query",
        "description": "Answer once the events are sealed or witnessed, with the receipt of each; "
        f"for at most {MOST_RECEIPTS} events. Without a quorum of witnesses nothing is witnessed.",
        "schema": {"enum": list(map(str, Level))},
    },
    {
        "name": "timeout",
        "in": "query",
        "description": "How long to wait: `500ms`, `2s`; "
        f"{DEFAULT_WAIT_S:g} s when left out, {LONGEST_WAIT_S:g} s at the most. What has not come "
        "so far by then is answered without a receipt.",
        "schema": {"type": "string", "pattern": r"^[0-9]{1,5}(\.[0-9]{1,3})?(ms|s)?$"},
    },
]
LOSS_REPORT: Final[Json] = {
    "type": "object",
    "description": "What one process lost, in the lane of the route, since its last report. Frozen "
    "until it is answered: sent again with the same `uuid` it is counted once. At most "
    f"{MAX_REPORT_BYTES // 1024} KiB. Members that are not listed are kept.",
    "required": ["uuid", "process_id", "counts"],
    "properties": {
        "uuid": {
            "type": "string",
            "pattern": "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$",
        },
        "process_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "counts": {
            "type": "object",
            "description": f"Events by reason: {', '.join(LossReason)}; others are taken as well.",
            "minProperties": 1,
            "maxProperties": MAX_REASONS,
            "propertyNames": {"pattern": "^[a-z0-9_]{1,64}$"},
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MAX_COUNT},
        },
        "captured": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_COUNT,
            "description": "How many events the process had captured in this lane when the report "
            "was frozen, those that it lost included. Optional: without it, losses after the "
            "last stored event may hide as many missing ones until the process sends again.",
        },
    },
}
LOST: Final[Json] = {
    "description": "What the sender lost, a LossReport. One that cannot be taken is named in "
    "`lost_warning` of the answer and costs no event.",
}
LOST_WARNING: Final[Json] = {
    "enum": list(map(str, LostWarning)),
    "description": "Why `lost` was not taken. Absent when it was, or when there was none.",
}


def not_empty(events: str) -> list[Json]:
    """A batch has at least one event, or a report that can be taken."""
    return [
        {"properties": {events: {"type": "array", "minItems": 1}}},
        {"required": ["lost"], "properties": {"lost": ref("LossReport")}},
    ]
