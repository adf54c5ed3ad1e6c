"""The writer's side of the processes: starts edges, restarts them, drains them at the end.

Everything here runs on the event loop of the writer, but `publish`. Who ends whom:

    writer ──kill -9──▶ kernel ──▶ zygote ──▶ edges       (parent-death signal; end of the line)
    edge ──any end──▶ zygote says so ──▶ started anew, later each time if it lives for a moment only
    edge hangs ──no report for `HANGS_S`──▶ killed, and started anew

The listening socket stays open in the writer and the zygote, so connections wait in its backlog
while no edge is there to accept them.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import msgspec

from indelible import metrics, voice
from indelible.clock import monotonic_s
from indelible.journal.disk import DiskState
from indelible.parts import Part, PartHealth, Word
from indelible.processes.messages import Figures, Known, Listen, Spent, Stop
from indelible.processes.writing import EdgeLine, Services
from indelible.processes.zygote import Forks
from indelible.pulse import Pulse
from indelible.registry.snapshot import Snapshot
from indelible.serving import Ending

logger = logging.getLogger(__name__)

HANGS_S: Final = 20.0
"""An edge that has not reported for this long is killed."""
TAKEN_WITHIN_S: Final = 5.0
"""An edge that has not taken a change of the registry within this time is killed."""

_COUNTED_WITHIN_S: Final = 0.5
_BEAT_S: Final = 0.2
_HEARTBEAT_S: Final = 1.0
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_SETTLED_S: Final = 10.0  # who has lived this long is started anew at once


class EdgeHealth(msgspec.Struct):
    """A process that accepts requests. `pid` is null while it is being started; `restarts` counts
    since the server started."""

    name: str
    pid: int | None
    serves: bool
    restarts: int


class EdgesHealth(PartHealth):
    """`degraded` while one of them is being started anew, `failing` while none accepts requests:
    whoever can read this has reached one that did."""

    processes: list[EdgeHealth]


class _Slot:
    """The place of one edge, whichever process has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line: EdgeLine | None = None
        self.pid: int | None = None
        self.serves = False
        self.restarts = 0
        self.is_gone = True
        self.born_s = 0.0
        self.heard_s = 0.0
        self.wait_s = _SHORTEST_S
        self.why = ""  # the last one ended, until the next one serves
        self.ended_s = 0.0
        self.starting: asyncio.TimerHandle | None = None


