"""Jobs: functions, coroutine functions, blocks, and scripts as cron runs them."""

import asyncio
import functools
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from indelible.client import Indelible, context
from indelible.hooks.jobs import job
from indelible.testing import Recorder
from tests.client.stub import TOKEN, Stub, stalls
from tests.hooks.waiting import until
from tests.world import client_environment


def test_a_job_leaves_one_event_of_each_kind_and_what_it_sends_has_its_request_id(
    events: Recorder,
) -> None:
    @job("nightly-report", events.client)
    def report(secret: str) -> str:
        events.client.audit.send_async("report.made", {})
        here = context.current()
        assert here is not None
        return here.request_id or ""

    request_id = report("pw-9")

    event = events.assert_captured("job_run", name="nightly-report", outcome="success", times=1)
    assert request_id == event.properties["request_id"]
    assert event.properties["duration_ms"] >= 0
    events.assert_audited("job.nightly-report", type="success", request_id=request_id, times=1)
    events.assert_audited("report.made", request_id=request_id, times=1)
    assert "pw-9" not in repr([one.body for one in events.server.received])
    assert context.current() is None


def test_a_job_that_raises_is_an_error_and_raises_still(events: Recorder) -> None:
    @job("import", events.client)
    def load() -> None:
        raise LookupError("no such file")

    with pytest.raises(LookupError):
        load()

    event = events.assert_captured("job_run", outcome="error", error_type="LookupError", times=1)
    assert "no such file" not in repr(event.body)
    events.assert_audited("job.import", type="error", times=1)


def test_a_coroutine_function_stays_one(events: Recorder) -> None:
    @job("pull", events.client, flush_s=5)
    async def pull(fails: bool) -> int:
        await asyncio.sleep(0)
        if fails:
            raise LookupError
        return 42

    async def both() -> int:
        with pytest.raises(LookupError):
            await pull(fails=True)
        return await pull(fails=False)

    assert 42 == asyncio.run(both())
    outcomes = [one.properties["outcome"] for one in events.captured]
    assert ["error", "success"] == outcomes


def test_jobs_at_the_same_time_do_not_share_a_context(events: Recorder) -> None:
    @job("pull", events.client)
    async def pull(number: int) -> None:
        context.add_properties({"number": number})
        await asyncio.sleep(0)
        events.client.capture("pulled", properties={"seen": number})

    async def many() -> None:
        await asyncio.gather(*(pull(number) for number in range(20)))

    asyncio.run(many())
    pulled = [one.properties for one in events.captured if one.name == "pulled"]
    assert list(range(20)) == sorted(one["seen"] for one in pulled)
    assert all(one["seen"] == one["number"] for one in pulled)


def test_a_block_is_a_job_too(events: Recorder) -> None:
    with pytest.raises(ValueError, match="no"), job("clean-up", events.client):
        raise ValueError("no")
    with job("clean-up", events.client) as here:
        here.event_name = "cleaned.up"

    outcomes = [one.properties["outcome"] for one in events.captured]
    assert ["error", "success"] == outcomes
    events.assert_audited("cleaned.up", times=1)


def test_a_block_may_be_open_twice_at_a_time(events: Recorder) -> None:
    nightly = job("nightly", events.client)
    with nightly as outer:
        with nightly as inner:
            assert context.current() is inner
        assert context.current() is outer

    assert context.current() is None
    events.assert_captured("job_run", name="nightly", outcome="success", times=2)


