"""The vocabulary: what an event is called, on the client as on the server.

The life of an event, in the only words used for it: *received*, then *admitted* or *dropped* (with
a reason), *stored* (it has an index and survives power loss), answered, *sealed*, *witnessed*.

Transaction ids are ``tx_`` followed by the 32 hex digits of a UUIDv7 (RFC 9562 section 5.7). The
server makes them in log order, so that within one project a greater index always has a greater
transaction id:

>>> tx = bytes.fromhex("019a9f3c7e0a7000a1b2c3d4e5f60718")
>>> tx_text(tx)
'tx_019a9f3c7e0a7000a1b2c3d4e5f60718'
>>> tx_bytes(tx_text(tx)) == tx
True
>>> tx_time_ms(tx)
1763608133130
>>> tx_uuid(tx)
'019a9f3c-7e0a-7000-a1b2-c3d4e5f60718'
"""

import re
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

MAX_TRAIL_CHARS: Final = 256
MAX_COUNT: Final = 2**53 - 1
"""The largest integer that every reader of JSON keeps as it is."""
_TX_TEXT: Final = re.compile(r"tx_[0-9a-f]{32}")
_PROCESS_ID: Final = re.compile(r"[0-9a-f]{32}")


class Kind(IntEnum):
    """What sort of fact an entry of the log is. The number is byte 1 of its leaf, for ever."""

    PRODUCT = 1
    AUDIT = 2
    ERASURE = 3
    ADMINISTRATION = 4
    LOSS = 5

    @property
    def word(self) -> str:
        """The kind as it is written in JSON and on screen: ``product``, ``audit``, …"""
        return self.name.lower()


class LogId(NamedTuple):
    """Which log: that of a project, or one of its shards.

    A project has one log today, shard 0. Its origin, key, folder and index are those of this value,
    so that a project can outgrow one log without a new format.
    """

    project_id: int
    shard: int = 0


class Lane(StrEnum):
    """A name space of client ids, with a monthly limit of its own.

    An id in one lane never meets the same id in the other, and neither uses up the other's month:
    whoever holds the public project token can neither pre-empt an audit event nor keep it out.
    """

    PRODUCT = "product"
    AUDIT = "audit"


class Level(StrEnum):
    """What an event becomes once it is stored, in this order.

    Sealed: a signed checkpoint covers it. Witnessed: that checkpoint has the cosignatures that the
    policy asks for.
    """

    SEALED = "sealed"
    WITNESSED = "witnessed"


class DropReason(StrEnum):
    """Why an event of a product batch was let go. Public and closed: each is a counter."""

    INVALID_EVENT = "invalid_event"
    MISSING_EVENT = "missing_event"
    MISSING_DISTINCT_ID = "missing_distinct_id"
    NAME_TOO_LONG = "name_too_long"
    ID_TOO_LONG = "id_too_long"
    EVENT_TOO_LARGE = "event_too_large"
    TOO_DEEP = "too_deep"
    INVALID_TIMESTAMP = "invalid_timestamp"
    BOT = "bot"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"

    @property
    def meaning(self) -> str:
        """One sentence for a person who reads the reason in an answer or on a page."""
        return _DROP_MEANINGS[self]


_DROP_MEANINGS: Final = {
    DropReason.INVALID_EVENT: "The event is not an object, or its properties, uuid, $set, "
    "$set_once or $unset have the wrong type or hold a number out of range.",
    DropReason.MISSING_EVENT: "`event` is missing, empty, or not a string.",
    DropReason.MISSING_DISTINCT_ID: "`distinct_id` is missing, or neither a string nor a number.",
    DropReason.NAME_TOO_LONG: "The event name has more than 200 characters.",
    DropReason.ID_TOO_LONG: "`distinct_id` has more than 200 characters, or `uuid` more than 255.",
    DropReason.EVENT_TOO_LARGE: "The event is longer than the server's limit (1 MiB unless set), "
    "or has more than 1,000 members or property keys, or more than 50,000 values.",
    DropReason.TOO_DEEP: "Objects and lists are nested more than 32 deep.",
    DropReason.INVALID_TIMESTAMP: "No longer given: an event whose `timestamp` cannot be read is "
    "stored with the warning `unreadable_timestamp`.",
    DropReason.BOT: "The User-Agent is a known crawler's, a browser sent the event, and the "
    "project discards those.",
    DropReason.QUOTA: "The project's product events for this calendar month (UTC) are used up.",
    DropReason.RATE_LIMITED: "The token has sent as many events as its rate allows. With result "
    "`retry` it may be sent again; with `drop` the sender is not known to do so.",
}


class WarnReason(StrEnum):
    """What was noticed about an event that was stored all the same. Public and closed."""

    ILLEGAL_DISTINCT_ID = "illegal_distinct_id"
    UUID_CONFLICT = "uuid_conflict"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    FUTURE_TIMESTAMP = "future_timestamp"
    UNREADABLE_TIMESTAMP = "unreadable_timestamp"
    BOT = "bot"
    MERGE_REFUSED = "merge_refused"

    @property
    def meaning(self) -> str:
        """One sentence for a person who reads the reason in an answer or on a page."""
        return _WARN_MEANINGS[self]


