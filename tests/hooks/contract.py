"""What every hook into a web framework promises, as one class of tests.

A framework's module wires the routes of `Shop` in its own way, says how to serve them, and says
where its manners differ:

    class TestFlask(WebHook):
        framework = "flask"
        item = "/items/<item_id>"

        @contextmanager
        def site(self, client, **recording):    # an address that answers while inside
            app = Flask(__name__)
            ...
            with served(app) as url:
                yield url

The site is on a real socket. It has these routes, each from the method of `Shop` of that name; a
text is answered as the body, and whatever is no route is the framework's own 404:

    GET  /hello             hello()
    GET  /items/{item_id}   item(item_id)
    GET  /shop/items/{…}    item(item_id), of an application mounted, or a group of routes, at /shop
    POST /orders            order(body); ValueError is the framework's 400, or 422 by its own means
    GET  /moved             302, with Location: /hello
    GET  /raises            raises()
    GET  /stream            chunks() or achunks(), each chunk sent when it is there
    GET  /endless           endless() or aendless(): a body that ends when the client leaves
    GET  /later             hello(), and later() in the framework's background task
    GET  /me/{name}         me(name), a synchronous handler
    GET  /ame/{name}        ame(name), an asynchronous one
    GET  /whoami            whoami()
    GET  /named             named()
    GET  /ignored           ignored()
    GET  /health, /health/deep, /healthzone     hello()
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

import httpx
import pytest

from indelible.client import Indelible
from indelible.hooks.observer import WRITES
from indelible.testing import Received, Recorder
from tests.hooks.shop import CARD, CHUNK, CHUNK_S, LATER_S, SECRET, Shop
from tests.world import plain_client

UNMATCHED: Final = "<unmatched>"
WAIT_S: Final = 60.0


class Browser(httpx.HTTPTransport):
    """Asks again when the server closed the connection that was to be used again, as browsers do.

    Many servers close it after a 500, at the moment of the next request.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return super().handle_request(request)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            return super().handle_request(request)


