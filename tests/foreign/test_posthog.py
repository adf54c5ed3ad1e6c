"""posthog-python, unmodified, pointed at this server: only host and token are changed."""

import http.server
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from posthog import Posthog

from tests.world import TOKEN, ServerProcess, World

pytestmark = pytest.mark.foreign

WHEN = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client heeds the environment's proxies, which do not know this machine's loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


Connect = Callable[..., Posthog]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients; that none of them was refused or gave up is checked at the end."""
    failures: list[Exception] = []
    clients: list[Posthog] = []

    def make(url: str, **options: Any) -> Posthog:
        client = Posthog(
            TOKEN, host=url, on_error=lambda error, _: failures.append(error), **options
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.shutdown()
    assert [] == failures


class _LosesTheFirstAnswer(http.server.BaseHTTPRequestHandler):
    """Hands every request on to the server, and breaks off where the first answer was due."""

    server: "_Relay"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in ("Content-Type", "User-Agent")}
        answer = self.server.behind.http.post(self.path, content=body, headers=headers)
        self.server.answers.append(answer)
        if len(self.server.answers) == 1:
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Relay(http.server.ThreadingHTTPServer):
    behind: World
    answers: list[httpx.Response]


@pytest.fixture
def relay(world: ServerProcess) -> Iterator[_Relay]:
    relay = _Relay(("127.0.0.1", 0), _LosesTheFirstAnswer)
    relay.behind = world
    relay.answers = []
    thread = threading.Thread(target=relay.serve_forever, args=(0.02,))
    thread.start()
    yield relay
    relay.shutdown()
    thread.join()
    relay.server_close()


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_captures_arrive_once_with_id_time_and_properties(
    connect: Connect, world: ServerProcess, gzip: bool
) -> None:
    client = connect(world.url, gzip=gzip)
    first = client.capture(
        "purchase_completed",
        distinct_id="user_42",
        properties={"amount": 99.99, "currency": "€", "items": [{"sku": 1, "gift": None}]},
        timestamp=WHEN,
    )
    second = client.capture("page_view", distinct_id="user_43")
    client.flush()

    one, other = world.events()
    assert (first, second) == (one["uuid"], other["uuid"])
    assert ("purchase_completed", "user_42") == (one["event"], one["distinct_id"])
    assert ("page_view", "user_43") == (other["event"], other["distinct_id"])
    assert datetime.fromisoformat(one["timestamp"]) == WHEN
    sent = {"amount": 99.99, "currency": "€", "items": [{"sku": 1, "gift": None}]}
    assert sent.items() <= one["properties"].items()
    assert "posthog-python" == one["properties"]["$lib"]
    assert "/batch/" == one["request"]["route"]
    assert "warnings" not in one["request"]


def test_identification_arrives_in_every_form_that_the_client_has(
    connect: Connect, world: ServerProcess
) -> None:
    """`identify` is gone from the client: it has `set`, `set_once` and `alias`, and by hand
    `$identify` is captured as its other libraries send it."""
    client = connect(world.url)
    person = {"email": "alice@example.com", "plan": "pro"}
    client.set(distinct_id="user_42", properties=person)
    client.set_once(distinct_id="user_42", properties={"first_seen": "2026-03-01"})
    client.alias("visitor-7", "user_42")
    client.capture(
        "$identify",
        distinct_id="user_42",
        properties={"$anon_distinct_id": "visitor-7", "$set": person},
    )
    client.flush()

    set_, set_once, alias, identify = world.events()
    assert ("$set", "user_42", person) == (set_["event"], set_["distinct_id"], set_["$set"])
    assert ("$set_once", "user_42") == (set_once["event"], set_once["distinct_id"])
    assert {"first_seen": "2026-03-01"} == set_once["$set_once"]
    assert "$create_alias" == alias["event"]
    assert {"distinct_id": "visitor-7", "alias": "user_42"}.items() <= alias["properties"].items()
    assert ("$identify", "user_42") == (identify["event"], identify["distinct_id"])
    sent = {"$anon_distinct_id": "visitor-7", "$set": person}
    assert sent.items() <= identify["properties"].items()


def test_shutdown_delivers_what_is_queued(connect: Connect, world: ServerProcess) -> None:
    client = connect(world.url, flush_at=40, thread=2)
    sent = [client.capture("page_view", distinct_id=f"user_{n}") for n in range(100)]
    client.shutdown()

    assert sorted(map(str, sent)) == sorted(event["uuid"] for event in world.events())
    assert 100 == world.count("indelible_events_received_total", lane="product")


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_the_same_event_captured_again_adds_nothing_and_the_client_is_content(
    connect: Connect, world: ServerProcess, gzip: bool
) -> None:
    event_id = uuid4()
    for _ in range(2):
        client = connect(world.url, gzip=gzip)
        sent = client.capture(
            "purchase_completed",
            distinct_id="user_42",
            properties={"amount": 99.99},
            timestamp=WHEN,
            uuid=str(event_id),
        )
        client.shutdown()
        assert str(event_id) == sent

    (event,) = world.events()
    assert event_id == UUID(event["uuid"])
    assert 1 == world.count("indelible_events_duplicate_total", lane="product")


def test_a_batch_whose_answer_was_lost_is_sent_again_and_adds_nothing(
    connect: Connect, relay: _Relay
) -> None:
    client = connect(f"http://127.0.0.1:{relay.server_port}")
    sent = [client.capture("page_view", distinct_id=f"user_{n}") for n in range(3)]
    client.flush()

    assert [200, 200] == [answer.status_code for answer in relay.answers]
    lost, second = (answer.json()["events"] for answer in relay.answers)
    assert sent == [event["uuid"] for event in relay.behind.events()]
    assert [False] * 3 == [event.get("duplicate", False) for event in lost]
    assert [True] * 3 == [event["duplicate"] for event in second]
    assert [event["tx_id"] for event in lost] == [event["tx_id"] for event in second]
