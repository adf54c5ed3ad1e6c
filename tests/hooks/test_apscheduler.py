"""APScheduler with real jobs, on its own threads and on an event loop."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from apscheduler import events as happenings
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler

from indelible.hooks.apscheduler import watch
from indelible.testing import Received, Recorder
from tests.hooks.waiting import until


@pytest.fixture
def scheduler(events: Recorder) -> Iterator[BackgroundScheduler]:
    # However late a busy machine is: a run is missed where a story says so alone.
    scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None})
    watch(scheduler, events.client)
    scheduler.start()
    yield scheduler
    # It waits for the scheduler's round, in which a shutdown would take away the job just run.
    scheduler.remove_all_jobs()
    scheduler.shutdown()


def runs(events: Recorder) -> list[Received]:
    return until(lambda: [event for event in events.captured if event.name == "job_run"])


def names_of_all(events: Recorder, count: int) -> list[str]:
    """The audit events' names, once there are so many."""
    names = sorted(one.name for one in events.audited)
    return names if len(names) >= count else []


def succeed() -> None:
    """A job."""


def fail() -> None:
    raise LookupError("no such report")


def test_a_run_leaves_an_event_named_by_the_jobs_id(
    scheduler: BackgroundScheduler, events: Recorder
) -> None:
    scheduler.add_job(succeed, id="nightly-report", args=[])

    [run] = runs(events)
    assert "nightly-report" == run.properties["name"]
    assert "success" == run.properties["outcome"]
    assert run.properties["framework"].startswith("apscheduler 3.")
    until(lambda: events.audited)
    events.assert_audited("job.nightly-report", type="success", times=1)


def test_a_scheduler_that_is_watched_twice_tells_each_client_once(
    scheduler: BackgroundScheduler, events: Recorder
) -> None:
    with Recorder() as others:
        for client in (events.client, others.client, others.client):
            watch(scheduler, client)
        scheduler.add_job(succeed, id="nightly-report")
        for one in (events, others):
            runs(one)
        scheduler.add_job(succeed, id="weekly-report")
        for one in (events, others):
            names = until(partial(names_of_all, one, 2))
            assert ["job.nightly-report", "job.weekly-report"] == names


def test_a_run_that_raises_is_an_error(scheduler: BackgroundScheduler, events: Recorder) -> None:
    scheduler.add_job(fail, id="nightly-report")

    [run] = runs(events)
    assert ("error", "LookupError") == (run.properties["outcome"], run.properties["error_type"])
    assert "no such report" not in repr(run.body)


def test_a_run_that_came_too_late_is_missed(
    scheduler: BackgroundScheduler, events: Recorder
) -> None:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    scheduler.add_job(succeed, "date", run_date=an_hour_ago, id="late", misfire_grace_time=1)

    [run] = runs(events)
    assert ("late", "missed") == (run.properties["name"], run.properties["outcome"])
    assert "duration_ms" not in run.properties


def test_a_run_while_the_one_before_still_runs_is_skipped(
    scheduler: BackgroundScheduler, events: Recorder
) -> None:
    finish = threading.Event()
    scheduler.add_job(finish.wait, "interval", seconds=0.05, id="slow", max_instances=1)
    scheduler.modify_job("slow", next_run_time=datetime.now(UTC))

    try:
        skipped = runs(events)
    finally:
        finish.set()
    assert "slow" == skipped[0].properties["name"]
    assert "skipped" == skipped[0].properties["outcome"]
    assert "duration_ms" not in skipped[0].properties


def test_a_run_is_timed_from_its_submission(
    scheduler: BackgroundScheduler, events: Recorder
) -> None:
    submitted = threading.Event()
    scheduler.add_listener(lambda _: submitted.set(), happenings.EVENT_JOB_SUBMITTED)
    # Our listener was added first, so it has heard before the job goes on.
    scheduler.add_job(lambda: submitted.wait(60), id="timed")

    [run] = runs(events)
    assert 0 <= run.properties["duration_ms"] < 60_000


def test_an_end_that_is_told_before_its_beginning_leaves_one_event(events: Recorder) -> None:
    scheduler = BackgroundScheduler(timezone=UTC)
    watch(scheduler, events.client)
    [(hear, _)] = scheduler._listeners
    moment = datetime.now(UTC)
    for _ in range(2):
        executed = happenings.EVENT_JOB_EXECUTED
        hear(happenings.JobExecutionEvent(executed, "quick", "default", moment))
        submitted = happenings.EVENT_JOB_SUBMITTED
        hear(happenings.JobSubmissionEvent(submitted, "quick", "default", [moment]))

    for run in runs(events):
        assert "duration_ms" not in run.properties
    events.assert_captured("job_run", times=2)


def test_a_job_whose_id_was_made_up_is_named_by_its_function(
    scheduler: BackgroundScheduler, events: Recorder
) -> None:
    scheduler.add_job(succeed)

    [run] = runs(events)
    assert "succeed" == run.properties["name"]


def test_jobs_on_an_event_loop_are_recorded_too(events: Recorder) -> None:
    async def tick() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None})
        watch(scheduler, events.client)
        scheduler.add_job(tick, id="tick")
        scheduler.start()
        async with asyncio.timeout(60):
            while not events.server.product:
                await asyncio.sleep(0.01)
        scheduler.shutdown()

    asyncio.run(main())
    events.assert_captured("job_run", name="tick", outcome="success", times=1)
