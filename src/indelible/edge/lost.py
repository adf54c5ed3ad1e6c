"""What a sender says it lost: the member ``lost`` of a batch, on product and audit routes.

    {"uuid": "<UUID>", "process_id": "<32 hex digits>", "counts": {"queue_full": 10, …},
     "captured": 1000}

`captured`, which may be missing, is how many events the process had captured by then.
A report becomes an entry of kind loss in the project's log, after the events of the batch that
brought it and in the transaction of the last of them, unique by its uuid in the lane of the route.
In the pipeline it is an item of the batch like any other; but it is no event, so it has no result
and counts towards no quota. One that cannot be read never
costs the events beside it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from indelible.edge.arrival import Arrival
from indelible.edge.brackets import MAX_DEPTH, nesting
from indelible.event import Kind, Lane, LossReason
from indelible.journal.contract import Draft, Duplicate, Outcome, Stored
from indelible.metrics import LOSS_REPORTS_IGNORED, LOSSES_REPORTED
from indelible.record import Loss, LossReport, encode_record

MAX_REPORT_BYTES: Final = 4_096
"""More than the longest report needs, and so little that no content hides in one."""
OTHER: Final = "other"

_ANY: Final = msgspec.json.Decoder()
_KNOWN: Final = frozenset(LossReason)


class LostWarning(StrEnum):
    """Why a report was not taken. Public and closed: each is a counter."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UUID_CONFLICT = "uuid_conflict"

    @property
    def meaning(self) -> str:
        """One sentence for a person who reads the reason in an answer or on a page."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    LostWarning.MALFORMED: "`lost` is no object with a UUID as `uuid`, 32 lower-case hex digits as "
    "`process_id`, 1 to 32 `counts` from 1 under names of a-z, 0-9 and _, and perhaps a number as "
    "`captured`.",
    LostWarning.TOO_LARGE: "`lost` is longer than 4 KiB.",
    LostWarning.UUID_CONFLICT: "A report or an event with this uuid and other content was stored "
    "before; the first stays.",
}


class Report(Struct, frozen=True, gc=False):
    """A report, read: `payload` is what was sent, to the byte."""

    payload: bytes
    uuid: str
    counts: Mapping[str, int]

    def draft(self, arrival: Arrival) -> Draft:
        """Make the entry that keeps it."""
        return Draft(
            project_id=arrival.project.id,
            kind=Kind.LOSS,
            received_at_ms=arrival.received_at_ms,
            payload=self.payload,
            record=encode_record(Loss(arrival.lane.value, arrival.origin, self.uuid)),
            lane=arrival.lane,
            client_id=self.uuid,
        )


Lost = Report | LostWarning | None
"""The member `lost` of a batch: a report, why it is none, or nothing where it was not sent."""


def read_lost(raw: msgspec.Raw | None) -> Lost:
    """Read the member `lost`; null is as good as none."""
    if raw is None:
        return None
    if len(memoryview(raw)) > MAX_REPORT_BYTES:
        return LostWarning.TOO_LARGE
    sent = bytes(raw)
    if sent == b"null":
        return None
    if nesting(sent) > MAX_DEPTH:
        return LostWarning.MALFORMED
    try:
        # Members of later versions are kept; whatever they hold, it must be readable.
        shape = msgspec.convert(_ANY.decode(sent), LossReport)
    except msgspec.DecodeError:
        return LostWarning.MALFORMED
    return Report(sent, shape.uuid, shape.counts)


def settle(report: Report, outcome: Outcome, lane: Lane) -> LostWarning | None:
    """Count what became of a report; returns what its sender should know."""
    if isinstance(outcome, Duplicate) and outcome.same_content is False:
        return ignore(LostWarning.UUID_CONFLICT, lane)
    if isinstance(outcome, Stored):
        for reason, count in report.counts.items():
            LOSSES_REPORTED.add(lane.value, reason if reason in _KNOWN else OTHER, count=count)
    return None


def ignore(warning: LostWarning, lane: Lane) -> LostWarning:
    """Count a report that is not taken."""
    LOSS_REPORTS_IGNORED.add(lane.value, warning.value)
    return warning
