"""What an answer means for a batch, and when to try again. Pure.

Retried: 408, 5xx, transport faults, a success that cannot be read, and a 429 that says when, unless
the month's quota is used up. Everything else is final (ImmutableLog's guides and client; vTilt
names no error at all).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_LONGEST_ASKED_S: Final = 3_600.0
_QUOTA: Final = "monthly_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Taken:
    """The server read the batch; each event has a result of its own."""


@dataclass(frozen=True, slots=True)
class Again:
    """It might take the same batch later: in `after_s` if it said so."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Halve:
    """The batch is too large for it: send the halves."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It will never take this batch."""

    reason: str


Meaning = Taken | Again | Halve | Refused


def meaning_of(
    status: int, headers: Mapping[str, str], reason: str | None, *, now: datetime
) -> Meaning:
    """What a status means; `headers` have lower-case names, `reason` is the body's own code."""
    if 200 <= status < 300:
        return Taken()
    if status == 413:
        return Halve()
    said = reason or f"http_{status}"
    after_s = retry_after_s(headers.get("retry-after"), now=now)
    if status == 408 or status >= 500:
        return Again(said, after_s)
    if status == 429 and reason != _QUOTA and after_s is not None:
        return Again(said, after_s)
    return Refused(said)


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3) as seconds from now, at most an hour.

    >>> now = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    >>> retry_after_s("7", now=now), retry_after_s("Sat, 21 Nov 2026 08:00:30 GMT", now=now)
    (7.0, 30.0)
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_ASKED_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), _LONGEST_ASKED_S)


@dataclass(slots=True)
class Pace:
    """When the next try may be made: back-off with full jitter, and a breaker.

    Full jitter (a wait between 0 and the whole back-off) keeps clients that failed together from
    coming back together. After `breaker_failures` failures in a row the server is taken to be down
    and asked once each `breaker_probe_s`.
    """

    base_s: float
    cap_s: float
    breaker_failures: int
    breaker_probe_s: float
    failures: int = 0
    not_before: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: the server is taken to be down."""
        return self.failures >= self.breaker_failures

    def failed(self, now: float, after_s: float | None = None) -> None:
        """Note a failure at the monotonic time `now`; the server may have asked for a wait."""
        self.failures += 1
        if self.is_open:
            wait_s = self.breaker_probe_s
        else:
            most = min(self.cap_s, self.base_s * 2 ** (self.failures - 1))
            wait_s = random.uniform(0, most)  # noqa: S311 — spreads load, guards nothing
        self.not_before = now + max(wait_s, after_s or 0.0)

    def succeeded(self) -> None:
        self.failures = 0
        self.not_before = 0.0
