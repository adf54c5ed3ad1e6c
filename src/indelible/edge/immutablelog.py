"""ImmutableLog's dialect: audit events at ``POST /v1/events`` and ``/v1/events/batch``.

The payload is an opaque string: it is stored to the byte as its UTF-8 form, never reparsed. `meta`
is a flat map of strings. The 202 is sent after the sync.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from indelible.edge.body import Packing, check_packing, unpack, unpack_small
from indelible.edge.http import Answer, Request
from indelible.edge.intake import Intake, Submit
from indelible.edge.lost import (
    Lost,
    LostWarning,
    Report,
    check_not_empty,
    draft_of,
    read_lost,
    settle,
)
from indelible.edge.shallow import (
    MAX_DEPTH,
    MAX_MEMBERS,
    Text,
    TooManyMembers,
    check_utf8,
    elements,
    json_error,
    members,
    nesting,
    replace_lone_surrogates,
)
from indelible.edge.waiting import Wish, wish_of
from indelible.errors import (
    IdempotencyConflict,
    IndelibleError,
    InvalidEvent,
    InvalidIdempotencyKey,
    InvalidJson,
    InvalidMeta,
    InvalidPayload,
    InvalidType,
    MonthlyLimitExceeded,
    PayloadTooLarge,
)
from indelible.event import Kind, Lane, WarnReason, clean_trail, tx_text
from indelible.journal.contract import Draft, Duplicate, Outcome, OverLimit, Stored
from indelible.metrics import (
    EVENTS_DROPPED,
    EVENTS_DUPLICATE,
    EVENTS_RECEIVED,
    EVENTS_STORED,
    EVENTS_WARNED,
)
from indelible.registry.values import Key, Project

TYPES: Final = ("success", "info", "warning", "error", "debug", "audit")
DEFAULT_TYPE: Final = "info"
MAX_BATCH: Final = 100
MAX_META_KEYS: Final = 64
MAX_META_KEY_CHARS: Final = 64
MAX_META_VALUE_CHARS: Final = 1_024

CONTENT_TYPES: Final = frozenset({"application/json", "text/plain", "application/octet-stream"})

_LANE: Final = Lane.AUDIT.value
_LONGEST_KEY: Final = 255
_IDEMPOTENCY_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{_LONGEST_KEY}}}")
_LONGEST_META_BYTES: Final = 1 << 20  # all keys and values at their longest, each char escaped

# A text is decoded only where it may be short enough: the longest a byte of it can be is \u0061.
_BYTES_AN_ESCAPE: Final = 6
_QUOTES: Final = 2

_PHP_EMPTY: Final = Annotated[list[str], msgspec.Meta(max_length=0)]
"""An empty list: PHP's empty object."""
_META: Final = msgspec.json.Decoder(dict[str, str] | _PHP_EMPTY)
_TEXT: Final = msgspec.json.Decoder(str)
_RECORD: Final = msgspec.json.Encoder(order="sorted")


