"""WSGI: the contract, PEP 3333's fine print, and real servers around it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.client import IdLike, Indelible
from indelible.client import context as contexts
from indelible.hooks.wsgi import EVENT_NAME, ROUTE, Middleware
from indelible.testing import Recorder
from tests.hooks.contract import WebHook, the_audit, the_request, what
from tests.hooks.shop import Shop
from tests.hooks.wsgi_serving import FileHandler, Handler, served
from tests.world import plain_client

HTML = [("Content-Type", "text/html")]


class Site:
    """The contract's routes by hand: WSGI has no router of its own."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        shop, path = self.shop, environ["PATH_INFO"]
        first, _, rest = path.strip("/").partition("/")
        if first == "shop" and rest.startswith("items/"):
            environ["SCRIPT_NAME"] = "/shop"
            first, _, rest = rest.partition("/")
        plain = ("hello", "health", "healthzone", "raises", "whoami", "named", "ignored")
        with_value: dict[str, Callable[[str], str]] = {"items": shop.item, "me": shop.me}
        status, headers, body = "200 OK", HTML, iter([b""])
        if first in plain and rest in ("", "deep"):
            environ[ROUTE] = path
            if environ["REQUEST_METHOD"] == "PUT":
                status = "405 Method Not Allowed"
            else:
                text = getattr(shop, "hello" if first.startswith("health") else first)()
                body = iter([text.encode()])
        elif first in with_value:
            environ[ROUTE] = f"{environ['SCRIPT_NAME']}/{first}/{{item_id}}"
            body = iter([with_value[first](rest).encode()])
        elif first in ("stream", "endless"):
            environ[ROUTE] = path
            body = shop.chunks() if first == "stream" else shop.endless()
        elif first == "orders":
            environ[ROUTE] = path
            try:
                given = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                body = iter([shop.order(given).encode()])
            except ValueError:
                status = "400 Bad Request"
        elif first == "moved":
            environ[ROUTE] = path
            status, headers = "302 Found", [*HTML, ("Location", "/hello")]
        else:
            status = "404 Not Found"
        start_response(status, headers)
        return body


class TestWsgi(WebHook):
    framework = "wsgi"
    background = None
    has_async = False

    @contextmanager
    def site(self, client: Indelible, **recording: Any) -> Iterator[str]:
        with served(Middleware(Site(Shop(client)), client, **recording)) as url:
            yield url


# The fine print of PEP 3333, with the standard library's server around it and no socket.


class Scripted:
    """An application that does what a script says, and counts how often its body was closed."""

    def __init__(
        self,
        parts: list[bytes],
        *,
        by_write: int,
        raises_at: int | None,
        sized: bool,
        apology: bool,
    ) -> None:
        self.parts = parts
        self.by_write = by_write
        self.raises_at = raises_at
        self.sized = sized
        self.apology = apology
        self.closed = 0
        self.raised = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        if self.raises_at == 0:
            self.raised = True
            raise ValueError
        write = start_response("200 OK", [*HTML])
        for part in self.parts[: self.by_write]:
            write(part)
        rest = self.parts[self.by_write :]
        return _SizedBody(self, rest) if self.sized else _Body(self, rest, start_response)


class _Body:
    def __init__(self, app: Scripted, parts: list[bytes], start: StartResponse | None) -> None:
        self._app, self._parts, self._start = app, parts, start

    def __iter__(self) -> Iterator[bytes]:
        for number, part in enumerate(self._parts, 1):
            if number == self._app.raises_at:
                yield from self._raised()
                return
            yield part

    def _raised(self) -> Iterator[bytes]:
        self._app.raised = True
        try:
            b"in the body".index(b"what is not there")
        except ValueError:
            if not self._app.apology or self._start is None:
                raise
            self._start("500 Oh No", [*HTML], sys.exc_info())
            yield b"sorry"

    def close(self) -> None:
        self._app.closed += 1


class _SizedBody(_Body):
    def __init__(self, app: Scripted, parts: list[bytes]) -> None:
        super().__init__(app, parts, None)

    def __len__(self) -> int:
        return len(self._parts)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def middleware(app: WSGIApplication, recorder: Recorder) -> Middleware:
    """The hook round `app`, of which every method is audited."""
    return Middleware(app, recorder.client, install_signal_handlers=False, audit_methods=None)


@st.composite
def scripts(draw: st.DrawFn) -> dict[str, Any]:
    """What a `Scripted` application does; what raises does so in the call or in a part that is."""
    parts = draw(st.lists(st.binary(max_size=5), max_size=4))
    by_write = draw(st.integers(0, len(parts)))
    return {
        "parts": parts,
        "by_write": by_write,
        "raises_at": draw(st.none() | st.integers(0, len(parts) - by_write)),
        "sized": draw(st.booleans()),
        "apology": draw(st.booleans()),
    }


