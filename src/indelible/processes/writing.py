"""The writer's end of an edge's line: stores drafts, brings receipts, answers, feeds.

All guards stay where they are in a server of one process: fairness, room, a disk that hangs are the
`Committer`'s. A request that comes in a frame is put before it as any other; what comes of those
that end together goes back in one frame.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from indelible import metrics
from indelible.edge.notice import Notices
from indelible.edge.waiting import Confirm
from indelible.errors import IndelibleError
from indelible.journal.commit import Committer, Result
from indelible.journal.contract import Draft, Outcome
from indelible.processes.child import ChildLine
from indelible.processes.messages import (
    FROM_EDGE,
    Answered,
    Asked,
    FromEdge,
    Left,
    Noticed,
    Receipts,
    Refused,
    Report,
    Serving,
    Submitted,
    Taken,
    Told,
    Wanted,
)
from indelible.serving import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the writer does for its edges.

    Attributes:
        committer: stores drafts.
        answers: `/healthz` and `/metrics`, by their path: status and body.
        notices: tells whoever listens what edges refuse.
    """

    committer: Committer
    answers: Mapping[str, Callable[[], Awaitable[tuple[int, bytes]]]]
    notices: Notices


class EdgeLine(ChildLine[FromEdge]):
    """The line to one edge; `confirm` waits for receipts.

    Attributes:
        taken: the number of the change that the edge goes by.
        on_taken: is called when that one has changed.
        on_spent: is told what the edge took of the rates.
        on_left: is told what became of its requests when it ends in order.
    """

    def __init__(self, name: str, services: Services, confirm: Confirm) -> None:
        super().__init__(name, FROM_EDGE)
        self.taken = 0
        self.on_taken: Callable[[], None] = lambda: None
        self.on_spent: Callable[[Mapping[str, int]], None] = lambda _: None
        self.on_left: Callable[[Ending], None] = lambda _: None
        self._services = services
        self._bring = confirm
        self._stored: list[tuple[int, list[Outcome]]] = []
        self._refused: list[tuple[int, Refused]] = []

    def _heard(self, message: FromEdge) -> None:
        match message:
            case Submitted(requests):
                for number, drafts in requests:
                    self._put(number, drafts)
            case Wanted():
                self._begin(self._confirm(message))
            case Asked(number, path, counts):
                metrics.take(self.name, counts)
                self._begin(self._answer(number, path))
            case Report(counts, number, spent):
                if spent:
                    self.on_spent(spent)
                self._reported(counts, number)
            case Serving():
                self.on_serves()
            case Noticed(notice, missed):
                self._services.notices.miss(dict(missed))
                if notice is not None:
                    self._services.notices.tell(notice)
            case Left(finished, cut_off):
                self.on_left(Ending(finished, cut_off))
            case Taken(number):
                self.taken = number
                self.on_taken()

    def _put(self, number: int, drafts: list[Draft]) -> None:
        try:
            self._services.committer.hand_over(drafts, partial(self._end, number))
        except IndelibleError as error:
            self._end(number, error)

    def _end(self, number: int, result: Result) -> None:
        if not self._stored and not self._refused:
            # Those that end in the same turn of the loop share a frame.
            self._loop.call_soon(self._send_outcomes)
        if isinstance(result, IndelibleError):
            self._refused.append((number, Refused.of(result)))
        else:
            self._stored.append((number, result))

    def _send_outcomes(self) -> None:
        self.say(Answered(self._stored, self._refused))
        self._stored, self._refused = [], []

    async def _confirm(self, wanted: Wanted) -> None:
        try:
            receipts = await self._bring(
                wanted.project_id, wanted.indexes, wanted.level, timeout_s=wanted.timeout_s
            )
        except IndelibleError as error:
            self.say(Receipts(wanted.number, [], Refused.of(error)))
        else:
            self.say(Receipts(wanted.number, receipts))

    async def _answer(self, number: int, path: str) -> None:
        status, body = await self._services.answers[path]()
        self.say(Told(number, status, body))
