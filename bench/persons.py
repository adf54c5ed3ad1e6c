"""``python -m bench.persons [EVENTS] [chatty]``: what persons cost.

A log of EVENTS product events of a tenth as many persons, in any order, with a fiftieth as many
merges: an `$identify` with an anonymous id and `$set`. With `chatty`, every twentieth event is an
`$identify` of a page load besides, and every tenth has `$set`. One thread, CPU of taking all of it,
next to the CPU of hashing, since that tells how busy the machine is.
"""

import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from indelible.clock import now_ms
from indelible.event import Kind
from indelible.identity.identity import Identity
from indelible.identity.persons import PERSONS_FILE
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.reader import open_reader
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.layout import JOURNAL_FILE
from indelible.registry.registry import Registry

_AT_ONCE: Final = 2_000
_LOOKED_UP: Final = 500
HASH_US: Final = 0.38
"""The CPU of a SHA-256 of 97 bytes on a machine of ours that does nothing else."""


def fill(folder: Path, events: int, *, is_chatty: bool = False) -> int:
    """Make a journal with this many events; the id of their project."""
    chance = random.Random(12)
    journal = SqliteJournal(Database(folder / JOURNAL_FILE))
    project = Registry(RegistryTables(journal)).projects.create("bench")
    persons, merges = events // 10, events // 50
    merged = 0
    for first in range(0, events, _AT_ONCE):
        drafts = []
        for at in range(first, min(first + _AT_ONCE, events)):
            number = chance.randrange(persons)
            user = f"user-{number}"
            properties: dict[str, object] = {
                "$current_url": "https://shop.example/checkout/step/2",
                "$lib": "web",
                "amount": 99.99,
                "currency": "EUR",
            }
            name = "purchase_completed"
            if merged < merges and at % (events // merges) == 0:
                name, user = "$identify", f"user-{merged}"
                properties["$anon_distinct_id"] = f"anonymous-{merged}"
                properties["$set"] = {"plan": "pro", "seen": at}
                merged += 1
            elif is_chatty and at % 20 == 0:
                name = "$identify"
                if number < merges:
                    properties["$anon_distinct_id"] = f"anonymous-{number}"
            elif number < merges and at % 3 == 0:
                user = f"anonymous-{number}"
            if is_chatty and at % 10 == 0:
                properties["$set"] = {"plan": "pro", "seen": at}
            record = f'{{"distinct_id":"{user}","event":"{name}","request":{{"route":"/api/e"}}}}'
            payload = json.dumps(properties, separators=(",", ":"))
            drafts.append(
                Draft(project.id, Kind.PRODUCT, now_ms(), payload.encode(), record.encode())
            )
        journal.append(drafts)
    journal.close()
    return project.id


def taken(folder: Path, project_id: int) -> tuple[Identity, float, float]:
    """Take the whole log, in runs of 50,000; CPU and wall time in s."""
    journal = open_reader(folder / JOURNAL_FILE)
    identity = Identity(folder, journal=journal, projects=lambda: [project_id], clock=now_ms)
    end = journal.next_index(project_id)
    began, cpu = time.perf_counter(), time.thread_time()
    for first in range(0, end, 50_000):
        identity.handle(project_id, first, min(first + 50_000, end))
    return identity, time.thread_time() - cpu, time.perf_counter() - began


def measured(folder: Path, events: int, *, is_chatty: bool = False) -> dict[str, float]:
    """What everything costs; see the names."""
    project_id = fill(folder, events, is_chatty=is_chatty)
    before_us = hash_us()
    identity, cpu_s, wall_s = taken(folder, project_id)
    busy_us = (before_us + hash_us()) / 2
    persons, figures = identity.persons, {"follower_us": cpu_s / events * 1e6, "wall_s": wall_s}
    figures["hash_us"] = busy_us
    chance = random.Random(13)
    who = [f"user-{chance.randrange(events // 10)}" for _ in range(_LOOKED_UP)]
    figures["find_ms"] = _ms_each(lambda one: persons.find(project_id, one), who)
    figures["timeline_ms"] = _ms_each(lambda one: persons.timeline(project_id, one, limit=100), who)
    figures["at_ms"] = _ms_each(lambda one: persons.find(project_id, one, at=events // 2), who)
    figures["page_ms"] = _ms_each(lambda _: persons.page(project_id, limit=50), who[:20])
    figures["count_5000_ms"] = _ms_each(
        lambda _: persons.count(project_id, [f"user-{n}" for n in range(5_000)]), who[:20]
    )
    identity.close()
    size = (folder / PERSONS_FILE).stat().st_size
    figures["bytes_a_person"] = size / (events // 10)
    (folder / PERSONS_FILE).unlink()
    identity, _, figures["rebuild_s"] = taken(folder, project_id)
    identity.close()
    return figures


def hash_us() -> float:
    """The CPU of a SHA-256 of 97 bytes."""
    count, text = 200_000, b"x" * 97
    began = time.thread_time()
    for _ in range(count):
        hashlib.sha256(text).digest()
    return (time.thread_time() - began) / count * 1e6


def _ms_each(ask: Callable[[str], object], who: list[str]) -> float:
    """The 99th percentile of asking each, in ms."""
    times = []
    for one in who:
        began = time.perf_counter()
        ask(one)
        times.append(time.perf_counter() - began)
    times.sort()
    return times[int(len(times) * 0.99)] * 1e3


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        is_chatty = "chatty" in sys.argv
        for name, value in measured(Path(folder), events, is_chatty=is_chatty).items():
            print(f"{name} {value:.2f}")


if __name__ == "__main__":
    main()
