"""Door by phase of a process's life: each event is delivered, spooled, or counted.

The doors and the phases are in `tests.client.doors`, a program that each test runs as a process.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter, UserDict
from collections.abc import Iterator, KeysView, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import indelible
from indelible.client import AuditEvent
from indelible.client.spool import contents_of
from indelible.errors import ClientDisabled
from indelible.event import LossReason
from indelible.testing import InMemoryServer
from tests.client import doors
from tests.client.program import BEGINNING, LIMIT_S, PATIENT, Program, address, arrived
from tests.world import client_environment

PRODUCT = {"capture": 1, "identify": 1, "alias": 1, "set": 1, "twin's capture": 1}
QUEUED = {"send_async": 1, "audited": 1}
DURABLE = {
    "send": 1,
    "send_batch": 3,
    "send_batch of many": doors.MANY,
    "twin's send": 1,
    "twin's sends at once": 30,
    "twin's send_batch": doors.MANY,
}
EVENTS = PRODUCT | QUEUED | DURABLE
QUIET = {"flush", "twin's flush", "counts", "shutdown", "twin's shutdown"}

LIVING = [
    "in the main thread",
    "before a fork",
    "in a child",
    "in a child, as the first",
    "in a signal handler",
    "in __del__",
]
ENDING = [
    "in a thread that outlives main",
    "in a thread that outlives main, as the first",
    "in atexit, before ours",
    "in atexit, before ours, as the first",
    "in atexit, after ours",
    "in atexit, with a client made there",
    "while the interpreter ends",
    "while the interpreter ends, as the first",
]
OTHER_PYTHONS = [minor for minor in (11, 12, 13, 14) if minor != sys.version_info.minor]


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as running:
        yield running


@pytest.mark.parametrize("phase", LIVING + ENDING)
def test_every_door_delivers_in_every_phase(
    server: InMemoryServer, tmp_path: Path, phase: str
) -> None:
    _check_all_delivered(sys.executable, phase, server, tmp_path)


@pytest.mark.parametrize("minor", OTHER_PYTHONS, ids="3.{}".format)
@pytest.mark.parametrize("phase", ENDING)
def test_every_door_delivers_at_the_end_of_other_pythons(
    server: InMemoryServer, tmp_path: Path, minor: int, phase: str
) -> None:
    python = _python(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} here")
    _check_all_delivered(python, phase, server, tmp_path)


def test_after_shutdown_every_door_counts_or_says_that_it_is_closed(
    server: InMemoryServer, tmp_path: Path
) -> None:
    said = _said(sys.executable, "after shutdown", address(server), tmp_path)

    for door, line in said.items():
        if door in PRODUCT | QUEUED:
            assert (None, {"after_shutdown": 1}) == (line["raised"], line["lost"]), door
        elif door in DURABLE:
            assert line["raised"].startswith("indelible.errors.ClientDisabled: "), door
            assert {} == line["lost"], door
        else:
            assert (None, {}) == (line["raised"], line["lost"]), door
    assert {"warm": 4} == arrived(server)


@pytest.mark.parametrize("phase", ENDING[::2])
def test_without_a_server_every_door_spools_or_counts_in_every_phase(
    tmp_path: Path, phase: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    env = {"INDELIBLE_HOST": f"http://127.0.0.1:{port}", "DOORS_EXIT_S": "0.05"}
    keys = {"INDELIBLE_TOKEN": "ind_pub_none", "INDELIBLE_API_KEY": "iml_test_none"}
    said = _said(sys.executable, phase, env | keys, tmp_path)

    assert dict.fromkeys(said) == {door: line["raised"] for door, line in said.items()}
    spooled = _doors_in(
        record
        for file in (tmp_path / "spool").rglob("*.batch")
        for record in contents_of(file.read_bytes()).records
    )
    assert QUEUED | DURABLE == spooled
    lost = sum(line["lost"].get("exit", 0) for line in said.values())
    counted_after_the_last_door = {"in atexit, before ours"}
    warm = 0 if "first" in phase or "made there" in phase else 2
    assert lost in (len(PRODUCT), len(PRODUCT) + warm) or phase in counted_after_the_last_door


def test_what_is_lost_when_the_process_ends_is_counted_and_said(tmp_path: Path) -> None:
    made = "Indelible('t', host='http://127.0.0.1:9', exit_s=0.1)"
    text = BEGINNING.replace(
        f"client = {PATIENT}",
        # Handlers run last in, first out: this one after the client's own.
        "atexit.register(lambda: print(client.counts().lost, client.counts().waiting))\n"
        f"client = {made}",
    )
    text += "ticks(10)"
    with Program(text, tmp_path) as program:
        code, said = program.end()

    assert 0 == code
    assert f"{ ({LossReason.EXIT: 10}) } 0\n" in said
    assert f"product: 10 let go: {LossReason.EXIT.meaning}" in said


def test_what_is_lost_at_a_shutdown_is_counted_as_lost_at_the_exit() -> None:
    told: list[tuple[str, int]] = []
    client = indelible.Indelible(
        "t", host="http://127.0.0.1:9", on_drop=lambda reason, count: told.append((reason, count))
    )
    for _ in range(10):
        client.capture("tick")
    assert not client.shutdown(0.2)

    counts = client.counts()
    assert ({LossReason.EXIT: 10}, 0) == (counts.lost, counts.waiting)
    assert [("exit", 10)] == told


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGTERM)"])
@pytest.mark.parametrize("door", ["send", "send_batch"])
def test_a_durable_call_that_the_end_cuts_off_is_in_the_spool(
    tmp_path: Path, door: str, end: str
) -> None:
    call = {
        "send": "client.audit.send('row.read', 'x')",
        "send_batch": "client.audit.send_batch([{'event_name': 'row.read', 'payload': 'x'}] * 150)",
    }[door]
    text = f"""{BEGINNING.replace(PATIENT, "Indelible(exit_s=0.1, total_s=30)")}
