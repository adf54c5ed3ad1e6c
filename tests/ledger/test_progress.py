"""How far events have come: what waiters learn, and what people are told."""

import asyncio
import itertools
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import __version__
from indelible.app import House
from indelible.event import Kind, Level
from indelible.journal.contract import Draft
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import open_note
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.ledger import Choices, Ledger
from indelible.ledger.lockstore import Head
from indelible.ledger.part import LedgerHealth, ledger_part
from indelible.ledger.progress import Progress
from indelible.ledger.seals import SEALS_FILE
from indelible.query.health import Lookout
from indelible.settings import Settings
from tests.query.log import Log, new_log
from tests.world import AS_APPLICATION, OUTPUT_FILE, World, audit, product, started

if TYPE_CHECKING:
    from _typeshed import TraceFunction

SEALED, WITNESSED = Level.SEALED, Level.WITNESSED
LONG_S, SHORT_S = 20.0, 0.05


@pytest.fixture
def log(shared: World) -> Iterator[Log]:
    with new_log(shared) as log:
        yield log


def head(size: int) -> Head:
    return Head("log.example/shop", size, bytes(32), f"note at {size}")


def waiters(progress: Progress) -> int:
    return sum(len(waiting) for waiting in progress._waiting.values())


def test_a_waiter_goes_on_when_another_thread_reaches_its_event() -> None:
    progress = Progress()

    async def wait() -> tuple[bool, float]:
        begun = time.monotonic()
        waiting = asyncio.ensure_future(progress.wait(1, 4, SEALED, timeout_s=LONG_S))
        await asyncio.sleep(SHORT_S)
        assert not waiting.done()
        assert 1 == waiters(progress)
        with ThreadPoolExecutor(1) as other:
            for which in ((2, SEALED, 9), (1, WITNESSED, 9), (1, SEALED, 4)):
                other.submit(progress.advance, *which[:2], head(which[2])).result()
                await asyncio.sleep(SHORT_S)
                assert not waiting.done(), which  # another project, another level, one too few
            other.submit(progress.advance, 1, SEALED, head(5)).result()
        return await waiting, time.monotonic() - begun

    reached, took_s = asyncio.run(wait())

    assert reached
    assert took_s < LONG_S
    assert 0 == waiters(progress)


def test_what_is_reached_already_is_not_waited_for() -> None:
    progress = Progress()
    progress.advance(1, SEALED, head(5))

    assert asyncio.run(progress.wait(1, 4, SEALED, timeout_s=0))
    assert not asyncio.run(progress.wait(1, 5, SEALED, timeout_s=0))
    assert 0 == waiters(progress)


def test_a_waiter_gives_up_after_its_time_and_is_forgotten() -> None:
    progress = Progress()
    begun = time.monotonic()

    async def wait() -> list[bool]:
        return await asyncio.gather(
            *(progress.wait(1, index, SEALED, timeout_s=SHORT_S) for index in range(50))
        )

    assert [False] * 50 == asyncio.run(wait())
    assert SHORT_S <= time.monotonic() - begun < LONG_S
    assert 0 == waiters(progress)
    progress.advance(1, SEALED, head(50))  # nobody is there to be told


def test_a_waiter_that_is_cancelled_is_forgotten() -> None:
    """A client that hung up does not stay in memory for the rest of its time."""
    progress = Progress()

    async def hang_up() -> None:
        waiting = asyncio.ensure_future(progress.wait(1, 0, SEALED, timeout_s=LONG_S))
        await asyncio.sleep(SHORT_S)
        assert 1 == waiters(progress)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(hang_up())

    assert 0 == waiters(progress)


def test_a_waiter_whose_loop_was_closed_stops_nobody() -> None:
    progress = Progress()
    loop = asyncio.new_event_loop()
    left = loop.create_task(progress.wait(1, 0, SEALED, timeout_s=LONG_S))
    loop.run_until_complete(asyncio.sleep(0))
    assert 1 == waiters(progress)
    left.cancel()  # its clean-up never comes to run
    loop.close()

    progress.advance(1, SEALED, head(1))

    assert 1 == progress.size(1, SEALED)


def test_no_waiter_is_missed_while_threads_advance() -> None:
    progress = Progress()
    last = 300

    def advance() -> None:
        for size in range(1, last + 1):
            progress.advance(1, SEALED, head(size))

    async def wait() -> list[bool]:
        waiting = []
        thread = threading.Thread(target=advance)
        thread.start()
        for index in range(last):
            waiting.append(asyncio.ensure_future(progress.wait(1, index, SEALED, timeout_s=LONG_S)))
            await asyncio.sleep(0)
        thread.join()
        return await asyncio.gather(*waiting)

    assert [True] * last == asyncio.run(wait())
    assert 0 == waiters(progress)


