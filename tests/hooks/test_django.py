"""Django: the contract, over WSGI and over ASGI, and what is Django's own."""

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar
from wsgiref.util import setup_testing_defaults

import django
import httpx
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.test import override_settings
from django.urls import include, path, re_path
from django.utils.functional import SimpleLazyObject

import indelible
from indelible.client import Indelible
from indelible.client import context as contexts
from indelible.testing import Recorder
from tests.hooks import serving, wsgi_serving
from tests.hooks.contract import WebHook, requests, the_audit, the_request, until, what
from tests.hooks.shop import Shop
from tests.world import plain_client

HOOK = "indelible.hooks.django.Middleware"

if not settings.configured:
    settings.configure(
        SECRET_KEY="tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=(),
        LOGGING_CONFIG=None,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        USE_TZ=True,
    )
    django.setup()


def urls(shop: Shop, *, is_async: bool) -> tuple[Any, ...]:
    """The contract's routes, as a URL configuration of its own."""

    def answered(view: Callable[..., str]) -> Callable[..., HttpResponseBase]:
        def answer(request: HttpRequest, **values: str) -> HttpResponseBase:
            return HttpResponse(view(**values))

        return answer

    def hello(request: HttpRequest) -> HttpResponseBase:
        if request.method == "PUT":
            return HttpResponseNotAllowed(["GET"])
        return HttpResponse(shop.hello())

    def order(request: HttpRequest) -> HttpResponseBase:
        try:
            return HttpResponse(shop.order(request.body))
        except ValueError:
            return HttpResponseBadRequest()

    async def ame(request: HttpRequest, name: str) -> HttpResponseBase:
        return HttpResponse(await shop.ame(name))

    def stream(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(shop.achunks() if is_async else shop.chunks())

    def endless(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(shop.aendless() if is_async else shop.endless())

    item = path("items/<item_id>", answered(shop.item))
    return (
        *(path(name, hello) for name in ("hello", "health", "health/deep", "healthzone")),
        item,
        path("shop/", include([item])),
        path("orders", order),
        path("moved", lambda request: HttpResponseRedirect("/hello")),
        path("raises", answered(shop.raises)),
        path("stream", stream),
        path("endless", endless),
        path("me/<name>", answered(shop.me)),
        path("ame/<name>", ame),
        path("whoami", answered(shop.whoami)),
        path("named", answered(shop.named)),
        path("ignored", answered(shop.ignored)),
    )


def served(*, is_async: bool) -> AbstractContextManager[str]:
    """The site that the settings describe, behind a server of either kind."""
    if is_async:
        return serving.served(ASGIHandler(), lifespan="off")
    return wsgi_serving.served(WSGIHandler())


class _Django(WebHook):
    framework = "django"
    item = "/items/<item_id>"
    shop_item = "/shop/items/<item_id>"
    background = None
    is_async: ClassVar[bool]

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        own = override_settings(
            ROOT_URLCONF=urls(Shop(client), is_async=self.is_async),
            MIDDLEWARE=[HOOK],
            INDELIBLE={"client": client, **recording},
        )
        try:
            with own, served(is_async=self.is_async) as url:
                yield url
        finally:
            if client is None:  # the default one was made
                indelible.configure(enabled=False)


class TestDjangoOverWsgi(_Django):
    is_async = False


class TestDjangoOverAsgi(_Django):
    is_async = True


either_server = pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])


@contextmanager
def visiting(
    events: Recorder, *patterns: Any, is_async: bool, middleware: Any = (HOOK,), **members: Any
) -> Iterator[httpx.Client]:
    """A browser on a site of these URLs; `members` are those of `INDELIBLE`."""
    members = {"client": events.client, "install_signal_handlers": False, **members}
    own = override_settings(ROOT_URLCONF=patterns, MIDDLEWARE=middleware, INDELIBLE=members)
    with (
        own,
        served(is_async=is_async) as url,
        plain_client(url) as browser,
    ):
        yield browser


def fine(request: HttpRequest, **_: str) -> HttpResponseBase:
    return HttpResponse("fine")


@either_server
def test_a_404_that_a_view_answers_keeps_its_route_and_is_no_exception(
    events: Recorder, is_async: bool
) -> None:
    def view(request: HttpRequest, pk: int) -> HttpResponseBase:
        raise Http404

    with visiting(events, path("items/<int:pk>", view), is_async=is_async) as browser:
        assert 404 == browser.get("/items/7").status_code
    seen = the_request(events)
    assert ("GET", "/items/<int:pk>", 404) == what(seen)
    assert "error_type" not in seen.properties


