"""What the journal's outcome means for an event, in either lane.

Counts duplicates and warnings. Those that are stored are counted for a request at once, and those
that are dropped, here or before, by `count_dropped`.
"""

from collections.abc import Sequence
from typing import Final

from indelible.edge.arrival import AuditEvent, Dropped, Kept, ProductEvent, refused
from indelible.errors import IdempotencyConflict, MonthlyLimitExceeded
from indelible.event import DropReason, Lane, WarnReason
from indelible.journal.contract import Duplicate, Outcome, OverLimit, Stored
from indelible.metrics import (
    EVENTS_DROPPED,
    EVENTS_DUPLICATE,
    EVENTS_STORED,
    EVENTS_WARNED,
    NUMBERED,
    OTHERS,
    PROJECT_EVENTS_DROPPED,
)

_PRODUCT: Final = Lane.PRODUCT.value
_AUDIT: Final = Lane.AUDIT.value


def settle_product(event: ProductEvent, outcome: Outcome) -> Kept | Dropped:
    """An id that is known with other content is a warning: the first copy stays."""
    if isinstance(outcome, Stored):
        warnings = event.warnings
        kept = Kept(event, outcome.index, outcome.tx, warnings=warnings)
    elif isinstance(outcome, Duplicate):
        EVENTS_DUPLICATE.add(_PRODUCT)
        warnings = (WarnReason.UUID_CONFLICT,) if outcome.same_content is False else ()
        kept = Kept(event, outcome.index, outcome.tx, is_duplicate=True, warnings=warnings)
    else:
        return Dropped(DropReason.QUOTA, event.client_id, is_numbered=event.is_numbered)
    for warning in warnings:
        EVENTS_WARNED.add(_PRODUCT, warning)
    return kept


def settle_audit(event: AuditEvent, outcome: Outcome) -> Kept | Dropped:
    """A key that is known with other content refuses the event, unless it may be an accident."""
    if isinstance(outcome, OverLimit):
        return refused(MonthlyLimitExceeded(), is_numbered=event.is_numbered)
    if isinstance(outcome, Duplicate):
        if outcome.same_content is False:
            return refused(IdempotencyConflict(), is_numbered=event.is_numbered)
        EVENTS_DUPLICATE.add(_AUDIT)
        is_erased = outcome.same_content is None
        return Kept(event, outcome.index, outcome.tx, is_duplicate=True, is_erased=is_erased)
    if not outcome.conflict:
        return Kept(event, outcome.index, outcome.tx)
    EVENTS_WARNED.add(_AUDIT, WarnReason.IDEMPOTENCY_CONFLICT)
    return Kept(event, outcome.index, outcome.tx, warnings=(WarnReason.IDEMPOTENCY_CONFLICT,))


def count_stored(events: Sequence[Outcome], lane: str) -> None:
    """Count those events that are stored now."""
    stored = sum([isinstance(outcome, Stored) for outcome in events])
    if stored:
        EVENTS_STORED.add(lane, count=stored)


def count_dropped(dropped: Dropped, lane: str, project: str, *, is_numbered: bool) -> None:
    """Count an event that is dropped: for all, and for its project if it is dropped for good.

    `is_numbered`: it is in the account of its sender as well.
    """
    EVENTS_DROPPED.add(lane, dropped.reason)
    if not dropped.again:
        sender = NUMBERED if is_numbered else OTHERS
        PROJECT_EVENTS_DROPPED.add(project, lane, dropped.reason, sender)
