"""The hot ingest routes, described: they are outside the framework, which describes the rest.

The schemas of bodies are exact where JSON Schema can be: what they accept is taken, what they
refuse is refused. They leave out what it cannot say: that `distinct_id`, `uuid` and the like are
counted in characters of the text sent, that nesting stops at 32, and which tokens exist.
"""

from typing import Any, Final

import msgspec

from indelible.access import ROUTES
from indelible.api.openapi import Json, answer, ref, refusals, security_of
from indelible.edge.admission import (
    MAX_CLIENT_ID_CHARS,
    MAX_DISTINCT_ID_CHARS,
    MAX_NAME_CHARS,
    MAX_PROPERTIES,
)
from indelible.edge.immutablelog import (
    DEFAULT_TYPE,
    MAX_BATCH,
    MAX_META_KEY_CHARS,
    MAX_META_KEYS,
    MAX_META_VALUE_CHARS,
    TYPES,
    AuditReceipt,
)
from indelible.edge.intake import Limits
from indelible.edge.lost import MAX_REASONS, MAX_REPORT_BYTES, LostWarning
from indelible.edge.product import EventResult, ProductAnswer
from indelible.edge.waiting import DEFAULT_WAIT_S, LONGEST_WAIT_S, MOST_RECEIPTS
from indelible.errors import (
    AuditRateLimited,
    BatchTooLarge,
    BodyTooLarge,
    EmptyBatch,
    EventRefused,
    Forbidden,
    IdempotencyConflict,
    IndelibleError,
    InvalidApiKey,
    InvalidEncoding,
    InvalidEvent,
    InvalidIdempotencyKey,
    InvalidJson,
    InvalidMeta,
    InvalidParameter,
    InvalidPayload,
    InvalidType,
    IpNotAllowed,
    MissingToken,
    MixedTokens,
    MonthlyLimitExceeded,
    NotFound,
    OriginNotAllowed,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    UnknownToken,
    UnsupportedMediaType,
    WriteScopeMissing,
)
from indelible.event import MAX_COUNT, MAX_TRAIL_CHARS, DropReason, Level, LossReason, WarnReason

PRODUCT_PATHS: Final = ("/api/e", "/batch/", "/batch")

METHODS: Final[dict[str, tuple[str, ...]]] = {
    "/v1/events": ("POST",),
    "/v1/events/batch": ("POST",),
}
"""What the hot routes add to the methods of paths that the framework knows."""

_TX: Final[Json] = {"type": "string", "pattern": "^tx_[0-9a-f]{32}$"}
_INDEX: Final[Json] = {
    "type": "integer",
    "minimum": 0,
    "description": "The event's place in the project's log, from 0 without gaps.",
}
_RECEIPT: Final[Json] = {
    "type": ["string", "null"],
    "description": "The portable proof, `.tlog-proof`, where the request waited for it.",
}
_NUMBER_OR_TEXT: Final = ["string", "number"]
_OBJECT: Final[Json] = {"type": ["object", "null", "array"], "maxItems": 0}
"""An object; null and PHP's empty list are empty ones."""
_TOKEN: Final[Json] = {"anyOf": [ref("Token"), {"type": "null"}]}
_DISTINCT_ID: Final[Json] = {
    "description": "Who did it; a number counts as its digits. May stand in `properties` instead.",
    "anyOf": [{"type": "string", "maxLength": MAX_DISTINCT_ID_CHARS}, {"type": "number"}],
}