def test_threads_may_share_a_block(events: Recorder) -> None:
    nightly = job("nightly", events.client)
    both = threading.Barrier(2)

    def run(fails: bool) -> None:
        with suppress(LookupError), nightly:
            both.wait(60)
            if fails:
                raise LookupError
        both.wait(60)

    threads = [threading.Thread(target=run, args=(fails,)) for fails in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for outcome in ("error", "success"):
        events.assert_captured("job_run", outcome=outcome, times=1)


async def answer() -> int:
    await asyncio.sleep(0)
    assert context.current() is not None
    return 42


class Answering:
    async def __call__(self) -> int:
        return await answer()


@pytest.mark.parametrize(
    "call",
    [answer, functools.partial(answer), lambda: answer(), Answering()],
    ids=["function", "partial", "lambda", "callable"],
)
@pytest.mark.parametrize("flush_s", [None, 5])
def test_whatever_is_awaited_is_a_run_until_it_has_ended(
    events: Recorder, call: Any, flush_s: float | None
) -> None:
    async def run() -> None:
        under_way = job("pull", events.client, flush_s=flush_s)(call)()
        events.assert_nothing_captured()
        assert 42 == await under_way

    asyncio.run(run())

    events.assert_captured("job_run", outcome="success", times=1)
    assert context.current() is None


def test_a_flush_after_a_coroutine_keeps_its_loop_waiting_for_nothing(events: Recorder) -> None:
    with Stub() as silent:
        silent.usual = stalls()
        client = Indelible(TOKEN, host=silent.url, total_s=60)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        async def run() -> None:
            beside = asyncio.create_task(count())
            await job("pull", client, flush_s=0.5)(lambda: answer())()
            beside.cancel()

        asyncio.run(run())
        client.shutdown(0)

    assert turns > 5


def test_a_generator_is_a_run_until_its_body_has_ended(events: Recorder) -> None:
    @job("rows", events.client)
    def rows() -> Generator[str | None, None, None]:
        for _ in range(3):
            here = context.current()
            yield here.request_id if here is not None else None

    seen = []
    for request_id in rows():
        assert context.current() is None
        events.assert_nothing_captured()
        seen.append(request_id)

    event = events.assert_captured("job_run", outcome="success", times=1)
    assert [event.properties["request_id"]] * 3 == seen

    started = rows()
    next(started)
    started.close()
    events.assert_captured("job_run", outcome="error", aborted=True, times=1)


def test_a_coroutine_that_is_cancelled_is_aborted(events: Recorder) -> None:
    @job("sleep", events.client)
    async def sleep() -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        task = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    event = events.assert_captured("job_run", outcome="error", aborted=True, times=1)
    assert "error_type" not in event.properties


def test_what_is_no_function_is_no_job(events: Recorder) -> None:
    for one in (Answering, property(lambda _: 1), 42):
        with pytest.raises(TypeError):
            job("rows", events.client)(one)  # type: ignore[arg-type]


def test_a_job_makes_a_client_of_its_own_where_it_is_given_options(events: Recorder) -> None:
    server = events.server
    with job(
        "import",
        api_key=server.api_key,
        host=server.url,
        mode="sync",
        spool_audit=False,
        product=False,
    ):
        pass

    events.assert_audited("job.import", times=1)


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code"),
    [(None, "success", 0), (0, "success", 0), (3, "error", 3), ("text", "error", 1)],
)
def test_an_exit_is_judged_by_its_code(
    events: Recorder, code: int | str | None, outcome: str, exit_code: int
) -> None:
    @job("script", events.client)
    def end() -> None:
        raise SystemExit(code)

    with pytest.raises(SystemExit):
        end()

    events.assert_captured("job_run", outcome=outcome, exit_code=exit_code, times=1)


SCRIPT = """
import os, sys, time
from indelible.hooks.jobs import job

@job("nightly", flush_s=FLUSH_S)
def nightly():
    END

nightly()
AFTER
"""


def script(folder: Path, events: Recorder, **parts: str) -> "subprocess.Popen[bytes]":
    """Start SCRIPT with `parts` put in, sending to the recorder's server."""
    text = SCRIPT
    for name, part in {"FLUSH_S": "None", "END": "pass", "AFTER": "", **parts}.items():
        text = text.replace(name, part)
    (folder / "script.py").write_text(text)
    env = client_environment(
        INDELIBLE_HOST=events.server.url,
        INDELIBLE_TOKEN=events.server.token,
        INDELIBLE_API_KEY=events.server.api_key,
        INDELIBLE_SPOOL_DIR=str(folder / "spool"),
    )
    return subprocess.Popen(
        [sys.executable, folder / "script.py"], env=env, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("parts", "outcome", "ended"),
    [
        ({}, "success", 0),
        ({"END": "raise LookupError"}, "error", 1),
        ({"END": "sys.exit(4)"}, "error", 4),
        ({"FLUSH_S": "5", "AFTER": "os._exit(9)"}, "success", 9),
    ],
    ids=["returns", "raises", "exits", "is-cut-off"],
)
def test_the_event_of_a_script_arrives_however_it_ends(
    events: Recorder, tmp_path: Path, parts: dict[str, str], outcome: str, ended: int
) -> None:
    assert ended == script(tmp_path, events, **parts).wait(60)

    events.assert_captured("job_run", name="nightly", outcome=outcome, times=1)
    events.assert_audited("job.nightly", times=1)


# Short naps, for a signal that comes just before a long one is heard only when that is over.
NAPS = "any(time.sleep(0.05) for _ in range(1_200))"


def test_a_run_that_is_told_to_stop_in_the_middle_failed(events: Recorder, tmp_path: Path) -> None:
    running = tmp_path / "running"
    end = f"open({str(running)!r}, 'w').close(); {NAPS}"
    with script(tmp_path, events, END=end) as process:
        until(running.exists)
        process.send_signal(signal.SIGTERM)

    assert -signal.SIGTERM == process.returncode
    events.assert_captured("job_run", name="nightly", outcome="error", aborted=True, times=1)
    events.assert_audited("job.nightly", type="error", times=1)


def test_the_event_of_a_script_arrives_when_it_is_told_to_stop(
    events: Recorder, tmp_path: Path
) -> None:
    running = tmp_path / "running"
    after = f"open({str(running)!r}, 'w').close(); {NAPS}"
    with script(tmp_path, events, AFTER=after) as process:
        until(running.exists)
        process.send_signal(signal.SIGTERM)

    assert -signal.SIGTERM == process.returncode
    events.assert_captured("job_run", name="nightly", times=1)
