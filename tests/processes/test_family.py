"""A server of several processes: whichever ends, nothing acknowledged is lost and it comes back."""

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.crash.load import History, Load, assert_nothing_lost_or_doubled, merged
from tests.world import (
    AS_ADMIN,
    ServerProcess,
    assert_canonical_error,
    audit,
    bearer,
    plain_client,
    product,
    started,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc").exists(), reason="asks Linux which processes there are"
)
LIMIT_S = 60


@contextlib.contextmanager
def family(data_dir: Path, edges: int = 1, **env: str) -> Iterator[ServerProcess]:
    with started(data_dir, INDELIBLE_EDGES=str(edges), **env) as server:
        yield server


def children(server: ServerProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.http.get("/healthz").json()["processes"]["children"]
    return found


def edges(server: ServerProcess) -> list[dict[str, Any]]:
    return [child for child in children(server) if child["name"].startswith("edge-")]


def reader(server: ServerProcess) -> dict[str, Any]:
    (found,) = [child for child in children(server) if child["name"] == "reader"]
    return found


def pids(server: ServerProcess) -> list[int]:
    return [edge["pid"] for edge in edges(server) if edge["pid"] is not None]


def descendants(pid: int) -> list[int]:
    found = [pid]
    for each in found:  # grows while it is walked
        with contextlib.suppress(FileNotFoundError):
            for thread in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found[1:]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or before it was read
        return False


def wait_until(holds: Callable[[], object], within_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_all_serve(server: ServerProcess, count: int, restarts: int) -> None:
    def all_serve() -> bool:
        with contextlib.suppress(httpx.TransportError):
            there = edges(server)
            return (
                count == len([edge for edge in there if edge["serves"]])
                and sum(edge["restarts"] for edge in there) >= restarts
            )
        return False

    wait_until(all_serve)


def fresh(server: ServerProcess) -> httpx.Client:
    """A client with connections of its own, so that any edge may take them."""
    return plain_client(server.url)


def test_the_processes_are_a_part_of_health(tmp_path: Path) -> None:
    with family(tmp_path, edges=2) as server:
        wait_until_all_serve(server, 2, 0)
        health = server.http.get("/healthz").json()["processes"]
        assert "ok" == health["status"]
        assert ["reader", "edge-1", "edge-2"] == [child["name"] for child in health["children"]]
        assert {child["pid"] for child in health["children"]} <= set(
            descendants(server.process.pid)
        )
        schema = server.http.get("/openapi.json").json()["components"]["schemas"]
        assert set(server.http.get("/healthz").json()) == set(schema["Health"]["properties"])


def test_in_one_process_there_are_no_children(tmp_path: Path) -> None:
    with family(tmp_path, edges=0) as server:
        assert "processes" not in server.http.get("/healthz").json()
        assert [] == descendants(server.process.pid)


def test_every_edge_stores_into_the_same_log_and_counts_into_the_same_page(tmp_path: Path) -> None:
    with family(tmp_path, edges=2) as server:
        wait_until_all_serve(server, 2, 0)
        for number in range(40):
            with fresh(server) as client:
                client.post("/api/e", json=product(uuid=f"e{number}")).raise_for_status()
        assert 40 == len(server.events())
        wait_until(lambda: 40 == server.count("indelible_events_stored_total", lane="product"))


def test_what_an_ended_edge_had_counted_stays_counted(tmp_path: Path) -> None:
    def stored() -> float:
        return server.count("indelible_events_stored_total", lane="product")

    with family(tmp_path) as server:
        for sent in (1, 2, 3):
            server.send(product()).raise_for_status()
            assert sent == stored()  # and so the writer has it
            os.kill(pids(server)[0], signal.SIGKILL)
            wait_until_all_serve(server, 1, sent)
            assert sent == stored()


@pytest.mark.parametrize("count", [1, 2])
def test_edges_are_killed_again_and_again_and_nothing_acknowledged_is_lost(
    tmp_path: Path, count: int
) -> None:
    kill_edges(tmp_path, count, rounds=3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_edges_are_killed_twenty_times_and_nothing_acknowledged_is_lost(
    tmp_path: Path, count: int
) -> None:
    kill_edges(tmp_path, count, rounds=20)


def kill_edges(tmp_path: Path, count: int, *, rounds: int) -> None:
    history = History()
    with family(tmp_path, edges=count) as server:
        for killed in range(1, rounds + 1):
            wait_until_all_serve(server, count, killed - 1)
            victim = pids(server)[killed % count]
            load = Load(server.url)
            load.start()
            load.until_acked(100)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not is_alive(victim))  # noqa: B023 — called at once
            load.stop()  # those of another edge have not noticed
            mine = load.join()
            assert [] == mine.refused
            wait_until_all_serve(server, count, killed)
            history = merged([history, mine])
            assert_nothing_lost_or_doubled(server, history, mine)
        assert 0 == server.stop()
        assert "ended (signal SIGKILL) and was started again" in server.output()


def test_while_the_only_edge_is_dead_connections_wait_and_none_is_refused(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        for _ in range(3):
            (pid,) = pids(server)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid))  # noqa: B023 — called at once
            with fresh(server) as client:
                assert 200 == client.post("/api/e", json=product()).status_code
        assert 3 == len(server.events())


def test_after_the_writer_is_killed_nothing_of_the_server_is_left(tmp_path: Path) -> None:
    with family(tmp_path, edges=2) as server:
        wait_until_all_serve(server, 2, 0)
        born = descendants(server.process.pid)
        assert 4 == len(born)  # two edges, the reader, and the one that forks them
        os.kill(pids(server)[0], signal.SIGSTOP)  # one that reads nothing, not even the end
        server.kill()
        wait_until(lambda: not any(map(is_alive, born)))
        address = urlsplit(server.url)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.hostname, address.port), timeout=5)


