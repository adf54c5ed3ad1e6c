"""What a value of a foreign type is in plain words: one step towards JSON, chosen by its type.

A type is known by its bases and by the names that it defines, never by asking the value: a lazy
object would look up what it stands for, and a mock has every attribute. No library is imported for
it. What steps lead to is told in `indelible.client.encode`.
"""

import functools
import operator
import os
import re
from collections import deque
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from dataclasses import fields
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

Step = Callable[[Any], object]

_KNOWN_TYPES: Final = 1_024
_DATA_FRAMES: Final = frozenset({"pandas.DataFrame", "polars.DataFrame"})
_MISSING: Final = frozenset({"pandas.NaTType", "pandas.NAType", "numpy.MaskedConstant"})
_SERIES: Final = frozenset(
    {
        "pandas.Index",
        "pandas.ExtensionArray",
        "polars.Series",
        "numpy.ndarray",
    }
)
_TEXTS: Final = frozenset(
    {
        "babel.LazyProxy",
        "bson.Decimal128",
        "bson.ObjectId",
        "collections.UserString",
        "django.Promise",
        "flask_babel.LazyString",
        "httpx.URL",
        "ipaddress.IPv4Address",
        "ipaddress.IPv4Network",
        "ipaddress.IPv6Address",
        "ipaddress.IPv6Network",
        "netaddr.IPAddress",
        "netaddr.IPNetwork",
        "packaging.Version",
        "pandas.Interval",
        "pandas.Period",
        "pydantic._BaseUrl",
        "pydantic_core.MultiHostUrl",
        "pydantic_core.Url",
        "speaklater._LazyString",
        "starlette.URL",
        "ulid.ULID",
        "yarl.URL",
    }
)
"""Types whose `str` is what a person would write; of others it might say anything."""


class Items:
    """A list, of whatever this gives one by one."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[object]) -> None:
        self.values = values


class Unordered(Items):
    """A list whose order means nothing."""

    __slots__ = ()


class Members:
    """An object, of these pairs of key and value."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[object, object]]) -> None:
        self.pairs = pairs


UNREADABLE: Final = object()
"""Stands for a member that cannot be read."""


@functools.lru_cache(maxsize=_KNOWN_TYPES)
def step_for(kind: type) -> Step | None:
    """What makes a value of this type plainer; None where nothing is known of the type."""
    bases = type.mro(kind)
    known = {f"{_root(one)}.{one.__name__}" for one in bases}
    names = {name for one in bases if one is not object for name in vars(one)}
    if known & _MISSING:
        return lambda _: None
    for base, step in _BY_BASE:
        if base in bases:
            return step
    if known & _TEXTS:
        return str
    if "__class__" in names:
        return None  # stands for another object, which to ask might look it up
    return _foreign(kind, known, names) or _collection(kind, names) or _by_protocol(names)


