"""The hot path: exact ingest paths go to their handlers, everything else to the framework."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from indelible.edge.http import Answer, Message, Receive, Request, Scope, Send, refuse
from indelible.edge.notice import Notices
from indelible.errors import BodyIncomplete, IndelibleError, InvalidApiKey, MethodNotAllowed
from indelible.metrics import REQUESTS, REQUESTS_REFUSED
from indelible.refusals import Refusals
from indelible.serving.exchange import Exchange
from indelible.serving.patience import CloseReason

Answered = Callable[[Answer | Exception], None]


class Handler(Protocol):
    """Answers the requests of one path."""

    async def __call__(self, request: Request) -> Answer:
        """Answer a request, read as far as its head.

        Raises:
            IndelibleError: it is refused.
        """
        ...

    def at_once(self, request: Request, answered: Answered) -> bool:
        """Take a request whose body is `request.sent`, and call `answered` in a later turn.

        False, and nothing was done, if there is more to wait for than the storing of its events.

        Raises:
            IndelibleError: it is refused.
        """
        ...


Framework = Callable[[Any, Any, Any], Awaitable[None]]

_PREFLIGHT_AGE_S: Final = b"86400"
_UNREADABLE: Final = {"method": "", "headers": [], "query_string": b""}


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
    `/v1/events`), else 405. HEAD is answered as GET is; the server leaves out the body.
    """

    def __init__(
        self,
        routes: Mapping[str, HotRoute],
        framework: Framework,
        refusals: Refusals,
        notices: Notices,
    ) -> None:
        self._routes = routes
        self._notices = notices
        self._framework = framework
        self._refusals = refusals
        self._open_roots = {_root_of(route.path) for route in routes.values() if route.cross_origin}
        self._at_once = {
            (method, path.encode()): (route, handler)
            for path, route in routes.items()
            for method, handler in route.handlers.items()
            if method != "GET"
        }

    @property
    def routes(self) -> Mapping[str, HotRoute]:
        """The hot routes by path."""
        return self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        scope["path"] = path = _plain(scope["path"])
        if scope["method"] == "HEAD":
            scope["method"] = "GET"
        request = Request(scope, receive)
        route = self._route(path)
        if request.is_ambiguous:
            answer = refuse(InvalidApiKey("Authorization is given more than once"), request)
        elif route is None or (not route.cross_origin and request.method not in route.handlers):
            if origin := self._open_to(path, request):
                send = _opened(send, origin)
            await self._framework(scope, receive, send)
            return
        else:
            answer = await self._answer(route, request)
        self._finish(request, path, route, answer)
        await answer.send(send)

    def at_once(self, exchange: Exchange) -> bool:
        """Begin to answer a request that has arrived whole, if it is a hot one of the usual kind.

        This is the way of nearly all events. It costs two thirds of the way through the
        application: no task, no messages, and nothing to wait for but the events' storing.
        """
        head = exchange.head
        found = self._at_once.get((head.method, head.path))
        if found is None or head.query or len(head.fields) != len(head.headers):
            return False
        route, handler = found
        request = Request.whole(exchange)

        def answered(answer: Answer | Exception) -> None:
            try:
                if isinstance(answer, Exception):
                    answer = self._error(answer, request, route)
                self._finish(request, route.path, route, answer)
                exchange.reply(answer.status, answer.headers, answer.body)
            except Exception as error:  # no fault of ours may leave the client waiting
                exchange.fail(error)

        try:
            return handler.at_once(request, answered)
        except Exception as error:  # as in `_answer`
            asyncio.get_running_loop().call_soon(answered, error)
            return True

    def _finish(self, request: Request, path: str, route: HotRoute | None, answer: Answer) -> None:
        """Complete an answer, and count it."""
        if request.has(b"origin") and (origin := self._open_to(path, request)):
            answer.headers += _cross_origin(origin)
        # A handler learns of a cut body from the server, which has told of it and answered.
        if answer.refusal is not None and not isinstance(answer.refusal, BodyIncomplete):
            self._refusals.refused(answer.refusal, None if route is None else route.path)
        if route is not None:
            REQUESTS.add(route.path, str(answer.status))

    def refusal(
        self, error: IndelibleError, scope: Scope | None
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Build an answer that the server gives in place of a handler: status, headers, body.

        There is no scope if the head of the request could not be read.
        """
        request = Request(scope or _UNREADABLE, _nothing)
        answer = refuse(error, request)
        path = _plain(scope["path"]) if scope else ""
        route = self._route(path)
        self._refusals.refused(error, None if route is None else route.path)
        if origin := self._open_to(path, request):
            answer.headers += _cross_origin(origin)
        return answer.status, answer.headers, answer.body

    def closed(self, reason: CloseReason) -> None:
        """Tell of a connection that the server closed without an answer."""
        if reason.is_unanswered:
            self._refusals.closed(reason, reason.meaning)

    def _route(self, path: str) -> HotRoute | None:
        """The route of a path; a slash at its end makes no difference."""
        return self._routes.get(path) or self._routes.get(path.removesuffix("/"))

    def _open_to(self, path: str, request: Request) -> str:
        """Return the Origin of a request that pages of other origins may make; else an empty text.

        Paths next to a product route count too, so that a page can read its 404.
        """
        origin = request.header(b"origin")
        return origin if origin and _root_of(path) in self._open_roots else ""

    async def _answer(self, route: HotRoute, request: Request) -> Answer:
        handler = route.handlers.get(request.method)
        if handler is None:
            return _other_method(route, request)
        try:
            return await handler(request)
        except Exception as error:  # the request's one door: no fault of ours may go unanswered
            return self._error(error, request, route)

    def _error(self, error: Exception, request: Request, route: HotRoute) -> Answer:
        if isinstance(error, IndelibleError):
            REQUESTS_REFUSED.add(route.path, error.code)
            self._notices.refused(request, error)
            return refuse(error, request)
        self._refusals.failed(error, route.path)
        REQUESTS_REFUSED.add(route.path, IndelibleError.code)
        answer = refuse(IndelibleError(), request)
        answer.refusal = None  # told just now, with its place
        return answer


def _other_method(route: HotRoute, request: Request) -> Answer:
    reading = ("HEAD",) if "GET" in route.handlers else ()
    allow = ", ".join((*route.handlers, *reading, "OPTIONS"))
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


def _plain(path: str) -> str:
    """Collapse leading slashes: a client whose host ends with a slash sends two."""
    return "/" + path.lstrip("/") if path.startswith("//") else path


def _root_of(path: str) -> str:
    return path[1:].partition("/")[0]


def _cross_origin(origin: str) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of this origin read the answer."""
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]


def _opened(send: Send, origin: str) -> Send:
    """Wrap `send` so that a page of this origin can read a 404 or 405."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in (404, 405):
            message["headers"] = [*message["headers"], *_cross_origin(origin)]
        await send(message)

    return sent


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
