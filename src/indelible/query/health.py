"""Whether the server is well, and which part is not."""

from typing import Final, Literal

import msgspec

from indelible.accounting.accounting import Accounting
from indelible.event import Lane
from indelible.journal.disk import DiskGuard
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.ledger import Ledger

DEGRADED_LAG_MS: Final = 10_000
FAILING_LAG_MS: Final = 60_000

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


class LedgerHealth(msgspec.Struct):
    """`failure` says why nothing is signed any more; `oldest_unsealed_s` is how long the oldest
    event that no checkpoint covers has been stored, null when there is none. `alarms` are sentences
    about witnesses who saw another history: never ignore one."""

    status: Word
    failure: str | None
    oldest_unsealed_s: float | None
    alarms: list[str]


class AccountingHealth(msgspec.Struct):
    """`failure` says why nothing is counted any more; `oldest_uncounted_s` is how long the oldest
    event that is in no account has been stored, null when there is none. Never `failing`: accounts
    are made anew from the log."""

    status: Word
    failure: str | None
    oldest_uncounted_s: float | None


class Health(msgspec.Struct):
    """The worst of the parts is the status of the whole; `failing` is answered 503."""

    status: Word
    version: str
    journal: JournalHealth
    disk: DiskHealth
    ledger: LedgerHealth
    accounting: AccountingHealth


def look(
    journal: SqliteJournal,
    disk: DiskGuard,
    ledger: Ledger,
    accounting: Accounting,
    *,
    version: str,
) -> Health:
    """The state of every part, now."""
    failure = journal.failure
    journal_health = JournalHealth("failing" if failure else "ok", failure)
    takes_product, takes_audit = disk.takes(Lane.PRODUCT), disk.takes(Lane.AUDIT)
    disk_word: Word = "ok"
    if not (takes_product and takes_audit):
        disk_word = "degraded" if takes_product or takes_audit else "failing"
    ledger_health = _of_ledger(ledger)
    accounts = _of_accounting(accounting)
    parts: list[Word] = [journal_health.status, disk_word, ledger_health.status, accounts.status]
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
        ledger=ledger_health,
        accounting=accounts,
    )


def _of_ledger(ledger: Ledger) -> LedgerHealth:
    """Events are stored whatever the ledger does; it is red all the same when nothing is signed."""
    age_ms = ledger.oldest_unsealed_ms()
    failure, alarms = ledger.failure, ledger.alarms()
    word: Word = "ok"
    if failure is not None or alarms or (age_ms or 0) > FAILING_LAG_MS:
        word = "failing"
    elif (age_ms or 0) > DEGRADED_LAG_MS:
        word = "degraded"
    return LedgerHealth(word, failure, None if age_ms is None else age_ms / 1000, alarms)


def _of_accounting(accounting: Accounting) -> AccountingHealth:
    age_ms, failure = accounting.oldest_uncounted_ms(), accounting.accounts.failure
    is_behind = failure is not None or (age_ms or 0) > DEGRADED_LAG_MS
    age_s = None if age_ms is None else age_ms / 1000
    return AccountingHealth("degraded" if is_behind else "ok", failure, age_s)
