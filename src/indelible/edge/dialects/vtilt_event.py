"""One event of vTilt's dialect, after the gate has opened: from its JSON to a received event.

A usual event and one that was taken apart say the same: what both ways can read is the same event.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from indelible.edge.arrival import Dropped, ProductEvent
from indelible.edge.brackets import MAX_DEPTH, MAX_VALUES, Text, has_too_many_values, nesting
from indelible.edge.dialects.vtilt_unread import (
    ANY,
    LONGEST_TOKEN_BYTES,
    NO_PROPERTIES,
    Sent,
    Unread,
    Usual,
    size_of,
    take_tokens,
)
from indelible.edge.shallow import short_members
from indelible.event import DropReason, is_process_id, is_sequence
from indelible.moment import parse_time_ms
from indelible.record import JOINS, Origin, Product, joined_id, plain_id

_SHORT_VALUE_BYTES: Final = 64

_OF_PERSON: Final = {"$set": "set", "$set_once": "set_once", "$unset": "unset"}


class _Others(msgspec.Struct, gc=False):
    """Members of an event that many do not have, as they were sent."""

    process_id: msgspec.Raw | UnsetType = UNSET
    sequence: msgspec.Raw | UnsetType = UNSET
    set: msgspec.Raw | UnsetType = UNSET
    set_once: msgspec.Raw | UnsetType = UNSET
    unset: msgspec.Raw | UnsetType = UNSET
    extra: dict[str, msgspec.Raw] = {}


_NO_OTHERS: Final = _Others()


def look_into(
    unread: Iterable[Unread],
    texts: Iterable[Text | msgspec.Raw],
    max_event_bytes: int,
    origin: Origin,
) -> Iterator[ProductEvent | Dropped]:
    """Decode each event, unless it is refused for what can be measured without.

    `texts` has that of each.
    """
    for one, text in zip(unread, texts, strict=True):
        if isinstance(one, Usual):
            yield _read_usual(one, text, max_event_bytes, origin)
        elif isinstance(one, Sent):
            yield _look_into(one, text, max_event_bytes, origin)
        else:
            yield one


def _look_into(
    sent: Sent, text: Text | msgspec.Raw, max_event_bytes: int, origin: Origin
) -> ProductEvent | Dropped:
    view = memoryview(text)
    size = len(view)
    if size > max_event_bytes:
        return _refusable(sent, origin, size_bytes=size, depth=1)
    whole = bytes(view)
    if size > MAX_VALUES and has_too_many_values(whole):
        is_numbered = _is_numbered(sent)
        return Dropped(DropReason.EVENT_TOO_LARGE, _client_id(sent), is_numbered=is_numbered)
    depth = nesting(whole)
    if depth > MAX_DEPTH:
        return _refusable(sent, origin, size_bytes=size, depth=depth)
    return _read_sent(sent.fields, origin, size_bytes=size, depth=depth)


def _read_usual(
    usual: Usual, text: Text | msgspec.Raw, max_event_bytes: int, origin: Origin
) -> ProductEvent | Dropped:
    size = len(memoryview(text))
    payload = bytes(usual.properties)
    # All else in it is flat: with so few brackets and bytes, no measure can be too large.
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets >= MAX_DEPTH or size > max_event_bytes or size > MAX_VALUES:
        return _as_sent(text, max_event_bytes, origin)
    client_id, others = usual.uuid or None, _NO_OTHERS
    try:
        properties = ANY.decode(payload)
        if type(properties) is not dict:
            properties = _members(properties)
    except (msgspec.DecodeError, TypeError):
        return Dropped(DropReason.INVALID_EVENT, client_id)
    process_id, sequence = usual.process_id, usual.sequence
    if process_id is not UNSET or sequence is not UNSET:
        if not (
            (process_id is UNSET or is_process_id(_short_value(process_id)))
            and (sequence is UNSET or is_sequence(_short_value(sequence)))
        ):
            return _as_sent(text, max_event_bytes, origin)
        others = _Others(process_id, sequence)
    return _event(
        payload,
        usual.event,
        usual.distinct_id,
        client_id,
        usual.timestamp,
        properties,
        others,
        origin,
        size,
        1 + brackets,
    )


def _as_sent(
    text: Text | msgspec.Raw, max_event_bytes: int, origin: Origin
) -> ProductEvent | Dropped:
    """Read what looked like a usual event and is none."""
    try:
        sent = Sent(short_members(text))
    except RecursionError:
        size = len(memoryview(text))
        return _refusable(Sent({}), origin, size_bytes=size, depth=MAX_DEPTH + 1)
    take_tokens(sent.fields, [], None)
    return _look_into(sent, text, max_event_bytes, origin)


def _read_sent(
    fields: dict[str, msgspec.Raw], origin: Origin, *, size_bytes: int, depth: int
) -> ProductEvent | Dropped:
    client_id: str | None = None
    try:
        uuid = fields.pop("uuid", None)
        client_id = _id(uuid) or None
        if client_id is None and _value(uuid) not in (None, ""):
            return Dropped(DropReason.INVALID_EVENT, is_numbered=_is_numbered(Sent(fields)))
        raw_properties = fields.pop("properties", None)
        properties = _members(_value(raw_properties))
        name = _value(fields.pop("event", None))
        distinct_id = _id(fields.pop("distinct_id", None))
        timestamp = _timestamp(fields.pop("timestamp")) if "timestamp" in fields else None
        others = _others(fields) if fields else _NO_OTHERS
    except (msgspec.DecodeError, TypeError):
        return Dropped(DropReason.INVALID_EVENT, client_id, is_numbered=_is_numbered(Sent(fields)))
    return _event(
        NO_PROPERTIES if raw_properties is None else bytes(raw_properties),
        name if isinstance(name, str) else None,
        distinct_id,
        client_id,
        timestamp,
        properties,
        others,
        origin,
        size_bytes,
        depth,
    )


def _event(
    payload: bytes,
    name: str | None,
    distinct_id: str | None,
    client_id: str | None,
    timestamp: Any,
    properties: Mapping[str, Any],
    others: _Others,
    origin: Origin,
    size_bytes: int,
    depth: int,
) -> ProductEvent:
    if distinct_id is None and "distinct_id" in properties:
        distinct_id = plain_id(properties["distinct_id"])
    page, library = properties.get("$current_url"), properties.get("$lib")
    return ProductEvent(
        payload=payload,
        client_id=client_id,
        name=name,
        distinct_id=distinct_id,
        anonymous_id=joined_id(name, properties.get, distinct_id) if name in JOINS else None,
        time_ms=None if timestamp is None else parse_time_ms(timestamp),
        page=page if isinstance(page, str) else None,
        library=library if isinstance(library, str) else None,
        record=Product(
            extra=others.extra or UNSET,
            set=others.set,
            set_once=others.set_once,
            unset=others.unset,
            distinct_id=distinct_id or "",
            event=name or "",
            process_id=others.process_id,
            request=origin,
            sequence=others.sequence,
            timestamp=UNSET if timestamp is None else timestamp,
            uuid=UNSET if client_id is None else client_id,
        ),
        size_bytes=size_bytes,
        depth=depth,
        property_count=len(properties),
    )


def _refusable(event: Sent, origin: Origin, *, size_bytes: int, depth: int) -> ProductEvent:
    """An event of which only its measures and its ids are known: a step of admission drops it."""
    process_id, sequence = _place_of(event)
    return ProductEvent(
        payload=NO_PROPERTIES,
        client_id=_client_id(event),
        record=Product(
            distinct_id="", event="", process_id=process_id, request=origin, sequence=sequence
        ),
        size_bytes=size_bytes,
        depth=depth,
    )


def _place_of(event: Sent) -> tuple[msgspec.Raw | UnsetType, msgspec.Raw | UnsetType]:
    """Which capture of which process an event is, as it was sent; UNSET if it does not say."""
    process_id, sequence = event.fields.get("process_id"), event.fields.get("sequence")
    return (
        process_id if process_id and is_process_id(_short_value(process_id)) else UNSET,
        sequence if sequence and is_sequence(_short_value(sequence)) else UNSET,
    )


def _is_numbered(event: Sent) -> bool:
    return UNSET not in _place_of(event)


def _client_id(event: Sent) -> str | None:
    uuid = event.fields.get("uuid")
    if uuid is None or size_of(uuid) > LONGEST_TOKEN_BYTES:
        return None
    try:
        return _id(uuid) or None
    except msgspec.DecodeError:
        return None


def _value(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else ANY.decode(raw)


def _short_value(raw: msgspec.Raw) -> Any:
    """The value of a member, None where that is long or cannot be read."""
    try:
        return ANY.decode(raw) if size_of(raw) <= _SHORT_VALUE_BYTES else None
    except msgspec.DecodeError:
        return None


def _members(value: object) -> dict[str, Any]:
    """What an object holds; null and an empty list are empty objects.

    Raises:
        TypeError: it is anything else.
    """
    if isinstance(value, dict):
        return value
    if value is None or value == []:
        return {}
    raise TypeError


def _timestamp(raw: msgspec.Raw) -> Any:
    """The client's time, or its text where it holds a number that no reader can (`1e999`)."""
    try:
        return ANY.decode(raw)
    except msgspec.DecodeError:
        return bytes(raw).decode()


def _id(raw: msgspec.Raw | None) -> str | None:
    """An id as text: a string, or the digits of a number as they were sent; else None."""
    if raw is None:
        return None
    value = ANY.decode(raw)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bytes(raw).decode()
    return None


def _others(fields: Mapping[str, msgspec.Raw]) -> _Others:
    """Read what is left of the event.

    Raises:
        TypeError, msgspec.DecodeError: one of them has the wrong type or cannot be read.
    """
    others = _Others()
    for name, raw in fields.items():
        value = ANY.decode(raw)
        if name == "process_id" and is_process_id(value):
            others.process_id = raw
        elif name == "sequence" and is_sequence(value):
            others.sequence = raw
        elif name not in _OF_PERSON:
            others.extra[name] = raw
        elif value is not None:
            wanted = list if name == "$unset" else dict
            if not isinstance(value, wanted) and value not in ([], {}):  # PHP has one for both
                raise TypeError
            setattr(others, _OF_PERSON[name], raw)
    return others
