"""Quart: the contract."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quart import Blueprint, Quart, Response, abort, redirect, request
from werkzeug import Response as BaseResponse

from indelible.client import Indelible
from indelible.hooks.quart import install
from tests.hooks.contract import UNMATCHED, WebHook
from tests.hooks.serving import served
from tests.hooks.shop import Shop


def wired(shop: Shop) -> Quart:
    """The contract's routes; those of /shop in a blueprint."""
    app = Quart(__name__)
    below = Blueprint("shop", __name__, url_prefix="/shop")

    @app.get("/items/<item_id>")
    @below.get("/items/<item_id>")
    async def item(item_id: str) -> str:
        return shop.item(item_id)

    @app.get("/hello")
    @app.get("/health")
    @app.get("/health/deep")
    @app.get("/healthzone")
    async def hello() -> str:
        return shop.hello()

    @app.post("/orders")
    async def orders() -> str:
        try:
            return shop.order(await request.get_data())
        except ValueError:
            abort(400)

    @app.get("/moved")
    async def moved() -> BaseResponse:
        return redirect("/hello")

    @app.get("/raises")
    async def raises() -> str:
        return shop.raises()

    @app.get("/stream")
    async def stream() -> Response:
        return Response(shop.achunks())

    @app.get("/endless")
    async def endless() -> Response:
        return Response(shop.aendless())

    @app.get("/later")
    async def later() -> str:
        app.add_background_task(shop.later)
        return shop.hello()

    @app.get("/me/<name>")
    def me(name: str) -> str:
        return shop.me(name)

    @app.get("/ame/<name>")
    async def ame(name: str) -> str:
        return await shop.ame(name)

    @app.get("/whoami")
    def whoami() -> str:
        return shop.whoami()

    @app.get("/named")
    async def named() -> str:
        return shop.named()

    @app.get("/ignored")
    def ignored() -> str:
        return shop.ignored()

    app.register_blueprint(below)
    return app


class TestQuart(WebHook):
    framework = "quart"
    item = "/items/<item_id>"
    shop_item = "/shop/items/<item_id>"
    background = "beside"
    not_allowed = UNMATCHED

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = wired(Shop(client))
        install(app, client, **recording)
        with served(app) as url:
            yield url
