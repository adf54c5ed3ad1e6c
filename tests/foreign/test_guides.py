"""The code that the vendors' guides print, with only host and key changed."""

import contextlib
import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.client.stub import Stub, answers
from tests.foreign import documents, programs
from tests.foreign.delivery import Program, end, properties, wait_for
from tests.foreign.needs import needed
from tests.world import AS_APPLICATION, ServerProcess, World, product, spawn

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.timeout(330),  # whoever comes first builds, and a cold build takes minutes
]

WHAT_VTILT_SENDS = {
    ("$identify", "user_42", '{"$set":{"email":"alice@example.com","plan":"pro"}}'),
    ("purchase_completed", "user_42", '{"amount":99.99,"currency":"USD"}'),
}
ASYNC_EVENT = ("user.created", "success", '{"plan":"pro","user_id":"usr_123"}')
BATCH_EVENTS = {
    ("order.created", "success", '{"order_id":"ord_1"}'),
    ("payment.captured", "success", '{"amount":9900}'),
    ("email.sent", "info", '{"template":"welcome"}'),
}
# Go escapes HTML in JSON, and the escapes are part of the payload.
RETRIED_EVENT = ("invoice.paid", "error", r'{"note":"\u003cGröße \u0026 重さ\u003e"}')


def product_events(server: World) -> list[tuple[str, str, str]]:
    """Name, distinct id and properties (to the byte) of every event, in log order.

    Whatever must be true of a stored event of these guides is asserted on the way.
    """
    events = server.events()
    for event in events:
        assert "product" == event["kind"]
        assert {"route": "/api/e"} == event["request"], "no warning"
        assert event["uuid"].replace("-", "") == event["tx_id"].removeprefix("tx_")
        assert_found(server, event, by=event["uuid"])
    return [
        (event["event"], event["distinct_id"], sent)
        for event, sent in zip(events, properties(server), strict=True)
    ]


def audit_events(server: World) -> list[tuple[str, str, str]]:
    """Event name, type and payload (to the byte) of every event, in log order.

    Whatever must be true of a stored event of this guide is asserted on the way.
    """
    events = server.events()
    for event in events:
        meta = event["meta"]
        assert "audit" == event["kind"]
        assert ("my-service", "production") == (meta["service"], meta["env"])
        assert meta["request_id"].isdigit()
        assert meta["request_id"] == event["idempotency_key"] == event["request"]["request_id"]
    return [(e["meta"]["event_name"], e["meta"]["type"], e["payload"]) for e in events]


def assert_found(server: World, event: dict[str, Any], *, by: str) -> None:
    """The event is read by its transaction id, and `by` its other id is that event alone."""
    one = server.http.get(f"/v1/events/{event['tx_id']}", headers=AS_APPLICATION).json()
    assert event.items() <= one.items()
    found = server.http.get("/v1/where", params={"id": by}, headers=AS_APPLICATION).json()
    assert [event["tx_id"]] == [other["tx_id"] for other in found["events"]]


def assert_nothing_was_let_go(server: World, lane: str, *, stored: int) -> None:
    """Everything received was stored: none dropped as a crawler's, none a duplicate."""
    for metric, count in {"received": stored, "stored": stored, "duplicate": 0}.items():
        assert count == server.count(f"indelible_events_{metric}_total", lane=lane), metric
    assert 0 == server.count("indelible_events_dropped_total")
    assert 0 == server.count("indelible_events_warned_total")


def test_vtilts_go_guide_delivers_both_its_events_once_and_in_order(
    vtilt_go: Program, world: ServerProcess
) -> None:
    assert "" == vtilt_go.send(world, count=2), "the client logs what fails"

    events = product_events(world)
    assert ["$identify", "purchase_completed"] == [name for name, _, _ in events]
    assert sorted(WHAT_VTILT_SENDS) == sorted(events)
    assert_nothing_was_let_go(world, "product", stored=2)


def test_vtilts_rust_guide_delivers_both_its_events_once(
    vtilt_rust: Program, world: ServerProcess
) -> None:
    assert "" == vtilt_rust.send(world, count=2)

    # A task for each event: they race, and either may be the first.
    assert sorted(WHAT_VTILT_SENDS) == sorted(product_events(world))
    assert_nothing_was_let_go(world, "product", stored=2)


def test_a_guide_with_another_path_delivers_nothing(
    vtilt_go_guide: str, shared: ServerProcess, tmp_path: Path
) -> None:
    """Were the code not cut from the document, it would send to the path that is printed."""
    other = vtilt_go_guide.replace('host+"/api/e"', 'host+"/api/x"')
    assert other != vtilt_go_guide
    with needed():
        program = Program(programs.vtilt_go(other, tmp_path))

    with Stub() as stub:
        stub.usual = answers(404)
        with program.running(stub.url) as process:
            stub.wait_until(lambda stub: len(stub.requests) == 2)
            end(process)
    for request in stub.requests:
        assert "/api/x" == request.path
        assert 404 == shared.http.post(request.path, content=request.text).status_code


