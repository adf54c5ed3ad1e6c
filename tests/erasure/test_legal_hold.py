"""A project on legal hold: nothing of it is erased, by nobody, and everybody is told why."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible.erasure.retention import Retention, Rule
from indelible.errors import LegalHold
from tests.journal.contract import DAY_MS, numbered
from tests.journal.rig import SqliteRig
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    World,
    assert_canonical_error,
    inside,
    product,
    started,
)


@pytest.fixture(params=["0", "1"], ids=["one process", "several"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with started(tmp_path / "data", INDELIBLE_EDGES=request.param) as server:
        yield server


def hold(world: World, is_held: bool, project: str = "default") -> dict[str, Any]:
    answer = world.http.patch(
        f"/v1/projects/{project}", json={"legal_hold": is_held}, headers=AS_ADMIN
    )
    assert 200 == answer.status_code, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def ask(world: World, **body: Any) -> httpx.Response:
    return world.http.post("/v1/erasures", json=body, headers=AS_ADMIN)


def sent(world: World, count: int, distinct_id: str = "ann") -> list[str]:
    batch = [{"event": "seen", "distinct_id": distinct_id, "properties": {}} for _ in range(count)]
    answer = world.send({"api_key": TOKEN, "batch": batch})
    assert 200 == answer.status_code, answer.text
    return [event["tx_id"] for event in answer.json()["events"]]


def test_on_legal_hold_no_selection_is_erased_and_off_it_each_is(server: World) -> None:
    (tx_id, *_) = sent(server, 3)
    assert hold(server, True)["legal_hold"]

    wanted: list[dict[str, Any]] = [
        {"tx_ids": [tx_id]},
        {"distinct_id": "ann"},
        {"distinct_id": "ann", "dry_run": True},
    ]
    for selection in wanted:
        body = assert_canonical_error(ask(server, **selection), 409, "legal_hold")
        assert "default" in body["message"]
        assert "--legal-hold off" in body["hint"]
    assert [] == [event for event in server.events() if event.get("erased")]

    assert not hold(server, False)["legal_hold"]
    assert 3 == ask(server, distinct_id="ann").json()["erased"]


def test_a_hold_is_of_one_project_and_its_change_an_event_of_the_log(server: World) -> None:
    server.http.post("/v1/projects", json={"name": "other"}, headers=AS_ADMIN)
    sent(server, 1)
    hold(server, True, "other")

    assert 1 == ask(server, distinct_id="ann").json()["erased"]
    hold(server, True)
    hold(server, False)

    told = [event["facts"] for event in server.events() if "project.changed" == event.get("event")]
    assert [{"legal_hold": True}, {"legal_hold": False}] == told
    page = server.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]
    assert {"default": False, "other": True} == {one["name"]: one["legal_hold"] for one in page}


def test_only_a_management_key_sets_a_hold_and_only_to_on_or_off(server: World) -> None:
    answer = server.http.patch(
        "/v1/projects/default", json={"legal_hold": True}, headers=AS_APPLICATION
    )
    assert_canonical_error(answer, 403, "manage_scope_missing")
    nonsense: tuple[object, ...] = (None, "true", 1, [], {})
    for wrong in nonsense:
        answer = server.http.patch(
            "/v1/projects/default", json={"legal_hold": wrong}, headers=AS_ADMIN
        )
        assert_canonical_error(answer, 400, "invalid_parameter")


def test_a_hold_lasts_over_a_restart(tmp_path: Path) -> None:
    with started(tmp_path / "data") as first:
        sent(first, 1)
        hold(first, True)
        first.kill()
    with started(tmp_path / "data") as again:
        assert_canonical_error(ask(again, distinct_id="ann"), 409, "legal_hold")


def test_once_a_hold_is_answered_nothing_more_is_erased_whatever_is_under_way(
    server: World,
) -> None:
    """Erasures race with the hold: each of them is before it in the log, or is refused."""
    tx_ids = [tx_id for _ in range(10) for tx_id in sent(server, 20)]
    answered: list[httpx.Response] = []
    begun = threading.Event()

    def erase(mine: list[str]) -> None:
        for tx_id in mine:
            answered.append(ask(server, tx_ids=[tx_id]))
            if len(answered) > 20:
                begun.set()

    threads = [threading.Thread(target=erase, args=(tx_ids[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    hold(server, True)
    for thread in threads:
        thread.join()

    events = server.events()
    held_at = next(e["index"] for e in events if "project.changed" == e.get("event"))
    erasures = [e["index"] for e in events if "erasure" == e["kind"]]
    assert [] == [index for index in erasures if index > held_at]
    refused = [answer for answer in answered if 200 != answer.status_code]
    assert len(tx_ids) - len(erasures) == len(refused)
    assert refused, "the hold came too late to be tested"
    for answer in refused:
        assert_canonical_error(answer, 409, "legal_hold")
    assert len(erasures) == sum(event.get("erased", False) for event in events)


def test_retention_erases_nothing_of_a_project_on_hold_and_all_that_is_due_after_it(
    tmp_path: Path,
) -> None:
    now_ms = [1_790_000_000_000]

    def old_events(world: World) -> int:
        return sum(1 for event in world.events() if event.get("erased"))

    for is_held, erased in ((True, 0), (False, 5)):
        with inside(tmp_path / "data", clock=lambda: now_ms[0]) as world:
            if is_held:
                sent(world, 5)
                world.http.patch(
                    "/v1/projects/default",
                    json={"retention_days": 1, "legal_hold": True},
                    headers=AS_ADMIN,
                )
                # so that the clock of the next start is not in doubt
                now_ms[0] += 40 * DAY_MS
                world.send(product(distinct_id="bob"))
            assert 0 == old_events(world)
            if not is_held:
                hold(world, False)
        if not is_held:
            with inside(tmp_path / "data", clock=lambda: now_ms[0]) as world:
                deadline = threading.Event()
                for _ in range(100):
                    if old_events(world) == erased:
                        break
                    deadline.wait(0.1)
                assert erased == old_events(world)


def test_a_hold_that_is_set_while_a_retention_runs_ends_it_for_that_project_alone(
    tmp_path: Path,
) -> None:
    rig = SqliteRig(tmp_path)
    held, other = rig.new_project(), rig.new_project()
    for project in (held, other):
        rig.journal.append(numbered(project, 30, prefix=f"p{project}-"))
    rig.clock.now_ms += 2 * DAY_MS
    with rig.journal.database.transaction() as connection:
        connection.execute("UPDATE project SET legal_hold = 1 WHERE id = ?", (held,))
    rules = [Rule(held, days=1), Rule(other, days=1)]  # as they were asked for before the hold
    retention = Retention(rig.folder, rig.journal, rules=lambda: rules, clock=rig.clock)

    assert 30 == retention.expire()

    assert all(entry.record is not None for entry in rig.journal.read(held, 0, 99))
    with pytest.raises(LegalHold, match="nothing of it is erased"):
        rig.journal.erase(held, [1], reason="request", received_at_ms=rig.clock.now_ms)
    assert 30 == rig.journal.next_index(held)
    retention.close()
    rig.close()