def test_a_checkpoint_that_comes_while_somebody_begins_to_wait_is_not_missed() -> None:
    async def wait(step: int) -> bool | None:
        """Whether a waiter learns of a checkpoint that comes before this line of its own, None
        where it waits by then."""
        progress, lines = Progress(), 0

        def look(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
            nonlocal lines
            if frame.f_code is not Progress.wait.__code__:
                return None
            if event == "line":
                if lines == step:
                    other = threading.Thread(target=progress.advance, args=(1, SEALED, head(1)))
                    other.start()
                    other.join(SHORT_S)  # no longer: the waiter may hold the lock
                lines += 1
            return look

        before = sys.gettrace()
        sys.settrace(look)
        waiting = asyncio.ensure_future(progress.wait(1, 0, SEALED, timeout_s=2.0))
        await asyncio.sleep(0)
        sys.settrace(before)
        return await waiting if lines > step else None

    told = list(
        itertools.takewhile(
            lambda one: one is not None, map(asyncio.run, map(wait, itertools.count()))
        )
    )
    assert [True] * len(told) == told
    assert len(told) > 5


steps = st.tuples(st.integers(1, 2), st.sampled_from(Level), st.integers(0, 6))


@given(st.lists(steps, max_size=12))
def test_an_event_has_reached_the_highest_level_whose_checkpoint_covers_it(
    taken: list[tuple[int, Level, int]],
) -> None:
    progress = Progress()
    largest: dict[tuple[int, Level], int] = {}
    for project_id, level, size in taken:
        progress.advance(project_id, level, head(size))
        largest[project_id, level] = max(size, largest.get((project_id, level), 0))

    for project_id in (1, 2, 3):
        sealed = largest.get((project_id, SEALED), 0)
        witnessed = largest.get((project_id, WITNESSED), 0)
        assert (sealed, witnessed) == tuple(progress.size(project_id, level) for level in Level)
        for index in range(7):
            known = WITNESSED if index < witnessed else SEALED if index < sealed else None
            assert known == progress.reached(project_id, index)
    for (project_id, level), size in largest.items():
        assert head(size) == progress.head(project_id, level)


def life_of(server: World, tx_id: str) -> dict[str, str]:
    """Each step of the event's life that has a time."""
    event = server.http.get(f"/v1/events/{tx_id}", headers=AS_APPLICATION).json()
    return {step["step"]: step["at"] for step in event["life"] if step["at"] is not None}


def status_of(server: World, tx_id: str) -> tuple[str, str]:
    """As the event itself says it, and as it stands in a search."""
    event = server.http.get(f"/v1/events/{tx_id}", headers=AS_APPLICATION).json()
    page = server.http.get("/v1/events", params={"limit": 200}, headers=AS_APPLICATION).json()
    (found,) = [one for one in page["events"] if tx_id == one["tx_id"]]
    return event["status"], found["status"]


def wait_until_sealed(server: World, tx_id: str) -> None:
    wait = {"wait": "sealed", "timeout": "20s"}
    answer = server.http.get(f"/v1/events/{tx_id}/receipt", params=wait, headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text


def signed_size(data_dir: Path) -> int:
    """How many events the published checkpoint of the project `default` is of."""
    folder = data_dir / "ledger" / "default"
    (log,) = parse_policy((folder / "policy").read_text()).logs
    return Checkpoint.parse(open_note((folder / "checkpoint").read_text(), [log.key]).text).size


def test_what_is_stored_is_sealed_on_sigterm_and_says_so_after_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started(data, INDELIBLE_SEAL_INTERVAL_MS="3600000") as server:
        first = server.send(product(), params={"wait": "sealed", "timeout": "20s"}).json()
        later = [server.send(product()).json()["events"][0]["tx_id"] for _ in range(3)]
        later += [server.send_audit(audit()).json()["tx_id"] for _ in range(2)]
        assert ("sealed", "sealed") == status_of(server, first["events"][0]["tx_id"])
        assert ("stored", "stored") == status_of(server, later[0])
        assert ("accepted", "accepted") == status_of(server, later[-1])
        assert ["received", "stored"] == list(life_of(server, later[0]))
        assert 1 == signed_size(data)

        assert 0 == server.stop()

    assert 6 == signed_size(data)
    with started(data) as server:
        assert 6 == len(server.events())
        for tx_id in later:
            assert ("sealed", "sealed") == status_of(server, tx_id)


def test_an_event_is_sealed_not_before_it_was_stored(log: Log) -> None:
    results = [log.send(product()).json()["events"][0], log.send_audit(audit()).json()]
    for tx_id in [str(result["tx_id"]) for result in results]:
        wait = {"wait": "sealed", "timeout": "20s"}
        assert 200 == log.http.get(f"/v1/events/{tx_id}/receipt", params=wait).status_code

        event = log.http.get(f"/v1/events/{tx_id}").json()

        assert "sealed" == event["status"]
        life = [step for step in event["life"] if step["at"] is not None]
        assert ["received", "stored", "sealed"] == [step["step"] for step in life]
        times = [datetime.fromisoformat(step["at"]) for step in life]
        assert times[1] <= times[2]
        assert 0 <= (times[2] - times[1]).total_seconds() < LONG_S


def deleted(file: Path) -> None:
    file.unlink()


def garbage(file: Path) -> None:
    file.write_bytes(b"not a database" * 1_000)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def damaged_behind_its_first_page(file: Path) -> None:
    """It opens like any other file; only whoever reads the rows learns of it."""
    content = bytearray(file.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    assert len(content) > size
    content[size:] = b"\xa5" * (len(content) - size)
    file.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a server that sealed one event and was stopped, and the event."""
    folder = tmp_path_factory.mktemp("stopped") / "data"
    with started(folder) as server:
        tx_id = str(server.send(product()).json()["events"][0]["tx_id"])
        wait_until_sealed(server, tx_id)
        server.stop()
    return folder, tx_id


@pytest.mark.parametrize("harm", [deleted, emptied, garbage, damaged_behind_its_first_page])
def test_a_server_that_lost_the_times_of_its_seals_goes_on_without(
    stopped: tuple[Path, str], tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    folder, old = stopped
    data = tmp_path / "data"
    shutil.copytree(folder, data, ignore=shutil.ignore_patterns(OUTPUT_FILE))
    harm(data / SEALS_FILE)

    with started(data) as server:
        assert "Traceback" not in server.output()
        assert ("sealed", "sealed") == status_of(server, old)
        new = server.send(product()).json()["events"][0]["tx_id"]
        wait_until_sealed(server, new)
        for tx_id in (old, new):
            life = life_of(server, tx_id)
            assert life["stored"] <= life["sealed"]  # of the start, where the first is lost
        assert "ok" == server.http.get("/healthz").json()["ledger"]["status"]
        damaged = harm in (garbage, damaged_behind_its_first_page)
        assert damaged == (SEALS_FILE in server.output())


def test_health_says_how_long_the_oldest_event_has_waited_for_its_seal(tmp_path: Path) -> None:
    now_ms = 0
    house = House(Settings(data_dir=tmp_path))
    try:
        house.following.ledger.close()
        ledger = Ledger(
            tmp_path,
            journal=house.storing.journal,
            registry=house.following.registry,
            choices=Choices(
                origin=None,
                seal_interval_ms=500,
                witness_interval_ms=500,
                witnesses=Policy((), (), (), None),
            ),
            clock=lambda: now_ms,
        )
        try:

            def seen() -> Any:
                lookout = Lookout(pulse=house.storing.committer.pulse)
                lookout.watch([ledger_part(ledger)])
                return lookout.health(version=__version__)

            def told() -> LedgerHealth:
                health: LedgerHealth = seen().ledger
                return health

            def told_after(waited_ms: int) -> tuple[str, float | None]:
                nonlocal now_ms
                now_ms = stored_ms + waited_ms
                health = told()
                return health.status, health.oldest_unsealed_s

            assert LedgerHealth("ok", None, None, []) == told()
            project_id = house.following.registry.snapshot.project("default").id
            stored_ms = house.storing.clock()
            house.storing.journal.append(
                [
                    Draft(
                        project_id=project_id,
                        kind=Kind.PRODUCT,
                        received_at_ms=stored_ms,
                        payload=b"{}",
                        record=b"{}",
                    )
                ]
            )

            assert ("ok", 0.0) == told_after(-5_000)  # the clock stepped back
            assert ("ok", 10.0) == told_after(10_000)
            assert ("degraded", 10.001) == told_after(10_001)
            assert ("degraded", 60.0) == told_after(60_000)
            assert ("failing", 60.001) == told_after(60_001)
            assert "failing" == seen().status
            ledger.start()
            ledger.stop()
            assert ("ok", None) == told_after(60_001)
        finally:
            ledger.close()
    finally:
        house.close()


def test_the_health_of_a_running_server_says_it_too(tmp_path: Path) -> None:
    with started(tmp_path / "data", INDELIBLE_SEAL_INTERVAL_MS="3600000") as server:

        def told() -> Any:
            return server.http.get("/healthz").json()["ledger"]

        assert (None, "ok") == (told()["oldest_unsealed_s"], told()["status"])
        server.send(product(), params={"wait": "sealed", "timeout": "20s"})
        assert told()["oldest_unsealed_s"] is None

        began = time.monotonic()
        server.send(product())
        before = told()["oldest_unsealed_s"]
        time.sleep(SHORT_S)

        assert 0 <= before < told()["oldest_unsealed_s"] < LONG_S + time.monotonic() - began
