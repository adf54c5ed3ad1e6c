"""The JSON form of a condition: canonical, for machines.

    {"all": [condition, …]}                     two or more; one alone stands for itself
    {"any": [condition, …]}
    {"not": condition}
    {"cohort": "name"}
    {"path": "event", "op": "=", "value": "purchase"}
    {"path": "properties.plan", "op": "in", "value": ["pro", "team"]}
    {"path": "received_at", "op": ">=", "value": {"time": "2026-01-31T12:00:00.000Z"}}
    {"path": "properties.coupon", "op": "exists"}

A path is written as in the text form. Every op of `Op` is there; `!=` is `{"not": …}`. A member
that is unknown, missing or given twice is refused.
"""

import json
from collections.abc import Mapping
from typing import Final, NoReturn, assert_never

from indelible.clock import rfc3339
from indelible.condition.language import path_of
from indelible.condition.terms import (
    MAX_DEPTH,
    All,
    Any,
    Condition,
    InCohort,
    Moment,
    Not,
    Op,
    Test,
    Value,
    check_bytes,
    check_size,
    moment,
    shown,
    too_deep,
)
from indelible.condition.tokens import number_of
from indelible.condition.writing import path_text
from indelible.errors import InvalidCondition

_FORMS: Final = (
    frozenset({"all"}),
    frozenset({"any"}),
    frozenset({"not"}),
    frozenset({"cohort"}),
    frozenset({"path", "op", "value"}),
    frozenset({"path", "op"}),
)
_HINT: Final = (
    'A condition is {"all": […]}, {"any": […]}, {"not": …}, {"cohort": …} or '
    '{"path": …, "op": …, "value": …}.'
)


def to_json(condition: Condition) -> str:
    """The JSON form; `from_json` reads the same condition from it."""
    return json.dumps(_document(condition), ensure_ascii=False, separators=(",", ":"))


def _document(condition: Condition) -> dict[str, object]:
    match condition:
        case All(terms):
            return {"all": list(map(_document, terms))}
        case Any(terms):
            return {"any": list(map(_document, terms))}
        case Not(term):
            return {"not": _document(term)}
        case InCohort(cohort):
            return {"cohort": cohort}
        case Test(path, Op.EXISTS):
            return {"path": path_text(path), "op": "exists"}
        case Test(path, op, value):
            return {"path": path_text(path), "op": op, "value": _json_value(value)}
        case _:
            assert_never(condition)


def _json_value(value: Value | tuple[Value, ...]) -> object:
    if isinstance(value, tuple):
        return list(map(_json_value, value))
    return {"time": rfc3339(value.at_ms)} if isinstance(value, Moment) else value


def from_json(source: str) -> Condition:
    """Read the JSON form.

    Raises:
        InvalidCondition: it cannot be read. `position` is known where it is not JSON; else the
            message has a JSON pointer.
    """
    check_bytes(source)
    try:
        document = json.loads(
            source,
            object_pairs_hook=_object,
            parse_int=number_of,
            parse_float=number_of,
            parse_constant=_no_number,
        )
    except json.JSONDecodeError as error:
        raise InvalidCondition(
            f"The condition is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            position=error.pos,
        ) from None
    except RecursionError:
        raise too_deep() from None
    condition = _condition(document, "", 1)
    check_size(condition)
    return condition


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidCondition(f"The member `{shown(twice)}` is given twice")
    return members


def _no_number(name: str) -> NoReturn:
    raise InvalidCondition(f"{name} is not JSON", hint="Numbers are finite doubles.")


def _condition(document: object, at: str, level: int) -> Condition:
    if level > MAX_DEPTH:
        raise too_deep()
    if not isinstance(document, Mapping) or document.keys() not in _FORMS:
        raise _invalid("This is no condition", at, hint=_HINT)
    match document:
        case {"all": terms}:
            conditions = _conditions(terms, f"{at}/all", level)
            return conditions[0] if len(conditions) == 1 else All(conditions)
        case {"any": terms}:
            conditions = _conditions(terms, f"{at}/any", level)
            return conditions[0] if len(conditions) == 1 else Any(conditions)
        case {"not": term}:
            return Not(_condition(term, f"{at}/not", level + 1))
        case {"cohort": name}:
            if not isinstance(name, str):
                raise _invalid("A cohort is named by text", f"{at}/cohort")
            return InCohort(name)
        case _:
            return _test(document, at)


def _conditions(terms: object, at: str, level: int) -> tuple[Condition, ...]:
    if not isinstance(terms, list) or not terms:
        raise _invalid("Here stands a list of one or more conditions", at, hint=_HINT)
    return tuple(_condition(term, f"{at}/{n}", level + 1) for n, term in enumerate(terms))


def _test(document: Mapping[str, object], at: str) -> Test:
    name, source = document["op"], document["path"]
    if not isinstance(name, str) or name not in list(Op):
        raise _invalid(
            f"There is no op `{shown(str(name))}`", f"{at}/op", hint=f"One of {', '.join(Op)}."
        )
    op = Op(name)
    if (op is Op.EXISTS) == ("value" in document):
        what = "takes no value" if op is Op.EXISTS else "needs a value"
        raise _invalid(f"`{op}` {what}", at)
    if not isinstance(source, str):
        raise _invalid("A path is text", f"{at}/path")
    try:
        path = path_of(source)
    except InvalidCondition as error:
        raise _invalid(error.message, f"{at}/path", hint=error.advice) from None
    given = document.get("value")
    value: Value | tuple[Value, ...]
    if op is Op.IN:
        if not isinstance(given, list):
            raise _invalid("`in` takes a list of values", f"{at}/value")
        value = tuple(_value(one, f"{at}/value/{n}") for n, one in enumerate(given))
    else:
        value = _value(given, f"{at}/value")
    try:
        return Test(path, op, value)
    except InvalidCondition as error:
        raise _invalid(error.message, f"{at}/{error.part}", hint=error.advice) from None


def _value(given: object, at: str) -> Value:
    match given:
        case {"time": str(source), **rest} if not rest:
            time = moment(source)
            if time is None:
                raise _invalid(
                    f"There is no time {shown(source)}", at, hint="Write 2026-01-31T12:00:00Z."
                )
            return time
        case str() | int() | float() | None:
            return given
        case _:
            raise _invalid('A value is text, a number, true, false, null or {"time": …}', at)


def _invalid(message: str, at: str, *, hint: str | None = None) -> InvalidCondition:
    return InvalidCondition(f"{message} (at {shown(at) or 'the top'})", hint=hint)
