"""Health is red whenever nothing is stored, and says so from memory, however the disk is."""

import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indelible.api.deadline import READ_WITHIN_S
from tests.edge.disk import Disk, a_disk
from tests.edge.wire import eventually, first
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    World,
    assert_canonical_error,
    audit,
    inside,
    product,
)

RED_WITHIN_S = 2.0
ANSWERED_WITHIN_S = 5.0
SLACK_S = 0.5  # for a busy machine, beside what is promised


@pytest.fixture
def disk() -> Iterator[Disk]:
    with a_disk() as made:
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as made:
        yield made


def health_of(world: World) -> tuple[int, dict[str, Any]]:
    """The answer of /healthz, which never takes long."""
    began = time.monotonic()
    answer = world.http.get("/healthz")
    assert time.monotonic() - began < 1.0
    return answer.status_code, answer.json()


def seconds_until(reached: Callable[[], bool], within_s: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < within_s, "not in time"
        time.sleep(0.02)
    return time.monotonic() - began


def is_red(world: World, part: str) -> bool:
    status, health = health_of(world)
    return (503, "failing", "failing") == (status, health["status"], health[part]["status"])


def is_well(world: World) -> bool:
    status, health = health_of(world)
    return (200, "ok") == (status, health["status"])


def show(fault: str, red_s: float, answered_s: float, well_s: float) -> None:
    """One line for `pytest -rP`."""
    sys.stdout.write(
        f"{fault}: health red after {red_s:.2f} s, 503 after {answered_s:.2f} s,"
        f" well {well_s:.2f} s after the fault has gone\n"
    )


def uuids(world: World) -> Counter[str]:
    """How often each product event and each Idempotency-Key is in the log."""
    events = [event for event in world.events() if event["kind"] in ("product", "audit")]
    return Counter(event.get("uuid") or event["idempotency_key"] for event in events)


# A sync that does not end


@pytest.mark.clocked
def test_a_held_sync_is_red_within_2_s_refused_within_5_s_and_heals_by_itself(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        assert 200 == world.send(product(uuid="before")).status_code
        with disk.holding_syncs():
            began = time.monotonic()
            held = [pool.submit(world.send, product(uuid=f"p{n}")) for n in range(5)]
            held += [pool.submit(world.send_audit, audit(), f"a{n}") for n in range(5)]

            red_s = seconds_until(lambda: is_red(world, "journal"), RED_WITHIN_S + SLACK_S)
            _, health = health_of(world)
            assert "sync" in health["journal"]["failure"]
            assert health["journal"]["under_way_s"] > 1

            # What comes now is not put behind it.
            asked = time.monotonic()
            refused = world.send(product(uuid="late"))
            assert time.monotonic() - asked < 1.0
            assert "nothing" in assert_canonical_error(refused, 503, "unavailable")["message"]

            wait(held, timeout=60)
            answered_s = time.monotonic() - began
            assert answered_s < ANSWERED_WITHIN_S + SLACK_S
            for answer in held:
                body = assert_canonical_error(answer.result(), 503, "storing_slow")
                assert "may be stored" in body["message"]
            assert is_red(world, "journal")

        well_s = seconds_until(lambda: is_well(world), 5)
        show("held sync", red_s, answered_s, well_s)
        # Each of them is there once, whether or not it is sent again as it was asked to.
        again = [first(world.send(product(uuid=f"p{n}"))) for n in range(5)]
        assert [True] * 5 == [event["duplicate"] for event in again]
        repeated = [world.send_audit(audit(), f"a{n}").json() for n in range(5)]
        assert [True] * 5 == [event["duplicate"] for event in repeated]
        assert "duplicate" not in first(world.send(product(uuid="late")))
        names = ["before", "late", *(f"{lane}{n}" for lane in "pa" for n in range(5))]
        assert Counter(names) == uuids(world)


@pytest.mark.slow
def test_a_change_behind_a_sync_that_does_not_end_is_refused_and_was_not_begun(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        with disk.holding_syncs():
            held = pool.submit(world.send, product())
            eventually(lambda: world.count("indelible_bytes_waiting") > 0)
            made = world.http.post("/v1/projects", json={"name": "late"}, headers=AS_ADMIN)
            body = assert_canonical_error(made, 503, "unavailable")
            assert "not begun" in body["message"]
            wait([held], timeout=60)
        seconds_until(lambda: is_well(world), 5)
        made = world.http.post("/v1/projects", json={"name": "late"}, headers=AS_ADMIN)
        assert 201 == made.status_code


# A full disk


def test_a_full_disk_is_red_at_the_first_event_and_well_once_there_is_room(
    tmp_path: Path, disk: Disk
) -> None:
    with inside(
        tmp_path, vfs=disk.name, product_min_free_percent=0.0, audit_min_free_percent=0.0
    ) as world:
        assert is_well(world)
        disk.is_full = True
        began = time.monotonic()
        assert 503 == world.send(product(uuid="refused")).status_code
        answered_s = time.monotonic() - began
        _, health = health_of(world)
        assert is_red(world, "journal")
        red_s = time.monotonic() - began
        assert "FullError" in health["journal"]["failure"]
        assert health["journal"]["last_failure_at"] is not None
        time.sleep(1.2)  # no event comes; it is still full
        assert is_red(world, "journal")

        disk.is_full = False

        well_s = seconds_until(lambda: is_well(world), 5)  # though no event has come
        show("full disk", red_s, answered_s, well_s)
        assert "FullError" in health_of(world)[1]["journal"]["last_failure"]
        assert 200 == world.send(product(uuid="refused")).status_code
        assert Counter({"refused": 1}) == uuids(world)


# A disk that answers nothing


@contextmanager
def frozen(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is asked of the file system is not answered for the time of a `with`."""
    thawed = threading.Event()
    statvfs = os.statvfs

    def hung(path: Any) -> Any:
        thawed.wait(60)
        return statvfs(path)

    with monkeypatch.context() as patch, disk.hanging():
        patch.setattr(os, "statvfs", hung)
        try:
            yield
        finally:
            thawed.set()


@pytest.mark.clocked
def test_a_frozen_disk_is_red_within_2_s_though_nothing_is_sent(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        assert is_well(world)
        with frozen(disk, monkeypatch):
            seconds_until(lambda: is_red(world, "disk"), RED_WITHIN_S + SLACK_S)
            assert "the data folder" in health_of(world)[1]["disk"]["failure"]
            assert 200 == world.http.get("/metrics", headers=AS_ADMIN).status_code
        seconds_until(lambda: is_well(world), 5)


@pytest.mark.clocked
def test_on_a_frozen_disk_ingest_health_and_metrics_answer_whatever_hangs_in_reads(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inside(tmp_path, vfs=disk.name) as world:
        stored = [first(world.send(product(uuid=f"u{n}"))) for n in range(3)]
        paths = [f"/v1/events/{stored[n % 3]['tx_id']}" for n in range(40)] + ["/v1/export"] * 50
        with ThreadPoolExecutor(90) as readers, frozen(disk, monkeypatch):
            reads = [readers.submit(world.http.get, path, headers=AS_APPLICATION) for path in paths]
            began = time.monotonic()
            sent = [
                pool.submit(world.send, product(uuid="w"), params={"wait": "sealed"}),
                pool.submit(world.send_audit, audit(), "a"),
            ]
            red_s = seconds_until(lambda: is_red(world, "disk"), RED_WITHIN_S + SLACK_S)
            assert 200 == world.http.get("/metrics", headers=AS_ADMIN).status_code
            refused_at = time.monotonic()
            assert 401 == world.http.get("/v1/events").status_code
            assert time.monotonic() - refused_at < 1.0
            wait(sent, timeout=60)
            answered_s = time.monotonic() - began
            assert answered_s < ANSWERED_WITHIN_S + SLACK_S
            assert [503, 503] == [answer.result().status_code for answer in sent]

        well_s = seconds_until(lambda: is_well(world), 10)
        show("frozen disk", red_s, answered_s, well_s)
        wait(reads, timeout=60)
        assert 200 == world.http.get(paths[0], headers=AS_APPLICATION).status_code
        assert Counter({"u0": 1, "u1": 1, "u2": 1, "w": 1, "a": 1}) == uuids(world)


@pytest.mark.slow
def test_a_receipt_that_the_disk_holds_is_left_out_of_the_answer(
    tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inside(tmp_path, vfs=disk.name, seal_interval_ms=60_000) as world:
        world.send(product(), params={"wait": "sealed", "timeout": "5s"})  # sealed at once
        stored = world.count("indelible_events_stored_total", lane="product")
        sent = pool.submit(
            world.send, product(uuid="w"), params={"wait": "sealed", "timeout": "1s"}
        )
        eventually(lambda: world.count("indelible_events_stored_total", lane="product") > stored)
        with frozen(disk, monkeypatch):
            began = time.monotonic()
            answer = sent.result(60)
            assert time.monotonic() - began < ANSWERED_WITHIN_S
        assert 200 == answer.status_code
        assert "receipt" not in first(answer)


# A folder that is gone


def moved(folder: Path) -> Callable[[], None]:
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)

    def back() -> None:
        elsewhere.rename(folder)  # nothing has been written in its place

    return back


def without_its_wal(folder: Path) -> Callable[[], None]:
    wal, elsewhere = folder / "journal.db-wal", folder / "elsewhere"
    wal.rename(elsewhere)

    def back() -> None:
        elsewhere.rename(wal)

    return back


@pytest.mark.clocked
@pytest.mark.parametrize("take", [moved, without_its_wal])
def test_where_the_journal_is_not_in_its_place_nothing_is_acknowledged_until_it_is_back(
    tmp_path: Path, take: Callable[[Path], Callable[[], None]]
) -> None:
    data = tmp_path / "data"
    with inside(data) as world:
        sealed = {"wait": "sealed", "timeout": "10s"}
        assert 200 == world.send(product(uuid="before"), params=sealed).status_code
        eventually(lambda: is_well(world))
        put_back = take(data)
        began = time.monotonic()

        body = assert_canonical_error(world.send(product(uuid="gone")), 503, "unavailable")
        assert "journal.db" in body["message"]
        answered_s = time.monotonic() - began
        assert 503 == world.send_audit(audit(), "a").status_code
        seconds_until(lambda: is_red(world, "journal"), RED_WITHIN_S + SLACK_S)
        red_s = time.monotonic() - began

        put_back()

        well_s = seconds_until(lambda: is_well(world), 5)
        show(f"missing journal ({take.__name__})", red_s, answered_s, well_s)
        assert 200 == world.send(product(uuid="gone")).status_code
        assert 202 == world.send_audit(audit(), "a").status_code
    with inside(data) as world:
        assert Counter({"before": 1, "gone": 1, "a": 1}) == uuids(world)


def test_nothing_is_acknowledged_into_a_journal_that_was_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with inside(data) as world:
        assert 200 == world.send(product(uuid="before")).status_code
        data.rename(tmp_path / "removed")  # at once, whatever is being written there
        shutil.rmtree(tmp_path / "removed")

        for answer in (world.send(product(uuid="x")), world.send_audit(audit(), "k")):
            assert_canonical_error(answer, 503, "unavailable")
        seconds_until(lambda: is_red(world, "journal"), RED_WITHIN_S + SLACK_S)
        for path in ("/v1/events", "/v1/where?id=x"):
            answer = world.http.get(path, headers=AS_APPLICATION)
            assert answer.status_code in (200, 503), answer.text


# Reads that do not come back


@pytest.mark.slow
def test_a_read_that_the_disk_holds_is_answered_503_and_reading_works_again_afterwards(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inside(tmp_path, vfs=disk.name) as world, ThreadPoolExecutor(50) as readers:
        path = f"/v1/events/{first(world.send(product()))['tx_id']}"
        with frozen(disk, monkeypatch):
            began = time.monotonic()
            reads = [
                readers.submit(world.http.get, path, headers=AS_APPLICATION) for _ in range(40)
            ]
            for answer in reads:
                assert_canonical_error(answer.result(60), 503, "unavailable")
            assert time.monotonic() - began < READ_WITHIN_S + 2
            # Every thread is left behind: what comes now need not wait.
            began = time.monotonic()
            assert 503 == world.http.get(path, headers=AS_APPLICATION).status_code
            assert time.monotonic() - began < 1
        seconds_until(lambda: is_well(world), 10)
        assert 200 == world.http.get(path, headers=AS_APPLICATION).status_code
