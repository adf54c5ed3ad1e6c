"""The bodies of product events as vTilt and PostHog send them, described, and the answer.

The schemas are exact where JSON Schema can be: what they accept is taken, what they refuse is
refused. They leave out what it cannot say: that `distinct_id`, `uuid` and the like are counted in
characters of the text sent, that nesting stops at 32, and which tokens exist.
"""

from typing import Final

import msgspec

from indelible.edge.admission import (
    MAX_CLIENT_ID_CHARS,
    MAX_DISTINCT_ID_CHARS,
    MAX_NAME_CHARS,
    MAX_PROPERTIES,
)
from indelible.edge.intake import Limits
from indelible.edge.results import EventResult, ProductAnswer
from indelible.edge.schema import (
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
    BatchTooLarge,
    EmptyBatch,
    EventRefused,
    IndelibleError,
    InvalidParameter,
    IpNotAllowed,
    MissingToken,
    MixedTokens,
    OriginNotAllowed,
    RateLimited,
    UnknownToken,
)
from indelible.event import DropReason, Level, WarnReason

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
_ONE_OR_OTHER: Final = "Those that cannot be taken are dropped, each with its reason."
_PRODUCT_EVENTS: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "description": f"At least one event that can be taken. {_ONE_OR_OTHER}",
    "contains": ref("ProductEvent"),
}
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
_REFUSALS: Final[tuple[type[IndelibleError], ...]] = (
    *READ_REFUSALS,
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
    *STORE_REFUSALS,
)
_QUERY_TOKENS: Final = [
    {"name": name, "in": "query", "schema": ref("Token"), "description": "The project token."}
    for name in ("api_key", "token")
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


def schema(limits: Limits) -> Schema:
    """Describe ``/api/e``, and the bodies and answers of every product route."""
    return Schema({"/api/e": describe()}, _components(limits))


def describe(
    *, suffix: str = "", more: str = "", may_be_empty: bool = True
) -> dict[str, Operation]:
    """Describe the methods of a path that takes these bodies.

    `suffix` makes the ids of its operations unique, `more` is said of it besides; `may_be_empty`:
    crawlers may get a 204.
    """
    return {
        "post": _post(suffix, more, _answers(may_be_empty=may_be_empty)),
        "get": _get(suffix, more, _answers(may_be_empty=may_be_empty)),
    }


def _post(suffix: str, more: str, answers: dict[str, Json]) -> Operation:
    json_body: Json = {
        "schema": ref("ProductBody"),
        "examples": {
            "event": {"summary": "One event", "value": _EVENT},
            "batch": {"summary": "A batch", "value": _BATCH},
        },
    }
    return Operation(
        summary="Send product events",
        description="Stores one event or a batch and answers after the sync: what is answered "
        "with an index survives power loss. The project token is in the body. The body may be "
        "packed with gzip, deflate or base64, up to three layers." + more,
        operation_id="send_product_events" + suffix,
        parameters=[*_QUERY_TOKENS, _COMPRESSION, *WAIT],
        body={
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
        answers=answers,
        refusals=_REFUSALS,
    )


def _get(suffix: str, more: str, answers: dict[str, Json]) -> Operation:
    answers["200"]["content"]["image/gif"] = {"schema": {"type": "string", "format": "binary"}}
    return Operation(
        summary="Send product events with GET",
        description="As POST, with the body in `data`: for pages that can only load an image."
        + more,
        operation_id="send_product_events_with_get" + suffix,
        parameters=[
            {
                "name": "data",
                "in": "query",
                "required": True,
                "description": "The body of POST, as JSON or as base64 of it.",
                "content": {"application/json": {"schema": ref("ProductBody"), "example": _EVENT}},
            },
            *_QUERY_TOKENS,
            _COMPRESSION,
            *WAIT,
            {
                "name": "img",
                "in": "query",
                "description": "1 is answered with a transparent pixel.",
                "schema": {"type": "string"},
            },
        ],
        body=None,
        answers=answers,
        refusals=_REFUSALS,
    )


def _answers(*, may_be_empty: bool) -> dict[str, Json]:
    answers = {"200": answer("Stored; each event has its result.", ref("ProductAnswer"))}
    if may_be_empty:
        answers["204"] = {"description": "Every event is a crawler's and was dropped."}
    return answers


def _components(limits: Limits) -> dict[str, Json]:
    _, answers = msgspec.json.schema_components(
        [ProductAnswer, EventResult], ref_template=ref("{name}")["$ref"]
    )
    result = answers["EventResult"]["properties"]
    result["result"] = {"enum": ["ok", "warning", "drop", "retry"]}
    result["reason"] = {"enum": [*_REASONS, None], "default": None}
    result["tx_id"] = {"anyOf": [TX, {"type": "null"}], "default": None}
    result["receipt"] = RECEIPT
    result["status"] = {"enum": [*Level, None], "default": None}
    answers["ProductAnswer"]["properties"]["lost_warning"] = LOST_WARNING
    return {
        "Token": {
            "type": "string",
            "description": "The project token: public, good for sending product events only. "
            "One of `api_key`, `token`, `$token`, `properties.token` and the query is enough; two "
            "different ones are refused.",
        },
        "ProductEvent": {
            **_PRODUCT_EVENT,
            "description": f"One product event, at most {limits.max_event_bytes:,} bytes as sent. "
            "Members that are not listed are kept under `$extra`.",
        },
        "ProductEvents": {**_PRODUCT_EVENTS, "maxItems": limits.max_batch},
        "ProductBatch": {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "api_key": _TOKEN,
                "token": _TOKEN,
                "$token": _TOKEN,
                "batch": {"anyOf": [ref("ProductEvents"), {"type": "array", "maxItems": 0}]},
                "lost": LOST,
                "sent_at": {"description": "The client's time of sending. Stored as sent."},
                "historical_migration": {"description": "Stored as sent."},
            },
            "anyOf": not_empty("batch"),
        },
        "ProductBody": {
            "description": "One event, a batch, or a bare list of events.",
            "anyOf": [
                {"allOf": [ref("ProductEvent"), {"not": {"required": ["batch"]}}]},
                ref("ProductBatch"),
                ref("ProductEvents"),
            ],
        },
        **answers,
    }