def test_a_revoked_key_opens_nothing_at_any_edge_once_that_is_acknowledged(tmp_path: Path) -> None:
    with family(tmp_path, edges=2) as server, contextlib.ExitStack() as opened:
        wait_until_all_serve(server, 2, 0)
        clients = [opened.enter_context(fresh(server)) for _ in range(12)]
        for _ in range(5):
            made = server.http.post(
                "/v1/keys", json={"role": "application", "project": "default"}, headers=AS_ADMIN
            ).json()
            mine = bearer(made["secret"])
            for client in clients:  # acknowledged, so every edge knows it
                assert 202 == client.post("/v1/events", json=audit(), headers=mine).status_code
            answer = server.http.delete(f"/v1/keys/{made['key']['id']}", headers=AS_ADMIN)
            assert answer.is_success, answer.text
            for client in clients:
                refused = client.post("/v1/events", json=audit(), headers=mine)
                assert_canonical_error(refused, 401, "invalid_api_key")


def is_answered(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/healthz", timeout=2).status_code > 0
    return False


def test_an_edge_that_hangs_does_not_keep_a_revoked_key_alive(tmp_path: Path) -> None:
    with family(tmp_path, edges=2) as server:
        wait_until_all_serve(server, 2, 0)
        made = server.http.post(
            "/v1/keys", json={"role": "application", "project": "default"}, headers=AS_ADMIN
        ).json()
        mine = next(edge["pid"] for edge in edges(server))
        with contextlib.ExitStack() as opened:
            # One connection at each edge; that of the other one goes on.
            clients = [opened.enter_context(fresh(server)) for _ in range(8)]
            for client in clients:
                client.get("/healthz")
            os.kill(mine, signal.SIGSTOP)
            answering = next(client for client in clients if is_answered(client))
            answer = answering.delete(f"/v1/keys/{made['key']['id']}", headers=AS_ADMIN)
            assert answer.is_success, answer.text
            # Its line is over, so it is ending; for its silence it would be ended much later.
            wait_until(lambda: not is_alive(mine), within_s=5)
        wait_until_all_serve(server, 2, 1)
        with fresh(server) as client:
            refused = client.post("/v1/events", json=audit(), headers=bearer(made["secret"]))
            assert_canonical_error(refused, 401, "invalid_api_key")


@pytest.mark.slow
def test_an_edge_that_hangs_is_ended_and_started_anew(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        (pid,) = pids(server)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: not is_alive(pid))
        with fresh(server) as client:
            assert 200 == client.post("/api/e", json=product()).status_code
        wait_until_all_serve(server, 1, 1)
        assert "has said nothing for" in server.output()


def test_a_writer_that_hangs_is_told_of_at_the_edge(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        server.http.get("/healthz").raise_for_status()
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            health = server.http.get("/healthz")
            assert 503 == health.status_code
            assert "failing" == health.json()["status"] == health.json()["journal"]["status"]
            assert "ok" == health.json()["ledger"]["status"]  # as it was last known
            assert (
                b"indelible_requests_total" in server.http.get("/metrics", headers=AS_ADMIN).content
            )
            answer = server.send(product(uuid="mine"))
            assert_canonical_error(answer, 503, "storing_slow")
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        wait_until(lambda: 200 == server.http.get("/healthz").status_code)
        again = server.send(product(uuid="mine")).json()["events"][0]
        assert "ok" == again["result"]
        assert 1 == len(server.events())


def test_without_the_process_that_forks_the_server_stops_in_order(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        server.send(product()).raise_for_status()
        forking = descendants(server.process.pid)[0]
        os.kill(forking, signal.SIGKILL)
        assert 3 == server.process.wait(LIMIT_S)
        assert "process_lost" in server.output()
    with family(tmp_path) as server:
        assert 1 == len(server.events())


def test_a_server_whose_edge_has_just_died_stops_in_order(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        (pid,) = pids(server)
        os.kill(pid, signal.SIGKILL)
        assert 0 == server.stop()
    with family(tmp_path) as server:
        (pid,) = pids(server)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "has ended" in server.output())
        assert 0 == server.stop()


def test_an_edge_that_is_told_to_end_goes_on(tmp_path: Path) -> None:
    """Ctrl-C, and systemd, signal every process of the server: the writer says when to end."""
    with family(tmp_path) as server:
        for pid in descendants(server.process.pid):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        for _ in range(5):
            assert 200 == server.send(product()).status_code
        assert [0, 0] == [child["restarts"] for child in children(server)]


def test_an_edge_has_nothing_of_the_data_folder_open(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        server.send(product()).raise_for_status()
        for pid in {*descendants(server.process.pid)} - {reader(server)["pid"]}:
            handles = []
            for each in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    handles.append(str(each.readlink()))
            # Its output is what the test itself opened there.
            assert [] == [
                path
                for path in handles
                if path.startswith(str(tmp_path)) and not path.endswith("/output.txt")
            ]


def test_the_caller_is_known_behind_the_relay(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        made = server.http.post(
            "/v1/keys",
            json={"role": "application", "project": "default", "networks": ["203.0.113.0/24"]},
            headers=AS_ADMIN,
        ).json()
        mine = bearer(made["secret"])
        assert 403 == server.http.get("/v1/events", headers=mine).status_code
        inside = {**mine, "X-Forwarded-For": "203.0.113.7"}
        assert 200 == server.http.get("/v1/events", headers=inside).status_code


@pytest.mark.slow
@pytest.mark.clocked
def test_a_change_beside_very_many_keys_is_a_small_one_for_the_edges(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        project = server.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"][0]
        assert "default" == project["name"]
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as journal, journal:
        columns = [name for _, name, *_ in journal.execute("PRAGMA table_info(access_key)")]
        (like,) = journal.execute("SELECT * FROM access_key WHERE role = 'application'")
        row = dict(zip(columns, like, strict=True))
        places = ", ".join("?" * len(columns))
        journal.executemany(
            f"INSERT INTO access_key ({', '.join(columns)}) VALUES ({places})",
            (
                tuple(
                    {
                        **row,
                        "id": f"key_many_{n}",
                        "digest": n.to_bytes(32, "big"),
                        "fixed": 0,
                    }.values()
                )
                for n in range(100_000)
            ),
        )
    with family(tmp_path) as server:
        slowest_s = 0.0
        made = server.http.post(
            "/v1/keys", json={"role": "application", "project": "default"}, headers=AS_ADMIN
        ).json()
        stopping = threading.Event()
        revoking = threading.Thread(target=lambda: change_keys(server, stopping))
        revoking.start()
        try:
            for _ in range(200):
                since = time.monotonic()
                mine = bearer(made["secret"])
                assert 202 == server.http.post("/v1/events", json=audit(), headers=mine).status_code
                slowest_s = max(slowest_s, time.monotonic() - since)
        finally:
            stopping.set()
            revoking.join()
        assert slowest_s < 1.0  # 1.7 s is what one edge takes to read all of the keys
        (pid,) = pids(server)
        os.kill(pid, signal.SIGKILL)
        wait_until_all_serve(server, 1, 1)
        with fresh(server) as client:
            mine = bearer(made["secret"])
            assert 202 == client.post("/v1/events", json=audit(), headers=mine).status_code


def change_keys(server: ServerProcess, stopping: threading.Event) -> None:
    with fresh(server) as client:
        while not stopping.is_set():
            wanted = {"role": "application", "project": "default"}
            client.post("/v1/keys", json=wanted, headers=AS_ADMIN).raise_for_status()
