"""Whatever goes wrong in a route is answered with the one flat body."""

import logging
from typing import Any, Final

import apsw
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from indelible.edge.http import request_id_of
from indelible.errors import (
    BodyTooLarge,
    DataUnreadable,
    IndelibleError,
    InvalidJson,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
)
from indelible.fault import place_of

logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024
"""Longest body of a management call."""


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, object]]:
    """The answer to any exception that left a route."""
    ours = _ours(error, limit_bytes=_limit_of(request))
    if ours.http_status >= 500:
        # Only type and place: a message could quote what somebody sent.
        logger.error(
            "%s %s: %s in %s",
            request.method,
            request.url.path,
            type(error).__name__,
            place_of(error),
        )
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if ours.retry_after_s is not None:
        headers["retry-after"] = str(ours.retry_after_s)
    if ours.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(
        ours.body(request_id=request_id_of(request.headers.get)),
        status_code=ours.http_status,
        headers=headers,
        media_type="application/json",
    )


def _ours(error: Exception, *, limit_bytes: int) -> IndelibleError:
    match error:
        case IndelibleError():
            return error
        case ValidationException():
            names = [str(e.get("key", "")) for e in error.extra or [] if isinstance(e, dict)]
            wrong = ", ".join(sorted({name for name in names if name not in ("", "data")}))
            wrong = wrong or "the body"
            return InvalidParameter(f"Cannot be read: {wrong}")
        case NotFoundException():
            return NotFound()
        case MethodNotAllowedException():
            return MethodNotAllowed()
        case HTTPException(status_code=413):
            return BodyTooLarge(limit_bytes=limit_bytes, unpacked=False)
        case HTTPException(status_code=400):
            return InvalidJson()
        case apsw.Error():
            return DataUnreadable(f"A read failed: {type(error).__name__}")
        case OSError():
            return DataUnreadable(f"A read failed: {error.strerror or type(error).__name__}")
        case _:
            return IndelibleError()


def _limit_of(request: Request[Any, Any, Any]) -> int:
    """The longest body that the route of this request takes."""
    handler = request.scope.get("route_handler")
    own = getattr(handler, "request_max_body_size", None)
    return own if isinstance(own, int) else MAX_BODY_BYTES
