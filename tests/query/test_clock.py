"""A server whose clock steps: what was received when is found, and said, whatever ids say."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.clock import now_ms, rfc3339
from indelible.moment import parse_time_ms
from tests.query.log import Log, new_log
from tests.world import AS_ADMIN, AS_APPLICATION, World, inside, product

DAY_MS = 24 * 60 * 60 * 1000


class Clock:
    """The machine's clock, put wrong by as much as it is told."""

    def __init__(self) -> None:
        self.off_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.off_ms


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[World]:
    with inside(tmp_path_factory.mktemp("data"), clock=clock) as world:
        yield world


def indexes(log: Log, **parameters: Any) -> list[int]:
    """Those of every page of a search, oldest first."""
    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        answer = log.http.get("/v1/events", params={**parameters, **cursor})
        assert 200 == answer.status_code, answer.text
        page = answer.json()
        found += [event["index"] for event in page["events"]]
        if page["next"] is None:
            return found if parameters.get("order") == "oldest" else found[::-1]
        cursor = {"cursor": page["next"]}


def clock_of(world: World) -> dict[str, Any]:
    part: dict[str, Any] = world.http.get("/healthz").json()["clock"]
    return part


def test_after_an_hour_of_a_clock_that_was_ahead_every_event_is_found_by_its_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with inside(tmp_path, clock=clock) as world:
        assert ("ok", 0.0) == (clock_of(world)["status"], clock_of(world)["ids_ahead_s"])
        world.send(product(uuid="before"))
        clock.off_ms = 40 * DAY_MS
        world.send(product(uuid="ahead"))
        clock.off_ms = 0
        world.send(product(uuid="after"))
        part = clock_of(world)
        assert "degraded" == part["status"]
        assert 39 * 86_400 < part["ids_ahead_s"] <= 40 * 86_400

    assert "ahead of the clock" not in caplog.text
    with inside(tmp_path, clock=clock) as world:
        assert "ahead of the clock" in caplog.text
        assert "degraded" == clock_of(world)["status"]
        world.send(product(uuid="later"))
        tomorrow = rfc3339(now_ms() + DAY_MS)
        found = world.http.get(
            "/v1/events", params={"to": tomorrow, "order": "oldest"}, headers=AS_APPLICATION
        ).json()["events"]
        assert ["before", "after", "later"] == [event["uuid"] for event in found]
        for event in found:
            stored_ms = parse_time_ms(event["stored_at"])
            assert stored_ms is not None
            assert stored_ms <= now_ms()
        (ahead,) = world.http.get(
            "/v1/events", params={"from": tomorrow}, headers=AS_APPLICATION
        ).json()["events"]
        assert "ahead" == ahead["uuid"]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_search_by_time_is_exact_whatever_the_clock_did(
    stepping: World, clock: Clock, data: st.DataObject
) -> None:
    steps = st.sampled_from([0, 0, 1_000, -1_000, 40 * DAY_MS, -40 * DAY_MS, 3_600_000])
    with new_log(stepping) as log:
        for step_ms in data.draw(st.lists(steps, min_size=1, max_size=10)):
            clock.off_ms += step_ms
            log.send({"batch": [{"event": "e", "distinct_id": "d"}] * data.draw(st.integers(1, 3))})
        received = [parse_time_ms(event["received_at"]) or 0 for event in log.export()]
        for _ in range(4):
            from_ms, to_ms = (
                received[data.draw(st.integers(0, len(received) - 1))]
                + data.draw(st.sampled_from([-1, 0, 1]))
                for _ in range(2)
            )
            wanted = [index for index, at in enumerate(received) if from_ms <= at < to_ms]
            for order in ("oldest", "newest"):
                for limit in (2, 50):
                    found = indexes(log, order=order, limit=limit, **{"from": from_ms, "to": to_ms})
                    assert wanted == found
    clock.off_ms = 0


def test_a_jump_is_said_in_health_and_log_and_nothing_expires(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with inside(tmp_path, clock=clock) as world:
        world.http.patch("/v1/projects/default", json={"retention_days": 30}, headers=AS_ADMIN)
        world.send(product(uuid="kept"))
        clock.off_ms = 40 * DAY_MS
        deadline = time.monotonic() + 10
        while clock_of(world)["last_jump_s"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
        part = clock_of(world)
        assert ("degraded", 40 * 86_400) == (part["status"], round(part["last_jump_s"]))
        assert "jumped by +3,456,000 s" in part["failure"]
        assert "jumped by +3,456,000 s" in caplog.text
        assert datetime.now(UTC).isoformat() < part["last_jump_at"]

    # A machine that starts with a wrong clock cannot see it jump.
    with inside(tmp_path, clock=clock) as world:
        time.sleep(0.5)  # a round would have been made at once
        assert "the newest event is of" in clock_of(world)["doubt"]
        assert "retention is postponed" in caplog.text
        (event,) = world.http.get("/v1/where?id=kept", headers=AS_APPLICATION).json()["events"]
        assert "erased" not in event
