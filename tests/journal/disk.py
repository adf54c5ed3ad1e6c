"""A SQLite file layer over the real one that can run full, fail to sync, and lose power.

Faults enter here, below SQLite, so that everything above is the code that ships.
"""

import itertools
import random
import threading
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import apsw

_NUMBERS = itertools.count()


class _Change(NamedTuple):
    """A write that was not synced yet, or with `new` None a truncation, and what it replaced."""

    offset: int
    old: bytes
    old_size: int
    new: bytes | None

    def undo(self, content: bytearray) -> None:
        content[self.offset : self.offset + len(self.old)] = self.old
        del content[self.old_size :]

    def redo(self, content: bytearray) -> None:
        if self.new is None:
            del content[self.offset :]
        else:
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.new)] = self.new


class FaultyDisk(apsw.VFS):
    """Use its `name` as the `vfs` of a `Database`.

    Attributes:
        writes_left: how many more writes succeed before the disk is full; None is no end.
        sync_fails: every sync fails.
        broken: every write and sync of a file whose name begins so fails.
    """

    def __init__(self) -> None:
        self.name = f"faulty-{next(_NUMBERS)}"
        self.writes_left: int | None = None
        self.sync_fails = False
        self.broken: str | None = None
        self.lock = threading.RLock()  # a power cut falls between two writes, not into one
        self.unsynced: defaultdict[str, list[_Change]] = defaultdict(list)
        self._chance = random.Random()
        super().__init__(self.name, base="")

    def xOpen(  # noqa: N802 — SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> "_File":
        return _File(self, name, flags)

    def cut_power(self, source: Path, target: Path) -> None:
        """Copy the databases in a folder as a power cut would leave them.

        What was synced is there; of what was not, any half: a disk writes in the order it likes.
        """
        target.mkdir()
        with self.lock:
            for file in source.iterdir():
                if file.suffix not in (".db", ".db-wal"):
                    continue
                content, changes = bytearray(file.read_bytes()), self.unsynced[str(file)]
                for change in reversed(changes):
                    change.undo(content)
                for change in changes:
                    if self._chance.random() < 0.5:
                        change.redo(content)
                (target / file.name).write_bytes(content)


class _File(apsw.VFSFile):
    def __init__(
        self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._name = Path(path).name
        self._unsynced = disk.unsynced[path]
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._refuse_if_broken()
        left = self._disk.writes_left
        if left is not None:
            if left == 0:
                raise apsw.FullError("no space left (injected)")
            self._disk.writes_left = left - 1
        with self._disk.lock:
            self._remember(offset, len(data), new=data)
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._disk.lock:
            self._remember(newsize, super().xFileSize() - newsize, new=None)
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._refuse_if_broken()
        if self._disk.sync_fails:
            raise apsw.IOError("sync failed (injected)")
        with self._disk.lock:
            super().xSync(flags)
            self._unsynced.clear()

    def _refuse_if_broken(self) -> None:
        broken = self._disk.broken
        if broken is not None and self._name.startswith(broken):
            raise apsw.IOError("broken (injected)")

    def _remember(self, offset: int, length: int, *, new: bytes | None) -> None:
        size = super().xFileSize()
        there = max(0, min(length, size - offset))
        old = super().xRead(there, offset) if there else b""
        self._unsynced.append(_Change(offset, old, size, None if new is None else bytes(new)))
