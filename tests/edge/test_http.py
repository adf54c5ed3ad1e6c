"""Manners of HTTP that hold for every route, and requests that are refused before any."""

import json
import time
from pathlib import Path

import pytest

from tests.edge.lines import Line, chunked, exchange, post
from tests.edge.wire import eventually, fresh, known_as, tenant
from tests.ledger.format import worked
from tests.ledger.witness.witnesses import witness
from tests.world import (
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    World,
    assert_canonical_error,
    audit,
    product,
)

JSON = "Content-Type: application/json"
ORIGIN = "https://shop.example"


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *headers, "", "")).encode()


# HEAD


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/nowhere",
        "/ledger/default/checkpoint",
        "/ledger/default/tile/0/000",
        "/ledger/default/tile/0/000.p/1",
        "/v1/events",
        "/v1/events?limit=x",
        "/v1/events/tx_00000000000000000000000000000000",
        "/v1/export",
        "/v1/projects",
        "/v1/keys",
        "/api/e",
        "/api/e?data=%7B%7D",
        "/batch/",
    ],
)
@pytest.mark.parametrize("headers", [{}, AS_ADMIN], ids=["no key", "admin"])
def test_head_is_answered_as_get_is_without_the_body(
    shared: World, path: str, headers: dict[str, str]
) -> None:
    shared.send_audit(audit())
    lines = [f"{name}: {value}" for name, value in headers.items()]
    got = shared.http.get(path, headers=headers)
    with Line(shared.url) as line:
        line.send(get(path, *lines, method="HEAD"))
        headed = line.read(is_head=True)
        # Had there been a body, it would stand before this answer.
        line.send(get("/healthz"))
        assert 200 == line.read().status

    assert got.status_code == headed.status
    assert 405 != headed.status
    assert got.headers.get("content-type") == headed.headers.get("content-type")


def test_head_where_there_is_no_get_is_405(shared: World) -> None:
    answer = exchange(shared.url, get("/v1/keys/key_0/rotate", method="HEAD"))
    assert 405 == answer.status
    assert "HEAD" not in answer.headers["allow"]


def test_head_of_an_export_does_not_read_the_log(shared: World) -> None:
    with Line(shared.url) as line:
        line.send(get("/v1/export", f"Authorization: Bearer {API_KEY}", method="HEAD"))
        answer = line.read(is_head=True)
        line.send(get("/healthz"))
        assert 200 == line.read().status
    assert (200, "application/x-ndjson") == (answer.status, answer.headers["content-type"])


# Pages of other origins


@pytest.mark.parametrize(
    "request_",
    [
        post("/api/unknown", b"{}", JSON),
        post("/api/e/f", b"{}", JSON),
        post("/batch/unknown", b"{}", JSON),
        get("/api/"),
        get("/api/e", method="PUT"),
        get("/api/unknown", method="PUT"),
        post("/api/e", b"{}", JSON),
        post("/api/e", b"not JSON", JSON),
        post("//api/e", b"{}", JSON),
        post("/api/e", b"{}", "Content-Type: image/png"),
        post("/api/e", b"", "Transfer-Encoding: chunked") + b"xyz\r\n",
        get("/api/e", "Authorization: Bearer a", "Authorization: Bearer b"),
    ],
    ids=str,
)
def test_every_answer_of_an_ingest_path_can_be_read_by_the_page_that_asked(
    shared: World, request_: bytes
) -> None:
    line, rest = request_.split(b"\r\n", 1)
    answer = exchange(shared.url, line + b"\r\nOrigin: %b\r\n" % ORIGIN.encode() + rest)
    assert answer.status in (400, 401, 404, 405, 415)
    assert ORIGIN == answer.headers["access-control-allow-origin"]
    assert "true" == answer.headers["access-control-allow-credentials"]


def test_a_public_ledger_can_be_read_by_any_page_and_a_closed_one_by_none(shared: World) -> None:
    project = tenant(shared)
    project.send_audit(audit())
    key = project.as_application
    path = f"/ledger/{project.name}/checkpoint"
    eventually(lambda: shared.http.get(path, headers=key).status_code == 200)
    origin = {"Origin": ORIGIN}
    closed = [shared.http.get(path, headers=headers) for headers in (origin, {**origin, **key})]
    assert [401, 200] == [answer.status_code for answer in closed]
    assert not any("access-control-allow-origin" in answer.headers for answer in closed)

    change = {"ledger_access": "public"}
    shared.http.patch(f"/v1/projects/{project.name}", json=change, headers=AS_ADMIN)

    for name, status in (("checkpoint", 200), ("tile/0/000", 404), ("nothing", 404)):
        answer = shared.http.get(f"/ledger/{project.name}/{name}", headers=origin)
        assert (status, "*") == (answer.status_code, answer.headers["access-control-allow-origin"])


