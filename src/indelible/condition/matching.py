"""Whether a condition is true of an event: the evaluator in Python.

`terms` says what each test means. The second evaluator, SQL for the event store, is held to this
one by a property test.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, assert_never

from indelible.condition.facts import Type
from indelible.condition.terms import (
    All,
    Any,
    Condition,
    InCohort,
    Moment,
    Not,
    Op,
    Path,
    Test,
    Value,
    moment,
    number,
)

Facts = Mapping[str, object]
"""The facts of one event: JSON values, and `Moment` for those that are always times."""

_MISSING: Final = object()
_NO_COHORTS: Final[frozenset[str]] = frozenset()


def matches(condition: Condition, facts: Facts, cohorts: Collection[str] = _NO_COHORTS) -> bool:
    """Whether `condition` is true of an event with these facts, of a person in these cohorts."""
    match condition:
        case Test():
            return _holds(condition, facts)
        case All(terms):
            return all(matches(term, facts, cohorts) for term in terms)
        case Any(terms):
            return any(matches(term, facts, cohorts) for term in terms)
        case Not(term):
            return not matches(term, facts, cohorts)
        case InCohort(cohort):
            return cohort in cohorts
        case _:
            assert_never(condition)


def _holds(test: Test, facts: Facts) -> bool:
    found = _found(test.path, facts)
    if test.op is Op.EXISTS:
        return found is not _MISSING
    if found is _MISSING:
        return False
    if test.op is Op.IN:
        assert isinstance(test.value, tuple)
        return any(
            _is_equal(_as(kind, found), value)
            for value, kind in zip(test.value, test.types, strict=True)
        )
    compared = _as(test.types[0], found)
    return compared is not _MISSING and _COMPARED[test.op](compared, test.value)


def _found(path: Path, facts: Facts) -> object:
    """What stands at `path`, through objects alone; `_MISSING` if nothing does."""
    value: object = facts
    for segment in path:
        if not isinstance(value, Mapping):
            return _MISSING
        value = value.get(segment, _MISSING)
    return value


def _as(kind: Type, value: object) -> object:
    """`value` as one of this type; `_MISSING` if it has another."""
    match kind:
        case Type.TEXT:
            return value if isinstance(value, str) else _MISSING
        case Type.NUMBER:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return _MISSING
            try:
                return number(value)
            except OverflowError:
                return _MISSING
        case Type.BOOL:
            return value if isinstance(value, bool) else _MISSING
        case Type.TIME:
            if isinstance(value, str):
                value = moment(value)
            return value if isinstance(value, Moment) else _MISSING
        case Type.NULL:
            return None if value is None else _MISSING
        case _:
            assert_never(kind)


def _is_equal(one: object, value: Value) -> bool:
    return one is not _MISSING and one == value


def _text_test(compare: Callable[[str, str], bool]) -> Callable[[object, object], bool]:
    def compared(one: object, value: object) -> bool:
        assert isinstance(one, str)
        assert isinstance(value, str)
        return compare(one, value)

    return compared


def _ordered(compare: Callable[[float, float], bool]) -> Callable[[object, object], bool]:
    """Numbers as they are: Python compares an integer with a double exactly. Times by moment."""

    def compared(one: object, value: object) -> bool:
        return compare(_size(one), _size(value))

    return compared


def _size(value: object) -> float:
    if isinstance(value, Moment):
        return value.at_ms
    assert isinstance(value, int | float)
    return value


_COMPARED: Final[Mapping[Op, Callable[[object, object], bool]]] = {
    Op.EQUAL: lambda one, value: one == value,
    Op.LESS: _ordered(lambda one, value: one < value),
    Op.AT_MOST: _ordered(lambda one, value: one <= value),
    Op.MORE: _ordered(lambda one, value: one > value),
    Op.AT_LEAST: _ordered(lambda one, value: one >= value),
    Op.CONTAINS: _text_test(lambda one, value: value in one),
    Op.STARTS_WITH: _text_test(str.startswith),
    Op.ENDS_WITH: _text_test(str.endswith),
}
