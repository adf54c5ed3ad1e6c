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


def parse_time_ms(value: object) -> int | None:
    """Read a client's idea of a moment: RFC 3339 text, or a number of seconds or milliseconds.

    A date without a zone is taken as UTC. Numbers from 10**11 up are milliseconds, smaller ones
    seconds (10**11 s is the year 5138). Returns None when `value` is no moment at all.

    >>> parse_time_ms("2026-01-01T00:00:00Z"), parse_time_ms(1767225600), parse_time_ms("soon")
    (1767225600000, 1767225600000, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if not 0 <= value < 1e14:  # beyond the year 5138 in ms: not a moment; NaN fails here too
            return None
        return int(value) if value >= 1e11 else int(value * 1000)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
