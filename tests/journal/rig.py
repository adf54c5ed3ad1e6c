"""The SQLite journal on the contract's test bench."""

import itertools
import uuid
from collections.abc import Callable
from pathlib import Path

from indelible.journal.contract import JournalReader
from indelible.journal.database import Database
from indelible.journal.reader import open_reader
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry
from tests.journal.contract import NEW_YEAR_MS, ManualClock
from tests.journal.disk import FaultyDisk


class SqliteRig:
    """`tests.journal.contract.Rig` for `SqliteJournal`, or a subclass that breaks a promise."""

    def __init__(
        self, folder: Path, *, kind: type[SqliteJournal] = SqliteJournal, **database: float
    ) -> None:
        self.clock = ManualClock(NEW_YEAR_MS)
        self.disk = FaultyDisk()
        self.folder = folder
        self._kind = kind
        self._database = database
        self._names = itertools.count()
        self._open()

    @property
    def reader(self) -> JournalReader:
        return self.journal

    def new_project(self) -> int:
        registry = Registry(RegistryTables(self.journal), clock=self.clock)
        return registry.projects.create(f"p{next(self._names)}").id

    def reopen(self) -> None:
        self.journal.close()
        self._open()

    def lose_power(self) -> None:
        after = self.folder.with_name(f"after-{uuid.uuid4()}")
        self.disk.cut_power(self.folder, after)
        self.journal.close()
        self.folder = after
        self._open()

    def files(self) -> bytes:
        return b"".join(file.read_bytes() for file in sorted(self.folder.iterdir()))

    def close(self) -> None:
        self.disk.writes_left = None
        self.disk.sync_fails = False
        self.journal.close()
        self.disk.unregister()

    def _open(self) -> None:
        self.database = Database(self.folder / "journal.db", vfs=self.disk.name, **self._database)
        self.journal = self._kind(self.database, clock=self.clock)


class BesideRig(SqliteRig):
    """The same, with a reader that stays open beside the writer, as in another process."""

    def __init__(self, folder: Path) -> None:
        self._beside: JournalReader | None = None
        super().__init__(folder)

    @property
    def reader(self) -> JournalReader:
        if self._beside is None:
            self._beside = open_reader(self.folder / "journal.db")
        return self._beside

    def lose_power(self) -> None:
        self._close_reader()
        super().lose_power()

    def close(self) -> None:
        self._close_reader()
        super().close()

    def _close_reader(self) -> None:
        if self._beside is not None:
            self._beside.close()
            self._beside = None


MakeRigOf = Callable[[type[SqliteJournal]], SqliteRig]
