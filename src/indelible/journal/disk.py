"""How full the disk is, and which lane that stops."""

import os
from pathlib import Path

from indelible.errors import DiskLow
from indelible.event import Lane


class DiskGuard:
    """Refuses a lane while less of the disk under `folder` is free than its floor.

    The free share is that of an unprivileged user, as it was at the last `refresh`: a disk may
    hang, and the event loop asks.
    """

    def __init__(self, folder: Path, *, product_percent: float, audit_percent: float) -> None:
        self._folder = folder
        self.floors = {Lane.PRODUCT: product_percent, Lane.AUDIT: audit_percent}
        self.free_percent = 100.0
        """The share of the disk that was free, in percent."""
        self.refresh()

    def refresh(self) -> None:
        """Read it again.

        Raises:
            OSError: the folder is gone, or cannot be looked at.
        """
        disk = os.statvfs(self._folder)
        self.free_percent = 100.0 * disk.f_bavail / max(disk.f_blocks, 1)

    def takes(self, lane: Lane) -> bool:
        """Whether events of this lane are stored now."""
        return self.free_percent >= self.floors[lane]

    def check(self, lane: Lane) -> None:
        """
        Raises:
            DiskLow: too little is free for this lane.
        """
        if not self.takes(lane):
            raise DiskLow(free_percent=self.free_percent, floor_percent=self.floors[lane])
