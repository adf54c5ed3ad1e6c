"""Audit events from an application: durable where it asks, queued where it must not wait.

`send` comes back when the event is safe: with the server's receipt, or, when the server cannot be
reached, after the event was synced to the spool on disk. It raises only when neither took it, or
when the server says that it never will. `send_async` is queued, never blocks and never raises.

One event has one Idempotency-Key for ever: over retries, over restarts, through the spool. So the
server stores it once, however often it arrives.
"""

import builtins
import random
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from indelible.client import context
from indelible.client.capture import AuditCapture, Capture, Observed, Stamp
from indelible.client.crew import each_at_once
from indelible.client.encode import IdLike, blame
from indelible.client.exchange import Exchange
from indelible.client.options import Options
from indelible.client.outbox import Outbox
from indelible.client.outcome import Outcome, again
from indelible.client.receipt import (
    DISABLED,
    SPOOLED,
    AuditEvent,
    AuditFields,
    AuditType,
    Receipt,
    Wait,
    is_portable,
    receipt_path,
    wait_query,
)
from indelible.client.tally import Counts, Numbers
from indelible.client.timing import Time
from indelible.client.transport import Answer, Transport, TransportFailed
from indelible.client.underway import Prepared, UnderWay
from indelible.client.wire import AuditWire
from indelible.errors import AuditFailed, AuditNotKept, AuditRefused, ClientDisabled
from indelible.event import LossReason

if TYPE_CHECKING:
    from indelible.ledger.format.verify import Verification

MAX_IN_FLIGHT: Final = 8
_BATCH: Final = 100
_PATIENCE: Final = 0.8
_TOO_LARGE: Final = 413
_PAYLOAD_BYTES: Final = 1_024  # of one that is not text yet, about


class AuditLane(NamedTuple):
    """What the audit side has in one process; a forked child has another."""

    outbox: Outbox
    wire: AuditWire


