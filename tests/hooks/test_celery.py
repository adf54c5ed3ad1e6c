"""Celery with real workers, prefork, over a broker of files."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from indelible.client import context
from indelible.hooks.celery import install
from indelible.testing import InMemoryServer, Received, Recorder
from tests.hooks import shop_tasks
from tests.hooks.waiting import until
from tests.world import client_environment

WORKER = (
    *(sys.executable, "-m", "celery", "-A", "tests.hooks.shop_tasks", "worker"),
    *("--concurrency=2", "--loglevel=WARNING"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)


class Worker:
    """A worker process, and the server that its events go to."""

    def __init__(self, folder: Path, server: InMemoryServer, *, batch_s: float = 0.05) -> None:
        self.server = server
        self.folder = folder
        self._sender = Celery("sender")
        shop_tasks.use_broker(self._sender, folder)
        self._said = (folder / "output.txt").open("w")
        self.process = subprocess.Popen(
            WORKER,
            cwd=Path(__file__).parents[2],
            env=client_environment(
                BROKER=str(folder),
                BATCH_S=str(batch_s),
                INDELIBLE_HOST=server.url,
                INDELIBLE_TOKEN=server.token,
                INDELIBLE_API_KEY=server.api_key,
                INDELIBLE_SPOOL_DIR=str(folder / "spool"),
            ),
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def send(self, name: str, *arguments: object, **options: Any) -> None:
        self._sender.send_task(name, arguments, **options)

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def runs_of(self, name: str, count: int = 1) -> list[Received]:
        """The product events of the task's runs, as soon as there are so many."""
        return until(lambda: found if len(found := self._runs_of(name)) >= count else [])

    def _runs_of(self, name: str) -> list[Received]:
        assert self.process.poll() is None, self.output()
        return runs(self.server, name)

    def stop(self) -> int:
        """A warm shutdown, as a service manager asks for it; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self) -> None:
        """Kill what still runs; the children die with their parent."""
        self.process.kill()
        self.process.wait(60)
        self._sender.close()
        self._said.close()


def runs(server: InMemoryServer, name: str) -> list[Received]:
    return [
        event
        for event in server.product
        if event.name == "task_run" and event.properties["name"] == name
    ]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with InMemoryServer() as server:
        worker = Worker(tmp_path_factory.mktemp("celery"), server)
        try:
            yield worker
        finally:
            worker.end()


def outcome(event: Received) -> tuple[str, object]:
    return event.properties["outcome"], event.properties.get("error_type")


def test_a_run_leaves_one_product_event_and_where_that_is_asked_for_one_audit_event(
    worker: Worker,
) -> None:
    worker.send("shop.pay", "ord_secret")

    [run] = worker.runs_of("shop.pay")
    assert ("success", None) == outcome(run)
    assert 0 <= run.properties["duration_ms"] < 60_000
    assert 0 == run.properties["retries"]
    assert run.properties["framework"].startswith("celery 5.")
    [audit] = until(lambda: [one for one in worker.server.audit if one.name == "task.shop.pay"])
    assert "success" == audit.meta["type"]
    assert run.properties["request_id"] == audit.meta["request_id"]
    assert "ord_secret" not in repr([event.body for event in worker.server.received])


def test_a_run_that_raises_says_what_but_product_events_never_why(worker: Worker) -> None:
    worker.send("shop.refuse")

    [run] = worker.runs_of("shop.refuse")
    assert ("error", "LookupError") == outcome(run)
    assert "no such order" not in repr(run.body)


def test_a_retry_is_a_run_of_its_own_and_no_error(worker: Worker, events: Recorder) -> None:
    installed = install(events.client)
    with context.bound(request_id="req-7"):
        worker.send("shop.again")
    installed.remove()

    runs = worker.runs_of("shop.again", 2)  # perhaps in two processes, in any order
    first, second = sorted(runs, key=lambda run: run.properties["retries"])
    assert ("retry", "ConnectionError") == outcome(first)
    assert ("success", None) == outcome(second)
    assert [0, 1] == [run.properties["retries"] for run in (first, second)]
    assert ["req-7", "req-7"] == [run.properties["request_id"] for run in (first, second)]


@pytest.mark.parametrize("task", ["shop.ignore", "shop.reject"])
def test_a_task_that_lets_its_message_go_is_skipped(worker: Worker, task: str) -> None:
    worker.send(task)

    [run] = worker.runs_of(task)
    assert ("skipped", None) == outcome(run)


@pytest.mark.parametrize("task", ["shop.die", "shop.leave"])
def test_a_run_whose_process_is_gone_is_told_by_the_main_process(worker: Worker, task: str) -> None:
    worker.send(task)

    [run] = worker.runs_of(task)
    assert ("error", "WorkerLostError") == outcome(run)
    assert "duration_ms" not in run.properties


def test_a_run_over_its_hard_time_limit_is_told_once(tmp_path: Path) -> None:
    with InMemoryServer() as server:
        worker = Worker(tmp_path, server)
        try:
            worker.send("shop.stall")
            until(lambda: len(list(tmp_path.glob("failure-*"))) == 2)
        finally:
            worker.end()  # not warm: what was killed may have held the lock of the pool's queue
        [run] = runs(server, "shop.stall")
    assert ("error", "TimeLimitExceeded") == outcome(run)


def test_the_senders_context_reaches_the_run_and_what_is_captured_in_it(
    worker: Worker, events: Recorder
) -> None:
    installed = install(events.client)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with context.bound(request_id="req-1", trace_id=trace, distinct_id="user_42"):
        worker.send("shop.who", headers={"custom": "kept"})
    installed.remove()

    [run] = worker.runs_of("shop.who")
    assert ("req-1", trace) == (run.properties["request_id"], run.properties["trace_id"])
    assert "user_42" == run.distinct_id
    [seen] = [event for event in worker.server.product if event.name == "seen"]
    assert ("user_42", "kept") == (seen.distinct_id, seen.properties["custom"])


def test_nothing_is_lost_when_a_worker_is_told_to_stop(tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    with InMemoryServer() as server:
        worker = Worker(tmp_path, server, batch_s=60)
        try:
            worker.send("shop.skipped")
            for number in range(100):
                worker.send("shop.count", str(done), number)
            until(lambda: len(list(done.iterdir())) == 100)

            assert 0 == worker.stop(), worker.output()
        finally:
            worker.end()

        counted = [event for event in server.product if event.name == "counted"]
        assert list(range(100)) == sorted(event.properties["number"] for event in counted)
        assert 100 == len(runs(server, "shop.count"))
        assert 100 == len([event for event in server.audit if event.name == "task.shop.count"])
        assert [] == runs(server, "shop.skipped")
        assert "skipped_ran" in [event.name for event in server.product]


def test_an_eager_task_goes_on_in_the_context_around_it(events: Recorder) -> None:
    installed = install(events.client)
    with context.bound(request_id="req-9", distinct_id="user_7") as here:
        shop_tasks.pay.apply(args=["ord_1"])
        assert here is context.current()
    installed.remove()
    shop_tasks.pay.apply(args=["ord_2"])

    run = events.assert_captured("task_run", distinct_id="user_7", times=1, name="shop.pay")
    assert "req-9" == run.properties["request_id"]


def test_a_second_install_takes_the_place_of_the_first(events: Recorder) -> None:
    install(events.client)
    installed = install(events.client)
    shop_tasks.pay.apply(args=["ord_1"])
    installed.remove()

    events.assert_captured("task_run", times=1)
