"""vTilt's dialect: what a body of ``POST /api/e`` means. PostHog's v0 bodies are the same shapes.

    {"api_key", "event", "distinct_id", "properties"}     one event
    {"api_key", "batch": [...], "sent_at"?, "lost"?, …}   a batch; `token` will do for `api_key`
    [...]                                                 a batch; the token in each event

Optional in an event: `uuid`, `timestamp`, `$set`, `$set_once`, `$unset`, `process_id`, `sequence`.
Unknown members are kept in the record under `$extra`, and so are the last two where they are not
what they should be. PHP writes an empty object as an empty list: in `properties`, `$set` and
`$set_once` it is read as one, and stored as sent. Reading never fails for one bad event: it becomes
a `Dropped`.

`read` finds the tokens and cuts the body into events; only after the gate has opened does
`look_into` decode each of them, and only if it is not too long.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from indelible.edge.admission import Dropped
from indelible.edge.arrival import Sighting
from indelible.edge.lost import Lost, read_lost
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
    short_members,
)
from indelible.errors import InvalidJson
from indelible.event import DropReason, is_process_id, is_sequence

_ANY: Final = msgspec.json.Decoder()

# No token is as long, and none of the members that describe a request.
_LONGEST_TOKEN_BYTES: Final = 1_024
_LONGEST_FIELD_BYTES: Final = 256

_TOKEN_FIELDS: Final = frozenset({"api_key", "token", "$token"})
_BATCH_FIELDS: Final = ("sent_at", "historical_migration")
_OBJECTS: Final = ("$set", "$set_once")
_PLACE: Final[Mapping[str, Callable[[object], bool]]] = {
    "process_id": is_process_id,
    "sequence": is_sequence,
}
_NO_PROPERTIES: Final = b"{}"


_NONE: Final = msgspec.Raw(b"null")


class _Inner(msgspec.Struct, gc=False):
    """What is looked for in properties before they are decoded; msgspec skips the rest."""

    token: msgspec.Raw = _NONE


_INNER: Final = msgspec.json.Decoder(_Inner)


class Unread(msgspec.Struct, gc=False):
    """An event cut out of a body and not yet looked into: `fields` without its tokens."""

    text: Text | memoryview
    fields: dict[str, msgspec.Raw]


class Reading(msgspec.Struct):
    """A body, read as far as the gate needs it.

    Attributes:
        tokens: every project token found in `api_key` and `token`, of the body and of its events.
        inner_tokens: those in `properties.token`: they count where there is no other, since a
            property of that name may be anything.
        request: members of the body that describe the request: `sent_at`, `historical_migration`.
        events: one for each event sent, in order.
        lost: what the sender reports beside them.
    """

    tokens: list[str] = []
    inner_tokens: list[str] = []
    request: dict[str, msgspec.Raw] = {}
    events: list[Unread | Dropped] = []
    lost: Lost = None


def read(document: Document, text: Text, *, max_batch: int) -> Reading:
    """Read a body; `document` is `text` decoded.

    Raises:
        InvalidJson: `batch` is no list.
        BatchTooLarge.
    """
    reading = Reading()
    is_short = len(text) <= SHORT
    if isinstance(document, list):
        _read_events(reading, document, is_short=is_short)
    elif "batch" in document:
        _take_tokens(reading.tokens, document, is_short=is_short)
        for name in _BATCH_FIELDS:
            if name in document and _is_plain(document[name]):
                reading.request[name] = document[name]
        try:
            events = elements(document["batch"], most=max_batch)
        except msgspec.ValidationError:
            raise InvalidJson("`batch` must be a list of events") from None
        reading.lost = read_lost(document.get("lost"))
        _read_events(reading, events, is_short=is_short)
    else:
        reading.events.append(_unread(reading, document, text, is_short=is_short))
    return reading


def _read_events(reading: Reading, events: list[msgspec.Raw], *, is_short: bool) -> None:
    cut = short_members if is_short else members
    for raw in events:
        try:
            fields = cut(raw)
        except msgspec.DecodeError:
            reading.events.append(Dropped(DropReason.INVALID_EVENT))
        except TooManyMembers:
            reading.events.append(Dropped(DropReason.EVENT_TOO_LARGE))
        else:
            text = bytes(raw) if is_short else memoryview(raw)
            reading.events.append(_unread(reading, fields, text, is_short=is_short))


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


def look_into(event: Unread | Dropped, *, max_event_bytes: int) -> Sighting | Dropped:
    """Decode one event, unless it is refused for what can be measured without."""
    if isinstance(event, Dropped):
        return event
    size = len(event.text)
    if size > max_event_bytes:
        return _refusable(event, size_bytes=size, depth=1)
    sent = bytes(event.text)
    if size > MAX_VALUES and has_too_many_values(sent):
        return Dropped(DropReason.EVENT_TOO_LARGE, _client_id(event))
    depth = nesting(sent)
    if depth > MAX_DEPTH:
        return _refusable(event, size_bytes=size, depth=depth)
    return _read_event(event.fields, size_bytes=size, depth=depth)


def _read_event(
    fields: dict[str, msgspec.Raw], *, size_bytes: int, depth: int
) -> Sighting | Dropped:
    client_id: str | None = None
    try:
        uuid = fields.pop("uuid", None)
        client_id = _id(uuid) or None
        if client_id is None and _value(uuid) not in (None, ""):
            return Dropped(DropReason.INVALID_EVENT)
        raw_properties = fields.pop("properties", None)
        properties = _members(_value(raw_properties))
        name = _value(fields.pop("event", None))
        distinct_id = _id(fields.pop("distinct_id", None))
        timestamp = _timestamp(fields.pop("timestamp")) if "timestamp" in fields else None
        rest = _rest(fields) if fields else {}
    except (msgspec.DecodeError, TypeError):
        return Dropped(DropReason.INVALID_EVENT, client_id)

    if distinct_id is None and "distinct_id" in properties:
        distinct_id = _plain_id(properties["distinct_id"])
    return Sighting(
        size_bytes=size_bytes,
        depth=depth,
        name=name if isinstance(name, str) else None,
        distinct_id=distinct_id,
        client_id=client_id,
        properties=_NO_PROPERTIES if raw_properties is None else bytes(raw_properties),
        property_count=len(properties),
        timestamp=timestamp,
        rest=rest,
    )


def _refusable(event: Unread, *, size_bytes: int, depth: int) -> Sighting:
    """An event of which only its measures and its id are known: a step of admission drops it."""
    return Sighting(
        size_bytes=size_bytes,
        depth=depth,
        name=None,
        distinct_id=None,
        client_id=_client_id(event),
        properties=_NO_PROPERTIES,
        property_count=0,
        timestamp=None,
        rest={},
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


def _rest(fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    """The members of the record that come from `fields`, what is left of the event.

    Raises:
        TypeError, msgspec.DecodeError: one of them has the wrong type or cannot be read.
    """
    rest: dict[str, object] = {}
    extra: dict[str, msgspec.Raw] = {}
    for name, raw in fields.items():
        value = _ANY.decode(raw)
        if name in _PLACE and _PLACE[name](value):
            rest[name] = raw
        elif name not in (*_OBJECTS, "$unset"):
            extra[name] = raw
        elif value is not None:
            wanted = dict if name in _OBJECTS else list
            if not isinstance(value, wanted) and value not in ([], {}):  # PHP has one for both
                raise TypeError
            rest[name.removeprefix("$")] = raw
    if extra:
        rest["extra"] = extra
    return rest


def _is_plain(raw: msgspec.Raw) -> bool:
    """Whether it is a value short enough to be noted with each event of the request."""
    if _size(raw) > _LONGEST_FIELD_BYTES:
        return False
    try:
        return not isinstance(_ANY.decode(raw), dict | list)
    except msgspec.DecodeError:
        return False


def tokens_of(reading: Reading, query: Iterable[str]) -> list[str]:
    """The tokens that decide, in the order of their places: body and events, query, properties."""
    return [*reading.tokens, *query] or reading.inner_tokens
