"""The server goes away and comes back, or the client is killed: every audit event arrives once."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.client.program import BEGINNING, PATIENT, Program
from tests.world import World, spawn

SHELL = f"""{BEGINNING.replace(f"client = {PATIENT}", "")}
from indelible.client import Options
from indelible.client.timing import Time

class Clock:
    '''Runs as the real one does, and can be set forward.'''
    ahead_s = 0

clock = Clock()
client = Indelible._of(Options.read(os.environ), time=Time(
    wall_ns=lambda: time.time_ns() + clock.ahead_s * 10**9,
    monotonic=lambda: time.monotonic() + clock.ahead_s,
))
numbers = iter(range(1_000_000))

def order():
    return {{"who": sys.argv[1], "place": next(numbers)}}

def send(count):
    '''Durably; what became of each.'''
    for _ in range(count):
        yield client.audit.send("order.created", order()).status

def send_async(count):
    for _ in range(count):
        client.audit.send_async("order.created", order())

ready()
for line in sys.stdin:
    print(eval(line), flush=True)
"""
"""A client with a clock of its own; it does what it is told, line by line."""


class Shell(Program):
    """`SHELL` under way."""

    def __init__(self, name: str, server: World, folder: Path) -> None:
        # One spool for all, each in a folder of its own.
        spool = {"INDELIBLE_SPOOL_DIR": str(folder / "spool")}
        super().__init__(SHELL, folder / name, name, INDELIBLE_HOST=server.url, **spool)

    def do(self, expression: str) -> str:
        """What an expression comes to."""
        self.say(expression)
        return self.line()


def test_ten_minutes_without_a_server_and_a_kill_cost_no_audit_event(
    outage: "Outage", tmp_path: Path
) -> None:
    with Shell("first", outage.server, tmp_path) as first:
        first.wait_until_ready()
        assert "{'accepted'}" == first.do("set(send(20))")
        first.do("send_async(20)")
        outage.begin()
        assert "{'spooled'}" == first.do("set(send(20))")
        for _ in range(20):  # half a minute each
            first.do("setattr(clock, 'ahead_s', clock.ahead_s + 30)")
            first.do("send_async(3)")
            assert "False" == first.do("client.flush(0.05)")
        assert "{'spooled'}" == first.do("set(send(1))")  # in the file after all before it
        assert "True" == first.do("client.audit.counts().waiting >= 81")
        first.kill()

    outage.end()
    with Shell("second", outage.server, tmp_path) as second:
        second.wait_until_ready()
        second.do("send_async(10)")
        assert "True" == second.do("client.flush(20)")
        adopted = int(second.do("client.audit.counts().adopted"))

    assert _once("first", 121) + _once("second", 10) == outage.found()
    assert adopted >= 81


def test_a_client_that_lives_through_the_outage_delivers_by_itself(
    outage: "Outage", tmp_path: Path
) -> None:
    with Shell("first", outage.server, tmp_path) as first:
        first.wait_until_ready()
        outage.begin()
        for _ in range(20):
            first.do("setattr(clock, 'ahead_s', clock.ahead_s + 30)")
            first.do("send_async(5)")
            assert "False" == first.do("client.flush(0.05)")
        outage.end()
        first.do("setattr(clock, 'ahead_s', clock.ahead_s + 30)")
        assert "True" == first.do("client.flush(20)")
        assert "100 0 {}" == first.do(
            "' '.join(str(getattr(client.audit.counts(), n)) for n in "
            "('delivered', 'waiting', 'lost'))"
        )

    assert _once("first", 100) == outage.found()
    assert list(range(100)) == [place for _, place in outage.in_order()]


def test_a_server_that_is_killed_in_the_middle_stores_each_event_once(
    outage: "Outage", tmp_path: Path
) -> None:
    with Shell("first", outage.server, tmp_path) as first:
        first.wait_until_ready()
        first.do("send_async(1000)")
        outage.begin(kill=True)
        first.do("send_async(1000)")
        outage.end()
        assert "True" == first.do("client.flush(30)")
        assert "True" == first.do("client.shutdown()")

    assert _once("first", 2000) == outage.found()


def test_what_send_said_is_safe_survives_a_kill_at_any_moment(
    outage: "Outage", tmp_path: Path
) -> None:
    outage.begin()
    said: dict[str, int] = {}
    for name, count in (("first", 1), ("second", 7), ("third", 40)):
        with Shell(name, outage.server, tmp_path) as shell:
            shell.wait_until_ready()
            shell.say("[print(status, flush=True) for status in send(100_000)]")
            for _ in range(count):
                assert "spooled" == shell.line()
            shell.kill()
        said[name] = count

    outage.end()
    with Shell("heir", outage.server, tmp_path) as heir:
        heir.wait_until_ready()
        assert "True" == heir.do("client.flush(20)")

    found = outage.found()
    assert {1} == set(found.values())
    for name, count in said.items():
        assert _once(name, count).keys() <= found.keys()


class Outage:
    """A real server that goes away and comes back, with its data and at its address."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.server = spawn(data_dir)

    def begin(self, *, kill: bool = False) -> None:
        if kill:
            self.server.kill()
        self.server.end()

    def end(self) -> None:
        self.server = spawn(self._data_dir, httpx.URL(self.server.url).port)

    def in_order(self) -> list[tuple[str, int]]:
        """Who sent each audit event, and its number, in log order."""
        payloads = [json.loads(event["payload"]) for event in self.server.events()]
        return [(payload["who"], payload["place"]) for payload in payloads]

    def found(self) -> Counter[tuple[str, int]]:
        return Counter(self.in_order())


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    it = Outage(tmp_path / "data")
    yield it
    it.server.end()


def _once(who: str, count: int) -> Counter[tuple[str, int]]:
    return Counter({(who, place): 1 for place in range(count)})
