"""Conditions: one typed language for filters, wherever an event is chosen by what it is.

A condition has two forms. The text form is for people:

    event = "purchase" and properties.amount >= 100 and not exists(properties.coupon)

The JSON form is for machines, and canonical:

    {"all": [{"path": "event", "op": "=", "value": "purchase"}, …]}

`read` takes either. `matches` evaluates a condition on the facts of one event. Pure: no files, no
clock. docs/reference/conditions.md is generated from these modules.

>>> condition = parse('event = "purchase" and properties.amount >= 100')
>>> matches(condition, {"event": "purchase", "properties": {"amount": 120.5}})
True
>>> from_json(to_json(condition)) == parse(text(condition)) == condition
True
"""

from indelible.condition.document import from_json, to_json
from indelible.condition.facts import FACTS, Fact, Type
from indelible.condition.language import parse
from indelible.condition.matching import Predicate, matches, prepared
from indelible.condition.reading import read
from indelible.condition.terms import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_TESTS,
    MAX_VALUES,
    All,
    Any,
    Condition,
    InCohort,
    Moment,
    Not,
    Op,
    Test,
    leaves,
    roots,
)
from indelible.condition.writing import text
from indelible.errors import InvalidCondition

__all__ = [
    "FACTS",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_TESTS",
    "MAX_VALUES",
    "All",
    "Any",
    "Condition",
    "Fact",
    "InCohort",
    "InvalidCondition",
    "Moment",
    "Not",
    "Op",
    "Predicate",
    "Test",
    "Type",
    "from_json",
    "leaves",
    "matches",
    "parse",
    "prepared",
    "read",
    "roots",
    "text",
    "to_json",
]
