"""The balance, through the front door: captured = stored + dropped + in flight, exactly."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.accounting.account import MAX_GAPS
from indelible.drops import Dropping, Drops
from indelible.event import Lane
from indelible.metrics import PROJECT_EVENTS_DROPPED
from tests.accounting.test_accounting import Office, event, loss, opened
from tests.edge.wire import eventually
from tests.world import (
    ADMIN_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    bearer,
    started,
)


@dataclass
class Shop:
    """A new project of a server, with an empty log."""

    server: World
    name: str
    token: str
    api_key: str

    def send(self, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
        body = {"api_key": self.token, "batch": list(events), **more}
        answer: dict[str, Any] = self.server.send(body).json()
        return answer

    def balance(self) -> dict[str, Any]:
        """The balance by lane, once all that is stored is in it; each line of it adds up."""
        parameters = {"project": self.name}
        headers = bearer(ADMIN_KEY)
        page = self.server.http.get(
            "/v1/events", params={**parameters, "limit": 1}, headers=headers
        )
        newest = page.json()["events"]
        stored = newest[0]["index"] + 1 if newest else 0

        def told() -> dict[str, Any]:
            answer = self.server.http.get("/v1/balance", params=parameters, headers=headers)
            assert 200 == answer.status_code, answer.text
            balance: dict[str, Any] = answer.json()
            for lane in balance["lanes"]:
                for name in ("numbered", "others", "total"):
                    assert_adds_up(lane[name])
            return balance

        eventually(lambda: told()["next_index"] >= stored)
        balance = told()
        return {lane["lane"]: lane for lane in balance["lanes"]} | {"whole": balance}


def assert_adds_up(line: dict[str, Any]) -> None:
    explained = line["stored"] + sum(line["dropped"].values()) + line["in_flight"]
    assert line["captured"] == explained, line


def figures(line: dict[str, Any]) -> tuple[int, int, dict[str, int], int]:
    return line["captured"], line["stored"], line["dropped"], line["in_flight"]


@pytest.fixture
def shop(shared: ServerProcess) -> Shop:
    return new_shop(shared)


def new_shop(server: World) -> Shop:
    name = f"balance-{uuid.uuid4().hex[:12]}"
    made = server.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN).json()
    return Shop(server, name, made["token"], made["api_key"])


def numbered(process: str, *numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"event": "e", "distinct_id": "d", "process_id": process, "sequence": number, **more}
        for number in numbers
    ]


def test_every_event_is_in_one_term(shop: Shop) -> None:
    process = uuid.uuid4().hex
    mine = [{**one, "uuid": str(uuid.uuid4())} for one in numbered(process, 0, 1, 2)]
    report = {"uuid": str(uuid.uuid4()), "process_id": process, "counts": {"queue_full": 4}}
    shop.send(*mine, lost=report)
    shop.send(*mine, lost=report)  # all of it again
    shop.send(*numbered(process, 9))  # 3 to 8 are lost, or in flight

    other = {"event": "o", "distinct_id": "d", "uuid": str(uuid.uuid4())}
    shop.send(other, {"event": "p", "distinct_id": "d"})
    shop.send(other)  # again
    shop.send({"event": "", "distinct_id": "d"}, {"event": "x" * 201, "distinct_id": "d"}, other)
    shop.send({"event": "e"}, other)

    balance = shop.balance()
    lane = balance["product"]
    assert (10, 4, {"queue_full": 4}, 2) == figures(lane["numbered"])
    dropped = {"missing_event": 1, "name_too_long": 1, "missing_distinct_id": 1}
    assert (5, 2, dropped, 0) == figures(lane["others"])
    assert (15, 6, {**dropped, "queue_full": 4}, 2) == figures(lane["total"])
    assert (0, {}) == (lane["erased_uncounted"], lane["dropped_numbered"])
    assert (0, 0, {}, 0) == figures(balance["audit"]["total"])
    assert {"captured", "stored", "dropped", "in_flight"} == balance["whole"]["covers"].keys()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"event": ""}, "missing_event"),
        ({"properties": 7}, "invalid_event"),
        ({"uuid": [1]}, "invalid_event"),
        ({"properties": {"text": "x" * (1 << 20)}}, "event_too_large"),
        ({"properties": {f"k{n}": n for n in range(1_001)}}, "event_too_large"),
        ({"properties": {"list": list(range(50_001))}}, "event_too_large"),
    ],
)
def test_what_is_dropped_of_a_numbered_event_is_in_flight_until_it_is_reported(
    shop: Shop, bad: dict[str, Any], reason: str
) -> None:
    process = uuid.uuid4().hex
    shop.send(*numbered(process, 0), *numbered(process, 1, **bad), *numbered(process, 2))
    lane = shop.balance()["product"]
    assert (3, 2, {}, 1) == figures(lane["numbered"])
    assert ({reason: 1}, (0, 0, {}, 0)) == (lane["dropped_numbered"], figures(lane["others"]))

    report = {"uuid": str(uuid.uuid4()), "process_id": process, "counts": {"refused": 1}}
    shop.send(lost=report)
    lane = shop.balance()["product"]
    assert (3, 2, {"refused": 1}, 0) == figures(lane["numbered"])


def test_the_lane_of_audit_has_a_balance_of_its_own(shop: Shop) -> None:
    process = uuid.uuid4().hex
    place = {"process_id": process, "sequence": "1"}
    batch = [
        audit(),
        audit(**place),
        {"payload": 7, "meta": {"type": "info"}},
        {"payload": 7, "meta": {"type": "info", **place, "sequence": "0"}},
    ]
    answer = shop.server.http.post(
        "/v1/events/batch", json={"events": batch}, headers=bearer(shop.api_key)
    )
    assert (2, 2) == (answer.json()["accepted"], answer.json()["rejected"])

    balance = shop.balance()
    lane = balance["audit"]
    assert (2, 1, {}, 1) == figures(lane["numbered"])
    assert (2, 1, {"invalid_payload": 1}, 0) == figures(lane["others"])
    assert {"invalid_payload": 1} == lane["dropped_numbered"]
    assert (0, 0, {}, 0) == figures(balance["product"]["total"])


def test_a_month_that_is_used_up_drops_and_is_told(shop: Shop) -> None:
    path = f"/v1/projects/{shop.name}"
    shop.server.http.patch(path, json={"monthly_limit": 1}, headers=AS_ADMIN)

    shop.send(*({"event": "e", "distinct_id": "d"} for _ in range(3)))

    assert (3, 1, {"quota": 2}, 0) == figures(shop.balance()["product"]["others"])


def test_what_is_to_be_sent_again_is_not_dropped(shop: Shop) -> None:
    keys = shop.server.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]
    (key,) = (key["id"] for key in keys if key["token"] == shop.token)
    path = f"/v1/keys/{key}"
    shop.server.http.patch(path, json={"rate": 0.001, "burst": 1}, headers=AS_ADMIN)
    process = uuid.uuid4().hex
    report = {"uuid": str(uuid.uuid4()), "process_id": process, "counts": {"exit": 1}}

    shop.send(*numbered(process, 0, 1, 2), lost=report)

    lane = shop.balance()["product"]
    assert ({}, {}) == (lane["dropped_numbered"], lane["others"]["dropped"])


def test_what_was_erased_stays_counted(shop: Shop) -> None:
    answer = shop.send({"event": "e", "distinct_id": "d"}, {"event": "f", "distinct_id": "d"})
    shop.balance()
    body = {"project": shop.name, "tx_ids": [answer["events"][0]["tx_id"]]}
    assert 200 == shop.server.http.post("/v1/erasures", json=body, headers=AS_ADMIN).status_code

    lane = shop.balance()["product"]
    assert (2, 2, {}, 0, 0) == (*figures(lane["others"]), lane["erased_uncounted"])


def test_an_unknown_parameter_is_refused_and_a_key_without_the_scope(shop: Shop) -> None:
    get = shop.server.http.get
    answer = get("/v1/balance", params={"lane": "product"}, headers=AS_APPLICATION)
    assert_canonical_error(answer, 400, "unknown_parameter")
    assert_canonical_error(get("/v1/balance"), 401, "invalid_api_key")


@pytest.mark.skipif(not Path("/proc").exists(), reason="edges are processes on Linux alone")
def test_what_an_edge_has_dropped_is_told_after_it_ended(tmp_path: Path) -> None:
    import os
    import signal

    from tests.processes.test_family import children, wait_until

    with started(tmp_path, INDELIBLE_EDGES="1") as server:
        shop = new_shop(server)
        shop.send({"event": "", "distinct_id": "d"})
        assert {"missing_event": 1} == shop.balance()["product"]["others"]["dropped"]
        since = shop.balance()["whole"]["dropped_since"]

        (edge,) = (child for child in children(server) if child["name"].startswith("edge"))
        os.kill(edge["pid"], signal.SIGKILL)
        wait_until(lambda: _answers(server))
        shop.send({"event": "", "distinct_id": "d"})

        balance = shop.balance()
        assert {"missing_event": 2} == balance["product"]["others"]["dropped"]
        assert since == balance["whole"]["dropped_since"]


def _answers(server: ServerProcess) -> bool:
    import httpx

    try:
        return bool(200 == server.http.get("/healthz").status_code)
    except httpx.TransportError:
        return False


def test_a_server_tells_what_it_has_dropped_itself() -> None:
    name = uuid.uuid4().hex
    PROJECT_EVENTS_DROPPED.add(name, "product", "bot", "others")
    dropping = Dropping(lambda: 7)
    PROJECT_EVENTS_DROPPED.add(name, "product", "bot", "others", count=2)
    PROJECT_EVENTS_DROPPED.add(name, "product", "quota", "numbered")

    assert Drops(7, {"product": {"quota": 1}}, {"product": {"bot": 2}}) == dropping.of(name)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("12"), st.integers(0, 30)),
        st.tuples(st.sampled_from("12"), st.sampled_from(["exit", "expired"])),
        st.just(("none", 0)),
    ),
    max_size=40,
)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, cut=st.integers(0, 40))
def test_the_totals_are_the_sums_of_the_accounts_however_the_log_is_cut(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]], cut: int
) -> None:
    def one(who: str, what: Any) -> Any:
        if who == "none":
            return event("not a process", 1, Lane.AUDIT)
        if isinstance(what, int):
            return event(who * 32, what)
        return loss(who * 32, exit=2) if what == "exit" else loss(who * 32, expired=2)

    with opened(tmp_path_factory.mktemp("totals")) as office:
        for part in (steps[:cut], steps[cut:]):
            if part:
                office.store([one(*step) for step in part])
            office.count()
        accounts = office.accounts().values()
        totals = list(office.accounting.accounts.totals(office.project).values())

        assert sum(a.stored for a in accounts) == sum(t.stored for t in totals)
        assert sum(a.missing for a in accounts) == sum(t.missing for t in totals)
        lost = sum(a.lost_in_all for a in accounts)
        assert lost == sum(sum(t.lost.values()) for t in totals)
        assert sum(who == "none" for who, _ in steps) == sum(t.unnumbered for t in totals)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with opened(tmp_path) as office:
        yield office


def test_the_totals_stay_when_accounts_are_folded_away_or_have_too_many_gaps(
    office: Office,
) -> None:
    office.store([event("1" * 32, 2 * n) for n in range(MAX_GAPS + 50)])
    office.count()
    (before,) = office.accounting.accounts.totals(office.project).values()
    office.accounting.accounts.fold_away(office.project, before_ms=1 << 60)

    assert [before] == list(office.accounting.accounts.totals(office.project).values())
    assert (MAX_GAPS + 50, MAX_GAPS + 49) == (before.stored, before.missing)