@pytest.mark.parametrize("examples", [75, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_server_and_an_application_never_notice_the_middleware_between_them(
    recorder: Recorder, examples: int
) -> None:
    """Same bytes, same errors, the body closed as often; and one event that says what happened."""

    @settings(max_examples=examples)
    @given(script=scripts(), stays_for=st.integers(0, 6))
    def serve(script: dict[str, Any], stays_for: int) -> None:
        recorder.clear()
        outcomes = []
        for layer in (lambda app: app, lambda app: middleware(app, recorder)):
            app = Scripted(**script)
            server = Handler(stays_for)
            answer = server.answered(layer(app))
            outcomes.append((answer, server.errors, app.closed, app.raised))
        assert outcomes[0] == outcomes[1]
        head, _, body = answer.partition(b"\n\n")
        seen = the_request(recorder).properties
        # No route is known here: what was given up by the client leaves no audit event.
        assert ("aborted" not in seen) == len(recorder.audited)
        assert seen.get("error_type") == ("ValueError" if app.raised else None)
        if server.has_left and not app.raised:
            assert (499, True) == (seen["status"], seen["aborted"])
        else:
            assert seen["status"] == (int(head.split()[1]) if head else 500)
        if not server.has_left and not app.raised:
            assert seen.get("response_bytes", 0) == len(body)
        assert contexts.current() is None

    serve()


@pytest.mark.parametrize("body", [[b"whole"], (b"two", b"parts"), [], iter([b"a", b"", b"b"])])
def test_both_sides_hold_to_the_protocol(body: Iterable[bytes], recorder: Recorder) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*HTML])
        return body

    recorder.clear()
    checked = validator(middleware(validator(app), recorder))
    server = Handler()
    server.run(checked)
    assert "" == server.log.getvalue()
    assert ("GET", "<unmatched>", 200) == what(the_request(recorder))


def test_a_list_of_one_part_still_gets_its_content_length(recorder: Recorder) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*HTML])
        return [b"whole"]

    assert b"Content-Length: 5" in Handler().answered(middleware(app, recorder))


def test_between_two_parts_the_thread_belongs_to_nobody(recorder: Recorder) -> None:
    whose = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*HTML])
        recorder.client.identify("alice")
        return parts()

    def parts() -> Iterator[bytes]:
        try:
            for _ in range(2):
                whose.append(_whose())
                yield b"part"
        finally:
            whose.append(_whose())

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    body = middleware(app, recorder)(environ, lambda *_: lambda data: None)
    for _ in body:
        assert contexts.current() is None
    body.close()  # type: ignore[attr-defined]
    assert contexts.current() is None
    assert ["alice"] * 3 == whose


def _whose() -> IdLike | None:
    here = contexts.current()
    return None if here is None else here.distinct_id


@pytest.mark.parametrize("server", [FileHandler, Handler])
def test_a_file_reaches_the_server_as_the_server_made_it(
    server: type[Handler], tmp_path: Path, recorder: Recorder
) -> None:
    recorder.clear()
    file = tmp_path / "file"
    file.write_bytes(b"content")
    opened = file.open("rb")
    made = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response("200 OK", [*HTML, ("Content-Length", "7")])
        made.append(environ["wsgi.file_wrapper"](opened))
        return made[0]

    one = server()
    assert one.answered(middleware(app, recorder)).endswith(b"content")
    assert one.sent_file in (made[0], None)
    assert (one.sent_file is None) == (server is Handler)
    assert opened.closed
    seen = the_request(recorder).properties
    assert (200, 7) == (seen["status"], seen["response_bytes"])


def test_a_server_that_stops_where_the_content_length_is_reached_has_sent_it_all(
    events: Recorder,
) -> None:
    """PEP 3333 allows it, and asgiref's adapter to ASGI does it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return iter([b"hello"])

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    body: Any = middleware(app, events)(environ, lambda *_: lambda data: None)
    assert b"hello" == next(iter(body))
    body.close()
    seen = the_request(events).properties
    assert (200, None) == (seen["status"], seen.get("aborted"))


def test_an_event_can_be_named_in_the_environ(recorder: Recorder) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[EVENT_NAME] = "order.created"
        start_response("200 OK", [*HTML])
        return []

    recorder.clear()
    Handler().answered(middleware(app, recorder))
    the_audit(recorder, "order.created")


def test_a_path_of_other_letters_arrives_as_it_was_typed(events: Recorder) -> None:
    app = middleware(Site(Shop(events.client)), events)
    with served(app) as url, plain_client(url) as browser:
        browser.get("/items/café")
    assert (
        "/items/café" == the_audit(events, "http.GET./items/{item_id}").payload["request"]["path"]
    )


def test_an_application_that_keeps_the_answer_to_itself_leaks_no_identity(
    events: Recorder,
) -> None:
    """A call that raises SystemExit, as a worker's time-out does, still gives the thread back."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        events.client.identify("alice")
        raise SystemExit(1)

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    with pytest.raises(SystemExit):
        middleware(app, events)(environ, lambda *_: lambda data: None)
    assert contexts.current() is None
    seen = the_request(events)
    assert (500, "SystemExit") == (seen.properties["status"], seen.properties["error_type"])
    assert "alice" == seen.distinct_id
