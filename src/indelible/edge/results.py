"""What the routes of product events answer: one body that the clients of several vendors read.

Every event has its result, in the order in which they were sent, and once more under its uuid.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from indelible.edge.arrival import Dropped
from indelible.edge.dialect import Call, Result
from indelible.edge.http import Answer, refuse
from indelible.edge.lost import LostWarning
from indelible.errors import EventRefused
from indelible.event import DropReason, tx_text, tx_uuid

# A drop for these is the server's doing: the request was fine, so it is answered 200.
_NOT_THE_SENDERS: Final = frozenset({DropReason.BOT, DropReason.QUOTA, DropReason.RATE_LIMITED})

# The smallest transparent GIF there is, for pages that ask with an <img>.
_PIXEL: Final = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)

_ENCODE: Final = msgspec.json.Encoder().encode


class EventResult(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of one event, in the order in which the events were sent.

    `status` and `receipt` are there only when the request waited and the event came so far.
    """

    uuid: str | None
    result: str
    tx_id: str | None = None
    index: int | None = None
    duplicate: bool = False
    reason: str | None = None
    status: str | None = None
    receipt: str | None = None


class ShortResult(msgspec.Struct, omit_defaults=True, gc=False):
    """The result as it stands under its uuid."""

    result: str
    index: int | None = None
    duplicate: bool = False
    reason: str | None = None


class ProductAnswer(msgspec.Struct):
    """The answer of every product route; `status`, `success` and `code` are for other clients.

    `lost_warning` says why the report of losses that came along was not taken.
    """

    accepted: int
    rejected: int
    results: dict[str, ShortResult]
    events: list[EventResult]
    status: int = 1
    success: bool = True
    code: int = 200
    lost_warning: str | msgspec.UnsetType = msgspec.UNSET


def answer_product(
    call: Call,
    settled: Sequence[Result],
    lost_warning: LostWarning | None,
    *,
    crawler_status: Literal[200, 204] = 200,
) -> Answer:
    """200 with the result of each event; 400 when all were dropped for what they are.

    `crawler_status` 204: the client knows that answer where all were dropped as a crawler's.
    """
    results: list[EventResult] = []
    by_id: dict[str, ShortResult] = {}
    dropped: list[Dropped] = []
    for one in settled:
        result = _result(one)
        results.append(result)
        if isinstance(one, Dropped):
            dropped.append(one)
        uuid = result.uuid
        if uuid is not None and uuid not in by_id:
            by_id[uuid] = ShortResult(result.result, result.index, result.duplicate, result.reason)
    if len(dropped) == len(results):
        reasons = [DropReason(one.reason) for one in dropped]
        theirs = [reason for reason in reasons if reason not in _NOT_THE_SENDERS]
        if theirs:
            more = {} if lost_warning is None else {"lost_warning": lost_warning}
            return refuse(EventRefused(theirs[0]), call.request, events=results, **more)
        if crawler_status == 204 and set(reasons) == {DropReason.BOT}:
            return Answer(204)
    if call.request.method == "GET" and call.request.query.get("img") == "1":
        return Answer(200, _PIXEL, "image/gif")
    answer = ProductAnswer(len(results) - len(dropped), len(dropped), by_id, results)
    if lost_warning is not None:
        answer.lost_warning = lost_warning
    return Answer(200, _ENCODE(answer))


def _result(result: Result) -> EventResult:
    if isinstance(result, Dropped):
        word = "retry" if result.again else "drop"
        return EventResult(result.client_id, word, reason=result.reason)
    tx, client_id, warnings = result.tx, result.event.client_id, result.warnings
    return EventResult(
        tx_uuid(tx) if client_id is None else client_id,
        "warning" if warnings else "ok",
        tx_text(tx),
        result.index,
        result.is_duplicate,
        warnings[0] if warnings else None,
        result.level,
        result.receipt,
    )
