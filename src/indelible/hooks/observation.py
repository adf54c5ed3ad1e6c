"""What was seen of one request or one piece of work. Values, made by the hooks."""

import sysconfig
from dataclasses import dataclass, field
from typing import Final

from indelible.client.context import Context

UNMATCHED: Final = "<unmatched>"
"""The route of a request that no route matched: never its path, which has no end of values."""

METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"}
)
OTHER_METHOD: Final = "_OTHER"


_MAX_MESSAGE_CHARS: Final = 10_000
_LIBRARIES: Final = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What was raised.

    Attributes:
        type: the class's name.
        place: module, function and line: ``shop.orders.pay:42``. The innermost of the application's
            own code, where that can be told from a library's; None without a traceback.
        message: empty unless it was asked for; product events never carry it.
    """

    type: str
    place: str | None = None
    message: str = ""

    @classmethod
    def of(cls, error: BaseException, *, with_message: bool = False) -> "Failure":
        """Describe `error`; its text is not even made unless it is asked for."""
        message = ""
        if with_message:
            try:
                message = str(error)[:_MAX_MESSAGE_CHARS]
            except Exception:
                message = ""
        return cls(type=type(error).__name__, place=_place_of(error), message=message)


def _place_of(error: BaseException) -> str | None:
    own = innermost = None
    step = error.__traceback__
    while step is not None:
        innermost = step
        file = step.tb_frame.f_code.co_filename
        if not file.startswith("<") and not any(part in file for part in _LIBRARIES):
            own = step
        step = step.tb_next
    shown = own or innermost
    if shown is None:
        return None
    module = shown.tb_frame.f_globals.get("__name__", "?")
    return f"{module}.{shown.tb_frame.f_code.co_qualname}:{shown.tb_lineno}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, from its first byte to the last byte of its answer.

    Attributes:
        method: upper case; one that is not known is `_OTHER`.
        route: the template, with the mount's root: ``/shop/items/{id}``; `UNMATCHED` without one.
        path: as asked for; goes into the audit events of matched routes only.
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

    @property
    def is_no_fault(self) -> bool:
        """The client left before the end, or asked for what no route takes."""
        nobodys = self.route == UNMATCHED and self.status in (404, 405)
        return self.failure is None and (self.aborted or nobodys)


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