def test_the_guides_code_is_not_kept_in_this_folder(
    vtilt_go_guide: str, vtilt_rust_guide: str, immutablelog_go_guide: str
) -> None:
    files = [path for path in Path(__file__).parent.rglob("*") if path.suffix in {".go", ".rs"}]
    ours = {line.strip() for path in files for line in path.read_text().splitlines()}
    printed = {
        line.strip()
        for guide in (vtilt_go_guide, vtilt_rust_guide, immutablelog_go_guide)
        for line in guide.splitlines()
    }
    assert files
    assert [] == [line for line in ours & printed if len(line) > 30]


def test_the_rust_guides_dependencies_are_the_ones_that_are_built_with(
    vtilt_rust_guide: str,
) -> None:
    printed = documents.block(vtilt_rust_guide, first="# Cargo.toml", language="toml")
    ours = (Path(__file__).parent / "rust" / "Cargo.toml").read_text()
    _, _, dependencies = printed.partition("[dependencies]\n")
    assert f"\n[dependencies]\n{dependencies}\n" in ours


def test_immutablelogs_batch_arrives_whole(immutablelog_go: Program, world: ServerProcess) -> None:
    assert "<nil>\n" * 3 == immutablelog_go.send(world, "batch", count=3)

    assert sorted(BATCH_EVENTS) == sorted(audit_events(world))
    for event in world.events():
        assert_found(world, event, by=event["idempotency_key"])
    assert_nothing_was_let_go(world, "audit", stored=3)


def test_immutablelogs_asynchronous_event_arrives(
    immutablelog_go: Program, world: ServerProcess
) -> None:
    assert "" == immutablelog_go.send(world, "async", count=1)

    assert [ASYNC_EVENT] == audit_events(world)
    assert_nothing_was_let_go(world, "audit", stored=1)


def test_immutablelogs_single_event_arrives_with_its_digests(
    immutablelog_go: Program, world: ServerProcess
) -> None:
    assert "<nil>\n" == immutablelog_go.send(world, "send", count=1)

    payload = {
        "email_hash": hashlib.sha256(b"user@example.com").hexdigest(),
        "ip_hash": hashlib.sha256(b"192.168.1.1").hexdigest(),
        "user_id": "usr_123",
    }
    text = json.dumps(payload, separators=(",", ":"))
    assert [("user.registered", "info", text)] == audit_events(world)
    assert_nothing_was_let_go(world, "audit", stored=1)


def test_immutablelogs_retry_delivers_once_the_server_is_back(
    immutablelog_go: Program, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as ending:
        with socket.create_server(("127.0.0.1", 0)) as failing:
            port: int = failing.getsockname()[1]
            process = ending.enter_context(
                immutablelog_go.running(f"http://127.0.0.1:{port}", "retry")
            )
            failing.settimeout(60)
            failing.accept()[0].close()  # the first attempt gets no answer
        server = spawn(tmp_path / "data", port)
        ending.callback(server.end)
        wait_for(server, 1)

        assert "<nil>\n" == end(process)
        assert [RETRIED_EVENT] == audit_events(server)
        assert_nothing_was_let_go(server, "audit", stored=1)


def test_fifty_events_sent_at_once_by_immutablelogs_batch_are_fifty_entries(
    immutablelog_go: Program, world: ServerProcess
) -> None:
    assert "<nil>\n" * 50 == immutablelog_go.send(world, "fifty", count=50)

    assert sorted(map(str, range(50))) == sorted(payload for _, _, payload in audit_events(world))
    assert 50 == len({event["tx_id"] for event in world.events()})


def test_fifty_events_whose_clock_readings_collide_are_fifty_entries_all_the_same(
    immutablelog_go_with_a_stopped_clock: Program, world: ServerProcess
) -> None:
    """The printed client takes a clock reading for its request id and its Idempotency-Key."""
    program = immutablelog_go_with_a_stopped_clock
    assert "<nil>\n" * 50 == program.send(world, "fifty", count=50)

    events = world.events()
    assert sorted(map(str, range(50))) == sorted(payload for _, _, payload in audit_events(world))
    assert 50 == len({event["tx_id"] for event in events})
    assert {"1763683597000000000"} == {event["idempotency_key"] for event in events}
    conflicts = {"lane": "audit", "reason": "idempotency_conflict"}
    assert 49 == world.count("indelible_events_warned_total", **conflicts)

    # The same events under the same key once more are repeats, and add nothing.
    assert "<nil>\n" * 50 == program.send(world, "fifty", count=50)
    assert events == world.events()
    assert 50 == world.count("indelible_events_duplicate_total", lane="audit")


@pytest.mark.parametrize("agent", ["Go-http-client/1.1", "Go-http-client/2.0", "reqwest/0.12", ""])
def test_the_guides_http_clients_are_not_taken_for_crawlers(
    shared: ServerProcess, agent: str
) -> None:
    answer = shared.send(product(), headers={"User-Agent": agent})
    assert 200 == answer.status_code
    assert "ok" == answer.json()["events"][0]["result"]