# The address


@pytest.mark.parametrize("path", ["//api/e", "///api/e", "//api/e/", "http://shop.example/api/e"])
def test_an_address_that_clients_write_in_other_ways_is_the_same_route(
    shared: World, path: str
) -> None:
    uuid = fresh()
    answer = exchange(shared.url, post(path, json.dumps(product(uuid=uuid)).encode(), JSON))
    assert 200 == answer.status
    assert 1 == len(known_as(shared, uuid))


def test_doubled_slashes_lead_to_every_other_route_too(shared: World) -> None:
    assert 200 == exchange(shared.url, get("//healthz")).status
    answer = exchange(shared.url, get("//v1/events", f"Authorization: Bearer {API_KEY}"))
    assert 200 == answer.status


# Who is asking


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/events"), ("POST", "/v1/events/batch"), ("GET", "/v1/export"), ("GET", "/nope")],
)
def test_two_authorization_headers_are_none(shared: World, method: str, path: str) -> None:
    before = len(shared.events())
    twice = [f"Authorization: Bearer {API_KEY}"] * 2
    body = json.dumps(audit()).encode() if method == "POST" else b""
    request_ = post(path, body, JSON, *twice).replace(b"POST", method.encode())

    answer = exchange(shared.url, request_)

    assert (401, "invalid_api_key") == (answer.status, json.loads(answer.body)["code"])
    assert before == len(shared.events())


