"""Delivers batches to one server: one try at a time, and says what came of each event.

It owns the connection, the pace of the tries and the reports of what was lost; it knows nothing of
queues and files.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from indelible.client.capture import Record, Stamp
from indelible.client.options import Options
from indelible.client.retry import Again, Halve, Pace, Refused, Taken, may_settle_each, meaning_of
from indelible.client.tally import Tally
from indelible.client.timing import Time
from indelible.client.transport import Answer, Transport, TransportFailed
from indelible.client.wire import Fate, Report, Wire
from indelible.event import LossReason

_MOST_REMEMBERED: Final = 1_000
_ENOUGH_OVERSIZED: Final = 3


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
        self,
        wire: Wire,
        options: Options,
        *,
        process_id: str,
        time: Time,
        tally: Tally,
        captured: Callable[[], int],
        new_transport: Callable[[], Transport],
    ) -> None:
        self.pace = Pace(
            options.retry_base_s,
            options.retry_cap_s,
            options.breaker_failures,
            options.breaker_probe_s,
        )
        self._wire = wire
        self._process_id = process_id
        self._time = time
        self._tally = tally
        self._captured = captured
        self._transport = new_transport()
        self._patience = options.breaker_failures
        # How often something in front found an event too large, and whether any passed since.
        self._too_large: dict[str, int] = {}
        self._may_give_up = False
        self._report: Report | None = None
        self._reported: dict[str, int] = {}

    @property
    def is_due(self) -> bool:
        """Whether a try may be made now."""
        return self._time.monotonic() >= self.pace.not_before

    def send(
        self, records: list[Record], *, attempt: int, request_id: str, total_s: float | None
    ) -> Sent:
        """Try once to deliver `records`; halves are tried where the whole is too large.

        Where anything is to be sent again, there is a pause first.
        """
        sent = self._tried(records, attempt=attempt, request_id=request_id, total_s=total_s)
        if sent.again and not self.pace.failures:  # another half went well
            self.pace.failed(self._time.monotonic())
        return sent

    def _tried(
        self, records: list[Record], *, attempt: int, request_id: str, total_s: float | None
    ) -> Sent:
        report = self._next_report()
        body = self._wire.frame(records, report, sent_at_ms=self._time.wall_ms())
        headers = {"X-Indelible-Attempt": str(attempt), "X-Request-ID": request_id}
        try:
            answer = self._post(self._wire.path, body, headers, total_s)
        except TransportFailed as error:
            return self._failed(records, str(error))
        if answer.status in (404, 405) and self._wire.one_path is not None:
            return self._one_by_one(records, headers, total_s)
        meaning = meaning_of(answer.status, answer.headers, answer.reason, now=self._time.now())
        fates = self._wire.fates(answer, records)
        if fates is not None and may_settle_each(answer.status, meaning):
            meaning = Taken()  # the server looked at each event, and says so for each
        match meaning:
            case Taken() if fates is None:
                return self._failed(records, *_unreadable(answer))
            case Taken():
                assert fates is not None
                self._taken(report)
                return self._sorted(records, fates)
            case Halve() if len(records) > 1:
                middle = len(records) // 2
                sent = Sent()
                for half in (records[:middle], records[middle:]):
                    if _is_over(sent):
                        sent.again += half
                    else:
                        sent += self._tried(
                            half, attempt=attempt, request_id=request_id, total_s=total_s
                        )
                return sent
            case Halve(is_final):
                return self._oversized(records, answer, is_final=is_final)
            case Again(reason, after_s):
                return self._failed(records, answer.said, reason, after_s)
            case Refused(reason):
                self.pace.succeeded()
                return Sent(refused=[(LossReason.REFUSED, reason, records)])

    def report_losses(self, total_s: float | None) -> None:
        """With nothing else to send, say what was lost: nobody else would."""
        report = self._next_report()
        if report is None or not self.is_due:
            return
        body = self._wire.frame([], report, sent_at_ms=self._time.wall_ms())
        try:
            answer = self._post(self._wire.path, body, {"X-Request-ID": report.uuid}, total_s)
        except TransportFailed:
            return
        meaning = meaning_of(answer.status, answer.headers, answer.reason, now=self._time.now())
        if isinstance(meaning, Refused) or (
            isinstance(meaning, Taken) and isinstance(answer.body, dict)
        ):
            # A server that knows no reports refuses each of them: once is enough.
            self._taken(report)

    def prepare(self) -> None:
        """Do what must be done on the sending thread before the first try."""
        self._transport.prepare()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _post(
        self, path: str, body: bytes, headers: dict[str, str], total_s: float | None
    ) -> Answer:
        return self._transport.request(
            "POST", path, body, headers={**self._wire.headers(), **headers}, total_s=total_s
        )

    def _one_by_one(
        self, records: list[Record], headers: dict[str, str], total_s: float | None
    ) -> Sent:
        """To a server without the batch route, as the original service is."""
        sent = Sent()
        for place, record in enumerate(records):
            body, own_headers = self._wire.single(record)
            try:
                answer = self._post(str(self._wire.one_path), body, headers | own_headers, total_s)
            except TransportFailed as error:
                sent += self._failed(records[place:], str(error))
                return sent
            match meaning_of(answer.status, answer.headers, answer.reason, now=self._time.now()):
                case Taken() if _is_receipt(answer):
                    sent += self._sorted([record], [Fate("delivered")])
                case Refused(reason):
                    sent += Sent(refused=[(LossReason.REFUSED, reason, [record])])
                case Halve(is_final):
                    sent += self._oversized([record], answer, is_final=is_final)
                case Again(reason, after_s):
                    sent += self._failed(records[place:], answer.said, reason, after_s)
                    return sent
                case _:
                    sent += self._failed(records[place:], *_unreadable(answer))
                    return sent
            if _is_over(sent):
                sent.again += records[place + 1 :]
                return sent
        return sent

    def _sorted(self, records: Sequence[Record], fates: Sequence[Fate]) -> Sent:
        """What the server said of each, by what it means for us."""
        sent = Sent()
        refused: dict[str, list[Record]] = {}
        for record, fate in zip(records, fates, strict=True):
            match fate.result:
                case "delivered":
                    sent.delivered += 1
                case "retry":
                    sent.again.append(record)
                    sent.trouble = sent.kind = fate.reason
                case "refused":
                    refused.setdefault(fate.reason, []).append(record)
        sent.refused = [(LossReason.REFUSED, reason, ones) for reason, ones in refused.items()]
        if sent.again:
            self.pace.failed(self._time.monotonic())
        else:
            self.pace.succeeded()
        if sent.delivered:
            self._may_give_up = True
        return sent

    def _failed(
        self, records: list[Record], why: str, kind: str | None = None, after_s: float | None = None
    ) -> Sent:
        self.pace.failed(self._time.monotonic(), after_s)
        return Sent(again=list(records), trouble=why, kind=kind or why)

    def _oversized(self, records: list[Record], answer: Answer, *, is_final: bool) -> Sent:
        """One event that is too large even alone.

        If the server says so, that is final. Something in front may have been set up wrong for a
        while: it is believed when it said so of this event several times, and has let others pass
        meanwhile.
        """
        event_id = records[0].event_id
        if not is_final:
            if event_id not in self._too_large:
                if len(self._too_large) >= _MOST_REMEMBERED:
                    self._too_large.clear()
                self._may_give_up = False
            times = self._too_large[event_id] = self._too_large.get(event_id, 0) + 1
            if times < self._patience or not self._may_give_up:
                sent = self._failed(records, answer.said, "http_413")
                sent.oversized = 1
                return sent
        self._too_large.pop(event_id, None)
        self.pace.succeeded()
        said = "413" if is_final else answer.said
        return Sent(refused=[(LossReason.TOO_LARGE, said, records)])

    # Reports of what was lost.

    def _next_report(self) -> Report | None:
        """What was lost since the last report that a server took; the same until one takes it."""
        if self._report is None:
            sums = self._tally.sums()
            counts = {
                reason.value: sums[reason] - self._reported.get(reason, 0)
                for reason in LossReason
                if sums[reason] > self._reported.get(reason, 0)
            }
            if counts:
                stamp = Stamp(self._time.wall_ns(), 0, os.urandom(10))
                self._report = Report(stamp.uuid, self._process_id, counts, self._captured())
        return self._report

    def _taken(self, report: Report | None) -> None:
        if report is not None and self._report is report:
            for reason, count in report.counts.items():
                self._reported[reason] = self._reported.get(reason, 0) + count
            self._report = None


def _is_over(sent: Sent) -> bool:
    """Whether the rest of a batch is to wait: for a pause, or until anything passes at all."""
    has_failed = len(sent.again) > sent.oversized
    return has_failed or (sent.oversized >= _ENOUGH_OVERSIZED and not sent.delivered)


def _is_receipt(answer: Answer) -> bool:
    body = answer.body
    return isinstance(body, dict) and body.get("ok") is True and isinstance(body.get("tx_id"), str)


def _unreadable(answer: Answer) -> tuple[str, str]:
    """A success that is no answer of the server's: in words, and the kind of it."""
    if answer.words:
        return f"{answer.words}, which is no answer of the server's", f"http_{answer.status}"
    return "an answer that cannot be read", "unreadable"
