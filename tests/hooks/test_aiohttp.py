"""aiohttp's server: the contract, files, and websockets."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from indelible.client import Indelible
from indelible.hooks.aiohttp import install
from indelible.testing import Received, Recorder
from tests.hooks.contract import UNMATCHED, WebHook, the_request, until, what
from tests.hooks.shop import Shop
from tests.world import plain_client


@contextmanager
def served(app: web.Application) -> Iterator[str]:
    """Serve `app` on a free loopback port, on a thread; yields the address."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever, name="site")
    thread.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def wired(shop: Shop) -> web.Application:
    """The contract's routes; those of /shop in a sub-application."""
    tasks = set()

    def said(text: str) -> web.Response:
        return web.Response(text=text)

    async def hello(request: web.Request) -> web.Response:
        return said(shop.hello())

    async def item(request: web.Request) -> web.Response:
        return said(shop.item(request.match_info["item_id"]))

    async def orders(request: web.Request) -> web.Response:
        try:
            return said(shop.order(await request.read()))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/hello")

    async def raises(request: web.Request) -> web.Response:
        return said(shop.raises())

    async def streamed(request: web.Request, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
        return response

    async def stream(request: web.Request) -> web.StreamResponse:
        return await streamed(request, shop.achunks())

    async def endless(request: web.Request) -> web.StreamResponse:
        return await streamed(request, shop.aendless())

    async def later(request: web.Request) -> web.Response:
        tasks.add(asyncio.create_task(asyncio.to_thread(shop.later)))
        return said(shop.hello())

    async def me(request: web.Request) -> web.Response:
        return said(await asyncio.to_thread(shop.me, request.match_info["name"]))

    async def ame(request: web.Request) -> web.Response:
        return said(await shop.ame(request.match_info["name"]))

    async def whoami(request: web.Request) -> web.Response:
        return said(shop.whoami())

    async def named(request: web.Request) -> web.Response:
        return said(shop.named())

    async def ignored(request: web.Request) -> web.Response:
        return said(shop.ignored())

    app, below = web.Application(), web.Application()
    below.router.add_get("/items/{item_id}", item)
    app.add_subapp("/shop", below)
    app.router.add_post("/orders", orders)
    for path, handler in {
        "/hello": hello,
        "/health": hello,
        "/health/deep": hello,
        "/healthzone": hello,
        "/items/{item_id}": item,
        "/moved": moved,
        "/raises": raises,
        "/stream": stream,
        "/endless": endless,
        "/later": later,
        "/me/{name}": me,
        "/ame/{name}": ame,
        "/whoami": whoami,
        "/named": named,
        "/ignored": ignored,
    }.items():
        app.router.add_get(path, handler)
    return app


class TestAiohttp(WebHook):
    framework = "aiohttp"
    not_allowed = UNMATCHED
    background = "beside"
    counts_bytes = False
    takes_any_method = False

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = wired(Shop(client))
        install(app, client, **recording)
        with served(app) as url:
            yield url


def test_a_body_that_aiohttp_draws_from_a_generator_is_in_the_duration(events: Recorder) -> None:
    shop = Shop(events.client)

    async def drawn(request: web.Request) -> web.Response:
        return web.Response(body=shop.achunks())

    app = web.Application()
    app.router.add_get("/drawn", drawn)
    install(app, events.client, install_signal_handlers=False)
    with served(app) as url, plain_client(url) as browser:
        assert b"chunk\n" * 3 == browser.get("/drawn").content
        seen = the_request(events)
    assert 150 <= seen.properties["duration_ms"]
    assert "streamer" == seen.distinct_id


def test_a_file_is_named_by_its_folder(events: Recorder, tmp_path: Path) -> None:
    (tmp_path / "logo.txt").write_text("logo")
    app = web.Application()
    app.router.add_static("/files", tmp_path)
    install(app, events.client, install_signal_handlers=False)
    with served(app) as url, plain_client(url) as browser:
        assert "logo" == browser.get("/files/logo.txt").text
        seen = the_request(events)
    assert ("GET", "/files", 200) == what(seen)
    assert 4 == seen.properties["response_bytes"]


def test_a_websocket_leaves_one_event_when_it_closed(events: Recorder) -> None:
    async def room(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        events.client.identify("alice")
        async for message in socket:
            if message.data == "break":
                raise RuntimeError("broken")
            await socket.send_str(message.data)
        return socket

    async def talk(url: str, *said: str) -> None:
        async with ClientSession() as session, session.ws_connect(url) as socket:
            for text in said:
                await socket.send_str(text)
                await socket.receive()
            await socket.close(code=4000)

    app = web.Application()
    app.router.add_get("/rooms/{room}", room)
    install(app, events.client, install_signal_handlers=False, audit_methods=None)
    with served(app) as url:
        asyncio.run(talk(f"{url}/rooms/7", "hello"))
        until(lambda: 1 == len(sessions(events)))
        asyncio.run(talk(f"{url}/rooms/7", "break"))
        until(lambda: 2 == len(sessions(events)))
    first, second = sessions(events)
    assert ("/rooms/{room}", "success", 4000) == tuple(
        first.properties[name] for name in ("name", "outcome", "close_code")
    )
    assert "alice" == first.distinct_id
    assert ("error", "RuntimeError") == (
        second.properties["outcome"],
        second.properties["error_type"],
    )
    events.assert_nothing_captured("http_request")
    until(lambda: 2 == len(events.audited))
    assert ["success", "error"] == [one.meta["type"] for one in events.audited]


def sessions(events: Recorder) -> list[Received]:
    return [one for one in events.captured if one.name == "websocket_session"]


def test_the_500_of_aiohttp_has_the_request_id(events: Recorder) -> None:
    app = wired(Shop(events.client))
    install(app, events.client, install_signal_handlers=False)
    with served(app) as url, plain_client(url) as browser:
        answer = browser.get("/raises", headers={"X-Request-ID": "req-1"})
    assert "req-1" == answer.headers["x-request-id"]
