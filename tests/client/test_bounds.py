"""What the client keeps is bounded: on disk, in memory, in the log, in threads."""

import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from indelible.client import Indelible, lifecycle
from indelible.client.options import Mode, Options
from indelible.client.spool import FILE_BYTES, HEAD, REFUSED_SHARE, Spool, frame
from indelible.client.timing import REAL_TIME, Time
from indelible.event import LossReason
from indelible.testing import InMemoryServer
from tests.client.program import BEGINNING, Program, address, arrived
from tests.client.stub import API_KEY, TOKEN, Behaviour, Stub, answers, takes


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as running:
        yield running


def refuses() -> Behaviour:
    """Each batch as a whole, in words that no other request was answered with."""
    said = iter(range(1_000_000))
    return lambda line, request: line.answer(
        400, {"ok": False, "reason": "invalid_event", "message": f"refusal {next(said)}\n" * 50}
    )


# What was refused.


def test_ten_thousand_refusals_leave_a_bounded_folder_and_few_lines_in_the_log(
    stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    limit = 1 << 20
    client = Indelible(
        api_key=API_KEY,
        host=stub.url,
        spool_dir=tmp_path,
        spool_bytes=limit,
        on_error=told.append,
    )
    # Between two that are refused one is taken: nothing is news for long.
    turns = itertools.cycle((refuses(), takes()))
    stub.usual = lambda line, request: (next(turns) if request.events else takes())(line, request)
    for _ in range(200):
        for place in range(100):
            client.audit.send_async("row.read", {"place": place, "text": "x" * 50})
        assert client.flush(60)
    counts = client.audit.counts()
    client.shutdown()

    refused = counts.lost[LossReason.REFUSED]
    assert (10_000, 10_000) == (counts.delivered, refused)
    kept = list((tmp_path / "audit" / "refused").iterdir())
    held = sum(-(-file.stat().st_size // FILE_BYTES) * FILE_BYTES for file in kept)
    assert limit // REFUSED_SHARE // 2 < held <= limit // REFUSED_SHARE
    assert len(caplog.records) <= 20
    assert len(told) >= 100  # the hook hears of each batch
    assert any("not kept, since as much as may be kept is there" in one for one in told)


def test_what_was_refused_takes_no_room_from_what_waits(stub: Stub, tmp_path: Path) -> None:
    aside = tmp_path / "audit" / "refused"
    aside.mkdir(parents=True)
    (aside / "1-x-1.batch").write_bytes(HEAD + frame(b"{}" * 50_000))
    with Indelible(
        api_key=API_KEY, host=stub.url, spool_dir=tmp_path, spool_bytes=100_000
    ) as client:
        client.audit.send_async("row.read", "x")
        assert client.flush(60)

        assert 0 == client.audit.counts().unspooled


def test_no_two_files_of_refused_events_have_one_name(stub: Stub, tmp_path: Path) -> None:
    stub.usual = lambda line, request: (refuses() if request.events else takes())(line, request)
    at_once = Time(wall_ns=lambda: 1_800_000_000 * 10**9, monotonic=time.monotonic)
    options = Options.read(
        {}, token=TOKEN, api_key=API_KEY, host=stub.url, spool=True, spool_dir=tmp_path
    )
    with Indelible._of(options, time=at_once) as client:
        client.capture("tick")
        client.audit.send_async("row.read", "x")
        assert client.flush(60)

    names = [path.name for path in tmp_path.glob("*/refused/*")]
    assert 2 == len(set(names)), names


def test_many_reasons_and_long_ones_are_few_and_short_lines(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    said = iter(range(1_000))
    stub.usual = lambda line, request: line.answer(
        400, {"ok": False, "reason": f"invalid_event\n{next(said)}" + "x" * 10_000}
    )
    with Indelible(TOKEN, host=stub.url, batch_events=1) as client:
        for _ in range(100):
            client.capture("tick")
        client.flush(1)  # no code of the server's is among these, so they are tried again

        assert 100 == sum(client.counts().lost.values()) + client.counts().waiting
    assert len(caplog.records) <= 20
    assert all(len(record.getMessage()) < 1_000 for record in caplog.records)
    assert not any("\n" in record.getMessage() for record in caplog.records)


# The worker.


def _faulty(stub: Stub, time: Time, **options: Any) -> Indelible:
    read = Options.read({}, token=TOKEN, host=stub.url, batch_s=0, retry_base_s=0, **options)
    return Indelible._of(read, time=time)


def test_a_worker_does_not_spin_after_a_fault_of_its_own(stub: Stub, tmp_path: Path) -> None:
    def monotonic() -> float:
        if sys._getframe(1).f_code.co_name == "adopt":  # before anything is packed or sent
            raise ArithmeticError
        return time.monotonic()

    faulty = Time(wall_ns=time.time_ns, monotonic=monotonic)
    client = _faulty(stub, faulty, spool=True, spool_dir=tmp_path)
    client.capture("tick")
    time.sleep(0.6)
    failures = client.counts().failures
    client.shutdown(0.1)

    assert 1 <= failures <= 5


def test_a_fault_of_its_own_counts_as_a_failed_try(stub: Stub) -> None:
    main = threading.get_ident()

    def wall_ns() -> int:
        if threading.get_ident() != main:  # as a request is written
            raise ArithmeticError
        return time.time_ns()

    faulty = Time(wall_ns=wall_ns, monotonic=time.monotonic)
    client = _faulty(stub, faulty, breaker_failures=2, breaker_probe_s=3_600)
    client.capture("tick")
    _wait_until(lambda: client.counts().failures >= 2)
    time.sleep(1)
    failures = client.counts().failures
    client.shutdown(0.1)

    assert 2 == failures


# Clocks.


@pytest.mark.parametrize("step_s", [-10 * 365 * 86_400, -3_600, 3_600, 10 * 365 * 86_400])
def test_a_wall_clock_that_steps_costs_no_event(stub: Stub, tmp_path: Path, step_s: int) -> None:
    ahead = [0]
    steps = Time(
        wall_ns=lambda: REAL_TIME.wall_ns() + ahead[0] * 10**9, monotonic=REAL_TIME.monotonic
    )
    options = Options.read(
        {},
        token=TOKEN,
        api_key=API_KEY,
        host=stub.url,
        spool=True,
        spool_dir=tmp_path,
        batch_s=3_600,
    )
    with Indelible._of(options, time=steps) as client:
        for place in range(10):
            client.capture("tick")
            client.audit.send_async("row.read", {"place": place})
            ahead[0] = step_s if place % 2 else 0
        assert client.flush(60)

        counts = client.counts(), client.audit.counts()
        assert [(10, {}), (10, {})] == [(one.delivered, one.lost) for one in counts]
        assert [(0, 0), (0, 0)] == [(one.unspooled, one.failures) for one in counts]
    assert 20 == len(stub.stored)


def test_events_of_an_earlier_process_that_expire_are_said(stub: Stub, tmp_path: Path) -> None:
    dead = Spool(tmp_path / "product", "dead", max_bytes=1 << 20)
    file = dead.create(at_ms=1_000)
    file.append([b'{"event": "tick", "uuid": "1"}'], sync=False)
    file.seal()
    dead.abandon()
    told: list[str] = []
    with Indelible(
        TOKEN, host=stub.url, spool=True, spool_dir=tmp_path, on_error=told.append
    ) as client:
        assert client.flush(60)

    assert [
        "product: events of an earlier process were let go: "
        "It could not be delivered for `max_age_s`."
    ] == told


# Folders.


def test_a_home_that_is_a_file_costs_no_event(server: InMemoryServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("not a folder")
    text = f"""{BEGINNING}
client.audit.send_async("row.read", "x")
print(client.audit.send("row.written", "x").status, client.flush(60), client.audit.counts().lost)
"""
    surroundings = {"HOME": str(home), "XDG_STATE_HOME": "", "INDELIBLE_SPOOL_DIR": ""}
    with Program(text, tmp_path / "program", **address(server), **surroundings) as program:
        code, said = program.end()

    assert 0 == code, said
    assert said.startswith("accepted True {}\n")
    assert "the spool: Not a directory" in said
    assert "in the worker" not in said
    assert {"row.read": 1, "row.written": 1} == arrived(server)


@pytest.mark.parametrize("folder", ["nul\0in it", "n" * 300, "in/\udcff"])
def test_a_spool_folder_that_no_system_has_costs_no_event(stub: Stub, folder: str) -> None:
    with Indelible(api_key=API_KEY, host=stub.url, spool_dir=f"/proc/{folder}") as client:
        client.audit.send_async("row.read", "x")
        assert client.audit.send("row.read", "x").ok
        assert client.flush(60)

        assert (2, {}) == (client.audit.counts().delivered, client.audit.counts().lost)


def test_files_of_a_later_version_stay_where_they_are(stub: Stub, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    dead = Spool(folder, "dead", max_bytes=1 << 20)
    file = dead.create(at_ms=1)
    file.append([b'{"payload": "x", "meta": {}, "idempotency_key": "ours"}'], sync=True)
    file.seal()
    dead.abandon()
    later = folder / "dead" / "000000000000002-00000001.batch"
    later.write_bytes(HEAD.replace(b"1", b"2") + b"in another form")
    odd = folder / "dead" / "copy of a file.batch"
    odd.write_bytes(HEAD + frame(b'{"payload": "x", "meta": {}, "idempotency_key": "odd"}'))
    told: list[str] = []
    with Indelible(
        api_key=API_KEY, host=stub.url, spool_dir=tmp_path, on_error=told.append
    ) as client:
        assert client.flush(60)

    assert {"ours", "odd"} == set(stub.stored)
    assert HEAD.replace(b"1", b"2") + b"in another form" == later.read_bytes()
    assert [f"audit: files of a later version are in {later.parent}: they stay there"] == told


def test_two_clients_with_different_options_share_a_spool(stub: Stub, tmp_path: Path) -> None:
    stub.usual = answers(503, {"ok": False, "reason": "unavailable"})
    small = Indelible(
        api_key=API_KEY, host=stub.url, spool_dir=tmp_path, spool_bytes=20_000, batch_events=7
    )
    for place in range(200):
        small.audit.send_async("small", {"place": place})
    small.flush(0.3)
    large = Indelible(api_key=API_KEY, host=stub.url, spool_dir=tmp_path, batch_bytes=2_000)
    for place in range(200):
        large.audit.send_async("large", {"place": place})
    large.flush(0.3)
    stub.usual = takes()
    assert small.flush(60)
    assert large.flush(60)
    for client in (small, large):
        client.shutdown()
        counts = client.audit.counts()
        assert (200, {}, 0) == (counts.delivered, counts.lost, counts.adopted)

    assert 400 == len(stub.stored)
    assert [] == list((tmp_path / "audit").iterdir())


# Clients without end.


def test_clients_made_in_a_loop_deliver_and_leave_no_thread(
    stub: Stub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle._hooks, "said_many", False)
    gc.collect()
    before = len(sys._current_frames())
    for place in range(2_000):
        client = Indelible(TOKEN, host=stub.url)
        if place % 100 == 0:
            client.capture("tick", properties={"place": place})
    del client
    gc.collect()

    stub.wait_until(lambda stub: len(stub.stored) == 20)
    _wait_until(lambda: len(sys._current_frames()) <= before)
    assert 1 == len(caplog.records), caplog.text
    assert f"clients of {stub.url} are in use in this process" in caplog.text


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_a_dropped_client_whose_events_are_on_disk_ends_though_the_server_is_down(
    stub: Stub, tmp_path: Path, mode: Mode
) -> None:
    stub.usual = answers(503, {"ok": False, "reason": "unavailable"})
    threads, leftovers = set(sys._current_frames()), _leftovers()
    client = Indelible(api_key=API_KEY, host=stub.url, spool_dir=tmp_path, mode=mode)
    client.audit.send_async("row.read", "x")
    del client
    gc.collect()

    _wait_until(lambda: set(sys._current_frames()) <= threads)
    _wait_until(lambda: _leftovers() <= leftovers)
    stub.usual = takes()
    with Indelible(api_key=API_KEY, host=stub.url, spool_dir=tmp_path) as heir:
        assert heir.flush(60)
    assert 1 == len(stub.stored)


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_a_dropped_client_goes_on_trying_what_only_memory_has(stub: Stub, mode: Mode) -> None:
    leftovers = _leftovers()
    stub.next(answers(503, {"ok": False, "reason": "unavailable"}))
    client = Indelible(TOKEN, host=stub.url, retry_base_s=0.01, mode=mode)
    client.capture("tick")
    del client
    gc.collect()

    stub.wait_until(lambda stub: len(stub.stored) == 1)
    _wait_until(lambda: _leftovers() <= leftovers)


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_a_dropped_client_closes_its_connections(
    stub: Stub, tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: left.append(repr(what.exc_value)))
    leftovers = _leftovers()
    for _ in range(5):
        client = Indelible(TOKEN, api_key=API_KEY, host=stub.url, spool_dir=tmp_path, mode=mode)
        client.capture("tick")
        client.audit.send("row.read", "x")
        assert client.flush(60)
        del client
        gc.collect()
    _wait_until(lambda: _leftovers() <= leftovers)
    gc.collect()

    assert [] == left


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_no_connection_is_open_when_the_process_has_ended(
    server: InMemoryServer, tmp_path: Path, mode: str
) -> None:
    text = f"""\
import atexit, threading
from indelible import Indelible

def use(client=None):
    client.capture("tick")
    client.audit.send_async("row.read", "x")
    client.audit.send("row.written", "x")

atexit.register(lambda: use(client))  # after the client's own, so on a calling thread
client = Indelible(exit_s=30, mode={mode!r})
closed = Indelible(mode={mode!r})
for one in (client, closed):
    use(one)
    threads = [threading.Thread(target=use, args=(one,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
closed.shutdown()
"""
    with Program(text, tmp_path / "program", **address(server), PYTHONDEVMODE="1") as program:
        assert (0, "") == program.end()

    assert {"tick": 13, "row.read": 13, "row.written": 13} == arrived(server)


def test_the_audit_side_of_a_client_is_enough_to_hold_it(stub: Stub, tmp_path: Path) -> None:
    audit = Indelible(api_key=API_KEY, host=stub.url, spool_dir=tmp_path).audit
    gc.collect()

    assert audit.send("row.read", "x").ok
    assert 1 == len(stub.stored)


def test_processes_that_come_and_go_on_one_spool_disturb_nobody(stub: Stub, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    over = threading.Event()

    def come_and_go() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            other = Spool(folder, f"other-{number}", max_bytes=1 << 30)
            other.create(at_ms=1).seal()
            for path in folder.glob(f"other-{number}/*.batch"):
                other.remove(path)
            other.close()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        with Indelible(api_key=API_KEY, host=stub.url, spool_dir=tmp_path) as client:
            looks = Spool(folder, "looks", max_bytes=1 << 30)
            for place in range(20):
                client.audit.send_async("row.read", {"place": place})
                for _ in range(100):
                    looks.look_again()
                    assert looks.has_room(1)
            assert client.flush(60)
            looks.close()
            counts = client.audit.counts()
    finally:
        over.set()
        thread.join()

    assert (20, 0) == (counts.delivered, counts.failures)


def _leftovers() -> set[lifecycle.Watched]:
    """What dropped clients have not delivered yet, those of other tests included."""
    return set(lifecycle._held.values())


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
