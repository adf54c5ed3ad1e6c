"""What stores: the lock on the data folder, the journal, and what guards it. The writer's half."""

import logging
from contextlib import ExitStack
from typing import Final

from indelible.clock import JUMP_MS, Clock, Steadiness, rfc3339
from indelible.drops import Dropping
from indelible.durable import keep_folder
from indelible.edge.notice import Notices
from indelible.folder import hold, private
from indelible.journal.commit import Committer
from indelible.journal.database import Database
from indelible.journal.disk import DiskGuard, Reserve
from indelible.journal.keys_file import KEYS_FILE
from indelible.journal.part import clock_part, journal_part
from indelible.journal.reading import SqliteReading
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.layout import JOURNAL_FILE
from indelible.parts import Part
from indelible.query.health import Lookout, disk_part
from indelible.refusals import Refusals
from indelible.settings import Settings
from indelible.start import choices_of, refuse_leftovers, refuse_one_secret_for_two

logger = logging.getLogger(__name__)

_LONGEST_SILENCE_MS: Final = 24 * 60 * 60 * 1000


class Storing:
    """The journal of one data folder, and what stores into it.

    Raises on building:
        DataFolderInUse: another server has the folder.
        JournalNewer: a later version wrote the journal.
        LogExists: parts of an earlier log are there, and its journal is not.
        SettingInvalid: the witness policy cannot be read, or one secret was given for two keys.
    """

    def __init__(self, settings: Settings, *, vfs: str | None = None, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.refusals = Refusals()
        self.notices = Notices(clock)
        self.dropping = Dropping(clock)
        self.steadiness = Steadiness(clock)
        # A refused start must not change anything, so every check precedes the first write.
        choices_of(settings)
        refuse_one_secret_for_two(settings)
        keep_folder(settings.data_dir, mode=0o700)
        with ExitStack() as opened:  # what was opened is closed again should the rest fail
            opened.enter_context(hold(settings.data_dir))
            refuse_leftovers(settings.data_dir, base=settings.ledger_origin)
            self.reserve = Reserve(settings.data_dir)
            self.reserve.release_if_full()
            for name in (JOURNAL_FILE, KEYS_FILE):  # SQLite gives its -wal and -shm the same mode
                private(settings.data_dir / name)
            self.database = Database(settings.data_dir / JOURNAL_FILE, vfs=vfs)
            opened.callback(self.database.close)
            self.journal = SqliteJournal(self.database, clock=clock)
            opened.callback(self.journal.close)
            self.store = RegistryTables(self.journal)
            compare_clock(self.steadiness, self.journal, clock)
            ahead_ms = self.journal.newest_tx_ms - clock()
            if ahead_ms > JUMP_MS:
                logger.warning("transaction ids are %.0f s ahead of the clock", ahead_ms / 1000)
            self.committer = Committer(
                self.journal, max_waiting_bytes=settings.max_waiting_bytes, clock=clock
            )
            self.disk = DiskGuard(
                settings.data_dir,
                product_percent=settings.product_min_free_percent,
                audit_percent=settings.audit_min_free_percent,
            )
            self.committer.pulse.on_beat(self.steadiness.look)
            self._opened = opened.pop_all()

    def journal_part(self) -> Part:
        """The journal, with the thread that writes it."""
        return journal_part(self.journal, self.committer)

    def disk_part(self, lookout: Lookout) -> Part:
        """The disk under the folder, as `lookout` finds it."""
        return disk_part(self.disk, self.reserve, lookout)

    def clock_part(self) -> Part:
        """The clock that ids and times of receipt come from."""
        return clock_part(self.journal, self.clock, self.steadiness)

    def close(self) -> None:
        """Close the journal, and let go of the folder."""
        self._opened.close()


def compare_clock(steadiness: Steadiness, journal: SqliteReading, clock: Clock) -> None:
    """Distrust the clock if it is far from the newest event: it may be wrong since boot."""
    received_ms = [entry.leaf.received_at_ms for entry in journal.newest()]
    now, newest_ms = clock(), max(received_ms, default=None)
    if newest_ms is not None and not -JUMP_MS < now - newest_ms < _LONGEST_SILENCE_MS:
        steadiness.doubt(
            f"the clock says {rfc3339(now)}, and the newest event is of {rfc3339(newest_ms)}"
        )
