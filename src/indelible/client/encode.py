"""Any Python value as JSON that every server takes. Pure, and never raises.

What JSON has is written as it is. The rest has one form each, so that no property costs the event:

    datetime, date, time          ISO 8601 text
    timedelta                     seconds
    Decimal, UUID, Path           text
    Enum                          its value
    bytes                         text where it is UTF-8, else Base64
    tuple, deque, range, set      list; a set is sorted
    named tuple, dataclass        object of its fields
    NaN, infinities               null
    complex, tzinfo, Pattern      text
    a lone surrogate              U+FFFD
    a container inside itself     "<cycle>"
    nested more than 24 deep      "<too deep>"
    more than `most` values       "<too many>" in place of the rest
    anything else                 "<module.Class>", never its repr: that may hold anything

and of libraries, none of which is needed or imported for it:

    numpy, pandas, polars         numbers, ISO text and seconds of scalars; arrays and series as
                                  lists, a series with an index of its own as an object, a frame as
                                  a list of objects; NaT and NA are null
    pydantic                      ``model_dump(mode="json")``: secrets stay hidden
    attrs, msgspec                object of the fields
    mappings of many values       object; a key that has several has a list of them
    addresses, URLs, lazy text    text
    what has ``isoformat``,       the text or number that this gives
    ``__fspath__``,
    ``__index__``, ``__float__``

A generator or an iterator is anything else: to look would use it up.

A key is the text that it would have as a value; None, True and False are ``null``, ``true`` and
``false``, as JSON spells them. Of keys that would have one name, the one that is this text keeps
it; others get their type's name beside it, or a number.

>>> encode({"spent": math.inf, 3: {1.5, 0.5}, "3": b"x", "odd": object()})[0]
b'{"spent":null,"3 (int)":[0.5,1.5],"3":"x","odd":"<builtins.object>"}'
"""

import base64
import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from itertools import count
from typing import Any, Final, SupportsIndex
from uuid import UUID

from indelible.client.forms import UNREADABLE, Items, Members, Unordered, step_for

MAX_DEPTH: Final = 24
MAX_VALUES: Final = 1_000_000
_MOST_STEPS: Final = 8
_VALUES_OF_ID: Final = 16
_WHOLE: Final = 2.0**53
_DEPTH_OF_KEYS: Final = MAX_DEPTH - 2
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER: Final = b"0" * 19
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_WRITE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

IdLike = str | bytes | SupportsIndex | float | Decimal | Enum | UUID
"""What is taken for an id: it is sent as its text. Whole numbers of libraries have `__index__`. A
truth value, though a whole number to Python, is refused when the event is written."""


class Marker(str):
    """Stands for what has no form; a text of the application's is none."""

    __slots__ = ()


class WrongType(TypeError):
    """An argument is of a type that means nothing there; says which and what, never the value."""

    def __init__(self, field: str, value: object, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}, not {type_name(value)}")


def blame(error: BaseException, arguments: Mapping[str, object]) -> str:
    """What was wrong with these arguments, in words that show no value."""
    if isinstance(error, WrongType):
        return str(error)
    types = [f"{name}: {type_name(one)}" for name, one in arguments.items() if one is not None]
    return f"{type(error).__name__} with {', '.join(types)}" if types else type(error).__name__


CYCLE: Final = Marker("<cycle>")
TOO_DEEP: Final = Marker("<too deep>")
TOO_MANY: Final = Marker("<too many>")


def encode(value: object, *, is_plain: bool = False) -> tuple[bytes, bool]:
    """`value` as compact UTF-8 JSON, and whether any part of it had to be given another form.

    With `is_plain` the caller knows that it holds nothing but what JSON has, under keys of text.
    """
    if not is_plain and not _is_plain(value):
        return _dumps(plain(value)), True
    try:
        data = _dumps(value)
    except Exception:  # inside itself, a lone surrogate, NaN
        return _dumps(plain(value)), True
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH or _has_long_number(data):
        # Perhaps nested too deep, perhaps a number that readers refuse: only rebuilding tells.
        rebuilt = _dumps(plain(value))
        return rebuilt, rebuilt != data
    return data, False


def pass_on(error: BaseException) -> None:
    """Raise again what may be no fault of a value: Ctrl-C or a time limit, on the main thread."""
    if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
        raise error


def _is_plain(value: object) -> bool:
    """Whether `value` holds only JSON's own types: of others `json` would merge keys."""
    left = MAX_VALUES
    waiting = [value]
    while waiting and left > 0:
        left -= 1
        one: Any = waiting.pop()
        kind = type(one)
        if kind is dict:
            one = one.copy()  # others may change it meanwhile
            if not all(type(name) is str for name in one):
                return False
            waiting.extend(one.values())
        elif kind is list or kind is tuple:
            waiting.extend(one)
        elif kind not in _SCALARS:
            return False
    return left > 0


def _has_long_number(data: bytes) -> bool:
    """Whether 19 digits stand in a row: ten times faster to ask than a regular expression."""
    return _LONG_NUMBER in data.translate(_DIGITS_TO_0)


def _dumps(value: object) -> bytes:
    return _WRITE(value).encode()


