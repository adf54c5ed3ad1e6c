"""The payload of an observed request: two documented shapes, and the ladder that shortens it."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.client.context import Context
from indelible.hooks.observation import Failure, Request, Work
from indelible.hooks.payload import MAX_BYTES, clamped, payload_of, type_of


def seen(status: int | None = 200, **more: Any) -> Request:
    fixed: dict[str, Any] = {
        "method": "POST",
        "route": "/orders/{id}",
        "path": "/orders/7",
        "duration_s": 0.0284,
        "framework": "asgi",
        "context": Context(request_id="r-1", distinct_id="user_42"),
    }
    return Request(status=status, **{**fixed, **more})


def payload(request: Request | Work, dialect: Any = "nested", **ip_fields: str) -> dict[str, Any]:
    return payload_of(request, dialect=dialect, event_id="e-1", at_ms=0, ip_fields=ip_fields)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "success"),
        (204, "success"),
        (301, "info"),
        (101, "info"),
        (None, "info"),
        (404, "error"),
        (499, "error"),  # the application's own answer, as some proxies give it
        (503, "error"),
    ],
)
def test_the_status_decides_the_type(status: int | None, kind: str) -> None:
    assert kind == type_of(seen(status))


def test_an_exception_is_an_error_whatever_the_status() -> None:
    assert "error" == type_of(seen(200, failure=Failure(type="ValueError", message="")))


def test_a_client_that_left_and_a_path_that_nobody_serves_are_no_errors() -> None:
    assert ["info", "info", "info"] == [
        type_of(seen(499, aborted=True)),
        type_of(seen(404, route="<unmatched>")),
        type_of(seen(405, route="<unmatched>")),
    ]
    assert "error" == type_of(seen(404))


@pytest.mark.parametrize("dialect", ["nested", "flat"])
def test_nothing_is_said_of_a_path_that_no_route_took(dialect: str) -> None:
    said = payload(seen(200, route="<unmatched>", path="/ann@example.com"), dialect)
    assert "ann" not in json.dumps(said)


def test_the_nested_shape_is_that_of_the_python_and_node_middleware() -> None:
    assert {
        "id": "e-1",
        "kind": "error",
        "message": "POST /orders/{id}",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "context": {"ip_hash": "abc", "userAgent": "curl"},
        "request": {
            "requestId": "r-1",
            "method": "POST",
            "path": "/orders/7",
            "route": "/orders/{id}",
        },
        "metrics": {"latencyMs": 28, "statusCode": 503},
        "error": {"exception": "OSError", "exceptionMessage": "gone", "retryable": True},
        "actor": "user_42",
        "severity": "high",
    } == payload(
        seen(503, failure=Failure(type="OSError", message="gone"), user_agent="curl"), ip_hash="abc"
    )


def test_the_flat_shape_is_that_of_the_go_and_java_middleware() -> None:
    assert {
        "method": "POST",
        "path": "/orders/7",
        "status": 400,
        "latency_ms": 28,
        "client_ip": "192.0.2.1",
        "error": {"type": "KeyError", "message": "x", "retryable": False},
    } == payload(
        seen(400, failure=Failure(type="KeyError", message="x")), "flat", client_ip="192.0.2.1"
    )


def test_work_has_one_shape_in_both_dialects() -> None:
    work = Work(
        kind="task", name="mail", outcome="retry", framework="celery", context=Context(), details={}
    )
    assert payload(work) == payload(work, "flat")
    assert {"kind": "task", "name": "mail", "outcome": "retry"} == payload(work)["work"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(
    path=st.builds(lambda text, times: text * times, texts, st.integers(0, 80)),
    message=st.builds(lambda text, times: text * times, texts, st.integers(0, 80)),
    agent=st.none() | st.builds(lambda text, times: text * times, texts, st.integers(0, 80)),
    limit=st.integers(150, MAX_BYTES),
    dialect=st.sampled_from(["nested", "flat"]),
)
def test_a_payload_never_exceeds_its_limit_and_is_always_json(
    path: str, message: str, agent: str | None, limit: int, dialect: str
) -> None:
    whole = payload(
        seen(500, path=path, user_agent=agent, failure=Failure(type="E", message=message)), dialect
    )

    data = clamped(whole, limit)

    assert len(data) <= limit
    shown = json.loads(data)
    full = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
    if len(full) <= limit:
        assert whole == shown
    elif shown.get("truncated"):
        assert (len(full), hashlib.sha256(full).hexdigest()) == (
            shown["original_size"],
            shown["sha256"],
        )


def test_the_ladder_goes_down_one_rung_at_a_time() -> None:
    long = payload(seen(500, failure=Failure(type="E", message="m" * 500)))
    long["error"]["exceptionMessage"] = "m" * 5_000  # a hook of one's own need not shorten it
    much = {**long, "more": "x" * 5_000}

    assert 500 == len(json.loads(clamped(long, 3_000))["error"]["exceptionMessage"])
    without_error = json.loads(clamped(much, 5_500))
    assert "error" not in without_error
    assert 5_000 == len(without_error["more"])
    least = json.loads(clamped(much, 1_000))
    assert {"id", "kind", "message", "timestamp", "request", "metrics", "severity"} == set(least)
    cut = json.loads(clamped(payload(seen(path="/é" * 4_000)), 1_500))
    assert 200 == len(cut["request"]["path"])
