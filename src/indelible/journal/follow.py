"""The one loop that every follower of the log runs in.

A follower keeps its position at its own sink, in the same transaction as what it made of the
entries: the journal knows nothing about it, and no round costs the journal a sync. The loop asks
for a project's position when it first meets the project, and again after a failure; in between it
relies on `handle`, which returns only once the position has moved.

A round hands over what is stored past the position of every project. Where a handler takes several
projects at once, the end of a log is looked up when its group has its turn: what is stored during a
long round waits for that turn, not for the end of the round and the next one.

A project whose entries cannot be handled backs off alone: it is left out of the rounds until its
pause is over, and the other projects are handled as if it were not there. Only a failure of the
round itself, such as a journal that cannot be written, pauses them all.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from indelible.clock import monotonic_s
from indelible.errors import IndelibleError
from indelible.journal.contract import JournalReader
from indelible.metrics import FOLLOWER_FAILURES

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_WAIT_S: Final = 1.0  # how often to look for new projects while nothing is committed


class Run(NamedTuple):
    """The entries [start, end) of one project's log, at least one; all are stored."""

    project_id: int
    start: int
    end: int


class Handler(Protocol):
    """What a follower does with the log."""

    @property
    def name(self) -> str:
        """Names the follower in metrics and log lines."""
        ...

    @property
    def batch(self) -> int:
        """The most entries of one project to be handed over at once."""
        ...

    def next_index(self, project_id: int) -> int:
        """The handler's position: every entry of the project below it has been handled."""
        ...

    def handle(self, project_id: int, start: int, end: int) -> None:
        """Take the entries [start, end) of one project's log, at least one; all are stored.

        On return the position is at `end` or past it. Raise to be called again after a pause, from
        the position on; later entries of this project wait meanwhile.
        """
        ...


@runtime_checkable
class GroupHandler(Protocol):
    """A handler for which many projects at once cost less than one after the other."""

    @property
    def name(self) -> str: ...

    @property
    def batch(self) -> int: ...

    def next_index(self, project_id: int) -> int: ...

    @property
    def together(self) -> int:
        """The most projects to be handed over at once."""
        ...

    def handle_group(self, runs: Sequence[Run]) -> Mapping[int, Exception]:
        """Take the runs of several projects, as `Handler.handle` would each.

        Returns what was raised, by project. What is raised here failed for all of them.
        """
        ...


