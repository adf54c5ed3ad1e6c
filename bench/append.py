"""``python -m bench.append [--turns 7]``: CPU of the writer's path, by stage.

From the frame of drafts that an edge sends to the frame of outcomes that goes back, with the real
journal in a temporary folder and every group synced, in two shapes: 30 requests of an event in a
frame, and 4 of 100. Each moment of the thread that writes is counted to the innermost stage that is
under way. Each turn is a process of its own; the figures are medians of the turns, in microseconds
an event.
"""

import argparse
import asyncio
import functools
import gc
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import uvloop

from bench.load import event
from indelible.clock import now_ms
from indelible.event import Kind
from indelible.journal.commit import Committer
from indelible.journal.commitments import Committing
from indelible.journal.contract import Draft, Outcome
from indelible.journal.database import Database
from indelible.journal.group import Group
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.journal.unique import UniqueKeys
from indelible.processes.messages import FROM_EDGE, Answered, Submitted
from indelible.registry.registry import Registry


class Shape(NamedTuple):
    """Of a frame of drafts."""

    requests: int
    size: int


SHAPES: Final = {"single": Shape(30, 1), "batched": Shape(4, 100)}
_EVENTS: Final = {"single": 60_000, "batched": 200_000}
_FRAMES_AT_ONCE: Final = 50

# The work of the thread that writes. What `append` does besides is the transaction: BEGIN, COMMIT
# with its sync, and what holds them together.
_STAGES: Final = (
    (SqliteJournal, "append", "transaction and sync"),
    (Group, "take_all", "decide"),
    (Group, "_keys_of", "unique keys"),
    (UniqueKeys, "find", "look-up"),
    (Group, "write", "rows"),
    (UniqueKeys, "add", "keys taken in"),
    (Database, "out_of_place", "files in place"),
)


class Stopwatch:
    """CPU of one thread, by stage. A stage within another stops the other's time."""

    def __init__(self) -> None:
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self._under_way: list[str] = []
        self._since_s = 0.0

    def watch(self, owner: type, name: str, stage: str) -> None:
        """Count what a method takes to this stage from now on."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self._within(stage):
                return method(*arguments, **named)

        setattr(owner, name, timed)

    @contextmanager
    def _within(self, stage: str) -> Iterator[None]:
        self._turn()
        self._under_way.append(stage)
        try:
            yield
        finally:
            self._turn()
            self._under_way.pop()

    def _turn(self) -> None:
        now_s = time.thread_time()
        if self._under_way:
            self.spent_s[self._under_way[-1]] += now_s - self._since_s
        self._since_s = now_s


def us_per_event(folder: Path, shape: Shape, events: int) -> dict[str, float]:
    """What `events` events in frames of this shape cost, by stage."""
    journal = SqliteJournal(Database(folder / "journal.db"))
    project_id = Registry(RegistryTables(journal)).projects.create("bench").id
    watch = Stopwatch()
    for owner, name, stage in _STAGES:
        watch.watch(owner, name, stage)
    spent_s = uvloop.run(_store(journal, project_id, shape, events))
    loop_s, whole_s = spent_s.pop("loop"), spent_s.pop("whole")
    spent_s |= watch.spent_s
    spent_s["hand-over on the loop"] = loop_s - spent_s["decode"] - spent_s["encode outcomes"]
    writer_s = sum(watch.spent_s.values())
    spent_s["merge of keys, hand-over on the writer's thread"] = whole_s - loop_s - writer_s
    spent_s["all"] = whole_s
    journal.close()
    return {stage: 1e6 * each / events for stage, each in spent_s.items()}


async def _store(
    journal: SqliteJournal, project_id: int, shape: Shape, events: int
) -> dict[str, float]:
    """Bring the events to a committer as a line does, a frame at a time."""
    committer = Committer(journal, max_waiting_bytes=64 << 20)
    committer.start()
    encode = msgspec.msgpack.Encoder().encode
    frames = _frames(project_id, shape)
    spent_s = dict.fromkeys(("decode", "encode outcomes", "loop", "whole"), 0.0)
    stored: list[tuple[int, list[Outcome]]] = []
    done = asyncio.Event()

    def end(number: int, outcomes: "asyncio.Future[list[Outcome]]") -> None:
        stored.append((number, outcomes.result()))
        if len(stored) == shape.requests:
            done.set()

    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # as the server does
    left = -(-events // (shape.requests * shape.size))
    while left > 0:
        ready = [next(frames) for _ in range(min(left, _FRAMES_AT_ONCE))]
        left -= len(ready)
        loop_s, whole_s = time.thread_time(), time.process_time()
        for frame in ready:
            began_s = time.thread_time()
            message = FROM_EDGE.decode(frame)
            spent_s["decode"] += time.thread_time() - began_s
            assert isinstance(message, Submitted)
            done.clear()
            for number, drafts in message.requests:
                committer.put(drafts).add_done_callback(partial(end, number))
            await done.wait()
            began_s = time.thread_time()
            encode(Answered(stored, []))
            spent_s["encode outcomes"] += time.thread_time() - began_s
            stored.clear()
        spent_s["loop"] += time.thread_time() - loop_s
        spent_s["whole"] += time.process_time() - whole_s
    await committer.stop()
    return spent_s


def _frames(project_id: int, shape: Shape) -> Iterator[bytes]:
    encode = msgspec.msgpack.Encoder().encode
    commit = Committing()
    number = 0
    run = secrets.token_hex(4)
    while True:
        requests = []
        for request in range(shape.requests):
            drafts = [_draft(project_id, run, number + place) for place in range(shape.size)]
            requests.append((request, commit(drafts)))
            number += shape.size
        yield encode(Submitted(requests))


def _draft(project_id: int, run: str, number: int) -> Draft:
    sent = event("", number % 100)
    uuid = f"{run}-{number % 100:04x}-7000-8000-{number:012d}"
    record = {
        "distinct_id": sent["distinct_id"],
        "event": sent["event"],
        "request": {"route": "/api/e"},
        "uuid": uuid,
    }
    return Draft(
        project_id=project_id,
        kind=Kind.PRODUCT,
        received_at_ms=now_ms(),
        payload=json.dumps(sent["properties"]).encode(),
        record=msgspec.json.encode(record),
        client_id=uuid,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.append", description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--one", choices=SHAPES, help="one turn of this shape, as JSON")
    given = parser.parse_args()
    if given.one is not None:
        with tempfile.TemporaryDirectory(prefix="indelible-append-") as folder:
            figures = us_per_event(Path(folder), SHAPES[given.one], _EVENTS[given.one])
        print(json.dumps(figures))
        return
    for name in SHAPES:
        turns = [_turn(name) for _ in range(given.turns)]
        print(f"{name}, {SHAPES[name].requests} requests a frame, {_EVENTS[name]:,} events")
        for stage in turns[0]:
            print(f"  {statistics.median(turn[stage] for turn in turns):6.2f}  {stage}")


def _turn(shape: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.append", "--one", shape]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(text)
    return figures


if __name__ == "__main__":
    main()
