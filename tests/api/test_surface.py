"""What holds for every route: who may call it, what it refuses, and how it says so."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.world import (
    ADMIN_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    World,
    assert_canonical_error,
    bearer,
    inside,
)

PRODUCT = ("/api/e", "/batch/", "/batch")


def operations(world: World) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in world.http.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path.replace("{", "").replace("}", ""), operation


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(TOKEN),
        bearer("iml_live_unknown"),
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer"},
    ],
)
def test_a_route_behind_a_key_opens_for_nothing_else(
    shared: World, headers: dict[str, str]
) -> None:
    behind = [(m, p) for m, p, operation in operations(shared) if operation["security"]]
    assert len(behind) >= 12
    for method, path in behind:
        # The body and the parameters are wrong too: who is asking is looked at first.
        answer = shared.http.request(
            method, path, params={"limit": "x", "project": "y" * 99}, content=b"{", headers=headers
        )
        assert_canonical_error(answer, 401, "invalid_api_key")
        assert "Bearer" == answer.headers["www-authenticate"]


def test_an_application_key_cannot_manage(shared: World) -> None:
    managing = [(m, p) for m, p, operation in operations(shared) if "manage" in operation["tags"]]
    assert 13 == len(managing)
    for method, path in managing:
        answer = shared.http.request(method, path, content=b"{", headers=AS_APPLICATION)
        assert_canonical_error(answer, 403, "manage_scope_missing")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "text/plain;application/json", "application/x-www-form-urlencoded", None, ""],
)
def test_management_takes_json_only(shared: World, content_type: str | None) -> None:
    # A page of any origin can send these without a preflight.
    headers = {**AS_ADMIN, **({} if content_type is None else {"Content-Type": content_type})}
    for path in ("/v1/projects", "/v1/keys", "/v1/keys/x/rotate"):
        answer = shared.http.post(path, content=b'{"name":"forged"}', headers=headers)
        assert_canonical_error(answer, 415, "unsupported_media_type")
    answer = shared.http.patch("/v1/projects/default", content=b"{}", headers=headers)
    assert_canonical_error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_parameter"),
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"[]", 400, "invalid_parameter"),
        (b"null", 400, "invalid_parameter"),
        (b"{}", 400, "invalid_parameter"),
        (b'{"name":"Upper"}', 400, "invalid_parameter"),
        (b'{"name":"line\\n"}', 400, "invalid_parameter"),
        (b'{"name":"x","unknown":1}', 400, "unknown_parameter"),
        (b'{"name":"x","monthly_limit":-1}', 400, "invalid_parameter"),
        (b'{"name":"x","monthly_limit":1e99}', 400, "invalid_parameter"),
        (b'{"name":"default"}', 409, "already_exists"),
        (b'{"name":"x","kind":"' + b"a" * 70_000 + b'"}', 413, "body_too_large"),
    ],
)
def test_a_management_body_that_is_wrong_is_refused(
    shared: World, body: bytes, status: int, code: str
) -> None:
    headers = {**AS_ADMIN, "Content-Type": "application/json"}

    assert_canonical_error(
        shared.http.post("/v1/projects", content=body, headers=headers), status, code
    )


def asked(world: World, path: str, key: str, body: bytes, *, length: int | None = None) -> str:
    """The head of the answer to a request; of a body of `length` bytes, only `body` comes."""
    address = urlsplit(world.url)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as line:
        line.sendall(head.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += line.recv(4096)
    return answer.partition(b"\r\n\r\n")[0].decode()


@pytest.mark.parametrize(("path", "key"), [("/v1/projects", ADMIN_KEY), ("/v1/events", "nobodys")])
def test_an_answer_before_the_body_was_read_says_that_the_connection_ends(
    shared: World, path: str, key: str
) -> None:
    early = asked(shared, path, key, b'{"payload":"', length=70_000)
    assert early.startswith(("HTTP/1.1 413 ", "HTTP/1.1 401 "))
    assert "\r\nconnection: close" in early

    late = asked(shared, path, ADMIN_KEY, b"{}")
    assert late.startswith("HTTP/1.1 400 ")
    assert "connection" not in late


def test_only_product_ingest_answers_pages_of_other_origins(shared: World) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method, path, _ in operations(shared):
        for asked, headers in ((method, {**AS_ADMIN, **origin}), ("OPTIONS", origin)):
            # Only what stands at its head is looked at: an export may be long.
            with shared.http.stream(asked, path, headers=headers) as answer:
                names = [name for name in answer.headers if name.startswith("access-control-")]
            assert bool(names) == (path in PRODUCT), (method, path, names)


def test_allow_names_the_methods_that_the_description_names(shared: World) -> None:
    described: dict[str, set[str]] = {}
    for method, path, _ in operations(shared):
        described.setdefault(path, {"OPTIONS"}).update(
            {method, "HEAD"} if method == "GET" else {method}
        )
    for path, methods in described.items():
        for method in ("OPTIONS", "PATCH" if "PUT" in methods else "PUT"):
            answer = shared.http.request(method, path)
            assert methods == set(answer.headers["allow"].split(", ")), (method, path)
            if method == "PUT":
                assert_canonical_error(answer, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/nope", "/v1", "/v1/events/a/b", "/docs/x", "/_litestar", "/%00"]
)
def test_a_path_that_is_not_there_is_a_canonical_404(shared: World, path: str) -> None:
    assert_canonical_error(shared.http.get(path, headers=AS_ADMIN), 404, "not_found")


def test_an_error_repeats_the_callers_request_id(shared: World) -> None:
    for header in ("Request-Id", "X-Request-Id"):
        answer = shared.http.get("/v1/keys", headers={header: "order 7"})
        assert "order 7" == assert_canonical_error(answer, 401, "invalid_api_key")["request_id"]


def test_health_names_its_parts(shared: World) -> None:
    answer = shared.http.get("/healthz")

    assert 200 == answer.status_code
    processes = {"processes"} & set(answer.json())  # where there is more than one core
    assert {
        "status",
        "version",
        "journal",
        "disk",
        "ledger",
        "accounting",
        "identity",
        "live",
        "quality",
        "clock",
    } == (set(answer.json()) - processes)
    assert {"status": "ok", "failure": None}.items() <= answer.json()["journal"].items()


def test_health_is_red_when_no_lane_is_taken(tmp_path: Path) -> None:
    with inside(tmp_path, product_min_free_percent=100.0, audit_min_free_percent=100.0) as world:
        answer = world.http.get("/healthz")

        assert (503, "failing") == (answer.status_code, answer.json()["status"])
        assert_canonical_error(
            world.send({"api_key": TOKEN, "event": "e", "distinct_id": "d"}), 503, "unavailable"
        )
