"""What may be shown of a value: its shape, never the value. Pure.

A property may hold anything that somebody typed: a name, an address, a card. So no text is kept,
however short and however often it comes, for a first name that a thousand events have looks like a
code of an enumeration. What is kept says what *sort* of text it is:

>>> shape_of_text("jane@example.com"), shape_of_text("2026-11-30T10:00:00Z")
('a***@*** (16-31)', 'time (16-31)')
>>> shape_of_text("pro"), shape_of_text("ORD-2026-00441")
('x (2-3)', 'X-9-9 (8-15)')

A run of lower-case letters, and of letters without case, is one ``x``, of capitals ``X``, of digits
``9``; the length is a power of two and the next. Numbers are shown as the power of ten that they
are in.

The name of a property may be a value as well, where a program uses ids or addresses as keys:
`name_of` shows those by their shape, so that all of them are one property.

>>> name_of("plan"), name_of("jane@example.com"), name_of("order 4411234")
('plan', '{a***@***}', '{x 9}')
"""

import re
from typing import Final

from indelible.moment import parse_time_ms

MAX_NAME_CHARS: Final = 200
"""A longer name is shown by its shape; that of a product event is never longer."""

_LOOKED_AT: Final = 64  # characters of a text; its shape says `…` for the rest
_MOST_RUNS: Final = 12
_SHOWN: Final = frozenset("-_./:+#,;()@=&?%$*!'\"|")
_UNKNOWN: Final = "?"
_RUN: Final = 4
"""Most characters in a row that a shape may share with its text, and one more."""

_RUNS: Final = re.compile(r"(.)\1+", re.DOTALL)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{0,20}://\S*", re.ASCII | re.IGNORECASE)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_VALUE_LIKE: Final = re.compile(
    r"@"  # an address
    r"|\d{5}|\A\d+\Z"  # an id, a date without dashes
    r"|\d[\d ()./-]{6,}"  # a telephone number, a date
    r"|[A-Z]{2}\d\d ?[A-Z0-9]{4}"  # an account
    r"|(?=(?:[A-Za-z]*\d){3})[A-Za-z0-9]{16}|[A-Za-z]{40}"  # a token
    r"|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}"  # a UUID
    r"|\A\{"  # what would look like a shape
)
_SHAPE_NAME: Final = re.compile(
    r"\{(?:a\*{3}@\*{3}|time|uuid|url|[xX9? \-_./:+#,;()@=&%$*!'\"|]{0,12}…?)\}"
)
"""What `name_of` makes: it says nothing, whoever wrote it."""


def shape_of_text(text: str) -> str:
    """Return what sort of text this is, and about how long.

    It begins with `time` if the text is a date, or a date and time, as RFC 3339 writes them.

    No four characters in a row of the result stand in `text`.
    """
    shape = f"{_pattern(text)} ({bucket(len(text))})"
    return shape if _shares_nothing(shape, text) else _UNKNOWN


def shape_of_number(number: float) -> str:
    """Return the powers of ten between which a number lies.

    >>> [shape_of_number(one) for one in (0, 7, -42, 99.5, 0.2, 10**30)]
    ['0', '1..10', '-100..-10', '10..100', '0..1', '10^15..']
    """
    size = abs(number)
    if size == 0:
        return "0"
    if size >= 10**15:
        return "10^15.." if number > 0 else "..-10^15"
    power = len(str(int(size))) - 1
    low, high = (0, 1) if size < 1 else (10**power, 10 ** (power + 1))
    return f"{low}..{high}" if number > 0 else f"-{high}..{-low}"


def bucket(length: int) -> str:
    """Return the powers of two between which a length lies.

    >>> [bucket(length) for length in (0, 1, 2, 7, 8, 1000)]
    ['0', '1', '2-3', '4-7', '8-15', '512-1023']
    """
    if length < 2:
        return str(length)
    low = 1 << (length.bit_length() - 1)
    return f"{low}-{2 * low - 1}"


def name_of(text: str) -> str:
    """Return a name as it may be kept: itself, or the shape of one that looks like a value.

    What it has returned stays as it is.
    """
    if len(text) <= MAX_NAME_CHARS and not _VALUE_LIKE.search(text):
        return text
    if _SHAPE_NAME.fullmatch(text):
        return text
    pattern = _pattern(text)
    return f"{{{pattern if _shares_nothing(pattern, text) else _UNKNOWN}}}"


def _pattern(text: str) -> str:
    if "@" in text and _EMAIL.fullmatch(text):
        return "a***@***"
    if "-" in text:
        if _TIME.fullmatch(text) and parse_time_ms(text) is not None:
            return "time"
        if _UUID.fullmatch(text):
            return "uuid"
    if ":" in text and _URL.fullmatch(text):
        return "url"
    begins = text[:_LOOKED_AT]
    sorts = begins.translate(_SORTS) if begins.isascii() else "".join(map(_sort_of, begins))
    runs = _RUNS.sub(r"\1", sorts)
    if len(runs) > _MOST_RUNS or len(text) > _LOOKED_AT:
        return f"{runs[:_MOST_RUNS]}…"
    return runs


def _sort_of(char: str) -> str:
    if char.isdigit():
        return "9"
    if char.isalpha():
        return "X" if char.isupper() else "x"
    if char.isspace():
        return " "
    return char if char in _SHOWN else _UNKNOWN


_SORTS: Final = {code: _sort_of(chr(code)) for code in range(128)}


def _shares_nothing(shape: str, text: str) -> bool:
    return not any(shape[at : at + _RUN] in text for at in range(len(shape) - _RUN + 1))
