"""The one loop that every follower of the log runs in.

Read from my cursor, handle a batch, move my cursor. A crash between the last two hands the same
batch over again: at least once, so a handler must be idempotent.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from indelible.clock import monotonic_s
from indelible.errors import IndelibleError
from indelible.journal.contract import Journal
from indelible.metrics import FOLLOWER_FAILURES

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 30.0


class Handler(Protocol):
    """What a follower does with the log."""

    @property
    def name(self) -> str:
        """Names the cursor: permanent, unique among followers."""
        ...

    @property
    def batch(self) -> int:
        """The most entries to be handed over at once."""
        ...

    def handle(self, project_id: int, start: int, end: int) -> None:
        """Take the entries [start, end) of one project's log, at least one; all are stored.

        May be given the same entries again after a crash or a failure. Raise to be called again
        with the same start after a pause; later entries wait meanwhile.
        """
        ...


class Follower:
    """Runs one handler over every project's log, on a thread of its own.

    Args:
        journal: what is followed.
        handler: what is done with it.
        projects: the ids of all projects, asked for anew in each round.
        wait: given how many commits it has seen, returns the count once it has grown or a second
            has passed.
        wake: ends a `wait` that is under way, so that stopping need not wait for it.
        pace_s: least time from the start of a round that handled something to the next one, so
            that a busy log is handled in larger batches.
    """

    def __init__(
        self,
        journal: Journal,
        handler: Handler,
        *,
        projects: Callable[[], Iterable[int]],
        wait: Callable[[int], int],
        wake: Callable[[], None],
        pace_s: float = 0.0,
    ) -> None:
        self._journal = journal
        self._handler = handler
        self._projects = projects
        self._wait = wait
        self._wake = wake
        self._pace_s = pace_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"follower-{handler.name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, drain: bool = False) -> None:
        """Finish the batch under way, then end; returns when the thread has.

        `drain`: handle all that is stored as well.
        """
        self._stopping.set()
        self._wake()
        self._thread.join()
        if drain:
            self._stopping.clear()
            try:
                self.catch_up()
            except Exception as error:  # the same door as the thread's
                self._note(error, "the rest waits for the next start")

    def lag(self) -> int:
        """How many stored entries, over all projects, the handler has not taken yet."""
        name = self._handler.name
        return sum(
            self._journal.next_index(p) - self._journal.cursor(name, p) for p in self._projects()
        )

    def catch_up(self) -> int:
        """Handle everything that is stored now, and return how many entries that was.

        Raises what the handler raised first; the cursor of that project stands before the batch
        that failed, and the other projects were handled all the same.
        """
        handled = 0
        failures: list[Exception] = []
        for project_id in self._projects():
            try:
                handled += self._catch_up_with(project_id)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return handled

    def _catch_up_with(self, project_id: int) -> int:
        first = start = self._journal.cursor(self._handler.name, project_id)
        stored = self._journal.next_index(project_id)
        while start < stored and not self._stopping.is_set():
            end = min(start + self._handler.batch, stored)
            self._handler.handle(project_id, start, end)
            # power lost here: the batch is handled again, which a handler must allow
            start = end
            self._journal.move_cursor(self._handler.name, project_id, start)
        return start - first

    def _run(self) -> None:
        seen, pause_s = 0, 0.0
        while not self._stopping.is_set():
            began = monotonic_s()
            try:
                handled = self.catch_up()
                pause_s = 0.0
            except Exception as error:  # the follower's one door: a failure is tried again
                pause_s = min(max(1.0, 2 * pause_s), _LONGEST_PAUSE_S)
                self._note(error, f"again in {pause_s:.0f} s")
                self._stopping.wait(pause_s)
                continue
            if handled:
                self._stopping.wait(began + self._pace_s - monotonic_s())
            seen = self._wait(seen)

    def _note(self, error: Exception, what_next: str) -> None:
        FOLLOWER_FAILURES.labels(self._handler.name).inc()
        code = error.code if isinstance(error, IndelibleError) else type(error).__name__
        logger.warning("follower %s: %s; %s", self._handler.name, code, what_next)
