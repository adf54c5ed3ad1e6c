"""The only place that reads time. Everything else is handed a moment or this function."""

import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

JUMP_MS: Final = 30_000
"""A step of the wall clock against elapsed time counts as a jump from this size on."""
SETTLED_AFTER_S: Final = 3600.0
"""Trust a clock that jumped again once it has run this long without another jump."""

Clock = Callable[[], int]
"""Returns milliseconds since the Unix epoch."""


def now_ms() -> int:
    """Wall-clock time, in milliseconds since the Unix epoch. It may step back."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds since some moment, never stepping back: for durations only."""
    return time.monotonic()


def passed_s() -> float:
    """Seconds since some moment, never stepping back; on Linux including time spent suspended."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Jump(NamedTuple):
    """A step of the wall clock: its size (positive is forwards), and the time it then showed."""

    by_ms: int
    at_ms: int


class Steadiness:
    """Decides whether to trust the wall clock with something irreversible, such as erasure.

    A clock may be wrong for a minute, for example after a boot without a time server. So each jump
    puts it in doubt until it has run for `SETTLED_AFTER_S` without another.

    Args:
        clock: the wall clock.
        passed: elapsed seconds to compare it with; must never step.
    """

    def __init__(self, clock: Clock, *, passed: Callable[[], float] = passed_s) -> None:
        self._clock = clock
        self._passed = passed
        self._offset_ms = self._offset()
        self._settled_at_s = float("-inf")
        self._why = ""
        self.last_jump: Jump | None = None

    def look(self) -> None:
        """Compare the clocks. Call this at least once a second."""
        offset_ms = self._offset()
        by_ms, self._offset_ms = offset_ms - self._offset_ms, offset_ms
        if abs(by_ms) >= JUMP_MS:
            self.last_jump = Jump(by_ms, self._clock())
            self.doubt(f"the clock jumped by {by_ms / 1000:+,.0f} s")

    def doubt(self, why: str) -> None:
        """Distrust the clock from now on, for `SETTLED_AFTER_S`."""
        logger.warning("%s; nothing expires for %.0f minutes", why, SETTLED_AFTER_S / 60)
        self._why = why
        self._settled_at_s = self._passed() + SETTLED_AFTER_S

    def in_doubt(self) -> str | None:
        """Say why the clock is not trusted at the moment, or return None if it is."""
        self.look()
        left_s = self._settled_at_s - self._passed()
        if left_s <= 0:
            return None
        return f"{self._why}; it is trusted again in {left_s / 60:.0f} minutes"

    def _offset(self) -> int:
        return self._clock() - round(self._passed() * 1000)


def rfc3339(at_ms: int) -> str:
    """`at_ms` as RFC 3339 text in UTC with milliseconds.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000Z'
    """
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()
    return f"{moment[:19]}.{at_ms % 1000:03d}Z"


def month_of(at_ms: int) -> str:
    """The calendar month in UTC that `at_ms` falls in: the unit of every quota.

    >>> month_of(0)
    '1970-01'
    """
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m}"
