"""Whoever holds the public project token cannot pre-empt, read or change anything of audit."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.edge.wire import Tenant, b64, first, fresh, known_as, stored, tenant
from tests.world import (
    AS_ADMIN,
    TOKEN,
    World,
    assert_canonical_error,
    audit,
    bearer,
    product,
)

ROUTES = [
    ("POST", "/v1/events"),
    ("POST", "/v1/events/batch"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/{tx_id}"),
    ("GET", "/v1/where?id={key}"),
    ("GET", "/v1/export"),
    ("GET", "/v1/projects"),
    ("POST", "/v1/projects"),
    ("PATCH", "/v1/projects/default"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/keys/{key_id}/rotate"),
    ("DELETE", "/v1/keys/{key_id}"),
]

Credentials = Callable[[httpx.Request], None]


def by_bearer(request: httpx.Request) -> None:
    request.headers["Authorization"] = f"Bearer {TOKEN}"


def by_basic(request: httpx.Request) -> None:
    request.headers["Authorization"] = "Basic " + b64(f"{TOKEN}:".encode()).decode()


def by_query(request: httpx.Request) -> None:
    token = {"api_key": TOKEN, "token": TOKEN, "access_token": TOKEN, "key": TOKEN}
    request.url = request.url.copy_merge_params(token)


def by_header(request: httpx.Request) -> None:
    for name in ("X-Api-Key", "Api-Key", "X-Token", "Cookie"):
        request.headers[name] = f"token={TOKEN}" if name == "Cookie" else TOKEN


def an_audit_event(world: World, **parameters: str) -> tuple[str, str]:
    """Store one; its Idempotency-Key and its transaction id."""
    key = fresh()
    answer = world.send_audit(audit("secret payload"), key=key, params=parameters)
    assert 202 == answer.status_code
    return key, answer.json()["tx_id"]


def steps(event: dict[str, Any]) -> list[str]:
    return [step["step"] for step in event["life"] if step["at"] is not None]


def a_key_id(world: World) -> str:
    keys = world.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]
    return next(str(key["id"]) for key in keys if key["role"] == "application")


def keys(world: World) -> list[tuple[str, str | None]]:
    """Every key, and when it was revoked; one of another test may expire at any moment."""
    listed = world.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]
    return [(key["id"], key["revoked_at"]) for key in listed]


@pytest.mark.parametrize("credentials", [by_bearer, by_basic, by_query, by_header])
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_token_opens_no_route_of_audit_reading_or_management(
    shared: World, method: str, route: str, credentials: Credentials
) -> None:
    key, tx_id = an_audit_event(shared)
    keys_before = keys(shared)
    path = route.format(tx_id=tx_id, key=key, key_id=a_key_id(shared))
    body: Any = {**audit("forged"), "name": "forged", "role": "admin", "api_key": TOKEN}
    request = shared.http.build_request(method, path, json=None if method == "GET" else body)
    credentials(request)

    answer = shared.http.send(request)

    assert_canonical_error(answer, 401, "invalid_api_key")
    assert "secret payload" not in answer.text
    assert keys_before == keys(shared)


def test_a_product_event_cannot_take_an_idempotency_key_first(shared: World) -> None:
    key = fresh()
    squatted = first(shared.send(product(uuid=key)))

    answer = shared.send_audit(audit(), key=key)

    assert 202 == answer.status_code
    assert answer.json()["duplicate"] is False
    assert squatted["tx_id"] != answer.json()["tx_id"]
    assert {"product", "audit"} == {event["kind"] for event in known_as(shared, key)}


def test_a_product_event_cannot_take_the_place_of_a_stored_audit_event(shared: World) -> None:
    # Sealed, it is what it will be, whenever it is read.
    key, tx_id = an_audit_event(shared, wait="sealed", timeout="30s")
    before = stored(shared, tx_id)

    for uuid in (key, tx_id, tx_id[3:], f"audit\x00{key}", f"{key}/0"):
        assert "ok" == first(shared.send(product(uuid=uuid)))["result"]

    assert before == stored(shared, tx_id)
    again = shared.send_audit(audit("secret payload"), key=key).json()
    assert (tx_id, True) == (again["tx_id"], again["duplicate"])


def test_the_lanes_do_not_meet_through_a_zero_byte(shared: World) -> None:
    """Unique keys are made of lane, zero byte and id: no id may reach into the other lane."""
    key = fresh()
    for uuid in (f"\x00{key}", f"audit\x00{key}", f"product\x00{key}", f"{key}\x00"):
        assert "ok" == first(shared.send(product(uuid=uuid)))["result"]
    assert shared.send_audit(audit(), key=key).json()["duplicate"] is False


@pytest.mark.parametrize(
    "trick",
    [
        {"kind": "audit", "lane": "audit"},
        {"kind": 2, "lane": 2},
        {"meta": {"type": "success", "event_name": "order.created"}, "payload": "forged"},
        {"idempotency_key": "HERE", "tx_id": "HERE", "index": 0},
        {"$extra": {"kind": "audit", "meta": {"type": "audit"}}},
        {"request": {"request_id": "forged"}, "status": "accepted"},
        {"properties": {"kind": "audit", "meta": {}, "payload": "forged", "$lane": "audit"}},
        {"$set": {"kind": "audit"}, "received_at": "2020-01-01T00:00:00Z", "life": []},
        {"erased": True, "facts": {}},
    ],
)
def test_no_member_of_a_product_event_makes_it_an_audit_event(
    shared: World, trick: dict[str, Any]
) -> None:
    key, tx_id = an_audit_event(shared)
    event = json.loads(json.dumps(product(**trick)).replace("HERE", key))

    result = first(shared.send(event))

    read = stored(shared, result["tx_id"])
    assert ("product", result["index"]) == (read["kind"], read["index"])
    assert steps(read) in (["received", "stored"], ["received", "stored", "sealed"])
    assert steps(read)[-1] == read["status"]
    assert read["received_at"] > "2026"
    assert not {"meta", "payload", "idempotency_key", "erased", "facts"} & read.keys()
    assert [tx_id] == [found["tx_id"] for found in known_as(shared, key)]


@pytest.mark.parametrize("name", ["order.created", "user.deleted", "key.created", "$audit"])
def test_a_product_event_named_like_an_audit_event_is_found_as_a_product_event(
    shared: World, name: str
) -> None:
    project = tenant(shared)
    project.send(event=name)

    found = shared.http.get(
        "/v1/events", params={"event_name": name, "kind": "audit"}, headers=project.as_application
    )

    assert [] == found.json()["events"]
    assert ["product"] == [event["kind"] for event in project.log()]


def test_a_flood_to_the_quota_changes_and_hides_no_audit_event(shared: World) -> None:
    project = tenant(shared, monthly_limit=20)
    kept = project.send_audit(audit("kept"), "k-1").json()
    flood = [{"event": "flood", "distinct_id": "d"} for _ in range(50)]

    answer = shared.http.post("/api/e", json={"api_key": project.token, "batch": flood})

    assert 20 == answer.json()["accepted"]
    read = shared.http.get(f"/v1/events/{kept['tx_id']}", headers=project.as_application).json()
    assert ("kept", kept["index"]) == (read["payload"], read["index"])
    again = project.send_audit(audit("kept"), "k-1")
    assert (202, kept["tx_id"]) == (again.status_code, again.json()["tx_id"])
    assert again.json()["duplicate"] is True
    assert 202 == project.send_audit(audit("after the flood"), "k-2").status_code


def test_asking_the_ingest_route_reads_nothing(shared: World) -> None:
    key, tx_id = an_audit_event(shared)
    for query in (
        {"token": TOKEN},
        {"token": TOKEN, "id": tx_id},
        {"token": TOKEN, "uuid": key},
        {"token": TOKEN, "data": json.dumps({"uuid": key})},
        {"token": TOKEN, "data": json.dumps({"kind": "audit", "limit": 10})},
    ):
        answer = shared.http.get("/api/e", params=query)
        assert 400 == answer.status_code
        assert "secret payload" not in answer.text
        assert tx_id not in answer.text


def test_sending_the_uuid_of_an_audit_event_tells_nothing_of_it(shared: World) -> None:
    key, tx_id = an_audit_event(shared)

    for uuid in (key, tx_id):
        answer = shared.send(product(uuid=uuid))
        assert "duplicate" not in first(answer)
        assert tx_id != first(answer)["tx_id"]


@pytest.mark.parametrize("route", ["/v1/events", "/v1/events/batch"])
def test_an_audit_body_with_the_token_in_it_is_refused(shared: World, route: str) -> None:
    body = {**audit(), "api_key": TOKEN, "token": TOKEN, "events": [audit()]}
    assert_canonical_error(shared.http.post(route, json=body), 401, "invalid_api_key")


def test_an_audit_body_sent_to_product_ingest_is_no_audit_event(shared: World) -> None:
    key = fresh()
    body = {**audit("smuggled"), "api_key": TOKEN, "event": "e", "distinct_id": "d"}
    for route in ("/api/e", "/batch/"):
        answer = shared.http.post(route, json=body, headers={"Idempotency-Key": key})
        assert "product" == stored(shared, first(answer)["tx_id"])["kind"]
    assert [] == known_as(shared, key)


def others(project: Tenant) -> list[tuple[str, dict[str, str]]]:
    return [("token", bearer(project.token)), ("key", project.as_application)]


def test_neither_token_nor_key_of_one_project_reads_another(shared: World) -> None:
    _, tx_id = an_audit_event(shared)
    stranger = tenant(shared)

    for word, headers in others(stranger):
        answer = shared.http.get(f"/v1/events/{tx_id}", headers=headers)
        assert (401 if word == "token" else 404) == answer.status_code
        answer = shared.http.get("/v1/export", headers=headers, params={"project": "default"})
        assert (401 if word == "token" else 403) == answer.status_code