def plain(value: object, *, most: int = MAX_VALUES) -> Any:
    """`value` rebuilt of what JSON has, by the table above."""
    return _Rebuilding(most).of(value, 0)


class _Rebuilding:
    """One value on its way."""

    def __init__(self, most: int) -> None:
        self._left = most  # an empty list or object counts twice, as for a server
        self._above: set[int] = set()

    def of(self, value: object, depth: int) -> Any:
        try:
            return self._of(value, depth)
        except BaseException as error:  # a property, __iter__ or __str__ of a stranger's object
            pass_on(error)
            return _placeholder(value)

    def _of(self, value: object, depth: int) -> Any:
        self._left -= 1
        one = value
        for _ in range(_MOST_STEPS):
            kind: Any = type(one)
            if kind in _SCALARS or kind is Marker:
                return _scalar(one)
            if kind is bytes:
                return _bytes(one)  # type: ignore[arg-type]
            if kind is Members or kind is Items or kind is Unordered:
                return self._container(value, one, depth)  # type: ignore[arg-type]
            step = step_for(kind)
            if step is None:
                return _placeholder(value)
            one = step(one)
        return _placeholder(value)

    def _container(self, value: object, form: Items | Members, depth: int) -> Any:
        if id(value) in self._above:
            return CYCLE
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        self._above.add(id(value))
        try:
            if isinstance(form, Members):
                made: Any = self._object(form.pairs, depth + 1)
            else:
                made = self._list(form, depth + 1)
        finally:
            self._above.discard(id(value))
        if not made:
            self._left -= 1
        return made

    def _list(self, form: Items, depth: int) -> list[Any]:
        made = []
        for one in form.values:
            if self._left <= 0:
                made.append(TOO_MANY)
                break
            made.append(self.of(one, depth))
        return _sorted(made) if isinstance(form, Unordered) else made

    def _object(self, pairs: Iterable[tuple[object, object]], depth: int) -> dict[str, Any]:
        found: list[tuple[object, Any]] = []
        for key, one in pairs:
            if self._left <= 0:
                found.append((TOO_MANY, True))
                break
            found.append((key, "<unreadable>" if one is UNREADABLE else self.of(one, depth)))
        names = self._names([key for key, _ in found])
        return dict(zip(names, (one for _, one in found), strict=True))

    def _names(self, keys: Sequence[object]) -> list[str]:
        """A name for each key, no two alike; a key that is a name already keeps it."""
        names = [self._name(key) for key in keys]
        if len(set(names)) == len(names):
            return names
        taken: set[str] = set()
        later: list[int] = []
        for place, (key, name) in enumerate(zip(keys, names, strict=True)):
            if name in taken or type(key) is not str or key != name:
                later.append(place)
            else:
                taken.add(name)
        for place in later:
            name = names[place] = _unlike(taken, names[place], type(keys[place]))
            taken.add(name)
        return names

    def _name(self, key: object) -> str:
        value = clean(key) if type(key) is str else self.of(key, _DEPTH_OF_KEYS)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list) and value:
            return ", ".join(one if isinstance(one, str) else _WRITE(one) for one in value)
        return _WRITE(value)


def _unlike(taken: set[str], name: str, kind: type) -> str:
    """`name`, told apart from those that are taken.

    What is added stands in brackets, so that masking still knows the name.
    """
    if name not in taken:
        return name
    if kind is not str and (typed := f"{name} ({clean(kind.__name__)})") not in taken:
        return typed
    return next(one for n in count(2) if (one := f"{name} ({n})") not in taken)


def _sorted(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of several types
        return sorted(values, key=_WRITE)


def _scalar(value: Any) -> Any:
    if type(value) is str:
        return clean(value)
    if type(value) is int:
        # Beyond 64 bits readers disagree, or refuse the whole document.
        return value if -(2**63) <= value < 2**64 else str(value)
    if type(value) is float and not math.isfinite(value):
        return None
    return value


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


def _placeholder(value: object) -> Marker:
    return Marker(f"<{type_name(value)}>")


def type_name(value: object) -> str:
    """The name of its type, with that of its module."""
    kind = type(value)
    try:
        return clean(f"{kind.__module__}.{kind.__qualname__}")
    except BaseException as error:  # a class whose metaclass fails
        pass_on(error)
        return "unknown"


def id_of(value: object, field: str) -> str | None:
    """An id as text; None for what says that there is none, as null, NaN, NaT and "" do.

    >>> id_of(42.0, "distinct_id"), id_of(b"u_1", "distinct_id"), id_of(math.nan, "distinct_id")
    ('42', 'u_1', None)

    Raises:
        WrongType: a truth value, a container, or anything that has no text of its own.
    """
    if value is None or type(value) is str:
        return clean(value) if value else None
    form = plain(value, most=_VALUES_OF_ID)
    if form is None or type(form) is str:
        return form or None
    if type(form) is int:
        return str(form)
    if type(form) is float:  # a number of a table in which other ids are missing
        return str(int(form)) if form.is_integer() and abs(form) < _WHOLE else str(form)
    raise WrongType(field, value, "text, a number or a UUID")
