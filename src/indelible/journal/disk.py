"""How full the disk is, and which lane that stops."""

import os
from pathlib import Path
from typing import Final

from indelible.clock import monotonic_s
from indelible.errors import DiskLow
from indelible.event import Lane

_FRESH_S: Final = 1.0


class DiskGuard:
    """Refuses a lane while less of the disk under `folder` is free than its floor.

    The free share is that of an unprivileged user, read at most once a second.
    """

    def __init__(self, folder: Path, *, product_percent: float, audit_percent: float) -> None:
        self._folder = folder
        self.floors = {Lane.PRODUCT: product_percent, Lane.AUDIT: audit_percent}
        self._free_percent = 100.0
        self._read_at = float("-inf")

    def free_percent(self) -> float:
        """The share of the disk that is free, in percent."""
        now = monotonic_s()
        if now - self._read_at >= _FRESH_S:
            disk = os.statvfs(self._folder)
            self._free_percent = 100.0 * disk.f_bavail / max(disk.f_blocks, 1)
            self._read_at = now
        return self._free_percent

    def takes(self, lane: Lane) -> bool:
        """Whether events of this lane are stored now."""
        return self.free_percent() >= self.floors[lane]

    def check(self, lane: Lane) -> None:
        """
        Raises:
            DiskLow: too little is free for this lane.
        """
        if not self.takes(lane):
            raise DiskLow(free_percent=self.free_percent(), floor_percent=self.floors[lane])
