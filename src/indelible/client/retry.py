"""What an answer means for a batch, and when to try again. Pure.

Only the server's own error body is final: a JSON object with ``"ok": false`` and a code that
`indelible.errors` lists. Anything else comes from something in front of the server (a proxy, a
firewall, a login page, another service that has taken the address for a while), which cannot know
what becomes of an event: it is tried again.

Of the server's own errors these are retried: 408, 5xx, `rate_limited`, and a 429 that says when,
unless the month's quota is used up (ImmutableLog's guides and client; vTilt names no error at all).
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from indelible.errors import RateLimited, catalogue
from indelible.event import DropReason

LONGEST_ASKED_S: Final = 3_600.0
"""The longest that the server can make a client wait."""

LONGEST_ASKED_IN_FRONT_S: Final = 300.0
"""The same for something in front of it, long before an event in memory is too old to be sent."""

CODES: Final = frozenset(
    {error.code for error in catalogue() if error.on_the_wire}
    | {reason.value for reason in DropReason}  # where every event of a request was dropped
)
"""The codes of the server's own errors."""

_QUOTA: Final = "monthly_limit_exceeded"
WITHOUT_ANSWER: Final = frozenset({204, 205, 206})  # empty by definition, or a part
_TIME: Final = re.compile(r"\+?(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|secs?|seconds?|m|min|minutes?)?", re.A)
_UNITS: Final = {None: 1.0, "s": 1.0, "ms": 0.001, "m": 60.0}
_RESETS: Final = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_RATE_LIMIT: Final = re.compile(r";\s*t=(\d+)", re.A)
_AN_EPOCH_S: Final = 1e8  # 1973: a number above is a time, one below a number of seconds
_AN_EPOCH_MS: Final = 1e11


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
    """The batch is too large: send the halves. Only if `is_final` is one event alone refused."""

    is_final: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """It will never take this batch."""

    reason: str


Meaning = Taken | Again | Halve | Refused


def own_code(body: Any) -> str | None:
    """The code of the server's own error body; None for anything that is none.

    ImmutableLog's body has `reason` alone; where `code` and `error` are there, all three agree.

    >>> own_code({"ok": False, "reason": "invalid_api_key"})
    'invalid_api_key'
    >>> own_code({"ok": False, "error": "forbidden"}), own_code({"message": "Forbidden"})
    (None, None)
    """
    if not isinstance(body, dict) or body.get("ok") is not False:
        return None
    code = body.get("reason")
    if not isinstance(code, str) or code not in CODES:
        return None
    return code if body.get("code", code) == code == body.get("error", code) else None


def meaning_of(
    status: int, headers: Mapping[str, str], reason: str | None, *, now: datetime
) -> Meaning:
    """What a status means.

    `headers` have lower-case names; `reason` is the server's own code, None if something in front
    answered.
    """
    if 200 <= status < 300 and status not in WITHOUT_ANSWER:
        return Taken()
    if status == 413:
        return Halve(is_final=reason is not None)
    after_s = asked_wait_s(status, headers, now=now)
    if reason is None or status < 400:
        if after_s is not None:
            after_s = min(after_s, LONGEST_ASKED_IN_FRONT_S)
        return Again(f"http_{status}", after_s)
    if status == 408 or status >= 500:
        return Again(reason, after_s)
    if status == 429 and (reason == RateLimited.code or (reason != _QUOTA and after_s is not None)):
        return Again(reason, after_s)
    return Refused(reason)


def may_settle_each(status: int, meaning: Meaning) -> bool:
    """Whether the results of single events in such an answer count, if it has one for each."""
    if isinstance(meaning, Taken | Refused):
        return True
    return 400 <= status < 500 and status not in (408, 413, 429)


def asked_wait_s(status: int, headers: Mapping[str, str], *, now: datetime) -> float | None:
    """How long an answer asks to be left alone; None if it does not say.

    Retry-After counts with any status. When a limit on the rate begins anew is said with many
    answers, and asks for a pause only with 429 and 503.
    """
    after_s = retry_after_s(headers.get("retry-after"), now=now)
    if after_s is not None or status not in (429, 503):
        return after_s
    for name in _RESETS:
        reset_s = _until_s(headers.get(name), now=now)
        if reset_s is not None:
            return reset_s
    waits = [float(found) for found in _RATE_LIMIT.findall(headers.get("ratelimit", ""))]
    return min(max(waits), LONGEST_ASKED_S) if waits else None


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3) as seconds from now, from 0 to an hour.

    Proxies also write fractions and units; what cannot be read, or is below zero, says nothing.

    >>> now = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    >>> retry_after_s("7", now=now), retry_after_s("Sat, 21 Nov 2026 08:00:30 GMT", now=now)
    (7.0, 30.0)
    >>> retry_after_s("0.5", now=now), retry_after_s("1s", now=now), retry_after_s("-1", now=now)
    (0.5, 1.0, None)
    """
    if value is None:
        return None
    text = value.strip().lower()
    found = _TIME.fullmatch(text)
    if found is not None:
        unit = found[2]
        factor = _UNITS[unit if unit in ("ms", None) else unit[0]]
        return min(float(found[1]) * factor, LONGEST_ASKED_S)
    try:
        moment = parsedate_to_datetime(value.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max((moment - now).total_seconds(), 0.0), LONGEST_ASKED_S)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _until_s(value: str | None, *, now: datetime) -> float | None:
    """A header that says when a limit begins anew: as seconds from now, an epoch, or a date."""
    found = _TIME.fullmatch((value or "").strip().lower())
    if found is None or found[2] is not None:
        return retry_after_s(value, now=now)
    number = float(found[1])
    if number >= _AN_EPOCH_S:
        number = number / (1_000 if number >= _AN_EPOCH_MS else 1) - now.timestamp()
    return min(max(number, 0.0), LONGEST_ASKED_S)


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
