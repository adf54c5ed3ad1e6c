"""The two lanes as bytes: what one event looks like, how a batch is framed, what an answer says.

Product events travel as vTilt's batches, ``POST /api/e``:

    {"api_key": "…", "sent_at": "…", "lost": {…}?, "batch": [
        {"event", "distinct_id", "uuid", "timestamp", "process_id", "sequence", "properties"}, …]}

audit events as ``POST /v1/events/batch``, each as ImmutableLog documents it:

    {"lost": {…}?, "events": [{"payload": "…", "meta": {…}, "idempotency_key": "…"}, …]}

A record is the JSON of one event and is never written anew: its id and time stay what they were at
capture, over every retry and restart. `process_id` and `sequence` number all captures of one
client, those that were lost included, so that a server sees what is missing.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from indelible.client.capture import AuditCapture, ProductCapture, Record
from indelible.client.encode import MAX_VALUES, WrongType, clean, encode, id_of, pass_on, plain
from indelible.client.hidden import Secret
from indelible.client.options import WireEvent
from indelible.client.outcome import Outcome, again
from indelible.client.privacy import Redaction
from indelible.clock import rfc3339
from indelible.event import Lane, clean_trail

if TYPE_CHECKING:
    from indelible.client.transport import Answer

MAX_META_CHARS: Final = 1_024
_FROZEN: Final = ("distinct_id", "uuid", "timestamp", "process_id", "sequence")
MAX_PRODUCT_VALUES: Final = 49_900
"""Of an event's 50,000 that a server takes, those that properties may use."""
_JOINS: Final = {"$identify": "$anon_distinct_id", "$create_alias": "alias"}
_ARGUMENTS: Final = {"$anon_distinct_id": "anonymous_id", "alias": "alias"}
_YES: Final = frozenset({"1", "200", "ok", "success", "accepted"})
_DELIVERED: Final = frozenset({"ok", "warning", "limited"})
_PASSING: Final = frozenset({"internal_error", "unavailable", "rate_limited"})


class LetGo(Exception):
    """The event is not to be sent: `before_send` said so."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was lost since the last report; frozen until a server has taken it.

    `captured` is how many events this process had captured by then, in this lane.
    """

    uuid: str
    process_id: str
    counts: Mapping[str, int]
    captured: int

    def body(self) -> dict[str, object]:
        return {
            "uuid": self.uuid,
            "process_id": self.process_id,
            "counts": dict(self.counts),
            "captured": self.captured,
        }


class Wire(Protocol):
    """How one lane speaks."""

    lane: Lane
    path: str
    one_path: str | None
    """Where single events go, for a server that knows no batches; None if there is none."""

    def encode(self, capture: Any) -> tuple[Record, bool]:
        """The event as it will be sent, and whether anything in it was given another form.

        Raises:
            LetGo: it is not to be sent.
        """
        ...

    def frame(self, records: Sequence[Record], report: Report | None, *, sent_at_ms: int) -> bytes:
        """The body of a request."""
        ...

    def headers(self) -> dict[str, str]:
        """The headers of a request, beside those that all have."""
        ...

    def outcomes(self, answer: "Answer", records: Sequence[Record]) -> list[Outcome] | None:
        """What became of each record; None when the answer cannot be read."""
        ...

    def outcome_of(self, body: Mapping[str, Any]) -> Outcome:
        """What became of one event, as the answer for `one_path` says it."""
        ...

    def single(self, record: Record) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a request with this event alone, for `one_path`."""
        ...

    def event_id_of(self, data: bytes) -> str:
        """The id that a record's JSON carries."""
        ...


