"""The one pipeline of both lanes: gate → admit → store → answer. It knows no dialect.

    request ──receive──▶ bytes ──unpack──▶ text ──dialect.read──▶ Reading
            ──gate──▶ Arrival ──admission──▶ items, and a draft of each that is not dropped
            ──rate, disk──▶ journal ──settle──▶ results ──receipts──▶ dialect.answer

A small body goes this way on the event loop. A large one waits for its turn and is read and
admitted by a thread of `indelible.edge.large`, so nothing is counted before `_store`, which is the
loop's again. The answer is sent after the sync. Every event of a batch has a result of its own.

A report of losses is an item like the events, behind them. Of what a rate leaves it comes first,
for it takes the place of events that are lost already.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Final, TypeVar

import msgspec

from indelible.edge.admission import admit
from indelible.edge.arrival import Arrival, AuditEvent, Dropped, Kept, ProductEvent, refused
from indelible.edge.asgi import Answered, HotRoute
from indelible.edge.body import Packing, checked_packing, unpack, unpack_small
from indelible.edge.bots import is_crawler, is_from_browser
from indelible.edge.brackets import Text
from indelible.edge.dialect import Call, Dialect, Path, Reading, Result
from indelible.edge.http import Answer, Request
from indelible.edge.intake import Intake
from indelible.edge.lost import Lost, LostWarning, Report, ignore, settle
from indelible.edge.notice import Fate
from indelible.edge.rates import survives_429
from indelible.edge.settle import count_dropped, count_stored, settle_audit, settle_product
from indelible.edge.waiting import Wish, check_count, wish_of
from indelible.errors import EmptyBatch
from indelible.event import DropReason, Lane
from indelible.journal.contract import Draft, Outcome
from indelible.metrics import EVENTS_DROPPED, EVENTS_RECEIVED
from indelible.moment import parse_time_ms
from indelible.registry.values import Key, Project

_JSON_TYPES: Final = frozenset({"application/json", "text/plain", "application/octet-stream"})
CONTENT_TYPES: Final[Mapping[Lane, frozenset[str]]] = {
    Lane.PRODUCT: _JSON_TYPES | {"application/x-www-form-urlencoded"},
    Lane.AUDIT: _JSON_TYPES,
}
"""What a body may be labelled as; forms are for pages, which send product events only."""

_RESULTS_AT_ONCE: Final = 500  # then the loop looks at other requests

_Stored = TypeVar("_Stored")

Item = ProductEvent | AuditEvent | Report | Dropped


class Batch(msgspec.Struct):
    """A request as far as it needs no answer of the journal.

    Attributes:
        lost: the report of losses, or why it is none. A report is among the items, too.
        arrival: None if there is nothing to be stored and so no one has asked for whom.
        items: the events in the order in which they were sent, then the report.
        drafts: one for each item that is not dropped.
    """

    lost: Lost
    arrival: Arrival | None = None
    items: list[Item] = []
    drafts: list[Draft] = []

    @property
    def is_numbered(self) -> bool:
        """Whether its sender numbers its events: it says so with one of them, or reports losses."""
        return isinstance(self.lost, Report) or any(
            isinstance(item, ProductEvent | AuditEvent | Dropped) and item.is_numbered
            for item in self.items
        )


def hot_routes(dialects: Iterable[Dialect], intake: Intake) -> dict[str, HotRoute]:
    """Every path of every dialect, with the handlers of its methods."""
    return {
        path.path: HotRoute(
            path.path,
            dict.fromkeys(path.methods, Ingest(dialect, path, intake)),
            cross_origin=dialect.lane is Lane.PRODUCT,
        )
        for dialect in dialects
        for path in dialect.paths
    }


class Ingest:
    """The handler of one path of a dialect."""

    def __init__(self, dialect: Dialect, path: Path, intake: Intake) -> None:
        self._dialect = dialect
        self._path = path
        self._intake = intake
        self._lane = dialect.lane
        # Asked for several times in each request, and an enumeration takes its time to answer.
        self._lane_name = dialect.lane.value
        self._is_product = dialect.lane is Lane.PRODUCT
        self._content_types = CONTENT_TYPES[dialect.lane]

    def at_once(self, request: Request, answered: Answered) -> bool:
        """As `Handler.at_once`: for a small body, and without a query, which may ask for more."""
        opened = self._open(request) if self._dialect.tokens is None else None
        body, limit_bytes = request.sent, self._intake.limits.max_body_bytes
        if len(body) > limit_bytes:
            return False
        packing = self._packing(request, "")
        text = unpack_small(body, packing, limit_bytes=limit_bytes)
        if text is None:
            return False
        call = Call(request, self._path, self._intake.limits)
        batch = self.take(call, text, opened, None)
        stored = self._put(request, batch, self._intake.store)
        if stored is None:
            asyncio.get_running_loop().call_soon(self._answer_with, call, batch, answered, None)
        else:
            stored.add_done_callback(partial(self._answer_with, call, batch, answered))
        return True

    def _answer_with(
        self,
        call: Call,
        batch: Batch,
        answered: Answered,
        stored: "asyncio.Future[list[Outcome]] | None",
    ) -> None:
        answer: Answer | Exception
        try:
            outcomes = () if stored is None else stored.result()
            answer = self._answer(call, *self._settle(batch, outcomes))
        except Exception as error:  # to be answered, and told by the one door of requests
            answer = error
        answered(answer)

    def _answer(
        self, call: Call, results: Sequence[Result], lost_warning: LostWarning | None
    ) -> Answer:
        answer = self._dialect.answer(call, results, lost_warning)
        self._intake.notices.dropped(call.request, map(_fate, results))
        return answer

    async def __call__(self, request: Request) -> Answer:
        opened = self._open(request) if self._dialect.tokens is None else None
        wish = wish_of(request.query.get("wait"), request.query.get("timeout"))
        limit_bytes = self._intake.limits.max_body_bytes
        body, packing = await self._receive(request, limit_bytes)
        call = Call(request, self._path, self._intake.limits)
        text = unpack_small(body, packing, limit_bytes=limit_bytes)
        if text is not None:
            batch = self.take(call, text, opened, wish)
            outcomes = await self._store(request, batch, self._intake.store)
        else:
            read = partial(self._take_large, call, body, packing, opened, wish)
            async with self._intake.large.turn(len(body), is_known=opened is not None) as turns:
                batch = await turns.run(read)
                outcomes = await self._store(request, batch, self._intake.submit_in_runs)
        results, lost_warning = await self._settle_in_parts(batch, outcomes)
        if wish is not None and batch.arrival is not None:
            await self._confirm(batch.arrival.project.id, results, wish)
        return self._answer(call, results, lost_warning)

    def take(
        self, call: Call, text: Text, opened: tuple[Key, Project] | None, wish: Wish | None
    ) -> Batch:
        """Read a body and admit its events. Runs on either thread, so it counts nothing.

        The order is one of cost: what the gate needs is found without looking into an event.
        """
        reading = self._dialect.read(text, call)
        sent: Iterable[Item] = reading.events
        if isinstance(reading.lost, Report):
            sent = chain(sent, (reading.lost,))
        elif not reading.count:
            return Batch(reading.lost)
        if wish is not None:
            check_count(reading.count)
        arrival = self._arrive(
            call.request, reading, *(opened or self._open_by_token(call, reading))
        )
        batch = Batch(reading.lost, arrival, [], [])
        items, drafts = batch.items, batch.drafts
        for item in sent:
            if isinstance(item, ProductEvent):
                item = admit(item, arrival)
            if not isinstance(item, Dropped):
                drafts.append(item.draft(arrival))
            items.append(item)
        return batch

    def _take_large(
        self,
        call: Call,
        body: bytes,
        packing: Packing,
        opened: tuple[Key, Project] | None,
        wish: Wish | None,
    ) -> Batch:
        text = unpack(body, packing, limit_bytes=call.limits.max_body_bytes)
        return self.take(call, text, opened, wish)

    async def _receive(self, request: Request, limit_bytes: int) -> tuple[bytes, Packing]:
        compression = request.query.get("compression", "") if self._is_product else ""
        if request.method == "GET":
            packing = checked_packing("", "", compression, self._content_types)
            return request.query.get("data", "").encode(), packing
        body = await request.body(limit_bytes)
        return body, self._packing(request, compression)

    def _packing(self, request: Request, compression: str) -> Packing:
        """
        Raises:
            UnsupportedMediaType, InvalidEncoding.
        """
        kind, encoding = request.header(b"content-type"), request.joined(b"content-encoding")
        return checked_packing(kind, encoding, compression, self._content_types)

    def _open(self, request: Request) -> tuple[Key, Project]:
        """Find the application's or admin's key, and the project that the request is for.

        Raises:
            InvalidApiKey, IpNotAllowed, Forbidden, NotFound.
        """
        gate = self._intake.gate
        route, authorization = f"POST {self._path.path}", request.header(b"authorization")
        caller = gate.caller_on(route, authorization, lambda: request.address(gate))
        project = gate.project_of(caller, request.query.get("project"))
        request.project_id = project.id
        request.secrets = lambda: gate.secrets_of(project, authorization)
        return caller.key, project

    def _open_by_token(self, call: Call, reading: Reading) -> tuple[Key, Project]:
        """Find the token of a request, and with it the project.

        Raises:
            MissingToken, UnknownToken, MixedTokens, IpNotAllowed, OriginNotAllowed.
        """
        assert self._dialect.tokens is not None
        gate, request = self._intake.gate, call.request
        tokens = self._dialect.tokens(reading, request)
        # A property named `token` may be anything; a valid token of another project is a mix-up.
        if reading.inner_tokens:
            tokens += [token for token in reading.inner_tokens if gate.is_token(token)]
        key = gate.key_of_tokens(tokens, lambda: request.address(gate), request.page)
        project = key.project
        assert project is not None
        request.project_id = project.id
        request.secrets = lambda: gate.secrets_of(project, "")
        return key, project

    def _arrive(self, request: Request, reading: Reading, key: Key, project: Project) -> Arrival:
        agent = request.header(b"user-agent")
        is_bot = self._is_product and bool(agent) and is_crawler(agent)
        return Arrival(
            project=project,
            key=key,
            lane=self._lane,
            received_at_ms=self._intake.clock(),
            sent_at_ms=None if reading.sent_at is None else parse_time_ms(reading.sent_at),
            origin=reading.origin,
            agent=agent,
            is_bot=is_bot,
            is_browser=is_bot and is_from_browser(request.has),
            bot_policy=project.bot_policy or self._path.crawlers,
            max_event_bytes=self._intake.limits.max_event_bytes,
        )

    async def _store(
        self,
        request: Request,
        batch: Batch,
        submit: Callable[[Sequence[Draft]], Awaitable[list[Outcome]]],
    ) -> Sequence[Outcome]:
        stored = self._put(request, batch, submit)
        return () if stored is None else await stored

    def _put(
        self, request: Request, batch: Batch, submit: Callable[[Sequence[Draft]], _Stored]
    ) -> _Stored | None:
        """Count the events, and begin to store those that may be stored; None if none may."""
        if not batch.items:
            raise self._empty(batch)
        reports = int(isinstance(batch.lost, Report))
        EVENTS_RECEIVED.add(self._lane_name, count=len(batch.items) - reports)
        if batch.arrival is not None and batch.arrival.key.rate is not None:
            self._hold_to_rate(request, batch, batch.arrival)
        if not batch.drafts:
            return None
        self._intake.disk.check(self._lane)
        return submit(batch.drafts)

    def _empty(self, batch: Batch) -> EmptyBatch:
        """The error for a batch with neither an event nor a report to be taken."""
        if not isinstance(batch.lost, LostWarning):
            return EmptyBatch()
        ignore(batch.lost, self._lane)
        return EmptyBatch(f"The batch has no events, and its `lost` is not taken: {batch.lost}")

    def _hold_to_rate(self, request: Request, batch: Batch, arrival: Arrival) -> None:
        """Turn away the last of the events where there are more than the key's rate leaves.

        Raises:
            RateLimited: none of them may pass now, and the sender should hear it as an error.
        """
        rates, reports = self._intake.rates, int(isinstance(batch.lost, Report))
        passed = rates.take(arrival.key, arrival.project, self._lane, len(batch.drafts))
        if passed == len(batch.drafts):
            return
        if self._lane is Lane.AUDIT:
            refusal = rates.refusal(arrival.key, self._lane, request)
            if passed == 0:
                EVENTS_DROPPED.add(self._lane_name, refusal.code, count=len(batch.items) - reports)
                raise refusal
            dropped = refused(refusal)
        else:
            # Only our own client reports losses. A browser's would not survive the refusal.
            again = bool(reports) or survives_429(request)
            if passed == 0 and again:
                raise rates.refusal(arrival.key, self._lane, request)
            dropped = Dropped(DropReason.RATE_LIMITED, again=again)
        left = passed - reports
        batch.drafts = batch.drafts[:left] + batch.drafts[-1:] * reports
        for place, item in enumerate(batch.items):
            if isinstance(item, ProductEvent | AuditEvent):
                left -= 1
                if left < 0:
                    batch.items[place] = msgspec.structs.replace(
                        dropped, client_id=item.client_id, is_numbered=item.is_numbered
                    )

    def _settle(
        self, batch: Batch, outcomes: Sequence[Outcome]
    ) -> tuple[list[Result], LostWarning | None]:
        """Count what became of each item."""
        results: list[Result] = []
        warning = self._count(batch, outcomes)
        return results, self._settle_some(batch, batch.items, iter(outcomes), results) or warning

    async def _settle_in_parts(
        self, batch: Batch, outcomes: Sequence[Outcome]
    ) -> tuple[list[Result], LostWarning | None]:
        """As `_settle`, of a batch that may be long."""
        results: list[Result] = []
        warning = self._count(batch, outcomes)
        stored = iter(outcomes)
        for start in range(0, len(batch.items), _RESULTS_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            part = batch.items[start : start + _RESULTS_AT_ONCE]
            warning = self._settle_some(batch, part, stored, results) or warning
        return results, warning

    def _count(self, batch: Batch, outcomes: Sequence[Outcome]) -> LostWarning | None:
        """Count what can be counted for a batch at once."""
        is_report = isinstance(batch.lost, Report)
        count_stored(outcomes[:-1] if is_report else outcomes, self._lane_name)
        return ignore(batch.lost, self._lane) if isinstance(batch.lost, LostWarning) else None

    def _settle_some(
        self,
        batch: Batch,
        items: Iterable[Item],
        stored: Iterator[Outcome],
        results: list[Result],
    ) -> LostWarning | None:
        """Add the result of each event; of a report, return why it was not taken."""
        warning = None
        result: Result
        for item in items:
            if isinstance(item, ProductEvent):
                result = settle_product(item, next(stored))
            elif isinstance(item, AuditEvent):
                result = settle_audit(item, next(stored))
            elif isinstance(item, Dropped):
                result = item
            else:
                warning = settle(item, next(stored), self._lane)
                continue
            results.append(result)
            if isinstance(result, Dropped):
                self._count_dropped(batch, result)
        return warning

    def _count_dropped(self, batch: Batch, dropped: Dropped) -> None:
        assert batch.arrival is not None, "an event that has a result was for a project"
        is_numbered = dropped.is_numbered
        if is_numbered is None:
            is_numbered = batch.is_numbered
        project = batch.arrival.project.name
        count_dropped(dropped, self._lane_name, project, is_numbered=is_numbered)

    async def _confirm(self, project_id: int, results: Sequence[Result], wish: Wish) -> None:
        """Wait for the receipts and put them to the results."""
        kept = [result for result in results if isinstance(result, Kept)]
        if not kept:
            return
        receipts = await self._intake.confirm(
            project_id, [one.index for one in kept], wish.level, timeout_s=wish.timeout_s
        )
        for one, receipt in zip(kept, receipts, strict=True):
            if receipt is not None:
                one.level, one.receipt = wish.level, receipt


def _fate(result: Result) -> Fate:
    if isinstance(result, Dropped):
        return result.reason, result.client_id
    return None, None
