"""Read the moments that clients send, in the forms in which they send them.

    RFC 3339, RFC 9557     2025-09-17T10:15:30.5Z, 2025-09-17 12:15:30+02:00[Europe/Paris]
    ISO 8601               20250917T101530Z, 2025-W38-3, 2025-09-16T24:00, 2025-09-17T12:15:30,5+02
    Ruby and Go            2025-09-17 10:15:30 UTC, 2025-09-17 12:15:30.5 +0200 CEST m=+0.01
    HTTP (RFC 9110)        Wed, 17 Sep 2025 10:15:30 GMT, Wednesday, 17-Sep-25 10:15:30 GMT
    e-mail (RFC 5322)      17 Sep 2025 12:15 +0200
    C, Unix, JavaScript    Wed Sep 17 10:15:30 2025, Wed Sep 17 10:15:30 UTC 2025,
                           Wed Sep 17 2025 12:15:30 GMT+0200 (Central European Summer Time)
    since 1970             1758104130, 1758104130.5, or milli-, micro- or nanoseconds; also as text

Text without a zone is in UTC. The only zone names read are UTC's own: CST is Chicago's time or
Shanghai's, and a moment that is wrong by 14 hours is worse than none.

The size of a number tells its unit: each unit covers the years 1973 to 5138, and seconds cover the
years around 1970 too. Text of 8 or 14 digits is a date if it can be one.

A second 60 is the second after 59: UTC has leap seconds, and some clocks round up. Anything finer
than a millisecond is cut off.

Pure, and the same in every locale. The cost is linear in the text, and text over `MAX_CHARS` is
not looked at.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Final

MAX_CHARS: Final = 128
"""A longer text is no moment; the longest that JavaScript writes has some 80."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_MS: Final = timedelta(milliseconds=1)
_FIRST_MS: Final = (date.min.toordinal() - _EPOCH_DAY) * 86_400_000
_LAST_MS: Final = (date.max.toordinal() + 1 - _EPOCH_DAY) * 86_400_000 - 1

_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_UNITS: Final = ((11, 3), (14, 0), (17, -3), (20, -6))
"""A number below the first power of ten, times the second one, is in milliseconds."""
_EXACT: Final = Context(prec=2 * MAX_CHARS, rounding=ROUND_FLOOR)

_FLAGS: Final = re.ASCII | re.IGNORECASE
_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d{1,3})?", _FLAGS)
_DIGITS: Final = re.compile(r"(\d{8})(\d{6})?", re.ASCII)
_USUAL: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:[0-5]\d)", re.ASCII
)
"""What nearly every client sends, and Python reads in a quarter of the time of the rest."""
_CLOCK: Final = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
)
_ZONE: Final = r"(?P<zone>Z|(?:UTC|GMT)?[+-]\d\d(?::?\d\d(?::?\d\d)?)?|UTC|GMT|UT)"
_WEEKDAY: Final = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6},?\s+)?"
_MONTH: Final = r"(?P<month>[a-z]{3,9})"

_ISO: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(?>(?:-?\d)?))"
    r"(?:(?:T|_|\s+)"
    r"(?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)"
    r"(?:(?P=colon)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?)?"
    rf"(?:\s*{_ZONE}(?:"
    r"(?:\[[!-Z^-~]+\])+"  # RFC 9557: the zone's name, and the calendar; the offset decides
    r"|(?<=\d)\s(?:[A-Z]{3,5}|[+-]\d\d(?:\d\d)?)(?:\sm=[+-][\d.]+)?"  # Go: the zone again, uptime
    r")?)?",
    _FLAGS,
)
_NAMED: Final = (
    re.compile(
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})[\s-]+{_MONTH}[\s-]+(?P<year>\d{{4}}|\d\d)"
        rf"\s+{_CLOCK}(?:\s*{_ZONE})?(?:\s*\([^()]*\))?",
        _FLAGS,
    ),
    re.compile(
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})\s+(?P<year>\d{{4}})"
        rf"\s+{_CLOCK}(?:\s*{_ZONE})?(?:\s*\([^()]*\))?",
        _FLAGS,
    ),
    re.compile(
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_CLOCK}(?:\s+{_ZONE})?\s+(?P<year>\d{{4}})",
        _FLAGS,
    ),
)


