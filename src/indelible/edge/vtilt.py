"""vTilt's dialect: what a body of ``POST /api/e`` means. PostHog's v0 bodies are the same shapes.

    {"api_key", "event", "distinct_id", "properties"}     one event
    {"api_key", "batch": [...], "sent_at"?, "lost"?, …}   a batch; `token` will do for `api_key`
    [...]                                                 a batch; the token in each event

Optional in an event: `uuid`, `timestamp`, `$set`, `$set_once`, `$unset`, `process_id`, `sequence`.
Unknown members are kept in the record under `$extra`, and so are the last two where they are not
what they should be. PHP writes an empty object as an empty list: in `properties`, `$set` and
`$set_once` it is read as one, and stored as sent. Reading never fails for one bad event: it becomes
a `Dropped`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from indelible.edge.admission import Dropped
from indelible.edge.arrival import Sighting
from indelible.edge.body import Document, nesting
from indelible.edge.lost import Lost, read_lost
from indelible.errors import BatchTooLarge, InvalidJson
from indelible.event import DropReason, is_process_id, is_sequence

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()

_TOKEN_FIELDS: Final = ("api_key", "token", "$token")
_BATCH_FIELDS: Final = ("sent_at", "historical_migration")
_OBJECTS: Final = ("$set", "$set_once")
_PLACE: Final[Mapping[str, Callable[[object], bool]]] = {
    "process_id": is_process_id,
    "sequence": is_sequence,
}
_NO_PROPERTIES: Final = b"{}"


class Reading(msgspec.Struct):
    """A body, read.

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
    events: list[Sighting | Dropped] = []
    lost: Lost = None


def read(document: Document, text: bytes, *, max_batch: int) -> Reading:
    """Read a body; `document` is `text` decoded.

    Raises:
        InvalidJson: `batch` is no list.
        BatchTooLarge.
    """
    reading = Reading()
    if isinstance(document, list):
        _read_events(reading, document, max_batch=max_batch)
    elif "batch" in document:
        _take_tokens(reading.tokens, document)
        for name in _BATCH_FIELDS:
            if name in document and _is_plain(document[name]):
                reading.request[name] = document[name]
        try:
            events = _LIST.decode(document["batch"])
        except msgspec.ValidationError:
            raise InvalidJson("`batch` must be a list of events") from None
        reading.lost = read_lost(document.get("lost"))
        _read_events(reading, events, max_batch=max_batch)
    else:
        reading.events.append(_read_event(reading, document, text))
    return reading


def _read_events(reading: Reading, events: list[msgspec.Raw], *, max_batch: int) -> None:
    if len(events) > max_batch:
        raise BatchTooLarge(size=len(events), limit=max_batch)
    for raw in events:
        try:
            fields = _FIELDS.decode(raw)
        except msgspec.DecodeError:
            reading.events.append(Dropped(DropReason.INVALID_EVENT))
        else:
            reading.events.append(_read_event(reading, fields, raw))


def _read_event(
    reading: Reading, fields: dict[str, msgspec.Raw], text: bytes | msgspec.Raw
) -> Sighting | Dropped:
    _take_tokens(reading.tokens, fields)
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
        timestamp = _timestamp(fields.pop("timestamp", None))
        rest = _rest(fields)
    except (msgspec.DecodeError, TypeError):
        return Dropped(DropReason.INVALID_EVENT, client_id)

    inner_token = properties.get("token")
    if isinstance(inner_token, str):
        reading.inner_tokens.append(inner_token)
    if distinct_id is None and "distinct_id" in properties:
        distinct_id = _plain_id(properties["distinct_id"])
    sent = bytes(text)
    return Sighting(
        size_bytes=len(sent),
        depth=nesting(sent),
        name=name if isinstance(name, str) else None,
        distinct_id=distinct_id,
        client_id=client_id,
        properties=_NO_PROPERTIES if raw_properties is None else bytes(raw_properties),
        property_count=len(properties),
        timestamp=timestamp,
        rest=rest,
    )


def _take_tokens(tokens: list[str], fields: dict[str, msgspec.Raw]) -> None:
    for name in _TOKEN_FIELDS:
        raw = fields.pop(name, None)
        if raw is not None:
            # Of another type or empty, it names no project; it is still a token that was sent.
            try:
                value = _ANY.decode(raw)
            except msgspec.DecodeError:
                value = raw
            if value is not None:
                tokens.append(value if isinstance(value, str) else bytes(raw).decode())


def _value(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else _ANY.decode(raw)


def _members(value: object) -> dict[str, Any]:
    """What an object holds; null and an empty list are empty objects.

    Raises:
        TypeError: it is anything else.
    """
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise TypeError
    return value


def _timestamp(raw: msgspec.Raw | None) -> Any:
    """The client's time, or its text where it holds a number that no reader can (`1e999`)."""
    try:
        return _value(raw)
    except msgspec.DecodeError:
        return bytes(raw or b"").decode()


def _id(raw: msgspec.Raw | None) -> str | None:
    """An id as text: a string, or the digits of a number as they were sent; else None."""
    value = _value(raw)
    if isinstance(value, str):
        return value
    if raw is not None and isinstance(value, int | float) and not isinstance(value, bool):
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
            rest[name] = raw
    if extra:
        rest["$extra"] = extra
    return rest


def _is_plain(raw: msgspec.Raw) -> bool:
    try:
        return not isinstance(_ANY.decode(raw), dict | list)
    except msgspec.DecodeError:
        return False


def tokens_of(reading: Reading, query: Iterable[str]) -> list[str]:
    """The tokens that decide, in the order of their places: body and events, query, properties."""
    return [*reading.tokens, *query] or reading.inner_tokens
