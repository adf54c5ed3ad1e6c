"""How full the disk is, which lane that stops, and space reserved for a start on a full disk."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from indelible.errors import DiskLow
from indelible.event import Lane
from indelible.folder import private
from indelible.layout import RESERVE_FILE

RESERVE_BYTES: Final = 1 << 20

_PLENTY: Final = 8  # create the reserve only if this many times its size is free


class DiskState:
    """How full the disk is, as far as this process was told, and which lane that stops."""

    def __init__(self, *, product_percent: float, audit_percent: float) -> None:
        self.floors = {Lane.PRODUCT: product_percent, Lane.AUDIT: audit_percent}
        self.free_percent = 100.0
        """The share of the disk that was free, in percent."""
        self.is_full = False
        """Whether the writing process has no byte left."""

    def takes(self, lane: Lane) -> bool:
        """Whether events of this lane are stored now."""
        return self.free_percent >= self.floors[lane] and not self.is_full

    def check(self, lane: Lane) -> None:
        """
        Raises:
            DiskLow: too little is free for this lane.
        """
        if not self.takes(lane):
            raise DiskLow(free_percent=self.free_percent, floor_percent=self.floors[lane])


class DiskGuard(DiskState):
    """Refuses a lane while less of the disk under `folder` is free than its floor.

    The free share is that of an unprivileged user. Only `refresh` touches the disk, which may hang;
    all other methods are safe on the event loop.
    """

    def __init__(self, folder: Path, *, product_percent: float, audit_percent: float) -> None:
        super().__init__(product_percent=product_percent, audit_percent=audit_percent)
        self._folder = folder
        self.refresh()

    def refresh(self) -> None:
        """Read the figures from the disk.

        Raises:
            OSError: the folder is gone or cannot be read.
        """
        disk = os.statvfs(self._folder)
        self.free_percent = 100.0 * disk.f_bavail / max(disk.f_blocks, 1)
        self.is_full = not (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)


class Reserve:
    """A file that holds some disk space back, so that the server can start on a full disk.

    SQLite cannot even read a WAL database without some tens of kilobytes for its index. A start on
    a full disk deletes this file to make room. The server creates it again when space returns.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / RESERVE_FILE

    def release_if_full(self) -> None:
        """Delete the file if almost nothing else is free."""
        if _free_bytes(self._file.parent) < RESERVE_BYTES:
            self._file.unlink(missing_ok=True)

    def restore(self) -> None:
        """Create the file, unless it exists or space is short. A partial file will do."""
        if self._file.exists() or _free_bytes(self._file.parent) < _PLENTY * RESERVE_BYTES:
            return
        with suppress(OSError), private(self._file).open("r+b") as file:
            file.write(bytes(RESERVE_BYTES))


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
