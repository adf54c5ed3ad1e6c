"""Flask: the contract, and what is Flask's own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    g,
    redirect,
    request,
    send_file,
    stream_with_context,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from indelible.client import Indelible
from indelible.hooks.flask import IndelibleFlask
from indelible.testing import Recorder
from tests.hooks.contract import WebHook, requests, routes, the_audit, the_request, until, what
from tests.hooks.shop import Shop
from tests.hooks.wsgi_serving import FileHandler, read_and_reset, served
from tests.world import plain_client


def site(shop: Shop) -> Flask:
    app = Flask(__name__)
    group = Blueprint("shop", __name__, url_prefix="/shop")
    for path in ("/hello", "/health", "/health/deep", "/healthzone"):
        app.add_url_rule(path, path, shop.hello)
    app.add_url_rule("/items/<item_id>", view_func=shop.item)
    group.add_url_rule("/items/<item_id>", view_func=shop.item)
    for view in (shop.raises, shop.whoami, shop.named, shop.ignored):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    app.add_url_rule("/me/<name>", view_func=shop.me)
    app.add_url_rule("/ame/<name>", view_func=shop.ame)
    app.add_url_rule("/stream", "stream", lambda: Response(shop.chunks()))
    app.add_url_rule("/endless", "endless", lambda: Response(shop.endless()))
    app.add_url_rule("/moved", "moved", lambda: redirect("/hello"))

    @app.post("/orders")
    def order() -> str:
        try:
            return shop.order(request.get_data())
        except ValueError:
            abort(400)

    app.register_blueprint(group)
    return app


class TestFlask(WebHook):
    framework = "flask"
    item = "/items/<item_id>"
    shop_item = "/shop/items/<item_id>"
    not_allowed = "<unmatched>"
    background = None

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        app = site(Shop(client))
        IndelibleFlask(app, client, **recording)
        with served(app) as url:
            yield url


@contextmanager
def visiting(app: Any) -> Iterator[httpx.Client]:
    with served(app) as url, plain_client(url) as browser:
        yield browser


def hooked(events: Recorder, **recording: Any) -> Flask:
    app = Flask(__name__)
    IndelibleFlask(app, events.client, install_signal_handlers=False, **recording)
    return app


def test_a_factory_configures_it_by_the_applications_settings(events: Recorder) -> None:
    """The client is made of them, in ImmutableLog's names or ours."""
    indelible = IndelibleFlask(install_signal_handlers=False)
    app = Flask(__name__)
    app.add_url_rule("/orders", "order", lambda: "ordered", methods=["POST"])
    app.config["INDELIBLE"] = {
        "api_key": events.server.api_key,
        "api_url": events.server.url,
        "service_name": "shop",
        "env": "test",
        "spool_audit": False,
        "product": False,
    }
    indelible.init_app(app)
    indelible.init_app(app)
    with visiting(app) as browser:
        browser.post("/orders")
    assert indelible.client is not None
    indelible.client.shutdown(60)
    assert 1 == len(events.audited)
    meta = the_audit(events, "http.POST./orders").meta
    assert ("shop", "test") == (meta["service"], meta["env"])


def test_a_setting_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="colour"):
        IndelibleFlask(Flask(__name__), colour="red")  # type: ignore[call-arg]


def test_a_view_names_its_event_in_g_even_when_it_fails(events: Recorder) -> None:
    app = hooked(events)

    @app.get("/fine")
    def fine() -> str:
        g.imtbl_event_name = "order.created"
        return "fine"

    @app.get("/failing")
    def failing() -> str:
        g.imtbl_event_name = "order.refused"
        raise LookupError

    with visiting(app) as browser:
        browser.get("/fine")
        browser.get("/failing")
    assert "success" == the_audit(events, "order.created").meta["type"]
    assert "LookupError" == the_audit(events, "order.refused").meta["error_type"]


