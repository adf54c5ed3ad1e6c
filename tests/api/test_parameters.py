"""A parameter or member that a route does not have is refused, and named: never passed over."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    World,
    assert_canonical_error,
    audit,
    product,
)

PLACES = {
    "{tx_id}": "tx_019a9f3c7e0a7000a1b2c3d4e5f60718",
    "{key_id}": "key_0123456789ab",
    "{name}": "default",
}


def operations(world: World) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation that reads or manages, at a path that can be asked for."""
    for path, methods in world.http.get("/openapi.json").json()["paths"].items():
        for place, value in PLACES.items():
            path = path.replace(place, value)
        for method, operation in methods.items():
            if path.startswith(("/v1/", "/api/")) and {"read", "manage"} & set(operation["tags"]):
                yield method.upper(), path, operation


def parameters(operation: dict[str, Any]) -> set[str]:
    return {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"}


def test_every_route_that_reads_or_manages_names_the_parameter_that_it_does_not_have(
    shared: World,
) -> None:
    asked = list(operations(shared))
    assert len(asked) >= 16
    for method, path, operation in asked:
        answer = shared.http.request(
            method, path, params={"no_such": "1"}, json={}, headers=AS_ADMIN
        )
        body = assert_canonical_error(answer, 400, "unknown_parameter")
        assert "This route has no parameter `no_such`" == body["message"], (method, path)
        for name in parameters(operation):
            assert re.search(rf"\b{name}\b", body["hint"]), (method, path, name)


def test_every_parameter_that_the_description_names_is_known_and_is_given_once(
    shared: World,
) -> None:
    for method, path, operation in operations(shared):
        for name in parameters(operation):
            twice = shared.http.request(
                method, path, params=[(name, "1"), (name, "1")], headers=AS_ADMIN
            )
            body = assert_canonical_error(twice, 400, "invalid_parameter")
            assert f"`{name}` is given 2 times" == body["message"], (method, path)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/events?event=purchase", "`event_name`"),
        ("/v1/events?distinctId=user_42", "`distinct_id`"),
        ("/v1/events?distinct_ids=user_42", "`distinct_id`"),
        ("/v1/events?Limit=1", "`limit`"),
        ("/v1/events?limits=1", "`limit`"),
        ("/v1/senders?proces_id=1", "`process_id`"),
        ("/v1/where?ids=1", "`id`"),
        ("/v1/export?start_=1", "`start`"),
    ],
)
def test_a_misspelt_parameter_is_answered_with_the_one_that_was_meant(
    shared: World, path: str, meant: str
) -> None:
    body = assert_canonical_error(
        shared.http.get(path, headers=AS_APPLICATION), 400, "unknown_parameter"
    )
    assert body["hint"].startswith(f"Did you mean {meant}")


KNOWN = {
    *("after", "cursor", "distinct_id", "env", "event_name", "filter", "from"),
    *(
        "immutable_trail",
        "kind",
        "limit",
        "order",
        "project",
        "request_id",
        "service",
        "to",
        "trace_id",
        "type",
    ),
}


@settings(max_examples=60)
@example("")
@example("limit ")
@example("limit\x00")
@example("lim" * 5_000)
@given(st.text(max_size=80).filter(lambda name: name not in KNOWN))
def test_whatever_its_name_an_unknown_parameter_never_widens_a_search(
    shared: World, name: str
) -> None:
    answer = shared.http.get("/v1/events", params={name: "x", "limit": 1}, headers=AS_APPLICATION)

    body = assert_canonical_error(answer, 400, "unknown_parameter")
    assert len(body["message"]) < 120


def test_a_parameter_that_is_missing_is_named(shared: World) -> None:
    answer = shared.http.get("/v1/where", headers=AS_APPLICATION)

    body = assert_canonical_error(answer, 400, "invalid_parameter")
    assert "Missing: id" == body["message"]


def test_without_a_key_an_unknown_parameter_tells_nothing(shared: World) -> None:
    answer = shared.http.get("/v1/events?event=x")

    assert "distinct_id" not in assert_canonical_error(answer, 401, "invalid_api_key")["hint"]


def test_ingest_and_what_monitors_ask_for_pass_over_what_they_do_not_know(shared: World) -> None:
    sent = shared.http.post("/api/e?utm_source=mail&ver=1.2&_=173", json=product())
    written = shared.http.post("/v1/events?trace=1", json=audit(), headers=AS_APPLICATION)
    pixel = shared.http.get(f"/api/e?token={TOKEN}&cb=1&data=%7B%7D")

    assert (200, 202, 400) == (sent.status_code, written.status_code, pixel.status_code)
    assert "missing_event" == pixel.json()["code"]
    for path in ("/healthz", "/metrics", "/docs", "/openapi.json", "/ledger/default/checkpoint"):
        answer = shared.http.get(path, params={"cache_buster": "1"}, headers=AS_ADMIN)
        assert 200 == answer.status_code, path


# Bodies


@pytest.mark.parametrize(
    ("method", "path", "body", "unknown", "meant"),
    [
        ("POST", "/v1/projects", {"name": "p", "monthly": 5}, "monthly", "`monthly_limit`"),
        ("PATCH", "/v1/projects/default", {"retention": 5}, "retention", "`retention_days`"),
        ("POST", "/v1/keys", {"role": "admin", "network": ["::1"]}, "network", "`networks`"),
        ("POST", "/v1/keys/key_0123456789ab/rotate", {"grace": 5}, "grace", "`grace_s`"),
        (
            "POST",
            "/v1/erasures",
            {"distinct_id": "d", "dry_run": True, "dryrun": True},
            "dryrun",
            "`dry_run`",
        ),
        ("POST", "/v1/erasures", {"distinctId": "d"}, "distinctId", "`distinct_id`"),
        ("POST", "/v1/erasures", {"distinct_id": "d", "event": "e"}, "event", "Known here: "),
        ("POST", "/v1/projects", {"name": "p", "a`b\n" * 50: 5}, "a`b", "Known here: "),
    ],
)
def test_a_member_that_the_body_cannot_have_is_named(
    shared: World, method: str, path: str, body: dict[str, Any], unknown: str, meant: str
) -> None:
    answer = shared.http.request(method, path, json=body, headers=AS_ADMIN)

    refused = assert_canonical_error(answer, 400, "unknown_parameter")
    assert refused["message"].startswith(f"The body has no member `{unknown}")
    assert len(refused["message"]) < 120
    assert meant in refused["hint"]


def test_a_member_that_is_missing_is_named(shared: World) -> None:
    answer = shared.http.post("/v1/projects", json={"kind": "test"}, headers=AS_ADMIN)

    body = assert_canonical_error(answer, 400, "invalid_parameter")
    assert "Missing: name" == body["message"]