_READ_TIMES: Final = (
    "2025-09-17T10:15:30.123Z",
    "2025-09-17 12:15:30+02:00[Europe/Paris]",
    "Wed, 17 Sep 2025 10:15:30 GMT",
    1758104130.123,
    "1758104130123",
)
_PRODUCT_EVENT: Final[Json] = {
    "type": "object",
    "required": ["event"],
    "properties": {
        "api_key": _TOKEN,
        "token": _TOKEN,
        "$token": _TOKEN,
        "event": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME_CHARS,
            "description": "What happened.",
        },
        "distinct_id": {
            "description": "Who did it; a number counts as its digits. May stand in `properties`.",
        },
        "uuid": {
            "description": "The client's own id of the event: sent again, it is stored once, for "
            "ever. Any text, compared as it is: another case or notation of a UUID is another id. "
            "Made by the server when absent.",
            "anyOf": [
                {"type": "string", "maxLength": MAX_CLIENT_ID_CHARS},
                {"type": ["number", "null"]},
            ],
        },
        "timestamp": {
            "description": "The client's time of the event: best RFC 3339; also read are ISO "
            "8601, the dates of HTTP, e-mail, C and JavaScript, and seconds, milli-, micro- or "
            "nanoseconds since 1970, as a number or as text. Stored as sent. When it is absent, "
            "or cannot be read (`unreadable_timestamp`), the time of receipt counts.",
            "examples": list(_READ_TIMES),
        },
        "properties": {
            **_OBJECT,
            "maxProperties": MAX_PROPERTIES,
            "description": "Any JSON object. Stored to the byte.",
        },
        "$set": {**_OBJECT, "description": "Properties of the person, to write."},
        "$set_once": {
            **_OBJECT,
            "description": "Properties of the person, to write where there is none.",
        },
        "$unset": {
            "type": ["array", "null", "object"],
            "maxProperties": 0,
            "description": "Names of properties of the person, to remove.",
        },
        "process_id": {
            "description": "Names the run of the process that captured it: 32 lower-case hex "
            "digits. Anything else is kept under `$extra`.",
        },
        "sequence": {
            "description": "How many events that process had captured before, those that it lost "
            "included: an integer from 0. Anything else is kept under `$extra`.",
        },
    },
    "anyOf": [
        {"required": ["distinct_id"], "properties": {"distinct_id": _DISTINCT_ID}},
        {
            "required": ["properties"],
            "properties": {
                "distinct_id": {"not": {"type": _NUMBER_OR_TEXT}},
                "properties": {
                    "type": "object",
                    "required": ["distinct_id"],
                    "properties": {"distinct_id": _DISTINCT_ID},
                },
            },
        },
    ],
}
_LOSS_REPORT: Final[Json] = {
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
_LOST: Final[Json] = {
    "description": "What the sender lost, a LossReport. One that cannot be taken is named in "
    "`lost_warning` of the answer and costs no event.",
}
_LOST_WARNING: Final[Json] = {
    "enum": list(map(str, LostWarning)),
    "description": "Why `lost` was not taken. Absent when it was, or when there was none.",
}


def _not_empty(events: str) -> list[Json]:
    """A batch has at least one event, or a report that can be taken."""
    return [
        {"properties": {events: {"type": "array", "minItems": 1}}},
        {"required": ["lost"], "properties": {"lost": ref("LossReport")}},
    ]


_ONE_OR_OTHER: Final = "Those that cannot be taken are dropped, each with its reason."
_PRODUCT_EVENTS: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "description": f"At least one event that can be taken. {_ONE_OR_OTHER}",
    "contains": ref("ProductEvent"),
}
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
        "lost": _LOST,
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
    "anyOf": _not_empty("events"),
}


def schemas(limits: Limits) -> dict[str, Json]:
    """The schemas that the hot routes refer to, by name, with the limits of this server."""
    _, answers = msgspec.json.schema_components(
        [ProductAnswer, EventResult, AuditReceipt], ref_template="#/components/schemas/{name}"
    )
    result = answers["EventResult"]["properties"]
    result["result"] = {"enum": ["ok", "warning", "drop", "retry"]}
    result["reason"] = {"enum": [*_REASONS, None], "default": None}
    result["tx_id"] = {"anyOf": [_TX, {"type": "null"}], "default": None}
    receipt = answers["AuditReceipt"]["properties"]
    receipt["ok"] = {"const": True}
    receipt["tx_id"] = _TX
    receipt["index"] = _INDEX
    receipt["payload_hash"] = {
        "type": ["string", "null"],
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of the payload; null for a duplicate of an erased event.",
    }
    receipt["status"] = {"enum": ["accepted", *Level]}
    for waited in (result, receipt):
        waited["receipt"] = _RECEIPT
    result["status"] = {"enum": [*Level, None], "default": None}
    answers["ProductAnswer"]["properties"]["lost_warning"] = _LOST_WARNING
    return {
        "Token": {
            "type": "string",
            "description": "The project token: public, good for sending product events only. "
            "One of `api_key`, `token`, `$token`, `properties.token` and the query is enough; two "
            "different ones are refused.",
        },
        "IdempotencyKey": {
            "type": "string",
            "pattern": "^[!-~]{1,255}$",
            "description": "One for each event, sent again unchanged: stored once, for ever.",
        },
        "ProductEvent": {
            **_PRODUCT_EVENT,
            "description": f"One product event, at most {limits.max_event_bytes:,} bytes as sent. "
            "Members that are not listed are kept under `$extra`.",
        },
        "ProductEvents": {**_PRODUCT_EVENTS, "maxItems": limits.max_batch},
        "LossReport": _LOSS_REPORT,
        "ProductBatch": {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "api_key": _TOKEN,
                "token": _TOKEN,
                "$token": _TOKEN,
                "batch": {"anyOf": [ref("ProductEvents"), {"type": "array", "maxItems": 0}]},
                "lost": _LOST,
                "sent_at": {"description": "The client's time of sending. Stored as sent."},
                "historical_migration": {"description": "Stored as sent."},
            },
            "anyOf": _not_empty("batch"),
        },
        "ProductBody": {
            "description": "One event, a batch, or a bare list of events.",
            "anyOf": [
                {"allOf": [ref("ProductEvent"), {"not": {"required": ["batch"]}}]},
                ref("ProductBatch"),
                ref("ProductEvents"),
            ],
        },
        "AuditEvent": _audit_event(limits.max_payload_bytes),
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
                "lost_warning": _LOST_WARNING,
            },
        },
        **answers,
    }


