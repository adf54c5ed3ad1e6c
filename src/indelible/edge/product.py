"""Product events, whatever dialect they came in: gate, admit, store, answer.

The answer is sent after the sync. Every event of a batch has a result of its own.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from indelible.edge import vtilt
from indelible.edge.admission import Dropped, admit
from indelible.edge.arrival import Arrival, Sighting
from indelible.edge.body import Packing, check_packing, unpack, unpack_small
from indelible.edge.bots import is_crawler, is_from_browser
from indelible.edge.http import Answer, Request, refuse
from indelible.edge.intake import Intake, Submit
from indelible.edge.lost import Lost, LostWarning, Report, check_not_empty, draft_of, settle
from indelible.edge.notice import Fate
from indelible.edge.rates import survives_429
from indelible.edge.shallow import Text, parse
from indelible.edge.waiting import Wish, check_count, wish_of
from indelible.errors import EventRefused
from indelible.event import DropReason, Kind, Lane, WarnReason, tx_text, tx_uuid
from indelible.journal.contract import Draft, Duplicate, Outcome, OverLimit, Stored
from indelible.metrics import (
    EVENTS_DROPPED,
    EVENTS_DUPLICATE,
    EVENTS_RECEIVED,
    EVENTS_STORED,
    EVENTS_WARNED,
)
from indelible.registry.values import BotPolicy

CONTENT_TYPES: Final = frozenset(
    {
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    }
)

# A drop for these is the server's doing: the request was fine, so it is answered 200.
_NOT_THE_SENDERS: Final = frozenset({DropReason.BOT, DropReason.QUOTA, DropReason.RATE_LIMITED})

_RECORD: Final = msgspec.json.Encoder(order="sorted")
_LANE: Final = Lane.PRODUCT.value
_RESULTS_AT_ONCE: Final = 500  # then the loop looks at other requests

# The smallest transparent GIF there is, for pages that ask with an <img>.
_PIXEL: Final = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


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


@dataclass(frozen=True, slots=True)
class Route:
    """One ingest path.

    `crawlers` is the bot policy of projects that chose none. Only where the clients know it does
    a crawler get the documented 204; others would send the event again.
    """

    path: str
    crawlers: BotPolicy
    crawler_status: int


class _Taken(msgspec.Struct):
    """A request as far as it needs no answer of the journal."""

    lost: Lost
    arrival: Arrival | None = None
    events: list[Sighting | Dropped] = []
    drafts: list[Draft] = []


class ProductIngest:
    """The handler of one product route."""

    def __init__(self, route: Route, intake: Intake) -> None:
        self._route = route
        self._intake = intake

    async def __call__(self, request: Request) -> Answer:
        wish = wish_of(request.query.get("wait"), request.query.get("timeout"))
        body, packing = await self._receive(request)
        text = unpack_small(body, packing, limit_bytes=self._intake.limits.max_body_bytes)
        if text is None:
            taken, outcomes = await self._take_large(request, body, packing, wish)
        else:
            taken = self._take(request, text, wish)
            outcomes = await self._store(request, taken, self._intake.store)
        stored = iter(outcomes)
        results = _results(taken.events[:_RESULTS_AT_ONCE], stored)
        for start in range(_RESULTS_AT_ONCE, len(taken.events), _RESULTS_AT_ONCE):
            await asyncio.sleep(0)
            results += _results(taken.events[start : start + _RESULTS_AT_ONCE], stored)
        lost_warning = settle(taken.lost, Lane.PRODUCT, stored)
        self._intake.notices.dropped(request, (_fate(result) for result in results))
        if wish is not None and taken.arrival is not None:
            await self._confirm(taken.arrival.project.id, results, wish)
        return self._answer(request, results, lost_warning)

    async def _take_large(
        self, request: Request, body: bytes, packing: Packing, wish: Wish | None
    ) -> tuple[_Taken, Sequence[Outcome]]:
        def take() -> _Taken:
            text = unpack(body, packing, limit_bytes=self._intake.limits.max_body_bytes)
            return self._take(request, text, wish)

        async with self._intake.large.turn(len(body)) as turns:
            taken = await turns.run(take)
            return taken, await self._store(request, taken, self._intake.submit_in_runs)

    async def _store(self, request: Request, taken: _Taken, submit: Submit) -> Sequence[Outcome]:
        check_not_empty(taken.events, taken.lost, Lane.PRODUCT)
        EVENTS_RECEIVED.add(_LANE, count=len(taken.events))
        if taken.arrival is not None and taken.arrival.key.rate is not None:
            self._hold_to_rate(request, taken, taken.arrival)
        if not taken.drafts:
            return ()
        self._intake.disk.check(Lane.PRODUCT)
        return await submit(taken.drafts)

    def _hold_to_rate(self, request: Request, taken: _Taken, arrival: Arrival) -> None:
        """Turn away the last of the events where there are more than the token's rate leaves.

        Raises:
            RateLimited: none of them may pass now, and the sender will try again.
        """
        reports = int(isinstance(taken.lost, Report))  # only our own client sends one
        key, rates = arrival.key, self._intake.rates
        passed = rates.take(key, arrival.project, Lane.PRODUCT, len(taken.drafts))
        if passed == len(taken.drafts):
            return
        again = bool(reports) or survives_429(request)
        if passed == 0 and again:
            raise rates.refusal(key, Lane.PRODUCT, request)
        left = passed - reports
        taken.drafts = taken.drafts[:left] + taken.drafts[-1:] * reports
        for place, event in enumerate(taken.events):
            if isinstance(event, Sighting):
                left -= 1
                if left < 0:
                    taken.events[place] = Dropped(DropReason.RATE_LIMITED, event.client_id, again)

    async def _confirm(self, project_id: int, results: list[EventResult], wish: Wish) -> None:
        """Wait for the receipts and put them into the results."""
        stored = [(result, result.index) for result in results if result.index is not None]
        if not stored:
            return
        receipts = await self._intake.confirm(
            project_id, [index for _, index in stored], wish.level, timeout_s=wish.timeout_s
        )
        for (result, _), receipt in zip(stored, receipts, strict=True):
            if receipt is not None:
                result.status, result.receipt = wish.level, receipt

    async def _receive(self, request: Request) -> tuple[bytes, Packing]:
        query = request.query
        if request.method == "GET":
            body = query.get("data", "").encode()
            packing = Packing(compression=query.get("compression", ""))
        else:
            packing = Packing(
                request.header(b"content-type"),
                request.joined(b"content-encoding"),
                query.get("compression", ""),
            )
            body = await request.body(self._intake.limits.max_body_bytes)
        check_packing(packing, CONTENT_TYPES)
        return body, packing

    def _take(self, request: Request, text: Text, wish: Wish | None) -> _Taken:
        """Read a body and admit its events. Runs on either thread, so it counts nothing.

        The order is one of cost: what the gate needs is found without looking into an event.
        """
        limits = self._intake.limits
        document, text = parse(text, most=limits.max_batch)
        try:
            reading = vtilt.read(document, text, max_batch=limits.max_batch)
        except RecursionError:  # some calls further down than `parse`, which could just read it
            raise EventRefused(DropReason.TOO_DEEP) from None
        if not reading.events and not isinstance(reading.lost, Report):
            return _Taken(reading.lost)
        if wish is not None:
            check_count(len(reading.events))
        arrival = self._arrive(request, reading)
        taken = _Taken(reading.lost, arrival)
        for cut in reading.events:
            event = vtilt.look_into(cut, max_event_bytes=limits.max_event_bytes)
            if isinstance(event, Sighting):
                event = admit(event, arrival)
            if isinstance(event, Sighting):
                taken.drafts.append(_draft(event, arrival, reading.request))
            taken.events.append(event)
        if isinstance(reading.lost, Report):
            taken.drafts.append(_draft_of_lost(reading.lost, arrival, reading.request))
        return taken

    def _arrive(self, request: Request, reading: vtilt.Reading) -> Arrival:
        """Find the project that the request is for.

        Raises:
            MissingToken, UnknownToken, MixedTokens, IpNotAllowed, OriginNotAllowed.
        """
        query = [request.query[name] for name in ("api_key", "token") if name in request.query]
        tokens = vtilt.tokens_of(reading, query)
        # A property named `token` may be anything; a valid token of another project is a mix-up.
        tokens += [token for token in reading.inner_tokens if self._intake.gate.is_token(token)]
        key = self._intake.gate.key_of_tokens(
            tokens, lambda: request.address(self._intake.gate), request.page
        )
        project = key.project
        assert project is not None
        request.project_id = project.id
        user_agent = request.header(b"user-agent")
        return Arrival(
            project=project,
            key=key,
            route=self._route.path,
            received_at_ms=self._intake.clock(),
            is_bot=bool(user_agent) and is_crawler(user_agent),
            is_browser=is_from_browser(request.has),
            bot_policy=project.bot_policy or self._route.crawlers,
            max_event_bytes=self._intake.limits.max_event_bytes,
        )

    def _answer(
        self, request: Request, results: list[EventResult], lost_warning: LostWarning | None
    ) -> Answer:
        rejected = [result.reason for result in results if result.result in ("drop", "retry")]
        if len(rejected) == len(results):
            reasons = [DropReason(reason) for reason in rejected if reason is not None]
            theirs = [reason for reason in reasons if reason not in _NOT_THE_SENDERS]
            if theirs:
                more = {} if lost_warning is None else {"lost_warning": lost_warning}
                return refuse(EventRefused(theirs[0]), request, events=results, **more)
            if set(reasons) == {DropReason.BOT} and self._route.crawler_status == 204:
                return Answer(204)
        if request.method == "GET" and request.query.get("img") == "1":
            return Answer(200, _PIXEL, "image/gif")
        by_id: dict[str, ShortResult] = {}
        for result in results:
            if result.uuid is not None and result.uuid not in by_id:
                by_id[result.uuid] = ShortResult(
                    result.result, result.index, result.duplicate, result.reason
                )
        answer = ProductAnswer(len(results) - len(rejected), len(rejected), by_id, results)
        if lost_warning is not None:
            answer.lost_warning = lost_warning
        return Answer(200, msgspec.json.encode(answer))


def _fate(result: EventResult) -> Fate:
    return (result.reason if result.result in ("drop", "retry") else None), result.uuid


def _draft(event: Sighting, arrival: Arrival, request: dict[str, msgspec.Raw]) -> Draft:
    record: dict[str, object] = {
        "event": event.name,
        "distinct_id": event.distinct_id,
        **event.rest,
        "request": {
            **request,
            "route": arrival.route,
            **({"warnings": event.warnings} if event.warnings else {}),
            **({"$bot": True} if WarnReason.BOT in event.warnings else {}),
        },
    }
    if event.client_id is not None:
        record["uuid"] = event.client_id
    if event.timestamp is not None:
        record["timestamp"] = event.timestamp
    return Draft(
        project_id=arrival.project.id,
        kind=Kind.PRODUCT,
        received_at_ms=arrival.received_at_ms,
        payload=event.properties,
        record=_RECORD.encode(record),
        lane=Lane.PRODUCT,
        client_id=event.client_id,
        monthly_limit=arrival.project.monthly_limit,
    )


def _draft_of_lost(report: Report, arrival: Arrival, request: dict[str, msgspec.Raw]) -> Draft:
    return draft_of(
        report,
        arrival.project.id,
        Lane.PRODUCT,
        {**request, "route": arrival.route},
        received_at_ms=arrival.received_at_ms,
    )


def _results(events: Sequence[Sighting | Dropped], stored: Iterator[Outcome]) -> list[EventResult]:
    return [
        _dropped(event) if isinstance(event, Dropped) else _result(event, next(stored))
        for event in events
    ]


def _dropped(event: Dropped) -> EventResult:
    EVENTS_DROPPED.add(_LANE, event.reason)
    return EventResult(event.client_id, "retry" if event.again else "drop", reason=event.reason)


def _result(event: Sighting, outcome: Outcome) -> EventResult:
    match outcome:
        case OverLimit():
            return _dropped(Dropped(DropReason.QUOTA, event.client_id))
        case Duplicate(index, tx, same_content):
            EVENTS_DUPLICATE.add(_LANE)
            conflict = same_content is False
            warnings = (WarnReason.UUID_CONFLICT,) if conflict else ()
            return _ok(event, index, tx, warnings, duplicate=True)
        case Stored(index, tx):
            EVENTS_STORED.add(_LANE)
            return _ok(event, index, tx, event.warnings, duplicate=False)


def _ok(
    event: Sighting, index: int, tx: bytes, warnings: Sequence[WarnReason], *, duplicate: bool
) -> EventResult:
    for warning in warnings:
        EVENTS_WARNED.add(_LANE, warning)
    return EventResult(
        uuid=tx_uuid(tx) if event.client_id is None else event.client_id,
        result="warning" if warnings else "ok",
        tx_id=tx_text(tx),
        index=index,
        duplicate=duplicate,
        reason=warnings[0] if warnings else None,
    )