@dataclass(slots=True)
class ProductWire:
    """Product events, in vTilt's dialect; `token` is written as JSON."""

    token: Secret
    process_id: str
    redaction: Redaction
    max_event_bytes: int
    library: tuple[str, str]
    before_send: Callable[[WireEvent], WireEvent | None] | None = None
    lane: Lane = field(default=Lane.PRODUCT, init=False)
    path: str = field(default="/api/e", init=False)
    one_path: str | None = field(default=None, init=False)

    def encode(self, capture: ProductCapture) -> tuple[Record, bool]:
        event = self._event(capture)
        if self.before_send is not None:
            changed = self.before_send(event)
            if changed is None:
                raise LetGo
            event = changed
        event_id = clean(str(event["uuid"]))
        data, repaired = _masked(event, self.redaction, whole=_FROZEN, most=MAX_PRODUCT_VALUES)
        if len(data) > self.max_event_bytes:
            data, _ = encode({**event, "properties": _stub(data)})
            repaired = True
        return Record(event_id, data), repaired

    def _event(self, capture: ProductCapture) -> WireEvent:
        stamp = capture.stamp
        properties: dict[str, object] = {"$lib": self.library[0], "$lib_version": self.library[1]}
        distinct_id = id_of(capture.distinct_id, "distinct_id")
        if distinct_id is None:
            # Nobody's event still needs an id: that of the process, and no person is made of it.
            distinct_id = self.process_id
            properties["$process_person_profile"] = False
        properties.update(capture.properties)
        if "$device_id" in properties or capture.event in _JOINS:
            _settle_ids(properties, distinct_id, capture.event)
        return {
            "event": capture.event,
            "distinct_id": distinct_id,
            "uuid": id_of(capture.event_id, "uuid") or stamp.uuid,
            "timestamp": capture.timestamp or rfc3339(stamp.at_ns // 1_000_000),
            "process_id": self.process_id,
            "sequence": stamp.sequence,
            "properties": properties,
        }

    def frame(self, records: Sequence[Record], report: Report | None, *, sent_at_ms: int) -> bytes:
        body = _framed({"sent_at": rfc3339(sent_at_ms)}, "batch", records, report)
        # Added last: the token then is in no variable but those that hold a whole body.
        return b'{"api_key":%b,%b' % (self.token.encode(), body[1:])

    def headers(self) -> dict[str, str]:
        return {}

    def outcomes(self, answer: "Answer", records: Sequence[Record]) -> list[Outcome] | None:
        body = answer.body
        if not isinstance(body, dict):
            return None
        events = body.get("events")
        if isinstance(events, list) and len(events) == len(records) and all(map(_is_fate, events)):
            return [self.outcome_of(one) for one in events]
        # vTilt documents no answer: a JSON object with a status of success is one, if it says so.
        taken = 200 <= answer.status < 300 and _says_yes(body)
        return [Outcome("delivered")] * len(records) if taken else None

    def outcome_of(self, body: Mapping[str, Any]) -> Outcome:
        word, reason = str(body.get("result")), str(body.get("reason") or "refused")
        if word in _DELIVERED:
            return Outcome("delivered", body=body)
        if word == "drop":
            return Outcome("refused", reason, body=body)
        return again(reason if word == "retry" else "an answer that cannot be read")

    def single(self, record: Record) -> tuple[bytes, dict[str, str]]:
        return self.frame([record], None, sent_at_ms=0), {}

    def event_id_of(self, data: bytes) -> str:
        return str(json.loads(data)["uuid"])


@dataclass(slots=True)
class AuditWire:
    """Audit events, in ImmutableLog's dialect."""

    api_key: str = field(repr=False)
    process_id: str
    redaction: Redaction
    max_payload_bytes: int
    service: str | None
    env: str | None
    lane: Lane = field(default=Lane.AUDIT, init=False)
    path: str = field(default="/v1/events/batch", init=False)
    one_path: str | None = field(default="/v1/events", init=False)

    def encode(self, capture: AuditCapture) -> tuple[Record, bool]:
        key = capture.idempotency_key or capture.stamp.uuid
        payload, repaired = self._payload(capture, key)
        body = {
            "payload": payload,
            "meta": self._meta(capture),
            "idempotency_key": key,
        }
        data, _ = encode(body, is_plain=True)
        return Record(key, data), repaired

    def _payload(self, capture: AuditCapture, key: str) -> tuple[str, bool]:
        payload: Any = capture.payload
        if issubclass(type(payload), str):  # `isinstance` would wake a lazy object
            # Text is opaque: it is what the caller wants to have proved, to the byte.
            text = clean(payload)
            data, repaired = text.encode(), text != payload
        elif capture.clamp is not None and callable(payload):
            made = plain(payload(key, capture.stamp.at_ns // 1_000_000))
            data, repaired = capture.clamp(self.redaction.of_value(made)), False
        else:
            data, repaired = _masked(payload, self.redaction)
        if len(data) > self.max_payload_bytes:
            data, repaired = encode(truncated(data))[0], True
        return data.decode(), repaired

    def _meta(self, capture: AuditCapture) -> dict[str, str]:
        meta = {
            "event_name": capture.event_name,
            "process_id": self.process_id,
            "sequence": str(capture.stamp.sequence),
        }
        if self.service:
            meta["service"] = self.service
        if self.env:
            meta["env"] = meta["environment"] = self.env
        meta.update(capture.meta)
        if any(type(name) is not str or type(one) is not str for name, one in meta.items()):
            meta = {name: _text(one) for name, one in plain(meta).items()}
        trail = clean_trail(meta.pop("immutable_trail", ""))
        if trail:
            meta["immutable_trail"] = trail
        masked: Any = self.redaction.of_value(meta)
        masked.update({name: meta[name] for name in _FROZEN if name in meta})
        return {clean(name): clean(value)[:MAX_META_CHARS] for name, value in masked.items()}

    def frame(self, records: Sequence[Record], report: Report | None, *, sent_at_ms: int) -> bytes:
        return _framed({"sent_at": rfc3339(sent_at_ms)}, "events", records, report)

    def headers(self) -> dict[str, str]:
        return {"Authorization": Secret.of(f"Bearer {self.api_key}")}

    def outcomes(self, answer: "Answer", records: Sequence[Record]) -> list[Outcome] | None:
        results = answer.body.get("results") if isinstance(answer.body, dict) else None
        if not isinstance(results, list) or len(results) != len(records):
            return None
        return [self.outcome_of(one if isinstance(one, dict) else {}) for one in results]

    def outcome_of(self, body: Mapping[str, Any]) -> Outcome:
        if body.get("ok") is True and isinstance(body.get("tx_id"), str):
            return Outcome("delivered", body=body)
        if body.get("ok") is not False:
            # A success without a transaction id is somebody else's: a proxy's, a login page's.
            return again("an answer that cannot be read")
        reason = str(body.get("reason") or "refused")
        return again(reason) if reason in _PASSING else Outcome("refused", reason, body=body)

    def single(self, record: Record) -> tuple[bytes, dict[str, str]]:
        fields = json.loads(record.data)
        body, _ = encode({"payload": fields["payload"], "meta": fields["meta"]})
        return body, {"Idempotency-Key": record.event_id}

    def event_id_of(self, data: bytes) -> str:
        return str(json.loads(data)["idempotency_key"])


def _text(form: object) -> str:
    """A value of JSON as text of `meta`."""
    return form if isinstance(form, str) else encode(form)[0].decode()


def _settle_ids(properties: dict[str, object], distinct_id: str, event: str) -> None:
    """Give the other ids among the properties their text, and leave out what names nobody else.

    Raises:
        WrongType: an id without which the event means nothing is none.
    """
    for name in ("$device_id", _JOINS.get(event, "$device_id")):
        if name not in properties:
            continue
        try:
            other = id_of(properties[name], _ARGUMENTS.get(name, name))
        except WrongType:
            if name == "$device_id":
                continue  # a property of the application's own
            raise
        if other is None or other == distinct_id:
            del properties[name]
        else:
            properties[name] = other


def _masked(
    value: object, redaction: Redaction, *, whole: Sequence[str] = (), most: int = MAX_VALUES
) -> tuple[bytes, bool]:
    """`value` with what must not leave masked, as JSON; and whether it had to be given a form.

    The members `whole` are left as they are: a pattern that meets the digits of a time or an id
    would make it another one, or one person of many.
    """

    def mask(one: Any, most: int) -> object:
        masked = redaction.of_value(one, most=most)
        if isinstance(masked, dict):
            masked.update({name: one[name] for name in whole if name in one})
        return masked

    try:
        data, repaired = encode(mask(value, most), is_plain=True)
    except BaseException as error:  # it holds what JSON does not have, itself, or what fails
        pass_on(error)
        repaired = True
    if not repaired:
        return data, False
    # Rebuilt first: only then has masking seen every key and text that will leave.
    return encode(mask(plain(value, most=most), MAX_VALUES), is_plain=True)[0], True


def _framed(
    head: dict[str, object], name: str, records: Sequence[Record], report: Report | None
) -> bytes:
    if report is not None:
        head["lost"] = report.body()
    opening, _ = encode({**head, name: []}, is_plain=True)
    return opening[:-2] + b",".join(record.data for record in records) + b"]}"


def _stub(data: bytes) -> dict[str, object]:
    return {"$truncated": True, "$original_size": len(data), "$sha256": _sha256(data)}


def truncated(data: bytes) -> dict[str, object]:
    """What stands for a payload that is too long: its size and digest, so that it can be told."""
    return {"truncated": True, "original_size": len(data), "sha256": _sha256(data)}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _says_yes(body: Mapping[str, Any]) -> bool:
    """Whether an answer says that all went well. A hotel's network answers in JSON too."""
    if body.get("ok") is False or body.get("success") is False:
        return False
    if body.get("ok") is True or body.get("success") is True:
        return True
    return str(body.get("status")).lower() in _YES


def _is_fate(result: Any) -> bool:
    return isinstance(result, dict) and "result" in result