class AuditReceipt(msgspec.Struct):
    """The answer for a stored event: the six documented members, and the index.

    `result` and `reason` are there only with a warning, `receipt` only when the request waited for
    it and the event came so far; `status` is then how far.
    """

    ok: bool
    tx_id: str
    payload_hash: str | None
    status: str
    duplicate: bool
    request_id: str
    index: int
    result: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    receipt: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class _Item:
    """One event of a request, read and checked."""

    draft: Draft
    payload_hash: str
    request_id: str


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request as far as it needs no answer of the journal."""

    items: list[_Item | IndelibleError]
    lost: Lost = None


class AuditIngest:
    """The handlers of the two audit routes."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def one(self, request: Request) -> Answer:
        """``POST /v1/events``."""
        owner, project = self._open(request, "POST /v1/events")
        wish = wish_of(request.query.get("wait"), request.query.get("timeout"))

        def read(text: Text) -> _Taken:
            fields = _fields(text)
            key = _key_of_header(request)
            inbound_id = _inbound_id(request)
            return _Taken([self._item(fields, project, request, key, inbound_id=inbound_id)])

        (result,), _ = await self._take(request, owner, project, read)
        if isinstance(result, IndelibleError):
            raise result
        if wish is not None:
            await self._confirm(project, [result], wish)
        return Answer(202, msgspec.json.encode(result))

    async def batch(self, request: Request) -> Answer:
        """``POST /v1/events/batch``: up to 100 events, a result for each, in order; and `lost`.

        An event's `idempotency_key` counts; where it has none, the request's Idempotency-Key with
        the event's place behind it does, so that a batch sent again adds nothing.
        """
        owner, project = self._open(request, "POST /v1/events/batch")
        wish = wish_of(request.query.get("wait"), request.query.get("timeout"))

        def read(text: Text) -> _Taken:
            fields = _fields(text)
            events, lost = _events_of(fields), read_lost(fields.get("lost"))
            shared_key = _key_of_header(request)
            items = [
                self._item_of(raw, project, request, shared_key and f"{shared_key}/{place}")
                for place, raw in enumerate(events)
            ]
            return _Taken(items, lost)

        results, lost_warning = await self._take(request, owner, project, read)
        self._intake.notices.dropped(
            request,
            ((r.code if isinstance(r, IndelibleError) else None, None) for r in results),
        )
        rejected = sum(isinstance(result, IndelibleError) for result in results)
        if wish is not None:
            stored = [result for result in results if isinstance(result, AuditReceipt)]
            await self._confirm(project, stored, wish)
        body = {
            "ok": rejected == 0,
            "accepted": len(results) - rejected,
            "rejected": rejected,
            "results": [
                result.body(request_id=request.request_id)
                if isinstance(result, IndelibleError)
                else result
                for result in results
            ],
            "request_id": request.request_id,
            **({} if lost_warning is None else {"lost_warning": lost_warning}),
        }
        return Answer(202, msgspec.json.encode(body))

    async def _take(
        self, request: Request, owner: Key, project: Project, read: Callable[[Text], _Taken]
    ) -> tuple[list[AuditReceipt | IndelibleError], LostWarning | None]:
        """Read the body with `read`, on the loop or off it, and store its events."""
        packing = Packing(request.header(b"content-type"), request.joined(b"content-encoding"))
        check_packing(packing, CONTENT_TYPES)
        limit_bytes = self._intake.limits.max_body_bytes
        body = await request.body(limit_bytes)
        text = unpack_small(body, packing, limit_bytes=limit_bytes)
        if text is not None:
            taken = read(text)
            submit = self._intake.store
            outcomes = iter(await self._store(taken, owner, project, request, submit))
        else:
            async with self._intake.large.turn(len(body), is_known=True) as turns:
                taken = await turns.run(
                    lambda: read(unpack(body, packing, limit_bytes=limit_bytes))
                )
                submit = self._intake.submit_in_runs
                outcomes = iter(await self._store(taken, owner, project, request, submit))
        results = [
            _counted(item) if isinstance(item, IndelibleError) else _result(item, next(outcomes))
            for item in taken.items
        ]
        return results, settle(taken.lost, Lane.AUDIT, outcomes)

    async def _store(
        self, taken: _Taken, owner: Key, project: Project, request: Request, submit: Submit
    ) -> Sequence[Outcome]:
        check_not_empty(taken.items, taken.lost, Lane.AUDIT)
        EVENTS_RECEIVED.add(_LANE, count=len(taken.items))
        if owner.rate is not None:
            self._hold_to_rate(owner, project, request, taken)
        drafts = [item.draft for item in taken.items if isinstance(item, _Item)]
        if isinstance(taken.lost, Report):
            drafts.append(self._draft_of_lost(taken.lost, project, request))
        if not drafts:
            return ()
        self._intake.disk.check(Lane.AUDIT)
        return await submit(drafts)

    def _hold_to_rate(self, key: Key, project: Project, request: Request, taken: _Taken) -> None:
        """Turn away the last of the events where there are more than the key's rate leaves.

        Raises:
            RateLimited: none of them may pass now.
        """
        reports = int(isinstance(taken.lost, Report))
        wanted = reports + sum(isinstance(item, _Item) for item in taken.items)
        passed = self._intake.rates.take(key, project, Lane.AUDIT, wanted)
        if passed == wanted:
            return
        refusal = self._intake.rates.refusal(key, Lane.AUDIT, request)
        if passed == 0:
            EVENTS_DROPPED.add(_LANE, refusal.code, count=len(taken.items))
            raise refusal
        left = passed - reports
        for place, item in enumerate(taken.items):
            if isinstance(item, _Item):
                left -= 1
                if left < 0:
                    taken.items[place] = refusal

    async def _confirm(self, project: Project, stored: Sequence[AuditReceipt], wish: Wish) -> None:
        """Wait for the receipts and put them into the answers."""
        if not stored:
            return
        receipts = await self._intake.confirm(
            project.id, [one.index for one in stored], wish.level, timeout_s=wish.timeout_s
        )
        for one, receipt in zip(stored, receipts, strict=True):
            if receipt is not None:
                one.status, one.receipt = wish.level, receipt

    def _open(self, request: Request, route: str) -> tuple[Key, Project]:
        """The key of a request, and the project that it is for."""
        gate = self._intake.gate
        authorization = request.header(b"authorization")
        caller = gate.caller_on(route, authorization, lambda: request.address(gate))
        project = gate.project_of(caller, request.query.get("project"))
        request.project_id = project.id
        return caller.key, project

    def _item_of(
        self, raw: msgspec.Raw, project: Project, request: Request, shared_key: str | None
    ) -> _Item | IndelibleError:
        """An event of a batch; its own `idempotency_key` before the one it shares."""
        try:
            fields = _object(raw)
            key = _key_of_event(fields) or shared_key
        except IndelibleError as error:
            return error
        return self._item(fields, project, request, key, inbound_id=None)

    def _item(
        self,
        fields: dict[str, msgspec.Raw],
        project: Project,
        request: Request,
        key: str | None,
        *,
        inbound_id: str | None,
    ) -> _Item | IndelibleError:
        try:
            return self._read(fields, project, request, key, inbound_id=inbound_id)
        except IndelibleError as error:
            return error

    def _read(
        self,
        fields: dict[str, msgspec.Raw],
        project: Project,
        request: Request,
        key: str | None,
        *,
        inbound_id: str | None,
    ) -> _Item:
        payload = _payload(fields.pop("payload", None), self._intake.limits.max_payload_bytes)
        meta = _meta(fields.pop("meta", None))
        request_id = inbound_id or meta.get("request_id") or request.request_id
        record: dict[str, object] = {"meta": meta, "request": {"request_id": request_id}}
        if key is not None:
            record["idempotency_key"] = key
        if fields:
            record["$extra"] = _readable(fields, limit_bytes=self._intake.limits.max_payload_bytes)
        draft = Draft(
            project_id=project.id,
            kind=Kind.AUDIT,
            received_at_ms=self._intake.clock(),
            payload=payload,
            record=_RECORD.encode(record),
            lane=Lane.AUDIT,
            client_id=key,
            new_entry_on_conflict=_is_clock_reading(key, meta),
            monthly_limit=project.audit_monthly_limit,
        )
        return _Item(draft, hashlib.sha256(payload).hexdigest(), request_id)

    def _draft_of_lost(self, report: Report, project: Project, request: Request) -> Draft:
        return draft_of(
            report,
            project.id,
            Lane.AUDIT,
            {"request_id": request.request_id},
            received_at_ms=self._intake.clock(),
        )


