"""ASGI: Starlette, FastAPI, Litestar, Quart, and any other application of that kind.

    app.add_middleware(Middleware, client=client)      # Starlette, FastAPI
    app.add_middleware(Middleware, api_key=…, host=…)  # with a client of its own
    app = Middleware(app, client)                      # from outside: any

The route's template is read after the application ran (`indelible.hooks.scope`). A request's
duration ends with the last byte of the body, or when the server was told which file to send:
background tasks run after it and are not in it. A websocket leaves one event, when it closed.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Unpack

from indelible.client import context as contexts
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observation import UNMATCHED, Failure, Work
from indelible.hooks.observer import Header, quietly
from indelible.hooks.scope import ERROR, Scope, framework_of, route_of, user_of
from indelible.hooks.watch import MARK, Watch, is_same, open_watch

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Frameworks have types of their own for the three, which exclude each other.
App = Callable[[Any, Any, Any], Awaitable[None]]


class Middleware:
    """Records the requests and websockets of one ASGI application.

    A request that passes several of them leaves one record for each client; see
    `indelible.hooks.watch`.

    Args:
        app: the application.
        client: the client to send with; without one, that of `settings`, else the default one.
        framework: name and version as events have them, where the scope does not tell.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`.
    """

    def __init__(
        self,
        app: App,
        /,
        client: Indelible | None = None,
        *,
        framework: str | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.app = app
        self._is_named = framework is not None
        self._observer = observer_of(client, settings, framework=framework or "asgi")

    @property
    def client(self) -> Indelible:
        return self._observer.client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = open_watch(
            self._observer,
            method=scope["method"],
            path=scope["path"],
            header=_header_of(scope),
            read=functools.partial(self._read, scope),
            root=scope.get("root_path", ""),
            peer=(scope.get("client") or (None,))[0],
            mark=scope.get(MARK) or scope.get("wsgi_environ", {}).get(MARK),
        )
        if watch is None:
            await self.app(scope, receive, send)
            return
        scope[MARK] = watch
        self._take_user(scope, watch.context)
        exchange = _Exchange(receive, send, watch)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            watch.left()  # or the server stops: nobody waits for the end either way
            raise
        except BaseException as error:
            watch.failed(error)
            raise
        finally:
            if isinstance(scope.get(ERROR), BaseException):
                watch.failed(scope[ERROR])
            watch.close()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        around: _Layers | None = scope.get(_SESSION)
        here = self._observer.admit(
            method="GET",
            path=scope["path"],
            header=_header_of(scope),
            root=scope.get("root_path", ""),
            around=None if around is None else around.context,
        )
        if here is None or (around is not None and around.include(self.client)):
            await self.app(scope, receive, send)
            return
        scope[_SESSION] = _Layers(here, (self.client, *(() if around is None else around.clients)))
        self._take_user(scope, here)
        session = _Session(receive, send)
        token = contexts.enter(here)
        try:
            await self.app(scope, session.receive, session.send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            session.failure = self._observer.failure_of(error)
            raise
        finally:
            contexts.leave(token)
            self._leave(session, self._read(scope, here), here)

    @quietly
    def _read(self, scope: Scope, here: Context) -> str | None:
        """What the application left in the scope: the event's name, and the route."""
        if not self._is_named:
            self._is_named = True
            self._observer.framework = framework_of(scope) or self._observer.framework
        state = scope.get("state")
        # ImmutableLog's place for an event's name, beside `context.set_event_name`.
        if isinstance(state, MutableMapping) and isinstance(state.get("imtbl.eventName"), str):
            here.event_name = state["imtbl.eventName"]
        self._take_user(scope, here)
        return route_of(scope)

    @quietly
    def _take_user(self, scope: Scope, here: Context) -> None:
        """Whoever a middleware has authenticated, unless the application has said it by itself."""
        if not here.distinct_id:
            here.distinct_id = user_of(scope)

    @quietly
    def _leave(self, session: "_Session", route: str | None, here: Context) -> None:
        self._observer.saw(
            Work(
                kind="websocket",
                name=route or UNMATCHED,
                outcome="error" if session.has_failed else "success",
                framework=self._observer.framework,
                context=here,
                duration_s=time.perf_counter() - session.start,
                failure=session.failure,
                details=session.details,
            )
        )


@dataclass(frozen=True, slots=True)
class _Layers:
    """The hooks that a websocket has passed: their common context, and whose they are."""

    context: Context
    clients: tuple[Indelible, ...]

    def include(self, client: Indelible) -> bool:
        return any(is_same(one, client) for one in self.clients)


_SESSION: Final = "indelible.session"


class _Exchange:
    """One request and its answer, as they pass between the server and the application."""

    def __init__(self, receive: Receive, send: Send, watch: Watch) -> None:
        self._receive = receive
        self._send = send
        self._watch = watch
        self._is_ending = False

    async def receive(self) -> Message:
        message = await self._receive()
        # A server says the same of every request that is answered, as early as it is given the end.
        if message["type"] == "http.disconnect" and not self._is_ending:
            self._watch.left()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self._begun(message)
        # `pathsend`: the server is told the file's name, and sends all of it by itself.
        is_part = kind in ("http.response.body", "http.response.pathsend")
        self._is_ending = is_part and not message.get("more_body")
        try:
            await self._send(message)
        except OSError:  # how a server says that the client left, from ASGI 2.4 on
            self._watch.left()
            raise
        if is_part:
            self._watch.sent(len(message.get("body", b"")))
        if self._is_ending:
            self._watch.finished()

    def _begun(self, message: Message) -> Message:
        """The head of the answer, with the request's id."""
        headers = list(message.get("headers") or ())
        known = {bytes(name).lower(): value for name, value in headers}
        length = known.get(b"content-length")
        self._watch.began(
            message["status"],
            content_length=None if length is None else bytes(length).decode("latin1"),
        )
        made = self._watch.context.request_id
        if made is not None and b"x-request-id" not in known:
            headers.append((b"x-request-id", made.encode()))
        # A new message: an application may send one constant to everybody.
        return {**message, "headers": headers}


class _Session:
    """One websocket: its clock, and how it ended."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.start = time.perf_counter()
        self.failure: Failure | None = None
        self.details: dict[str, object] = {}
        self._receive = receive
        self._send = send
        self._is_accepted = False

    @property
    def has_failed(self) -> bool:
        """The application raised, refused the handshake, or closed with 1011, its own fault."""
        return (
            self.failure is not None
            or "status" in self.details
            or self.details.get("close_code") == 1011  # RFC 6455, section 7.4.1
        )

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.details.setdefault("close_code", message.get("code", 1005))
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_accepted = True
        elif kind == "websocket.close" and self._is_accepted:
            self.details.setdefault("close_code", message.get("code", 1000))
        elif kind == "websocket.close":
            self.details["status"] = 403  # what the server answers to the handshake then
        elif kind == "websocket.http.response.start":
            self.details["status"] = message["status"]
        await self._send(message)


def _header_of(scope: Scope) -> Header:
    """Looks up the request's headers, whose names ASGI has in lower case; of two, the first."""
    headers: dict[bytes, bytes] = dict(reversed([*scope["headers"]]))

    def header(name: str) -> str | None:
        value = headers.get(name.encode())
        return None if value is None else bytes(value).decode("latin1")

    return header
