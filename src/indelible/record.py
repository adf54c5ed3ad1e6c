r"""The stored record, to the byte: its writer and its readers. Pure.

An entry of the log has a payload, the bytes that were sent, and a record: whatever else is known of
it, serialised once as JSON with sorted keys, without spaces, and never changed afterwards. The leaf
commits to these bytes, so they are never serialised again; a reader takes what it needs from them.
docs/reference/formats.md describes both for a stranger.

    Product         what a product event says besides its properties
    Audit           the meta of an audit event, and its key
    Loss            whose report of losses the payload is
    Erasure         only its name; the payload lists what was erased
    Administration  only its name; the payload says what was changed

**Versions.** These forms are version 1. They may gain members, which an older reader skips; no
member is removed, renamed or given another meaning. A form that breaks this rule has a member ``v``
with its number. None of these has one and no sender can add one, for what a sender adds is under
``$extra``. A reader refuses a number that it does not know.

>>> encode_record(Administration("key_revoked"))
b'{"event":"key_revoked"}'
>>> meta = {"type": "info", "service": "shop"}
>>> encode_record(Audit(meta, Origin(request_id="r-1"), idempotency_key="k-1")).decode()
'{"idempotency_key":"k-1","meta":{"service":"shop","type":"info"},"request":{"request_id":"r-1"}}'
>>> member_reader(frozenset({"event"}))([b'{"distinct_id":"u1","event":"viewed"}', None])
[{'event': 'viewed'}, None]
>>> says_the_same(b'{"event":"a","request":{}}', b'{"event":"a","request":{"route":"/batch"}}')
True
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypedDict, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from indelible.errors import UnknownVersion
from indelible.event import MAX_COUNT

VERSION: Final = 1
MAX_REASONS: Final = 32
"""Most reasons of one report of losses."""

Sent = Any
"""A value as the sender wrote it: `msgspec.Raw` in writing, JSON in reading, UNSET if absent."""

MemberReader = Callable[[Sequence[bytes | None]], list[dict[str, Any] | None]]
"""See `member_reader`."""

JOINS: Final[Mapping[str | None, tuple[str, ...]]] = {
    "$identify": ("$anon_distinct_id", "anonymous_id", "anonymousId", "$device_id"),
    "$create_alias": ("alias",),
    "$alias": ("alias",),
}
"""The product events that join two ids, and the properties where each may have the second one."""

_COMPARED_BYTES: Final = 65_536


# The members of each struct stand in the order in which they are written: sorting then is free.
class Origin(Struct, frozen=True, omit_defaults=True, gc=False):
    """The member `request`: how the event came in. It takes no part in comparisons.

    Attributes:
        bot: true if the User-Agent is a crawler's.
        historical_migration, sent_at: as the body had them, of any type.
        request_id: of the request that brought an audit event.
        route: the path that a product event came by.
        warnings: what was noticed about it.
    """

    bot: bool | UnsetType = field(default=UNSET, name="$bot")
    historical_migration: Sent = UNSET
    request_id: str | UnsetType = UNSET
    route: str | UnsetType = UNSET
    sent_at: Sent = UNSET
    warnings: tuple[str, ...] = ()


class Product(Struct, frozen=True, gc=False, kw_only=True):
    """The record of a product event; its payload is the value of `properties`, ``{}`` if absent.

    Attributes:
        extra: the event's members that have no meaning here.
        set, set_once, unset: what to write of the person, and what to remove.
        distinct_id, event: text; a `distinct_id` sent as a number is its digits.
        process_id, sequence: which capture of which process it is.
        timestamp: the client's time, in whatever form.
        uuid: the client's own id of the event.
    """

    extra: Sent = field(default=UNSET, name="$extra")
    set: Sent = field(default=UNSET, name="$set")
    set_once: Sent = field(default=UNSET, name="$set_once")
    unset: Sent = field(default=UNSET, name="$unset")
    distinct_id: str
    event: str
    process_id: Sent = UNSET
    request: Origin
    sequence: Sent = UNSET
    timestamp: Sent = UNSET
    uuid: str | UnsetType = UNSET


class Audit(Struct, frozen=True, gc=False):
    """The record of an audit event; its payload is the UTF-8 form of `payload`.

    Attributes:
        meta: text by name, checked, with a `type` and a clean `immutable_trail`.
        request: has the `request_id`.
        extra: the event's members that have no meaning here.
    """

    meta: Mapping[str, str]
    request: Origin
    extra: Sent = field(default=UNSET, name="$extra")
    idempotency_key: str | UnsetType = UNSET


class Loss(Struct, frozen=True, gc=False):
    """The record of a report of losses; its payload is a `LossReport` as sent."""

    lane: str
    request: Origin
    uuid: str
    event: str = "loss"


class Erasure(Struct, frozen=True, gc=False):
    """The record of an erasure; see `indelible.journal.erasing` for the payload."""

    event: str = "erasure"


class Administration(Struct, frozen=True, gc=False):
    """The record of a change of keys, projects or logs; the payload has the facts."""

    event: str


Record = Product | Audit | Loss | Erasure | Administration

# \Z: a pattern's `$` would let a line feed pass behind the last character.
_UUID: Final = r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z"


class LossReport(Struct, frozen=True):
    """The payload of a report of losses. Members that are not listed are kept, and skipped."""

    uuid: Annotated[str, Meta(pattern=_UUID, max_length=36)]
    process_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    counts: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}\Z")],
            Annotated[int, Meta(ge=1, le=MAX_COUNT)],
        ],
        Meta(min_length=1, max_length=MAX_REASONS),
    ]
    captured: Annotated[int, Meta(ge=0, le=MAX_COUNT)] = 0


class Capture(Struct, gc=False):
    """The members of a record that say whose it is; the rest is skipped."""

    process_id: Any = None
    sequence: Any = None
    meta: Any = None
    lane: Any = None
    v: Literal[1] = VERSION


class NamedMeta(Struct, gc=False):
    """The members of `meta` that say what an audit event is called."""

    event_name: str | None = None
    type: str | None = None


class Named(Struct, gc=False):
    """The members of a record that say what the event is called; the rest is skipped."""

    event: str | None = None
    meta: NamedMeta | None = None
    v: Literal[1] = VERSION

    @property
    def of_audit(self) -> str:
        """What an audit event is called: its `event_name`, else its `type`."""
        meta = self.meta
        if meta is None:
            return ""
        return meta.event_name or meta.type or ""


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CAPTURES: Final = msgspec.json.Decoder(list[Capture | None])
_NAMES: Final = msgspec.json.Decoder(list[Named | None])
_REPORT: Final = msgspec.json.Decoder(LossReport)


def encode_record(record: Record) -> bytes:
    """Serialise a record, once, as it is stored."""
    return _ENCODER.encode(record)


def record_members(record: bytes) -> dict[str, Any]:
    """Return all members of a stored record by name, those of later versions included.

    Raises:
        UnknownVersion: it has a form that is not known here.
    """
    found: dict[str, Any] = msgspec.json.decode(record)
    if found.get("v", VERSION) != VERSION:
        raise UnknownVersion(_UNKNOWN)
    return found


@lru_cache(maxsize=64)
def member_reader(names: frozenset[str]) -> MemberReader:
    """Return what reads the members of these names from a run of records, and skips the rest.

    It returns None for an event that has been erased, and raises UnknownVersion if a record has a
    form that is not known here.
    """
    members = dict.fromkeys(names, Any) | {"v": Literal[1]}
    described: Any = cast("Any", TypedDict)("Members", members, total=False)
    decoder: msgspec.json.Decoder[list[dict[str, Any] | None]] = msgspec.json.Decoder(
        list[described | None]
    )

    def read(records: Sequence[bytes | None]) -> list[dict[str, Any] | None]:
        run = b"[%b]" % b",".join([record or b"null" for record in records])
        try:
            return decoder.decode(run)
        except msgspec.ValidationError:
            raise UnknownVersion(_UNKNOWN) from None

    return read


def captures(text: bytes) -> list[Capture | None]:
    """Read a run of records, a list in JSON, to count captures; None for an erased event.

    Raises:
        UnknownVersion: one has a form that is not known here.
    """
    try:
        return _CAPTURES.decode(text)
    except msgspec.ValidationError:
        raise UnknownVersion(_UNKNOWN) from None


def names(text: bytes) -> list[Named | None]:
    """Read a run of records, a list in JSON, for what their events are called; None for an erased
    event.

    Raises:
        UnknownVersion: one has a form that is not known here.
    """
    try:
        return _NAMES.decode(text)
    except msgspec.ValidationError:
        raise UnknownVersion(_UNKNOWN) from None


_UNKNOWN: Final = "A record of the log has a form that is not known here"


def loss_report(payload: bytes) -> LossReport:
    """Read the payload of a stored report of losses."""
    return _REPORT.decode(payload)


def plain_id(value: object) -> str | None:
    """An id in a property as text: a string, or a number written out; else None.

    >>> plain_id("u1"), plain_id(17), plain_id(True)
    ('u1', '17', None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return msgspec.json.encode(value).decode()
    return None


def joined_id(
    event: str | None, property_at: Callable[[str], object], distinct_id: str | None
) -> str | None:
    """Return the id that an event of `JOINS` joins to its `distinct_id`, if it has another one.

    >>> joined_id("$identify", {"$device_id": "d1"}.get, "u1")
    'd1'
    """
    for place in JOINS[event]:
        found = plain_id(property_at(place))
        if found and found != distinct_id:
            return found
    return None


def says_the_same(stored: bytes, sent: bytes) -> bool:
    """Compare two records but for what a client renews for each attempt.

    A long one says the same only if its members are equal to the byte. Comparing values builds all
    of them, 30 ms for a record of a megabyte, while the group and all that wait for it stand still.
    """
    if _parts(stored) == _parts(sent):
        return True
    return max(len(stored), len(sent)) <= _COMPARED_BYTES and comparable(stored) == comparable(sent)


def comparable(record: bytes) -> bytes:
    """Return a record without what clients renew for each attempt: `request`, `meta.request_id`.

    Our own client also numbers its calls, so one event that an application sends twice, under one
    key, comes with two numbers.
    """
    fields = msgspec.json.decode(record)
    fields.pop("request", None)
    meta = fields.get("meta", {})
    for name in ("request_id", "process_id", "sequence"):
        meta.pop(name, None)
    return _ENCODER.encode(fields)


def _parts(record: bytes) -> dict[str, bytes]:
    """The members of a record as they were written, without those that `comparable` leaves out."""
    fields = {name: bytes(raw) for name, raw in _MEMBERS.decode(record).items()}
    fields.pop("request", None)
    if "meta" in fields:
        fields["meta"] = comparable(b'{"meta":%b}' % fields["meta"])
    return fields