_WARN_MEANINGS: Final = {
    WarnReason.ILLEGAL_DISTINCT_ID: "`distinct_id` is a placeholder such as `null` or `guest`: the "
    "event is kept, and never joined to a person.",
    WarnReason.UUID_CONFLICT: "An event with this uuid and other content was stored before; the "
    "first copy stays and this one was not stored.",
    WarnReason.IDEMPOTENCY_CONFLICT: "The Idempotency-Key, a clock reading, was used before for "
    "another event; this event was stored as an entry of its own.",
    WarnReason.FUTURE_TIMESTAMP: "`timestamp` is more than 23 hours ahead of the server's clock.",
    WarnReason.UNREADABLE_TIMESTAMP: "`timestamp` is in no form that can be read: the time of "
    "receipt counts, and the record keeps `timestamp` as it was sent.",
    WarnReason.BOT: "The User-Agent is a known crawler's; the event is stored with `$bot`.",
    WarnReason.MERGE_REFUSED: "The event joins two ids, and one of them is a placeholder such as "
    "`null` or `guest`: the event is kept, and nothing is joined.",
}


REFUSED_IDS: Final = frozenset(
    {
        "",
        "0",
        "00000000-0000-0000-0000-000000000000",
        "[object object]",
        "[]",
        "anonymous",
        "anonymous-user",
        "backend",
        "distinct_id",
        "distinctid",
        "email",
        "false",
        "guest",
        "id",
        "nan",
        "none",
        "not_authenticated",
        "null",
        "system",
        "true",
        "undefined",
        "user",
    }
)
"""What broken or anonymous clients send in place of an id, in lower case."""


def is_refused_id(distinct_id: str) -> bool:
    """Whether `distinct_id` is a placeholder: its events belong to no person.

    >>> is_refused_id(" Guest"), is_refused_id("guest-7")
    (True, False)
    """
    return distinct_id.strip().lower() in REFUSED_IDS


class LossReason(StrEnum):
    """Why an event never left its sender. Public and closed; the sender counts and reports it."""

    QUEUE_FULL = "queue_full"
    QUEUE_BYTES = "queue_bytes"
    ENCODE_FAILED = "encode_failed"
    TOO_LARGE = "too_large"
    BEFORE_SEND = "before_send"
    EXPIRED = "expired"
    REFUSED = "refused"
    SPOOL_FAILED = "spool_failed"
    AFTER_SHUTDOWN = "after_shutdown"
    EXIT = "exit"
    DISABLED = "disabled"

    @property
    def meaning(self) -> str:
        """One sentence for a person who reads the reason in an account or on a page."""
        return _LOSS_MEANINGS[self]


_LOSS_MEANINGS: Final = {
    LossReason.QUEUE_FULL: "As many events as may wait in memory were waiting (`max_queued`).",
    LossReason.QUEUE_BYTES: "As many bytes as may wait in memory were waiting "
    "(`max_queued_bytes`).",
    LossReason.ENCODE_FAILED: "The call's arguments had the wrong types.",
    LossReason.TOO_LARGE: "The server finds even this one event too large.",
    LossReason.BEFORE_SEND: "`before_send` returned None, raised, or captured an event itself.",
    LossReason.EXPIRED: "It could not be delivered for `max_age_s`.",
    LossReason.REFUSED: "The server will never take it; `on_error` was told why.",
    LossReason.SPOOL_FAILED: "The spool, which was to keep it, could not be written or read.",
    LossReason.AFTER_SHUTDOWN: "It was captured after `shutdown()`.",
    LossReason.EXIT: "The process ended before it could be delivered.",
    LossReason.DISABLED: "The client is disabled, or has no key or host.",
}


def clean_trail(text: str) -> str:
    """The business key that groups events, as every client cleans it: nothing is refused.

    >>> clean_trail("  order:2026-00441 ")
    'order-2026-00441'
    """
    return text.strip().replace(":", "-")[:MAX_TRAIL_CHARS].rstrip()


def is_process_id(value: object) -> bool:
    """Whether `value` names one run of one process: 32 lower-case hex digits."""
    return isinstance(value, str) and _PROCESS_ID.fullmatch(value) is not None


def is_sequence(value: object) -> bool:
    """Whether `value` numbers a capture of a process: an integer from 0.

    >>> is_sequence(0), is_sequence(True), is_sequence(1.0), is_sequence(2**53)
    (True, False, False, False)
    """
    return type(value) is int and 0 <= value <= MAX_COUNT


def tx_text(tx: bytes) -> str:
    """The transaction id as users see it; `tx` is 16 bytes."""
    return "tx_" + tx.hex()


def tx_bytes(text: str) -> bytes | None:
    """The 16 bytes of a transaction id, or None when `text` is not one."""
    return bytes.fromhex(text[3:]) if _TX_TEXT.fullmatch(text) else None


def tx_time_ms(tx: bytes) -> int:
    """When the event was stored: milliseconds since the epoch, from the UUIDv7's first 48 bits."""
    return int.from_bytes(tx[:6], "big")


def tx_uuid(tx: bytes) -> str:
    """The transaction id written as a UUID.

    It stands in for the event's own id where the client sent none.
    """
    text = tx.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
