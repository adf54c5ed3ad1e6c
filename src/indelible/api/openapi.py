"""Pieces of an OpenAPI document: references, and the answers that are errors."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Final

from indelible.access import Access, Door, Scope
from indelible.edge.schema import Json, ref
from indelible.errors import EventRefused, IndelibleError, flat_body
from indelible.event import DropReason

REQUEST_ID: Final = "4f8c1f5e-6f0e-4b9e-9d0a-2f4c1b7a3e11"
_NO_ANSWER: Final = (
    DropReason.BOT,
    DropReason.QUOTA,
    DropReason.RATE_LIMITED,
    DropReason.INVALID_TIMESTAMP,
)
"""Reasons that refuse no request: the server's own three, and one that is no longer given."""

_TEXT: Final[Json] = {"type": "string", "minLength": 1}
ERROR: Final[Json] = {
    "type": "object",
    "description": "The one error body of every route. `code` is permanent: switch on it. "
    "`reason` and `error` repeat it, `detail` and `error_description` repeat `message`, and `ok`, "
    "`success` and `status` say once more that it failed, each for clients that look there.",
    "properties": {
        "ok": {"const": False},
        "status": {"const": 0},
        "success": {"const": False},
        "code": {**_TEXT, "description": "Public and permanent; listed under Errors."},
        "reason": _TEXT,
        "error": _TEXT,
        "message": {**_TEXT, "description": "For people; may be reworded in any release."},
        "detail": _TEXT,
        "error_description": _TEXT,
        "hint": {**_TEXT, "description": "What to do about it."},
        "request_id": {**_TEXT, "description": "The caller's Request-Id, else one made here."},
    },
}
ERROR["required"] = list(ERROR["properties"])
ERROR["properties"]["events"] = {
    "type": "array",
    "description": "Where no product event of a request could be taken: the result of each.",
    "items": {"$ref": "#/components/schemas/EventResult"},
}
ERROR["properties"]["lost_warning"] = {
    "type": "string",
    "description": "Beside `events`: why the report of losses that came along was not taken.",
}


def security_of(access: Access) -> list[Json]:
    """The kinds of keys that may open a route, each with the scope that it needs."""
    match access:
        case Door.OPEN | Door.TOKEN:
            return []
        case Door.LEDGER:
            return security_of(Scope.READ)
        case Door.METRICS:
            return [{"metricsKey": []}, *security_of(Scope.MANAGE)]
        case Scope():
            names = ["adminKey"] if access is Scope.MANAGE else ["applicationKey", "adminKey"]
            return [{name: [access.value]} for name in names]


def refusals(errors: Iterable[type[IndelibleError]]) -> dict[str, Json]:
    """The responses that are errors, by status, each with the codes that it may carry."""
    by_status: dict[int, list[type[IndelibleError]]] = {}
    for error in sorted(errors, key=lambda e: (e.http_status, e.code)):
        by_status.setdefault(error.http_status, []).append(error)
    return {str(status): _refusal(status, errors) for status, errors in by_status.items()}


def codes_of(error: type[IndelibleError]) -> Iterator[tuple[str, str, str]]:
    """Each code that the error has on the wire, with what it means and what to do.

    It has one, except that `EventRefused` carries the reason of the first event.
    """
    if issubclass(error, EventRefused):
        for reason in DropReason:
            if reason not in _NO_ANSWER:
                yield reason.value, reason.meaning, error.hint
    else:
        yield error.code, error.summary, error.hint


def _refusal(status: int, errors: list[type[IndelibleError]]) -> Json:
    codes = [code for error in errors for code in codes_of(error)]
    body: Json = {
        "schema": {
            "allOf": [
                ref("Error"),
                {"properties": {"code": {"enum": [code for code, _, _ in codes]}}},
            ]
        },
        "examples": {
            code: {
                "summary": meaning,
                "value": flat_body(code, meaning, hint=hint, request_id=REQUEST_ID),
            }
            for code, meaning, hint in codes
        },
    }
    refused: Json = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": body},
    }
    if status == 401:
        refused["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}
    passing = [error.retry_after_s is not None for error in errors]
    if any(passing):
        refused["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before sending it again.",
                "required": all(passing),
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return refused
