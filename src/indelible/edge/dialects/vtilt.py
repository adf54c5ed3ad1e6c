"""vTilt's dialect, ``/api/e``. PostHog's v0 bodies are the same shapes.

    {"api_key", "event", "distinct_id", "properties"}     one event
    {"api_key", "batch": [...], "sent_at"?, "lost"?, …}   a batch; `token` will do for `api_key`
    [...]                                                 a batch; the token in each event

Optional in an event: `uuid`, `timestamp`, `$set`, `$set_once`, `$unset`, `process_id`, `sequence`.
Unknown members are kept in the record under `$extra`, and so are the last two where they are not
what they should be. PHP writes an empty object as an empty list: in `properties`, `$set` and
`$set_once` it is read as one, and stored as sent. Reading never fails for one bad event: it becomes
a `Dropped`.

`read` finds the tokens and cuts the body into events; each of them is decoded only after the gate
has opened, and only if it is not too long.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import repeat
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from indelible.edge.arrival import Dropped, ProductEvent
from indelible.edge.dialect import Call, Dialect, Path, Reading
from indelible.edge.dialects.vtilt_schema import schema
from indelible.edge.http import Request
from indelible.edge.lost import read_lost
from indelible.edge.results import answer_product
from indelible.edge.shallow import (
    MAX_DEPTH,
    MAX_VALUES,
    SHORT,
    WINDOW,
    Document,
    Text,
    TooManyMembers,
    elements,
    has_too_many_values,
    members,
    nesting,
    parse,
    short_members,
)
from indelible.errors import EventRefused, InvalidJson
from indelible.event import DropReason, Lane, is_process_id, is_sequence
from indelible.moment import parse_time_ms
from indelible.record import Origin, Product

_ANY: Final = msgspec.json.Decoder()

# No token is as long, and none of the members that describe a request.
_LONGEST_TOKEN_BYTES: Final = 1_024
_LONGEST_FIELD_BYTES: Final = 256

_TOKEN_FIELDS: Final = frozenset({"api_key", "token", "$token"})
_BATCH_FIELDS: Final = ("sent_at", "historical_migration")
_OF_PERSON: Final = {"$set": "set", "$set_once": "set_once", "$unset": "unset"}
_NO_PROPERTIES: Final = b"{}"
_QUERY_TOKENS: Final = ("api_key", "token")

# Events that join two ids, and where each may have the one from before.
_JOINS: Final[Mapping[str | None, tuple[str, ...]]] = {
    "$identify": ("$anon_distinct_id", "anonymous_id", "anonymousId", "$device_id"),
    "$create_alias": ("alias",),
    "$alias": ("alias",),
}
_NONE: Final = msgspec.Raw(b"null")


class _Inner(msgspec.Struct, gc=False):
    """What is looked for in properties before they are decoded; msgspec skips the rest."""

    token: msgspec.Raw = _NONE


_INNER: Final = msgspec.json.Decoder(_Inner)


class Unread(msgspec.Struct, gc=False):
    """An event cut out of a body and not yet looked into: `fields` without its tokens."""

    text: Text | memoryview
    fields: dict[str, msgspec.Raw]


_Sent = Unread | Dropped


class _Others(msgspec.Struct, gc=False):
    """Members of an event that many do not have, as they were sent."""

    process_id: msgspec.Raw | UnsetType = UNSET
    sequence: msgspec.Raw | UnsetType = UNSET
    set: msgspec.Raw | UnsetType = UNSET
    set_once: msgspec.Raw | UnsetType = UNSET
    unset: msgspec.Raw | UnsetType = UNSET
    extra: dict[str, msgspec.Raw] = {}


_NO_OTHERS: Final = _Others()


def read(text: Text, call: Call) -> Reading:
    """Read a body as far as the gate needs it.

    Raises:
        InvalidJson, EventRefused, BatchTooLarge.
    """
    document, text = parse(text, most=call.limits.max_batch)
    try:
        return _read(document, text, call)
    except RecursionError:  # some calls further down than `parse`, which could just read it
        raise EventRefused(DropReason.TOO_DEEP) from None


def _read(document: Document, text: Text, call: Call) -> Reading:
    reading = Reading(origin=_origin_of(call.path.path))
    is_short = len(text) <= SHORT
    if isinstance(document, list):
        sent = _cut(reading, document, is_short=is_short)
    elif "batch" in document:
        _take_tokens(reading.tokens, document, is_short=is_short)
        noted = {
            name: document[name]
            for name in _BATCH_FIELDS
            if name in document and _is_plain(document[name])
        }
        if noted:
            reading.origin = replace(reading.origin, **noted)
            reading.sent_at = _value(noted.get("sent_at"))
        try:
            events = elements(document["batch"], most=call.limits.max_batch)
        except msgspec.ValidationError:
            raise InvalidJson("`batch` must be a list of events") from None
        reading.lost = read_lost(document.get("lost"))
        sent = _cut(reading, events, is_short=is_short)
    else:
        sent = [_unread(reading, document, text, is_short=is_short)]
    reading.count, limit_bytes = len(sent), call.limits.max_event_bytes
    reading.events = map(_look_into, sent, repeat(limit_bytes), repeat(reading.origin))
    return reading


@lru_cache(maxsize=64)
def _origin_of(route: str) -> Origin:
    return Origin(route=route)


def _cut(reading: Reading, events: list[msgspec.Raw], *, is_short: bool) -> list[_Sent]:
    """Cut each event of a batch into its members."""
    sent: list[_Sent] = []
    cut = short_members if is_short else members
    for raw in events:
        try:
            fields = cut(raw)
        except msgspec.DecodeError:
            sent.append(Dropped(DropReason.INVALID_EVENT))
        except TooManyMembers:
            sent.append(Dropped(DropReason.EVENT_TOO_LARGE))
        else:
            text = bytes(raw) if is_short else memoryview(raw)
            sent.append(_unread(reading, fields, text, is_short=is_short))
    return sent


def _unread(
    reading: Reading, fields: dict[str, msgspec.Raw], text: Text | memoryview, *, is_short: bool
) -> Unread:
    _take_tokens(reading.tokens, fields, is_short=is_short)
    properties = fields.get("properties")
    if properties is not None and (is_short or _size(properties) <= WINDOW):
        try:
            token = _INNER.decode(properties).token
            if token is not _NONE and _size(token) <= _LONGEST_TOKEN_BYTES:
                value = _ANY.decode(token)
                if isinstance(value, str):
                    reading.inner_tokens.append(value)
        except msgspec.DecodeError:
            pass  # no object, or the token is none
    return Unread(text, fields)


def _look_into(event: _Sent, max_event_bytes: int, origin: Origin) -> ProductEvent | Dropped:
    """Decode one event, unless it is refused for what can be measured without."""
    if isinstance(event, Dropped):
        return event
    size = len(event.text)
    if size > max_event_bytes:
        return _refusable(event, origin, size_bytes=size, depth=1)
    sent = bytes(event.text)
    if size > MAX_VALUES and has_too_many_values(sent):
        return Dropped(DropReason.EVENT_TOO_LARGE, _client_id(event))
    depth = nesting(sent)
    if depth > MAX_DEPTH:
        return _refusable(event, origin, size_bytes=size, depth=depth)
    return _read_event(event.fields, origin, size_bytes=size, depth=depth)


def _read_event(
    fields: dict[str, msgspec.Raw], origin: Origin, *, size_bytes: int, depth: int
) -> ProductEvent | Dropped:
    client_id: str | None = None
    try:
        uuid = fields.pop("uuid", None)
        client_id = _id(uuid) or None
        if client_id is None and _value(uuid) not in (None, ""):
            return Dropped(DropReason.INVALID_EVENT)
        raw_properties = fields.pop("properties", None)
        properties = _members(_value(raw_properties))
        sent_name = _value(fields.pop("event", None))
        distinct_id = _id(fields.pop("distinct_id", None))
        timestamp = _timestamp(fields.pop("timestamp")) if "timestamp" in fields else None
        others = _others(fields) if fields else _NO_OTHERS
    except (msgspec.DecodeError, TypeError):
        return Dropped(DropReason.INVALID_EVENT, client_id)

    if distinct_id is None and "distinct_id" in properties:
        distinct_id = _plain_id(properties["distinct_id"])
    name = sent_name if isinstance(sent_name, str) else None
    page, library = properties.get("$current_url"), properties.get("$lib")
    return ProductEvent(
        payload=_NO_PROPERTIES if raw_properties is None else bytes(raw_properties),
        client_id=client_id,
        name=name,
        distinct_id=distinct_id,
        anonymous_id=_joined(name, properties, distinct_id) if name in _JOINS else None,
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


def _joined(name: str | None, properties: Mapping[str, Any], distinct_id: str | None) -> str | None:
    """Return the id by which the person of an event that joins two ids went before."""
    for place in _JOINS[name]:
        found = _plain_id(properties.get(place))
        if found and found != distinct_id:
            return found
    return None


def _refusable(event: Unread, origin: Origin, *, size_bytes: int, depth: int) -> ProductEvent:
    """An event of which only its measures and its id are known: a step of admission drops it."""
    return ProductEvent(
        payload=_NO_PROPERTIES,
        client_id=_client_id(event),
        record=Product(distinct_id="", event="", request=origin),
        size_bytes=size_bytes,
        depth=depth,
    )


def _client_id(event: Unread) -> str | None:
    uuid = event.fields.get("uuid")
    if uuid is None or _size(uuid) > _LONGEST_TOKEN_BYTES:
        return None
    try:
        return _id(uuid) or None
    except msgspec.DecodeError:
        return None


def _size(raw: msgspec.Raw) -> int:
    return len(memoryview(raw))


def _take_tokens(tokens: list[str], fields: dict[str, msgspec.Raw], *, is_short: bool) -> None:
    if _TOKEN_FIELDS.isdisjoint(fields):
        return
    for name in _TOKEN_FIELDS:
        raw = fields.pop(name, None)
        if raw is not None:
            # Of another type or empty, it names no project; it is still a token that was sent.
            sent = bytes(raw if is_short else memoryview(raw)[:_LONGEST_TOKEN_BYTES])
            try:
                value = _ANY.decode(sent)
            except msgspec.DecodeError:  # cut off, or a number that is none
                value = sent
            if value is not None:
                tokens.append(value if isinstance(value, str) else sent.decode(errors="replace"))


def _value(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else _ANY.decode(raw)


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
        return _ANY.decode(raw)
    except msgspec.DecodeError:
        return bytes(raw).decode()


def _id(raw: msgspec.Raw | None) -> str | None:
    """An id as text: a string, or the digits of a number as they were sent; else None."""
    if raw is None:
        return None
    value = _ANY.decode(raw)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bytes(raw).decode()
    return None


def _plain_id(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return msgspec.json.encode(value).decode()
    return None


def _others(fields: Mapping[str, msgspec.Raw]) -> _Others:
    """Read what is left of the event.

    Raises:
        TypeError, msgspec.DecodeError: one of them has the wrong type or cannot be read.
    """
    others = _Others()
    for name, raw in fields.items():
        value = _ANY.decode(raw)
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


def _is_plain(raw: msgspec.Raw) -> bool:
    """Whether it is a value short enough to be noted with each event of the request."""
    if _size(raw) > _LONGEST_FIELD_BYTES:
        return False
    try:
        return not isinstance(_ANY.decode(raw), dict | list)
    except msgspec.DecodeError:
        return False


def tokens(reading: Reading, request: Request) -> list[str]:
    """The tokens that decide, in the order of their places: body and events, query, properties."""
    query = [request.query[name] for name in _QUERY_TOKENS if name in request.query]
    return [*reading.tokens, *query] or list(reading.inner_tokens)


_PATHS: Final = (Path("/api/e", ("POST", "GET"), crawlers="discard"),)
_ANSWER: Final = partial(answer_product, crawler_status=204)
DIALECT: Final = Dialect(Lane.PRODUCT, _PATHS, read, tokens, _ANSWER, schema)