def _is_clock_reading(key: str | None, meta: dict[str, str]) -> bool:
    """Whether the key is one that two events may share by accident.

    The Go client printed in ImmutableLog's guide uses nanoseconds as request id and key at once;
    two events of a parallel batch can draw the same, and that client never looks at a 409.
    """
    return key is not None and key.isdigit() and key == meta.get("request_id")


def _result(item: _Item, outcome: Outcome) -> AuditReceipt | IndelibleError:
    match outcome:
        case OverLimit():
            return _counted(MonthlyLimitExceeded())
        case Duplicate(same_content=False):
            return _counted(IdempotencyConflict())
        case Duplicate(index, tx, same_content):
            EVENTS_DUPLICATE.add(_LANE)
            # After an erasure nobody can say any more what the first payload was.
            known_hash = item.payload_hash if same_content else None
            return _receipt(item, index, tx, payload_hash=known_hash, duplicate=True)
        case Stored(index, tx, conflict):
            EVENTS_STORED.add(_LANE)
            receipt = _receipt(item, index, tx, payload_hash=item.payload_hash, duplicate=False)
            if conflict:
                EVENTS_WARNED.add(_LANE, WarnReason.IDEMPOTENCY_CONFLICT)
                receipt.result = "warning"
                receipt.reason = WarnReason.IDEMPOTENCY_CONFLICT
            return receipt


def _receipt(
    item: _Item, index: int, tx: bytes, *, payload_hash: str | None, duplicate: bool
) -> AuditReceipt:
    return AuditReceipt(
        ok=True,
        tx_id=tx_text(tx),
        payload_hash=payload_hash,
        status="accepted",
        duplicate=duplicate,
        request_id=item.request_id,
        index=index,
    )


def _counted(error: IndelibleError) -> IndelibleError:
    EVENTS_DROPPED.add(_LANE, error.code)
    return error


def _inbound_id(request: Request) -> str | None:
    given = request.header(b"request-id")
    return given if given and given == request.request_id else None


def _key_of_header(request: Request) -> str | None:
    if not request.has(b"idempotency-key"):
        return None
    return _checked_key(request.header(b"idempotency-key"))


def _key_of_event(fields: dict[str, msgspec.Raw]) -> str | None:
    raw = fields.pop("idempotency_key", None)
    if raw is None:
        return None
    if _size(raw) > _BYTES_AN_ESCAPE * _LONGEST_KEY + _QUOTES:
        raise InvalidIdempotencyKey
    try:
        return _checked_key(_TEXT.decode(raw))
    except msgspec.DecodeError:
        raise InvalidIdempotencyKey from None


