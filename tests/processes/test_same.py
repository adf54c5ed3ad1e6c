"""What a client sees of a server is the same whether it is one process or several."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.world import AS_ADMIN, AS_APPLICATION, ServerProcess, audit, bearer, product, started

METRICS_KEY = "metrics-key-0123456789"
WITH_KEY = {"INDELIBLE_METRICS_KEY": METRICS_KEY}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/healthz", {}),
    ("HEAD", "/healthz", {}),
    ("GET", "/healthz/", {}),
    ("POST", "/healthz", {}),
    ("OPTIONS", "/healthz", {}),
    ("GET", "/metrics", {}),
    ("GET", "/metrics", {"headers": AS_APPLICATION}),
    ("GET", "/metrics", {"headers": AS_ADMIN}),
    ("GET", "/metrics", {"headers": bearer(METRICS_KEY)}),
    ("HEAD", "/metrics", {"headers": AS_ADMIN}),
    ("OPTIONS", "/metrics", {}),
    ("GET", "/docs", {}),
    ("HEAD", "/docs", {}),
    ("GET", "/nothing", {}),
    ("GET", "/api/nothing", {"headers": {"Origin": "https://shop.example"}}),
    ("OPTIONS", "/api/e", {"headers": {"Origin": "https://shop.example"}}),
    ("PUT", "/api/e", {}),
    ("POST", "/api/e", {"json": product(uuid="one")}),
    ("POST", "/api/e", {"json": product(uuid="one")}),
    ("POST", "/api/e", {"json": product(uuid="two") | {"api_key": "another"}}),
    ("POST", "/api/e", {"content": b"{"}),
    ("POST", "/v1/events", {"json": audit(), "headers": {"Idempotency-Key": "k"}}),
    (
        "POST",
        "/v1/events",
        {"json": audit(), "headers": {**AS_APPLICATION, "Idempotency-Key": "k"}},
    ),
    (
        "POST",
        "/v1/events",
        {"json": audit("{}"), "headers": {**AS_APPLICATION, "Idempotency-Key": "k"}},
    ),
    ("GET", "/v1/events", {}),
    ("GET", "/v1/events", {"headers": AS_APPLICATION}),
    ("GET", "/v1/events?nothing=1", {"headers": AS_APPLICATION}),
    ("GET", "/v1/events/one", {"headers": bearer("iml_live_wrong-key-0123456789")}),
    ("GET", "/v1/export", {"headers": AS_APPLICATION}),
    ("GET", "/v1/projects", {"headers": AS_ADMIN}),
    ("POST", "/v1/projects", {"headers": AS_ADMIN, "content": b"{"}),
    ("POST", "/v1/projects", {"headers": AS_ADMIN, "json": {"name": "web"}}),
    ("POST", "/v1/keys", {"headers": AS_ADMIN, "json": {"role": "nothing"}}),
    ("DELETE", "/v1/events", {"headers": AS_ADMIN}),
    ("GET", "/ledger/default/checkpoint", {}),
]
# What differs from one server, or one request, to the next.
_OWN = re.compile(
    rb"tx_[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z"
    rb"|(key_|ind_pub_|iml_live_|ind_adm_)[\w-]+|indelible\.localhost/[0-9a-f]+"
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("one"), INDELIBLE_EDGES="0", **WITH_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("several"), INDELIBLE_EDGES="1", **WITH_KEY) as server:
        yield server


def seen(server: ServerProcess, method: str, path: str, more: dict[str, Any]) -> dict[str, Any]:
    answer: httpx.Response = server.http.request(method, path, **more)
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in ("date", "content-length", "etag", "connection")
    }
    # What tells of the server itself, or of how far an event has come by now.
    told = ("healthz", "metrics", "docs", "v1/events")
    is_its_own = answer.is_success and method == "GET" and path.strip("/") in told
    body = b"" if is_its_own else _OWN.sub(b"*", answer.content)
    return {"status": answer.status_code, "headers": headers, "body": body}


def test_every_answer_is_the_same(one: ServerProcess, several: ServerProcess) -> None:
    for method, path, more in REQUESTS:
        assert seen(one, method, path, more) == seen(several, method, path, more), (method, path)


@pytest.mark.parametrize("edges", ["0", "1"])
def test_an_event_as_large_as_an_operator_allows_is_stored(tmp_path: Path, edges: str) -> None:
    limits = dict.fromkeys(
        ("INDELIBLE_MAX_BODY_BYTES", "INDELIBLE_MAX_EVENT_BYTES", "INDELIBLE_MAX_PAYLOAD_BYTES"),
        str(128 * 1024 * 1024),
    )
    large = "x" * (65 * 1024 * 1024)
    with started(tmp_path, INDELIBLE_EDGES=edges, **limits) as server:
        assert 200 == server.send(product(uuid="large", properties={"p": large})).status_code
        assert 202 == server.send_audit(audit(large), "large").status_code
        assert {0, 1} == {event["index"] for event in server.events()}
