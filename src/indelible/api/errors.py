"""Whatever goes wrong in a route is answered with the one flat body."""

import re
from collections.abc import Callable
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from indelible.api.parameters import advice, quoted
from indelible.connections import SqliteError
from indelible.edge.http import request_id_of
from indelible.errors import (
    BodyIncomplete,
    BodyTooLarge,
    DataUnreadable,
    IndelibleError,
    InvalidJson,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    UnknownParameter,
)
from indelible.refusals import Refusals

# The framework's only word for a body that did not come to its end.
_CUT_OFF: Final = "client disconnected prematurely"

MAX_BODY_BYTES: Final = 64 * 1024
"""Longest body of a management call."""

# In the words of msgspec, which has no other way to say which member it does not know.
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)

AnyRequest = Request[Any, Any, Any]
ErrorAnswer = Callable[[AnyRequest, Exception], Response[dict[str, object]]]


def answering(refusals: Refusals) -> ErrorAnswer:
    """Return what answers any exception that left a route, and tells of it."""

    def answer(request: AnyRequest, error: Exception) -> Response[dict[str, object]]:
        ours, route = _ours(error, request), request.scope.get("path_template")
        if ours.http_status >= 500 and not isinstance(error, IndelibleError):
            refusals.failed(error, route)
        elif not isinstance(ours, BodyIncomplete):  # which the server has told of, and answered
            refusals.refused(ours, route)
        return _answer(request, error, ours)

    return answer


def _answer(
    request: AnyRequest, error: Exception, ours: IndelibleError
) -> Response[dict[str, object]]:
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


def _ours(error: Exception, request: Request[Any, Any, Any]) -> IndelibleError:
    match error:
        case IndelibleError():
            return error
        case ValidationException():
            return _invalid(error, request)
        case NotFoundException():
            return NotFound()
        case MethodNotAllowedException():
            return MethodNotAllowed()
        case HTTPException(status_code=413):
            return BodyTooLarge(limit_bytes=_limit_of(request), unpacked=False)
        case InternalServerException(detail=detail) if detail == _CUT_OFF:
            return BodyIncomplete()
        case HTTPException(status_code=400):
            return InvalidJson()
        case SqliteError():
            return DataUnreadable(f"A read failed: {type(error).__name__}")
        case OSError():
            return DataUnreadable(f"A read failed: {error.strerror or type(error).__name__}")
        case _:
            return IndelibleError()


def _invalid(error: ValidationException, request: Request[Any, Any, Any]) -> IndelibleError:
    """Name what is missing, unknown, or cannot be read."""
    if isinstance(error.__cause__, KeyError):
        return InvalidParameter(f"Missing: {error.__cause__.args[0]}")
    names = set()
    for fault in error.extra or []:
        assert isinstance(fault, dict)
        text, name = str(fault.get("message", "")), str(fault.get("key", ""))
        if unknown := _UNKNOWN.fullmatch(text):
            return UnknownParameter(
                f"The body has no member {quoted(unknown[1])}",
                hint=advice(unknown[1], _members_of(request)),
            )
        if missing := _MISSING.fullmatch(text):
            return InvalidParameter(f"Missing: {missing[1]}")
        names.add(name)
    wrong = ", ".join(sorted(names - {"", "data"}))
    return InvalidParameter(f"Cannot be read: {wrong or 'the body'}")


def _members_of(request: Request[Any, Any, Any]) -> tuple[str, ...]:
    """The members that a body of this route may have."""
    data = request.scope["route_handler"].parsed_data_field
    members: tuple[str, ...] = getattr(data.annotation, "__struct_fields__", ()) if data else ()
    return members


def _limit_of(request: Request[Any, Any, Any]) -> int:
    """The longest body that the route of this request takes."""
    handler = request.scope.get("route_handler")
    own = getattr(handler, "request_max_body_size", None)
    return own if isinstance(own, int) else MAX_BODY_BYTES