@either_server
def test_a_regular_expression_is_named_without_its_anchors(
    events: Recorder, is_async: bool
) -> None:
    years = re_path("^(?P<year>[0-9]{4})/$", fine)
    patterns = [re_path("^archive/", include([years]))]
    with visiting(events, *patterns, is_async=is_async) as browser:
        assert 200 == browser.get("/archive/2024/").status_code
    assert ("GET", "/archive/(?P<year>[0-9]{4})/", 200) == what(the_request(events))


def test_the_route_begins_with_the_name_of_the_script(events: Recorder) -> None:
    with (
        override_settings(FORCE_SCRIPT_NAME="/site"),
        visiting(events, path("items/<int:pk>", fine), is_async=False) as browser,
    ):
        browser.get("/items/7")
    assert ("GET", "/site/items/<int:pk>", 200) == what(the_request(events))


@either_server
def test_a_view_names_its_event_by_the_request(events: Recorder, is_async: bool) -> None:
    def view(request: HttpRequest) -> HttpResponseBase:
        request.imtbl_event_name = "order.created"
        return HttpResponse()

    with visiting(events, path("orders", view), is_async=is_async) as browser:
        browser.get("/orders")
    assert "success" == the_audit(events, "order.created").meta["type"]


def failing(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """A middleware that only knows the synchronous way, and fails."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        get_response(request)
        raise LookupError

    return middleware


def signed_in(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Says who the user is, as Django's own middleware does: both ways, and only when asked."""
    from django.contrib.auth.models import AnonymousUser, User

    def middleware(request: HttpRequest) -> HttpResponseBase:
        name = request.headers.get("X-Test-User")
        user = User(pk=int(name)) if name else AnonymousUser()

        async def auser() -> Any:
            return user

        request.user, request.auser = user, auser
        response: HttpResponseBase = get_response(request)
        return response

    return middleware


@either_server
def test_an_error_in_another_middleware_is_reported_with_its_type(
    events: Recorder, is_async: bool
) -> None:
    chain = [HOOK, f"{__name__}.failing"]
    with visiting(events, path("hello", fine), is_async=is_async, middleware=chain) as browser:
        assert 500 == browser.get("/hello").status_code
    seen = the_request(events)
    assert ("GET", "/hello", 500) == what(seen)
    assert "LookupError" == seen.properties["error_type"]


@either_server
@pytest.mark.parametrize("asked", [False, True])
def test_events_of_a_view_belong_to_the_signed_in_user_only_if_asked_for(
    events: Recorder, is_async: bool, asked: bool
) -> None:
    def view(request: HttpRequest) -> HttpResponseBase:
        events.client.capture("viewed")
        return HttpResponse()

    with visiting(
        events,
        path("view", view),
        is_async=is_async,
        middleware=[HOOK, f"{__name__}.signed_in"],
        identify_user=asked,
    ) as browser:
        browser.get("/view", headers={"X-Test-User": "42"})
        assert asked == (events.assert_captured("viewed", times=1).distinct_id == "42")
        browser.get("/view")
    assert [asked, False] == [one.distinct_id == "42" for one in requests(events, 2)]


@either_server
def test_a_request_belongs_to_the_user_whom_somebody_has_found_out(
    events: Recorder, is_async: bool
) -> None:
    """The view itself, as a framework for APIs does; nobody is asked for who was not looked for."""

    def token(request: HttpRequest) -> HttpResponseBase:
        request.user = get_user_model()(pk=43)
        return HttpResponse()

    def nobody_looks(request: HttpRequest) -> HttpResponseBase:
        request.user = SimpleLazyObject(lambda: pytest.fail("asks the database"))
        return HttpResponse()

    def anonymous(request: HttpRequest) -> HttpResponseBase:
        from django.contrib.auth.models import AnonymousUser  # once Django is set up

        request.user = AnonymousUser()
        return HttpResponse()

    views = {"token": token, "nobody": nobody_looks, "anonymous": anonymous}
    patterns = [path(name, view) for name, view in views.items()]
    with visiting(events, *patterns, is_async=is_async) as browser:
        for name in views:
            assert 200 == browser.get(f"/{name}").status_code
        seen = {one.properties["route"]: one.person for one in requests(events, 3)}
    assert {"/token": "43", "/nobody": None, "/anonymous": None} == seen


@either_server
def test_a_file_is_sent_whole_and_closed(events: Recorder, is_async: bool) -> None:
    opened = []

    def view(request: HttpRequest) -> HttpResponseBase:
        opened.append(open(__file__, "rb"))  # noqa: SIM115, PTH123 — Django closes it
        return FileResponse(opened[0])

    # Over ASGI Django reads a file at once and warns of it; nothing of ours is in that.
    warning = pytest.warns(Warning, match="asynchronous iterator") if is_async else _nothing()
    with warning, visiting(events, path("file", view), is_async=is_async) as browser:
        size = len(browser.get("/file").content)
        seen = the_request(events).properties
    assert (200, size) == (seen["status"], seen["response_bytes"])
    assert "aborted" not in seen
    assert opened[0].closed


def test_a_server_that_forgets_to_close_the_answer_costs_no_event(events: Recorder) -> None:
    """Werkzeug's own, which many develop on, when the client reset the connection."""
    has_left = threading.Event()

    def parts() -> Iterator[bytes]:
        yield b"all of it"
        has_left.wait(60)

    patterns = (path("stream", lambda request: StreamingHttpResponse(parts())),)
    members = {"client": events.client, "install_signal_handlers": False}
    with override_settings(ROOT_URLCONF=patterns, MIDDLEWARE=[HOOK], INDELIBLE=members):
        wsgi_serving.read_and_reset(WSGIHandler(), "/stream", b"all of it", has_left)
    assert ("GET", "/stream", 200) == what(the_request(events))


def test_a_server_still_sends_a_file_by_itself(events: Recorder) -> None:
    members = {"client": events.client, "install_signal_handlers": False}
    patterns = (path("", lambda request: FileResponse(open(__file__, "rb"))),)  # noqa: SIM115, PTH123
    with override_settings(ROOT_URLCONF=patterns, MIDDLEWARE=[HOOK], INDELIBLE=members):
        server = wsgi_serving.FileHandler()
        server.answered(WSGIHandler())
    assert server.sent_file is not None
    assert ("GET", "/", 200) == what(the_request(events))


def test_between_two_parts_the_thread_belongs_to_nobody(events: Recorder) -> None:
    members = {"client": events.client, "install_signal_handlers": False}
    shop = Shop(events.client)
    patterns = (path("", lambda request: StreamingHttpResponse(shop.chunks())),)
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    with override_settings(ROOT_URLCONF=patterns, MIDDLEWARE=[HOOK], INDELIBLE=members):
        body = WSGIHandler()(environ, lambda *_: None)
        assert contexts.current() is None
        for _ in body:
            assert contexts.current() is None
        body.close()
    assert "streamer" == the_request(events).distinct_id


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@either_server
def test_a_stream_that_fails_halfway_was_a_200_with_an_error(
    events: Recorder, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # Over ASGI Django leaves the request's body open then: nobody may keep it, as a record of
    # the log would, so that it is collected while its warning is ignored.
    caplog.set_level(logging.CRITICAL + 1, "uvicorn.error")

    def halves() -> Iterator[bytes]:
        yield b"half"
        raise LookupError

    async def async_halves() -> Any:
        yield b"half"
        raise LookupError

    def view(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(async_halves() if is_async else halves())

    with visiting(events, path("half", view), is_async=is_async) as browser:
        try:
            browser.get("/half")
        except httpx.RemoteProtocolError:
            assert is_async
        seen = the_request(events).properties
    gc.collect()
    assert (200, "LookupError", 4) == (
        seen["status"],
        seen["error_type"],
        seen["response_bytes"],
    )


def test_immutablelogs_settings_are_enough(events: Recorder) -> None:
    """They make the default client, so that what a view sends is of the same."""

    def view(request: HttpRequest) -> HttpResponseBase:
        indelible.audit.send_async("order.created", {"order_id": "ord_1"})
        return HttpResponse()

    own = override_settings(
        ROOT_URLCONF=(path("orders", view),),
        MIDDLEWARE=[HOOK],
        IMTBL_API_KEY=events.server.api_key,
        IMTBL_URL=events.server.url,
        IMTBL_SERVICE_NAME="shop",
        IMTBL_ENV="test",
        IMTBL_HEADERS={"X-Tenant": "7"},
        INDELIBLE={
            "install_signal_handlers": False,
            "spool_audit": False,
            "audit_methods": ["GET"],
        },
    )
    try:
        with own, served(is_async=False) as url, plain_client(url) as browser:
            browser.get("/orders")
            first = indelible.default_client()
            WSGIHandler()  # loads the middleware again, with the same settings
            assert first is indelible.default_client()
        until(lambda: indelible.flush(5) and len(events.audited) == 2)
        for name in ("order.created", "http.GET./orders"):
            sent = the_audit(events, name)
            assert ("shop", "test") == (sent.meta["service"], sent.meta["env"])
            assert "7" == sent.headers["x-tenant"]
    finally:
        indelible.configure(enabled=False)


def test_a_setting_that_does_not_exist_is_refused_at_once() -> None:
    own = override_settings(MIDDLEWARE=[HOOK], INDELIBLE={"colour": "red"})
    with own, pytest.raises(TypeError, match="colour"):
        WSGIHandler()
