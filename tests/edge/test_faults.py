"""When the disk, the memory or the process fails: nothing acknowledged is lost, nothing is lied."""

import contextlib
import http.client
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import httpx
import pytest

from indelible.errors import DataFolderInUse
from indelible.event import Lane
from tests.edge.disk import Disk, a_disk
from tests.edge.wire import JSON, Tenant, encoded, eventually, first, fresh, tenant
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    environment,
    inside,
    plain_client,
    product,
    started,
)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with a_disk() as made:
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as made:
        yield made


def uuids(world: World) -> Counter[str]:
    """How often each product event and each Idempotency-Key is in the log."""
    events = [event for event in world.events() if event["kind"] in ("product", "audit")]
    return Counter(event.get("uuid") or event["idempotency_key"] for event in events)


def received(world: World) -> float:
    """How many events of both lanes the server has read so far."""
    return sum(world.count("indelible_events_received_total", lane=lane) for lane in Lane)


def waiting(world: World) -> float:
    """Bytes of admitted events that wait for their sync."""
    return world.count("indelible_bytes_waiting")


# The sync


def test_an_answer_is_never_sent_before_the_sync(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        seen = received(world)
        with disk.holding_syncs():
            sent = [
                pool.submit(world.send, product()),
                pool.submit(world.send_audit, audit(), "k"),
                pool.submit(world.send, {"batch": [product()]}),
            ]
            eventually(lambda: received(world) == seen + 3)
            done, _ = wait(sent, timeout=0.3)
            assert set() == done
            assert [] == world.events()

        assert [200, 202, 200] == [answer.result(60).status_code for answer in sent]
        assert 3 == len(world.events())


def test_other_routes_answer_while_a_sync_is_under_way(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        stored = first(world.send(product()))
        with disk.holding_syncs():
            held = pool.submit(world.send, product())
            eventually(lambda: waiting(world) > 0)

            assert 200 == world.http.get("/healthz").status_code
            path = f"/v1/events/{stored['tx_id']}"
            assert 200 == world.http.get(path, headers=AS_APPLICATION).status_code
            assert_canonical_error(world.send({"event": "e"}), 401, "missing_token")
            assert 204 == world.http.options("/api/e").status_code
            assert not held.done()

        assert 200 == held.result(60).status_code


def test_followers_cause_no_sync_of_the_journal(tmp_path: Path, disk: Disk) -> None:
    with inside(tmp_path, vfs=disk.name, seal_interval_ms=10) as world:
        disk.synced_by.clear()
        for _ in range(5):
            stored = first(world.send(product()))
            path = f"/v1/events/{stored['tx_id']}/receipt?wait=sealed&timeout=60s"
            assert 200 == world.http.get(path, headers=AS_APPLICATION).status_code
        eventually(lambda: is_counted(world))
        assert {"journal-writer": 5} == disk.synced_by


def is_counted(world: World) -> bool:
    """Whether every event is sealed and in an account."""
    health = world.http.get("/healthz").json()
    return (
        health["ledger"]["oldest_unsealed_s"] is health["accounting"]["oldest_uncounted_s"] is None
    )


def test_requests_that_arrive_during_a_sync_share_the_next_one(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name, seal_interval_ms=3_600_000) as world:
        world.send(product())
        before = disk.groups_synced
        with disk.holding_syncs():
            one = pool.submit(world.send, product())
            eventually(lambda: disk.groups_synced == before + 1)
            seen = received(world)
            others = [pool.submit(world.send, product()) for _ in range(10)]
            others += [pool.submit(world.send_audit, audit()) for _ in range(10)]
            eventually(lambda: received(world) == seen + 20)

        answers = [sent.result(60) for sent in (one, *others)]
        assert {200, 202} == {answer.status_code for answer in answers}
        assert before + 2 == disk.groups_synced
        assert 22 == len(world.events())


def test_a_client_that_goes_away_during_the_sync_changes_nothing(
    tmp_path: Path, disk: Disk
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        line = http.client.HTTPConnection(world.url.removeprefix("http://"))
        with disk.holding_syncs(), contextlib.closing(line):
            line.request("POST", "/api/e", encoded(product(uuid="gone")), JSON)
            eventually(lambda: waiting(world) > 0)

        again = first(world.send(product(uuid="gone")))

        assert again["duplicate"] is True
        assert Counter({"gone": 1}) == uuids(world)


def test_after_a_failed_sync_nothing_is_acknowledged_until_the_restart(
    tmp_path: Path, disk: Disk
) -> None:
    acknowledged: list[str] = []
    with inside(tmp_path, vfs=disk.name) as world:
        for number in range(5):
            assert 200 == world.send(product(uuid=f"p{number}")).status_code
            assert 202 == world.send_audit(audit(), key=f"a{number}").status_code
            acknowledged += [f"p{number}", f"a{number}"]

        disk.sync_fails = True
        assert_canonical_error(world.send(product(uuid="refused")), 503, "unavailable")
        disk.sync_fails = False

        for _ in range(2):
            assert_canonical_error(world.send(product(uuid="refused")), 503, "unavailable")
            assert_canonical_error(world.send_audit(audit(), key="late"), 503, "unavailable")
        health = world.http.get("/healthz")
        assert (503, "failing") == (health.status_code, health.json()["status"])
        assert "failing" == health.json()["journal"]["status"]
        assert "sync" in health.json()["journal"]["failure"]
        assert "restart" in health.json()["journal"]["failure"]
        # What was acknowledged can still be read.
        assert set(acknowledged) <= uuids(world).keys()

    with inside(tmp_path) as world:
        counts = uuids(world)
        assert dict.fromkeys(acknowledged, 1) == {name: counts[name] for name in acknowledged}
        assert set(counts) - {"refused", "late"} == set(acknowledged)

        assert 200 == world.send(product(uuid="refused")).status_code
        assert 202 == world.send_audit(audit(), key="late").status_code
        assert 200 == world.http.get("/healthz").status_code
        counts = uuids(world)
        assert (1, 1) == (counts["refused"], counts["late"])


def test_every_request_of_a_group_whose_sync_failed_is_refused(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        disk.sync_fails = True
        with disk.holding_syncs():
            seen = received(world)
            sent = [pool.submit(world.send, product(uuid=f"u{n}")) for n in range(10)]
            eventually(lambda: received(world) == seen + 10)

        assert [503] * 10 == [answer.result(60).status_code for answer in sent]
        assert [] == world.events()
        disk.sync_fails = False


def test_a_server_whose_disk_fails_to_the_end_can_be_stopped_and_its_folder_used_again(
    tmp_path: Path, disk: Disk
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        assert 200 == world.send(product(uuid="kept")).status_code
        disk.sync_fails = True
        assert 503 == world.send(product()).status_code

    with inside(tmp_path) as world:
        assert 1 == uuids(world)["kept"]


def test_management_is_refused_after_a_failed_sync_too(tmp_path: Path, disk: Disk) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        disk.sync_fails = True
        assert 503 == world.send(product()).status_code
        disk.sync_fails = False
        answer = world.http.post("/v1/projects", json={"name": "late"}, headers=AS_ADMIN)
        assert_canonical_error(answer, 503, "unavailable")
        names = [
            project["name"]
            for project in world.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]
        ]
        assert ["default"] == names


# The full disk


def test_a_full_disk_refuses_and_works_again_once_space_returns(tmp_path: Path, disk: Disk) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        world.send(product(uuid="before"))
        disk.is_full = True
        batch = {
            "api_key": product()["api_key"],
            "batch": [product(uuid=f"b{n}") for n in range(9)],
        }
        for _ in range(2):
            assert_canonical_error(world.send(batch), 503, "unavailable")
            assert_canonical_error(world.send_audit(audit(), key="a"), 503, "unavailable")
        assert Counter({"before": 1}) == uuids(world)

        disk.is_full = False

        answer = world.send(batch)
        assert [None] * 9 == [event.get("duplicate") for event in answer.json()["events"]]
        assert world.send_audit(audit(), key="a").json()["duplicate"] is False
        assert 200 == world.http.get("/healthz").status_code
        expected = Counter({"before": 1, "a": 1, **{f"b{n}": 1 for n in range(9)}})
        assert expected == uuids(world)

    with inside(tmp_path) as world:
        assert expected == uuids(world)


def test_a_refused_batch_uses_up_nothing_of_the_month(tmp_path: Path, disk: Disk) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        project = tenant(world, monthly_limit=2)
        disk.is_full = True
        assert 503 == project.send().status_code
        disk.is_full = False
        assert ["ok", "ok", "drop"] == [first(project.send())["result"] for _ in range(3)]


# Little space


def test_product_stops_first_and_audit_goes_on(tmp_path: Path) -> None:
    with inside(tmp_path, product_min_free_percent=100.0, audit_min_free_percent=0.0) as world:
        body = assert_canonical_error(world.send(product()), 503, "unavailable")
        assert "100 %" in body["message"]
        assert 202 == world.send_audit(audit()).status_code
        # What needs no space is answered as ever.
        assert_canonical_error(world.send(product(api_key="x")), 401, "unknown_token")

        health = world.http.get("/healthz")
        assert (200, "degraded") == (health.status_code, health.json()["status"])
        disk_part = health.json()["disk"]
        assert (False, True) == (disk_part["takes_product"], disk_part["takes_audit"])
        assert (100.0, 0.0) == (
            disk_part["product_min_free_percent"],
            disk_part["audit_min_free_percent"],
        )
        assert 1 == len(world.events())


def test_when_both_lanes_have_stopped_health_is_failing(tmp_path: Path) -> None:
    with inside(tmp_path, product_min_free_percent=100.0, audit_min_free_percent=100.0) as world:
        for answer in (world.send(product()), world.send_audit(audit(), key="k")):
            assert_canonical_error(answer, 503, "unavailable")
        health = world.http.get("/healthz")
        assert (503, "failing", "ok") == (
            health.status_code,
            health.json()["status"],
            health.json()["journal"]["status"],
        )
        assert [] == world.events()


def test_a_server_with_room_is_well(shared: World) -> None:
    health = shared.http.get("/healthz")
    assert (200, "ok") == (health.status_code, health.json()["status"])


# Too much at once


def test_more_than_may_wait_is_refused_as_overloaded_and_stored_later(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name, max_waiting_bytes=1) as world:
        with disk.holding_syncs():
            held = pool.submit(world.send, product(uuid="first"))
            eventually(lambda: waiting(world) > 0)

            answer = world.send(product(uuid="second"))
            assert_canonical_error(answer, 503, "overloaded")
            assert_canonical_error(world.send_audit(audit(), key="third"), 503, "overloaded")
            assert "1" == answer.headers["retry-after"]
            large = [product(properties={"p": "x" * 1_000}) for _ in range(50)]
            assert_canonical_error(world.send({"batch": large}), 503, "overloaded")
            assert 200 == world.http.get("/healthz").status_code

        assert 200 == held.result(60).status_code
        eventually(lambda: waiting(world) == 0)
        assert Counter({"first": 1}) == uuids(world)

        assert "duplicate" not in first(world.send(product(uuid="second")))
        assert world.send_audit(audit(), key="third").json()["duplicate"] is False


def taken_or_answered(world: World, sent: Future[httpx.Response], weight: float) -> bool:
    """Whether a request has been answered, or waits for its sync with those before it."""
    return sent.done() or waiting(world) > weight


def test_what_waits_up_to_the_limit_is_taken(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name, max_waiting_bytes=20_000) as world:
        sent: list[Future[httpx.Response]] = []
        with disk.holding_syncs():
            while not sent or not sent[-1].done():
                weight = waiting(world)
                sent.append(pool.submit(world.send, product(uuid=f"u{len(sent)}")))
                eventually(partial(taken_or_answered, world, sent[-1], weight))
                assert len(sent) < 50
            assert weight <= 20_000
            assert 503 == sent[-1].result().status_code
            assert len(sent) > 10

        assert [200] * (len(sent) - 1) == [answer.result(60).status_code for answer in sent[:-1]]


# The process


def test_a_second_server_on_the_same_folder_refuses_and_the_first_goes_on(
    world: ServerProcess,
) -> None:
    world.send(product(uuid="before"))

    second = subprocess.run(
        [sys.executable, "-m", "indelible", "serve", "--data", str(world.data_dir), "--port", "0"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode != 0
    assert str(world.process.pid) in second.stdout + second.stderr
    with pytest.raises(DataFolderInUse), inside(world.data_dir):
        pass

    assert 200 == world.send(product(uuid="after")).status_code
    assert Counter({"before": 1, "after": 1}) == uuids(world)


def test_sigterm_answers_what_is_under_way_and_ends_with_0(tmp_path: Path) -> None:
    batch = [{"event": "e", "distinct_id": "d", "uuid": f"u{n}"} for n in range(10_000)]
    body = {"api_key": product()["api_key"], "batch": batch}
    with started(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(server.send, body)
        eventually(lambda: received(server) >= 10_000)

        assert 0 == server.stop()

        answer = sent.result(60)
        assert (200, 10_000) == (answer.status_code, answer.json()["accepted"])
    with inside(tmp_path) as world:
        assert 10_000 == len(world.events())


def bombard(server: World) -> "tuple[set[str], threading.Thread]":
    """Send events one by one until the server is gone; the set grows with each that is answered."""
    acknowledged: set[str] = set()

    def run() -> None:
        with plain_client(server.url) as line:
            while True:
                uuid = fresh()
                try:
                    if line.post("/api/e", json=product(uuid=uuid)).status_code == 200:
                        acknowledged.add(uuid)
                except httpx.TransportError:
                    return

    thread = threading.Thread(target=run)
    thread.start()
    return acknowledged, thread


def test_what_was_acknowledged_under_load_survives_sigterm_and_is_there_once(
    tmp_path: Path,
) -> None:
    with started(tmp_path) as server:
        senders = [bombard(server) for _ in range(8)]
        eventually(lambda: all(len(acknowledged) > 20 for acknowledged, _ in senders))
        assert 0 == server.stop()
        for _, thread in senders:
            thread.join(60)
    with inside(tmp_path) as world:
        counts = uuids(world)
        for acknowledged, _ in senders:
            assert [] == [uuid for uuid in acknowledged if counts[uuid] != 1]
        assert {1} == set(counts.values())


# The monthly limit


def test_the_monthly_limit_is_exact_however_many_send_at_once(
    shared: World, pool: ThreadPoolExecutor
) -> None:
    project = tenant(shared, monthly_limit=50, audit_monthly_limit=20)

    def send(number: int) -> tuple[int, int]:
        """How many product and audit events were stored."""
        match number % 3:
            case 0:
                return int(project.send().json()["accepted"]), 0
            case 1:
                return 0, int(project.send_audit(audit()).status_code == 202)
        batch = {"api_key": project.token, "batch": [{"event": "e", "distinct_id": "d"}] * 4}
        return int(shared.http.post("/api/e", json=batch).json()["accepted"]), 0

    product, audited = (sum(each) for each in zip(*pool.map(send, range(90)), strict=True))
    assert (50, 20) == (product, audited)
    assert 70 == len(project.log())


def test_over_the_limit_audit_is_429_product_is_200_and_a_repeat_is_still_known(
    shared: World,
) -> None:
    project = tenant(shared, monthly_limit=1, audit_monthly_limit=1)
    kept = first(project.send(uuid="u"))
    proven = project.send_audit(audit(), "k").json()

    refused = project.send_audit(audit(), "k2")
    body = assert_canonical_error(refused, 429, "monthly_limit_exceeded")
    assert "retry-after" not in refused.headers
    assert "retry" in body["hint"]
    assert ("drop", "quota") == (
        first(project.send(uuid="u2"))["result"],
        first(project.send(uuid="u2"))["reason"],
    )

    again = first(project.send(uuid="u"))
    assert (kept["index"], True) == (again["index"], again["duplicate"])
    repeated = project.send_audit(audit(), "k")
    assert (202, proven["tx_id"]) == (repeated.status_code, repeated.json()["tx_id"])
    assert_canonical_error(project.send_audit(audit("other"), "k"), 409, "idempotency_conflict")
    assert 2 == len(project.log())


def test_an_event_refused_by_the_limit_is_stored_once_the_limit_is_raised(shared: World) -> None:
    project = tenant(shared, monthly_limit=0, audit_monthly_limit=0)
    assert "quota" == first(project.send(uuid="u"))["reason"]
    assert 429 == project.send_audit(audit(), "k").status_code

    changed = shared.http.patch(
        f"/v1/projects/{project.name}",
        json={"monthly_limit": None, "audit_monthly_limit": None},
        headers=AS_ADMIN,
    )
    assert 200 == changed.status_code

    assert "ok" == first(project.send(uuid="u"))["result"]
    assert project.send_audit(audit(), "k").json()["duplicate"] is False


def test_the_count_of_the_month_survives_kill_9(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        project = tenant(server, monthly_limit=2, audit_monthly_limit=1)
        project.send(uuid="u1")
        project.send_audit(audit(), "k1")
        server.kill()
    with started(tmp_path) as server:
        again = Tenant(server, project.name, project.token, project.api_key)
        assert "ok" == first(again.send(uuid="u2"))["result"]
        assert "quota" == first(again.send(uuid="u3"))["reason"]
        assert 429 == again.send_audit(audit(), "k2").status_code
        assert first(again.send(uuid="u1"))["duplicate"] is True
        assert again.send_audit(audit(), "k1").json()["duplicate"] is True
        assert 3 == len(again.log())


def test_a_refusal_that_comes_again_and_again_is_logged_once_a_minute(tmp_path: Path) -> None:
    full = {"INDELIBLE_PRODUCT_MIN_FREE_PERCENT": "100", "INDELIBLE_AUDIT_MIN_FREE_PERCENT": "100"}
    with started(tmp_path, **full) as server:
        for _ in range(5):
            assert_canonical_error(server.send(product()), 503, "unavailable")
            assert_canonical_error(server.send_audit(audit()), 503, "unavailable")
        assert 1 == server.output().count("unavailable")
        assert "refused 1 request to /api/e: unavailable: " in server.output()
        server.stop()
        assert 2 == server.output().count("unavailable")
        assert "refused 9 requests mostly to /v1/events: unavailable: " in server.output()
