"""The only place that reads time. Everything else is handed a moment or this function."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns milliseconds since the Unix epoch."""


def now_ms() -> int:
    """Wall-clock time, in milliseconds since the Unix epoch. It may step back."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds since some moment, never stepping back: for durations only."""
    return time.monotonic()


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