def _root(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _foreign(kind: type, known: set[str], names: set[str]) -> Step | None:
    """The step of types of known libraries, and of classes made of named fields."""
    if known & _DATA_FRAMES:
        return _records
    if "pandas.Series" in known:
        return _series
    if "numpy.generic" in known:
        return _numpy_scalar
    if known & _SERIES:
        return _array
    for name, step in _BY_NAME:
        if name in names:
            return step
    if issubclass(kind, SimpleNamespace):
        return lambda value: Members(vars(value).copy().items())
    return None


def _collection(kind: type, names: set[str]) -> Step | None:
    if issubclass(kind, Mapping):
        if "getlist" in names:
            return lambda value: Members(_of_many(value, value.getlist))
        if "getall" in names:
            return lambda value: Members(_of_many(value, value.getall))
        if getattr(kind, "items", None) is dict.items:
            return lambda value: Members(dict.copy(value).items())  # others may change it meanwhile
        return lambda value: Members(value.items())
    if issubclass(kind, KeysView | ItemsView):
        return Items
    if issubclass(kind, Set):
        return Unordered
    if issubclass(kind, list | tuple):
        return lambda value: Items(tuple(value))
    if issubclass(kind, Sequence | deque | ValuesView):
        return Items
    return None


def _by_protocol(names: set[str]) -> Step | None:
    """The step of what says of itself what it is like."""
    for name, step in _PROTOCOLS:
        if name in names:
            return step
    return None


def _iso(value: Any) -> str:
    return str(value.isoformat())


def _seconds(value: timedelta) -> float:
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _decimal(value: Decimal) -> str | None:
    return str(value) if value.is_finite() else None


def _bytes(value: Any) -> bytes:
    return memoryview(value).tobytes()


def _of_many(fields: Any, values_of: Callable[[Any], Iterable[object]]) -> Any:
    """Pairs of a mapping whose keys may have several values: those as a list."""
    for key in dict.fromkeys(fields):
        values = list(values_of(key))
        yield key, values[0] if len(values) == 1 else values


def _member(value: object, name: str) -> object:
    try:
        return getattr(value, name)
    except Exception:  # one field that cannot be read costs no other
        return UNREADABLE


def _dataclass(value: Any) -> Members:
    return Members((one.name, _member(value, one.name)) for one in fields(value))


def _attrs(value: Any) -> Members:
    return Members((one.name, _member(value, one.name)) for one in type(value).__attrs_attrs__)


def _struct(value: Any) -> Members:
    kind = type(value)
    names = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
    pairs = ((shown, _member(value, name)) for shown, name in names)
    return Members((name, one) for name, one in pairs if type(one).__name__ != "UnsetType")


def _model(value: Any) -> object:
    """A model of pydantic, whose secrets stay hidden; by its fields where it cannot be dumped."""
    try:
        # Its warnings would show values.
        return type(value).model_dump(value, mode="json", warnings=False)
    except Exception:  # it holds something that pydantic has no form for, or itself
        return Members(vars(value).copy().items())


def _named_tuple(value: Any) -> Members:
    return Members(zip(value._fields, tuple(value), strict=True))


def _series(value: Any) -> object:
    """A list, or an object where its index says more than places."""
    if type(value.index).__name__ == "RangeIndex":
        return Items(value)
    return Members(value.items())


def _records(value: Any) -> Items:
    columns = list(value.columns)
    is_polars = hasattr(value, "iter_rows")
    rows = value.iter_rows() if is_polars else value.itertuples(index=False, name=None)
    return Items(Members(zip(columns, row, strict=True)) for row in rows)


def _array(value: Any) -> object:
    dimensions = getattr(value, "ndim", 1)
    if type(value).__name__ == "matrix":
        return value.tolist()
    return value[()] if dimensions == 0 else Items(value)


def _numpy_scalar(value: Any) -> object:
    kind = value.dtype.kind
    if kind in "biu":
        return value.item()
    if kind == "f":
        # By its text: 32 bits of 0.1 are 0.1 and no 0.10000000149011612.
        return float(str(value))
    if kind in "Mm" and value != value:  # NaT
        return None
    if kind == "M":
        text = str(value)
        return text.rstrip("0").rstrip(".") if "." in text else text
    if kind == "m":
        return _in_seconds(value)
    if kind == "V" and value.dtype.names:
        return Members((name, value[name]) for name in value.dtype.names)
    return value.tolist() if kind == "V" else str(value)


def _in_seconds(value: Any) -> object:
    try:
        seconds = float(value / type(value)(1, "s"))
    except TypeError:  # months and years, which have no fixed length
        return str(value)
    return int(seconds) if seconds.is_integer() else seconds


def _enum(value: Any) -> object:
    return value.value


def _tolist(value: Any) -> object:
    return value.tolist()


def _floating(value: Any) -> object:
    return float(value)


_BY_BASE: Final[tuple[tuple[type, Step], ...]] = (
    (Enum, _enum),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime, _iso),
    (date, _iso),
    (time, _iso),
    (timedelta, _seconds),
    (Decimal, _decimal),
    (UUID, str),
    (PurePath, str),
    (bytes, _bytes),
    (bytearray, _bytes),
    (memoryview, _bytes),
    (tzinfo, str),
    (complex, str),
    (re.Pattern, lambda value: value.pattern),
)
_BY_NAME: Final[tuple[tuple[str, Step], ...]] = (
    ("model_dump", _model),
    ("__fields_set__", lambda value: Members(vars(value).copy().items())),  # pydantic 1
    ("__struct_fields__", _struct),
    ("__attrs_attrs__", _attrs),
    ("__dataclass_fields__", _dataclass),
    ("_asdict", _named_tuple),
    ("as_py", lambda value: value.as_py()),
    ("to_pylist", lambda value: value.to_pylist()),
    ("tolist", _tolist),
)
_PROTOCOLS: Final[tuple[tuple[str, Step], ...]] = (
    ("isoformat", _iso),
    ("__fspath__", os.fspath),
    ("__index__", operator.index),
    ("__float__", _floating),
)
