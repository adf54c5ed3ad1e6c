"""A contract: what an event should have. It marks what does not fit, and refuses nothing. Pure.

    {"properties": {"plan": {"type": "text", "required": true, "values": ["free", "pro"]},
                    "cart.total": {"type": "number"}},
     "extra": false}

Paths are those of `indelible.quality.walk`. A rule that does not fit has a name, by which it is
counted:

    required    the event does not have the property, or it is null
    type        a value has another type; null is one, unless the property is required
    values      a value is none of the closed set
    extra       the event has a property that the contract does not name

>>> plan = PropertyRule(required=True, values=["pro"])
>>> contract = Contract({"plan": plan}, extra=False)
>>> misfits(contract, walk({"plan": "free", "coupon": "X", "$lib": "web"}))
[Misfit(rule='values', property='plan'), Misfit(rule='extra', property='coupon')]
>>> misfits(contract, walk({}))
[Misfit(rule='required', property='plan')]
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from indelible.errors import InvalidParameter
from indelible.quality.walk import MAX_DEPTH, Scalar, Type, Walk, segment, walk

__all__ = ["Contract", "Misfit", "PropertyRule", "misfits", "usable", "walk"]

MAX_BYTES: Final = 16 * 1024
"""Most bytes of a contract, as JSON without spaces."""
MAX_PROPERTIES: Final = 200
MAX_VALUES: Final = 100
MAX_TEXT_CHARS: Final = 200

Rule = Literal["required", "type", "values", "extra"]

_SEGMENT: Final = r'(?:[A-Za-z0-9_$-]+|"(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00[01][0-9a-f])*")'
_STEP: Final = rf"(?:\.{_SEGMENT}|\[\])"
_PATH: Final = re.compile(rf"{_SEGMENT}{_STEP}{{0,{MAX_DEPTH - 1}}}", re.ASCII)
_STEPS: Final = re.compile(rf"(\[\])|\.?({_SEGMENT})", re.ASCII)

Value = (
    Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
    | Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
    | float
    | bool
)
Path = Annotated[
    str,
    msgspec.Meta(
        max_length=MAX_TEXT_CHARS, extra_json_schema={"pattern": f"^{_PATH.pattern}(?!\\n)$"}
    ),
]


class PropertyRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one property should be. `type` may be several; `values` is a closed set."""

    type: Type | Annotated[list[Type], msgspec.Meta(min_length=1, max_length=7)] | None = None
    required: bool = False
    values: Annotated[list[Value], msgspec.Meta(min_length=1, max_length=MAX_VALUES)] | None = None

    @property
    def types(self) -> frozenset[str] | None:
        """The types that fit; None if any does. Text may read as a time."""
        if self.type is None:
            return None
        names = [self.type] if isinstance(self.type, str) else self.type
        return frozenset({*names, "null", *(["time"] if "text" in names else [])})


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an event should have. With `extra` false, no properties but those that are named, and
    those whose names begin with ``$``, which clients add by themselves."""

    properties: Annotated[
        dict[Path, PropertyRule], msgspec.Meta(min_length=1, max_length=MAX_PROPERTIES)
    ]
    extra: bool = True


class Misfit(NamedTuple):
    """A rule that an event does not fit, and of which property."""

    rule: Rule
    property: str


_ENCODE: Final = msgspec.json.Encoder(order="sorted").encode


def usable(contract: Contract) -> Contract:
    """Return a contract with its paths as the schema writes them.

    Raises:
        InvalidParameter: it is too long, or names a path that no property can have.
    """
    size = len(_ENCODE(contract))
    if size > MAX_BYTES:
        raise InvalidParameter(
            f"The contract has {size:,} bytes, more than {MAX_BYTES:,}",
            hint="Name only the properties that matter; the others may be there all the same.",
        )
    rules = {_path(path): rule for path, rule in contract.properties.items()}
    return Contract(rules, contract.extra)


def _path(sent: str) -> str:
    """
    Raises:
        InvalidParameter: no property can have this path.
    """
    if not _PATH.fullmatch(sent):
        raise InvalidParameter(
            f"properties: {sent!r} is not a path of at most {MAX_DEPTH} names",
            hint='Write cart.total, items[].sku, or "a name with spaces"."and dots".',
        )
    path = ""
    for elements, name in _STEPS.findall(sent):
        plain = json.loads(name) if name.startswith('"') else name
        path += elements or f".{segment(plain)}"
    return path[1:]


def misfits(contract: Contract, event: Walk) -> list[Misfit]:
    """Return what does not fit, each rule and property once; nothing if the event is not seen
    whole."""
    return [] if event.is_cut else list(_misfits(contract, event))


def _misfits(contract: Contract, event: Walk) -> Iterator[Misfit]:
    for path, rule in contract.properties.items():
        seen = event.paths.get(path)
        if seen is None or seen.types == {"null"}:
            if rule.required:
                yield Misfit("required", path)
            continue
        if rule.types is not None and not seen.types <= rule.types:
            yield Misfit("type", path)
        elif rule.values is not None and not all(_is_one(v, rule.values) for v in seen.values):
            yield Misfit("values", path)
    if not contract.extra:
        named = {_top(path) for path in contract.properties}
        for top in dict.fromkeys(seen.top for seen in event.paths.values()):
            if top not in named and not top.startswith(("$", "meta.")):
                yield Misfit("extra", top)


def _is_one(value: Scalar, values: list[Value]) -> bool:
    """Whether the value is one of these; true is no 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)


def _top(path: str) -> str:
    """The path of the property that this one is a part of."""
    names = [name for _, name in _STEPS.findall(path) if name]
    return ".".join(names[: 2 if names[0] in ("payload", "meta") else 1])