client.install_signal_handlers()
threading.Thread(target=lambda: {call}, daemon=True).start()
sys.stdin.readline()
{end}
"""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        env = {"INDELIBLE_HOST": f"http://127.0.0.1:{listening.getsockname()[1]}"}
        with (
            Program(text, tmp_path, INDELIBLE_API_KEY="k", **env) as program,
            listening.accept()[0],
        ):
            program.say("")
            assert program.end()[0] in (0, -15)

    spooled = [
        record
        for file in (tmp_path / "spool").rglob("*.batch")
        for record in contents_of(file.read_bytes()).records
    ]
    assert len(spooled) == (1 if door == "send" else 150)


def test_a_batch_during_which_the_client_is_shut_down_has_a_fate_for_each_event(
    server: InMemoryServer,
) -> None:
    client = indelible.Indelible(api_key=server.api_key, host=server.url)

    class Closing(UserDict[str, str]):
        def keys(self) -> KeysView[str]:
            client.shutdown()
            return super().keys()

    events = [AuditEvent(event_name="row.read", payload="x", meta=Closing(a="b")) for _ in range(2)]
    with pytest.raises(ClientDisabled):
        client.audit.send_batch([AuditEvent(event_name="row.read", payload="x"), *events])

    counts = client.audit.counts()
    assert ({LossReason.AFTER_SHUTDOWN: 2}, 0) == (counts.lost, counts.waiting)


def _check_all_delivered(python: str, phase: str, server: InMemoryServer, folder: Path) -> None:
    said = _said(python, phase, address(server), folder)

    assert EVENTS.keys() | QUIET == said.keys()
    wrong = {door: line for door, line in said.items() if line["raised"] or line["lost"]}
    assert {} == wrong
    assert EVENTS == _doors_in(json.dumps(event.body).encode() for event in server.received)
    assert [] == list(folder.rglob("*.batch"))


def _said(
    python: str, phase: str, env: Mapping[str, str], folder: Path
) -> dict[str, dict[str, Any]]:
    """What came of each door, by its name."""
    done = subprocess.run(
        [python, "-W", "ignore::DeprecationWarning", doors.__file__, phase],
        env=client_environment(
            INDELIBLE_SPOOL_DIR=str(folder / "spool"),
            PYTHONPATH=str(Path(indelible.__file__).parent.parent),
            **env,
        ),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert 0 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["door"]: line for line in lines}


def _doors_in(texts: Iterator[bytes]) -> dict[str, int]:
    """How many of the events each door sent."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(door for door in EVENTS if f'"{door}"'.encode() in text)
    return dict(found)


@cache
def _python(minor: int) -> str | None:
    """Another Python that runs here."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = shutil.which(f"python3.{minor}")
    installed = map(str, sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python")))
    look = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    for python in filter(None, [found, *installed]):
        done = subprocess.run([python, "-c", look], capture_output=True, timeout=LIMIT_S)
        if done.returncode == 0:
            return python
    return None
