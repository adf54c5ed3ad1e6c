"""A log that no one reads holds up no one: the pipe is full, and the server answers."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import nursery
from tests.edge.wire import eventually
from tests.unread import FullPipe
from tests.world import START_S, World, a_free_port, audit, environment, product


def begun(data: Path, pipe: FullPipe, **env: str) -> tuple[World, nursery.Running]:
    """A server whose stdout and stderr are this pipe, once it answers."""
    port = a_free_port()
    process = nursery.start(
        ["serve", "--data", data, "--port", str(port), "--log-level", "debug"],
        env=environment(**env),
        stdout=pipe.end.fileno(),
        stderr=pipe.end.fileno(),
    )
    world, deadline = World(f"http://127.0.0.1:{port}", data), time.monotonic() + START_S
    while True:
        try:
            world.http.get("/healthz", timeout=5)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                process.kill()
                raise
            time.sleep(0.02)
        else:
            return world, process


def refused_in_many_ways(world: World) -> None:
    """Lines of the log from every process, with a code each."""
    bodies: list[Any] = [{**product(), "api_key": "nobody's"}, {"event": "e"}, [], "text"]
    for body in bodies:
        assert 400 <= world.send(body).status_code < 500
    assert 401 == world.http.get("/v1/events").status_code
    assert 404 == world.http.get("/nothing").status_code


@pytest.mark.parametrize("edges", ["0", "1"])
def test_a_server_whose_log_no_one_reads_starts_answers_and_ends(
    edges: str, tmp_path: Path
) -> None:
    with FullPipe() as pipe:
        world, process = begun(tmp_path, pipe, INDELIBLE_EDGES=edges)
        refused_in_many_ways(world)
        assert 200 == world.send(product()).status_code
        assert 202 == world.send_audit(audit()).status_code
        assert 200 == world.http.get("/healthz").status_code
        world.close()
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(60)


def test_once_it_is_read_its_lines_come_in_order(tmp_path: Path) -> None:
    with FullPipe() as pipe:
        world, process = begun(tmp_path, pipe, INDELIBLE_LOG_FORMAT="json", INDELIBLE_EDGES="0")
        refused_in_many_ways(world)
        world.close()
        pipe.read()
        eventually(lambda: any('"not_found"' in line for line in pipe.lines()))
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(60)

    events = [json.loads(line).get("event") for line in pipe.lines()]
    assert ("started", "stopped") == (events[0], events[-1])
    assert "refused" in events


# Far more than is kept, from a process that has an event loop; then more, while all is read.
LOUD = """
import asyncio, logging, sys
from indelible import voice
voice.configure(voice.Format.JSON, voice.Level.INFO)
log = logging.getLogger("indelible.loud")

async def main():
    for number in range(30_000):
        log.info("%d", number)
    print("logged", flush=True)
    for number in range(30_000, 40_000):
        log.info("%d", number)
        await asyncio.sleep(0)
    while not voice.drain():
        pass
    log.info("40000")

asyncio.run(main())
"""


def test_what_does_not_fit_is_counted_at_the_place_of_the_gap() -> None:
    with FullPipe() as pipe:
        process = subprocess.Popen(
            [sys.executable, "-c", LOUD], stdout=subprocess.PIPE, stderr=pipe.end
        )
        assert process.stdout is not None
        assert b"logged\n" == process.stdout.readline()
        pipe.read()
        assert 0 == process.wait(60)
        process.stdout.close()

    number, gaps = 0, 0
    for line in map(json.loads, pipe.lines()):
        if "event" not in line:
            assert number == int(line["message"])
            number += 1
            continue
        assert ("log_lost", "warning") == (line["event"], line["level"])
        assert re.match(r"[\d,]+ lines? missing here", line["message"])
        number, gaps = number + line["count"], gaps + 1
    assert 40_001 == number
    assert gaps


# A fault ends the process while lines wait.
FAILING = """
import asyncio, logging, sys
from indelible import voice
from indelible.cli import main
from indelible.cli import serve as command
from indelible.errors import ProcessLost

def serve():
    voice.configure(voice.Format.TEXT, voice.Level.INFO)
    async def story():
        for number in range(1000):
            logging.getLogger("indelible").warning("line %d", number)
    asyncio.run(story())
    raise ProcessLost

command.serve = serve
sys.exit(main.run(["serve"]))
"""


def run_failing(stderr: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FAILING], stderr=stderr, text=True, timeout=60, check=False
    )


def test_the_cause_of_the_end_is_said_after_all_lines_of_the_log() -> None:
    ran = run_failing(subprocess.PIPE)

    *lines, code, hint = ran.stderr.splitlines()
    assert [f"line {number}" for number in range(1000)] == [line[34:] for line in lines]
    assert ("process_lost", "try") == (code.partition(":")[0], hint.partition(":")[0])
    assert 3 == ran.returncode


def test_a_process_that_fails_ends_even_if_no_one_reads_why() -> None:
    with FullPipe() as pipe:
        assert 3 == run_failing(pipe.end).returncode
