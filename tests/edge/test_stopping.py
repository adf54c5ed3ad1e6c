"""What comes while the server stops gets an answer; what was under way is finished first."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import parse_note
from indelible.serving import Patience
from tests.edge.disk import a_disk
from tests.edge.lines import Line, Reply, exchange, post
from tests.edge.test_faults import bombard
from tests.edge.wire import eventually, fresh
from tests.ledger.format import worked
from tests.ledger.witness.witnesses import spawn
from tests.world import inside, product, started

JSON = "Content-Type: application/json"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def event(uuid: str) -> bytes:
    return post("/api/e", json.dumps(product(uuid=uuid)).encode(), JSON)


def code_of(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["code"]


def test_what_comes_while_the_server_stops_is_told_so_and_what_is_under_way_is_stored(
    tmp_path: Path,
) -> None:
    late, under_way = fresh(), event(fresh())
    with started(tmp_path) as server, Line(server.url) as slow, Line(server.url) as kept:
        kept.send(HEALTH)
        assert 200 == kept.read().status
        slow.send(under_way[:-1])
        time.sleep(0.1)  # it has been handed over
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)

        with Line(server.url) as fresh_line:
            for line in (kept, fresh_line):
                line.send(event(late))
                reply = line.read()
                assert (503, "unavailable") == code_of(reply)
                assert reply.headers["retry-after"].isdigit()
                assert "close" == reply.headers["connection"]

        slow.send(under_way[-1:])
        reply = slow.read()
        assert (200, "close") == (reply.status, reply.headers["connection"])
        assert 0 == server.process.wait(30)
        with pytest.raises(ConnectionError):
            Line(server.url)
    with started(tmp_path) as server:
        assert [json.loads(reply.body)["events"][0]["uuid"]] == [
            stored["uuid"] for stored in server.events()
        ]


def test_a_witness_that_stops_answers_what_is_under_way_and_tells_the_rest(tmp_path: Path) -> None:
    running = spawn(tmp_path / "w", [worked.SIGNER.key], new="witness.example/w1")
    request = post("/add-checkpoint", b"old 0\n\n")
    with Line(running.url) as slow:
        slow.send(request[:-1])
        time.sleep(0.1)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert 503 == exchange(running.url, HEALTH).status
        slow.send(request[-1:])
        assert 400 == slow.read().status
    assert 0 == running.process.wait(60)
    running.http.close()


def test_a_client_that_does_not_finish_holds_the_stop_up_for_a_bounded_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with inside(tmp_path, patience=Patience(stop_s=0.5)) as world:
            slow, idle = Line(world.url), Line(world.url)
            idle.send(HEALTH)
            assert 200 == idle.read().status
            slow.send(event(fresh())[:-1])
            time.sleep(0.1)  # it has been handed over
            reply = pool.submit(slow.read)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert (503, "unavailable") == code_of(reply.result(10))
        assert b"" == idle.rest()
        slow.close()
        idle.close()


def test_an_event_whose_sync_outlasts_the_stop_is_stored_and_sealed_at_its_end(
    tmp_path: Path,
) -> None:
    """The parts stop in the order in which an event passes them: door, journal, ledger."""
    patience = Patience(stop_s=0.3)
    with a_disk() as disk:
        with inside(tmp_path, vfs=disk.name, patience=patience, seal_interval_ms=60_000) as world:
            assert 200 == world.send(product()).status_code
            eventually(lambda: sealed_size(tmp_path) == 1)
            line, before = Line(world.url), disk.groups_synced
            holding = disk.holding_syncs()
            holding.__enter__()
            line.send(event(fresh()))
            eventually(lambda: disk.groups_synced == before + 1)
            threading.Timer(1.5, holding.__exit__, (None, None, None)).start()
        # It was not known in time whether it would be stored, and it was told so.
        assert (503, "unavailable") == code_of(line.read())
        line.close()
    assert 2 == sealed_size(tmp_path)


def test_all_that_was_acknowledged_before_the_end_is_sealed_when_the_process_has_ended(
    tmp_path: Path,
) -> None:
    with started(tmp_path, INDELIBLE_SEAL_INTERVAL_MS="60000") as server:
        senders = [bombard(server) for _ in range(8)]
        eventually(lambda: all(len(acknowledged) > 20 for acknowledged, _ in senders))
        assert 0 == server.stop()
        for _, thread in senders:
            thread.join(60)
        sealed = sealed_size(tmp_path)
    with started(tmp_path, INDELIBLE_SEAL_INTERVAL_MS="60000") as server:
        assert sealed == len(server.events())
    assert sealed >= sum(len(acknowledged) for acknowledged, _ in senders)


def sealed_size(data_dir: Path) -> int:
    """The size of the newest signed checkpoint on disk."""
    note = (data_dir / "ledger" / "default" / "checkpoint").read_text()
    return Checkpoint.parse(parse_note(note).text).size