def test_an_error_that_a_handler_answers_is_no_failure(events: Recorder) -> None:
    app = hooked(events)
    app.add_url_rule("/gone", "gone", lambda: [].pop())
    app.register_error_handler(IndexError, lambda error: ("gone", 410))
    with visiting(app) as browser:
        assert "gone" == browser.get("/gone").text
    seen = the_request(events)
    assert ("GET", "/gone", 410) == what(seen)
    assert "error_type" not in seen.properties


def test_a_debugger_that_lets_errors_through_sees_them_and_so_do_we(events: Recorder) -> None:
    app = hooked(events)
    app.testing = True
    app.add_url_rule("/raises", "raises", Shop(events.client).raises)
    with pytest.raises(RuntimeError):
        app.test_client().get("/raises")
    seen = the_request(events)
    assert (500, "RuntimeError") == (seen.properties["status"], seen.properties["error_type"])


def test_the_route_of_a_nested_blueprint_below_a_mount_is_whole(events: Recorder) -> None:
    app = hooked(events)
    outer = Blueprint("outer", __name__, url_prefix="/v1")
    inner = Blueprint("inner", __name__, url_prefix="/shops/<shop>")
    inner.add_url_rule("/items/<int:item>", "item", lambda shop, item: f"{shop} {item}")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    with visiting(DispatcherMiddleware(Flask("other"), {"/api": app})) as browser:
        assert "corner 7" == browser.get("/api/v1/shops/corner/items/7").text
    assert ["/api/v1/shops/<shop>/items/<int:item>"] == routes(events, 1)


def test_a_stream_that_fails_halfway_was_a_200_with_an_error(events: Recorder) -> None:
    app = hooked(events)

    def halves() -> Iterator[str]:
        yield "half"
        raise LookupError

    app.add_url_rule("/half", "half", lambda: Response(stream_with_context(halves())))
    with visiting(app) as browser:
        assert "half" == browser.get("/half").text
    seen = the_request(events).properties
    assert (200, "LookupError", 4) == (
        seen["status"],
        seen["error_type"],
        seen["response_bytes"],
    )


def test_a_file_is_sent_whole_and_closed(events: Recorder) -> None:
    app = hooked(events)
    app.add_url_rule("/file", "file", lambda: send_file(__file__))
    with visiting(app) as browser:
        size = len(browser.get("/file").content)
    seen = the_request(events).properties
    assert (200, size) == (seen["status"], seen["response_bytes"])


def test_a_server_still_sends_a_file_by_itself(events: Recorder) -> None:
    app = hooked(events)
    app.add_url_rule("/", "file", lambda: send_file(__file__))
    server = FileHandler()
    server.answered(app)
    assert server.sent_file is not None
    assert ("GET", "/", 200) == what(the_request(events))


@pytest.mark.parametrize("raises", [False, True], ids=["at-the-end", "on-the-way"])
def test_a_server_that_forgets_to_close_the_body_costs_no_event(
    events: Recorder, raises: bool
) -> None:
    """Werkzeug's own, when the client reset the connection: it stumbles before it comes to that."""
    app = hooked(events)
    has_left = threading.Event()

    def page() -> Iterator[str]:
        yield "all of it"
        has_left.wait(60)
        if raises:
            raise LookupError

    app.register_error_handler(404, lambda _: Response(page(), 404))
    read_and_reset(app, "/nowhere", b"all of it", has_left)
    seen = the_request(events)
    assert 404 == seen.properties["status"]
    assert seen.properties.get("error_type") == ("LookupError" if raises else None)


def test_two_applications_keep_their_records_apart() -> None:
    with Recorder() as first, Recorder() as second:
        for one in (first, second):
            with visiting(hooked(one)) as browser:
                browser.get("/nowhere")
            until(lambda one=one: len(one.captured) == 1)  # type: ignore[misc]
        assert 1 == len(requests(first, 1)) == len(requests(second, 1))