class WebHook:
    """The contract. Subclass it under a name that begins with ``Test``.

    Attributes:
        framework: how `framework` of the events begins; its version follows.
        item: the route of /items/7 as this framework writes it.
        shop_item: that of /shop/items/7.
        not_allowed: that of PUT /hello, which no route takes.
        invalid_status: what it answers to a body that is not what it should be.
        sees_error: whether the hook is told what was raised, or only of the 500.
        background: where its background tasks run: as the end of the request, after its answer, or
            beside it; None where it has none.
        has_async: whether it has asynchronous handlers.
        marks_disconnect: whether its server tells that the client left.
        counts_bytes: whether the size of a body without Content-Length is known.
        takes_any_method: whether a method that nobody knows comes as far as the hook.
    """

    framework: ClassVar[str]
    item: ClassVar[str] = "/items/{item_id}"
    shop_item: ClassVar[str] = "/shop/items/{item_id}"
    not_allowed: ClassVar[str] = "/hello"
    invalid_status: ClassVar[int] = 400
    sees_error: ClassVar[bool] = True
    background: ClassVar[Literal["at the end", "beside"] | None] = "at the end"
    has_async: ClassVar[bool] = True
    marks_disconnect: ClassVar[bool] = True
    counts_bytes: ClassVar[bool] = True
    takes_any_method: ClassVar[bool] = True

    def site(self, client: Indelible, **recording: Any) -> AbstractContextManager[str]:
        """Serve the routes with the hook, given `client` and `recording`; yields the address."""
        raise NotImplementedError

    @contextmanager
    def visiting(self, client: Indelible, **recording: Any) -> Iterator[httpx.Client]:
        """A browser on a fresh site, of which every method is audited.

        No signal handler is left behind in the tests' process.
        """
        recording = {"install_signal_handlers": False, "audit_methods": None, **recording}
        with (
            self.site(client, **recording) as url,
            plain_client(url, transport=Browser(verify=False)) as browser,
        ):
            yield browser

    @pytest.fixture
    def browser(self, events: Recorder) -> Iterator[httpx.Client]:
        with self.visiting(events.client) as browser:
            yield browser

    # What is recorded.

    def test_a_request_leaves_a_product_event_and_an_audit_event(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert "hello" == browser.get("/hello?secret=1").text
        seen = the_request(events)
        assert ("GET", "/hello", 200) == what(seen)
        assert seen.properties["framework"].startswith(f"{self.framework} ")
        assert len("hello") == seen.properties["response_bytes"]
        assert 0 <= seen.properties["first_byte_ms"] <= seen.properties["duration_ms"] < 60_000
        assert "error_type" not in seen.properties
        assert "aborted" not in seen.properties
        audit = the_audit(events, "http.GET./hello")
        assert "success" == audit.meta["type"] == audit.payload["kind"]
        assert ("GET", "/hello", "200") == tuple(
            audit.meta[f"http_{name}"] for name in ("method", "route", "status")
        )
        assert "secret" not in json.dumps([seen.body, audit.body])

    def test_a_route_is_named_by_its_template(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert "item 77" == browser.get("/items/77").text
        seen = the_request(events)
        assert self.item == seen.properties["route"]
        the_audit(events, f"http.GET.{self.item}")

    def test_the_template_begins_with_the_mount(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert "item 7" == browser.get("/shop/items/7").text
        assert self.shop_item == the_request(events).properties["route"]

    @pytest.mark.parametrize("path", ["/nowhere/42", "/shop/nowhere/42"])
    def test_a_path_that_no_route_takes_is_never_a_name(
        self, browser: httpx.Client, events: Recorder, path: str
    ) -> None:
        assert 404 == browser.get(path).status_code
        seen = the_request(events)
        assert ("GET", UNMATCHED, 404) == what(seen)
        assert "error_type" not in seen.properties
        assert "nowhere" not in json.dumps(seen.body)

    def test_what_no_route_takes_leaves_no_audit_event(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        for method, path in (("GET", "/wp-login.php"), ("POST", "/shop/xmlrpc"), ("PUT", "/hello")):
            browser.request(method, path)
        requests(events, 3)
        events.assert_nothing_audited()

    def test_a_method_that_the_route_does_not_take_is_a_405(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert 405 == browser.put("/hello").status_code
        assert ("PUT", self.not_allowed, 405) == what(the_request(events))

    def test_only_what_writes_is_audited_unless_a_handler_names_it(self, events: Recorder) -> None:
        with self.visiting(events.client, audit_methods=WRITES) as browser:
            for path in ("/hello", "/raises", "/named"):
                browser.get(path)
            browser.post("/orders", json={"quantity": 1})
            requests(events, 4)
            the_audit(events, "http.POST./orders")
            the_audit(events, "order.created")
        assert 2 == len(events.audited)

    def test_a_method_that_nobody_knows_has_no_name_of_its_own(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        if not self.takes_any_method:
            pytest.skip("its server refuses it")
        browser.request("BREW", "/hello")
        assert "_OTHER" == the_request(events).properties["method"]

    def test_a_refused_body_is_an_answer_and_no_exception(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        body = '{"quantity": "many"}'
        answer = browser.post("/orders", content=body, headers={"Content-Type": "application/json"})
        assert self.invalid_status == answer.status_code
        seen = the_request(events)
        assert ("POST", "/orders", self.invalid_status) == what(seen)
        assert len(body) == seen.properties["request_bytes"]
        assert "error_type" not in seen.properties
        assert "error" == the_audit(events, "http.POST./orders").meta["type"]

    def test_a_redirection_is_info(self, browser: httpx.Client, events: Recorder) -> None:
        assert 302 == browser.get("/moved").status_code
        assert ("GET", "/moved", 302) == what(the_request(events))
        assert "info" == the_audit(events, "http.GET./moved").meta["type"]

    def test_what_the_application_raised_is_answered_with_500_and_reported_once(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert 500 == browser.get("/raises").status_code
        (seen,) = requests(events, 1)
        browser.get("/hello")
        assert [500, 200] == [one.properties["status"] for one in requests(events, 2)]
        assert ("GET", "/raises", 500) == what(seen)
        assert SECRET not in json.dumps(seen.body)
        audit = the_audit(events, "http.GET./raises")
        assert "error" == audit.meta["type"] == audit.payload["kind"]
        the_audit(events, "http.GET./hello")
        assert 2 == len(events.audited)
        if self.sees_error:
            assert "RuntimeError" == seen.properties["error_type"] == audit.meta["error_type"]
            for shown in (seen.properties, audit.meta):
                assert re.fullmatch(r"tests\.hooks\.shop\.Shop\.raises:\d+", shown["error_place"])
        assert SECRET not in json.dumps(audit.body)

    def test_the_text_of_an_exception_is_kept_only_if_asked_for_and_masked(
        self, events: Recorder
    ) -> None:
        with self.visiting(events.client, error_messages=True) as browser:
            assert 500 == browser.get("/raises").status_code
            assert SECRET not in json.dumps(the_request(events).body)
            audit = the_audit(events, "http.GET./raises")
        assert CARD not in json.dumps(audit.body)
        if self.sees_error:
            assert "the card number is [redacted]" == audit.payload["error"]["exceptionMessage"]
        assert "the card number" not in json.dumps(audit.meta)

    # Clocks.

    def test_the_duration_ends_with_the_last_byte(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert CHUNK * 3 == browser.get("/stream").read()
        seen = the_request(events)
        assert ("GET", "/stream", 200) == what(seen)
        assert 3 * CHUNK_S * 1_000 <= seen.properties["duration_ms"]
        size = len(CHUNK * 3) if self.counts_bytes else None
        assert size == seen.properties.get("response_bytes")
        assert "aborted" not in seen.properties

    def test_a_body_that_streams_still_belongs_to_its_request(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        browser.get("/stream")
        assert "streamer" == the_request(events).distinct_id
        events.assert_captured("streamed", distinct_id="streamer", times=1)

    def test_a_client_that_leaves_is_a_499(self, browser: httpx.Client, events: Recorder) -> None:
        if not self.marks_disconnect:
            pytest.skip("its server does not tell")
        with browser.stream("GET", "/endless") as answer:
            next(answer.iter_raw())
        seen = the_request(events)
        assert ("GET", "/endless", 499) == what(seen)
        assert seen.properties["aborted"] is True
        assert "error_type" not in seen.properties
        assert "info" == the_audit(events, "http.GET./endless").meta["type"]

    def test_a_background_task_is_not_in_the_duration(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        if self.background is None:
            pytest.skip("it has no background tasks")
        Shop.may_end.clear()
        sent_s = time.monotonic()
        try:
            browser.get("/later")
            if self.background == "beside":
                the_request(events)  # though the task is not over
        finally:
            Shop.may_end.set()
        until(lambda: any(one.name == "done_later" for one in events.captured))
        done = events.assert_captured("done_later", times=1)
        seen = the_request(events)
        if self.background == "at the end":
            # The task begins after the answer, however long a busy machine takes for either;
            # half of the task is far more than what rounding makes of it.
            until_begun_s = done.properties["begun_s"] - sent_s
            assert seen.properties["duration_ms"] < (until_begun_s + LATER_S / 2) * 1_000

    # Whose request it is.

    @pytest.mark.parametrize("handler", ["me", "ame"])
    def test_a_hundred_requests_at_once_never_take_each_others_identity(self, handler: str) -> None:
        if handler == "ame" and not self.has_async:
            pytest.skip("it has no asynchronous handlers")
        names = [f"person-{number}" for number in range(100)]
        # The events in batches, as in an application: one by one they take longer than all else.
        with (
            Recorder(mode="thread") as events,
            self.visiting(events.client) as browser,
            ThreadPoolExecutor(20) as crowd,
        ):

            def visit(name: str) -> object:
                return browser.get(f"/{handler}/{name}", headers={"X-Request-ID": name}).json()

            assert names == list(crowd.map(visit, names))
            seen = requests(events, 100)
        assert {name: name for name in names} == {
            one.properties["request_id"]: one.distinct_id for one in seen
        }

    def test_an_identity_does_not_leak_into_the_next_request(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        for path in ("/me/alice", "/stream", "/raises", "/hello"):
            browser.get(path)
            assert browser.get("/whoami").json() is None
        owners = {
            one.distinct_id for one in requests(events, 8) if one.properties["route"] == "/whoami"
        }
        assert not owners & {"alice", "streamer"}

    # Ids of the request.

    def test_a_request_id_is_taken_over_and_echoed(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        answer = browser.get("/hello", headers={"X-Request-ID": "req-1"})
        assert ["req-1"] == answer.headers.get_list("x-request-id")
        assert "req-1" == the_request(events).properties["request_id"]
        audit = the_audit(events, "http.GET./hello")
        assert "req-1" == audit.meta["request_id"] == audit.payload["request"]["requestId"]

    @pytest.mark.parametrize("sent", [None, "two words", "x" * 129])
    def test_a_request_id_is_made_where_there_is_none_to_use(
        self, browser: httpx.Client, events: Recorder, sent: str | None
    ) -> None:
        answer = browser.get("/hello", headers={} if sent is None else {"X-Request-ID": sent})
        made = answer.headers["x-request-id"]
        assert made == str(UUID(made)) == the_request(events).properties["request_id"]

    def test_an_audit_trail_and_a_trace_are_taken_from_their_headers(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        headers = {"X-Audit-Trail": "order-9", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        browser.get("/hello", headers=headers)
        meta = the_audit(events, "http.GET./hello").meta
        assert ("order-9", trace) == (meta["immutable_trail"], meta["trace_id"])
        assert trace == the_request(events).properties["trace_id"]

    # What leaves no event, or another.

    @pytest.mark.parametrize("path", ["/health", "/health/deep"])
    def test_a_skipped_path_and_all_below_it_leave_no_event(
        self, browser: httpx.Client, events: Recorder, path: str
    ) -> None:
        assert 200 == browser.get(path).status_code
        assert 200 == browser.get("/healthzone").status_code
        assert ["/healthzone"] == routes(events, 1)

    def test_head_and_options_leave_no_event(self, browser: httpx.Client, events: Recorder) -> None:
        browser.head("/hello")
        browser.options("/hello")
        browser.get("/hello")
        assert ["GET"] == [one.properties["method"] for one in requests(events, 1)]

    def test_a_handler_can_name_its_event_or_leave_none(
        self, browser: httpx.Client, events: Recorder
    ) -> None:
        assert "ignored" == browser.get("/ignored").text
        assert "named" == browser.get("/named").text
        assert ["/named"] == routes(events, 1)
        assert "order.created" == the_request(events).properties["event_name"]
        assert "/named" == the_audit(events, "order.created").meta["http_route"]

    def test_the_application_says_what_to_skip_add_and_audit(self, events: Recorder) -> None:
        with self.visiting(
            events.client,
            skip=["/items"],
            request_filter=lambda method, path: path != "/moved",
            extra=lambda seen: {"region": "eu"},
            audit_methods=["POST"],
            name_style="dotted",
        ) as browser:
            for path in ("/items/7", "/moved", "/health"):
                browser.get(path)
            browser.post("/orders", json={"quantity": 1})
            assert ["/health", "/orders"] == routes(events, 2)
        events.assert_captured("http_request", region="eu", times=2)
        assert "success" == the_audit(events, "post.orders").meta["type"]
        assert 1 == len(events.audited)

    # Where the client comes from.

    def test_the_options_of_a_client_make_one_by_either_services_names(
        self, events: Recorder
    ) -> None:
        none: Any = None
        options = {"api_key": events.server.api_key, "mode": "sync", "spool_audit": False}
        immutablelogs = {"api_url": events.server.url, "service_name": "shop", "env": "live"}
        with self.visiting(none, **options, **immutablelogs) as browser:
            assert "hello" == browser.get("/hello").text
            sent = the_audit(events, "http.GET./hello")
        assert ("shop", "live") == (sent.meta["service"], sent.meta["env"])
        events.assert_nothing_captured()

    # What must not matter.

    def test_without_a_key_the_application_works_and_nothing_is_sent(
        self, events: Recorder
    ) -> None:
        client = Indelible("", api_key="", host=events.server.url)
        with self.visiting(client) as browser:
            assert "hello" == browser.get("/hello").text
            assert 500 == browser.get("/raises").status_code
            assert 200 == browser.get("/me/alice").status_code
        assert [] == events.server.received
        client.shutdown()

    def test_a_fault_of_ours_is_counted_and_the_application_never_sees_it(self) -> None:
        def faulty(*_: object) -> Any:
            raise LookupError("ours")

        with Recorder(strict=False) as events:
            with self.visiting(events.client, extra=faulty) as browser:
                assert "hello" == browser.get("/hello").text
                assert "success" == the_audit(events, "http.GET./hello").meta["type"]
            with self.visiting(events.client, request_filter=faulty) as browser:
                assert "hello" == browser.get("/hello").text
                assert 200 == browser.get("/me/alice").status_code
            assert 3 == events.client.counts().failures


def what(seen: Received) -> tuple[str, str, int]:
    """Method, route and status of a request's event."""
    properties = seen.properties
    return properties["method"], properties["route"], properties["status"]


def requests(events: Recorder, count: int) -> list[Received]:
    """The product events of the requests, which leave after the answers: exactly `count`."""

    def found() -> list[Received]:
        return [one for one in events.captured if one.name == "http_request"]

    until(lambda: len(found()) >= count)
    there = found()
    assert count == len(there), [one.body for one in there]
    return there


def routes(events: Recorder, count: int) -> list[str]:
    """The routes of `requests`, in order of their names."""
    return sorted(one.properties["route"] for one in requests(events, count))


def the_request(events: Recorder) -> Received:
    """The one request's product event."""
    return requests(events, 1)[0]


def the_audit(events: Recorder, event_name: str) -> Received:
    """The one audit event of this name."""
    until(lambda: any(one.name == event_name for one in events.audited))
    return events.assert_audited(event_name, times=1)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something to hold, for a bounded time; what is asserted next says what did not."""
    deadline = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
