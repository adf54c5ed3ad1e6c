"""The ASGI middleware around applications of no framework, and websockets."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from indelible.client import context as contexts
from indelible.hooks.asgi import Message, Middleware, Receive, Send
from indelible.hooks.scope import Scope
from indelible.testing import Received, Recorder
from tests.hooks.contract import requests, the_audit, the_request, until, what
from tests.hooks.serving import browsing, served
from tests.hooks.shop import SECRET

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"hello"}


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the same two messages to everybody."""
    await send(START)
    await send(BODY)


def watched(app: Any, events: Recorder, **recording: Any) -> Middleware:
    """The hook round `app`, of which every method is audited."""
    fixed = {"install_signal_handlers": False, "audit_methods": None}
    return Middleware(app, events.client, **{**fixed, **recording})


def a_request(path: str = "/", **more: Any) -> Scope:
    """The scope of a GET, as a server makes it."""
    return {"type": "http", "method": "GET", "path": path, "headers": [], **more}


async def nothing() -> Message:
    return {"type": "http.request", "body": b""}


async def nowhere(message: Message) -> None:
    """A client that is never seen again."""


def test_an_application_of_no_framework_is_recorded_without_routes(events: Recorder) -> None:
    with browsing(watched(plain, events)) as browser:
        assert "hello" == browser.get("/anything/42").text
        seen = the_request(events)
    assert ("GET", "<unmatched>", 200) == what(seen)
    assert "asgi" == seen.properties["framework"]


def test_a_message_that_is_sent_to_everybody_is_left_as_it_is(events: Recorder) -> None:
    with browsing(watched(plain, events)) as browser:
        ids = {browser.get("/").headers["x-request-id"] for _ in range(2)}
    assert 2 == len(ids)
    assert [] == START["headers"]


def test_a_request_id_that_the_application_set_is_left_alone(events: Recorder) -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"X-Request-Id", b"its-own")]})
        await send(BODY)

    with browsing(watched(own, events)) as browser:
        assert ["its-own"] == browser.get("/").headers.get_list("x-request-id")


