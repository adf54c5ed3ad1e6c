"""Starlette: the contract, and its own manners with mounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from indelible.client import Indelible
from indelible.hooks.asgi import Middleware
from indelible.testing import Recorder
from tests.hooks.contract import WebHook, requests, the_audit, the_request, what
from tests.hooks.serving import browsing, served
from tests.hooks.shop import Shop


def wired(shop: Shop) -> Starlette:
    """The contract's routes."""

    def said(text: str) -> Response:
        return PlainTextResponse(text)

    async def hello(request: Request) -> Response:
        return said(shop.hello())

    def item(request: Request) -> Response:
        return said(shop.item(request.path_params["item_id"]))

    async def orders(request: Request) -> Response:
        try:
            return said(shop.order(await request.body()))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    async def later(request: Request) -> Response:
        return PlainTextResponse(shop.hello(), background=BackgroundTask(shop.later))

    async def ame(request: Request) -> Response:
        return said(await shop.ame(request.path_params["name"]))

    routes = [
        Route("/hello", hello),
        Route("/items/{item_id}", item),
        Mount("/shop", routes=[Route("/items/{item_id}", item)]),
        Route("/orders", orders, methods=["POST"]),
        Route("/moved", lambda _: RedirectResponse("/hello", 302)),
        Route("/raises", lambda _: said(shop.raises())),
        Route("/stream", lambda _: StreamingResponse(shop.achunks())),
        Route("/endless", lambda _: StreamingResponse(shop.aendless())),
        Route("/later", later),
        Route("/me/{name}", lambda request: said(shop.me(request.path_params["name"]))),
        Route("/ame/{name}", ame),
        Route("/whoami", lambda _: said(shop.whoami())),
        Route("/named", lambda _: said(shop.named())),
        Route("/ignored", lambda _: said(shop.ignored())),
        *(Route(path, hello) for path in ("/health", "/health/deep", "/healthzone")),
    ]
    return Starlette(routes=routes)


class TestStarlette(WebHook):
    framework = "starlette"

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = wired(Shop(client))
        app.add_middleware(Middleware, client=client, **recording)
        with served(app) as url:
            yield url


class TestFromOutside(TestStarlette):
    """The same around the whole application, where its own error handler is inside."""

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        with served(Middleware(wired(Shop(client)), client, **recording)) as url:
            yield url


class TestBeforeOnePointZero(TestStarlette):
    """Starlette before 1.0 leaves no route in the scope, only the endpoint."""

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = wired(Shop(client))

        async def without_route(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                scope.pop("route", None)

        with served(Middleware(without_route, client, **recording)) as url:
            yield url


def mounted(tmp_path: Path) -> Starlette:
    """Mounts in mounts, with parameters, the same application twice, and files."""

    async def leaf(request: Request) -> Response:
        return PlainTextResponse("leaf")

    (tmp_path / "logo.txt").write_text("logo")
    inner = Starlette(routes=[Route("/leaf/{leaf_id:int}", leaf)])
    shop = [Mount("/aisles/{aisle}", app=inner), Route("/leaf", leaf)]
    return Starlette(
        routes=[
            Mount("/shops/{shop}", routes=shop),
            Mount("/old/{old_shop}", routes=shop),
            Mount("/files", app=StaticFiles(directory=tmp_path)),
            Host("api.localhost", app=Router([Mount("/v{version}", routes=shop)])),
        ]
    )


@pytest.mark.parametrize(
    ("path", "route", "status"),
    [
        ("/shops/1/leaf", "/shops/{shop}/leaf", 200),
        ("/shops/aisles/leaf", "/shops/{shop}/leaf", 200),
        ("/shops/1/aisles/1/leaf/1", "/shops/{shop}/aisles/{aisle}/leaf/{leaf_id:int}", 200),
        ("/old/1/aisles/1/leaf/1", "/old/{old_shop}/aisles/{aisle}/leaf/{leaf_id:int}", 200),
        ("/shops/1/aisles/1/none", "<unmatched>", 404),
        ("/files/logo.txt", "/files/{path}", 200),
        ("/files/none.txt", "/files/{path}", 404),
        ("/v2/leaf", "/v{version}/leaf", 200),
    ],
)
def test_a_mounts_parameters_are_named_and_never_shown(
    events: Recorder, tmp_path: Path, path: str, route: str, status: int
) -> None:
    app = Middleware(mounted(tmp_path), events.client, install_signal_handlers=False)
    with browsing(app) as browser:
        host = {"Host": "api.localhost"} if path.startswith("/v2") else {}
        assert status == browser.get(path, headers=host).status_code
        assert ("GET", route, status) == what(the_request(events))


def test_the_prefix_of_a_proxy_is_in_front_of_the_template(events: Recorder) -> None:
    app = Middleware(wired(Shop(events.client)), events.client, install_signal_handlers=False)
    with browsing(app, root_path="/behind") as browser:
        browser.get("/health")  # as /behind/health
        browser.get("/shop/items/7")
        assert ("GET", "/behind/shop/items/{item_id}", 200) == what(the_request(events))


class User(BaseUser):
    """One who is signed in, under a name; whether there is an id is another matter."""

    is_authenticated = True

    def __init__(self, display_name: str) -> None:
        self._name = display_name

    @property
    def display_name(self) -> str:
        return self._name


class UserWithId(User):
    identity = "42"


class Backend(AuthenticationBackend):
    """Lets in whoever says a name; "ann" has an id."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("X-Name")
        if name is None:
            return None
        return AuthCredentials(), UserWithId(name) if name == "ann" else User(name)


@pytest.mark.parametrize("is_outside", [False, True])
def test_the_authenticated_user_is_the_requests_by_identity_and_not_by_name(
    events: Recorder, is_outside: bool
) -> None:
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"))])
    layers: list[Any] = [
        lambda: app.add_middleware(Middleware, client=events.client, install_signal_handlers=False),
        lambda: app.add_middleware(AuthenticationMiddleware, backend=Backend()),
    ]
    for add in layers if is_outside else reversed(layers):
        add()
    with browsing(app) as browser:
        for name in ("ann", "bob", None):
            browser.get("/", headers={} if name is None else {"X-Name": name})
        assert ["42", None, None] == [one.person for one in requests(events, 3)]
    assert "bob" not in repr([one.body for one in events.captured])


def test_an_event_can_be_named_in_the_state_of_the_request(events: Recorder) -> None:
    async def named(request: Request) -> Response:
        request.state._state["imtbl.eventName"] = "order.created"
        return PlainTextResponse("named")

    app = Starlette(routes=[Route("/", named)])
    app.add_middleware(Middleware, client=events.client, install_signal_handlers=False)
    with browsing(app) as browser:
        browser.get("/")
        the_audit(events, "order.created")