def _audit_event(max_payload_bytes: int) -> Json:
    payload = {
        "type": "string",
        "maxLength": max_payload_bytes,
        "description": f"The serialised document, at most {max_payload_bytes:,} bytes in UTF-8. "
        "Opaque: stored and hashed to the byte, never parsed.",
    }
    return {**_AUDIT_EVENT, "properties": {"payload": payload, **_AUDIT_EVENT["properties"]}}


_REASONS: Final = list(dict.fromkeys([*map(str, DropReason), *map(str, WarnReason)]))

_EVENT: Final = {
    "api_key": "PROJECT_TOKEN",
    "event": "purchase_completed",
    "distinct_id": "user_42",
    "properties": {"amount": 99.99, "currency": "USD"},
}
_BATCH: Final = {
    "api_key": "PROJECT_TOKEN",
    "batch": [
        {"event": "page_view", "distinct_id": "user_42", "timestamp": "2026-01-02T03:04:05Z"},
        {"event": "$identify", "distinct_id": "user_42", "properties": {"$set": {"plan": "pro"}}},
    ],
}
_AUDIT: Final = {
    "payload": '{"order_id":"ord_1","total":9900}',
    "meta": {"type": "success", "event_name": "payment.created", "service": "shop"},
}

_STORED: Final = (Overloaded, Unavailable)
_READ: Final = (InvalidJson, InvalidEncoding, BodyTooLarge, UnsupportedMediaType)
_PRODUCT_REFUSALS: Final[tuple[type[IndelibleError], ...]] = (
    *_READ,
    InvalidParameter,
    EmptyBatch,
    BatchTooLarge,
    EventRefused,
    MissingToken,
    UnknownToken,
    MixedTokens,
    IpNotAllowed,
    OriginNotAllowed,
    RateLimited,
    IndelibleError,
    *_STORED,
)
_AUDIT_REFUSALS: Final[tuple[type[IndelibleError], ...]] = (
    *_READ,
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
    IndelibleError,
    *_STORED,
)

_QUERY_TOKENS: Final = [
    {"name": name, "in": "query", "schema": ref("Token"), "description": "The project token."}
    for name in ("api_key", "token")
]
_WAIT: Final[list[Json]] = [
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
_COMPRESSION: Final[Json] = {
    "name": "compression",
    "in": "query",
    "description": "What the bytes are packed with, for clients that cannot set headers. Gzip is "
    "known by its first bytes in any case.",
    "schema": {"enum": ["", "gzip", "gzip-js", "base64"]},
}
_PACKED: Final[Json] = {
    "type": "string",
    "contentMediaType": "application/json",
    "contentSchema": ref("ProductBody"),
}


def paths(limits: Limits) -> dict[str, Json]:
    """The operations of the hot routes, by path and method, with the limits of this server."""
    product = {path: {"post": _product_post(path), "get": _product_get(path)} for path in _PATHS}
    audit = {"/v1/events": {"post": _audit()}, "/v1/events/batch": {"post": _audits()}}
    for operations in (*product.values(), *audit.values()):
        operations["post"]["description"] += (
            f" The body has at most {limits.max_body_bytes:,} bytes on the wire."
        )
    return {**product, **audit}


_PATHS: Final = PRODUCT_PATHS
_POSTHOG: Final = " The path that PostHog's clients send to: crawlers are marked, not discarded."


def _product_post(path: str) -> Json:
    json_body: Json = {
        "schema": ref("ProductBody"),
        "examples": {
            "event": {"summary": "One event", "value": _EVENT},
            "batch": {"summary": "A batch", "value": _BATCH},
        },
    }
    return {
        "tags": ["ingest"],
        "summary": "Send product events",
        "description": "Stores one event or a batch and answers after the sync: what is answered "
        "with an index survives power loss. The project token is in the body. The body may be "
        "packed with gzip, deflate or base64, up to three layers."
        + ("" if path == "/api/e" else _POSTHOG),
        "operationId": "send_product_events" + _suffix(path),
        "security": [],
        "parameters": [*_QUERY_TOKENS, _COMPRESSION, *_WAIT],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": json_body,
                "text/plain": {"schema": _PACKED},
                "application/octet-stream": {"schema": _PACKED},
                "application/x-www-form-urlencoded": {
                    "schema": {
                        "type": "object",
                        "required": ["data"],
                        "properties": {"data": ref("ProductBody")},
                    },
                    "encoding": {"data": {"contentType": "application/json"}},
                },
            },
        },
        "responses": _product_answers(path),
    }


