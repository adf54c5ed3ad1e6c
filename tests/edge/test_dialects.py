"""A dialect is a value: all that it does not say itself, every dialect has alike."""

import contextlib
import gzip
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import indelible
from indelible.edge.arrival import AuditEvent, ProductEvent
from indelible.edge.dialect import Call, Dialect, Reading
from indelible.edge.dialects import DIALECTS, immutablelog, posthog, vtilt
from indelible.edge.http import Request
from indelible.edge.intake import Limits
from tests.edge import throwaway
from tests.edge.wire import encoded
from tests.world import TOKEN, World, a_free_port, assert_canonical_error, environment

SOURCE = Path(indelible.__file__).parent
TUPLE = "edge/dialects/__init__.py"
LIMITS = Limits(
    max_body_bytes=1 << 20, max_event_bytes=1 << 16, max_batch=100, max_payload_bytes=1 << 16
)


def with_dialect(folder: Path) -> Path:
    """The product's source with one more dialect: its own file and a word in the tuple."""
    shutil.copytree(SOURCE, folder / "indelible", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(throwaway.__file__, folder / "indelible/edge/dialects/throwaway.py")
    text = (folder / "indelible" / TUPLE).read_text()
    text = text.replace("import immutablelog, posthog", "import immutablelog, posthog, throwaway")
    text = text.replace("    vtilt.DIALECT,\n", "    vtilt.DIALECT,\n    throwaway.DIALECT,\n")
    (folder / "indelible" / TUPLE).write_text(text)
    return folder


@contextlib.contextmanager
def serving(source: Path, data_dir: Path) -> Iterator[World]:
    """A server that runs from this source."""
    port = a_free_port()
    command = ["serve", "--data", str(data_dir), "--port", str(port)]
    with (data_dir.parent / "output.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "indelible", *command],
            env=environment(PYTHONPATH=str(source)),
            cwd=data_dir.parent,
            stdout=said,
            stderr=said,
        )
    world = World(f"http://127.0.0.1:{port}", data_dir)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (data_dir.parent / "output.txt").read_text()
            with contextlib.suppress(httpx.TransportError):
                world.http.get("/healthz")
                break
            assert time.monotonic() < deadline, "the server did not answer"
            time.sleep(0.05)
        yield world
    finally:
        process.terminate()
        process.wait(60)
        world.close()


def test_a_dialect_is_added_with_its_own_file_and_a_word_in_the_tuple(tmp_path: Path) -> None:
    source = with_dialect(tmp_path / "src")
    changed = {
        str(path.relative_to(source / "indelible"))
        for path in (source / "indelible").rglob("*.py")
        if not (SOURCE / path.relative_to(source / "indelible")).exists()
        or path.read_bytes() != (SOURCE / path.relative_to(source / "indelible")).read_bytes()
    }
    assert {TUPLE, "edge/dialects/throwaway.py"} == changed

    with serving(source, tmp_path / "data") as world:
        rows = [["viewed", "user_1", {"page": 1}], [7, None, {}], ["left", "guest", {}]]
        said = world.http.post("/rows", json={"key": TOKEN, "rows": rows})
        assert (200, "2 rows") == (said.status_code, said.text)
        assert [("viewed", {"page": 1}, None), ("left", {}, ["illegal_distinct_id"])] == [
            (event["event"], event["properties"], event["request"].get("warnings"))
            for event in world.events()
        ]
        assert {"/rows"} == {event["request"]["route"] for event in world.events()}

        # What no dialect says itself: packing, large bodies, the gate, CORS, the description.
        many = [["viewed", "user_1", {"filler": "x" * 100}] for _ in range(500)]
        packed = gzip.compress(encoded({"key": TOKEN, "rows": many}))
        assert "500 rows" == world.http.post("/rows/", content=packed).text
        refused = world.http.post("/rows", json={"key": "none", "rows": rows})
        assert_canonical_error(refused, 401, "unknown_token")
        assert_canonical_error(world.http.post("/rows", content=b"{"), 400, "invalid_json")
        page = {"origin": "https://shop.example"}
        seen = world.http.post("/rows", json={"key": TOKEN, "rows": rows}, headers=page)
        assert "https://shop.example" == seen.headers["access-control-allow-origin"]
        assert (
            "send_rows"
            == world.http.get("/openapi.json").json()["paths"]["/rows"]["post"]["operationId"]
        )


def reading(dialect: Dialect, body: Any, **headers: str) -> Reading:
    """What a dialect reads of a body."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"method": "POST", "headers": fields, "query_string": b""}
    call = Call(Request(scope, None), dialect.paths[0], LIMITS)  # type: ignore[arg-type]
    return dialect.read(json.dumps(body).encode(), call)


def product_event(body: Any, dialect: Dialect = vtilt.DIALECT) -> ProductEvent:
    """The one event of a body."""
    (event,) = reading(dialect, body).events
    assert isinstance(event, ProductEvent)
    return event


@pytest.mark.parametrize("dialect", [vtilt.DIALECT, posthog.DIALECT], ids=["vtilt", "posthog"])
def test_an_event_carries_what_later_parts_read_in_one_form(dialect: Dialect) -> None:
    properties = {
        "distinct_id": 42,
        "$current_url": "https://shop.example/cart",
        "$lib": "web",
        "$device_id": "d-1",
    }
    event = product_event(
        {"event": "viewed", "uuid": "u", "timestamp": 1_764_000_000, "properties": properties},
        dialect,
    )

    assert ("viewed", "42", "u") == (event.name, event.distinct_id, event.client_id)
    assert 1_764_000_000_000 == event.time_ms
    assert ("https://shop.example/cart", "web") == (event.page, event.library)
    assert event.anonymous_id is None, "only an event that joins two ids has one from before"
    assert json.dumps(properties).encode() == event.payload


@pytest.mark.parametrize(
    ("name", "properties", "before"),
    [
        ("$identify", {"$anon_distinct_id": "a", "$device_id": "d"}, "a"),
        ("$identify", {"anonymous_id": "a"}, "a"),
        ("$identify", {"anonymousId": 7}, "7"),
        ("$identify", {"$device_id": "d"}, "d"),
        ("$identify", {"$device_id": "user_42"}, None),
        ("$identify", {"$set": {"plan": "pro"}}, None),
        ("$create_alias", {"alias": "a"}, "a"),
        ("viewed", {"$anon_distinct_id": "a", "alias": "a"}, None),
    ],
)
def test_an_event_that_joins_two_ids_carries_both(
    name: str, properties: dict[str, Any], before: str | None
) -> None:
    event = product_event({"event": name, "distinct_id": "user_42", "properties": properties})

    assert ("user_42", before) == (event.distinct_id, event.anonymous_id)


@pytest.mark.parametrize(
    "odd", [7, None, ["x"], {"a": 1}], ids=["number", "null", "list", "object"]
)
def test_facts_of_the_wrong_type_are_none_and_cost_no_event(odd: Any) -> None:
    properties = {"$current_url": odd, "$lib": odd, "$anon_distinct_id": odd if odd != 7 else {}}
    event = product_event(
        {"event": "$identify", "distinct_id": "d", "timestamp": "soon", "properties": properties}
    )

    assert (None, None, None) == (event.page, event.library, event.anonymous_id)
    assert event.time_ms is None
    assert product_event({"event": odd, "distinct_id": "d"}).name is None


def test_an_audit_event_carries_its_name_and_key_in_the_same_places() -> None:
    body = {"payload": "{}", "meta": {"event_name": "payment.created"}}
    (event,) = reading(immutablelog.SINGLE, body, idempotency_key="k-1").events

    assert isinstance(event, AuditEvent)
    assert ("payment.created", "k-1", b"{}") == (event.name, event.client_id, event.payload)


def test_no_event_is_looked_into_before_the_gate_has_opened() -> None:
    found = reading(vtilt.DIALECT, {"api_key": "t", "batch": [{"event": "a"}, 7]})

    assert (2, ["t"]) == (found.count, found.tokens)
    assert iter(found.events) is found.events, "they are made one by one, as they are asked for"


def test_a_batch_says_when_it_was_sent_and_its_records_say_so_as_sent() -> None:
    found = reading(vtilt.DIALECT, {"token": "t", "batch": [], "sent_at": 1_764_000_000})
    assert 1_764_000_000 == found.sent_at
    assert "1764000000" == bytes(found.origin.sent_at).decode()

    assert reading(vtilt.DIALECT, {"token": "t", "event": "e"}).sent_at is None


def test_no_two_dialects_have_one_path() -> None:
    paths = [path.path for dialect in DIALECTS for path in dialect.paths]
    assert sorted(set(paths)) == sorted(paths)
