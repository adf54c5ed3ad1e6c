"""`kill -9` of a process that only writes the journal, while it merges its look-up of client ids.

A server under test load stores too few events to get there; this one stores tens of thousands.
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indelible.event import Lane
from indelible.journal.contract import Duplicate
from indelible.journal.sqlite import SqliteJournal
from tests.crash.writer import PROJECT, drafts, open_journal
from tests.world import environment

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]
NEAR = 5_000  # events before a kill that are looked at as soon as the journal is open again


def test_killed_while_it_merges_it_still_knows_every_client_id(tmp_path: Path) -> None:
    kill_while_merging(tmp_path, rounds=2)


@pytest.mark.slow
def test_killed_twenty_times_while_it_merges_it_still_knows_every_client_id(tmp_path: Path) -> None:
    kill_while_merging(tmp_path, rounds=20)


def kill_while_merging(folder: Path, *, rounds: int) -> None:
    open_journal(folder).close()
    count = 0
    for _ in range(rounds):
        told = write_until_killed(folder, count)
        journal = open_journal(folder)
        before, count = count, journal.next_index(PROJECT)
        assert told < count
        check(journal, max(before, count - NEAR), count)
        journal.close()
    journal = open_journal(folder)
    check(journal, 0, count)  # what the file once lacks it lacks until it is made anew
    journal.close()


def write_until_killed(folder: Path, start: int) -> int:
    """Run a writer and kill it as it writes to the keys' file; the last number it told us."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.writer", str(folder), str(start)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said, "the writer ended"
        until_written_to(folder / "unique.db-wal")
        time.sleep(random.uniform(0, 0.02))
    finally:
        process.kill()
        rest = process.communicate(timeout=60)[0]
    lines = [line for line in (said + rest).splitlines(keepends=True) if line.endswith("\n")]
    return int(lines[-1])


def until_written_to(path: Path) -> None:
    def state() -> tuple[int, int]:
        found = path.stat()
        return found.st_size, found.st_mtime_ns

    before, deadline = state(), time.monotonic() + 60
    while state() == before:
        assert time.monotonic() < deadline, "nothing was merged"
        time.sleep(0.001)


def check(journal: SqliteJournal, start: int, end: int) -> None:
    """Each of these events stands at the index of its number, and is known when it comes again."""
    for first in range(start, end, 1_000):
        numbers = range(first, min(first + 1_000, end))
        entries = journal.read(PROJECT, numbers.start, numbers.stop)
        assert list(numbers) == [entry.index for entry in entries]
        assert [b"%d" % number for number in numbers] == [entry.payload for entry in entries]
        outcomes = journal.append(drafts(numbers.start, numbers.stop))
        assert [(Duplicate, number) for number in numbers] == [
            (type(outcome), getattr(outcome, "index", None)) for outcome in outcomes
        ]
    assert end == journal.next_index(PROJECT)
    for number in random.sample(range(end), 50):
        found = journal.find(PROJECT, Lane.PRODUCT, f"id-{number}")
        assert found is not None
        assert number == found.index
