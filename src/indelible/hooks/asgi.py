"""ASGI: Starlette, FastAPI, Litestar, Quart, and any other application of that kind.

    app = Middleware(app)                              # from outside: sees everything
    app.add_middleware(Middleware, client=client)      # Starlette, FastAPI

The route's template is read after the application ran, from what the framework left in the scope:

    FastAPI        scope["fastapi"]["effective_route_context"].path (with include_router's prefix)
    Starlette      scope["route"].path, after the templates of the mounts above it
    Litestar       scope["path_template"]
    Quart          url_rule, told by `indelible.hooks.quart`

The duration ends with the last byte of the body: background tasks run after it and are not in it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from indelible.client.client import Indelible
from indelible.hooks.observer import Header, Observer, Watch

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE: Final = "indelible.route"
"""Where a framework's own hook leaves the template for this middleware, in the scope."""


class Middleware:
    """Records the requests of one ASGI application.

    Args:
        app: the application.
        client: the client to send with; the default one if None.
        recording: fields of `indelible.hooks.observer.Recording`.
    """

    def __init__(self, app: App, client: Indelible | None = None, **recording: Any) -> None:
        self.app = app
        self._observer = Observer(client, framework=recording.pop("framework", "asgi"), **recording)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        watch = self._observer.open(
            method=scope["method"],
            path=scope["path"],
            header=_header_of(scope),
            peer=(scope.get("client") or (None,))[0],
        )
        if watch is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, _watched(send, watch))
        except BaseException as error:
            watch.failed(error)
            raise
        finally:
            _take_override(scope, watch)
            watch.close(route=route_of(scope))


def _watched(send: Send, watch: Watch) -> Send:
    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            length = next((v for n, v in headers if bytes(n).lower() == b"content-length"), None)
            watch.began(message["status"], content_length=length and bytes(length).decode("latin1"))
            message["headers"] = [*headers, *_echo(watch, headers)]
        await send(message)
        if message["type"] == "http.response.body":
            watch.sent(len(message.get("body", b"")))
            if not message.get("more_body"):
                watch.finished()

    return watched


def _echo(watch: Watch, headers: Any) -> list[tuple[bytes, bytes]]:
    """The request id, for the answer, unless the application set one."""
    if watch.context.request_id is None or any(
        bytes(name).lower() == b"x-request-id" for name, _ in headers
    ):
        return []
    return [(b"x-request-id", watch.context.request_id.encode("latin1"))]


def _header_of(scope: Scope) -> Header:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(bytes(name).lower(), bytes(value))

    def header(name: str) -> str | None:
        value = headers.get(name.encode())
        return None if value is None else value.decode("latin1")

    return header


def _take_override(scope: Scope, watch: Watch) -> None:
    """ImmutableLog's place for an event's name, beside `context.set_event_name`."""
    state = scope.get("state")
    if isinstance(state, MutableMapping) and isinstance(state.get("imtbl.eventName"), str):
        watch.context.event_name = state["imtbl.eventName"]


def route_of(scope: Scope) -> str | None:
    """The template of the route that took the request; None when none did."""
    if isinstance(scope.get(ROUTE), str):
        return str(scope[ROUTE])
    fastapi = scope.get("fastapi")
    effective = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    path = getattr(effective, "path", None)
    if path is None:
        path = scope.get("path_template") or getattr(scope.get("route"), "path", None)
    return f"{scope.get('root_path', '')}{path}" if isinstance(path, str) else None
