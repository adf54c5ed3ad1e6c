"""The process that follows the log: it may end at any moment, and ingest does not notice."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import nursery
from tests.crash.load import History, Load, assert_nothing_lost_or_doubled, merged
from tests.processes.test_family import (
    LIMIT_S,
    children,
    descendants,
    family,
    fresh,
    is_alive,
    reader,
    wait_until,
)
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    ServerProcess,
    a_free_port,
    assert_canonical_error,
    audit,
    bearer,
    environment,
    product,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc").exists(), reason="asks Linux which processes there are"
)


def wait_until_it_serves(server: ServerProcess, restarts: int) -> None:
    def serves() -> bool:
        found = reader(server)
        return bool(found["serves"]) and found["restarts"] >= restarts

    wait_until(serves)


def kill_reader(server: ServerProcess) -> None:
    pid = reader(server)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs, for the time of a `with`."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_the_writer_opens_nothing_of_the_signed_logs_and_the_reader_nothing_to_write_events_with(
    tmp_path: Path,
) -> None:
    def opened(pid: int) -> set[str]:
        # An open file shows its mode in the flags of its descriptor: the last digit is 0 to read.
        found = set()
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                shown = Path(f"/proc/{pid}/fdinfo/{each.name}").read_text()
                mode = "r" if shown.partition("flags:")[2].split()[0].endswith("0") else "w"
                path = each.readlink()
                if path.parent == tmp_path:
                    found.add(f"{path.name} {mode}")
        return found

    with family(tmp_path) as server:
        server.send(product()).raise_for_status()
        wait_until(lambda: server.events())
        of_writer, of_reader = opened(server.process.pid), opened(reader(server)["pid"])
        assert "journal.db w" in of_writer
        assert not {name for name in of_writer if name.startswith(("lock.db", "seals.db"))}
        assert "journal.db r" in of_reader
        assert "journal.db w" not in of_reader


def test_while_the_reader_is_dead_ingest_goes_on_and_the_rest_is_told_to_come_again(
    tmp_path: Path,
) -> None:
    with family(tmp_path) as server:
        with stopped(descendants(server.process.pid)[0]):  # who forks: nobody is born meanwhile
            os.kill(reader(server)["pid"], signal.SIGKILL)
            wait_until(lambda: not reader(server)["serves"])
            for number in range(20):
                assert 200 == server.send(product(uuid=f"e{number}")).status_code
                assert 202 == server.send_audit(audit(), f"a{number}").status_code
            health = server.http.get("/healthz")
            assert 200 == health.status_code
            assert "degraded" == health.json()["status"] == health.json()["processes"]["status"]
            assert "degraded" == health.json()["ledger"]["status"]
            assert 200 == server.http.get("/metrics", headers=AS_ADMIN).status_code
            for path in ("/v1/events", "/docs", "/ledger/default/checkpoint"):
                answer = server.http.get(path, headers=AS_APPLICATION)
                assert_canonical_error(answer, 503, "unavailable")
                assert "2" == answer.headers["retry-after"]
        wait_until_it_serves(server, 1)
        assert 40 == len(server.events())
        wait_until(lambda: "ok" == server.http.get("/healthz").json()["status"])
        assert "reader, process" in server.output()
        assert "ended (signal SIGKILL) and was started again" in server.output()


def test_the_reader_is_killed_again_and_again_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    kill_readers(tmp_path, rounds=3)


@pytest.mark.slow
def test_the_reader_is_killed_twenty_times_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    kill_readers(tmp_path, rounds=20)


def kill_readers(tmp_path: Path, *, rounds: int) -> None:
    history = History()
    with family(tmp_path) as server:
        for killed in range(1, rounds + 1):
            wait_until_it_serves(server, killed - 1)
            load = Load(server.url)
            load.start()
            load.until_acked(100)
            kill_reader(server)
            load.until_acked(200)
            load.stop()
            mine = load.join()
            assert [] == mine.refused
            assert 0 == mine.unanswered()
            wait_until_it_serves(server, killed)
            history = merged([history, mine])
            assert_nothing_lost_or_doubled(server, history, mine)
        assert 0 == server.stop()


def test_it_is_back_within_seconds(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        kill_reader(server)
        since = time.monotonic()
        wait_until_it_serves(server, 1)
        assert time.monotonic() - since < LIMIT_S / 2


def test_a_wait_for_a_receipt_outlives_the_reader(tmp_path: Path) -> None:
    with family(tmp_path, INDELIBLE_SEAL_INTERVAL_MS="2000") as server:
        server.send(product()).raise_for_status()
        answers: list[Any] = []

        def wait() -> None:
            with fresh(server) as client:
                body = product(uuid="mine")
                answers.append(client.post("/api/e?wait=sealed&timeout=30s", json=body))

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: 2 == server.count("indelible_events_stored_total", lane="product"))
        kill_reader(server)
        waiting.join(LIMIT_S)
        (event,) = answers[0].json()["events"]
        assert "sealed" == event["status"]
        assert event["receipt"].startswith("c2sp.org/tlog-proof@v1")


def test_many_that_wait_for_receipts_all_get_one_though_the_reader_is_killed(
    tmp_path: Path,
) -> None:
    with family(tmp_path) as server:
        answers: list[Any] = []

        def wait(number: int) -> None:
            with fresh(server) as client:
                body = product(uuid=f"e{number}")
                answers.append(client.post("/api/e?wait=sealed&timeout=30s", json=body))

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(60)]
        for thread in threads[:30]:
            thread.start()
        kill_reader(server)
        for thread in threads[30:]:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        assert 60 == len(answers)
        assert {"sealed"} == {answer.json()["events"][0]["status"] for answer in answers}


def test_without_a_reader_who_waits_for_a_receipt_is_answered_without_one(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        with stopped(descendants(server.process.pid)[0]):
            os.kill(reader(server)["pid"], signal.SIGKILL)
            wait_until(lambda: not reader(server)["serves"])
            answer = server.http.post("/api/e?wait=sealed&timeout=500ms", json=product())
            (event,) = answer.json()["events"]
            assert "receipt" not in event
            assert "ok" == event["result"]
        wait_until_it_serves(server, 1)


def test_a_change_that_was_acknowledged_is_there_after_the_reader_is_killed(
    tmp_path: Path,
) -> None:
    with family(tmp_path) as server:
        for number in range(1, 4):
            made = server.http.post(
                "/v1/projects", json={"name": f"p{number}"}, headers=AS_ADMIN
            ).json()
            kill_reader(server)
            mine = bearer(made["api_key"])
            assert 202 == server.http.post("/v1/events", json=audit(), headers=mine).status_code
            wait_until_it_serves(server, number)
            names = [
                one["name"]
                for one in server.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]
            ]
            assert f"p{number}" in names
            events = server.http.get("/v1/events", headers=mine).json()["events"]
            assert "audit" in {event["kind"] for event in events}


def test_an_erasure_by_the_reader_destroys_what_the_writer_stored(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        sent = server.send(product(properties={"card": "4000-0566-5566-5556"}))
        tx_id = sent.json()["events"][0]["tx_id"]
        done = server.http.post(
            "/v1/erasures", json={"tx_ids": [tx_id], "dry_run": False}, headers=AS_ADMIN
        )
        assert done.is_success, done.text
        assert 1 == done.json()["erased"]
        refused = server.http.post(
            "/v1/erasures", json={"tx_ids": ["tx_" + "0" * 32]}, headers=AS_ADMIN
        )
        assert_canonical_error(refused, 404, "not_found")
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("journal.db*"))
    assert b"4000-0566-5566-5556" not in kept


def test_a_refused_start_says_what_the_reader_found_and_changes_nothing(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        server.send(product()).raise_for_status()
    (key,) = tmp_path.glob("keys/default.key")
    key.rename(tmp_path / "elsewhere")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.db")}
    with pytest.raises(AssertionError, match="the server ended") as ended, family(tmp_path):
        pass
    assert "log_key_missing" in str(ended.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("*.db")}
    (tmp_path / "elsewhere").rename(key)
    with family(tmp_path) as server:
        assert 1 == len(server.events())


def test_a_reader_that_cannot_work_on_what_it_finds_does_not_stop_ingest(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        server.send(product()).raise_for_status()
        (key,) = tmp_path.glob("keys/default.key")
        key.rename(tmp_path / "elsewhere")
        kill_reader(server)
        wait_until(lambda: reader(server)["restarts"] >= 3)
        assert 200 == server.send(product()).status_code
        wait_until(lambda: "default.key is not there" in (reader(server)["failure"] or ""))
        assert "degraded" == server.http.get("/healthz").json()["processes"]["status"]
        (tmp_path / "elsewhere").rename(key)
        wait_until_it_serves(server, 3)
        assert 2 == len(server.events())


def is_refused(server: ServerProcess) -> bool:
    with contextlib.suppress(httpx.TransportError), fresh(server) as client:
        answer = client.get("/v1/events", headers=AS_APPLICATION, timeout=1)
        return answer.status_code == 503
    return False


@pytest.mark.slow
def test_a_reader_that_hangs_is_ended_and_started_anew(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        pid = reader(server)["pid"]
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: "has said nothing" in (reader(server)["failure"] or ""))
        wait_until(lambda: is_refused(server))  # edges hear of it a moment later
        assert 200 == server.send(product()).status_code
        wait_until(lambda: not is_alive(pid))
        wait_until_it_serves(server, 1)
        assert "has said nothing for" in server.output()
        assert 1 == len(server.events())


def test_stopping_it_seals_what_is_stored(tmp_path: Path) -> None:
    with family(tmp_path, INDELIBLE_SEAL_INTERVAL_MS="3600000") as server:
        server.send(product()).raise_for_status()
        for _ in range(5):
            server.send([product() for _ in range(50)]).raise_for_status()
        assert 0 == server.stop()
    checkpoint = (tmp_path / "ledger/default/checkpoint").read_text()
    assert "251" == checkpoint.splitlines()[1]


def test_a_server_whose_reader_has_just_died_stops_in_order(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        os.kill(reader(server)["pid"], signal.SIGKILL)
        assert 0 == server.stop()
    with family(tmp_path) as server:
        assert [0, 0] == [child["restarts"] for child in children(server)]


def test_figures_of_the_reader_are_in_the_one_page_and_stay_when_it_ends(tmp_path: Path) -> None:
    def seals() -> float:
        return server.count("indelible_seal_seconds_count")

    with family(tmp_path) as server:
        server.send(product()).raise_for_status()
        wait_until(lambda: seals() >= 1)
        before = seals()
        kill_reader(server)
        wait_until_it_serves(server, 1)
        assert seals() >= before


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6])
def test_a_server_that_is_told_to_stop_while_it_starts_stops(
    tmp_path: Path, after_s: float
) -> None:
    output = tmp_path / "said.txt"
    with output.open("w") as said:
        process = nursery.start(
            ["serve", "--data", tmp_path / "data", "--port", str(a_free_port())],
            env=environment(INDELIBLE_EDGES="1"),
            stdout=said,
            stderr=said,
        )
    wait_until((tmp_path / "data/journal.db").exists)
    time.sleep(after_s)  # the story is of any moment
    process.send_signal(signal.SIGTERM)
    process.wait(LIMIT_S)
    assert "has not ended" not in output.read_text()
    assert "Traceback" not in output.read_text()
