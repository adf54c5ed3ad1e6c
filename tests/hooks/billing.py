"""One small application, written in nine frameworks as their manuals would: what is recorded of it.

A function for each returns a fresh application with the hook, and says how it is served:

    GET  /products/{id}             for everybody
    POST /pay                       raises, with a card number in its message
    GET  /healthz                   as a load balancer asks
    POST /billing/invoices/{id}     of an application that is mounted, with a hook of its own

A request with `Authorization: Bearer ann's` is user 42's, which the framework's own layer for it
finds out: a middleware, a dependency, a hook before the request, the view.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import bottle
import django.contrib.auth
from aiohttp import web
from aiohttp.typedefs import Handler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path
from fastapi import Depends, FastAPI, Header
from flask import Flask, request
from litestar import Litestar, asgi, get, post
from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.params import FromPath
from quart import Quart
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.middleware import Middleware as Layer
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import indelible
from indelible.client import Indelible
from indelible.hooks import aiohttp as aiohttp_hook
from indelible.hooks import quart as quart_hook
from indelible.hooks.asgi import Middleware
from indelible.hooks.bottle import IndelibleBottle
from indelible.hooks.flask import IndelibleFlask
from indelible.hooks.litestar import tell_error
from indelible.hooks.wsgi import ROUTE
from indelible.hooks.wsgi import Middleware as WsgiMiddleware
from tests.hooks import serving, test_aiohttp, test_django, wsgi_serving
from tests.hooks.shop import SECRET

TOKEN: Final = "Bearer ann's"
USER: Final = "42"
Site = AbstractContextManager[str]


@dataclass(frozen=True)
class Framework:
    """How it writes a parameter of a route, and whether its hook is told what was raised."""

    name: str
    served: Callable[[Indelible], Site]
    parameter: str = "{id}"

    def __str__(self) -> str:
        return self.name


def pay() -> str:
    raise RuntimeError(SECRET)


QUIET: Final[dict[str, Any]] = {"install_signal_handlers": False}


# Django: a middleware signs the user in after the hook's has begun; the views of `billing` are
# included, and the hook stands twice in the settings.


def token_authentication(get_response: Any) -> Any:
    def authenticated(http: HttpRequest) -> Any:
        if http.headers.get("Authorization") == TOKEN:
            http.user = django.contrib.auth.get_user_model()(pk=int(USER))
        return get_response(http)

    return authenticated


def django_site(client: Indelible) -> Site:
    billing = [path("invoices/<id>", lambda http, id: HttpResponse("paid"))]
    urls = (
        path("products/<id>", lambda http, id: HttpResponse("shoes")),
        path("pay", lambda http: HttpResponse(pay())),
        path("healthz", lambda http: HttpResponse("fine")),
        path("billing/", include(billing)),
    )
    own = override_settings(
        ROOT_URLCONF=urls,
        MIDDLEWARE=[test_django.HOOK, test_django.HOOK, f"{__name__}.token_authentication"],
        INDELIBLE={"client": client, **QUIET},
    )
    return _within(own, lambda: test_django.served(is_async=False))


class _within(AbstractContextManager[str]):  # noqa: N801 — reads as a word
    def __init__(self, around: Any, served: Callable[[], Site]) -> None:
        self._around = around
        self._served = served

    def __enter__(self) -> str:
        self._around.__enter__()
        self._site = self._served()
        return self._site.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._site.__exit__(*error)
        self._around.__exit__(*error)


def flask_site(client: Indelible) -> Site:
    app, billing = Flask("shop"), Flask("billing")

    def authenticate() -> None:
        if request.headers.get("Authorization") == TOKEN:
            indelible.set_distinct_id(USER)

    app.before_request(authenticate)
    billing.before_request(authenticate)
    app.add_url_rule("/products/<id>", "product", lambda id: "shoes")
    app.add_url_rule("/pay", "pay", pay, methods=["POST"])
    app.add_url_rule("/healthz", "health", lambda: "fine")
    billing.add_url_rule("/invoices/<id>", "invoice", lambda id: "paid", methods=["POST"])
    IndelibleFlask(billing, client, **QUIET)
    dispatcher: Any = DispatcherMiddleware(app.wsgi_app, {"/billing": billing})
    app.wsgi_app = dispatcher  # type: ignore[method-assign]
    IndelibleFlask(app, client, **QUIET)
    return wsgi_serving.served(app)


def fastapi_site(client: Indelible) -> Site:
    def authenticate(authorization: str = Header("")) -> None:  # on a thread of the pool
        if authorization == TOKEN:
            indelible.set_distinct_id(USER)

    app = FastAPI(dependencies=[Depends(authenticate)])
    billing = FastAPI(dependencies=[Depends(authenticate)])
    app.get("/products/{id}")(lambda id: "shoes")
    app.post("/pay")(pay)
    app.get("/healthz")(lambda: "fine")
    billing.post("/invoices/{id}")(lambda id: "paid")
    app.mount("/billing", billing)
    for one in (app, billing):
        one.add_middleware(Middleware, client=client, **QUIET)
    return serving.served(app)


class Ann(BaseUser):
    is_authenticated = True
    display_name = "Ann Example"
    identity = USER


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        is_ann = conn.headers.get("Authorization") == TOKEN
        return (AuthCredentials(["all"]), Ann()) if is_ann else None


def starlette_site(client: Indelible) -> Site:
    def answer(text: str) -> Callable[[Request], Awaitable[PlainTextResponse]]:
        async def answered(http: Request) -> PlainTextResponse:
            return PlainTextResponse(text)

        return answered

    async def payment(http: Request) -> PlainTextResponse:
        return PlainTextResponse(pay())

    hook = Layer(Middleware, client=client, **QUIET)
    invoice = Route("/invoices/{id}", answer("paid"), methods=["POST"])
    billing = Starlette(routes=[invoice], middleware=[hook])
    routes = [
        Route("/products/{id}", answer("shoes")),
        Route("/pay", payment, methods=["POST"]),
        Route("/healthz", answer("fine")),
        Mount("/billing", billing),
    ]
    authentication = Layer(AuthenticationMiddleware, backend=Backend())
    return serving.served(Starlette(routes=routes, middleware=[hook, authentication]))


class Authentication(AbstractAuthenticationMiddleware):
    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        is_ann = connection.headers.get("Authorization") == TOKEN
        return AuthenticationResult(user=Ann() if is_ann else None, auth=None)


def litestar_site(client: Indelible) -> Site:
    @get("/products/{id:str}", sync_to_thread=False)
    def product(id: FromPath[str]) -> str:
        return "shoes"

    @post("/pay", sync_to_thread=False)
    def payment() -> str:
        return pay()

    @get("/healthz", sync_to_thread=False)
    def health() -> str:
        return "fine"

    @post("/invoices/{id:str}", status_code=200, sync_to_thread=False)
    def invoice(id: FromPath[str]) -> str:
        return "paid"

    below: Any = Middleware(
        Litestar([invoice], openapi_config=None, middleware=[Authentication]), client, **QUIET
    )

    @asgi("/billing", is_mount=True, copy_scope=True)
    async def billing(scope: Any, receive: Any, send: Any) -> None:
        # Litestar hands over the rest of the path, and says nothing of what it took.
        fresh = {name: scope[name] for name in scope if name not in ("path_params", "litestar_app")}
        await below({**fresh, "root_path": "/billing"}, receive, send)

    app = Litestar(
        [product, payment, health, billing],
        openapi_config=None,
        middleware=[Authentication],
        after_exception=[tell_error],
    )
    return serving.served(Middleware(app, client, **QUIET))


def quart_site(client: Indelible) -> Site:
    app, billing = Quart("shop"), Quart("billing")

    async def authenticate() -> None:
        if quart_request.headers.get("Authorization") == TOKEN:
            indelible.set_distinct_id(USER)

    async def shoes(id: str) -> str:
        return "shoes"

    async def payment() -> str:
        return pay()

    async def fine() -> str:
        return "fine"

    async def paid(id: str) -> str:
        return "paid"

    app.before_request(authenticate)
    billing.before_request(authenticate)
    app.get("/products/<id>")(shoes)
    app.post("/pay")(payment)
    app.get("/healthz")(fine)
    billing.post("/invoices/<id>")(paid)
    quart_hook.install(billing, client, **QUIET)
    app.asgi_app = Dispatcher(app.asgi_app, billing)  # type: ignore[method-assign]
    quart_hook.install(app, client, **QUIET)
    return serving.served(app)


class Dispatcher:
    """Mounts one ASGI application at /billing, in another."""

    def __init__(self, app: Any, billing: Any) -> None:
        self._app = app
        self._billing = billing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path", "").startswith("/billing/"):
            await self._billing({**scope, "root_path": "/billing"}, receive, send)
        else:
            await self._app(scope, receive, send)


def aiohttp_site(client: Indelible) -> Site:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Authorization") == TOKEN:
            indelible.set_distinct_id(USER)
        return await handler(request)

    def answer(text: str) -> Any:
        async def answered(http: web.Request) -> web.Response:
            return web.Response(text=text)

        return answered

    async def payment(http: web.Request) -> web.Response:
        return web.Response(text=pay())

    app, billing = web.Application(middlewares=[authenticate]), web.Application()
    app.router.add_get("/products/{id}", answer("shoes"))
    app.router.add_post("/pay", payment)
    app.router.add_get("/healthz", answer("fine"))
    billing.router.add_post("/invoices/{id}", answer("paid"))
    for one in (app, billing):
        aiohttp_hook.install(one, client, **QUIET)
    app.add_subapp("/billing", billing)
    return test_aiohttp.served(app)


def bottle_site(client: Indelible) -> Site:
    app, billing = bottle.Bottle(), bottle.Bottle()

    def authenticate() -> None:
        if bottle.request.get_header("Authorization") == TOKEN:
            indelible.set_distinct_id(USER)

    app.add_hook("before_request", authenticate)
    app.get("/products/<id>", callback=lambda id: "shoes")
    app.post("/pay", callback=pay)
    app.get("/healthz", callback=lambda: "fine")
    billing.post("/invoices/<id>", callback=lambda id: "paid")
    for one in (app, billing):
        one.install(IndelibleBottle(client, **QUIET))
    app.mount("/billing/", billing)
    return wsgi_serving.served(app)


def wsgi_site(client: Indelible) -> Site:
    def billing(environ: Any, start_response: Any) -> Iterable[bytes]:
        authenticate(environ)
        environ[ROUTE] = "/billing/invoices/{id}"
        start_response("200 OK", [])
        return [b"paid"]

    def authenticate(environ: Any) -> None:
        if environ.get("HTTP_AUTHORIZATION") == TOKEN:
            indelible.set_distinct_id(USER)

    below = WsgiMiddleware(billing, client, **QUIET)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        authenticate(environ)
        found = environ["PATH_INFO"]
        if found.startswith("/billing/"):
            inner = {**environ, "SCRIPT_NAME": "/billing", "PATH_INFO": found[len("/billing") :]}
            body = below(inner, start_response)
            environ[ROUTE] = inner[ROUTE]
            return body
        if found.startswith("/products/"):
            environ[ROUTE] = "/products/{id}"
        elif found == "/pay":
            environ[ROUTE] = "/pay"
            pay()
        elif found != "/healthz":
            start_response("404 Not Found", [])
            return []
        start_response("200 OK", [])
        return [b"fine"]

    return wsgi_serving.served(WsgiMiddleware(app, client, **QUIET))


def asgi_site(client: Indelible) -> Site:
    async def billing(scope: Any, receive: Any, send: Any) -> None:
        scope["indelible.route"] = "/invoices/{id}"
        await answer(scope, send, 200)

    async def answer(scope: Any, send: Any, status: int) -> None:
        if dict(scope["headers"]).get(b"authorization") == TOKEN.encode():
            indelible.set_distinct_id(USER)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found = scope["path"]
        if found.startswith("/products/"):
            scope["indelible.route"] = "/products/{id}"
        elif found == "/pay":
            indelible.set_distinct_id(USER)
            scope["indelible.route"] = "/pay"
            pay()
        await answer(scope, send, 404 if "php" in found else 200)

    below = Middleware(billing, client, **QUIET)
    outermost = Middleware(Dispatcher(app, below), client, **QUIET)
    return serving.served(outermost, lifespan="off")


FRAMEWORKS: Final = (
    Framework("django", django_site, "<id>"),
    Framework("flask", flask_site, "<id>"),
    Framework("fastapi", fastapi_site),
    Framework("starlette", starlette_site),
    Framework("litestar", litestar_site),
    Framework("quart", quart_site, "<id>"),
    Framework("aiohttp", aiohttp_site),
    Framework("bottle", bottle_site, "<id>"),
    Framework("wsgi", wsgi_site),
    Framework("asgi", asgi_site),
)
