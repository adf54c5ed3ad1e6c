"""Admission: the list of steps that every product event passes, in order.

Audit events pass none: what their dialect could read is stored, and nothing is noted about it.

A step named ``drop_…`` may end the event's journey with a reason; one named ``put_…`` only adds to
it. The monthly quota is not among them: it is decided in the transaction that stores the event, so
that a repeated event is still recognised when the month is used up and the count is exact.
"""

from collections.abc import Callable
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from indelible.edge.arrival import Arrival, Dropped, ProductEvent
from indelible.edge.brackets import MAX_DEPTH
from indelible.event import DropReason, WarnReason, is_refused_id

MAX_NAME_CHARS: Final = 200
MAX_DISTINCT_ID_CHARS: Final = 200
MAX_CLIENT_ID_CHARS: Final = 255
MAX_PROPERTIES: Final = 1_000
FUTURE_MS: Final = 23 * 60 * 60 * 1000

Step = Callable[[ProductEvent, Arrival], ProductEvent | DropReason]


def drop_bot(event: ProductEvent, arrival: Arrival) -> ProductEvent | DropReason:
    """Drops what a crawler's browser sent; without a browser it may be a server: see `bots`."""
    is_crawler = arrival.is_bot and arrival.is_browser
    return DropReason.BOT if is_crawler and arrival.bot_policy == "discard" else event


def drop_over_measure(event: ProductEvent, arrival: Arrival) -> ProductEvent | DropReason:
    if event.size_bytes > arrival.max_event_bytes or event.property_count > MAX_PROPERTIES:
        return DropReason.EVENT_TOO_LARGE
    return DropReason.TOO_DEEP if event.depth > MAX_DEPTH else event


def drop_without_name(event: ProductEvent, arrival: Arrival) -> ProductEvent | DropReason:  # noqa: ARG001 — a Step
    if not event.name:
        return DropReason.MISSING_EVENT
    return DropReason.NAME_TOO_LONG if len(event.name) > MAX_NAME_CHARS else event


def drop_without_usable_ids(event: ProductEvent, arrival: Arrival) -> ProductEvent | DropReason:  # noqa: ARG001
    if event.distinct_id is None:
        return DropReason.MISSING_DISTINCT_ID
    if len(event.distinct_id) > MAX_DISTINCT_ID_CHARS:
        return DropReason.ID_TOO_LONG
    if event.client_id is not None and len(event.client_id) > MAX_CLIENT_ID_CHARS:
        return DropReason.ID_TOO_LONG
    return event


def put_timestamp_warning(event: ProductEvent, arrival: Arrival) -> ProductEvent:
    """Notes a time that cannot be read, and one that is far ahead; neither costs the event."""
    if event.time_ms is not None:
        ahead = event.time_ms - arrival.received_at_ms > FUTURE_MS
        return _warn(event, WarnReason.FUTURE_TIMESTAMP) if ahead else event
    was_sent = event.record.timestamp is not UNSET
    return _warn(event, WarnReason.UNREADABLE_TIMESTAMP) if was_sent else event


def put_illegal_id_warning(event: ProductEvent, arrival: Arrival) -> ProductEvent:  # noqa: ARG001
    assert event.distinct_id is not None
    illegal = is_refused_id(event.distinct_id)
    return _warn(event, WarnReason.ILLEGAL_DISTINCT_ID) if illegal else event


def put_refused_merge_warning(event: ProductEvent, arrival: Arrival) -> ProductEvent:  # noqa: ARG001
    """Notes that an event joins no ids, where that shows in the event alone."""
    before = event.anonymous_id
    if before is None:
        return event
    assert event.distinct_id is not None
    refused = is_refused_id(before) or is_refused_id(event.distinct_id)
    return _warn(event, WarnReason.MERGE_REFUSED) if refused else event


def put_bot_warning(event: ProductEvent, arrival: Arrival) -> ProductEvent:
    marked = arrival.is_bot and arrival.bot_policy != "off"
    return _warn(event, WarnReason.BOT) if marked else event


STEPS: Final[tuple[Step, ...]] = (
    drop_bot,
    drop_over_measure,
    drop_without_name,
    drop_without_usable_ids,
    put_timestamp_warning,
    put_illegal_id_warning,
    put_refused_merge_warning,
    put_bot_warning,
)
_FOR_CRAWLERS: Final = frozenset({drop_bot, put_bot_warning})
_STEPS_OF_OTHERS: Final = tuple(step for step in STEPS if step not in _FOR_CRAWLERS)


def admit(event: ProductEvent, arrival: Arrival) -> ProductEvent | Dropped:
    """Run `event` through STEPS; the first step that drops it ends its journey."""
    for step in STEPS if arrival.is_bot else _STEPS_OF_OTHERS:
        result = step(event, arrival)
        if result is event:
            continue
        if isinstance(result, DropReason):
            return Dropped(result, event.client_id, is_numbered=event.is_numbered)
        event = result
    return event


def _warn(event: ProductEvent, reason: WarnReason) -> ProductEvent:
    return replace(event, warnings=(*event.warnings, reason))
