"""ImmutableLog's dialect: audit events at ``POST /v1/events`` and ``/v1/events/batch``.

The payload is an opaque string: it is stored to the byte as its UTF-8 form, never reparsed. `meta`
is a flat map of strings. The 202 is sent after the sync.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from indelible.edge.body import (
    MAX_DEPTH,
    Packing,
    check_packing,
    nesting,
    replace_lone_surrogates,
    unpack,
)
from indelible.edge.http import Answer, Request
from indelible.edge.intake import Intake
from indelible.edge.lost import Lost, Report, check_not_empty, draft_of, read_lost, settle
from indelible.edge.waiting import Wish, wish_of
from indelible.errors import (
    BatchTooLarge,
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
from indelible.journal.registry import Key, Project
from indelible.metrics import (
    EVENTS_DROPPED,
    EVENTS_DUPLICATE,
    EVENTS_RECEIVED,
    EVENTS_STORED,
    EVENTS_WARNED,
)

TYPES: Final = ("success", "info", "warning", "error", "debug", "audit")
DEFAULT_TYPE: Final = "info"
MAX_BATCH: Final = 100
MAX_META_KEYS: Final = 64
MAX_META_KEY_CHARS: Final = 64
MAX_META_VALUE_CHARS: Final = 1_024

CONTENT_TYPES: Final = frozenset({"application/json", "text/plain", "application/octet-stream"})

_LANE: Final = Lane.AUDIT.value
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_BODY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
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


class AuditIngest:
    """The handlers of the two audit routes."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def one(self, request: Request) -> Answer:
        """``POST /v1/events``."""
        owner, project = self._open(request)
        wish = wish_of(request.query.get("wait"), request.query.get("timeout"))
        fields = await self._fields(request)
        EVENTS_RECEIVED.add(_LANE)
        key = _key_of_header(request)
        try:
            item = self._read(fields, project, request, key, inbound_id=_inbound_id(request))
        except IndelibleError as error:
            raise _counted(error) from None
        if not self._intake.rates.take(owner, project, Lane.AUDIT, 1):
            raise _counted(self._intake.rates.refusal(owner, Lane.AUDIT, request))
        (outcome,) = await self._store([item.draft])
        result = _result(item, outcome)
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
        owner, project = self._open(request)
        wish = wish_of(request.query.get("wait"), request.query.get("timeout"))
        fields = await self._fields(request)
        events, lost = _events_of(fields), read_lost(fields.get("lost"))
        check_not_empty(events, lost, Lane.AUDIT)
        EVENTS_RECEIVED.add(_LANE, count=len(events))
        shared_key = _key_of_header(request)
        items: list[_Item | IndelibleError] = []
        for place, raw in enumerate(events):
            try:
                event = _object(raw)
                key = _key_of_event(event) or (shared_key and f"{shared_key}/{place}")
                items.append(self._read(event, project, request, key, inbound_id=None))
            except IndelibleError as error:
                items.append(_counted(error))
        if owner.rate is not None:
            items = self._hold_to_rate(owner, project, request, items, lost)
        drafts = [item.draft for item in items if isinstance(item, _Item)]
        if isinstance(lost, Report):
            drafts.append(self._draft_of_lost(lost, project, request))
        outcomes = iter(await self._store(drafts))
        results = [
            item if isinstance(item, IndelibleError) else _result(item, next(outcomes))
            for item in items
        ]
        lost_warning = settle(lost, Lane.AUDIT, outcomes)
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

    def _hold_to_rate(
        self,
        key: Key,
        project: Project,
        request: Request,
        items: list[_Item | IndelibleError],
        lost: Lost,
    ) -> list[_Item | IndelibleError]:
        """Turn away the last of the events where there are more than the key's rate leaves.

        Raises:
            RateLimited: none of them may pass now.
        """
        reports = int(isinstance(lost, Report))
        wanted = reports + sum(isinstance(item, _Item) for item in items)
        passed = self._intake.rates.take(key, project, Lane.AUDIT, wanted)
        if passed == wanted:
            return items
        refusal = self._intake.rates.refusal(key, Lane.AUDIT, request)
        if passed == 0:
            raise refusal
        left = passed - reports
        held: list[_Item | IndelibleError] = []
        for item in items:
            left -= isinstance(item, _Item)
            held.append(_counted(refusal) if isinstance(item, _Item) and left < 0 else item)
        return held

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

    def _open(self, request: Request) -> tuple[Key, Project]:
        """The key of a request, and the project that it is for."""
        key = self._intake.gate.key_of_bearer(
            request.header(b"authorization"), lambda: request.caller(self._intake.gate)
        )
        return key, self._intake.gate.project_of_key(key, request.query.get("project"))

    async def _fields(self, request: Request) -> dict[str, msgspec.Raw]:
        packing = Packing(request.header(b"content-type"), request.header(b"content-encoding"))
        check_packing(packing, CONTENT_TYPES)
        body = await request.body(self._intake.limits.max_body_bytes)
        text = unpack(body, packing, limit_bytes=self._intake.limits.max_body_bytes)
        try:
            str(text, "utf-8")
            return _BODY.decode(text)
        except UnicodeDecodeError as error:
            raise InvalidJson(f"The body is not UTF-8 at byte {error.start}") from None
        except RecursionError:
            raise InvalidMeta("The body is nested too deep to be read") from None
        except msgspec.ValidationError:
            raise InvalidJson("The body must be a JSON object") from None
        except msgspec.DecodeError as error:
            if replace_lone_surrogates(text) != text:
                # Replacing it would store, and later prove, something that was never sent.
                raise InvalidPayload(
                    "The body holds a lone surrogate, which has no UTF-8 form",
                    hint="Cut text between characters, not inside one.",
                ) from None
            raise InvalidJson(str(error)) from None

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

    async def _store(self, drafts: Sequence[Draft]) -> Sequence[Outcome]:
        if not drafts:
            return ()
        self._intake.disk.check(Lane.AUDIT)
        return await self._intake.committer.submit(drafts)


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
    try:
        return _checked_key(_TEXT.decode(raw))
    except msgspec.DecodeError:
        raise InvalidIdempotencyKey from None


def _checked_key(key: str) -> str:
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidIdempotencyKey
    return key


def _events_of(fields: dict[str, msgspec.Raw]) -> list[msgspec.Raw]:
    try:
        events = _LIST.decode(fields["events"])
    except (KeyError, msgspec.DecodeError):
        raise InvalidJson(
            "The body must be an object with a list `events`",
            hint='Send {"events": [{"payload": "…", "meta": {…}}, …]}.',
        ) from None
    if len(events) > MAX_BATCH:
        raise BatchTooLarge(size=len(events), limit=MAX_BATCH)
    return events


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return _BODY.decode(raw)
    except msgspec.DecodeError:
        raise InvalidEvent from None


def _payload(raw: msgspec.Raw | None, limit_bytes: int) -> bytes:
    try:
        payload = _TEXT.decode(raw).encode() if raw is not None else None
    except msgspec.DecodeError:
        payload = None
    if payload is None:
        raise InvalidPayload
    if len(payload) > limit_bytes:
        raise PayloadTooLarge(size_bytes=len(payload), limit_bytes=limit_bytes)
    return payload


def _meta(raw: msgspec.Raw | None) -> dict[str, str]:
    """The meta as it is stored: checked, with a type, and with a clean trail.

    Raises:
        InvalidMeta, InvalidType.
    """
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
    size = sum(len(bytes(raw)) for raw in fields.values())
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
