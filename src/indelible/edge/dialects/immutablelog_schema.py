"""ImmutableLog's dialect, described: what its bodies may be, and what comes back."""

from typing import Any, Final

import msgspec

from indelible.edge.intake import Limits
from indelible.edge.schema import (
    INDEX,
    LOST,
    LOST_WARNING,
    READ_REFUSALS,
    RECEIPT,
    STORE_REFUSALS,
    TX,
    WAIT,
    Json,
    Operation,
    Schema,
    answer,
    not_empty,
    ref,
)
from indelible.errors import (
    AuditRateLimited,
    BatchTooLarge,
    EmptyBatch,
    Forbidden,
    IdempotencyConflict,
    IndelibleError,
    InvalidApiKey,
    InvalidEvent,
    InvalidIdempotencyKey,
    InvalidMeta,
    InvalidParameter,
    InvalidPayload,
    InvalidType,
    IpNotAllowed,
    MonthlyLimitExceeded,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    WriteScopeMissing,
)
from indelible.event import MAX_TRAIL_CHARS, Level

TYPES: Final = ("success", "info", "warning", "error", "debug", "audit")
DEFAULT_TYPE: Final = "info"
MAX_BATCH: Final = 100
MAX_META_KEYS: Final = 64
MAX_META_KEY_CHARS: Final = 64
MAX_META_VALUE_CHARS: Final = 1_024


class AuditReceipt(msgspec.Struct):
    """The answer for a stored event: the six documented members, and the index.

    `result` and `reason` are there only with a warning, `receipt` only when the request waited for
    it and the event came so far; `status` is then how far.
    """

    ok: bool
    tx_id: str
    payload_hash: str | None
    status: str
    duplicate: bool
    request_id: str
    index: int
    result: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    receipt: str | msgspec.UnsetType = msgspec.UNSET


_AUDIT_EVENT: Final[Json] = {
    "type": "object",
    "description": "One audit event. Members that are not listed are kept under `$extra`.",
    "required": ["payload"],
    "properties": {
        "meta": {
            "type": ["object", "array"],
            "maxItems": 0,
            "description": f"Text by name, flat. `type` is one of {', '.join(TYPES)}, else "
            f"{DEFAULT_TYPE}; `immutable_trail` groups events under one business key; "
            "`process_id` and `sequence` (digits) are those of product events.",
            "maxProperties": MAX_META_KEYS,
            "propertyNames": {"maxLength": MAX_META_KEY_CHARS},
            "additionalProperties": {"type": "string", "maxLength": MAX_META_VALUE_CHARS},
            "properties": {
                "type": {"enum": list(TYPES), "default": DEFAULT_TYPE},
                "immutable_trail": {
                    "type": "string",
                    "description": "Groups events under one business key. Trimmed, each `:` "
                    f"becomes `-`, cut at {MAX_TRAIL_CHARS} characters.",
                },
            },
        },
    },
}
_AUDIT_BATCH: Final[Json] = {
    "type": "object",
    "required": ["events"],
    "properties": {
        "lost": LOST,
        "events": {
            "type": "array",
            "maxItems": MAX_BATCH,
            "description": "Each as the body of `/v1/events`, with its own `idempotency_key`. One "
            "that cannot be taken is refused in its own result.",
            "items": {
                "anyOf": [
                    {
                        "allOf": [
                            ref("AuditEvent"),
                            {"properties": {"idempotency_key": ref("IdempotencyKey")}},
                        ]
                    },
                    {},
                ]
            },
        },
    },
    "anyOf": not_empty("events"),
}


_EXAMPLE: Final = {
    "payload": '{"order_id":"ord_1","total":9900}',
    "meta": {"type": "success", "event_name": "payment.created", "service": "shop"},
}
_REFUSALS: Final[tuple[type[IndelibleError], ...]] = (
    *READ_REFUSALS,
    InvalidPayload,
    InvalidMeta,
    InvalidParameter,
    InvalidIdempotencyKey,
    InvalidApiKey,
    Forbidden,
    WriteScopeMissing,
    IpNotAllowed,
    NotFound,
    RateLimited,
    AuditRateLimited,
    *STORE_REFUSALS,
)

