"""Deadlines, limits and budgets of connections: what is used up, and what then happens."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indelible.serving import Patience
from tests.edge.lines import Line, Reply, chunked, exchange, held, post
from tests.edge.wire import eventually, fresh
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_APPLICATION,
    ServerProcess,
    World,
    a_free_port,
    environment,
    inside,
    product,
    started,
)

JSON = "Content-Type: application/json"
AS_KEY = f"Authorization: Bearer {API_KEY}".encode()
CHUNKED = "Transfer-Encoding: chunked"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
METRICS = (
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % ADMIN_KEY.encode()
)
MIB = 1024 * 1024


def closed(world: World, reason: str) -> float:
    """How many connections have ended for this reason, of all servers within the process."""
    return world.count("indelible_connections_closed_total", reason=reason)


def code_of(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["code"]


def event(uuid: str | None = None, *, padding: int = 0) -> bytes:
    """A product event as a body, of about `padding` bytes."""
    return json.dumps(product(uuid=uuid or fresh(), properties={"p": "x" * padding})).encode()


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with little patience."""
    patience = Patience(
        first_byte_s=0.3,
        head_s=0.5,
        idle_s=0.6,
        body_grace_s=0.5,
        body_s=1.5,
        body_bytes_per_s=2_000,
        answer_window_s=0.5,
        look_s=0.02,
    )
    with inside(tmp_path_factory.mktemp("hurried"), patience=patience) as world:
        # A connection that is kept might be closed as idle while it is used again.
        world.http.headers["Connection"] = "close"
        yield world


def test_a_connection_that_sends_nothing_is_closed(hurried: World) -> None:
    began, before = time.monotonic(), closed(hurried, "silent")
    with Line(hurried.url) as line:
        assert b"" == line.rest()
    assert 0.25 <= time.monotonic() - began < 5
    assert before + 1 == closed(hurried, "silent")


def test_a_head_that_trickles_in_is_answered_408_however_busily_it_trickles(
    hurried: World,
) -> None:
    began, before = time.monotonic(), closed(hurried, "slow_head")
    with Line(hurried.url) as line, contextlib.suppress(ConnectionError):
        for byte in HEALTH[:30]:
            line.send(bytes((byte,)))
            time.sleep(0.03)
    assert closed(hurried, "slow_head") == before + 1
    with Line(hurried.url) as line:
        line.send(HEALTH[:-1])
        assert (408, "request_timeout") == code_of(line.read())
    assert time.monotonic() - began < 10


def test_an_idle_connection_is_closed_and_counts_from_its_last_answer(hurried: World) -> None:
    with Line(hurried.url) as line:
        for _ in range(3):
            line.send(HEALTH)
            assert 200 == line.read().status
            time.sleep(0.3)
        began = time.monotonic()
        assert b"" == line.rest()
    assert time.monotonic() - began < 5


def test_a_body_that_is_too_slow_is_answered_408_and_not_stored(hurried: World) -> None:
    uuid = fresh()
    request = post("/api/e", event(uuid), JSON)
    with Line(hurried.url) as line:
        line.send(request[:-1])
        assert (408, "request_timeout") == code_of(line.read())
        with contextlib.suppress(ConnectionError):
            line.send(request[-1:])
        assert b"" == line.rest()
    assert uuid not in [e.get("uuid") for e in hurried.events()]


def test_a_body_may_take_its_time_as_long_as_it_keeps_its_rate(hurried: World) -> None:
    request = post("/api/e", event(padding=6_000), JSON)
    with Line(hurried.url) as line:
        for start in range(0, len(request), 300):
            line.send(request[start : start + 300])
            time.sleep(0.05)  # up to 6,000 bytes a second, for longer than the grace
        assert 200 == line.read().status


def test_no_body_takes_longer_than_the_longest_time_whatever_its_rate(hurried: World) -> None:
    began = time.monotonic()
    with Line(hurried.url) as line:
        line.send(post("/api/e", b" " * 1_000_000, JSON)[:-990_000])
        while not line.has_answer():
            line.send(b" " * 3_000)
            time.sleep(0.02)
        assert (408, "request_timeout") == code_of(line.read())
    assert 1.4 < time.monotonic() - began < 10