def _checked_key(key: str) -> str:
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidIdempotencyKey
    return key


def _fields(text: Text) -> dict[str, msgspec.Raw]:
    """The members of a body."""
    try:
        check_utf8(text)
        return members(text)
    except RecursionError:
        raise InvalidMeta("The body is nested too deep to be read") from None
    except TooManyMembers:
        raise InvalidEvent(f"The body has more than {MAX_MEMBERS:,} members") from None
    except msgspec.ValidationError:
        raise InvalidJson("The body must be a JSON object") from None
    except msgspec.DecodeError as error:
        if replace_lone_surrogates(text) is not text:
            # Replacing it would store, and later prove, something that was never sent.
            raise InvalidPayload(
                "The body holds a lone surrogate, which has no UTF-8 form",
                hint="Cut text between characters, not inside one.",
            ) from None
        raise json_error(error) from None


def _events_of(fields: dict[str, msgspec.Raw]) -> list[msgspec.Raw]:
    try:
        return elements(fields["events"], most=MAX_BATCH)
    except RecursionError:
        raise InvalidMeta("The body is nested too deep to be read") from None
    except (KeyError, msgspec.DecodeError):
        raise InvalidJson(
            "The body must be an object with a list `events`",
            hint='Send {"events": [{"payload": "…", "meta": {…}}, …]}.',
        ) from None


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return members(raw)
    except TooManyMembers:
        raise InvalidEvent(f"The event has more than {MAX_MEMBERS:,} members") from None
    except RecursionError:
        raise InvalidEvent(f"The event is nested more than {MAX_DEPTH} deep") from None
    except msgspec.DecodeError:
        raise InvalidEvent from None


def _payload(raw: msgspec.Raw | None, limit_bytes: int) -> bytes:
    if raw is None:
        raise InvalidPayload
    if _size(raw) > _BYTES_AN_ESCAPE * limit_bytes + _QUOTES:
        if not bytes(memoryview(raw)[:1]) == b'"':
            raise InvalidPayload
        raise PayloadTooLarge(size_bytes=None, limit_bytes=limit_bytes)
    try:
        payload = _TEXT.decode(raw).encode()
    except msgspec.DecodeError:
        raise InvalidPayload from None
    if len(payload) > limit_bytes:
        raise PayloadTooLarge(size_bytes=len(payload), limit_bytes=limit_bytes)
    return payload


def _size(raw: msgspec.Raw | None) -> int:
    return 0 if raw is None else len(memoryview(raw))


def _meta(raw: msgspec.Raw | None) -> dict[str, str]:
    """The meta as it is stored: checked, with a type, and with a clean trail.

    Raises:
        InvalidMeta, InvalidType.
    """
    if _size(raw) > _LONGEST_META_BYTES:
        raise InvalidMeta(f"meta has more than {_LONGEST_META_BYTES:,} bytes")
    try:
        sent = {} if raw is None else _META.decode(raw)
    except msgspec.DecodeError:
        raise InvalidMeta from None
    meta = sent if isinstance(sent, dict) else {}
    trail = clean_trail(meta.pop("immutable_trail", ""))
    if trail:
        meta["immutable_trail"] = trail
    if len(meta) > MAX_META_KEYS:
        raise InvalidMeta(f"meta has {len(meta)} keys; {MAX_META_KEYS} are the most")
    for name, value in meta.items():
        if len(name) > MAX_META_KEY_CHARS or len(value) > MAX_META_VALUE_CHARS:
            raise InvalidMeta(
                f"A key of meta has at most {MAX_META_KEY_CHARS} characters, "
                f"a value {MAX_META_VALUE_CHARS:,}"
            )
    kind = meta.setdefault("type", DEFAULT_TYPE)
    if kind not in TYPES:
        raise InvalidType
    return meta


def _readable(fields: dict[str, msgspec.Raw], *, limit_bytes: int) -> dict[str, msgspec.Raw]:
    """The members of the event that have no meaning here, kept as they were sent.

    Raises:
        InvalidEvent: one of them could not be read back.
        PayloadTooLarge: together they are longer than a payload may be.
    """
    size = sum(map(_size, fields.values()))
    if size > limit_bytes:
        raise PayloadTooLarge(size_bytes=size, limit_bytes=limit_bytes)
    try:
        for raw in fields.values():
            if nesting(bytes(raw)) >= MAX_DEPTH:
                raise InvalidEvent(f"The event is nested more than {MAX_DEPTH} deep")
            msgspec.json.decode(raw)
    except msgspec.DecodeError:
        raise InvalidEvent from None
    return fields
