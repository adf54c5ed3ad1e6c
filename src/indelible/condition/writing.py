"""Writes the text form of a condition."""

import json
from collections.abc import Iterator
from typing import assert_never

from indelible.clock import rfc3339
from indelible.condition.terms import (
    IN_TEXT,
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
)
from indelible.condition.tokens import BARE


def text(condition: Condition) -> str:
    """The text form; `parse` reads the same condition from it."""
    return "".join(_pieces(condition, inside=None))


def _pieces(condition: Condition, *, inside: type[All | Any | Not] | None) -> Iterator[str]:
    match condition:
        case Test():
            yield _test_text(condition, "")
        case InCohort(cohort):
            yield f"in_cohort({_quoted(cohort)})"
        case Not(Test(op=op) as test) if op in (Op.EQUAL, Op.IN) or op in IN_TEXT:
            yield _test_text(test, "not ")
        case Not(term):
            yield "not "
            yield from _pieces(term, inside=Not)
        case All(terms):
            needs = inside in (All, Not)
            yield from _joined(" and ", terms, All, parentheses=needs)
        case Any(terms):
            yield from _joined(" or ", terms, Any, parentheses=inside is not None)
        case _:
            assert_never(condition)


def _joined(
    word: str, terms: tuple[Condition, ...], kind: type[All | Any], *, parentheses: bool
) -> Iterator[str]:
    if parentheses:
        yield "("
    for place, term in enumerate(terms):
        if place:
            yield word
        yield from _pieces(term, inside=kind)
    if parentheses:
        yield ")"


def _test_text(test: Test, negation: str) -> str:
    path = path_text(test.path)
    match test.op:
        case Op.EXISTS:
            return f"exists({path})"
        case Op.EQUAL:
            assert not isinstance(test.value, tuple)
            return f"{path} {'!=' if negation else '='} {_value_text(test.value)}"
        case Op.IN:
            assert isinstance(test.value, tuple)
            return f"{path} {negation}in ({', '.join(map(_value_text, test.value))})"
        case _:
            assert not isinstance(test.value, tuple)
            return f"{path} {negation}{test.op} {_value_text(test.value)}"


def path_text(path: Path) -> str:
    """A path as both forms write it."""
    first, *rest = path
    return ".".join((first, *(s if BARE.fullmatch(s) else _quoted(s) for s in rest)))


def _quoted(plain: str) -> str:
    return json.dumps(plain, ensure_ascii=False)


def _value_text(value: Value) -> str:
    match value:
        case Moment(at_ms):
            return rfc3339(at_ms)
        case bool() | None:
            return json.dumps(value)
        case str():
            return _quoted(value)
        case _:
            return repr(value)