def _product_get(path: str) -> Json:
    responses = _product_answers(path)
    responses["200"]["content"]["image/gif"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "tags": ["ingest"],
        "summary": "Send product events with GET",
        "description": "As POST, with the body in `data`: for pages that can only load an image."
        + ("" if path == "/api/e" else _POSTHOG),
        "operationId": "send_product_events_with_get" + _suffix(path),
        "security": [],
        "parameters": [
            {
                "name": "data",
                "in": "query",
                "required": True,
                "description": "The body of POST, as JSON or as base64 of it.",
                "content": {"application/json": {"schema": ref("ProductBody"), "example": _EVENT}},
            },
            *_QUERY_TOKENS,
            _COMPRESSION,
            *_WAIT,
            {
                "name": "img",
                "in": "query",
                "description": "1 is answered with a transparent pixel.",
                "schema": {"type": "string"},
            },
        ],
        "responses": responses,
    }


def _product_answers(path: str) -> dict[str, Json]:
    answers = {"200": answer("Stored; each event has its result.", ref("ProductAnswer"))}
    if path == "/api/e":
        answers["204"] = {"description": "Every event is a crawler's and was dropped."}
    return {**answers, **refusals(_PRODUCT_REFUSALS)}


def _audit() -> Json:
    more = (InvalidEvent, InvalidType, IdempotencyConflict, PayloadTooLarge, MonthlyLimitExceeded)
    return {
        "tags": ["ingest"],
        "summary": "Send an audit event",
        "description": "Stores one event; the 202 is sent after the sync. Sent again with the same "
        "Idempotency-Key it is answered with the first result and `duplicate`.",
        "operationId": "send_audit_event",
        "security": security_of(ROUTES["POST /v1/events"]),
        "parameters": _AUDIT_PARAMETERS,
        "requestBody": _audit_body("AuditEvent", _AUDIT),
        "responses": {
            "202": answer("Stored.", ref("AuditReceipt")),
            **refusals((*_AUDIT_REFUSALS, *more)),
        },
    }


def _audits() -> Json:
    batch = {"events": [{**_AUDIT, "idempotency_key": "payment-1"}]}
    return {
        "tags": ["ingest"],
        "summary": "Send audit events",
        "description": f"Stores up to {MAX_BATCH} events, with a result for each, in order; one "
        "that cannot be taken does not hinder the others. An event without a key of its own goes "
        "by the request's Idempotency-Key and its place.",
        "operationId": "send_audit_events",
        "security": security_of(ROUTES["POST /v1/events/batch"]),
        "parameters": _AUDIT_PARAMETERS,
        "requestBody": _audit_body("AuditBatch", batch),
        "responses": {
            "202": answer("Every event has its result.", ref("AuditBatchAnswer")),
            **refusals((*_AUDIT_REFUSALS, EmptyBatch, BatchTooLarge)),
        },
    }


_AUDIT_PARAMETERS: Final[list[Json]] = [
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
    *_WAIT,
    {
        "name": "project",
        "in": "query",
        "description": "Which project, for an admin key; `default` when left out.",
        "schema": {"type": "string"},
    },
]


def _audit_body(schema: str, example: Any) -> Json:
    body = {"schema": ref(schema), "examples": {"event": {"summary": "Example", "value": example}}}
    return {"required": True, "content": {"application/json": body}}


def _suffix(path: str) -> str:
    return {"/api/e": "", "/batch/": "_batch", "/batch": "_batch_without_slash"}[path]
