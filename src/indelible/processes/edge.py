"""The edge's end of its line: what the hot routes take for a committer, a registry, a disk.

An edge has at most one frame of drafts under way for `_HELD_S`: what arrives meanwhile goes in the
next one, so that frames, and with them the groups of the journal, grow with the load. It is no
longer than that, for the disk may hang, and who waits behind it must be told so as in a server of
one process. What decides, room, turns and a disk that hangs, is the committer's in the writer; here
is only what it cannot do when its whole process hangs: requests that were handed over and not
answered in time are answered `storing_slow`, and no more than the room of the journal is kept.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import msgspec

from indelible import __version__, access, metrics
from indelible.edge.gate import Gate, has_bearer
from indelible.edge.http import Answer, Receive, Request, Scope, Send, refuse
from indelible.edge.notice import Notices
from indelible.edge.rates import Rates
from indelible.errors import IndelibleError, Overloaded, StoringSlow
from indelible.event import Level
from indelible.journal.commit import ANSWERED_WITHIN_S
from indelible.journal.commitments import Committing
from indelible.journal.contract import Draft, Outcome
from indelible.journal.disk import DiskState
from indelible.processes.frames import Line
from indelible.processes.messages import (
    TO_EDGE,
    Answered,
    Asked,
    Changed,
    Count,
    Figures,
    Known,
    Left,
    Listen,
    Receipts,
    Report,
    Serving,
    Spent,
    Stop,
    Submitted,
    Taken,
    ToEdge,
    Told,
    Wanted,
)
from indelible.processes.notices import Passing
from indelible.processes.relay import Application
from indelible.pulse import Pulse
from indelible.refusals import Refusals
from indelible.registry.snapshot import Snapshot
from indelible.serving import Ending

REPORTED_EVERY_S: Final = 0.5
"""How often an edge reports: what another one took of a rate counts here after this time."""

_HELD_S: Final = 0.005
_MOST_HELD_BYTES: Final = 4 * 1024 * 1024
_ANSWERED_WITHIN_S: Final = ANSWERED_WITHIN_S + 1  # the writer's own answer comes first
_ASKED_WITHIN_S: Final = 1.0


class Writer:
    """The writer as an edge sees it. Belongs to one event loop.

    It is what the gate looks things up in (`snapshot`), what stores (`submit`), brings receipts
    (`confirm`) and answers (`ask`). When the writer is gone this process ends at once.
    """

    def __init__(
        self,
        disk: DiskState,
        rates: Rates,
        notices: Notices,
        *,
        max_waiting_bytes: int,
    ) -> None:
        self.disk = disk
        self.stopping = asyncio.Event()
        """Set when the writer has said that the server stops."""
        self.pulse = Pulse()
        self.has_reader = False
        """Whether there is somebody to pass requests on to."""
        self.snapshot: Snapshot
        self._rates = rates
        self._max_waiting_bytes = max_waiting_bytes
        self._loop = asyncio.get_running_loop()
        self._line: Line[ToEdge] = Line(TO_EDGE, heard=self._heard, ended=self._is_gone)
        self._passing = Passing(notices, self._line)
        self._is_known = asyncio.Event()
        self._is_leaving = False
        self._commit = Committing()
        self._numbers = count()
        self._held: list[tuple[int, list[Draft]]] = []
        self._held_bytes = 0
        self._is_under_way = False
        self._sending: asyncio.TimerHandle | None = None
        self._waiting: dict[int, tuple[asyncio.Future[list[Outcome]], float]] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._heard_at_s = 0.0
        self._reported_at_s = 0.0
        self._counted = 0  # the number of the last report that was asked for

    async def meet(self, own: socket.socket) -> bool:
        """Begin to use the line, and wait for the first snapshot; False if the server stops before
        there is one."""
        self.pulse.on_beat(self._look)
        self.pulse.start()
        await self._line.take(own)
        await self._is_known.wait()
        return not self.stopping.is_set()

    def serve(self) -> None:
        """Say that this process answers requests."""
        self._line.say(Serving())

    def leave(self, ending: Ending) -> None:
        """End the line: all is answered, or cut off."""
        self._is_leaving = True
        self._report()
        self._line.say(Left(ending.finished, ending.cut_off))
        self.pulse.stop()
        self._line.close()

    @property
    def silent_s(self) -> float:
        """For how long the writer has said nothing; it speaks every second."""
        return self.pulse.s - self._heard_at_s

    def submit(self, drafts: Sequence[Draft]) -> "asyncio.Future[list[Outcome]]":
        """Commit to drafts and have them stored: as `Committer.put`, in the writer."""
        if self._line.unsent_bytes + self._held_bytes > self._max_waiting_bytes:
            raise Overloaded
        number = next(self._numbers)
        stored: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._waiting[number] = (stored, self.pulse.s)
        self._held.append((number, self._commit(drafts)))
        self._held_bytes += sum([len(draft.payload) + len(draft.record) for draft in drafts])
        if self._sending is None:
            wait_s = _HELD_S if self._is_under_way else 0.0
            self._sending = self._loop.call_later(wait_s, self._send)
        if self._held_bytes > _MOST_HELD_BYTES:
            self._send()
        return stored

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._is_under_way = True
            self._line.say(Submitted(held))

    async def confirm(
        self, project_id: int, indexes: Sequence[int], level: Level, *, timeout_s: float
    ) -> list[str | None]:
        """Wait for receipts: as `Ledger.confirm`."""
        number = next(self._numbers)
        self._line.say(Wanted(number, project_id, list(indexes), level, timeout_s))
        answer: Receipts = await self._answer_to(number)
        if answer.refused is not None:
            raise answer.refused.error()
        return answer.receipts

    async def ask(self, path: str) -> tuple[int, bytes] | None:
        """What is to be answered to `/healthz` or `/metrics`; None if the writer does not say."""
        number = next(self._numbers)
        self._line.say(Asked(number, path, metrics.counts()))
        try:
            async with asyncio.timeout(_ASKED_WITHIN_S):
                told: tuple[int, bytes] = await self._answer_to(number)
        except TimeoutError:
            return None
        return told

    async def _answer_to(self, number: int) -> Any:
        answer = self._asked[number] = self._loop.create_future()
        try:
            return await answer
        finally:
            del self._asked[number]

    def _heard(self, message: ToEdge) -> None:
        self._heard_at_s = self.pulse.s
        match message:
            case Answered(stored, refused):
                self._is_under_way = False
                for number, outcomes in stored:
                    if (waiting := self._waiting_of(number)) is not None:
                        waiting.set_result(outcomes)
                for number, error in refused:
                    if (waiting := self._waiting_of(number)) is not None:
                        waiting.set_exception(error.error())
                if self._held:
                    self._send()
            case Receipts(number):
                self._resolve(number, message)
            case Told(number, status, body):
                self._resolve(number, (status, body))
            case Known(number, snapshot):
                self.snapshot = Snapshot.decode(snapshot)
                self._is_known.set()
                self._line.say(Taken(number))
            case Changed(number, rows):
                self.snapshot = self.snapshot.after(rows.within(self.snapshot))
                self._line.say(Taken(number))
            case Figures(free_percent, is_full, has_reader):
                self.disk.free_percent, self.disk.is_full = free_percent, is_full
                self.has_reader = has_reader
            case Spent(spent):
                self._rates.charge(spent)
            case Listen(is_heard):
                self._passing.heed(is_heard=is_heard)
            case Count(number):
                self._counted = number
                self._report()
            case Stop():
                self.stopping.set()
                self._is_known.set()

    def _waiting_of(self, number: int) -> "asyncio.Future[list[Outcome]] | None":
        """Who waits for this outcome; None if the client has left, or was answered."""
        waiting, _ = self._waiting.pop(number, (None, 0.0))
        return None if waiting is None or waiting.done() else waiting

    def _resolve(self, number: int, answer: Any) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    def _look(self) -> None:
        """Report, and answer requests that have waited too long: the writer hangs."""
        if self.pulse.s - self._reported_at_s >= REPORTED_EVERY_S:
            self._report()
        for number, (stored, since_s) in list(self._waiting.items()):
            if self.pulse.s - since_s < _ANSWERED_WITHIN_S:
                break
            del self._waiting[number]
            if not stored.done():
                stored.set_exception(StoringSlow())

    def _report(self) -> None:
        self._reported_at_s = self.pulse.s
        self._line.say(Report(metrics.counts(), self._counted, self._rates.spent()))

    def _is_gone(self) -> None:
        if not self._is_leaving:
            os._exit(1)  # a server without its writer: nothing could be stored or answered


class Desk:
    """Answers health and metrics at the edge; passes everything else on.

    How the server is may be asked when it is worst. So these two are never passed on: the writer
    says its figures, and if it does not, that is what is told.
    """

    _TYPES: Final = {
        "/healthz": "application/json",
        "/metrics": "text/plain; version=0.0.4; charset=utf-8",
    }

    def __init__(
        self,
        writer: Writer,
        others: Application,
        gate: Gate,
        refusals: Refusals,
        *,
        metrics_key: str | None,
    ) -> None:
        self._writer = writer
        self._others = others
        self._gate = gate
        self._refusals = refusals
        self._metrics_key = metrics_key
        self._last: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/") if scope["type"] == "http" else ""
        if path not in self._TYPES or scope["method"] != "GET":
            await self._others(scope, receive, send)
            return
        if path == "/metrics" and (error := self._no_scraper(Request(scope, receive))):
            self._refusals.refused(error, path)
            await refuse(error, Request(scope, receive)).send(send)
            return
        told = await self._writer.ask(path)
        if path == "/healthz":
            told = self._health(told)
        status, body = told or (200, metrics.exposition())
        await Answer(status, body, self._TYPES[path]).send(send)

    def _no_scraper(self, request: Request) -> IndelibleError | None:
        """Why this request may not read the metrics (`access.Door.METRICS`); None if it may."""
        authorization = request.header(b"authorization")
        if has_bearer(authorization, self._metrics_key):
            return None
        try:
            caller = self._gate.caller(authorization, lambda: request.address(self._gate))
            caller.require(access.Scope.MANAGE)
        except IndelibleError as error:
            return error
        return None

    def _health(self, told: tuple[int, bytes] | None) -> tuple[int, bytes]:
        if told is not None:
            self._last = msgspec.json.decode(told[1])
            return told
        failure = f"the writer has not answered for {self._writer.silent_s:.1f} s"
        health = {
            "version": __version__,
            **self._last,
            "status": "failing",
            "journal": {**self._last.get("journal", {}), "status": "failing", "failure": failure},
        }
        return 503, msgspec.json.encode(health)
