"""The one loop that every follower of the log runs in.

Read from my cursor, handle a batch, move my cursor. A crash between the last two hands the same
batch over again: at least once, so a handler must be idempotent.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from indelible.errors import IndelibleError
from indelible.journal.contract import Entry, Journal
from indelible.metrics import FOLLOWER_FAILURES

logger = logging.getLogger(__name__)

_BATCH: Final = 1_000
_LONGEST_PAUSE_S: Final = 30.0


class Handler(Protocol):
    """What a follower does with the log."""

    name: str
    """Names the cursor: permanent, unique among followers."""

    def handle(self, project_id: int, entries: Sequence[Entry]) -> None:
        """Take `entries` (1 to 1,000, contiguous, in log order) of one project.

        May be given the same entries again after a crash or a failure. Raise to be called again
        with the same entries after a pause; later entries wait meanwhile.
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
    """

    def __init__(
        self,
        journal: Journal,
        handler: Handler,
        *,
        projects: Callable[[], Iterable[int]],
        wait: Callable[[int], int],
    ) -> None:
        self._journal = journal
        self._handler = handler
        self._projects = projects
        self._wait = wait
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"follower-{handler.name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, then end; returns when the thread has."""
        self._stopping.set()
        self._thread.join()

    def lag(self) -> int:
        """How many stored entries, over all projects, the handler has not taken yet."""
        name = self._handler.name
        return sum(
            self._journal.next_index(p) - self._journal.cursor(name, p) for p in self._projects()
        )

    def catch_up(self) -> None:
        """Handle everything that is stored now, and return.

        Raises what the handler raised first; the cursor of that project stands before the batch
        that failed, and the other projects were handled all the same.
        """
        failures: list[Exception] = []
        for project_id in self._projects():
            try:
                self._catch_up_with(project_id)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _catch_up_with(self, project_id: int) -> None:
        start = self._journal.cursor(self._handler.name, project_id)
        while not self._stopping.is_set():
            entries = self._journal.read(project_id, start, start + _BATCH)
            if not entries:
                return
            self._handler.handle(project_id, entries)
            # power lost here: the batch is handled again, which a handler must allow
            start = entries[-1].index + 1
            self._journal.move_cursor(self._handler.name, project_id, start)

    def _run(self) -> None:
        seen, pause_s = 0, 0.0
        while not self._stopping.is_set():
            try:
                self.catch_up()
                pause_s = 0.0
            except Exception as error:  # the follower's one door: a failure is tried again
                pause_s = min(max(1.0, 2 * pause_s), _LONGEST_PAUSE_S)
                FOLLOWER_FAILURES.labels(self._handler.name).inc()
                code = error.code if isinstance(error, IndelibleError) else type(error).__name__
                logger.warning(
                    "follower %s: %s; again in %.0f s", self._handler.name, code, pause_s
                )
                self._stopping.wait(pause_s)
                continue
            seen = self._wait(seen)
