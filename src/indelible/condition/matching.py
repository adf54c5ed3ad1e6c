"""Whether a condition is true of an event: the evaluator in Python.

`terms` says what each test means. The second evaluator, SQL for the event store, is held to this
one by a property test.
"""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any as AnyValue
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
    moment,
    number,
)

Facts = Mapping[str, object]
"""The facts of one event: JSON values, and `Moment` for those that are always times."""

Predicate = Callable[[Facts, Collection[str]], bool]
"""Whether something is true of an event with these facts, of a person in these cohorts."""

Reader = Callable[[object], object]
"""Returns a value if it is one of the reader's type, else `_MISSING`."""

_MISSING: Final = object()
_NO_COHORTS: Final[frozenset[str]] = frozenset()


def matches(condition: Condition, facts: Facts, cohorts: Collection[str] = _NO_COHORTS) -> bool:
    """Whether `condition` is true of an event with these facts, of a person in these cohorts."""
    return prepared(condition)(facts, cohorts)


def prepared(condition: Condition) -> Predicate:
    """`matches` for many events: what depends on the condition alone is done once."""
    match condition:
        case Test():
            return _prepared_test(condition)
        case All(terms):
            every = list(map(prepared, terms))
            return lambda facts, cohorts: all(term(facts, cohorts) for term in every)
        case Any(terms):
            either = list(map(prepared, terms))
            return lambda facts, cohorts: any(term(facts, cohorts) for term in either)
        case Not(term):
            opposite = prepared(term)
            return lambda facts, cohorts: not opposite(facts, cohorts)
        case InCohort(cohort):
            return lambda _, cohorts: cohort in cohorts
        case _:
            assert_never(condition)


def _prepared_test(test: Test) -> Predicate:
    path = test.path
    if test.op is Op.EXISTS:
        return lambda facts, _: _found(path, facts) is not _MISSING
    if test.op is Op.IN:
        assert isinstance(test.value, tuple)
        typed = tuple(zip(test.types, test.value, strict=True))
        groups = [
            (_AS[kind], frozenset(value for of, value in typed if of is kind))
            for kind in set(test.types)
        ]
        return lambda facts, _: _is_in(_found(path, facts), groups)
    as_type, compare, value = _AS[test.types[0]], _COMPARED[test.op], test.value

    def holds(facts: Facts, _: Collection[str]) -> bool:
        found = as_type(_found(path, facts))
        return found is not _MISSING and compare(found, value)

    return holds


def _is_in(found: object, groups: Sequence[tuple[Reader, Collection[object]]]) -> bool:
    return any(as_type(found) in values for as_type, values in groups)


def _found(path: Path, facts: Facts) -> object:
    """What stands at `path`, through objects alone; `_MISSING` if nothing does."""
    value: object = facts
    for segment in path:
        if not isinstance(value, dict):
            return _MISSING
        value = value.get(segment, _MISSING)
    return value


def _as_text(value: object) -> object:
    return value if isinstance(value, str) else _MISSING


def _as_number(value: object) -> object:
    if type(value) is float:
        return value
    if type(value) is not int:
        return _MISSING  # true and false too
    try:
        return number(value)
    except OverflowError:
        return _MISSING


def _as_bool(value: object) -> object:
    return value if isinstance(value, bool) else _MISSING


def _as_time(value: object) -> object:
    if isinstance(value, str):
        value = moment(value)
    return value if isinstance(value, Moment) else _MISSING


def _as_null(value: object) -> object:
    return None if value is None else _MISSING


_AS: Final[Mapping[Type, Reader]] = {
    Type.TEXT: _as_text,
    Type.NUMBER: _as_number,
    Type.BOOL: _as_bool,
    Type.TIME: _as_time,
    Type.NULL: _as_null,
}

# Python compares an integer with a double exactly, and their hashes agree.
_COMPARED: Final[Mapping[Op, Callable[[AnyValue, AnyValue], bool]]] = {
    Op.EQUAL: operator.eq,
    Op.LESS: operator.lt,
    Op.AT_MOST: operator.le,
    Op.MORE: operator.gt,
    Op.AT_LEAST: operator.ge,
    Op.CONTAINS: operator.contains,
    Op.STARTS_WITH: str.startswith,
    Op.ENDS_WITH: str.endswith,
}
