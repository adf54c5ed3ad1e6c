"""A clock that advances only while the event loop runs.

A process that was suspended, or starved by others on the same cores, must not conclude that its
disk hangs. So waiting times are measured on this clock: each beat of the loop advances it by the
time since the last beat, but never by more than two beats.
"""

import asyncio
from collections.abc import Callable
from typing import Final

BEAT_S: Final = 0.1
_LONGEST_STEP_S: Final = 2 * BEAT_S


class Pulse:
    """Beats ten times a second on one event loop. `s` may be read from any thread."""

    def __init__(self) -> None:
        self.s = 0.0
        self._acts: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.TimerHandle | None = None
        self._last_s = 0.0

    def on_beat(self, act: Callable[[], None]) -> None:
        """Call `act` on the loop at every beat. It must be quick and must not raise."""
        self._acts.append(act)

    def start(self) -> None:
        """Start beating on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._last_s = self._loop.time()
        self._next = self._loop.call_later(BEAT_S, self._beat)

    def stop(self) -> None:
        """Stop the clock."""
        if self._next is not None:
            self._next.cancel()

    def _beat(self) -> None:
        assert self._loop is not None
        now_s = self._loop.time()
        self.s += min(now_s - self._last_s, _LONGEST_STEP_S)
        self._last_s = now_s
        self._next = self._loop.call_later(BEAT_S, self._beat)
        for act in self._acts:
            act()
