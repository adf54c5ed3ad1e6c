"""What was seen of one request or one piece of work. Values, made by the hooks."""

from dataclasses import dataclass, field
from typing import Final

from indelible.client.context import Context

UNMATCHED: Final = "<unmatched>"
"""The route of a request that no route matched: never its path, which has no end of values."""

METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"}
)
OTHER_METHOD: Final = "_OTHER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What was raised: the class's name, and the message, which product events never carry."""

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        try:
            message = str(error)
        except Exception:
            message = ""
        return cls(type=type(error).__name__, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, from its first byte to the last byte of its answer.

    Attributes:
        method: upper case; one that is not known is `_OTHER`.
        route: the template, with the mount's root: ``/shop/items/{id}``; `UNMATCHED` without one.
        path: as asked for; goes into audit events only.
        status: None when the answer never began; 499 when the client left before its end.
        duration_s: from the request to the last byte of the body.
        first_byte_s: from the request to the beginning of the answer.
        request_bytes, response_bytes: by Content-Length, or counted; None where unknown.
        failure: what the application raised.
        aborted: the answer was not finished.
        client_ip: as the trusted-proxy rule gives it; None where it is not recorded.
    """

    method: str
    route: str
    path: str
    status: int | None
    duration_s: float
    framework: str
    context: Context
    first_byte_s: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    failure: Failure | None = None
    aborted: bool = False
    client_ip: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One piece of work that is no HTTP request: a task, a message, a job, a call, a command.

    Attributes:
        kind: ``task``, ``message``, ``job``, ``rpc``, ``command``, ``websocket``.
        name: of few values: the task's name, the topic, the job's id, ``/pkg.Service/Method``.
        outcome: ``success``, ``error``, ``retry``, ``missed`` or ``skipped``.
        duration_s: None where nothing ran.
        details: more members of the event; never arguments, payloads or messages.
    """

    kind: str
    name: str
    outcome: str
    framework: str
    context: Context
    duration_s: float | None = None
    failure: Failure | None = None
    details: dict[str, object] = field(default_factory=dict)


Observation = Request | Work
