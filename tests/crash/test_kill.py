"""`kill -9` of the serve PID under load: nothing acknowledged is lost, nothing is stored twice."""

import contextlib
import fcntl
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from indelible.moment import parse_time_ms
from tests.crash.load import (
    Ack,
    Exported,
    History,
    Load,
    assert_nothing_lost_or_doubled,
    batch,
    complaints,
    merged,
    resend,
    single,
)
from tests.world import ServerProcess, a_free_port, audit, product, spawn, started

pytestmark = pytest.mark.crash

RESTART_S = 5.0
GONE_S = 10.0
DAY_MS = 24 * 60 * 60 * 1000


def test_killed_under_load_it_keeps_what_it_acknowledged_once(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path / "data", rounds=4)


@pytest.mark.slow
def test_killed_twenty_times_under_load_it_keeps_what_it_acknowledged_once(tmp_path: Path) -> None:
    kills = kill_again_and_again(tmp_path / "data", rounds=20)
    assert kills.slowest_restart_s < RESTART_S


@dataclass(frozen=True, slots=True)
class Kills:
    """What a run of kills saw; that nothing was lost or stored twice, it has asserted."""

    rounds: int
    events: int
    acknowledged: int
    unanswered: int
    slowest_restart_s: float


def kill_again_and_again(data_dir: Path, *, rounds: int) -> Kills:
    """Load, kill, look, restart, look, send all of it again, look."""
    port = a_free_port()
    history, restarts_s, unanswered = History(), [], 0
    server = spawn(data_dir, port)
    try:
        for _ in range(rounds):
            load = Load(server.url)
            load.start()
            load.until_acked(100)
            time.sleep(random.uniform(0, 0.3))
            server.kill()
            mine = load.join()
            server.end()
            assert [] == mine.refused
            unanswered += mine.unanswered()
            history = merged([history, mine])
            assert_gone(data_dir, port)

            began = time.monotonic()
            server = spawn(data_dir, port)
            took_s = time.monotonic() - began
            restarts_s.append(took_s - waited_for_cpu_s(server.process.pid))
            assert_nothing_lost_or_doubled(server, history, mine)
        assert 0 == server.stop()
    finally:
        server.end()
    assert unanswered > 0, "no request was under way when the server was killed"
    # A disk that others use may hold up one of them for seconds, and not most.
    assert statistics.median(restarts_s) < RESTART_S
    events = len(history.sent_ids())
    return Kills(rounds, events, events - unanswered, unanswered, max(restarts_s))


def waited_for_cpu_s(pid: int) -> float:
    """How long the process's first thread was ready to run while others had the processor.

    A restart is measured without it: what runs beside the tests is none of the server's doing.
    """
    try:
        _running_ns, waiting_ns, _turns = Path(f"/proc/{pid}/schedstat").read_text().split()
    except FileNotFoundError:  # not Linux
        return 0.0
    return int(waiting_ns) / 1e9


def assert_gone(data_dir: Path, port: int) -> None:
    """Nothing holds the folder's lock, and nothing listens on the port.

    The kernel kills the other processes as the first one ends; each needs its turn of the
    processor to be gone.
    """
    deadline = time.monotonic() + GONE_S
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            assert time.monotonic() < deadline, "something listens"
            time.sleep(0.01)
    with (data_dir / "serve.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_same_batch_a_day_later_adds_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    requests = [make(lane) for lane in ("product", "audit") for make in (single, batch)]
    with started(data_dir) as server:
        first = resend(server.url, requests)
        log = server.events()

    with started(data_dir, **a_day_ahead(tmp_path)) as server:
        again = resend(server.url, requests)
        assert log == server.events()
        assert {True} == {ack.duplicate for ack in again.acks}
        told = [(ack.client_id, ack.index, ack.tx_id) for ack in first.acks]
        assert told == [(ack.client_id, ack.index, ack.tx_id) for ack in again.acks]

        # And it is a day later: a new event is received then.
        server.send(product())
        server.send_audit(audit())
        *_, before, sent, audited = server.events()
        for event in (sent, audited):
            assert DAY_MS <= received_at_ms(event) - received_at_ms(before) < 1.1 * DAY_MS


def received_at_ms(event: Exported) -> int:
    at_ms = parse_time_ms(event["received_at"])
    assert at_ms is not None
    return at_ms


def a_day_ahead(folder: Path) -> dict[str, str]:
    """The environment of a server whose process reads a wall clock that is a day ahead.

    The clock is moved below the server, before any of its modules is imported, so that all of what
    runs is the code that ships.
    """
    (folder / "sitecustomize.py").write_text(
        "import time\n_real = time.time_ns\ntime.time_ns = lambda: _real() + 24 * 60 * 60 * 10**9\n"
    )
    return {"PYTHONPATH": str(folder)}


# The check itself


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Exported], History]]:
    """A log that is in order, and what its senders know."""
    with started(tmp_path_factory.mktemp("genuine")) as server:
        yield a_log(server)


