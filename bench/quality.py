"""What learning the schema costs, in one thread: a log that is there already is followed."""

import json
import time
from pathlib import Path
from typing import Final, NamedTuple

from indelible.accounting.accounting import Accounting
from indelible.clock import now_ms
from indelible.event import Kind
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.quality.learning import Learning
from indelible.quality.schemas import SCHEMA_FILE
from indelible.registry.registry import Registry

NAMES: Final = 20
_GROUP: Final = 1_000
_BEGAN_MS: Final = 1_790_000_000_000
_PROPERTIES: Final = {
    "plan": "pro",
    "amount": 99.5,
    "$current_url": "https://shop.example/cart?step=2",
    "$lib": "web",
    "items": [{"sku": 1, "price": 9.5}, {"sku": 2, "price": 1}],
    "cart": {"total": 3, "currency": "EUR"},
    **{f"property_{chr(97 + n)}": "value " * n for n in range(10)},
}


class Cost(NamedTuple):
    """CPU of an event, in microseconds.

    Attributes:
        learned: by the schema.
        accounted: by the accounts, which read the same records and no payloads.
        looked_into: how many events of all.
        file_bytes: of the schema's file.
    """

    learned: float
    accounted: float
    looked_into: int
    file_bytes: int


def cost(folder: Path, *, events: int, rate: int) -> Cost:
    """Follow a log of `events`, of `NAMES` names, that were received at `rate` a second."""
    folder.mkdir()
    journal = SqliteJournal(Database(folder / "journal.db"))
    project = Registry(RegistryTables(journal)).projects.create("bench").id
    payload = json.dumps(_PROPERTIES).encode()
    records = [
        json.dumps(
            {"distinct_id": f"u{n}", "event": f"event {chr(97 + n)}", "request": {"route": "/e"}}
        ).encode()
        for n in range(NAMES)
    ]
    for start in range(0, events, _GROUP):
        journal.append(
            [
                Draft(
                    project, Kind.PRODUCT, _BEGAN_MS + n * 1000 // rate, payload, records[n % NAMES]
                )
                for n in range(start, start + _GROUP)
            ]
        )
    learning = Learning(folder, journal=journal, projects=lambda: [project])
    learned = _cpu_us(learning, events)
    accounting = Accounting(folder, journal=journal, projects=lambda: [project], clock=now_ms)
    accounted = _cpu_us(accounting, events)
    looked_into = sum(
        one.looked for one in learning.schemas.page(project, kind=None, after=None, limit=NAMES)
    )
    accounting.close()
    learning.close()
    journal.close()
    return Cost(learned, accounted, looked_into, (folder / SCHEMA_FILE).stat().st_size)


def _cpu_us(follower: Learning | Accounting, events: int) -> float:
    """What a follower takes to its end, by its own thread."""
    began = time.process_time()
    follower.start()
    follower.stop()
    return (time.process_time() - began) / events * 1e6
