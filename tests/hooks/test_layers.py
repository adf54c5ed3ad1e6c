"""A request that passes several hooks leaves one record for each client that they have."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import bottle
import httpx
import pytest
from aiohttp import web
from asgiref.wsgi import WsgiToAsgi
from fastapi import FastAPI
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Quart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import indelible
from indelible.client import Indelible
from indelible.client import context as contexts
from indelible.hooks import aiohttp as aiohttp_hook
from indelible.hooks import quart as quart_hook
from indelible.hooks.asgi import Middleware
from indelible.hooks.bottle import IndelibleBottle
from indelible.hooks.flask import IndelibleFlask
from indelible.hooks.wsgi import Middleware as WsgiMiddleware
from indelible.testing import Recorder
from tests.hooks import serving, test_aiohttp, wsgi_serving
from tests.hooks.contract import requests, the_audit, the_request, until, what
from tests.hooks.shop import CARD, SECRET
from tests.world import plain_client

QUIET: dict[str, Any] = {"install_signal_handlers": False}


@pytest.fixture
def others() -> Iterator[Recorder]:
    """Where another client sends to."""
    with Recorder() as recorder:
        yield recorder


def greet(id: str = "7") -> str:
    indelible.set_distinct_id("user_42")
    return "hello"


def flask_site(*clients: Indelible) -> Any:
    app = Flask(__name__)
    app.add_url_rule("/items/<id>", "item", greet, methods=["POST"])
    for client in clients:
        IndelibleFlask(app, client, **QUIET)
    return wsgi_serving.served(app)


def bottle_site(*clients: Indelible) -> Any:
    app = bottle.Bottle()
    app.post("/items/<id>", callback=greet)
    for client in clients:
        app.install(IndelibleBottle(client, **QUIET))
    return wsgi_serving.served(app)


def quart_site(*clients: Indelible) -> Any:
    app = Quart(__name__)
    app.add_url_rule("/items/<id>", "item", greet, methods=["POST"])
    for client in clients:
        quart_hook.install(app, client, **QUIET)
    return serving.served(app)


def fastapi_site(*clients: Indelible) -> Any:
    app = FastAPI()
    app.post("/items/<id>")(greet)
    app.add_api_route("/items/{id}", greet, methods=["POST"])
    for client in clients:
        app.add_middleware(Middleware, client=client, **QUIET)
    return serving.served(app)


def aiohttp_site(*clients: Indelible) -> Any:
    async def item(http: web.Request) -> web.Response:
        return web.Response(text=greet())

    app = web.Application()
    app.router.add_post("/items/{id}", item)
    for client in clients:
        aiohttp_hook.install(app, client, **QUIET)
    return test_aiohttp.served(app)


SITES = pytest.mark.parametrize(
    "site", [flask_site, bottle_site, quart_site, fastapi_site, aiohttp_site]
)


@SITES
def test_a_hook_that_is_given_twice_records_once(site: Any, events: Recorder) -> None:
    with site(events.client, events.client) as url, plain_client(url) as browser:
        assert 200 == browser.post("/items/7").status_code
        seen = the_request(events)
    assert ("user_42", 200) == (seen.person, seen.properties["status"])
    assert 1 == len(events.audited)


@SITES
def test_two_different_clients_stay_two_and_tell_of_the_same_request(
    site: Any, events: Recorder, others: Recorder
) -> None:
    with site(events.client, others.client) as url, plain_client(url) as browser:
        answer = browser.post("/items/7")
        seen = [the_request(one) for one in (events, others)]
    assert {"user_42"} == {one.person for one in seen}
    assert answer.headers.get_list("x-request-id") == [seen[0].properties["request_id"]]
    for member in ("route", "status", "framework", "request_id", "response_bytes"):
        assert 1 == len({one.properties.get(member) for one in seen}), member
    assert [1, 1] == [len(one.audited) for one in (events, others)]


def test_clients_that_are_made_of_the_same_options_are_one(events: Recorder) -> None:
    options: dict[str, Any] = {
        "token": events.server.token,
        "host": events.server.url,
        "mode": "sync",
    }
    app = FastAPI()
    app.get("/hello")(greet)
    for _ in range(2):
        app.add_middleware(Middleware, **options, **QUIET)
    with serving.browsing(app) as browser:
        browser.get("/hello")
        assert ("GET", "/hello", 200) == what(the_request(events))


def of_flask(client: Indelible, **settings: Any) -> Flask:
    app = Flask(__name__)

    @app.post("/items/<id>")
    def item(id: str) -> str:
        return greet()

    @app.post("/raises")
    def raises() -> str:
        raise RuntimeError(SECRET)

    IndelibleFlask(app, client, **QUIET, **settings)
    return app


def adapted(app: Any) -> Any:
    """An application of WSGI as one of ASGI."""
    return WsgiToAsgi(app)  # type: ignore[no-untyped-call]  # asgiref has no types here


def around(app: Any, client: Indelible, **settings: Any) -> FastAPI:
    site = FastAPI()
    site.mount("/tenants/{tenant}", adapted(app))
    site.add_middleware(Middleware, client=client, **QUIET, **settings)
    return site


def test_wsgi_inside_asgi_is_one_request_told_by_the_one_who_knows_its_route(
    events: Recorder,
) -> None:
    with serving.browsing(around(of_flask(events.client), events.client)) as browser:
        answer = browser.post("/tenants/9/items/7")
        assert 200 == answer.status_code
        seen = the_request(events)
    assert ("POST", "/tenants/{tenant}/items/<id>", 200) == what(seen)
    assert seen.properties["framework"].startswith("flask ")
    assert "user_42" == seen.person
    assert [seen.properties["request_id"]] == answer.headers.get_list("x-request-id")
    audit = the_audit(events, "http.POST./tenants/{tenant}/items/<id>")
    assert "user_42" == audit.payload["actor"]


def test_what_an_application_inside_made_an_answer_of_is_told_outside(
    events: Recorder, others: Recorder
) -> None:
    with serving.browsing(around(of_flask(others.client), events.client)) as browser:
        assert 500 == browser.post("/tenants/9/raises").status_code
        seen = [the_request(one) for one in (events, others)]
        until(lambda: all(one.audited for one in (events, others)))
        audits = [one.audited for one in (events, others)]
    assert ["RuntimeError"] * 2 == [one.properties["error_type"] for one in seen]
    assert [1, 1] == [len(one) for one in audits]
    assert CARD not in json.dumps([one.body for both in audits for one in both])


def test_a_path_that_the_application_inside_does_not_know_is_unmatched_outside_too(
    events: Recorder,
) -> None:
    with serving.browsing(around(of_flask(events.client), events.client)) as browser:
        browser.post("/tenants/9/wp-login.php")
        assert ("POST", "<unmatched>", 404) == what(the_request(events))
    events.assert_nothing_audited()


def test_each_kind_of_event_is_left_by_the_outermost_hook_that_leaves_it(events: Recorder) -> None:
    inside = of_flask(events.client, product=False)
    with serving.browsing(around(inside, events.client, audit=False)) as browser:
        browser.post("/tenants/9/items/7")
        the_request(events)
        assert 1 == len(events.audited)


def test_what_a_handler_asks_of_another_application_is_another_request(events: Recorder) -> None:
    async def stock(http: Request) -> PlainTextResponse:
        return PlainTextResponse("3")

    stocks = Middleware(Starlette(routes=[Route("/stock", stock)]), events.client, **QUIET)

    async def item(http: Request) -> PlainTextResponse:
        transport = httpx.ASGITransport(stocks)
        async with httpx.AsyncClient(transport=transport, base_url="http://stocks") as near:
            return PlainTextResponse((await near.get("/stock")).text)

    shop = Middleware(Starlette(routes=[Route("/item", item)]), events.client, **QUIET)
    with serving.browsing(shop) as browser:
        assert "3" == browser.get("/item").text
        assert ["/item", "/stock"] == sorted(one.properties["route"] for one in requests(events, 2))


def test_a_block_between_two_layers_goes_on_inside(events: Recorder) -> None:
    async def hello(http: Request) -> PlainTextResponse:
        events.client.capture("greeted")
        return PlainTextResponse("hello")

    inside = Middleware(Starlette(routes=[Route("/hello", hello)]), events.client, **QUIET)

    async def tenant(scope: Any, receive: Any, send: Any) -> None:
        with events.client.context(properties={"tenant": "acme"}):
            await inside(scope, receive, send)

    outside = Middleware(tenant, events.client, **QUIET)
    with serving.browsing(outside, lifespan="off") as browser:
        browser.get("/hello")
        the_request(events)
    events.assert_captured("greeted", tenant="acme", times=1)


def test_a_websocket_that_passes_a_hook_twice_leaves_one_event(
    events: Recorder, others: Recorder
) -> None:
    async def room(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    app: Any = Starlette(routes=[WebSocketRoute("/rooms/{room}", room)])
    for client in (events.client, events.client, others.client):
        app = Middleware(app, client, **QUIET)
    asyncio.run(connect(app, "/rooms/7"))
    for one in (events, others):
        assert "/rooms/{room}" == one.captured[0].properties["name"]
        assert (1, 0) == (len(one.captured), len(one.audited))


async def connect(app: Any, path: str) -> None:
    """A client that connects, and hears what it is sent."""
    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
    said = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return said.pop() if said else {"type": "websocket.disconnect"}

    async def send(message: Any) -> None:
        return None

    await app(scope, receive, send)


@settings(max_examples=30)
@given(layers=st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=6))
def test_however_many_layers_there_are_each_client_tells_once(
    layers: list[tuple[str, bool]],
) -> None:
    """Layers of two clients in any order, of ASGI, some with an application of WSGI at the end."""
    with ExitStack() as stack:
        recorders = {name: stack.enter_context(Recorder()) for name in "ab"}

        def hello(environ: Any, start_response: Any) -> list[bytes]:
            contexts.set_distinct_id("user_42")
            environ["indelible.route"] = "/hello"
            start_response("200 OK", [])
            return [b"hello"]

        wsgi: Any = hello
        for name, is_wsgi in layers:
            if is_wsgi:
                wsgi = WsgiMiddleware(wsgi, recorders[name].client, **QUIET)
        app: Any = adapted(wsgi)
        for name, is_wsgi in layers:
            if not is_wsgi:
                app = Middleware(app, recorders[name].client, **QUIET)

        async def visit() -> None:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as near:
                assert "hello" == (await near.get("/hello")).text

        asyncio.run(visit())
        for name, recorder in recorders.items():
            told = [(one.person, one.properties["status"]) for one in recorder.captured]
            expected = [("user_42", 200)] if name in {layer for layer, _ in layers} else []
            assert expected == told
