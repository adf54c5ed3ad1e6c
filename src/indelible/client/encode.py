"""Any Python value as JSON that every server takes. Pure, and never raises.

What JSON has is written as it is. The rest has one form each, so that no property costs the event:

    datetime, date, time          ISO 8601 text
    Decimal, UUID, Path           text
    Enum                          its value
    bytes                         text where it is UTF-8, else Base64
    tuple, deque, range, set      list; a set is sorted
    dataclass                     object of its fields
    NaN, infinities               null
    keys that are no text         text
    a lone surrogate              U+FFFD
    a container inside itself     "<cycle>"
    nested more than 24 deep      "<too deep>"
    anything else                 "<module.Class>", never its repr: that may hold anything

>>> encode({"when": date(2026, 1, 2), 3: {1.5}, "odd": object()})
(b'{"when":"2026-01-02","3":[1.5],"odd":"<builtins.object>"}', True)
"""

import base64
import json
import math
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

MAX_DEPTH: Final = 24
CYCLE: Final = "<cycle>"
TOO_DEEP: Final = "<too deep>"
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER: Final = b"0" * 19
_WRITE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: object) -> tuple[bytes, bool]:
    """`value` as compact UTF-8 JSON, and whether any part of it had to be given another form."""
    try:
        data = _dumps(value)
    except Exception:  # whatever a stranger's object does while it is being written
        return _dumps(plain(value)), True
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH or _has_long_number(data):
        # Perhaps nested too deep, perhaps a number that readers refuse: only rebuilding tells.
        rebuilt = _dumps(plain(value))
        return rebuilt, rebuilt != data
    return data, False


def _has_long_number(data: bytes) -> bool:
    """Whether 19 digits stand in a row: ten times faster to ask than a regular expression."""
    return _LONG_NUMBER in data.translate(_DIGITS_TO_0)


def _dumps(value: object) -> bytes:
    return _WRITE(value).encode()


def plain(value: object) -> Any:
    """`value` rebuilt of what JSON has, by the table above."""
    return _plain(value, 0, set())


def _plain(value: object, depth: int, above: set[int]) -> Any:
    try:
        return _rebuild(value, depth, above)
    except Exception:  # a property, __iter__ or __str__ of a stranger's object
        return _placeholder(value)


def _rebuild(value: object, depth: int, above: set[int]) -> Any:
    match value:
        case None | True | False:
            return value
        case Enum():
            return _plain(value.value, depth, above)
        case str():
            return clean(value)
        case int():
            # Beyond 64 bits readers disagree, or refuse the whole document.
            return int(value) if -(2**63) <= value < 2**64 else str(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID() | PurePath():
            return clean(str(value))
        case bytes() | bytearray() | memoryview():
            return _bytes(bytes(value))
    if id(value) in above:
        return CYCLE
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    above.add(id(value))
    try:
        return _container(value, depth + 1, above)
    finally:
        above.discard(id(value))


def _container(value: object, depth: int, above: set[int]) -> Any:
    if isinstance(value, Mapping):
        return {_key(name): _plain(one, depth, above) for name, one in dict(value).items()}
    if isinstance(value, list | tuple | deque | range):
        return [_plain(one, depth, above) for one in tuple(value)]
    if isinstance(value, Set):
        return [_plain(one, depth, above) for one in sorted(value, key=repr)]
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), depth, above) for field in fields(value)
        }
    return _placeholder(value)


def _key(name: object) -> str:
    if isinstance(name, str):
        return clean(name)
    if name is None or isinstance(name, bool | int | float | Decimal | UUID):
        return str(name)
    if isinstance(name, Enum):
        return _key(name.value)
    return _placeholder(name)


def clean(text: str) -> str:
    """`text` as UTF-8 can carry it: itself, or with U+FFFD for each lone surrogate.

    >>> clean("a\\ud800b")
    'a\ufffdb'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return str(text)


def _bytes(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def _placeholder(value: object) -> str:
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"
