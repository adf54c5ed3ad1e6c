"""Whether the server is well, and which part is not."""

from typing import Literal

import msgspec

from indelible.event import Lane
from indelible.journal.disk import DiskGuard
from indelible.journal.sqlite import SqliteJournal

Word = Literal["ok", "degraded", "failing"]


class JournalHealth(msgspec.Struct):
    """`failure` says why nothing is acknowledged any more; null while all is well."""

    status: Word
    failure: str | None


class DiskHealth(msgspec.Struct):
    """Each lane stops below its floor; `degraded` when one has stopped, `failing` when both."""

    status: Word
    free_percent: float
    product_min_free_percent: float
    audit_min_free_percent: float
    takes_product: bool
    takes_audit: bool


class Health(msgspec.Struct):
    """The worst of the parts is the status of the whole; `failing` is answered 503."""

    status: Word
    version: str
    journal: JournalHealth
    disk: DiskHealth


def look(journal: SqliteJournal, disk: DiskGuard, *, version: str) -> Health:
    """The state of every part, now."""
    failure = journal.failure
    journal_health = JournalHealth("failing" if failure else "ok", failure)
    takes_product, takes_audit = disk.takes(Lane.PRODUCT), disk.takes(Lane.AUDIT)
    disk_word: Word = "ok"
    if not (takes_product and takes_audit):
        disk_word = "degraded" if takes_product or takes_audit else "failing"
    parts: list[Word] = [journal_health.status, disk_word]
    worst: Word = max(parts, key=["ok", "degraded", "failing"].index)
    return Health(
        status=worst,
        version=version,
        journal=journal_health,
        disk=DiskHealth(
            status=disk_word,
            free_percent=round(disk.free_percent(), 2),
            product_min_free_percent=disk.floors[Lane.PRODUCT],
            audit_min_free_percent=disk.floors[Lane.AUDIT],
            takes_product=takes_product,
            takes_audit=takes_audit,
        ),
    )
