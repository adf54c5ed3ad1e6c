"""Delivers batches to one server: one try at a time, and says what came of each event.

It owns the connection and the pace of the tries; it knows nothing of queues and files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from indelible.client.capture import Record
from indelible.client.exchange import Exchange
from indelible.client.options import Options
from indelible.client.outcome import Outcome
from indelible.client.reports import Reports
from indelible.client.retry import Pace
from indelible.client.timing import Time
from indelible.client.transport import Transport
from indelible.client.wire import Wire
from indelible.event import LossReason

_MOST_REMEMBERED: Final = 1_000
_TOO_LARGE: Final = 413


@dataclass(slots=True)
class Sent:
    """What came of one try.

    Attributes:
        delivered: how many events the server has now.
        again: those that are to be sent again, in order.
        refused: those that it will never take, with the reason that it gave.
        trouble: why something is to be sent again, in words; None if all went well.
        kind: what `trouble` is about, without the words of whoever answered: for a log that says
            each kind once.
        oversized: how many of `again` something in front finds too large even alone.
    """

    delivered: int = 0
    again: list[Record] = field(default_factory=list)
    refused: list[tuple[LossReason, str, list[Record]]] = field(default_factory=list)
    trouble: str | None = None
    kind: str = ""
    oversized: int = 0

    def __iadd__(self, other: "Sent") -> "Sent":
        self.delivered += other.delivered
        self.again += other.again
        self.refused += other.refused
        if self.trouble is None:
            self.trouble, self.kind = other.trouble, other.kind
        self.oversized += other.oversized
        return self


class Sender:
    """One lane's way to its server. Not for two threads at once."""

    def __init__(
        self, wire: Wire, options: Options, *, time: Time, transport: Transport, reports: Reports
    ) -> None:
        self.pace = Pace(
            options.retry_base_s,
            options.retry_cap_s,
            options.breaker_failures,
            options.breaker_probe_s,
        )
        self._exchange = Exchange(wire, time)
        self._time = time
        self._transport = transport
        self._reports = reports
        self._patience = options.breaker_failures
        # How often something in front found an event too large, and whether any passed since.
        self._too_large: dict[str, int] = {}
        self._may_give_up = False

    @property
    def is_due(self) -> bool:
        """Whether a try may be made now."""
        return self._time.monotonic() >= self.pace.not_before

    def send(
        self, records: list[Record], *, attempt: int, request_id: str, total_s: float | None
    ) -> Sent:
        """Try once to deliver `records`. Where anything is to be sent again, there is a pause
        first."""
        parts = self._exchange.deliver(
            self._transport,
            records,
            headers={"X-Indelible-Attempt": str(attempt), "X-Request-ID": request_id},
            total_s=total_s,
            reports=self._reports,
        )
        sent, told = Sent(), 0
        for part, outcomes in parts:
            sent += self._sorted(part, outcomes)
            told += len(part)
        sent.again += records[told:]
        if sent.again and not self.pace.failures:  # another half went well
            self.pace.failed(self._time.monotonic())
        return sent

    def report_losses(self, total_s: float | None) -> None:
        """With nothing else to send, say what was lost: nobody else would."""
        if self.is_due:
            self._exchange.report(self._transport, self._reports, total_s=total_s)

    def prepare(self) -> None:
        """Do what must be done on the sending thread before the first try."""
        self._transport.prepare()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _sorted(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> Sent:
        """What came of each, by what it means for a queue."""
        sent = Sent()
        refused: dict[tuple[LossReason, str], list[Record]] = {}
        after_s = 0.0
        for record, outcome in zip(records, outcomes, strict=True):
            is_believed = outcome.fate == "oversized" and self._is_believed(record.event_id)
            if outcome.fate == "delivered":
                sent.delivered += 1
            elif is_believed or outcome.fate == "refused":
                too_large = outcome.status == _TOO_LARGE
                loss = LossReason.TOO_LARGE if too_large else LossReason.REFUSED
                refused.setdefault((loss, outcome.said), []).append(record)
            else:
                sent.again.append(record)
                sent.oversized += outcome.fate == "oversized"
                sent.trouble, sent.kind = outcome.said, outcome.kind
                after_s = max(after_s, outcome.after_s or 0.0)
        sent.refused = [(loss, said, ones) for (loss, said), ones in refused.items()]
        if sent.again:
            self.pace.failed(self._time.monotonic(), after_s)
        else:
            self.pace.succeeded()
        if sent.delivered:
            self._may_give_up = True
        return sent

    def _is_believed(self, event_id: str) -> bool:
        """Whether something in front is right to call this event too large even alone.

        It may have been set up wrong for a while: it is believed when it said so of this event
        several times, and has let others pass meanwhile.
        """
        if event_id not in self._too_large:
            if len(self._too_large) >= _MOST_REMEMBERED:
                self._too_large.clear()
            self._may_give_up = False
        times = self._too_large[event_id] = self._too_large.get(event_id, 0) + 1
        if times < self._patience or not self._may_give_up:
            return False
        del self._too_large[event_id]
        return True
