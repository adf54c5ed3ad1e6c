"""Reads a condition in whichever of its two forms it is written."""

from indelible.condition.document import from_json
from indelible.condition.language import parse
from indelible.condition.terms import Condition


def read(source: str) -> Condition:
    """The condition that `source` is: the JSON form if it begins with a brace, else the text form.

    Raises:
        InvalidCondition.
    """
    return from_json(source) if source.lstrip(" \t\r\n").startswith("{") else parse(source)
