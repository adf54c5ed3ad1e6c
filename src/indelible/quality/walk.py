"""One event as the paths of its properties: where they are, of which types, in which shape. Pure.

    plan, cart.total, items[], items[].sku     of the properties of a product event
    $set.email, $set_once.source               of its person
    meta.service                               of the meta of an audit event
    payload, payload.order_id                  of its payload: text, or JSON in text

A segment that is no plain word is in quotes, as in conditions. Elements of a list are ``[]``. Of a
deep or a large event only a part is looked at; `is_cut` says so.

>>> seen = walk({"plan": "pro", "items": [{"sku": 7}, {"sku": None}]}).paths
>>> {path: sorted(one.types) for path, one in seen.items()}
{'plan': ['text'], 'items': ['list'], 'items[]': ['object'], 'items[].sku': ['null', 'number']}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from indelible.condition.tokens import BARE
from indelible.event import Kind
from indelible.quality.shape import bucket, name_of, shape_of_number, shape_of_text

MAX_DEPTH: Final = 4
"""How many names a path may have, elements of lists counted."""
MAX_VALUES: Final = 500
"""Most values of one event that are looked at."""
MAX_ELEMENTS: Final = 5
"""Most elements of one list that are looked at."""

Type = Literal["text", "time", "number", "bool", "object", "list", "null"]
Scalar = str | int | float | bool

_PERSON: Final = ("$set", "$set_once")
_NOT_LEARNED: Final = frozenset({"event_name", "process_id", "sequence"})
"""Of `meta`: the name itself, and the numbers of accounts."""


@dataclass(slots=True)
class Seen:
    """A path of one event.

    Attributes:
        types: those of its values; elements of a list may have several.
        shape: of the first of them; None if it has none to be shown.
        values: the values themselves, but for objects, lists and null.
        top: the path of the property that it is a part of.
    """

    types: set[Type]
    shape: str | None
    top: str
    values: list[Scalar] = field(default_factory=list)


@dataclass(slots=True)
class Walk:
    """The paths of one event; `is_cut` if it has more than was looked at."""

    paths: dict[str, Seen] = field(default_factory=dict)
    is_cut: bool = False
    left: int = MAX_VALUES


def walk_event(kind: Kind, payload: bytes, record: Mapping[str, Any]) -> Walk:
    """Look into an event: its payload, and the members of its record."""
    walked = Walk()
    if kind is Kind.PRODUCT:
        if payload.startswith(b"{"):  # else null, or PHP's empty list
            _members(walked, _decoded(payload), "", 0, None)
        for name in _PERSON:
            if isinstance(of_person := record.get(name), dict):
                _members(walked, of_person, f"{name}.", 1, name)
        return walked
    meta = record.get("meta")
    if isinstance(meta, dict):
        kept = {name: text for name, text in meta.items() if name not in _NOT_LEARNED}
        _members(walked, kept, "meta.", 1, None)
    content = _decoded(payload) if payload.lstrip().startswith(b"{") else None
    if isinstance(content, dict):
        _members(walked, content, "payload.", 1, None)
    else:
        _put(walked, "payload", payload.decode("utf-8", "replace"), 1, "payload")
    return walked


def walk(properties: Mapping[str, Any]) -> Walk:
    """Look into the properties of a product event."""
    walked = Walk()
    _members(walked, properties, "", 0, None)
    return walked


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # of an audit event: any text will do


def _members(walked: Walk, members: Any, before: str, depth: int, top: str | None) -> None:
    if not isinstance(members, dict):
        return
    for name, value in members.items():
        if walked.left == 0:
            walked.is_cut = True
            return
        path = before + segment(name)
        _put(walked, path, value, depth + 1, path if top is None else top)


@lru_cache(maxsize=4096)
def segment(name: str) -> str:
    """Return a name as a part of a path."""
    plain = name_of(name)
    return plain if BARE.fullmatch(plain) else json.dumps(plain, ensure_ascii=False)


def _put(walked: Walk, path: str, value: Any, depth: int, top: str) -> None:
    walked.left -= 1
    sort, shape = _look(value)
    seen = walked.paths.get(path)
    if seen is None:
        seen = walked.paths[path] = Seen({sort}, shape, top)
    else:
        seen.types.add(sort)
    if sort in ("object", "list"):
        if not value:
            return
        if depth == MAX_DEPTH:
            walked.is_cut = True
        elif sort == "object":
            _members(walked, value, f"{path}.", depth, top)
        else:
            _elements(walked, value, f"{path}[]", depth, top)
    elif sort != "null":
        seen.values.append(value)


def _elements(walked: Walk, elements: list[Any], path: str, depth: int, top: str) -> None:
    for element in elements[:MAX_ELEMENTS]:
        if walked.left == 0:
            walked.is_cut = True
            return
        _put(walked, path, element, depth + 1, top)


def _look(value: Any) -> tuple[Type, str | None]:
    """The type of a value, and its shape."""
    sort = type(value)
    if sort is str:
        shape = shape_of_text(value)
        return ("time" if shape.startswith("time") else "text"), shape
    if sort is bool:
        return "bool", "true" if value else "false"
    if sort is int or sort is float:
        return "number", shape_of_number(value)
    if sort is dict:
        return "object", None
    if sort is list:
        return "list", f"{bucket(len(value))} elements"
    return "null", None
