"""One exchange with the server: events go there, and each comes back with what became of it.

    records ─▶ batch ─▶ answer ─┬─ sorted, event by event
                 ▲              ├─ too large: the halves, one after the other
                 └──────────────┴─ no such route: event by event (the original service)

Both lanes speak like this, and so does the durable door. An exchange has no queue, no pace and no
connection: the caller brings the connection, and decides what to make of an outcome.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from indelible.client.capture import Record
from indelible.client.outcome import Outcome, again
from indelible.client.reports import Reports
from indelible.client.retry import (
    Again,
    Halve,
    Meaning,
    Refused,
    Taken,
    may_settle_each,
    meaning_of,
)
from indelible.client.timing import Time
from indelible.client.transport import Answer, Transport, TransportFailed
from indelible.client.wire import Wire

Part = tuple[list[Record], list[Outcome]]
"""Some of the records, and what became of each."""

_ENOUGH_OVERSIZED: Final = 3


class Exchange:
    """How one lane's events are sent, and the answers sorted."""

    def __init__(self, wire: Wire, time: Time) -> None:
        self._wire = wire
        self._time = time

    def deliver(
        self,
        transport: Transport,
        records: list[Record],
        *,
        headers: Mapping[str, str],
        total_s: float | None = None,
        reports: Reports | None = None,
    ) -> Iterator[Part]:
        """Try once to deliver `records`, and yield what became of them, part by part, in order.

        Ends early if the rest has to wait: something is to be sent again, or several were found
        oversized and nothing has passed. Those not yielded are to be sent again as well.

        Args:
            headers: of each request, in addition to the lane's own.
            total_s: longest wait for one request.
            reports: what was lost is told along the way.
        """
        waiting = [records]
        delivered = oversized = 0
        while waiting:
            part = waiting.pop()
            report = reports.next() if reports is not None else None
            body = self._wire.frame(part, report, sent_at_ms=self._time.wall_ms())
            answer = self._posted(transport, self._wire.path, body, headers, total_s)
            parts: Iterator[Part]
            if isinstance(answer, Outcome):
                parts = iter([(part, [answer] * len(part))])
            elif answer.status in (404, 405) and self._wire.one_path is not None:
                parts = (
                    ([one], [self.single(transport, one, headers=headers, total_s=total_s)])
                    for one in part
                )
            elif isinstance(self._meaning(answer), Halve) and len(part) > 1:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
                continue
            else:
                outcomes, is_read = self._sorted(answer, part)
                if is_read and reports is not None:
                    reports.taken(report)
                parts = iter([(part, outcomes)])
            for some, outcomes in parts:
                yield some, outcomes
                fates = [outcome.fate for outcome in outcomes]
                delivered += fates.count("delivered")
                oversized += fates.count("oversized")
                if "again" in fates or (oversized >= _ENOUGH_OVERSIZED and not delivered):
                    return

    def single(
        self,
        transport: Transport,
        record: Record,
        *,
        headers: Mapping[str, str],
        query: str = "",
        total_s: float | None = None,
    ) -> Outcome:
        """Try once to deliver one event by the route for single ones."""
        body, own = self._wire.single(record)
        path = f"{self._wire.one_path}{query}"
        answer = self._posted(transport, path, body, {**headers, **own}, total_s)
        if isinstance(answer, Outcome):
            return answer
        if not isinstance(self._meaning(answer), Taken):
            return self._of_all(answer)
        if not isinstance(answer.body, dict) or (
            answer.body.get("ok") is False and answer.reason is None
        ):
            return _unreadable(answer)
        return self._wire.outcome_of(answer.body)

    def report(
        self, transport: Transport, reports: Reports, *, total_s: float | None = None
    ) -> None:
        """With nothing else to send, say what was lost: nobody else would."""
        report = reports.next()
        if report is None:
            return
        body = self._wire.frame([], report, sent_at_ms=self._time.wall_ms())
        headers = {"X-Request-ID": report.uuid}
        answer = self._posted(transport, self._wire.path, body, headers, total_s)
        if isinstance(answer, Outcome):
            return
        meaning = self._meaning(answer)
        has_read = isinstance(meaning, Taken) and isinstance(answer.body, dict)
        if has_read or isinstance(meaning, Refused):
            # A server that knows no reports refuses each of them: once is enough.
            reports.taken(report)

    def _posted(
        self,
        transport: Transport,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        total_s: float | None,
    ) -> Answer | Outcome:
        """The answer, or what it means for every event that there was none."""
        try:
            return transport.request(
                "POST", path, body, headers={**self._wire.headers(), **headers}, total_s=total_s
            )
        except TransportFailed as error:
            return again(str(error))

    def _meaning(self, answer: Answer) -> Meaning:
        return meaning_of(answer.status, answer.headers, answer.reason, now=self._time.now())

    def _sorted(self, answer: Answer, records: list[Record]) -> tuple[list[Outcome], bool]:
        """What the answer means for each, and whether the server has read the request."""
        outcomes = self._wire.outcomes(answer, records)
        if outcomes is not None and may_settle_each(answer.status, self._meaning(answer)):
            return outcomes, True  # the server looked at each event, and says so for each
        return [self._of_all(answer)] * len(records), False

    def _of_all(self, answer: Answer) -> Outcome:
        """What an answer means for every event that it is about."""
        status = answer.status
        match self._meaning(answer):
            case Taken():
                return _unreadable(answer)
            case Halve(is_final=True):
                return Outcome("refused", str(answer.reason), status=status, body=answer.body)
            case Halve():
                return Outcome("oversized", answer.said, f"http_{status}", status)
            case Again(reason, after_s):
                return Outcome("again", answer.said, reason, status, after_s)
            case Refused(reason):
                return Outcome("refused", reason, status=status, body=answer.body)


def _unreadable(answer: Answer) -> Outcome:
    """A success that is no answer of the server's."""
    if answer.words:
        said = f"{answer.words}, which is no answer of the server's"
        return Outcome("again", said, f"http_{answer.status}", answer.status)
    return Outcome("again", "an answer that cannot be read", "unreadable", answer.status)
