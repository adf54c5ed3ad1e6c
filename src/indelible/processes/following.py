"""The writer's end of the reader's line: makes its changes, asks how it is, has receipts brought.

All that the reader may change is here: the registry, and what is erased. Each is done on a thread,
since it waits for a sync, and is answered after it. A change that was asked for by a reader that is
gone is either made before the next one loads the registry, or never.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from indelible.drops import Dropping
from indelible.edge.notice import Notices
from indelible.errors import IndelibleError
from indelible.event import Level, LogId
from indelible.journal.contract import ErasableJournal
from indelible.processes.child import ChildLine
from indelible.processes.messages import (
    FROM_READER,
    Change,
    Done,
    Erase,
    FromReader,
    Listen,
    Load,
    Look,
    Ready,
    Receipts,
    Refused,
    Report,
    State,
    Sweep,
    Unable,
    WantDrops,
    Wanted,
)
from indelible.processes.notices import Passing
from indelible.registry.registry import Registry
from indelible.registry.store import Administration, Told

_LOOKED_WITHIN_S: Final = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the reader may change, through the writer alone, and listen to or ask for."""

    registry: Registry
    journal: ErasableJournal
    notices: Notices
    dropping: Dropping


class ReaderLine(ChildLine[FromReader]):
    """The line to one reader. `count` has every process report what it has counted.

    Attributes:
        ready: what its start came to, once it answers requests.
        unable: why it could not start, once it has said so.
        states: how its parts are, by name, in JSON, as it said last.
    """

    def __init__(self, name: str, truth: Truth, count: Callable[[], Awaitable[None]]) -> None:
        super().__init__(name, FROM_READER)
        self._count = count
        self.ready: Ready | None = None
        self.unable: Exception | None = None
        self.states: Mapping[str, bytes] = {}
        self._truth = truth
        self._wanted: dict[int, asyncio.Future[Receipts | None]] = {}
        self._looks: dict[int, asyncio.Event] = {}
        self._passing = Passing(truth.notices, self._line)

    async def confirm(
        self, project_id: int, indexes: Sequence[int], level: Level, *, timeout_s: float
    ) -> list[str | None] | None:
        """As `Ledger.confirm`; None if the reader ends before it answers."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[Receipts | None] = self._loop.create_future()
        self._wanted[number] = answer
        self.say(Wanted(number, project_id, list(indexes), level, timeout_s))
        try:
            receipts = await answer
        finally:
            del self._wanted[number]
        if receipts is None:
            return None
        if receipts.refused is not None:
            raise receipts.refused.error()
        return receipts.receipts

    async def look(self) -> None:
        """Have it say how its parts are; one that hangs is not waited for."""
        self._number += 1
        number = self._number
        looked = self._looks[number] = asyncio.Event()
        self.say(Look(number))
        with suppress(TimeoutError):
            await asyncio.wait_for(looked.wait(), _LOOKED_WITHIN_S)
        self._looks.pop(number, None)

    def _is_over(self) -> None:
        self._passing.heed(is_heard=False)
        for wanted in self._wanted.values():
            if not wanted.done():
                wanted.set_result(None)
        for looked in self._looks.values():
            looked.set()
        super()._is_over()

    def _heard(self, message: FromReader) -> None:
        match message:
            case Load(number):
                self._do(number, self._load)
            case Change(number):
                self._do(number, partial(self._change, message))
            case Erase(number):
                self._do(number, partial(self._erase, message))
            case Sweep(number):
                self._do(number, self._truth.journal.sweep)
            case WantDrops(number, project):
                self._begin(self._tell_drops(number, project))
            case Ready():
                self.ready = message
                self.on_serves()
            case Unable(why):
                self.unable = why.error()
            case State(number, parts, failure):
                self.states, self.failure = parts, failure
                for looked in [looked for looked in self._looks if looked <= number]:
                    self._looks.pop(looked).set()
            case Report(counts, number):
                self._reported(counts, number)
            case Receipts(number):
                wanted = self._wanted.get(number)
                if wanted is not None and not wanted.done():
                    wanted.set_result(message)
            case Listen(is_heard):
                self._passing.heed(is_heard=is_heard)

    async def _tell_drops(self, number: int, project: str) -> None:
        await self._count()
        drops = self._truth.dropping.of(project)
        self.say(Done(number, msgspec.msgpack.encode(drops)))

    # What the reader asks for, each on a thread.

    def _do(self, number: int, work: Callable[[], Any]) -> None:
        self._begin(self._answer(number, work))

    async def _answer(self, number: int, work: Callable[[], Any]) -> None:
        try:
            value = await asyncio.to_thread(work)
        except IndelibleError as error:
            self.say(Done(number, None, Refused.of(error)))
        else:
            self.say(Done(number, value))

    def _load(self) -> bytes:
        # In turn: what an earlier reader had asked for is done, or is not done any more.
        with self._truth.registry.turn() as snapshot:
            return snapshot.encode()

    def _change(self, change: Change) -> list[Told]:
        registry = self._truth.registry
        with registry.turn() as snapshot:
            if self.is_over:
                return []
            return registry.apply(
                added=change.added.within(snapshot),
                changed=change.changed.within(snapshot),
                events=[
                    Administration(
                        LogId(event.project_id, event.shard),
                        event.name,
                        msgspec.json.decode(event.facts),
                        event.at_ms,
                    )
                    for event in change.events
                ],
            )

    def _erase(self, wanted: Erase) -> Any:
        return self._truth.journal.erase(
            wanted.project_id,
            wanted.indexes,
            reason=wanted.reason,
            received_at_ms=wanted.received_at_ms,
        )
