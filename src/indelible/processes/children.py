"""Supervision: each child has a place; whichever process has it, one is there or being started.

Everything here runs on the event loop of the writer. Who ends whom:

    writer ──kill -9──▶ kernel ──▶ zygote ──▶ children    (parent-death signal; end of the line)
    child ──any end──▶ zygote says so ──▶ started anew, later each time if it lives briefly
    child hangs ──no report for `HANGS_S`──▶ killed, and started anew
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from indelible import metrics, voice
from indelible.clock import monotonic_s
from indelible.processes.child import ChildLine
from indelible.processes.zygote import Forks
from indelible.pulse import Pulse

logger = logging.getLogger(__name__)

HANGS_S: Final = 20.0
"""A child that has not reported for this long is killed."""
SILENT_S: Final = 3.0
"""A child that has not reported for this long is taken for one that does nothing."""

_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_SETTLED_S: Final = 10.0  # who has lived this long is started anew at once


class ChildHealth(msgspec.Struct):
    """A process of the server. `pid` is null while it is being started; `serves` says that it does
    what it is for; `restarts` counts since the server started; `failure` says what keeps it from
    its work, or is null."""

    name: str
    pid: int | None
    serves: bool
    restarts: int
    failure: str | None


class Place:
    """The place of one child, whichever process has it.

    `make_line` makes the line to a new one; `met` is called when that one can be spoken to.
    """

    def __init__(
        self,
        name: str,
        make_line: Callable[[], ChildLine[Any]],
        met: Callable[[], None],
    ) -> None:
        self.name = name
        self.line: ChildLine[Any] | None = None
        self.serves = False
        self.is_gone = True
        self.has_served = False
        self.make_line = make_line
        self.met = met
        self.pid: int | None = None
        self.restarts = 0
        self.born_s = 0.0
        self.heard_s = 0.0
        self.wait_s = _SHORTEST_S
        self.why = ""  # the last one ended, until the next one serves
        self.ended_s = 0.0
        self.starting: asyncio.TimerHandle | None = None

    def say(self, message: object) -> None:
        """Tell the child something, if there is one."""
        if self.line is not None:
            self.line.say(message)


class Children:
    """Starts the children of a server, and starts those anew that end, until it stops.

    `on_change` is called when a child serves, and when it does not any more; it may set `why`.
    """

    def __init__(self, zygote: Forks, places: Sequence[Place], *, pulse: Pulse) -> None:
        self.places = places
        self.is_stopping = False
        self.on_change: Callable[[Place], None] = lambda _: None
        self.is_lost = asyncio.Event()
        """Set when the zygote was killed: no child can be started any more."""
        self._zygote = zygote
        self._pulse = pulse
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start all; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._zygote.fileno(), self._hear_zygote)
        for place in self.places:
            self._spawn(place)

    def health(self) -> list[ChildHealth]:
        """How each of them is."""
        return [self._health(place) for place in self.places]

    def works(self, place: Place) -> bool:
        """Whether the child does what it is for, as far as one can tell."""
        return place.serves and self._silent_s(place) < SILENT_S

    def _silent_s(self, place: Place) -> float:
        return self._pulse.s - place.heard_s

    def _health(self, place: Place) -> ChildHealth:
        failure = place.why or (None if place.line is None else place.line.failure)
        if place.serves and not self.works(place):
            failure = f"it has said nothing for {self._silent_s(place):.0f} s"
        return ChildHealth(place.name, place.pid, place.serves, place.restarts, failure or None)

    def kill(self, place: Place) -> None:
        """End the child that has this place."""
        self._zygote.kill(place.name)

    def look_for_hung(self) -> None:
        """End who has said nothing for too long; call it now and then."""
        for place in self.places:
            if not place.is_gone and self._silent_s(place) > HANGS_S:
                logger.error("%s has said nothing for %.0f s: it is ended", place.name, HANGS_S)
                place.heard_s = self._pulse.s
                self.kill(place)

    def keep_none(self) -> None:
        """Start nobody any more."""
        self.is_stopping = True
        for place in self.places:
            if place.starting is not None:
                place.starting.cancel()

    async def gone(self, places: Sequence[Place]) -> None:
        """Wait until these have ended."""
        while not all(place.is_gone for place in places):
            self._changed.clear()
            await self._changed.wait()

    def leave(self) -> None:
        """Hear nothing more of them."""
        if self._loop is not None:
            self._loop.remove_reader(self._zygote.fileno())

    def _spawn(self, place: Place) -> None:
        place.starting = None
        own, its = socket.socketpair()
        with its:
            try:
                self._zygote.fork(place.name, its)
            except OSError:  # `_hear_zygote` is told as well
                own.close()
                return
        place.is_gone = False
        place.born_s = place.heard_s = self._pulse.s
        line = place.line = place.make_line()
        line.on_reported = lambda: self._reported(place)
        line.on_serves = lambda: self._serves(place)
        line.on_ended = lambda: self._line_ended(place)
        assert self._loop is not None
        self._loop.create_task(self._meet(place, line, own))

    async def _meet(self, place: Place, line: ChildLine[Any], own: socket.socket) -> None:
        await line.take(own)
        place.met()

    def _reported(self, place: Place) -> None:
        place.heard_s = self._pulse.s

    def _serves(self, place: Place) -> None:
        place.serves = place.has_served = True
        if place.why:
            after_s = monotonic_s() - place.ended_s
            voice.restarted(f"{place.name}, process {place.pid},", why=place.why, after_s=after_s)
            place.why = ""
        self.on_change(place)

    def _line_ended(self, place: Place) -> None:
        """Without its line it can do nothing: it ends by itself, or is ended."""
        place.serves = False
        if not self.is_stopping:
            self.kill(place)
        self.on_change(place)

    def _hear_zygote(self) -> None:
        with suppress(BlockingIOError):
            while (word := self._zygote.word()) is not None:
                place = next(place for place in self.places if place.name == word.name)
                if word.what == "born":
                    place.pid = word.pid
                else:
                    self._ended(place, word.status)
            self.leave()
            if not self.is_stopping:
                logger.error("the process that forks the others has ended: the server stops")
                self.is_lost.set()
            for place in self.places:
                place.is_gone, place.serves = True, False
            self._changed.set()

    def _ended(self, place: Place, status: int) -> None:
        place.is_gone, place.serves = True, False
        pid, place.pid = place.pid, None
        if place.line is not None:
            place.line.close()
        metrics.keep(place.name)
        self._changed.set()
        if self.is_stopping:
            return
        if self._pulse.s - place.born_s > _SETTLED_S:
            place.wait_s = _SHORTEST_S
        place.why, place.ended_s = _cause(status), monotonic_s()
        place.restarts += 1
        self.on_change(place)
        if self.is_stopping:
            return
        logger.error("%s, process %s, has ended: %s", place.name, pid, place.why)
        assert self._loop is not None
        place.starting = self._loop.call_later(place.wait_s, self._spawn, place)
        place.wait_s = min(2 * place.wait_s, _LONGEST_S)


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
