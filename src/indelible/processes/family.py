"""The family of one server, as the writer sees it: what edges and reader must know, and the order
in which they start and stop.

Everything here runs on the event loop of the writer. Edges and reader are started
together. An edge answers nothing before it has the registry, and the first reader settles that: it
opens the signed logs, and refuses them if they do not fit together, before a start changes
anything. From then on ingest does not need the reader: while it is started anew, edges store events
and answer 503 to the rest.

The listening socket stays open in the writer and the zygote, so connections wait in its backlog
while no edge is there to accept them. In the same way the bell, over which edges hand requests to
the reader, belongs to all of them: what is handed over while one reader ends is the next one's.
"""

import asyncio
import logging
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from indelible.errors import ProcessLost
from indelible.event import Level
from indelible.journal.disk import DiskState
from indelible.parts import Part, PartHealth, Word
from indelible.processes.children import ChildHealth, Children, Place
from indelible.processes.feed import Feed
from indelible.processes.following import ReaderLine, Truth
from indelible.processes.messages import Figures, Listen, Ready, Spent, Stop
from indelible.processes.writing import EdgeLine, Services
from indelible.processes.zygote import Forks
from indelible.pulse import Pulse
from indelible.serving import Ending

logger = logging.getLogger(__name__)

READER: Final = "reader"
_COUNTED_WITHIN_S: Final = 0.5
_BEAT_S: Final = 0.2
_HEARTBEAT_S: Final = 1.0
_TRIED: Final = 5  # how many readers may end, before one has ever answered
_FAILING_AFTER_S: Final = 60.0

Health = TypeVar("Health", bound=PartHealth)


class ProcessesHealth(PartHealth):
    """`degraded` while one of them is being started anew; `failing` while the reader cannot read,
    or no edge accepts requests: whoever can read this has reached one that did."""

    children: list[ChildHealth]


