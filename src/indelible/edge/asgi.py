"""The hot path: exact ingest paths go to their handlers, everything else to the framework."""

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from indelible.edge.http import (
    CLOSE,
    Answer,
    Receive,
    Request,
    Scope,
    Send,
    closing,
    may_leave_a_rest,
    refuse,
)
from indelible.errors import IndelibleError, MethodNotAllowed
from indelible.metrics import REQUESTS, REQUESTS_REFUSED

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Answer]]
Framework = Callable[[Any, Any, Any], Awaitable[None]]

_PREFLIGHT_AGE_S: Final = b"86400"


@dataclass(frozen=True, slots=True)
class HotRoute:
    """One exact path with its handlers by method.

    `cross_origin`: pages of any origin may call it. True for product ingest only, whose token is
    public and can do nothing but write.
    """

    path: str
    handlers: Mapping[str, Handler]
    cross_origin: bool


class Edge:
    """The ASGI application: the hot routes before the framework.

    A method that a hot route does not have is the framework's, when it knows the path (reading
    `/v1/events`), else 405.
    """

    def __init__(self, routes: Mapping[str, HotRoute], framework: Framework) -> None:
        self._routes = routes
        self._framework = framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope["path"]) if scope["type"] == "http" else None
        if route is None or (not route.cross_origin and scope["method"] not in route.handlers):
            if scope["type"] == "http" and may_leave_a_rest(scope):
                receive, send = closing(receive, send)
            await self._framework(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = await self._answer(route, request)
        if route.cross_origin and (origin := request.header(b"origin")):
            answer.headers += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-allow-credentials", b"true"),
                (b"vary", b"Origin"),
            ]
        if request.leaves_a_rest:
            answer.headers.append(CLOSE)
        REQUESTS.add(route.path, str(answer.status))
        await answer.send(send)

    def _route(self, path: str) -> HotRoute | None:
        """The route of a path; a slash at its end makes no difference."""
        return self._routes.get(path) or self._routes.get(path.removesuffix("/"))

    async def _answer(self, route: HotRoute, request: Request) -> Answer:
        handler = route.handlers.get(request.method)
        if handler is None:
            return _other_method(route, request)
        try:
            return await handler(request)
        except IndelibleError as error:
            REQUESTS_REFUSED.add(route.path, error.code)
            if error.http_status >= 500:
                logger.warning("%s %s: %s", route.path, error.code, error.message)
            return refuse(error, request)
        except Exception as error:  # the request's one door: no fault of ours may go unanswered
            # The message might quote a payload, so only the place goes to the log.
            where = traceback.extract_tb(error.__traceback__)[-1]
            logger.error(  # noqa: TRY400 — see above
                "%s: %s in %s", route.path, type(error).__name__, where.name
            )
            REQUESTS_REFUSED.add(route.path, IndelibleError.code)
            return refuse(IndelibleError(), request)


def _other_method(route: HotRoute, request: Request) -> Answer:
    allow = ", ".join((*route.handlers, "OPTIONS"))
    if request.method != "OPTIONS":
        answer = refuse(MethodNotAllowed(), request)
        answer.headers.append((b"allow", allow.encode()))
        return answer
    headers = [(b"allow", allow.encode())]
    if request.header(b"origin"):
        asked = request.header(b"access-control-request-headers") or "content-type"
        headers += [
            (b"access-control-allow-methods", allow.encode()),
            (b"access-control-allow-headers", asked.encode("latin-1")),
            (b"access-control-max-age", _PREFLIGHT_AGE_S),
        ]
    return Answer(204, headers=headers)
