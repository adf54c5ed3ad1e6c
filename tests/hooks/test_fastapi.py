"""FastAPI: the contract, and the routers that it includes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel

import indelible
from indelible.client import Indelible
from indelible.hooks.asgi import Middleware
from indelible.testing import Recorder
from tests.hooks.contract import WebHook, the_audit, the_request, what
from tests.hooks.serving import browsing, served
from tests.hooks.shop import Shop


class Order(BaseModel):
    quantity: int


def wired(shop: Shop) -> FastAPI:
    """The contract's routes; those of /shop in a router that is included."""
    app = FastAPI(default_response_class=PlainTextResponse)
    router = APIRouter()

    @app.get("/items/{item_id}")
    @router.get("/items/{item_id}")
    async def item(item_id: str) -> str:
        return shop.item(item_id)

    app.include_router(router, prefix="/shop")

    @app.get("/hello")
    @app.get("/health")
    @app.get("/health/deep")
    @app.get("/healthzone")
    async def hello() -> str:
        return shop.hello()

    @app.post("/orders")
    def orders(order: Order) -> str:
        return f"{order.quantity} ordered"

    @app.get("/moved")
    def moved() -> RedirectResponse:
        return RedirectResponse("/hello", 302)

    @app.get("/raises")
    def raises() -> str:
        return shop.raises()

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(shop.chunks())

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        return StreamingResponse(shop.aendless())

    @app.get("/later")
    def later(tasks: BackgroundTasks) -> str:
        tasks.add_task(shop.later)
        return shop.hello()

    @app.get("/me/{name}")
    def me(name: str) -> str:
        return shop.me(name)

    @app.get("/ame/{name}")
    async def ame(name: str) -> str:
        return await shop.ame(name)

    @app.get("/whoami")
    def whoami() -> str:
        return shop.whoami()

    @app.get("/named")
    def named() -> str:
        return shop.named()

    @app.get("/ignored")
    def ignored() -> str:
        return shop.ignored()

    return app


class TestFastAPI(WebHook):
    framework = "fastapi"
    invalid_status = 422

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = wired(Shop(client))
        app.add_middleware(Middleware, client=client, **recording)
        with served(app) as url:
            yield url


def nested() -> FastAPI:
    """Routers within routers, and applications below them, each with a parameter of its own."""

    async def leaf() -> str:
        return "leaf"

    inner = APIRouter()
    inner.add_api_route("/leaf/{leaf_id}", leaf)
    outer = APIRouter(prefix="/outer/{outer_id}")
    outer.include_router(inner, prefix="/inner")
    below = FastAPI()
    below.add_api_route("/leaf/{leaf_id}", leaf)
    below.include_router(inner, prefix="/v1")
    app = FastAPI()
    app.include_router(outer, prefix="/v2")
    app.mount("/tenants/{tenant}", below)
    mounting = APIRouter()
    mounting.mount("/deep/{deep_id}", below)
    app.include_router(mounting, prefix="/v3")
    return app


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/outer/7/inner/leaf/8", "/v2/outer/{outer_id}/inner/leaf/{leaf_id}"),
        ("/tenants/7/leaf/8", "/tenants/{tenant}/leaf/{leaf_id}"),
        ("/tenants/7/v1/leaf/8", "/tenants/{tenant}/v1/leaf/{leaf_id}"),
        ("/v3/deep/7/leaf/8", "/v3/deep/{deep_id}/leaf/{leaf_id}"),
    ],
)
def test_a_template_has_every_prefix_on_the_way(events: Recorder, path: str, route: str) -> None:
    app = nested()
    app.add_middleware(Middleware, client=events.client, install_signal_handlers=False)
    with browsing(app) as browser:
        assert 200 == browser.get(path).status_code
        assert ("GET", route, 200) == what(the_request(events))


def test_a_wrong_method_below_an_included_router_has_its_template(events: Recorder) -> None:
    app = nested()
    app.add_middleware(Middleware, client=events.client, install_signal_handlers=False)
    with browsing(app) as browser:
        browser.put("/v2/outer/7/inner/leaf/8")
        route = "/v2/outer/{outer_id}/inner/leaf/{leaf_id}"
        assert ("PUT", route, 405) == what(the_request(events))


def by_dependency(app: FastAPI) -> None:
    def sign_in() -> None:  # on a thread, in a copy of the request's context
        indelible.set_distinct_id("user_42")

    app.router.dependencies.append(Depends(sign_in))


def by_asynchronous_dependency(app: FastAPI) -> None:
    async def sign_in() -> AsyncIterator[None]:
        yield
        indelible.set_distinct_id("user_42")  # as late as can be: the answer is made

    app.router.dependencies.append(Depends(sign_in))


def by_middleware(app: FastAPI) -> None:
    @app.middleware("http")  # runs what is inside in a task of its own
    async def sign_in(request: Request, call_next: Any) -> Any:
        indelible.set_distinct_id("user_42")
        return await call_next(request)


def by_task(app: FastAPI) -> None:
    def sign_in(tasks: BackgroundTasks) -> None:
        tasks.add_task(indelible.set_distinct_id, "user_42")

    app.router.dependencies.append(Depends(sign_in))


@pytest.mark.parametrize(
    "sign_in", [by_dependency, by_asynchronous_dependency, by_middleware, by_task]
)
def test_the_person_is_seen_whichever_layer_finds_out(events: Recorder, sign_in: Any) -> None:
    app = FastAPI()
    sign_in(app)
    app.post("/orders")(lambda: "ordered")
    app.add_middleware(Middleware, client=events.client, install_signal_handlers=False)
    with browsing(app) as browser:
        browser.post("/orders")
        assert "user_42" == the_request(events).person
        assert "user_42" == the_audit(events, "http.POST./orders").payload["actor"]
    events.assert_nothing_captured("$identify")
