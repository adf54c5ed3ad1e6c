"""The reader's end of its line: what the ledger, the API and all followers take for a store of the
registry, and for a journal that can be erased from.

They call from their own threads and wait for the answer; the line itself belongs to the event loop.
What they read they read from the files, without asking anybody. When the writer is gone this
process ends at once, so no call is left without an answer.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from typing import Any, Final, Protocol

import msgspec

from indelible import metrics
from indelible.drops import Drops
from indelible.edge.notice import Notices
from indelible.edge.waiting import Confirm
from indelible.errors import IndelibleError
from indelible.journal.contract import Erased
from indelible.parts import PartHealth
from indelible.processes.frames import Line
from indelible.processes.messages import (
    TO_READER,
    Change,
    Count,
    Done,
    Erase,
    Event,
    Failed,
    Listen,
    Load,
    Look,
    Noticed,
    Ready,
    Receipts,
    Refused,
    Report,
    State,
    Stop,
    Sweep,
    ToReader,
    Unable,
    WantDrops,
    Wanted,
)
from indelible.pulse import Pulse
from indelible.registry.snapshot import Rows, Snapshot
from indelible.registry.store import Administration, Told
from indelible.registry.values import Row

REPORTED_EVERY_S: Final = 0.5


class Parts(Protocol):
    """How the parts of this process are: see `indelible.query.health.Lookout`."""

    @property
    def failure(self) -> str | None: ...

    def states(self) -> Mapping[str, PartHealth]: ...

    async def fresh(self) -> None: ...


class Writer:
    """The writer as the reader sees it. Belongs to one event loop, but for `ask`.

    `notices` tells those in this process who listen; the writer is told whether anybody does.
    """

    def __init__(self, notices: Notices) -> None:
        self.stopping = asyncio.Event()
        """Set when the writer has said that the server stops."""
        self.pulse = Pulse()
        self.notices = notices
        """Tells those in this process who listen."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._line: Line[ToReader] = Line(TO_READER, heard=self._heard, ended=self._is_gone)
        self._is_leaving = False
        self._numbers = count(1)
        self._asked: dict[int, Future[Any]] = {}
        self._confirm: Confirm
        self._parts: Parts
        self._is_serving = False
        self._counted = 0
        self._reported_at_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def meet(self, own: socket.socket) -> None:
        """Begin to use the line."""
        self.pulse.on_beat(self._look)
        self.pulse.start()
        await self._line.take(own)
        self.notices.on_heard = lambda is_heard: self._line.say(Listen(is_heard))

    def serve(self, ready: Ready, *, confirm: Confirm, parts: Parts) -> None:
        """Say that this process answers requests; from now on it is asked for receipts, and for how
        its parts are."""
        self._confirm, self._parts, self._is_serving = confirm, parts, True
        self._say_state(0)
        self._line.say(ready)

    def refuse(self, error: IndelibleError | OSError) -> None:
        """Say why this process cannot work; it ends next."""
        why = Failed.of(error) if isinstance(error, OSError) else Refused.of(error)
        self._line.say(Unable(why))

    def leave(self) -> None:
        """End the line: all is done."""
        self._is_leaving = True
        self._report()
        self.pulse.stop()
        self._line.close()

    def ask(self, make: Callable[[int], object]) -> Any:
        """Have the writer do something, and wait for what comes of it. Not on the event loop.

        `make` returns the message that has this number.

        Raises:
            IndelibleError: what the writer's process raised.
        """
        assert threading.get_ident() != self._thread, "the event loop would wait for itself"
        answer: Future[Any] = Future()
        self._loop.call_soon_threadsafe(self._send, make, answer)
        return answer.result()

    def drops_of(self, project: str) -> Drops:
        """What the edges have dropped of a project: as `Dropping.of`, in the writer."""
        told = self.ask(lambda number: WantDrops(number, project))
        return msgspec.msgpack.decode(told, type=Drops)

    def _send(self, make: Callable[[int], object], answer: "Future[Any]") -> None:
        number = next(self._numbers)
        self._asked[number] = answer
        self._line.say(make(number))

    def _heard(self, message: ToReader) -> None:
        match message:
            case Done(number, value, refused):
                answer = self._asked.pop(number)
                if refused is None:
                    answer.set_result(value)
                else:
                    answer.set_exception(refused.error())
            case Wanted():
                self._begin(self._bring(message))
            case Look(number):
                self._begin(self._tell(number))
            case Noticed(notice, missed):
                self.notices.miss(dict(missed))
                if notice is not None:
                    self.notices.tell(notice)
            case Count(number):
                self._counted = number
                self._report()
            case Stop():
                self.stopping.set()

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring(self, wanted: Wanted) -> None:
        try:
            receipts = await self._confirm(
                wanted.project_id, wanted.indexes, wanted.level, timeout_s=wanted.timeout_s
            )
        except IndelibleError as error:
            self._line.say(Receipts(wanted.number, [], Refused.of(error)))
        else:
            self._line.say(Receipts(wanted.number, receipts))

    async def _tell(self, number: int) -> None:
        await self._parts.fresh()
        self._say_state(number)

    def _say_state(self, number: int) -> None:
        states = {name: msgspec.json.encode(s) for name, s in self._parts.states().items()}
        self._line.say(State(number, states, self._parts.failure))

    def _look(self) -> None:
        if self.pulse.s - self._reported_at_s >= REPORTED_EVERY_S:
            self._report()

    def _report(self) -> None:
        self._reported_at_s = self.pulse.s
        if self._is_serving:
            self._say_state(0)
        self._line.say(Report(metrics.counts(), self._counted))

    def _is_gone(self) -> None:
        if not self._is_leaving:
            os._exit(1)  # a server without its writer


class StoreElsewhere:
    """`indelible.registry.store.Store`, kept by the writer.

    `events_used` reads the journal, as any process may.
    """

    def __init__(self, writer: Writer, events_used: Callable[[int, Any, str], int]) -> None:
        self._writer = writer
        self.events_used = events_used

    def load(self) -> Snapshot:
        return Snapshot.decode(self._writer.ask(Load))

    def apply(
        self,
        *,
        added: Sequence[Row] = (),
        changed: Sequence[Row] = (),
        events: Sequence[Administration] = (),
    ) -> list[Told]:
        told = [
            Event(
                event.log.project_id,
                event.log.shard,
                event.name,
                msgspec.json.encode(event.facts),
                event.at_ms,
            )
            for event in events
        ]
        stored: list[tuple[int, bytes]] = self._writer.ask(
            lambda number: Change(number, Rows.of(added), Rows.of(changed), told),
        )
        return [Told(*each) for each in stored]


class ErasingElsewhere:
    """The half of `indelible.journal.contract.ErasableJournal` that the writer does."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        wanted = sorted(set(indexes))
        erased: Erased = self._writer.ask(
            lambda number: Erase(number, project_id, wanted, reason, received_at_ms)
        )
        return erased

    def sweep(self) -> bool:
        return bool(self._writer.ask(Sweep))
