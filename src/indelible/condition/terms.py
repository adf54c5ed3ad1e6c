"""The terms of a condition: frozen values that cannot be invalid.

    Condition = All | Any | Not | Test | InCohort

A `Test` compares one fact with a constant and is either true or false, never unknown. It is false
if the fact is missing, or has another type than the constant. `Not` is the complement, so
`properties.plan != "pro"`, which is short for `not properties.plan = "pro"`, is true of an event
without that property. De Morgan's laws hold.

`Type` says what the values of each type are, and when two of them are equal.

Lists and objects have no values: only `exists` is ever true of them. Of a member that an object
holds twice, the last one counts.

There are no regular expressions. RE2's, which are the only safe ones that the event store also has,
would be a C++ dependency of every server; `contains`, `starts_with`, `ends_with` and `in` cover
most of their uses, and `Op` is open to one more.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from indelible.condition.facts import FACTS, Type
from indelible.errors import InvalidCondition
from indelible.moment import parse_time_ms

MAX_BYTES: Final = 16 * 1024
"""Most bytes of a condition in UTF-8, in either form: three times that fits into a request line."""
MAX_DEPTH: Final = 32
"""Most levels of `All`, `Any` and `Not`, the test at the bottom counted."""
MAX_TESTS: Final = 100
MAX_VALUES: Final = 1_000
"""Most values of one `in`."""

_LEAST_INTEGER: Final = -(2**63)
_LARGEST_INTEGER: Final = 2**64 - 1

TIME_TEXT: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_LONGEST_SHOWN: Final = 64


class Op(StrEnum):
    """How a fact is compared with the value of its test."""

    EQUAL = "="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    IN = "in"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    EXISTS = "exists"

    @property
    def meaning(self) -> str:
        """One sentence for the reference page."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    Op.EQUAL: "Same type and same value.",
    Op.LESS: "A number or a time before the value.",
    Op.AT_MOST: "A number or a time before the value, or equal to it.",
    Op.MORE: "A number or a time after the value.",
    Op.AT_LEAST: "A number or a time after the value, or equal to it.",
    Op.IN: "Equal to one of a list of values, which may have different types.",
    Op.CONTAINS: "Text that has the value in it, case-sensitive.",
    Op.STARTS_WITH: "Text that begins with the value, case-sensitive.",
    Op.ENDS_WITH: "Text that ends with the value, case-sensitive.",
    Op.EXISTS: "The fact is there, even if it is null, a list or an object.",
}
ORDERED: Final = frozenset({Op.LESS, Op.AT_MOST, Op.MORE, Op.AT_LEAST})
IN_TEXT: Final = frozenset({Op.CONTAINS, Op.STARTS_WITH, Op.ENDS_WITH})


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A time: milliseconds since 1970, UTC."""

    at_ms: int


Value = str | int | float | bool | Moment | None
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Test:
    """One fact compared with a constant.

    `value` is a tuple for `Op.IN`, and None for `Op.EXISTS`. A number is kept in its simplest form:
    an integer if it is whole and exact as one.

    Raises:
        InvalidCondition: the path is unknown, or path, op and value don't fit. `part` names the one
            at fault.
    """

    path: Path
    op: Op
    value: Value | tuple[Value, ...] = None
    types: tuple[Type, ...] = field(init=False)
    """The type of each value, so that `= 1` and `= true` are different tests."""

    def __post_init__(self) -> None:
        declared = _declared(self.path, self.op)
        values: tuple[Value, ...]
        if self.op is Op.EXISTS:
            assert self.value is None
            values = ()
        elif self.op is Op.IN:
            assert isinstance(self.value, tuple)
            if not 0 < len(self.value) <= MAX_VALUES:
                raise InvalidCondition(
                    f"`in` has {len(self.value):,} values; it takes 1 to {MAX_VALUES:,}",
                    part="value",
                )
            values = tuple(map(_plain, self.value))
            object.__setattr__(self, "value", values)
        else:
            assert not isinstance(self.value, tuple)
            values = (_plain(self.value),)
            object.__setattr__(self, "value", values[0])
        types = tuple(map(type_of, values))
        for found in types:
            _check_type(self.path, self.op, declared, found)
        object.__setattr__(self, "types", types)


@dataclass(frozen=True, slots=True)
class InCohort:
    """The person of the event is in this cohort."""

    cohort: str

    def __post_init__(self) -> None:
        _plain(self.cohort)


@dataclass(frozen=True, slots=True)
class Not:
    """True if `term` is false."""

    term: "Condition"


@dataclass(frozen=True, slots=True)
class All:
    """True if every one of two or more terms is true."""

    terms: tuple["Condition", ...]

    def __post_init__(self) -> None:
        assert len(self.terms) > 1


@dataclass(frozen=True, slots=True)
class Any:
    """True if one of two or more terms is true."""

    terms: tuple["Condition", ...]

    def __post_init__(self) -> None:
        assert len(self.terms) > 1


Condition = All | Any | Not | Test | InCohort


def leaves(condition: Condition) -> Iterator[Test | InCohort]:
    """Every test of a condition, in order."""
    match condition:
        case Test() | InCohort():
            yield condition
        case Not(term):
            yield from leaves(term)
        case All(terms) | Any(terms):
            for term in terms:
                yield from leaves(term)


def roots(condition: Condition) -> frozenset[str]:
    """The names of the facts that a condition looks at."""
    return frozenset(test.path[0] for test in leaves(condition) if isinstance(test, Test))


def depth(condition: Condition) -> int:
    """How many levels a condition has; a test has one."""
    match condition:
        case Test() | InCohort():
            return 1
        case Not(term):
            return 1 + depth(term)
        case All(terms) | Any(terms):
            return 1 + max(map(depth, terms))


def check_size(condition: Condition) -> None:
    """
    Raises:
        InvalidCondition: it has more levels or tests than a condition may have.
    """
    if depth(condition) > MAX_DEPTH:
        raise too_deep()
    count = sum(1 for _ in leaves(condition))
    if count > MAX_TESTS:
        raise InvalidCondition(
            f"The condition has {count:,} tests; {MAX_TESTS} are the most",
            hint="Write a list of values as one test: `path in (…)`.",
        )


def check_bytes(source: str) -> None:
    """
    Raises:
        InvalidCondition: it is longer than a condition may be.
    """
    size = len(source)  # of a text that is far too long, encoding it would only cost
    if size <= MAX_BYTES:
        size = len(source.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise InvalidCondition(
            f"The condition is longer than {MAX_BYTES:,} bytes",
            hint="Write a list of values as one test, or ask in several requests.",
        )


def too_deep() -> InvalidCondition:
    """The error for a condition with too many levels."""
    return InvalidCondition(
        f"The condition is nested more than {MAX_DEPTH} deep", hint="Take parentheses away."
    )


def type_of(value: Value) -> Type:
    """The type of a value."""
    match value:
        case None:
            return Type.NULL
        case bool():
            return Type.BOOL
        case str():
            return Type.TEXT
        case Moment():
            return Type.TIME
        case _:
            return Type.NUMBER


def number(value: float) -> int | float:
    """A number in its simplest form; see above.

    >>> number(2.0), number(2**64), number(-0.0), number(0.5)
    (2, 1.8446744073709552e+19, 0, 0.5)

    Raises:
        OverflowError: it is no finite double.
    """
    if isinstance(value, int) and not _LEAST_INTEGER <= value <= _LARGEST_INTEGER:
        value = float(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OverflowError
        if value.is_integer() and _LEAST_INTEGER <= value <= _LARGEST_INTEGER:
            return int(value)
    return value


def moment(text: str) -> Moment | None:
    """The time that `text` is, or None if it is none: see `TIME_TEXT`."""
    if TIME_TEXT.fullmatch(text) is None:
        return None
    at_ms = parse_time_ms(text)
    return None if at_ms is None else Moment(at_ms)


def shown(name: str) -> str:
    """A name that a caller made up, short enough to stand in a message, and printable."""
    cut = name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def _plain(value: Value) -> Value:
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidCondition(
            "The text holds a lone surrogate, which no stored event has",
            hint="Cut text between characters, not inside one.",
            part="value",
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return number(value)
        except OverflowError:
            raise InvalidCondition(
                "The number is out of range", hint="Numbers are finite doubles.", part="value"
            ) from None
    return value


def _declared(path: Path, op: Op) -> Type | None:
    """The type that the fact at `path` always has; None if it may be any JSON value.

    Raises:
        InvalidCondition.
    """
    root = path[0]
    if any("\ud800" <= c <= "\udfff" for segment in path for c in segment):
        raise InvalidCondition("The name holds a lone surrogate", part="path")
    fact = FACTS.get(root)
    if fact is None:
        raise _unknown(root)
    if len(path) == 1:
        if fact.type is None and op is not Op.EXISTS:
            what = "an object" if fact.is_object else "a list"
            member = f"Name a member, `{root}.NAME`, or ask" if fact.is_object else "Ask"
            raise InvalidCondition(
                f"`{root}` is {what}, which is never equal to a value",
                hint=f"{member} for `exists({root})`.",
                part="path",
            )
        return fact.type
    if not fact.is_object or (fact.members is not None and len(path) > 2):
        flat = root if not fact.is_object else f"{root}.{shown(path[1])}"
        held = fact.type or fact.members
        what = "a list" if held is None else _a(held)
        raise InvalidCondition(
            f"`{flat}` is {what} and has no members", hint=f"Test `{flat}` itself.", part="path"
        )
    return fact.members


def _unknown(root: str) -> InvalidCondition:
    name = shown(root)
    close = [f"`{found}`" for found in get_close_matches(name.lower(), FACTS)]
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return InvalidCondition(
        f"No fact of an event is called `{name}`",
        hint=f"{meant}Properties of a product event are `properties.NAME`, the meta of an audit "
        f"event is `meta.NAME`; known here: {', '.join(FACTS)}.",
        part="path",
    )


def _check_type(path: Path, op: Op, declared: Type | None, found: Type) -> None:
    name = ".".join(map(shown, path))
    if op in IN_TEXT and found is not Type.TEXT:
        raise InvalidCondition(
            f"`{op}` takes text, not a {found}", hint="Put the text in quotes.", part="value"
        )
    if op in ORDERED and found not in (Type.NUMBER, Type.TIME):
        raise InvalidCondition(
            f"`{op}` takes a number or a time, not {found}",
            hint="Write numbers and times without quotes: `>= 100`, `>= 2026-01-31`.",
            part="value",
        )
    if declared is not None and declared is not found:
        raise InvalidCondition(
            f"`{name}` is {_a(declared)}, and is never equal to {_a(found)}"
            if op in (Op.EQUAL, Op.IN)
            else f"`{name}` is {_a(declared)}, and `{op}` compares it with {_a(found)}",
            hint=_NO_ORDER if op in ORDERED and declared is Type.TEXT else _HOW_TO_WRITE[declared],
            part="value",
        )


def _a(kind: Type) -> str:
    return kind if kind in (Type.TEXT, Type.NULL) else f"a {kind}"


_NO_ORDER: Final = "Text has no order: use =, in, starts_with, ends_with or contains."
_HOW_TO_WRITE: Final = {
    Type.TEXT: 'Write text in quotes: "…".',
    Type.NUMBER: "Write a number without quotes: 100, -2.5, 1e6.",
    Type.BOOL: "Write true or false.",
    Type.TIME: "Write a time without quotes: 2026-01-31, or 2026-01-31T12:00:00Z.",
    Type.NULL: "Write null.",
}
