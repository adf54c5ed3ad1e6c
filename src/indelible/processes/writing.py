"""The writer's end of an edge's line: stores drafts, brings receipts, answers, feeds.

All guards stay where they are in a server of one process: fairness, room, a disk that hangs are the
`Committer`'s. A request that comes in a frame is put before it as any other; what comes of those
that end together goes back in one frame.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from indelible import metrics
from indelible.edge.notice import Notices
from indelible.edge.waiting import Confirm
from indelible.errors import IndelibleError
from indelible.journal.commit import Committer
from indelible.journal.contract import Draft, Outcome
from indelible.processes.frames import Line
from indelible.processes.messages import (
    FROM_EDGE,
    Answered,
    Asked,
    Count,
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
from indelible.processes.relay import Application, Counter
from indelible.serving import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the writer does for its edges.

    Attributes:
        committer: stores drafts.
        confirm: waits for receipts.
        answers: `/healthz` and `/metrics`, by their path: status and body.
        application: answers every request that is no hot route's.
        notices: tells whoever listens in this process what edges refuse.
        most_frame_bytes: of what an edge sends at once.
    """

    committer: Committer
    confirm: Confirm
    answers: Mapping[str, Callable[[], Awaitable[tuple[int, bytes]]]]
    application: Application
    notices: Notices
    most_frame_bytes: int


class EdgeLine:
    """The line to one edge. Belongs to the event loop of the writer."""

    def __init__(
        self,
        name: str,
        services: Services,
        *,
        serves: Callable[[], None],
        reported: Callable[[Mapping[str, int]], None],
        left: Callable[[Ending], None],
        ended: Callable[[], None],
    ) -> None:
        self.name = name
        self.taken = 0
        """The number of the snapshot that the edge goes by."""
        self._services = services
        self._serves = serves
        self._reported = reported
        self._left = left
        self._ended = ended
        self._counter: Counter | None = None
        self._number = 0
        self._asked: dict[int, asyncio.Event] = {}
        self._stored: list[tuple[int, list[Outcome]]] = []
        self._refused: list[tuple[int, Refused]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._line: Line[FromEdge] = Line(
            FROM_EDGE,
            heard=self._heard,
            ended=self._is_over,
            most_bytes=services.most_frame_bytes,
        )
        self.on_taken: Callable[[], None] = lambda: None

    async def take(self, line: socket.socket, bell: socket.socket) -> None:
        """Use these sockets, and close them in the end."""
        self._counter = Counter(self._services.application, bell)
        await self._line.take(line)

    @property
    def is_over(self) -> bool:
        """Whether the edge is gone."""
        return self._line.is_over

    def say(self, message: object) -> None:
        """Tell the edge something."""
        self._line.say(message)

    async def report(self) -> None:
        """Return when the edge has reported what it has counted up to now, or is gone."""
        self._number += 1
        reported = self._asked[self._number] = asyncio.Event()
        if self.is_over:
            return
        self._line.say(Count(self._number))
        await reported.wait()

    def _is_over(self) -> None:
        for reported in self._asked.values():
            reported.set()
        if self._counter is not None:
            self._counter.close()
        for task in self._tasks:
            task.cancel()
        self._ended()

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
            case Report(counts, spent, number):
                metrics.take(self.name, counts)
                self._reported(spent)
                for asked in [asked for asked in self._asked if asked <= number]:
                    self._asked.pop(asked).set()
            case Serving():
                self._serves()
            case Noticed(notice):
                self._services.notices.tell(notice)
            case Left(finished, cut_off):
                self._left(Ending(finished, cut_off))
            case Taken(number):
                self.taken = number
                self.on_taken()

    def _put(self, number: int, drafts: list[Draft]) -> None:
        try:
            stored = self._services.committer.put(drafts)
        except IndelibleError as error:
            self._send_soon()
            self._refused.append((number, Refused.of(error)))
        else:
            stored.add_done_callback(partial(self._end, number))

    def _end(self, number: int, stored: "asyncio.Future[list[Outcome]]") -> None:
        self._send_soon()
        error = stored.exception()
        if error is None:
            self._stored.append((number, stored.result()))
        else:
            assert isinstance(error, IndelibleError)
            self._refused.append((number, Refused.of(error)))

    def _send_soon(self) -> None:
        if not self._stored and not self._refused:
            # Those that end in the same turn of the loop share a frame.
            self._loop.call_soon(self._send_outcomes)

    def _send_outcomes(self) -> None:
        self._line.say(Answered(self._stored, self._refused))
        self._stored, self._refused = [], []

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _confirm(self, wanted: Wanted) -> None:
        try:
            receipts = await self._services.confirm(
                wanted.project_id, wanted.indexes, wanted.level, timeout_s=wanted.timeout_s
            )
        except IndelibleError as error:
            self._line.say(Receipts(wanted.number, [], Refused.of(error)))
        else:
            self._line.say(Receipts(wanted.number, receipts))

    async def _answer(self, number: int, path: str) -> None:
        status, body = await self._services.answers[path]()
        self._line.say(Told(number, status, body))