def test_a_client_that_does_not_read_its_answer_is_cut_off(hurried: World) -> None:
    for _ in range(12):
        hurried.send(product(properties={"p": "x" * 900_000})).raise_for_status()
    before = closed(hurried, "unread")
    with Line(hurried.url) as line:
        line.send(b"GET /v1/export HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % AS_KEY)
        eventually(lambda: closed(hurried, "unread") == before + 1, within_s=10)
        whole = line.rest()
    assert not whole.endswith(b"0\r\n\r\n")  # which tells a client that there was more
    assert 12 <= len(hurried.events())  # as one that reads it gets it


def test_a_client_that_reads_slowly_and_steadily_gets_the_whole_answer(hurried: World) -> None:
    for _ in range(12):
        hurried.send(product(properties={"p": "x" * 900_000})).raise_for_status()
    with hurried.http.stream("GET", "/v1/export", headers=AS_APPLICATION) as answer:
        lines = 0
        for piece in answer.iter_raw(1 << 20):
            lines += piece.count(b"\n")
            time.sleep(0.1)
    assert len(hurried.events()) == lines


# The number of connections


def test_the_longest_waiting_gives_way_to_a_newcomer(tmp_path: Path) -> None:
    with inside(tmp_path, patience=Patience(connections=6)) as world:
        world.close()
        with contextlib.ExitStack() as held:
            lines = []
            for opening in (HEALTH, b"", b"GET /half HT", b"", b"", b"", b"", b"", b""):
                line = held.enter_context(Line(world.url))
                line.send(opening)
                if opening == HEALTH:
                    line.read()
                lines.append(line)
            assert b"" == lines[0].rest()
            assert b"" == lines[1].rest()
            for _ in range(10):
                assert 200 == exchange(world.url, HEALTH).status
            assert b"" == lines[2].rest()
        assert closed(world, "crowded_out") >= 3


def test_where_every_connection_has_a_request_under_way_a_newcomer_is_told(tmp_path: Path) -> None:
    with inside(tmp_path, patience=Patience(connections=40)) as world:
        world.close()
        with contextlib.ExitStack() as held:
            for _ in range(40):
                held.enter_context(Line(world.url)).send(post("/api/e", b"{}", JSON)[:-1])
            time.sleep(0.2)
            with Line(world.url) as line:
                assert (503, "overloaded") == code_of(line.read())
        eventually(lambda: exchange(world.url, HEALTH).status == 200)


def test_connections_may_have_nine_tenths_of_the_descriptors_that_the_system_gives(
    tmp_path: Path,
) -> None:
    """A real process with a small hard limit and more clients than that, and it serves on."""
    port = a_free_port()
    command = (
        f'ulimit -n 1200; exec "{sys.executable}" -m indelible serve --port {port} --data "$0"'
    )
    process = subprocess.Popen(["sh", "-c", command, str(tmp_path)], env=environment(), stdout=-3)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(url))
        with held(url, 1_500, b"", HEALTH[:9]):
            eventually(lambda: answers(url))
            for _ in range(20):
                assert 200 == exchange(url, post("/api/e", event(), JSON)).status
            metrics = exchange(url, METRICS).body.decode()
        figures = dict(row.rsplit(" ", 1) for row in metrics.splitlines() if row[0] != "#")
        assert 1_050 <= float(figures["indelible_connections_open"]) <= 1_081
    finally:
        process.terminate()
        assert 0 == process.wait(60)


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return exchange(url, HEALTH).status == 200
    return False


# Memory


def resident_mib(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS:"))


def pour(url: str, count: int, size: int, held: contextlib.ExitStack) -> list[Line]:
    """Begin `count` bodies of `size` bytes, and send all of each but its last byte."""
    lines = []
    for _ in range(count):
        line = held.enter_context(Line(url))
        with contextlib.suppress(ConnectionError):
            line.send(post("/api/e", b" " * size, JSON)[:-1])
        lines.append(line)
    return lines


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("budget", "size"), [(8 * MIB, MIB), pytest.param(128 * MIB, 19 * MIB, marks=pytest.mark.slow)]
)
def test_unfinished_bodies_cost_no_more_memory_than_their_budget(
    tmp_path: Path, budget: int, size: int
) -> None:
    more = {"INDELIBLE_MAX_RECEIVING_BYTES": str(budget), "INDELIBLE_MAX_BODY_BYTES": str(size)}
    with started(tmp_path, **more) as server, contextlib.ExitStack() as held:
        server.send(product()).raise_for_status()
        before = resident_mib(server.process.pid)

        pour(server.url, 40, size, held)

        grown = (resident_mib(server.process.pid) - before) * MIB
        assert grown <= 1.5 * budget + 8 * MIB
        eventually(lambda: 0 < server.count("indelible_request_bytes_held") <= budget)
        assert 200 == server.send(product()).status_code
        eventually(lambda: closed(server, "no_memory") >= 40 - budget / size)


