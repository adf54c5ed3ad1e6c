"""Litestar, from outside: the contract, and what it tells of its mounts and exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from litestar import Litestar, MediaType, Request, Router, asgi, get, post
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import ClientException
from litestar.params import FromPath
from litestar.response import Redirect, Response, Stream
from litestar.types import Receive, Scope, Send

from indelible.client import Indelible
from indelible.hooks.asgi import Middleware
from indelible.hooks.litestar import tell_error
from indelible.testing import Recorder
from tests.hooks.contract import UNMATCHED, WebHook, the_request, what
from tests.hooks.serving import browsing, served
from tests.hooks.shop import Shop


def wired(shop: Shop, **more: Any) -> Litestar:
    """The contract's routes; those of /shop in a router."""

    @get("/items/{item_id:str}", sync_to_thread=True, media_type=MediaType.TEXT)
    def item(item_id: FromPath[str]) -> str:
        return shop.item(item_id)

    @get(["/hello", "/health", "/health/deep", "/healthzone"], media_type=MediaType.TEXT)
    async def hello() -> str:
        return shop.hello()

    @post("/orders", media_type=MediaType.TEXT)
    async def orders(request: Request[Any, Any, Any]) -> str:
        try:
            return shop.order(await request.body())
        except ValueError as error:
            raise ClientException(str(error)) from error

    @get("/moved")
    async def moved() -> Redirect:
        return Redirect("/hello", status_code=302)

    @get("/raises", media_type=MediaType.TEXT)
    async def raises() -> str:
        return shop.raises()

    @get("/stream")
    async def stream() -> Stream:
        return Stream(shop.achunks())

    @get("/endless")
    async def endless() -> Stream:
        return Stream(shop.aendless())

    @get("/later", media_type=MediaType.TEXT)
    async def later() -> Response[str]:
        return Response(shop.hello(), background=BackgroundTask(shop.later))

    @get("/me/{name:str}", sync_to_thread=True, media_type=MediaType.TEXT)
    def me(name: FromPath[str]) -> str:
        return shop.me(name)

    @get("/ame/{name:str}", media_type=MediaType.TEXT)
    async def ame(name: FromPath[str]) -> str:
        return await shop.ame(name)

    @get("/whoami", sync_to_thread=True, media_type=MediaType.TEXT)
    def whoami() -> str:
        return shop.whoami()

    @get("/named", sync_to_thread=False, media_type=MediaType.TEXT)
    def named() -> str:
        return shop.named()

    @get("/ignored", sync_to_thread=False, media_type=MediaType.TEXT)
    def ignored() -> str:
        return shop.ignored()

    handlers = [hello, item, orders, moved, raises, stream, endless, later, me, ame, whoami]
    below = Router("/shop", route_handlers=[item])
    return Litestar([*handlers, named, ignored, below], openapi_config=None, **more)


class TestLitestar(WebHook):
    framework = "litestar"
    not_allowed = UNMATCHED

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = wired(Shop(client), after_exception=[tell_error])
        with served(Middleware(app, client, **recording)) as url:
            yield url


def test_without_its_hook_what_was_raised_is_a_plain_500(events: Recorder) -> None:
    app = Middleware(wired(Shop(events.client)), events.client, install_signal_handlers=False)
    with browsing(app) as browser:
        browser.get("/raises")
        seen = the_request(events)
        assert ("GET", "/raises", 500) == what(seen)
        assert "error_type" not in seen.properties


@pytest.mark.parametrize("path", ["/mounted", "/mounted/a/b"])
def test_an_application_mounted_below_it_is_named_by_its_mount(events: Recorder, path: str) -> None:
    @asgi("/mounted", is_mount=True, copy_scope=True)
    async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("foreign").to_asgi_response(None, Request(scope))(scope, receive, send)

    app = Middleware(
        Litestar([foreign], openapi_config=None), events.client, install_signal_handlers=False
    )
    with browsing(app) as browser:
        assert 200 == browser.get(path).status_code
        assert ("GET", "/mounted/{path}", 200) == what(the_request(events))
