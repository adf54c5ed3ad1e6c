"""``python -m bench.rows FOLDER EVENTS``: what reading in bulk costs, in one thread."""

import sys
import time
from pathlib import Path
from typing import Final

from indelible.clock import now_ms
from indelible.event import Kind
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.reader import open_reader
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry

AT_ONCE: Final = 1_000
_PAYLOAD: Final = b'{"amount":99.99,"currency":"USD","plan":"pro","$pathname":"/checkout/step/2"}'
_RECORD: Final = (
    b'{"distinct_id":"user_1","event":"purchase_completed","request":{"route":"/api/e",'
    b'"user_agent":"Mozilla/5.0 (X11; Linux x86_64)"}}'
)


def fill(path: Path, events: int) -> int:
    """Make a journal with this many events; the id of their project."""
    journal = SqliteJournal(Database(path))
    project = Registry(RegistryTables(journal)).projects.create("bench")
    for _ in range(0, events, AT_ONCE):
        draft = Draft(project.id, Kind.PRODUCT, now_ms(), _PAYLOAD, _RECORD)
        journal.append([draft] * AT_ONCE)
    journal.close()
    return project.id


def us_per_event(path: Path, project_id: int, *, with_payloads: bool) -> float:
    """CPU of reading the whole log once, in microseconds an event; the best of five."""
    reader = open_reader(path)
    end = reader.next_index(project_id)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for start in range(0, end, AT_ONCE):
            reader.rows(project_id, start, start + AT_ONCE, with_payloads=with_payloads)
        best = min(best, time.process_time() - began)
    reader.close()
    return best / end * 1e6


def main() -> None:
    path, events = Path(sys.argv[1]) / "journal.db", int(sys.argv[2])
    project_id = fill(path, events)
    for with_payloads in (True, False):
        print(f"{us_per_event(path, project_id, with_payloads=with_payloads):.2f}")


if __name__ == "__main__":
    main()