def parse_time_ms(value: object) -> int | None:
    """Return the moment in milliseconds since 1970, negative before it, or None if unreadable.

    Readable moments lie in the years 1 to 9999. A boolean, a list or an object is none.

    >>> parse_time_ms("2026-01-01T00:00:00Z"), parse_time_ms(1767225600), parse_time_ms("soon")
    (1767225600000, 1767225600000, None)
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    return None


def _of_text(text: str) -> int | None:
    if len(text) > MAX_CHARS:
        return None
    if _USUAL.fullmatch(text):
        try:
            return _bounded((datetime.fromisoformat(text) - _EPOCH) // _MS)
        except ValueError:
            pass
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _of_digits(text)
    if (found := _ISO.fullmatch(text)) is not None:
        return _of_iso(found)
    for form in _NAMED:
        if (found := form.fullmatch(text)) is not None:
            return _of_named(found)
    return None


def _of_number(value: float) -> int | None:
    if isinstance(value, float):
        # Its shortest decimal form is what the client wrote: 1758104130.123 times 1,000 is less.
        text = repr(value)
        return _scaled(Decimal(text)) if _NUMBER.fullmatch(text) else None
    return _scaled(Decimal(value)) if abs(value) < 10**20 else None


def _of_digits(text: str) -> int | None:
    if (digits := _DIGITS.fullmatch(text)) is not None:
        day, clock = digits.groups()
        found = _ISO.fullmatch(f"{day}T{clock}" if clock else day)
        assert found is not None
        if (at_ms := _of_iso(found)) is not None:
            return at_ms
    return _scaled(Decimal(text.replace(",", ".")))


def _scaled(number: Decimal) -> int | None:
    size = number.copy_abs()
    for power, shift in _UNITS:
        if size < 10**power:
            at_ms = number.scaleb(shift, _EXACT).to_integral_value(ROUND_FLOOR, _EXACT)
            return _bounded(int(at_ms))
    return None


def _of_iso(found: re.Match[str]) -> int | None:
    try:
        day = date.fromisoformat(found["date"].upper())
    except ValueError:
        return None
    return _at(day, found)


def _of_named(found: re.Match[str]) -> int | None:
    month = found["month"].lower()
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 2000 if year < 50 else 1900  # RFC 5322 section 4.3
    for number, name in enumerate(_MONTHS, start=1):
        if name.startswith(month):
            try:
                return _at(date(year, number, int(found["day"])), found)
            except ValueError:
                return None
    return None


def _at(day: date, clock: re.Match[str]) -> int | None:
    """The moment of that day at which `clock` has its hour, minute, second, fraction and zone."""
    hour, minute, second = (int(clock[name] or 0) for name in ("hour", "minute", "second"))
    offset_s = _offset_s(clock["zone"])
    fraction_ms = int((clock["fraction"] or "")[:3].ljust(3, "0"))
    is_end_of_day = hour == 24 and not (minute or second or fraction_ms)
    if (hour > 23 and not is_end_of_day) or minute > 59 or second > 60 or offset_s is None:
        return None
    minutes = (day.toordinal() - _EPOCH_DAY) * 1440 + hour * 60 + minute
    return _bounded((minutes * 60 + second - offset_s) * 1000 + fraction_ms)


def _offset_s(zone: str | None) -> int | None:
    """Seconds to the east of UTC; local times of before 1900 have some. None if out of range."""
    if zone is None or zone.isalpha():
        return 0
    digits = "".join(letter for letter in zone if letter.isdigit())
    hours, minutes, seconds = (int(digits[at : at + 2] or 0) for at in (0, 2, 4))
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return (-1 if "-" in zone else 1) * (hours * 3600 + minutes * 60 + seconds)


def _bounded(at_ms: int) -> int | None:
    return at_ms if _FIRST_MS <= at_ms <= _LAST_MS else None