class Family:
    """The edges of one server."""

    def __init__(
        self,
        zygote: Forks,
        listening: socket.socket,
        services: Services,
        *,
        edges: int,
        disk: DiskState,
        pulse: Pulse,
        stop_within_s: float,
    ) -> None:
        self._zygote = zygote
        self._listening = listening
        self._services = services
        self._disk = disk
        services.notices.on_heard = self._tell_heard
        self._pulse = pulse
        self._stop_within_s = stop_within_s
        self._slots = [_Slot(f"edge-{number}") for number in range(1, edges + 1)]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._serving = asyncio.Event()
        self._all_gone = asyncio.Event()
        self._is_stopping = False
        self._number = 0  # of snapshots; counted by whoever changes the registry, one at a time
        self._known = Known(0, b"")
        self._snapshot: Snapshot | None = None
        self._taking: list[_Taking] = []
        self._told: Figures | None = None
        self._told_s = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self.ending = Ending(0, 0)
        """What became of the requests that were under way at the stop."""
        self.is_lost = asyncio.Event()
        """Set when the zygote was killed: no edge can be started any more."""

    # The life of the family.

    def start(self) -> None:
        """Start the edges; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._loop.add_reader(self._zygote.fileno(), self._hear_zygote)
        for slot in self._slots:
            self._spawn(slot)
        self._on_beat()

    async def serving(self) -> None:
        """Wait until an edge answers requests."""
        await self._serving.wait()

    async def stop(self) -> None:
        """Let the edges finish what is under way, then end them."""
        assert self._loop is not None
        self._is_stopping = True
        self._listening.close()
        self._zygote.close_listening()
        for slot in self._slots:
            if slot.starting is not None:
                slot.starting.cancel()
            if slot.line is not None:
                slot.line.say(Stop())
        self._look_for_end()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), self._stop_within_s)
        for slot in self._slots:
            if not slot.is_gone:
                logger.error("%s has not ended within %.0f s", slot.name, self._stop_within_s)
        if self._beat is not None:
            self._beat.cancel()
        self._loop.remove_reader(self._zygote.fileno())

    async def count(self) -> None:
        """Have every edge report what it has counted; one that hangs is not waited for."""
        lines = [slot.line for slot in self._slots if slot.line is not None and slot.serves]
        reports = [asyncio.ensure_future(line.report()) for line in lines]
        if reports:
            _, late = await asyncio.wait(reports, timeout=_COUNTED_WITHIN_S)
            for report in late:
                report.cancel()

    def health(self) -> EdgesHealth:
        """How the edges are."""
        serving = sum(slot.serves for slot in self._slots)
        word: Word = "ok" if serving == len(self._slots) else "degraded" if serving else "failing"
        return EdgesHealth(
            word,
            [EdgeHealth(slot.name, slot.pid, slot.serves, slot.restarts) for slot in self._slots],
        )

    def _spawn(self, slot: _Slot) -> None:
        slot.starting = None
        line, its_line = socket.socketpair()
        bell, its_bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_line, its_bell:
            try:
                self._zygote.fork(slot.name, its_line, its_bell)
            except OSError:  # `_hear_zygote` is told as well
                line.close()
                bell.close()
                return
        slot.is_gone = False
        slot.born_s = slot.heard_s = self._pulse.s
        slot.line = EdgeLine(
            slot.name,
            self._services,
            serves=lambda: self._serves(slot),
            reported=lambda spent: self._reported(slot, spent),
            left=self._left,
            ended=lambda: self._line_ended(slot),
        )
        slot.line.on_taken = self._look_at_taken
        assert self._loop is not None
        self._loop.create_task(self._meet(slot.line, line, bell))

    async def _meet(self, line: EdgeLine, own: socket.socket, bell: socket.socket) -> None:
        await line.take(own, bell)
        line.say(self._figures())
        line.say(self._known)
        line.say(Listen(self._services.notices.is_heard))
        if self._is_stopping:
            line.say(Stop())

    def _serves(self, slot: _Slot) -> None:
        slot.serves = True
        self._serving.set()
        if slot.why:
            after_s = monotonic_s() - slot.ended_s
            voice.restarted(f"{slot.name}, process {slot.pid},", why=slot.why, after_s=after_s)
            slot.why = ""

    def _tell_heard(self, is_heard: bool) -> None:  # noqa: FBT001 — a listener's
        for slot in self._slots:
            if slot.line is not None:
                slot.line.say(Listen(is_heard))

    def _left(self, ending: Ending) -> None:
        finished, cut_off = self.ending
        self.ending = Ending(finished + ending.finished, cut_off + ending.cut_off)

    def _reported(self, slot: _Slot, spent: Mapping[str, int]) -> None:
        slot.heard_s = self._pulse.s
        if spent:
            for other in self._slots:
                if other is not slot and other.line is not None:
                    other.line.say(Spent(dict(spent)))

    def _line_ended(self, slot: _Slot) -> None:
        """Without its line it can do nothing: it ends by itself, or is ended."""
        slot.serves = False
        if not self._is_stopping:
            self._zygote.kill(slot.name)
        self._look_at_taken()

    def _hear_zygote(self) -> None:
        with suppress(BlockingIOError):
            while (word := self._zygote.word()) is not None:
                slot = next(slot for slot in self._slots if slot.name == word.name)
                if word.what == "born":
                    slot.pid = word.pid
                else:
                    self._ended(slot, word.status)
            assert self._loop is not None
            self._loop.remove_reader(self._zygote.fileno())
            if not self._is_stopping:
                logger.error("the process that forks the others has ended: the server stops")
                self.is_lost.set()
            for slot in self._slots:
                slot.is_gone, slot.serves = True, False
            self._look_for_end()

    def _ended(self, slot: _Slot, status: int) -> None:
        slot.is_gone, slot.serves = True, False
        pid, slot.pid = slot.pid, None
        metrics.keep(slot.name)
        if self._is_stopping:
            self._look_for_end()
            return
        if self._pulse.s - slot.born_s > _SETTLED_S:
            slot.wait_s = _SHORTEST_S
        slot.why, slot.ended_s = _cause(status), monotonic_s()
        logger.error("%s, process %s, has ended: %s", slot.name, pid, slot.why)
        assert self._loop is not None
        slot.restarts += 1
        slot.starting = self._loop.call_later(slot.wait_s, self._spawn, slot)
        slot.wait_s = min(2 * slot.wait_s, _LONGEST_S)

    def _look_for_end(self) -> None:
        if all(slot.is_gone for slot in self._slots):
            self._all_gone.set()

    # What edges must know.

    def publish(self, snapshot: Snapshot) -> None:
        """Tell a snapshot of the registry, and return when every edge goes by it.

        An edge that is gone is not waited for; one that hangs is ended. Not on the event loop,
        which has to hear their answers.
        """
        old, self._snapshot = self._snapshot, snapshot
        if old is not None and replace(old, logs=snapshot.logs) == snapshot:
            return  # of signed logs an edge knows nothing
        self._number += 1
        known = Known(self._number, snapshot.encode())
        if self._loop is None:
            self._known = known
            return
        assert threading.get_ident() != self._thread, "a change of the registry on the event loop"
        taken = _Taking(known.number)
        with suppress(RuntimeError):  # the loop has ended, and all edges with it
            self._loop.call_soon_threadsafe(self._tell, known, taken)
            if not taken.done.wait(TAKEN_WITHIN_S):
                self._loop.call_soon_threadsafe(self._end_those_without, taken)
                taken.done.wait(TAKEN_WITHIN_S)

    def _tell(self, known: Known, taken: "_Taking") -> None:
        self._known = known
        taken.lines = [slot.line for slot in self._slots if slot.line and not slot.line.is_over]
        self._taking.append(taken)
        for line in taken.lines:
            line.say(known)
        self._look_at_taken()

    def _look_at_taken(self) -> None:
        for taken in list(self._taking):
            taken.lines = [
                line for line in taken.lines if line.taken < taken.number and not line.is_over
            ]
            if not taken.lines:
                self._taking.remove(taken)
                taken.done.set()

    def _end_those_without(self, taken: "_Taking") -> None:
        for line in taken.lines:
            logger.error("%s does not take a change of the registry: it is ended", line.name)
            self._zygote.kill(line.name)

    def _figures(self) -> Figures:
        return Figures(self._disk.free_percent, self._disk.is_full)

    def _on_beat(self) -> None:
        """Tell figures that have changed, and all of them now and then; end edges that hang."""
        assert self._loop is not None
        self._beat = self._loop.call_later(_BEAT_S, self._on_beat)
        figures = self._figures()
        now_s = self._loop.time()
        if figures != self._told or now_s - self._told_s >= _HEARTBEAT_S:
            self._told, self._told_s = figures, now_s
            for slot in self._slots:
                if slot.line is not None:
                    slot.line.say(figures)
        for slot in self._slots:
            if not slot.is_gone and self._pulse.s - slot.heard_s > HANGS_S:
                logger.error("%s has said nothing for %.0f s: it is ended", slot.name, HANGS_S)
                slot.heard_s = self._pulse.s
                self._zygote.kill(slot.name)


class _Taking:
    """A change that is being told, and the lines that have not taken it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lines: list[EdgeLine] = []
        self.done = threading.Event()


def family_part(family: Family) -> Part:
    """The edges as a part of the server."""
    return Part(
        name="edges",
        start=family.start,
        stop=family.stop,
        health=family.health,
        form=EdgesHealth,
    )


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
