"""Bottle: the contract, and what is Bottle's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bottle

from indelible.client import Indelible
from indelible.hooks.bottle import IndelibleBottle
from indelible.testing import Recorder
from tests.hooks.contract import UNMATCHED, WebHook, requests, the_audit
from tests.hooks.shop import Shop
from tests.hooks.wsgi_serving import served
from tests.world import plain_client


def site(shop: Shop) -> bottle.Bottle:
    app = bottle.Bottle()
    for path in ("/hello", "/health", "/health/deep", "/healthzone"):
        app.route(path, callback=shop.hello)
    app.route("/items/<item_id>", callback=shop.item)
    for view in (shop.raises, shop.whoami, shop.named, shop.ignored):
        app.route(f"/{view.__name__}", callback=view)
    app.route("/me/<name>", callback=shop.me)
    app.route("/stream", callback=shop.chunks)
    app.route("/endless", callback=shop.endless)

    def moved() -> None:
        bottle.redirect("/hello", 302)

    def order() -> str:
        try:
            return shop.order(bottle.request.body.read())
        except ValueError:
            raise bottle.HTTPError(400) from None

    def answer_options() -> None:
        if bottle.request.method == "OPTIONS":
            raise bottle.HTTPResponse(status=204)

    app.route("/moved", callback=moved)
    app.post("/orders", callback=order)
    app.add_hook("before_request", answer_options)
    return app


class TestBottle(WebHook):
    framework = "bottle"
    item = "/items/<item_id>"
    shop_item = "/shop/items/<item_id>"
    not_allowed = "<unmatched>"
    background = None
    has_async = False

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        shop = Shop(client)
        app = site(shop)
        app.install(IndelibleBottle(client, **recording))
        mounted = bottle.Bottle()
        mounted.route("/items/<item_id>", callback=shop.item)
        app.mount("/shop/", mounted)
        with served(app) as url:
            yield url


def test_a_mount_as_plain_wsgi_names_routes_by_the_whole_template(events: Recorder) -> None:
    """So are those that Bottle mounts under a prefix without a slash at its end."""
    inner = bottle.Bottle()
    inner.route("/items/<item_id:int>", callback=lambda item_id: f"item {item_id}")
    app = bottle.Bottle()
    app.install(IndelibleBottle(events.client, install_signal_handlers=False))
    app.mount("/shop/", lambda environ, start: inner(environ, start))
    with served(app) as url, plain_client(url) as browser:
        assert "item 7" == browser.get("/shop/items/7").text
        assert 404 == browser.get("/shop/nowhere/7").status_code
        assert 404 == browser.get("/nowhere/7").status_code
    assert ["/shop/items/<item_id:int>", UNMATCHED, UNMATCHED] == [
        one.properties["route"] for one in requests(events, 3)
    ]


def test_what_is_no_bottle_is_named_by_its_mount(events: Recorder) -> None:
    def stranger(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["SCRIPT_NAME"].encode()]

    app = bottle.Bottle()
    app.install(IndelibleBottle(events.client, install_signal_handlers=False))
    app.mount("/old/", stranger)
    with served(app) as url, plain_client(url) as browser:
        assert "/old" == browser.get("/old/anything/7").text
    assert ["/old/<:re:.*>"] == [one.properties["route"] for one in requests(events, 1)]


def test_an_error_in_the_first_part_of_a_body_is_a_500(events: Recorder) -> None:
    def parts() -> Iterator[str]:
        raise LookupError
        yield ""

    app = bottle.Bottle()
    app.install(IndelibleBottle(events.client, install_signal_handlers=False))
    app.route("/parts", "POST", callback=parts)
    with served(app) as url, plain_client(url) as browser:
        assert 500 == browser.post("/parts").status_code
    assert "error" == the_audit(events, "http.POST./parts").meta["type"]


def test_a_client_is_made_of_the_settings(events: Recorder) -> None:
    plugin = IndelibleBottle(
        token=events.server.token, host=events.server.url, install_signal_handlers=False
    )
    assert plugin.client is not None
    app = bottle.Bottle()
    app.install(plugin)
    with served(app) as url, plain_client(url) as browser:
        browser.get("/nowhere")
    plugin.client.shutdown(60)
    assert 1 == len(events.captured)