class Follower:
    """Runs one handler over every project's log, on a thread of its own.

    Args:
        journal: the journal to follow.
        handler: what to do with its entries.
        projects: returns the ids of the projects to follow; called in each round.
        pace_s: least time from the start of a round that handled something to the next one, so
            that a busy log is handled in larger batches.
    """

    def __init__(
        self,
        journal: JournalReader,
        handler: Handler | GroupHandler,
        *,
        projects: Callable[[], Iterable[int]],
        pace_s: float = 0.0,
    ) -> None:
        self._journal = journal
        self._handler = handler
        self._projects = projects
        self._pace_s = pace_s
        # The thread's own: nothing else moves this handler's positions while it runs.
        self._positions: dict[int, int] = {}
        self._pauses: dict[int, _Pause] = {}
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
        self._journal.wake()
        self._thread.join()
        if drain:
            self._stopping.clear()
            try:
                self.catch_up()
            except Exception as error:  # the same door as the thread's
                self._note(error, "the rest waits for the next start")

    def lag(self) -> int:
        """How many stored entries, over all projects, the handler has not taken yet."""
        ends = self._journal.next_indexes(self._projects())
        return sum(max(0, end - self._handler.next_index(p)) for p, end in ends.items())

    def catch_up(self) -> int:
        """Handle everything that is stored now, and return how many entries that was.

        Raises what the handler raised first; the position of that project is before the batch that
        failed, and the other projects were handled all the same.
        """
        handled, failures = self._round(list(self._projects()))
        if failures:
            raise next(iter(failures.values()))
        return handled

    def _round(self, projects: Sequence[int]) -> tuple[int, dict[int, Exception]]:
        """Handle what is stored of these projects now.

        Returns how many entries that was, and what kept the others from being handled, by project.
        """
        handled = 0
        stored, failures = self._ends(projects)
        due = self._due(stored)
        while due and not self._stopping.is_set():
            again: list[Run] = []
            for group in self._groups(due):
                # The turn of the last group comes late: what was stored meanwhile has it as well.
                stored, unread = self._ends([run.project_id for run in group])
                runs = self._due(stored)
                failed = self._hand_over(runs)
                moved = {run.project_id: run.end for run in runs if run.project_id not in failed}
                self._positions.update(moved)
                for project_id in failed:
                    self._positions.pop(project_id, None)
                handled += sum(run.end - run.start for run in runs if run.project_id in moved)
                failures |= unread | failed
                again += self._due({project: stored[project] for project in moved})
                if self._stopping.is_set():
                    break
            due = again
        return handled, failures

    def _groups(self, runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
        """The runs as the handler takes them at once."""
        handler = self._handler
        size = handler.together if isinstance(handler, GroupHandler) else len(runs)
        for first in range(0, len(runs), size):
            yield runs[first : first + size]

    def _ends(self, projects: Sequence[int]) -> tuple[dict[int, int], dict[int, Exception]]:
        """How much each project has stored, and of which that cannot be read, and why."""
        try:
            return self._journal.next_indexes(projects), {}
        except Exception as error:
            if len(projects) <= 1:
                return {}, dict.fromkeys(projects, error)
        ends: dict[int, int] = {}
        failures: dict[int, Exception] = {}
        for project_id in projects:
            try:
                ends[project_id] = self._journal.next_index(project_id)
            except Exception as error:
                failures[project_id] = error
        return ends, failures

    def _due(self, stored: Mapping[int, int]) -> list[Run]:
        """The next run of every project that has one, given how much each has stored."""
        runs = []
        for project_id, end in stored.items():
            start = self._positions.get(project_id)
            if start is None:
                start = self._positions[project_id] = self._handler.next_index(project_id)
            if start < end:
                runs.append(Run(project_id, start, min(start + self._handler.batch, end)))
        return runs

    def _hand_over(self, runs: list[Run]) -> dict[int, Exception]:
        """Let the handler take these runs; those not reached before a stop are taken out.

        Returns what it raised, by project.
        """
        handler = self._handler
        if isinstance(handler, GroupHandler):
            return dict(handler.handle_group(runs))
        failed: dict[int, Exception] = {}
        for done, run in enumerate(runs):
            if self._stopping.is_set():
                del runs[done:]
                break
            try:
                handler.handle(*run)
            except Exception as error:
                failed[run.project_id] = error
        return failed

    def _run(self) -> None:
        seen, pause_s = 0, 0.0
        while not self._stopping.is_set():
            began = monotonic_s()
            try:
                due = [project for project in self._projects() if not self._rests(project, began)]
                handled, failures = self._round(due)
            except Exception as error:  # the follower's one door: a failure is tried again
                pause_s = _longer(pause_s)
                self._note(error, f"again in {pause_s:.0f} s")
                self._stopping.wait(pause_s)
                continue
            pause_s = 0.0
            self._set_pauses(due, failures)
            if handled:
                self._stopping.wait(began + self._pace_s - monotonic_s())
            seen = self._journal.wait(seen, timeout_s=_WAIT_S)

    def _rests(self, project_id: int, now_s: float) -> bool:
        """Whether this project failed and its pause is not over."""
        pause = self._pauses.get(project_id)
        return pause is not None and now_s < pause.until_s

    def _set_pauses(self, tried: Iterable[int], failures: Mapping[int, Exception]) -> None:
        """Let the projects that failed rest, each longer than the last time."""
        resting: dict[tuple[str, float], list[int]] = {}
        for project_id in tried:
            last = self._pauses.pop(project_id, _Pause(0.0, 0.0))
            error = failures.get(project_id)
            if error is not None:
                length_s = _longer(last.length_s)
                self._pauses[project_id] = _Pause(length_s, monotonic_s() + length_s)
                resting.setdefault((_code(error), length_s), []).append(project_id)
        for (code, length_s), projects in resting.items():
            # One line for all that failed alike: a full disk fails hundreds of them at once.
            more = f" and {len(projects) - 1:,} more" if len(projects) > 1 else ""
            self._say(code, f"project {projects[0]}{more} again in {length_s:.0f} s")
            FOLLOWER_FAILURES.labels(self._handler.name).inc(len(projects))

    def _note(self, error: Exception, what_next: str) -> None:
        FOLLOWER_FAILURES.labels(self._handler.name).inc()
        self._say(_code(error), what_next)

    def _say(self, code: str, what_next: str) -> None:
        logger.warning("follower %s: %s; %s", self._handler.name, code, what_next)


class _Pause(NamedTuple):
    length_s: float
    until_s: float


def _code(error: Exception) -> str:
    return error.code if isinstance(error, IndelibleError) else type(error).__name__


def _longer(pause_s: float) -> float:
    return min(max(_SHORTEST_PAUSE_S, 2 * pause_s), _LONGEST_PAUSE_S)
