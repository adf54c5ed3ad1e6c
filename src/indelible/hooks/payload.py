"""The payload of the audit event that a request leaves, in the two dialects of ImmutableLog. Pure.

`nested` is that of its Python, Node and Nest middleware and the default here; `flat` is that of the
Go and Java ones. A payload that is too long climbs down a ladder, one rung at a time, and is
measured again on each:

    1  as it is
    2  the error's message cut to 500 characters
    3  without the error
    4  id, kind, message (500 characters) and timestamp, with request, metrics and severity
    5  the same with path and user agent cut
    6  {"truncated": true, "original_size": n, "sha256": "…"}

It never exceeds the limit and is never dropped in silence.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from indelible.client.wire import truncated
from indelible.clock import rfc3339
from indelible.hooks.observation import UNMATCHED, Failure, Observation, Request, Work

Dialect = Literal["nested", "flat"]
Payload = dict[str, Any]

MAX_BYTES: Final = 12_000
MAX_MESSAGE_CHARS: Final = 500
_CUT_CHARS: Final = 200
RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})


def type_of(observation: Observation) -> str:
    """The event's type: what was raised is an error, else the status decides.

    A client that left made no error, and neither did a path that nobody serves.
    """
    if observation.failure is not None:
        return "error"
    if isinstance(observation, Request) and observation.is_no_fault:
        return "info"
    if isinstance(observation, Work):
        words = {"success": "success", "error": "error", "missed": "warning"}
        return words.get(observation.outcome, "info")
    status = observation.status
    if status is None or status < 200 or 300 <= status < 400:
        return "info"
    return "success" if status < 300 else "error"


def payload_of(
    observation: Observation,
    *,
    dialect: Dialect,
    event_id: str,
    at_ms: int,
    ip_fields: dict[str, str],
) -> Payload:
    """The payload of an observation; `ip_fields` is what may be said of the client's address."""
    if dialect == "flat" and isinstance(observation, Request):
        return _flat(observation, ip_fields)
    return _nested(observation, event_id=event_id, at_ms=at_ms, ip_fields=ip_fields)


def _flat(request: Request, ip_fields: dict[str, str]) -> Payload:
    body: Payload = {
        "method": request.method,
        "path": _path(request),
        "status": request.status,
        "latency_ms": _milliseconds(request.duration_s),
        **ip_fields,
    }
    if request.user_agent:
        body["user_agent"] = request.user_agent
    if request.failure is not None:
        body["error"] = {
            "type": request.failure.type,
            **_told("message", "place", request.failure),
            "retryable": request.status in RETRYABLE,
        }
    return body


def _nested(seen: Observation, *, event_id: str, at_ms: int, ip_fields: dict[str, str]) -> Payload:
    kind = type_of(seen)
    body: Payload = {
        "id": event_id,
        "kind": kind,
        "message": _message(seen),
        "timestamp": rfc3339(at_ms),
    }
    if isinstance(seen, Request):
        context: dict[str, object] = dict(ip_fields)
        if seen.user_agent:
            context["userAgent"] = seen.user_agent
        if context:
            body["context"] = context
        body["request"] = {
            "requestId": seen.context.request_id,
            "method": seen.method,
            "path": _path(seen),
            "route": seen.route,
        }
        body["metrics"] = {
            "latencyMs": _milliseconds(seen.duration_s),
            "statusCode": seen.status,
        }
    else:
        body["work"] = {"kind": seen.kind, "name": seen.name, "outcome": seen.outcome}
        body["work"] |= seen.details
        if seen.duration_s is not None:
            body["metrics"] = {"latencyMs": _milliseconds(seen.duration_s)}
    if seen.failure is not None:
        retryable = isinstance(seen, Request) and seen.status in RETRYABLE
        body["error"] = {
            "exception": seen.failure.type,
            **_told("exceptionMessage", "exceptionPlace", seen.failure),
            "retryable": retryable,
        }
    if seen.context.distinct_id is not None:
        body["actor"] = seen.context.distinct_id
    body["severity"] = {"error": "high", "warning": "medium"}.get(kind, "low")
    return body


def _message(seen: Observation) -> str:
    if isinstance(seen, Request):
        return f"{seen.method} {seen.route}"
    return f"{seen.kind} {seen.name} {seen.outcome}"


def _path(request: Request) -> str:
    """As asked for; but nothing of a path that no route took, which anybody may have made up."""
    return UNMATCHED if request.route == UNMATCHED else request.path


def _told(message: str, place: str, failure: Failure) -> dict[str, str]:
    """What is known of a failure beside its type, under the dialect's names."""
    known = {message: failure.message[:MAX_MESSAGE_CHARS], place: failure.place}
    return {name: value for name, value in known.items() if value}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1_000)


def clamped(payload: Payload, limit_bytes: int = MAX_BYTES) -> bytes:
    """The payload as JSON of at most `limit_bytes`, from the first rung that fits."""
    whole = _bytes(payload)
    if len(whole) <= limit_bytes:
        return whole
    for rung in _rungs(payload):
        data = _bytes(rung)
        if len(data) <= limit_bytes:
            return data
    return _bytes(truncated(whole))


def clamper(limit_bytes: int) -> Callable[[Payload], bytes]:
    """`clamped` for one limit, as the client's queue wants it."""
    return lambda payload: clamped(payload, limit_bytes)


def _rungs(payload: Payload) -> Iterator[Payload]:
    error = payload.get("error")
    if isinstance(error, dict):
        name = "exceptionMessage" if "exceptionMessage" in error else "message"
        short = str(error.get(name, ""))[:MAX_MESSAGE_CHARS]
        yield {**payload, "error": {**error, name: short}}
    without = {name: value for name, value in payload.items() if name != "error"}
    yield without
    kept = ("id", "kind", "message", "timestamp", "request", "metrics", "severity", "context")
    least = {name: without[name] for name in kept if name in without} or without
    least = {**least, "message": str(least.get("message", ""))[:MAX_MESSAGE_CHARS]}
    yield least
    yield {name: _cut(value) for name, value in least.items()}


def _cut(value: Any) -> Any:
    """Every text of a value, cut at a character's end."""
    if isinstance(value, str):
        return value[:_CUT_CHARS]
    if isinstance(value, dict):
        return {name: _cut(one) for name, one in value.items()}
    return value


def _bytes(payload: Payload) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