_PARAMETERS: Final[list[Json]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "One for each event, sent again unchanged.",
        "schema": ref("IdempotencyKey"),
    },
    {
        "name": "Request-Id",
        "in": "header",
        "description": "Comes back in the answer; made by the server when absent.",
        "schema": {"type": "string"},
    },
    *WAIT,
    {
        "name": "project",
        "in": "query",
        "description": "Which project, for an admin key; `default` when left out.",
        "schema": {"type": "string"},
    },
]


def describe_one(limits: Limits) -> Schema:
    """Describe ``POST /v1/events``."""
    more = (InvalidEvent, InvalidType, IdempotencyConflict, PayloadTooLarge, MonthlyLimitExceeded)
    operation = Operation(
        summary="Send an audit event",
        description="Stores one event; the 202 is sent after the sync. Sent again with the same "
        "Idempotency-Key it is answered with the first result and `duplicate`.",
        operation_id="send_audit_event",
        parameters=_PARAMETERS,
        body=_body("AuditEvent", _EXAMPLE),
        answers={"202": answer("Stored.", ref("AuditReceipt"))},
        refusals=(*_REFUSALS, *more),
    )
    components = {
        "IdempotencyKey": {
            "type": "string",
            "pattern": "^[!-~]{1,255}$",
            "description": "One for each event, sent again unchanged: stored once, for ever.",
        },
        "AuditEvent": _audit_event(limits.max_payload_bytes),
        "AuditReceipt": _audit_receipt(),
    }
    return Schema({"/v1/events": {"post": operation}}, components)


def describe_batch(limits: Limits) -> Schema:  # noqa: ARG001 — a batch has no limit that is set
    """Describe ``POST /v1/events/batch``."""
    operation = Operation(
        summary="Send audit events",
        description=f"Stores up to {MAX_BATCH} events, with a result for each, in order; one "
        "that cannot be taken does not hinder the others. An event without a key of its own goes "
        "by the request's Idempotency-Key and its place.",
        operation_id="send_audit_events",
        parameters=_PARAMETERS,
        body=_body("AuditBatch", {"events": [{**_EXAMPLE, "idempotency_key": "payment-1"}]}),
        answers={"202": answer("Every event has its result.", ref("AuditBatchAnswer"))},
        refusals=(*_REFUSALS, EmptyBatch, BatchTooLarge),
    )
    components = {
        "AuditBatch": _AUDIT_BATCH,
        "AuditBatchAnswer": {
            "type": "object",
            "required": ["ok", "accepted", "rejected", "results", "request_id"],
            "properties": {
                "ok": {"type": "boolean", "description": "Whether every event was taken."},
                "accepted": {"type": "integer", "minimum": 0},
                "rejected": {"type": "integer", "minimum": 0},
                "results": {
                    "type": "array",
                    "description": "One for each event, in order.",
                    "items": {"anyOf": [ref("AuditReceipt"), ref("Error")]},
                },
                "request_id": {"type": "string"},
                "lost_warning": LOST_WARNING,
            },
        },
    }
    return Schema({"/v1/events/batch": {"post": operation}}, components)


def _audit_event(max_payload_bytes: int) -> Json:
    payload = {
        "type": "string",
        "maxLength": max_payload_bytes,
        "description": f"The serialised document, at most {max_payload_bytes:,} bytes in UTF-8. "
        "Opaque: stored and hashed to the byte, never parsed.",
    }
    return {**_AUDIT_EVENT, "properties": {"payload": payload, **_AUDIT_EVENT["properties"]}}


def _audit_receipt() -> Json:
    _, schemas = msgspec.json.schema_components([AuditReceipt], ref_template=ref("{name}")["$ref"])
    form: Json = schemas["AuditReceipt"]
    receipt = form["properties"]
    receipt["ok"] = {"const": True}
    receipt["tx_id"] = TX
    receipt["index"] = INDEX
    receipt["payload_hash"] = {
        "type": ["string", "null"],
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of the payload; null for a duplicate of an erased event.",
    }
    receipt["status"] = {"enum": ["accepted", *Level]}
    receipt["receipt"] = RECEIPT
    return form


def _body(schema: str, example: Any) -> Json:
    body = {"schema": ref(schema), "examples": {"event": {"summary": "Example", "value": example}}}
    return {"application/json": body}
