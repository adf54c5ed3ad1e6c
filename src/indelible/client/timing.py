"""Where the client reads time; handed in, so that a test need not wait."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final


@dataclass(frozen=True, slots=True)
class Time:
    """Two clocks: the wall's, which may step, and one for durations, which never does."""

    wall_ns: Callable[[], int]
    monotonic: Callable[[], float]

    def wall_ms(self) -> int:
        return self.wall_ns() // 1_000_000

    def now(self) -> datetime:
        """The wall's time, in UTC."""
        return datetime.fromtimestamp(self.wall_ns() / 1e9, UTC)


REAL_TIME: Final = Time(wall_ns=time.time_ns, monotonic=time.monotonic)