def a_log(server: ServerProcess) -> tuple[list[Exported], History]:
    load = Load(server.url)
    load.start()
    load.until_acked(100)
    load.stop()
    history = load.join()
    return list(server.events()), history


def test_the_check_finds_nothing_in_a_log_that_is_in_order(
    genuine: tuple[list[Exported], History],
) -> None:
    export, history = genuine
    assert [] == complaints(export, history)
    assert len(history.sent_ids()) == len(history.acks) == len(export)
    assert {"product", "audit"} == {event["kind"] for event in export}


def renumbered(events: list[Exported]) -> list[Exported]:
    return [{**event, "index": place} for place, event in enumerate(events)]


def swapped(events: list[Exported], *members: str) -> list[Exported]:
    """The events at 20 and 21 with these members exchanged."""
    one, two = events[20], events[21]
    return [
        *events[:20],
        {**one, **{member: two.get(member) for member in members}},
        {**two, **{member: one.get(member) for member in members}},
        *events[22:],
    ]


CONTENT = ("kind", "uuid", "idempotency_key", "properties", "payload", "event", "distinct_id")
Doctoring = Callable[[list[Exported]], list[Exported]]
DOCTORED: dict[str, tuple[Doctoring, str]] = {
    "one removed": (lambda e: e[:20] + e[21:], "is lost"),
    "the last removed": (lambda e: e[:-1], "is lost"),
    "one removed and the rest moved up": (lambda e: renumbered(e[:20] + e[21:]), "stands at"),
    "all removed": (lambda _: [], "is lost"),
    "one doubled": (lambda e: [*e[:21], e[20], *e[21:]], "is stored 2 times"),
    "one doubled at the end": (
        lambda e: renumbered([*e, {**e[20], "tx_id": "tx_f"}]),
        "is stored 2 times",
    ),
    "two moved with their content": (lambda e: swapped(e, *CONTENT), "stands at"),
    "two lines exchanged": (lambda e: [*e[:20], e[21], e[20], *e[22:]], "stands at place"),
    "two transaction ids exchanged": (lambda e: swapped(e, "tx_id"), "is not above"),
    "one with other content": (
        lambda e: [*e[:20], {**e[20], "properties": {"mark": "x"}}, *e[21:]],
        "does not say what was sent",
    ),
    "one that nobody sent": (
        lambda e: [*e, {**e[-1], "index": len(e), "tx_id": "tx_f", "uuid": "stranger"}],
        "was sent by nobody",
    ),
}


@pytest.mark.parametrize("how", DOCTORED)
def test_the_check_complains_of_a_log_with(
    how: str, genuine: tuple[list[Exported], History]
) -> None:
    export, history = genuine
    doctor, complaint = DOCTORED[how]
    found = complaints(doctor(export), history)
    assert [] != [text for text in found if complaint in text], found


def test_the_check_complains_of_an_acknowledgement_that_the_log_does_not_keep(
    genuine: tuple[list[Exported], History],
) -> None:
    export, history = genuine
    ack = history.acks[0]
    for wrong in (
        Ack(ack.lane, ack.client_id, ack.index + 1, ack.tx_id, duplicate=False),
        Ack(ack.lane, ack.client_id, ack.index, "tx_0", duplicate=False),
        Ack(ack.lane, "never-stored", ack.index, ack.tx_id, duplicate=False),
    ):
        told = History(history.sent, [*history.acks, wrong])
        assert 1 == len(complaints(export, told))