class Audit:
    """The audit side of a client: `Indelible(…).audit`."""

    def __init__(
        self, options: Options, lane: Callable[[], "AuditLane | None"], *, time: Time
    ) -> None:
        self._options = options
        self._lane = lane
        self._time = time
        self._unsent = Numbers()
        self._idle: deque[Transport] = deque()
        weakref.finalize(self, _close, self._idle).atexit = False
        self._under_way = UnderWay(time)

    # The durable door.

    def send(
        self,
        event_name: str,
        payload: object,
        *,
        type: AuditType = "info",
        meta: Mapping[str, str] | None = None,
        idempotency_key: IdLike | None = None,
        attempts: int = 1,
        wait: Wait | None = None,
        timeout_s: float | None = None,
    ) -> Receipt:
        """Store one audit event, and come back when it is safe.

        A call that is interrupted, as by Ctrl-C, leaves its event to the spool.

        Args:
            event_name, payload, type, meta, idempotency_key: see `AuditEvent`.
            attempts: tries before the spool takes it, with a pause of about 0.5, 1, 2 … s between.
                A server that says Retry-After is obeyed; where it asks for more than `timeout_s`,
                the spool takes the event at once.
            wait: `sealed` or `witnessed`: wait for the receipt itself, up to `timeout_s`.
            timeout_s: longest wait for one exchange; 5 s unless set otherwise.

        Raises:
            AuditRefused: the server will never take it; nothing was stored.
            AuditNotKept: neither server nor disk could take it.
            ClientDisabled: the client has no key or no host, or was shut down. One that was made
                with ``enabled=False`` answers `disabled` instead.
            ValueError: `type` or `wait` is none of the known words.
        """
        event = AuditEvent(
            event_name=event_name,
            payload=payload,
            type=type,
            meta=meta,
            idempotency_key=idempotency_key,
        )
        if not self._options.enabled:
            return self._let_go(event)
        return self._send(event, attempts=attempts, wait=wait, timeout_s=timeout_s)

    def send_batch(
        self, events: Sequence[AuditEvent | AuditFields], *, timeout_s: float | None = None
    ) -> list[Receipt | AuditFailed]:
        """Store many; a receipt or an error for each, by its place.

        Up to 100 travel in one request, and at most 8 requests are under way at once.

        Raises:
            TypeError, ValueError: an item is no audit event; nothing was sent.
            ClientDisabled: as for `send`.
        """
        checked = [AuditEvent.of(event) for event in events]
        if not self._options.enabled:
            return [self._let_go(event) for event in checked]
        ready: list[Prepared] = []
        try:
            # Written here: other threads have neither this context nor this fork's lane.
            for event in checked:
                ready.append(self._prepared(event))  # noqa: PERF401 — if one fails, who was before?
        except BaseException as error:
            is_closed = isinstance(error, ClientDisabled)
            reason = LossReason.AFTER_SHUTDOWN if is_closed else LossReason.ENCODE_FAILED
            for one in ready:
                self._under_way.lose(one, reason)
            raise
        chunks = [ready[i : i + _BATCH] for i in range(0, len(ready), _BATCH)]
        try:
            results = each_at_once(
                lambda chunk: self._send_chunk(chunk, timeout_s), chunks, most=MAX_IN_FLIGHT
            )
        except BaseException:
            for one in ready:
                self._under_way.keep(one)
            raise
        return [result for chunk in results for result in chunk]

    # The queued door.

    def send_async(
        self,
        event_name: str,
        payload: object,
        *,
        type: AuditType = "info",
        meta: Mapping[str, str] | None = None,
        idempotency_key: IdLike | None = None,
    ) -> None:
        """Queue one audit event and return at once; never raises.

        It is written to the spool within some ten milliseconds and delivered from there, by this
        process or by a later one. A dict is copied, but not what is in it.
        """
        try:
            lane = self._lane()
            if lane is None:
                self._unsent.draw()
                return
        except Exception:
            if self._options.strict:
                raise
            return
        try:
            event = AuditEvent(
                event_name=event_name,
                payload=payload,
                type=type,
                meta=meta,
                idempotency_key=idempotency_key,
            )
            described = self._meta_of(event)
            kind: Any = builtins.type(payload)  # `isinstance` would wake a lazy object
            payload = dict(payload) if issubclass(kind, dict) else payload  # type: ignore[call-overload]
            size = len(payload) if issubclass(kind, str) else _PAYLOAD_BYTES  # type: ignore[arg-type]
        except Exception as error:
            if self._options.strict:
                raise
            lane.outbox.stamp()
            given = {"event_name": event_name, "payload": payload, "type": type, "meta": meta}
            given["idempotency_key"] = idempotency_key
            lane.outbox.lose(LossReason.ENCODE_FAILED, why=blame(error, given))
            return
        stamp = lane.outbox.stamp()
        capture = AuditCapture(stamp, event_name, payload, described, event.key)
        self._put(lane, capture, size)

    def _send_observed(self, expand: Callable[[Stamp], AuditCapture]) -> None:
        """`send_async` for the hooks: the event is described on the background thread."""
        lane = self._lane()
        if lane is None:
            self._unsent.draw()
            return
        self._put(lane, Observed(lane.outbox.stamp(), expand), _PAYLOAD_BYTES)

    def _put(self, lane: AuditLane, capture: Capture, size: int) -> None:
        lane.outbox.put(capture, size)
        if self._options.mode == "sync" or lane.outbox.is_ending:
            lane.outbox.flush(self._options.total_s)
            lane.outbox.raise_fault()

    # Reading back.

    def fetch_receipt(
        self, tx_id: str, *, wait: Wait | None = "sealed", timeout_s: float = 10.0
    ) -> str:
        """The portable receipt (`.tlog-proof`) of a stored event, once it is sealed.

        Raises:
            AuditRefused: the server has no such event, or it is not that far yet.
            AuditFailed: no answer came.
        """
        answer = self._asked("GET", receipt_path(tx_id, wait, timeout_s), timeout_s + 5)
        if not is_portable(answer.text):
            raise AuditFailed("No receipt came: something in front of the server answered 200")
        return answer.text.decode()

    def verify(self, receipt: "Receipt | str", *, policy: str) -> "Verification":
        """Check a receipt against a policy; see `indelible verify`, which does the same.

        `receipt` is the text of a `.tlog-proof`, or what `send` returned: then the proof is
        fetched from the server where it did not come along. `policy` is the text of a policy that
        you keep yourself: one fetched from the server that is to be checked would prove nothing.

        Raises:
            ImportError: the extra is missing: ``pip install "indelible[verify]"``.
            AuditFailed: the receipt had to be fetched and was not.
        """
        from indelible.ledger.format.policy import parse_policy  # needs the extra
        from indelible.ledger.format.verify import verify_receipt

        if isinstance(receipt, Receipt):
            if receipt.receipt is None and receipt.tx_id is None:
                raise AuditFailed("The event is still in the spool: it has no receipt yet")
            text = receipt.receipt or self.fetch_receipt(str(receipt.tx_id))
        else:
            text = receipt
        return verify_receipt(text, parse_policy(policy))

    def counts(self) -> Counts:
        """What became of this process's audit events."""
        lane = self._lane()
        if lane is not None:
            return lane.outbox.counts()
        unsent = self._unsent.drawn
        return Counts(unsent, 0, 0, {LossReason.DISABLED: unsent} if unsent else {})

    # How.

    def _send(
        self, event: AuditEvent, *, attempts: int, wait: Wait | None, timeout_s: float | None
    ) -> Receipt:
        limit_s = timeout_s or self._options.total_s
        # The server is to answer before we stop listening, so that a stored event is known as one.
        patience_s = limit_s * _PATIENCE
        query = wait_query(wait, patience_s)
        one = self._prepared(event)
        try:
            outcome = self._tried_often(one, query, attempts, timeout_s, limit_s)
        except BaseException:
            self._under_way.keep(one)
            raise
        result = self._settled(one, outcome)
        if isinstance(result, AuditFailed):
            raise result
        return result

    def _settled(self, one: Prepared, outcome: Outcome) -> Receipt | AuditFailed:
        """Count what came of an event; the spool takes one that the server has not answered for."""
        if outcome.fate == "delivered":
            self._under_way.delivered(one)
            return Receipt.answered(outcome.body, one.record.event_id)
        if outcome.fate == "refused":
            self._under_way.lose(one, LossReason.REFUSED)
            # The code says more than which of the server's limits it was.
            reason = "payload_too_large" if outcome.status == _TOO_LARGE else outcome.said
            return AuditRefused(reason, status=outcome.status or 400, hint=outcome.hint)
        if not self._under_way.keep(one):
            return AuditNotKept()
        return Receipt(status=SPOOLED, idempotency_key=one.record.event_id)

    def _tried_often(
        self,
        one: Prepared,
        query: str,
        attempts: int,
        timeout_s: float | None,
        limit_s: float,
    ) -> Outcome:
        """Up to so many tries, with pauses between; `again` when the spool is to take it."""
        outcome = again("the server is taken to be down")
        for attempt in range(1, max(1, attempts) + 1):
            # Where the queue finds the server down, a call need not wait to find it too.
            if attempts > 1 or not one.outbox.is_down:
                headers = {"X-Indelible-Attempt": str(attempt), "X-Request-ID": one.record.event_id}
                with self._transport(one.outbox) as transport:
                    outcome = Exchange(one.wire, self._time).single(
                        transport, one.record, headers=headers, query=query, total_s=timeout_s
                    )
            if outcome.fate in ("delivered", "refused"):
                break
            asked_s = outcome.after_s or 0.0
            if attempt >= attempts or asked_s > limit_s:
                break
            pause_s = random.uniform(0.25, 0.5) * 2 ** (attempt - 1)  # noqa: S311
            threading.Event().wait(max(pause_s, asked_s))
        return outcome

    def _send_chunk(
        self, prepared: Sequence[Prepared], timeout_s: float | None
    ) -> list[Receipt | AuditFailed]:
        outbox, wire = prepared[0].outbox, prepared[0].wire
        records = [one.record for one in prepared]
        outcomes: list[Outcome] = []
        if not outbox.is_down:
            headers = {"X-Indelible-Attempt": "1"}
            with self._transport(outbox) as transport:
                for _, some in Exchange(wire, self._time).deliver(
                    transport, records, headers=headers, total_s=timeout_s
                ):
                    outcomes += some
        outcomes += [again("not tried")] * (len(records) - len(outcomes))
        return list(map(self._settled, prepared, outcomes))

    def _let_go(self, event: AuditEvent) -> Receipt:
        """Switched off on purpose, as on a developer's machine: nothing that works may break."""
        self._unsent.draw()
        return Receipt(status=DISABLED, idempotency_key=event.key or "")

    def _prepared(self, event: AuditEvent) -> Prepared:
        lane = self._lane()
        if lane is None or lane.outbox.is_closed:
            raise ClientDisabled
        meta = self._meta_of(event)
        # This door keeps a payload whole, whatever its length: its caller gets the answer.
        wire = replace(lane.wire, max_payload_bytes=sys.maxsize)
        stamp = lane.outbox.stamp()
        try:
            record, repaired = wire.encode(
                AuditCapture(stamp, event.event_name, event.payload, meta, event.key)
            )
        except Exception:  # numbered already, so its fate is counted too
            lane.outbox.lose(LossReason.ENCODE_FAILED)
            raise
        if repaired:
            lane.outbox.note_repaired()
        one = Prepared(lane.outbox, wire, record, stamp.at_ns // 1_000_000)
        self._under_way.add(one)
        return one

    def _meta_of(self, event: AuditEvent) -> dict[str, str]:
        """The event's own meta, over that of the current context.

        Raises:
            TypeError, ValueError: the event is none.
        """
        meta: dict[str, str] = {"type": event.type}
        here = context.current()
        if here is not None:
            meta |= here.of_audit_events()
        if event.meta:
            meta.update(event.meta)
        return meta

    def _asked(self, method: str, path: str, total_s: float) -> Answer:
        lane = self._lane()
        if lane is None:
            raise ClientDisabled
        try:
            with self._transport(lane.outbox) as transport:
                answer = transport.request(
                    method, path, headers=lane.wire.headers(), total_s=total_s
                )
        except TransportFailed as error:
            raise AuditFailed(f"No answer: {error}", hint="Ask again later.") from None
        if answer.status != 200 and answer.reason is None:
            raise AuditFailed(f"No answer of the server: {answer.said}", hint="Ask again later.")
        if answer.status != 200:
            raise AuditRefused(answer.said, status=answer.status, hint=_hint(answer))
        return answer

    @contextmanager
    def _transport(self, outbox: Outbox) -> Iterator[Transport]:
        """A connection for this thread alone, kept for the next one who needs it."""
        try:
            transport = self._idle.pop()
        except IndexError:
            transport = outbox.new_transport()
        try:
            yield transport
        finally:
            is_over = outbox.is_ending or outbox.is_closed  # nobody would close it any more
            if len(self._idle) < MAX_IN_FLIGHT and not is_over:
                self._idle.append(transport)
            else:
                transport.close()

    def _at_exit(self, timeout_s: float) -> None:
        """Settle calls under way on threads that the end of the process would cut off."""
        self._under_way.end(timeout_s)
        self._close()

    def _after_fork(self) -> None:
        """In a child: its own counts and, when it needs one, its own connections."""
        self._unsent = Numbers()
        self._under_way = UnderWay(self._time)
        self._close()

    def _close(self) -> None:
        """Close idle connections."""
        _close(self._idle)


def _close(idle: deque[Transport]) -> None:
    while idle:
        idle.pop().close()


def _hint(answer: Answer) -> str | None:
    hint = answer.body.get("hint") if isinstance(answer.body, dict) else None
    return str(hint) if hint else None