class Family:
    """Edges and reader of one server."""

    def __init__(
        self,
        zygote: Forks,
        listening: socket.socket,
        services: Services,
        truth: Truth,
        *,
        edges: int,
        disk: DiskState,
        pulse: Pulse,
        stop_within_s: float,
    ) -> None:
        self._zygote = zygote
        self._listening = listening
        self._services = services
        self._truth = truth
        self._disk = disk
        services.notices.on_heard = self._tell_heard
        self._pulse = pulse
        self._stop_within_s = stop_within_s
        self._reader = Place(READER, self._make_reader, lambda: None)
        self._edges = [self._place_of_edge(f"edge-{n}") for n in range(1, edges + 1)]
        self._children = Children(zygote, [self._reader, *self._edges], pulse=pulse)
        self._children.on_change = self._changed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._edge_serves = asyncio.Event()
        self._reader_serves = asyncio.Event()
        self._feed = Feed(truth.registry.snapshot, zygote.kill)
        truth.registry.on_change(self._feed.publish)
        self._is_open = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: Figures | None = None
        self._told_s = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self._states: Mapping[str, bytes] = {}
        self._heard_s = 0.0
        self.ready: Ready | None = None
        """What the start of the first reader came to."""
        self.ending = Ending(0, 0)
        """What became of the requests that were under way at the stop."""
        self.failure: Exception | None = None
        """Why the server cannot go on."""
        self.is_failing = asyncio.Event()
        """Set together with `failure`."""

    # The life of the family.

    def start(self) -> None:
        """Start the children; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._feed.start()
        self._children.start()
        self._begin(self._watch())
        self._on_beat()

    async def serving(self) -> None:
        """Wait until an edge answers requests, and the reader those that are passed on."""
        await self._reader_serves.wait()
        await self._edge_serves.wait()

    async def stop_edges(self) -> None:
        """Let the edges finish what is under way, then end them."""
        self._children.keep_none()
        self._listening.close()
        self._zygote.close_listening()
        for edge in self._edges:
            edge.say(Stop())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._children.gone(self._edges), self._stop_within_s)
        for edge in self._edges:
            if not edge.is_gone:
                logger.error("%s has not ended within %.0f s", edge.name, self._stop_within_s)

    async def stop_reader(self) -> None:
        """Let the reader follow what is stored to its end; one that hangs is killed, and so is one
        that is not done with its start, which the next start repeats."""
        self._reader.say(Stop())
        if not self._reader.serves:
            self._children.kill(self._reader)
        await self._children.gone([self._reader])
        if self._beat is not None:
            self._beat.cancel()
        self._children.leave()
        self._feed.stop()

    async def count(self) -> None:
        """Have every child report what it has counted; one that hangs is not waited for."""
        lines = [place.line for place in self._children.places if place.line and place.serves]
        reports = [asyncio.ensure_future(line.report()) for line in lines]
        if reports:
            _, late = await asyncio.wait(reports, timeout=_COUNTED_WITHIN_S)
            for report in late:
                report.cancel()

    def health(self) -> ProcessesHealth:
        """How the children are."""
        serving = sum(map(self._children.works, self._edges))
        word: Word = "ok"
        if not serving or (self._reader.line and self._reader.line.failure):
            word = "failing"
        elif serving < len(self._edges) or not self._children.works(self._reader):
            word = "degraded"
        return ProcessesHealth(word, self._children.health())

    def _place_of_edge(self, name: str) -> Place:
        place = Place(name, lambda: self._make_edge(place), lambda: self._meet(place))
        return place

    def _make_edge(self, place: Place) -> EdgeLine:
        line = EdgeLine(place.name, self._services, self.confirm)
        line.on_taken = self._feed.look
        line.on_spent = partial(self._spent, place)
        line.on_left = self._left
        return line

    def _meet(self, edge: Place) -> None:
        edge.say(self._figures())
        if self._is_open:
            self._introduce(edge)
        edge.say(Listen(self._services.notices.is_heard))
        if self._children.is_stopping:
            edge.say(Stop())

    def _changed(self, place: Place) -> None:
        if place is not self._reader:
            if place.serves:
                self._edge_serves.set()
            self._feed.look()
            return
        self._tell_figures()
        if not place.serves:
            self._reader_serves.clear()
            self._look_whether_it_can_start(place)
            return
        assert isinstance(place.line, ReaderLine)
        self._reader_serves.set()
        if not self._is_open:
            self.ready = place.line.ready
            self._is_open = True
            for edge in self._edges:
                self._introduce(edge)

    def _look_whether_it_can_start(self, reader: Place) -> None:
        assert isinstance(reader.line, ReaderLine)
        unable = reader.line.unable
        if unable is not None:
            reader.why = str(unable)
        if reader.is_gone and not reader.has_served:
            if unable is not None:
                self._fail(unable)
            elif reader.restarts >= _TRIED:
                self._fail(ProcessLost(f"The reader could not start: {reader.why}"))

    def _introduce(self, edge: Place) -> None:
        if isinstance(edge.line, EdgeLine):
            self._begin(self._feed.introduce(edge.line))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, error: Exception) -> None:
        self._children.keep_none()
        self.failure = error
        self.is_failing.set()

    async def _watch(self) -> None:
        await self._children.is_lost.wait()
        self._fail(ProcessLost())

    def _left(self, ending: Ending) -> None:
        finished, cut_off = self.ending
        self.ending = Ending(finished + ending.finished, cut_off + ending.cut_off)

    def _spent(self, edge: Place, spent: Mapping[str, int]) -> None:
        for other in self._edges:
            if other is not edge:
                other.say(Spent(dict(spent)))

    # What the reader brings.

    def _make_reader(self) -> ReaderLine:
        return ReaderLine(READER, self._truth, self.count)

    async def confirm(
        self, project_id: int, indexes: Sequence[int], level: Level, *, timeout_s: float
    ) -> list[str | None]:
        """As `Ledger.confirm`, by whichever reader is there; the wait outlives one that ends."""
        assert self._loop is not None
        deadline_s = self._loop.time() + timeout_s
        while True:
            left_s = max(0.0, deadline_s - self._loop.time())
            reader = self._reader.line
            if self._reader.serves and isinstance(reader, ReaderLine):
                receipts = await reader.confirm(project_id, indexes, level, timeout_s=left_s)
                if receipts is not None:
                    return receipts
            elif left_s == 0.0:
                return [None] * len(indexes)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._reader_serves.wait(), left_s)

    async def look(self) -> None:
        """Have the reader say how its parts are, and wait for it briefly."""
        if isinstance(self._reader.line, ReaderLine) and self._reader.serves:
            await self._reader.line.look()

    def state_of(self, name: str, form: type[Health]) -> Health:
        """How a part in the reader is, as it said last: at best `degraded` while it does not run.

        Only after the first reader has answered.
        """
        reader, now_s = self._reader, self._pulse.s
        if isinstance(reader.line, ReaderLine) and reader.line.states:
            self._states = reader.line.states
        state = msgspec.json.decode(self._states[name], type=form)
        if reader.serves:
            self._heard_s = now_s
        elif now_s - self._heard_s > _FAILING_AFTER_S:
            state.status = "failing"
        elif state.status == "ok":
            state.status = "degraded"
        return state

    def part_of_reader(self, name: str, form: type[Health]) -> Part:
        """A part that runs in the reader, for its health."""
        return Part(name=name, health=lambda: self.state_of(name, form), form=form)

    def _tell_heard(self, is_heard: bool) -> None:  # noqa: FBT001 — a listener's
        for edge in self._edges:
            edge.say(Listen(is_heard))

    def _figures(self) -> Figures:
        has_reader = self._children.works(self._reader)
        return Figures(self._disk.free_percent, self._disk.is_full, has_reader)

    def _tell_figures(self) -> None:
        assert self._loop is not None
        self._told, self._told_s = self._figures(), self._loop.time()
        for edge in self._edges:
            edge.say(self._told)

    def _on_beat(self) -> None:
        """Tell figures that have changed, and all of them now and then; end children that hang."""
        assert self._loop is not None
        self._beat = self._loop.call_later(_BEAT_S, self._on_beat)
        if self._figures() != self._told or self._loop.time() - self._told_s >= _HEARTBEAT_S:
            self._tell_figures()
        self._children.look_for_hung()


def processes_part(family: Family) -> Part:
    """The processes of the server as a part of it; stopping it ends the edges."""
    return Part(
        name="processes",
        start=family.start,
        stop=family.stop_edges,
        health=family.health,
        form=ProcessesHealth,
    )


def reader_part(family: Family) -> Part:
    """The reader, which is stopped when all is stored."""
    return Part(name=READER, stop=family.stop_reader)
