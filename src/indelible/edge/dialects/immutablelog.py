"""ImmutableLog's dialect: audit events at ``POST /v1/events`` and ``/v1/events/batch``.

The payload is an opaque string: it is stored to the byte as its UTF-8 form, never reparsed. `meta`
is a flat map of strings. The 202 is sent after the sync.
"""

import hashlib
import re
from typing import Annotated, Final

import msgspec

from indelible.edge.arrival import AuditEvent, Dropped, Kept, has_number, refused
from indelible.edge.brackets import MAX_DEPTH, Text, nesting
from indelible.edge.dialect import Call, Dialect, Path, Reading, Result, Settled
from indelible.edge.dialects.immutablelog_schema import (
    DEFAULT_TYPE,
    MAX_BATCH,
    MAX_META_KEY_CHARS,
    MAX_META_KEYS,
    MAX_META_VALUE_CHARS,
    TYPES,
    AuditReceipt,
    describe_batch,
    describe_one,
)
from indelible.edge.http import Answer, Request
from indelible.edge.lost import LostWarning, Report, read_lost
from indelible.edge.shallow import (
    MAX_MEMBERS,
    TooManyMembers,
    check_utf8,
    elements,
    json_error,
    members,
)
from indelible.edge.surrogates import replace_lone_surrogates
from indelible.errors import (
    IndelibleError,
    InvalidEvent,
    InvalidIdempotencyKey,
    InvalidJson,
    InvalidMeta,
    InvalidPayload,
    InvalidType,
    PayloadTooLarge,
)
from indelible.event import Lane, clean_trail, tx_text
from indelible.record import Audit, Origin

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
_NOTHING_NOTED: Final = Origin()  # each audit event has its own


def read_one(text: Text, call: Call) -> Reading:
    """Read the body of ``POST /v1/events``.

    Raises:
        InvalidJson, InvalidEvent, InvalidMeta, InvalidPayload, InvalidIdempotencyKey.
    """
    fields, key = _fields(text), _key_of_header(call.request)
    event = _event(fields, call, key, inbound_id=_inbound_id(call.request))
    return Reading(_NOTHING_NOTED, (event,), 1)


def read_batch(text: Text, call: Call) -> Reading:
    """Read the body of ``POST /v1/events/batch``: up to 100 events, and perhaps `lost`.

    An event's `idempotency_key` counts; where it has none, the request's Idempotency-Key with the
    event's place behind it does, so that a batch sent again adds nothing.

    Raises:
        InvalidJson, InvalidEvent, InvalidMeta, InvalidPayload, InvalidIdempotencyKey,
        BatchTooLarge.
    """
    fields = _fields(text)
    sent, lost = _events_of(fields), read_lost(fields.get("lost"))
    shared_key = _key_of_header(call.request)
    events = (
        _event_of_batch(raw, call, shared_key and f"{shared_key}/{place}")
        for place, raw in enumerate(sent)
    )
    # Making an id takes as long as reading an event; only a report would need this one.
    is_noted = isinstance(lost, Report)
    origin = Origin(request_id=call.request.request_id) if is_noted else _NOTHING_NOTED
    return Reading(origin, events, len(sent), lost=lost)


def answer_one(call: Call, settled: Settled, lost_warning: LostWarning | None) -> Answer:  # noqa: ARG001
    """202 with the receipt of the event.

    Raises:
        IndelibleError: why it was dropped.
    """
    (result,) = settled
    if isinstance(result, Dropped):
        assert result.error is not None
        raise result.error
    return Answer(202, msgspec.json.encode(_receipt(result)))


def answer_batch(call: Call, settled: Settled, lost_warning: LostWarning | None) -> Answer:
    """202 with a result for each event, in order."""
    request_id = call.request.request_id
    rejected = sum(isinstance(result, Dropped) for result in settled)
    body = {
        "ok": rejected == 0,
        "accepted": len(settled) - rejected,
        "rejected": rejected,
        "results": [
            result.error.body(request_id=request_id)
            if isinstance(result, Dropped) and result.error is not None
            else _receipt(result)
            for result in settled
        ],
        "request_id": request_id,
        **({} if lost_warning is None else {"lost_warning": lost_warning}),
    }
    return Answer(202, msgspec.json.encode(body))


def _receipt(result: Result) -> AuditReceipt:
    assert isinstance(result, Kept)
    event = result.event
    assert isinstance(event, AuditEvent)
    # After an erasure no one can say any more what the first payload was.
    payload_hash = None if result.is_erased else hashlib.sha256(event.payload).hexdigest()
    receipt = AuditReceipt(
        ok=True,
        tx_id=tx_text(result.tx),
        payload_hash=payload_hash,
        status=result.level or "accepted",
        duplicate=result.is_duplicate,
        request_id=str(event.record.request.request_id),
        index=result.index,
    )
    if result.warnings:
        receipt.result, receipt.reason = "warning", result.warnings[0]
    if result.receipt is not None:
        receipt.receipt = result.receipt
    return receipt


def _event_of_batch(raw: msgspec.Raw, call: Call, shared_key: str | None) -> AuditEvent | Dropped:
    """An event of a batch; its own `idempotency_key` before the one it shares."""
    try:
        fields = _object(raw)
        key = _key_of_event(fields) or shared_key
    except IndelibleError as error:
        return refused(error)
    return _event(fields, call, key, inbound_id=None)


def _event(
    fields: dict[str, msgspec.Raw], call: Call, key: str | None, *, inbound_id: str | None
) -> AuditEvent | Dropped:
    limit_bytes = call.limits.max_payload_bytes
    sent, said = fields.pop("payload", None), fields.pop("meta", None)
    try:
        payload = _payload(sent, limit_bytes)
        meta = _meta(said)
        extra = _readable(fields, limit_bytes=limit_bytes) if fields else fields
    except IndelibleError as error:
        return refused(error, is_numbered=_has_number(said))
    request_id = inbound_id or meta.get("request_id") or call.request.request_id
    record = Audit(
        meta,
        Origin(request_id=request_id),
        extra=extra or msgspec.UNSET,
        idempotency_key=msgspec.UNSET if key is None else key,
    )
    return AuditEvent(payload=payload, client_id=key, name=meta.get("event_name"), record=record)


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


def _has_number(raw: msgspec.Raw | None) -> bool:
    """Whether the meta of an event that is refused says which capture it is."""
    if raw is None or _size(raw) > _LONGEST_META_BYTES:
        return False
    try:
        meta = _META.decode(raw)
    except msgspec.DecodeError:
        return False
    return isinstance(meta, dict) and has_number(meta)


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


SINGLE: Final = Dialect(Lane.AUDIT, (Path("/v1/events"),), read_one, None, answer_one, describe_one)
BATCH: Final = Dialect(
    Lane.AUDIT, (Path("/v1/events/batch"),), read_batch, None, answer_batch, describe_batch
)
