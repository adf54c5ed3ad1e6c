"""Conditions and facts as hypothesis makes them, and a second evaluator that says it naively."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from indelible import condition as c

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", "a", "ab", "1", "true", "null", "2026-01-31", "2026-01-31T00:00:00Z", "'\"\\"]
)
NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([2**53, 2**53 + 1, float(2**53), 2**63, 2**64 - 1, 2**64, -0.0, 1.0])
)
MOMENTS = st.builds(
    c.Moment, st.integers(-62135596800000, 253402300799999) | st.just(1769817600000)
)
VALUES = TEXTS | NUMBERS | MOMENTS | st.booleans() | st.none()

NAMES = st.sampled_from(["a", "b", "and", "größe", "a.b", "$x", "", "1", "-"]) | TEXTS
OPEN_PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: ("properties", *names))
ORDERED = st.sampled_from([c.Op.LESS, c.Op.AT_MOST, c.Op.MORE, c.Op.AT_LEAST])
IN_TEXT = st.sampled_from([c.Op.CONTAINS, c.Op.STARTS_WITH, c.Op.ENDS_WITH])


def _tests(paths: st.SearchStrategy[tuple[str, ...]]) -> st.SearchStrategy[c.Condition]:
    return (
        st.builds(c.Test, paths, st.just(c.Op.EQUAL), VALUES)
        | st.builds(c.Test, paths, ORDERED, NUMBERS | MOMENTS)
        | st.builds(c.Test, paths, IN_TEXT, TEXTS)
        | st.builds(c.Test, paths, st.just(c.Op.EXISTS))
        | st.builds(
            c.Test, paths, st.just(c.Op.IN), st.lists(VALUES, min_size=1, max_size=4).map(tuple)
        )
    )


CLOSED_TESTS = (
    st.builds(c.Test, st.just(("event",)), st.just(c.Op.EQUAL) | IN_TEXT, TEXTS)
    | st.builds(c.Test, st.just(("index",)), st.just(c.Op.EQUAL) | ORDERED, NUMBERS)
    | st.builds(c.Test, st.just(("received_at",)), ORDERED, MOMENTS)
    | st.builds(c.Test, st.sampled_from([("meta", "a"), ("meta", "x y")]), IN_TEXT, TEXTS)
    | st.builds(c.Test, st.sampled_from([(name,) for name in c.FACTS]), st.just(c.Op.EXISTS))
)
TESTS = _tests(OPEN_PATHS) | CLOSED_TESTS | st.builds(c.InCohort, TEXTS)
CONDITIONS: st.SearchStrategy[c.Condition] = st.recursive(
    TESTS,
    lambda inner: (
        st.builds(c.Not, inner)
        | st.builds(c.All, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(c.Any, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)

SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
FACTS = st.fixed_dictionaries(
    {"index": st.integers(0, 5), "kind": st.just("product"), "received_at": MOMENTS},
    optional={
        "event": TEXTS,
        "properties": st.dictionaries(NAMES, JSON, max_size=4),
        "meta": st.dictionaries(st.sampled_from(["a", "x y"]), TEXTS),
    },
)


def is_true(condition: c.Condition, facts: Any, cohorts: frozenset[str]) -> bool:
    """What a condition means, said once more and as plainly as can be."""
    if isinstance(condition, c.All):
        return False not in [is_true(term, facts, cohorts) for term in condition.terms]
    if isinstance(condition, c.Any):
        return True in [is_true(term, facts, cohorts) for term in condition.terms]
    if isinstance(condition, c.Not):
        return is_true(condition.term, facts, cohorts) is False
    if isinstance(condition, c.InCohort):
        return condition.cohort in cohorts
    here = facts
    for name in condition.path:
        if type(here) is not dict or name not in here:
            return False
        here = here[name]
    if condition.op is c.Op.EXISTS:
        return True
    wanted = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    return any(_compare(condition.op, here, value) for value in wanted)


def _compare(op: c.Op, found: Any, wanted: Any) -> bool:
    if wanted is None:
        return found is None
    if type(wanted) is bool:
        return type(found) is bool and found is wanted
    if type(wanted) is c.Moment:
        at = _moment(found)
        return at is not None and _ordered(op, at, wanted.at_ms)
    if type(wanted) is str:
        if type(found) is not str:
            return False
        match op:
            case c.Op.CONTAINS:
                return re.search(re.escape(wanted), found) is not None
            case c.Op.STARTS_WITH:
                return found[: len(wanted)] == wanted
            case c.Op.ENDS_WITH:
                return wanted == "" or found[-len(wanted) :] == wanted
        return found == wanted
    if type(found) not in (int, float):
        return False
    return _ordered(op, _exact(found), _exact(wanted))


def _exact(value: float) -> Fraction:
    is_exact = type(value) is int and -(2**63) <= value < 2**64
    return Fraction(value) if is_exact else Fraction(Decimal(float(value)))


def _ordered(op: c.Op, one: Any, other: Any) -> bool:
    held = {
        c.Op.LESS: one < other,
        c.Op.AT_MOST: one <= other,
        c.Op.MORE: one > other,
        c.Op.AT_LEAST: one >= other,
    }
    return bool(held.get(op, one == other))


def _moment(found: Any) -> int | None:
    """Milliseconds since 1970, of a moment or of text that the standard library reads as one."""
    if type(found) is c.Moment:
        return found.at_ms
    if type(found) is not str or not found.isascii() or not re.match(r"\d{4}-\d\d-\d\d", found):
        return None
    try:
        at = datetime.fromisoformat(found)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
