"""What the steps of the edge hand to each other: a request's facts, and the items of its batch.

    bytes ──dialect──▶ ProductEvent │ AuditEvent │ Report ──admission──▶ the same, or Dropped
                       ──draft()──▶ Draft ──journal──▶ Outcome ──settle──▶ Kept or Dropped

An item says itself how it is stored. What the three have in common, `Received`, is what every later
part reads of an event, whatever dialect it came in.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET, Struct
from msgspec.structs import replace

from indelible.errors import IndelibleError
from indelible.event import Kind, Lane, Level, WarnReason, is_process_id
from indelible.journal.contract import Draft
from indelible.record import Audit, Origin, Product, encode_record
from indelible.registry.values import BotPolicy, Key, Project

# Members of an enumeration take their time to look up: 0.15 us each, in Python 3.11.
_PRODUCT: Final = Kind.PRODUCT
_AUDIT: Final = Kind.AUDIT
_PRODUCT_LANE: Final = Lane.PRODUCT
_AUDIT_LANE: Final = Lane.AUDIT


class Arrival(Struct, frozen=True, gc=False):
    """What is true of every event of one request.

    Attributes:
        project, key: which project it is for, and the token or key that it came with.
        lane: which of the project's lanes.
        received_at_ms: when the server had read it.
        sent_at_ms: when the client sent it, by its own clock; None if it did not say.
        origin: what the record says of the request.
        agent: its User-Agent; empty if absent.
        is_bot: `agent` is a crawler's, and the events are of the product lane.
        is_browser: so it is, and the other headers are a browser's.
        bot_policy: the project's, or the path's default.
        max_event_bytes: how long an event may be.
    """

    project: Project
    key: Key
    lane: Lane
    received_at_ms: int
    sent_at_ms: int | None
    origin: Origin
    agent: str
    is_bot: bool
    is_browser: bool
    bot_policy: BotPolicy
    max_event_bytes: int


class Received(Struct, frozen=True, gc=False, kw_only=True):
    """One event as it was received.

    Attributes:
        payload: the bytes that the log commits to, as sent.
        client_id: the id that the client gave it: event id or Idempotency-Key, if any.
        name: what happened; None where missing or of the wrong type.
        distinct_id: who did it; None likewise.
        anonymous_id: the id by which the same person went before, of an event that joins two.
        time_ms: when it happened by the client's clock; None if not said, or unreadable.
        page: the address of the page that it happened on.
        library: the name of the library that sent it.
        warnings: what was noticed so far.
    """

    payload: bytes
    client_id: str | None = None
    name: str | None = None
    distinct_id: str | None = None
    anonymous_id: str | None = None
    time_ms: int | None = None
    page: str | None = None
    library: str | None = None
    warnings: tuple[WarnReason, ...] = ()


class ProductEvent(Received, frozen=True, gc=False, kw_only=True):
    """A product event.

    Attributes:
        record: what is stored besides its properties, but for warnings. Without a name or a
            `distinct_id` it is not to be stored.
        size_bytes: length of the event's JSON as sent.
        depth: how deep its objects and lists are nested, the event itself counted.
        property_count: how many keys its properties have.
    """

    record: Product
    size_bytes: int
    depth: int
    property_count: int = 0

    @property
    def is_numbered(self) -> bool:
        """Whether it is in the account of its sender."""
        return self.record.process_id is not UNSET and self.record.sequence is not UNSET

    def draft(self, arrival: Arrival) -> Draft:
        """Make the entry that keeps it; only for an event that was admitted."""
        record = self.record
        if self.warnings:
            is_bot = WarnReason.BOT in self.warnings
            origin = replace(record.request, warnings=self.warnings, bot=is_bot or UNSET)
            record = replace(record, request=origin)
        return Draft(
            arrival.project.id,
            _PRODUCT,
            arrival.received_at_ms,
            self.payload,
            encode_record(record),
            _PRODUCT_LANE,
            self.client_id,
            monthly_limit=arrival.project.monthly_limit,
        )


class AuditEvent(Received, frozen=True, gc=False, kw_only=True):
    """An audit event; `record` is what is stored besides its payload."""

    record: Audit

    @property
    def is_numbered(self) -> bool:
        """Whether it is in the account of its sender."""
        return has_number(self.record.meta)

    def draft(self, arrival: Arrival) -> Draft:
        """Make the entry that keeps it."""
        return Draft(
            arrival.project.id,
            _AUDIT,
            arrival.received_at_ms,
            self.payload,
            encode_record(self.record),
            _AUDIT_LANE,
            self.client_id,
            new_entry_on_conflict=self._has_clock_reading_as_key(),
            monthly_limit=arrival.project.audit_monthly_limit,
        )

    def _has_clock_reading_as_key(self) -> bool:
        """Whether the key is one that two events may share by accident.

        The Go client printed in ImmutableLog's guide uses nanoseconds as request id and key at
        once; two events of a parallel batch can draw the same, and that client never looks at a
        409.
        """
        key = self.client_id
        return key is not None and key.isdigit() and key == self.record.meta.get("request_id")


class Dropped(Struct, frozen=True, gc=False):
    """The event is dropped; its neighbours are not.

    Attributes:
        reason: why; for a product event one of `DropReason`, for an audit event its error's code.
        client_id: the id that the client gave it, if that could be read.
        again: whether the sender is known to send it once more when it is told so.
        is_numbered: whether it is in the account of its sender; None if it could not be read so
            far.
        error: what an audit route answers in its place.
    """

    reason: str
    client_id: str | None = None
    again: bool = False
    is_numbered: bool | None = None
    error: IndelibleError | None = None


def refused(error: IndelibleError, *, is_numbered: bool | None = None) -> Dropped:
    """Drop an audit event."""
    return Dropped(error.code, error=error, is_numbered=is_numbered)


def has_number(meta: Mapping[str, str]) -> bool:
    """Whether the meta of an audit event says which capture of which process it is."""
    return is_process_id(meta.get("process_id")) and meta.get("sequence", "").isdecimal()


class Kept(Struct, gc=False):
    """The event is stored: now, or an equal one before.

    Attributes:
        index, tx: of the entry that has it.
        is_duplicate: it was stored before.
        is_erased: and erased since, so that no one can say whether it was the same.
        warnings: what was noticed about it.
        level, receipt: how far it has come and the proof, where the request waited for that.
    """

    event: Received
    index: int
    tx: bytes
    is_duplicate: bool = False
    is_erased: bool = False
    warnings: tuple[WarnReason, ...] = ()
    level: Level | None = None
    receipt: str | None = None