def test_bodies_that_hold_memory_keep_out_neither_small_ones_nor_one_that_comes_swiftly(
    tmp_path: Path,
) -> None:
    patience = Patience(memory_bytes=4 * MIB, reserved_bytes=MIB, look_s=0.02)
    with inside(tmp_path, patience=patience) as world, contextlib.ExitStack() as held:
        before = closed(world, "no_memory")
        pour(world.url, 8, 420_000, held)
        eventually(lambda: world.count("indelible_request_bytes_held") >= 8 * 420_000 - 8)
        time.sleep(0.5)  # they hold less than the next one does, and have for longer
        for padding in (0, 1_000_000, 0):
            assert 200 == exchange(world.url, post("/api/e", event(padding=padding), JSON)).status
        eventually(lambda: before + 1 <= closed(world, "no_memory") < before + 8)


def test_a_small_body_passes_while_large_ones_that_wait_for_their_receipts_fill_the_memory(
    tmp_path: Path,
) -> None:
    patience = Patience(memory_bytes=4 * MIB, reserved_bytes=MIB)
    with (
        ThreadPoolExecutor(4) as pool,
        # The first event is sealed at once, the others after a minute.
        inside(tmp_path, patience=patience, seal_interval_ms=60_000) as world,
    ):

        def send(padding: int, path: str = "/api/e") -> Reply:
            return exchange(world.url, post(path, event(padding=padding), JSON))

        assert 200 == send(0, "/api/e?wait=sealed&timeout=30s").status

        def stored() -> float:
            return world.count("indelible_events_stored_total", lane="product")

        before = stored()
        waiting = [pool.submit(send, 1_040_000, "/api/e?wait=sealed&timeout=10s") for _ in range(4)]
        eventually(lambda: stored() == before + 4)
        assert 200 == send(50_000).status
        assert (503, "overloaded") == code_of(send(1_000_000))
        assert [200] * 4 == [sent.result(60).status for sent in waiting]


def test_what_was_answered_is_held_no_longer(tmp_path: Path) -> None:
    patience = Patience(memory_bytes=2 * MIB, reserved_bytes=MIB)
    with inside(tmp_path, patience=patience) as world, Line(world.url) as line:
        for _ in range(10):
            line.send(post("/api/e", event(padding=900_000), JSON))
            assert 200 == line.read().status


def test_small_bodies_have_an_end_too(tmp_path: Path) -> None:
    patience = Patience(memory_bytes=MIB, reserved_bytes=MIB)
    with inside(tmp_path, patience=patience) as world, contextlib.ExitStack() as held:
        before = closed(world, "no_memory")
        lines = pour(world.url, 100, 60_000, held)
        eventually(lambda: closed(world, "no_memory") > before)
        assert 200 == exchange(world.url, post("/api/e", event(), JSON)).status
        reply = next(line for line in lines if line.has_answer()).read()
        assert (503, "overloaded", "1") == (*code_of(reply), reply.headers["retry-after"])


def test_heads_and_what_is_sent_ahead_count_too(tmp_path: Path) -> None:
    patience = Patience(memory_bytes=MIB, reserved_bytes=MIB)
    with inside(tmp_path, patience=patience) as world, contextlib.ExitStack() as held:
        before = closed(world, "no_memory")
        for _ in range(50):
            line = held.enter_context(Line(world.url))
            line.send(b"GET / HTTP/1.1\r\nA: " + b"a" * 60_000)
        eventually(lambda: closed(world, "no_memory") > before)
        assert 200 == exchange(world.url, HEALTH).status


@pytest.mark.parametrize("size", [1, 7])
def test_a_body_in_tiny_chunks_is_stored_whole(shared: World, size: int) -> None:
    body = event(uuid := fresh(), padding=50_000)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    reply = exchange(shared.url, post("/api/e", chunked(*parts), JSON, CHUNKED))
    assert (200, uuid) == (reply.status, json.loads(reply.body)["events"][0]["uuid"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.clocked
def test_many_tiny_chunks_cost_little_memory_and_keep_no_other_client_waiting(
    world: ServerProcess,
) -> None:
    ask = post("/api/e", event(), JSON)
    assert 200 == exchange(world.url, ask).status
    before = resident_mib(world.process.pid)
    data = chunked(*[b" "] * 500_000)[:-5]
    took = []
    with Line(world.url) as line:
        line.send(post("/api/e", b"", JSON, CHUNKED))
        for start in range(0, len(data), 1 << 17):
            line.send(data[start : start + (1 << 17)])
            began = time.perf_counter()
            assert 200 == exchange(world.url, ask).status
            took.append(time.perf_counter() - began)
        grown = resident_mib(world.process.pid) - before
    assert max(took) <= 0.1
    assert grown <= 8
