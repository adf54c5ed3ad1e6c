"""A SQLite file layer over the real one whose faults a story can switch on."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class Disk(apsw.VFS):
    """The operating system's file layer, with faults.

    Attributes:
        name: what `inside(vfs=…)` is given.
        is_full: writes fail as on a full disk.
        sync_fails: syncs fail; what was written before stays in the file.
        synced_by: syncs that were begun, by the name of the thread.
    """

    def __init__(self) -> None:
        self.name = f"disk-{uuid.uuid4().hex}"
        self.is_full = False
        self.sync_fails = False
        self._gate = threading.Event()
        self._gate.set()
        self._answers = threading.Event()
        self._answers.set()
        self.synced_by: Counter[str] = Counter()
        super().__init__(self.name, base="")

    @contextmanager
    def holding_syncs(self) -> Iterator[None]:
        """No sync ends for the time of a `with`."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Nothing that is asked of it is answered for the time of a `with`."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    def answers(self) -> None:
        """Called by its files before anything they do: waits while it hangs."""
        self._answers.wait(60)

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        self.answers()
        return _File(self, name, flags)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        self.answers()
        return super().xAccess(pathname, flags)

    @property
    def groups_synced(self) -> int:
        """Syncs that were begun for a group of events."""
        return self.synced_by["journal-writer"]

    def sync_begins(self, *, of_wal: bool) -> None:
        """Called by its files: waits while syncs are held, fails when they fail.

        Raises:
            apsw.IOError: syncs fail.
        """
        self.synced_by[threading.current_thread().name] += of_wal
        self._gate.wait(60)
        if self.sync_fails:
            raise apsw.IOError("the sync failed")


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: "str | apsw.URIFilename | None", flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._is_wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.answers()
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.answers()
        return super().xFileSize()

    def xLock(self, level: int) -> None:  # noqa: N802
        self._disk.answers()
        super().xLock(level)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.answers()
        if self._disk.is_full:
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.answers()
        self._disk.sync_begins(of_wal=self._is_wal)
        super().xSync(flags)


@contextmanager
def a_disk() -> Iterator[Disk]:
    """A file layer for one story."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.unregister()