def test_what_was_raised_is_raised_to_the_server_as_it_was(events: Recorder) -> None:
    error = RuntimeError(SECRET)

    async def raises(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(RuntimeError) as raised:
        asyncio.run(watched(raises, events)(a_request(), nothing, nowhere))
    assert error is raised.value
    assert ("RuntimeError", 500) == (
        the_request(events).properties["error_type"],
        the_request(events).properties["status"],
    )


def test_what_is_raised_after_the_answer_is_reported_with_the_answers_status(
    events: Recorder,
) -> None:
    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        await plain(scope, receive, send)
        raise RuntimeError(SECRET)

    with pytest.raises(RuntimeError):
        asyncio.run(watched(later, events)(a_request(), nothing, nowhere))
    seen = the_request(events)
    assert 200 == seen.properties["status"]
    assert "RuntimeError" == seen.properties["error_type"]
    assert "error" == the_audit(events, "http.GET.<unmatched>").meta["type"]


async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    raise asyncio.CancelledError


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(BODY)


async def gone(message: Message) -> None:
    if message["type"] == "http.response.body":
        raise BrokenPipeError


@pytest.mark.parametrize(("app", "send"), [(cancelled, nowhere), (told, gone)])
def test_a_client_that_left_is_no_fault_however_the_server_tells(
    events: Recorder, app: Any, send: Send
) -> None:
    with pytest.raises((asyncio.CancelledError, OSError)):
        asyncio.run(watched(app, events)(a_request(), nothing, send))
    seen = the_request(events)
    assert ("GET", "<unmatched>", 499) == what(seen)
    assert seen.properties["aborted"] is True
    assert "error_type" not in seen.properties


def test_an_upload_that_is_cut_short_is_a_499_whatever_becomes_of_it(events: Recorder) -> None:
    """One handler lets the disconnect through, which is a 500 to nobody; one makes a 400 of it."""

    async def strict(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def lenient(request: Request) -> Response:
        try:
            return await strict(request)
        except ClientDisconnect:
            return PlainTextResponse("that is not all", 400)

    app = Starlette(
        routes=[Route(f"/{view.__name__}", view, methods=["POST"]) for view in (strict, lenient)]
    )
    with served(watched(app, events)) as url:
        for path in ("/strict", "/lenient"):
            cut_short(url, path)
        seen = requests(events, 2)
    assert {("POST", "/strict", 499), ("POST", "/lenient", 499)} == set(map(what, seen))
    assert [True] * 2 == [one.properties["aborted"] for one in seen]
    assert not any("error_type" in one.properties for one in seen)


def cut_short(url: str, path: str) -> None:
    """Send the half of a body, and go."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80)) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode())
        client.sendall(b"hello")


def test_a_server_that_says_with_the_last_byte_that_all_is_over_means_no_abort(
    events: Recorder,
) -> None:
    """An application that waits for the disconnect hears of it before its own `send` is back."""

    async def story() -> None:
        over = asyncio.Event()

        async def receive() -> Message:
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                over.set()
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        async def listening(scope: Scope, receive: Receive, send: Send) -> None:
            listener = asyncio.ensure_future(receive())
            await plain(scope, receive, send)
            assert "http.disconnect" == (await listener)["type"]

        await watched(listening, events)(a_request(), receive, send)

    asyncio.run(story())
    assert ("GET", "<unmatched>", 200) == what(the_request(events))


def test_the_context_is_gone_after_the_request_whatever_happened(events: Recorder) -> None:
    async def story() -> None:
        for app in (plain, cancelled):
            with suppress(asyncio.CancelledError):
                await watched(app, events)(a_request(), nothing, nowhere)
            assert contexts.current() is None

    asyncio.run(story())
    requests(events, 2)


def test_a_scope_that_cannot_be_read_leaves_an_event_without_a_route() -> None:
    class Odd:
        @property
        def path(self) -> str:
            raise LookupError("odd")

    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Odd()
        await plain(scope, receive, send)

    with Recorder(strict=False) as events:
        asyncio.run(watched(odd, events)(a_request(), nothing, nowhere))
        assert ("GET", "<unmatched>", 200) == what(the_request(events))
        assert 1 == events.client.counts().failures


def test_a_name_that_was_given_is_not_looked_for(events: Recorder) -> None:
    app = watched(plain, events, framework="ours 1.0")
    asyncio.run(app(a_request(), nothing, nowhere))
    assert "ours 1.0" == the_request(events).properties["framework"]


def test_other_scopes_pass_through(events: Recorder) -> None:
    seen = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    scope = {"type": "lifespan"}
    asyncio.run(watched(lifespan, events)(scope, nothing, nowhere))
    assert [(scope, nothing, nowhere)] == seen
    events.assert_nothing_captured()


# Websockets.


def rooms(events: Recorder) -> Starlette:
    """Echoes; "break" raises, "bye" closes from this side, and /closed refuses."""

    async def room(socket: WebSocket) -> None:
        await socket.accept()
        events.client.identify("alice")
        try:
            while (text := await socket.receive_text()) != "bye":
                if text == "break":
                    raise RuntimeError(SECRET)
                await socket.send_text(text)
        except WebSocketDisconnect:
            return
        await socket.close(4001)

    async def closed(socket: WebSocket) -> None:
        await socket.close()

    routes = [WebSocketRoute("/{room}", room), WebSocketRoute("/none/closed", closed)]
    return Starlette(routes=[Mount("/rooms", routes=routes)])


async def talk(url: str, *said: str) -> None:
    """Say something, hear each answer, and close with 4000 unless the other side did."""
    async with ClientSession() as session, session.ws_connect(url) as socket:
        for text in said:
            await socket.send_str(text)
            await socket.receive()
        await socket.close(code=4000)


def the_session(events: Recorder) -> Received:
    until(lambda: any(one.name == "websocket_session" for one in events.captured))
    return events.assert_captured("websocket_session", times=1)


@pytest.mark.parametrize(("said", "code"), [(["hello"], 4000), (["hello", "bye"], 4001)])
def test_a_websocket_leaves_one_event_when_it_closed(
    events: Recorder, said: list[str], code: int
) -> None:
    with served(watched(rooms(events), events)) as url:
        asyncio.run(talk(f"{url}/rooms/7", *said))
        seen = the_session(events)
    assert ("/rooms/{room}", "success", code) == tuple(
        seen.properties[name] for name in ("name", "outcome", "close_code")
    )
    assert "alice" == seen.distinct_id
    assert 0 < seen.properties["duration_ms"]
    assert "success" == the_audit(events, "websocket./rooms/{room}").meta["type"]
    events.assert_nothing_captured("http_request")


def test_a_websocket_whose_handler_raised_is_an_error(events: Recorder) -> None:
    with served(watched(rooms(events), events)) as url:
        asyncio.run(talk(f"{url}/rooms/7", "break"))
        seen = the_session(events)
    assert ("error", "RuntimeError") == (seen.properties["outcome"], seen.properties["error_type"])
    assert SECRET not in str(seen.body)
    assert "RuntimeError" == the_audit(events, "websocket./rooms/{room}").meta["error_type"]


def test_a_handshake_that_was_refused_has_its_status(events: Recorder) -> None:
    with served(watched(rooms(events), events)) as url:
        with pytest.raises(WSServerHandshakeError):
            asyncio.run(talk(f"{url}/rooms/none/closed"))
        seen = the_session(events)
    assert ("/rooms/none/closed", "error", 403) == tuple(
        seen.properties[name] for name in ("name", "outcome", "status")
    )


def test_a_websocket_is_audited_only_where_reading_is(events: Recorder) -> None:
    with served(watched(rooms(events), events, audit_methods=["POST"])) as url:
        asyncio.run(talk(f"{url}/rooms/7", "hello"))
        the_session(events)
    events.assert_nothing_audited()


def test_a_websocket_that_no_route_takes_is_no_audit_event(events: Recorder) -> None:
    with served(watched(rooms(events), events)) as url:
        with pytest.raises(WSServerHandshakeError):
            asyncio.run(talk(f"{url}/wp-admin"))
        assert "<unmatched>" == the_session(events).properties["name"]
    events.assert_nothing_audited()


def test_a_skipped_websocket_leaves_no_event(events: Recorder) -> None:
    with served(watched(rooms(events), events, skip=["/rooms/7"])) as url:
        asyncio.run(talk(f"{url}/rooms/7", "hello"))
        asyncio.run(talk(f"{url}/rooms/8", "hello"))
        the_session(events)