# Requests that are not read


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "malformed_request"),
        (post("/api/e", b"{}", "Content-Length: 1"), 400, "malformed_request"),
        (
            post("/api/e", b"{}", "Transfer-Encoding: chunked", "Content-Length: 2"),
            400,
            "malformed_request",
        ),
        (post("/api/e", b"{}", "Transfer-Encoding: gzip, chunked"), 501, "unknown_transfer_coding"),
        (post("/api/e", b"{}", "Transfer-Encoding: identity"), 501, "unknown_transfer_coding"),
        (post("/api/e", b"{}", "Expect: more"), 417, "expectation_failed"),
        (b"GET /" + b"a" * (1 << 16) + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (get("/", "A: " + "b" * (1 << 16)), 431, "head_too_large"),
        (get("/", *["A: b"] * 100), 431, "head_too_large"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "unsupported_http_version"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400, "malformed_request"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_request_that_is_not_read_is_refused_and_its_connection_ends(
    shared: World, request_: bytes, status: int, code: str
) -> None:
    with Line(shared.url) as line:
        line.send(request_ + get("/healthz"))
        answer = line.read()
        assert b"" == line.rest()

    assert (status, code) == (answer.status, json.loads(answer.body)["code"])
    assert "close" == answer.headers["connection"]
    assert {"ok", "message", "hint", "request_id"} <= json.loads(answer.body).keys()


def test_a_head_that_is_refused_is_answered_without_a_body_too(shared: World) -> None:
    with Line(shared.url) as line:
        line.send(get("/healthz", CHUNKED, method="HEAD") + b"no size\r\n")
        answer = line.read(is_head=True)
        assert b"" == line.rest()
    assert (400, "close") == (answer.status, answer.headers["connection"])


def test_a_witness_has_the_same_manners(tmp_path: Path) -> None:
    with witness(tmp_path / "w", [worked.SIGNER.key], new="witness.example/w1") as running:
        for request_, status in (
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (post("/add-checkpoint", b"old 0\n", "Transfer-Encoding: gzip"), 501),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (get("/healthz", method="HEAD"), 200),
        ):
            assert status == exchange(running.url, request_).status
        with Line(running.url) as line:
            line.send(post("/add-checkpoint", b"old 0\n\n")[:-1])
            line.half_close()
            assert 400 == line.read().status


# Connections that are used again


def test_requests_sent_ahead_are_answered_in_their_order(shared: World) -> None:
    uuids = [fresh() for _ in range(50)]
    requests = [
        post("/api/e", json.dumps(product(uuid=uuid)).encode(), JSON)
        if number % 2
        else post("/api/e", chunked(json.dumps(product(uuid=uuid)).encode()), JSON, CHUNKED)
        for number, uuid in enumerate(uuids)
    ]
    with Line(shared.url) as line:
        line.send(b"".join(requests))
        answers = [line.read() for _ in uuids]
    assert uuids == [json.loads(answer.body)["events"][0]["uuid"] for answer in answers]


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("head", "goes_on"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
        (b"GET /healthz HTTP/1.0\r\n\r\n", False),
        (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_a_connection_goes_on_as_long_as_the_client_wants(
    shared: World, head: bytes, goes_on: bool
) -> None:
    with Line(shared.url) as line:
        line.send(head)
        first = line.read()
        assert 200 == first.status
        assert goes_on == (first.headers.get("connection") != "close")
        if goes_on:
            line.send(head)
            assert 200 == line.read().status
        else:
            assert b"" == line.rest()


def test_a_client_that_expects_it_is_told_to_continue_before_it_sends_its_body(
    shared: World,
) -> None:
    body = json.dumps(product(uuid=fresh())).encode()
    request_ = post("/api/e", body, JSON, "Expect: 100-continue")
    with Line(shared.url) as line:
        line.send(request_[: -len(body)])
        assert 100 == line.read().status
        line.send(body)
        assert 200 == line.read().status


def test_a_client_is_told_to_continue_once_however_long_its_body(shared: World) -> None:
    body = json.dumps(product(properties={"text": "x" * 300_000})).encode()
    with Line(shared.url) as line:
        line.send(post("/api/e", body, JSON, "Expect: 100-continue")[: -len(body)])
        assert 100 == line.read().status
        for start in range(0, len(body), 100_000):
            line.send(body[start : start + 100_000])
            time.sleep(0.05)
        assert 200 == line.read().status


def test_a_body_that_is_not_wanted_is_refused_before_it_is_sent(shared: World) -> None:
    request_ = post("/v1/events", b"{}", JSON, "Expect: 100-continue")
    with Line(shared.url) as line:
        line.send(request_[:-2])
        assert 401 == line.read().status
        assert b"" == line.rest()


def test_a_client_that_closes_its_side_after_its_request_is_answered(shared: World) -> None:
    with Line(shared.url) as line:
        line.send(post("/api/e", json.dumps(product()).encode(), JSON))
        line.half_close()
        assert 200 == line.read().status
        assert b"" == line.rest()


def test_an_export_to_a_client_of_http_1_0_ends_with_the_connection(shared: World) -> None:
    shared.send(product())
    with Line(shared.url) as line:
        line.send(f"GET /v1/export HTTP/1.0\r\nAuthorization: Bearer {API_KEY}\r\n\r\n".encode())
        head, _, body = line.rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    whole = shared.http.get("/v1/export", headers=AS_APPLICATION).content
    assert whole.startswith(body)
    assert body.endswith(b"\n")


def test_an_early_answer_reaches_a_client_that_is_still_sending(shared: World) -> None:
    with Line(shared.url) as line:
        line.send(post("/v1/events", b" " * 8_000_000, JSON))
        answer = line.read()
        assert (401, "close") == (answer.status, answer.headers["connection"])
        assert b"" == line.rest()


# Bodies without an end


@pytest.mark.parametrize("path", ["/api/e", "/v1/events"])
def test_an_endless_body_is_refused_at_the_limit(shared: World, path: str) -> None:
    chunk = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
    with Line(shared.url) as line:
        line.send(post(path, b"", JSON, CHUNKED, f"Authorization: Bearer {API_KEY}"))
        for _ in range(21):
            line.send(chunk)
        answer = line.read()
    assert (413, "body_too_large") == (answer.status, json.loads(answer.body)["code"])


def test_an_endless_management_body_is_refused_at_the_limit(shared: World) -> None:
    key = f"Authorization: Bearer {AS_ADMIN['Authorization'].removeprefix('Bearer ')}"
    with Line(shared.url) as line:
        line.send(post("/v1/projects", b"", JSON, CHUNKED, key))
        line.send(b"%x\r\n%b\r\n" % (1 << 17, b" " * (1 << 17)))
        answer = line.read()
    assert (413, "body_too_large") == (answer.status, json.loads(answer.body)["code"])


def test_an_answer_is_a_canonical_error_whoever_gives_it(shared: World) -> None:
    answer = shared.http.post("/api/e", content=b"{}", headers={"Expect": "more"})
    assert_canonical_error(answer, 417, "expectation_failed")
