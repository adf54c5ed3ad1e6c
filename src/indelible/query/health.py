"""Whether the server is well, and which part is not.

`/healthz` is answered on the event loop, so it must not touch a disk that may hang. A thread, the
lookout, reads the disk and keeps the figures in memory; the answer is built from those and from
the state that other parts hold in memory. If the lookout does not return from a read, the disk
hangs, and health says so.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import msgspec

from indelible.accounting.accounting import Accounting
from indelible.clock import Clock, Steadiness, rfc3339
from indelible.connections import SqliteError
from indelible.event import Lane
from indelible.journal.commit import STUCK_S, Committer
from indelible.journal.disk import DiskGuard, Reserve
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.ledger import Ledger
from indelible.pulse import Pulse

logger = logging.getLogger(__name__)

DEGRADED_LAG_MS: Final = 10_000
FAILING_LAG_MS: Final = 60_000
HANGS_S: Final = 1.5
"""Report that the disk hangs if a read by the lookout takes longer than this."""

AHEAD_MS: Final = 60_000

_PERIOD_S: Final = 0.4
_FRESH_WITHIN_S: Final = 0.25  # how long an answer waits for fresh figures

Word = Literal["ok", "degraded", "failing"]
_WORDS: Final[list[Word]] = ["ok", "degraded", "failing"]


class Part(msgspec.Struct):
    """How one part of the server is."""

    status: Word


class JournalHealth(Part):
    """`failure` says why no event is acknowledged now, or is null. `under_way_s` is the age of the
    group being written. `last_failure` and `last_failure_at` say why and when storing last failed;
    they stay after the journal has recovered."""

    failure: str | None
    under_way_s: float | None
    last_failure: str | None
    last_failure_at: str | None


class DiskHealth(Part):
    """Each lane stops below its floor; `degraded` when one has stopped, `failing` when both.
    `failure` says why the data folder cannot be read, or is null."""

    failure: str | None
    free_percent: float
    product_min_free_percent: float
    audit_min_free_percent: float
    takes_product: bool
    takes_audit: bool


class LedgerHealth(Part):
    """`failure` says why nothing is signed any more; `oldest_unsealed_s` is how long the oldest
    event that no checkpoint covers has been stored, null when there is none. `alarms` are sentences
    about witnesses who saw another history: never ignore one."""

    failure: str | None
    oldest_unsealed_s: float | None
    alarms: list[str]


class AccountingHealth(Part):
    """`failure` says why nothing is counted any more; `oldest_uncounted_s` is how long the oldest
    event that is in no account has been stored, null when there is none. Never `failing`: accounts
    are made anew from the log."""

    failure: str | None
    oldest_uncounted_s: float | None


class ClockHealth(Part):
    """`failure` says what is wrong with the clock, or is null. `doubt` says why retention does not
    trust the clock at the moment, and erases nothing; null if it does. `ids_ahead_s` is how far the
    newest transaction id is ahead of the clock. IDs only ever grow, so one event stored while the
    clock was ahead leaves all later ids ahead. `last_jump_s` is the latest step of the clock since
    the server started."""

    failure: str | None
    doubt: str | None
    ids_ahead_s: float
    last_jump_s: float | None
    last_jump_at: str | None


class Health(msgspec.Struct):
    """The worst of the parts is the status of the whole; `failing` is answered 503."""

    status: Word
    version: str
    journal: JournalHealth
    disk: DiskHealth
    ledger: LedgerHealth
    accounting: AccountingHealth
    clock: ClockHealth


class _Look(NamedTuple):
    """One read of the disk. If `is_dear`, it is made only for a request to `/healthz`."""

    what: str
    act: Callable[[], None]
    is_dear: bool


class Lookout:
    """Reads the disk on its own thread, and reports the health of every part.

    To add a part: give `Health` a field, write an `_of_…` method that reads memory only, and list
    it in `health`. If the part needs the disk, add a `_Look` that stores the figure.
    """

    def __init__(
        self,
        *,
        journal: SqliteJournal,
        committer: Committer,
        disk: DiskGuard,
        reserve: Reserve,
        ledger: Ledger,
        accounting: Accounting,
        clock: Clock,
        steadiness: Steadiness,
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._disk = disk
        self._ledger = ledger
        self._accounting = accounting
        self._clock = clock
        self._steadiness = steadiness
        self._pulse: Pulse = committer.pulse
        self._misplaced: str | None = None
        self._unsealed_ms: int | None = None
        self._uncounted_ms: int | None = None
        self._looks = (
            _Look("the data folder", disk.refresh, is_dear=False),
            _Look("the reserve", reserve.restore, is_dear=False),
            _Look("the journal's files", self._find_journal, is_dear=False),
            _Look("the oldest unsealed event", self._find_unsealed, is_dear=True),
            _Look("the oldest uncounted event", self._find_uncounted, is_dear=True),
        )
        self._failures: dict[str, str] = {}
        self._at: tuple[str, float] | None = None  # the read under way, and since when
        self._asked: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self.look_around(everything=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, or abandon it if the disk hangs."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(HANGS_S)

    def look_around(self, *, everything: bool) -> None:
        """Read the disk. Blocks while the disk hangs."""
        for look in self._looks:
            if look.is_dear and not everything:
                continue
            self._at = (look.what, self._pulse.s)
            try:
                look.act()
            except Exception as error:  # reported in health, whatever it is
                text = f"{look.what}: {_describe(error)}"
                if look.what not in self._failures:
                    logger.error("cannot look at %s", text)  # noqa: TRY400 — see `_describe`
                self._failures[look.what] = text
            else:
                self._failures.pop(look.what, None)
        self._at = None

    async def fresh(self) -> None:
        """Ask the lookout for fresh figures, and wait for them briefly."""
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._asked.append((loop, seen))
        self._wake.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(seen, _FRESH_WITHIN_S)

    def describe_hang(self) -> str | None:
        """Say which read the disk has not answered, or return None if it answers."""
        at = self._at
        if at is None:
            return None
        what, since_s = at
        waited_s = self._pulse.s - since_s
        return f"no answer for {waited_s:.1f} s: {what}" if waited_s > HANGS_S else None

    def health(self, *, version: str) -> Health:
        """Return the state of every part."""
        parts: dict[str, Part] = {
            "journal": self._of_journal(),
            "disk": self._of_disk(),
            "ledger": self._of_ledger(),
            "accounting": self._of_accounting(),
            "clock": self._of_clock(),
        }
        worst = max((part.status for part in parts.values()), key=_WORDS.index)
        return Health(status=worst, version=version, **parts)  # type: ignore[arg-type]

    # On the thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_PERIOD_S)
            with self._lock:
                asked, self._asked = self._asked, []
                self._wake.clear()
            self.look_around(everything=bool(asked))
            for loop, seen in asked:
                with suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(_resolve, seen)

    def _find_journal(self) -> None:
        self._misplaced = self._journal.database.out_of_place()

    def _find_unsealed(self) -> None:
        self._unsealed_ms = self._ledger.oldest_unsealed_ms()

    def _find_uncounted(self) -> None:
        self._uncounted_ms = self._accounting.oldest_uncounted_ms()

    # The parts

    def _of_journal(self) -> JournalHealth:
        committer, under_way_s = self._committer, self._committer.under_way_s
        last = committer.last_failure
        failure = self._journal.failure or self._misplaced
        if failure is None and (under_way_s or 0.0) > STUCK_S:
            failure = f"one sync has been under way for {under_way_s:.1f} s"
        if failure is None and committer.is_failing and last is not None:
            failure = last.message
        return JournalHealth(
            status="failing" if failure else "ok",
            failure=failure,
            under_way_s=None if under_way_s is None else round(under_way_s, 1),
            last_failure=None if last is None else last.message,
            last_failure_at=None if last is None else rfc3339(last.at_ms),
        )

    def _of_disk(self) -> DiskHealth:
        disk = self._disk
        takes_product, takes_audit = disk.takes(Lane.PRODUCT), disk.takes(Lane.AUDIT)
        failure = self.describe_hang() or next(iter(list(self._failures.values())), None)
        word: Word = "ok"
        if failure is not None or not (takes_product or takes_audit):
            word = "failing"
        elif not (takes_product and takes_audit):
            word = "degraded"
        return DiskHealth(
            status=word,
            failure=failure,
            free_percent=round(disk.free_percent, 2),
            product_min_free_percent=disk.floors[Lane.PRODUCT],
            audit_min_free_percent=disk.floors[Lane.AUDIT],
            takes_product=takes_product,
            takes_audit=takes_audit,
        )

    def _of_ledger(self) -> LedgerHealth:
        """Events are stored whatever the ledger does; it is red all the same when nothing is
        signed."""
        age_ms = self._unsealed_ms
        failure, alarms = self._ledger.failure, self._ledger.alarms()
        word: Word = "ok"
        if failure is not None or alarms or (age_ms or 0) > FAILING_LAG_MS:
            word = "failing"
        elif (age_ms or 0) > DEGRADED_LAG_MS:
            word = "degraded"
        return LedgerHealth(word, failure, None if age_ms is None else age_ms / 1000, alarms)

    def _of_accounting(self) -> AccountingHealth:
        age_ms, failure = self._uncounted_ms, self._accounting.accounts.failure
        is_behind = failure is not None or (age_ms or 0) > DEGRADED_LAG_MS
        age_s = None if age_ms is None else age_ms / 1000
        return AccountingHealth("degraded" if is_behind else "ok", failure, age_s)

    def _of_clock(self) -> ClockHealth:
        ahead_ms = max(0, self._journal.newest_tx_ms - self._clock())
        doubt, jump = self._steadiness.in_doubt(), self._steadiness.last_jump
        failure = None if jump is None else doubt
        if ahead_ms > AHEAD_MS:
            failure = f"transaction ids are {ahead_ms / 1000:,.0f} s ahead of the clock"
        return ClockHealth(
            status="degraded" if failure else "ok",
            failure=failure,
            doubt=doubt,
            ids_ahead_s=ahead_ms / 1000,
            last_jump_s=None if jump is None else jump.by_ms / 1000,
            last_jump_at=None if jump is None else rfc3339(jump.at_ms),
        )


def _describe(error: Exception) -> str:
    """Name the error, with its message only if it comes from the system and not from an event."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, (OSError, SqliteError)) else name


def _resolve(seen: "asyncio.Future[None]") -> None:
    if not seen.done():
        seen.set_result(None)
