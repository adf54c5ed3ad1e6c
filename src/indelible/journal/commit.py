"""Group commit: requests that arrive while a sync is under way share the next one.

One thread writes. The event loop hands it each request's drafts, and is told what came of them only
after the sync, so an answer can never be sent before its events are durable.

Where more waits than one group takes, the sources have turns (`indelible.journal.fair`): each
project, its audit events apart from its product events, and single events apart from batches. Who
sends a thousand batches at once, with a token that everybody can read, makes nobody else wait for
them. For the same reason no source may fill all of the room for what waits.

A disk can also hang. The writer thread then waits inside the sync for as long as it takes, and the
events may still be stored. The loop answers their requests with `StoringSlow` after
`ANSWERED_WITHIN_S`. Once a group has been under way for `STUCK_S`, the loop refuses new requests
instead of queueing them. It checks both at every beat of its pulse, so a request pays nothing.
"""

import asyncio
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from indelible.clock import Clock, now_ms
from indelible.errors import (
    IndelibleError,
    JournalStuck,
    JournalUnwritable,
    Overloaded,
    StoringSlow,
    Unavailable,
)
from indelible.event import Lane
from indelible.fault import place_of
from indelible.journal.contract import Draft, Journal, Outcome
from indelible.journal.fair import FairQueue
from indelible.metrics import BYTES_WAITING, COMMIT_SECONDS, GROUP_EVENTS
from indelible.pulse import Pulse

logger = logging.getLogger(__name__)

ANSWERED_WITHIN_S: Final = 4.0
"""Answer 503 to a request that has waited this long for its sync, though it may still be stored."""
STUCK_S: Final = 1.5
"""After a group has been under way for this long, refuse new requests and turn health red."""

# A group beyond this gains nothing in throughput and only keeps its requests waiting.
_GROUP_EVENTS: Final = 1_000

# Product events may fill this much of what may wait. The rest is left to audit events, which a
# flood by a public token must not keep out.
_PRODUCT_SHARE: Final = 0.75

# And a source may fill this many times what would be left: seven eighths if it is alone.
_OF_WHAT_IS_LEFT: Final = 7

_BATCH_EVENTS: Final = 20
"""A request with more is a batch, and no one behind whom single events would have to wait."""

_OVERHEAD_BYTES: Final = 500  # what a waiting draft weighs besides its payload and record
_PROBE_S: Final = 0.5  # how often to probe a failing journal while no request arrives


Result = list[Outcome] | IndelibleError
"""What came of a request: one outcome a draft, or why none was stored."""
Answered = Callable[[Result], None]
"""Is told what came of a request, once, on the event loop. It must be quick and must not raise."""


class _Source(NamedTuple):
    project_id: int
    lane: Lane
    is_batch: bool


class _Waiting(NamedTuple):
    number: int  # in order of arrival
    source: _Source | None  # None: without drafts
    drafts: Sequence[Draft]
    size_bytes: int
    answered: Answered
    since_s: float  # by the pulse


class Failure(NamedTuple):
    """Why and when (ms since the epoch) storing a group failed."""

    message: str
    at_ms: int


class Committer:
    """Stores the drafts of many requests with one sync.

    `submit` belongs to one event loop; `journal` may be used by others meanwhile.
    """

    def __init__(self, journal: Journal, *, max_waiting_bytes: int, clock: Clock = now_ms) -> None:
        self._journal = journal
        self._max_waiting_bytes: float = max_waiting_bytes
        self._clock = clock
        self._stopped = False
        self.pulse = Pulse()
        self.pulse.on_beat(self._look)
        # These are touched by the event loop only.
        self._waiting_bytes = 0
        self._waiting_of: Counter[_Source | None] = Counter()  # bytes
        self._numbers = count()
        self._under_way: dict[int, _Waiting] = {}  # in order of arrival, until their group ends
        self._late: set[int] = set()  # those of them that were answered before that
        self._answered = 0  # groups
        self._watched = 0  # the group that was under way at the last beat
        self._watched_since_s = 0.0
        self._stuck_s = 0.0
        # These are touched by the thread only, or set by it.
        self._begun = 0  # groups
        self._fair: FairQueue[_Waiting] = FairQueue()
        self._is_ending = False
        self.last_failure: Failure | None = None
        self.is_failing = False
        """Whether the last attempt to store anything failed."""
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        BYTES_WAITING.set_function(lambda: self._waiting_bytes)

    def start(self) -> None:
        """Begin to write; call it on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self.pulse.start()
        self._thread.start()

    async def stop(self) -> None:
        """Write what was submitted, then end the thread. Later submissions are refused."""
        self._stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self.pulse.stop()

    @property
    def under_way_s(self) -> float | None:
        """How long the writer has been at the current group, or None if it is idle."""
        if self._begun == self._answered or self._begun != self._watched:
            return None
        return self.pulse.s - self._watched_since_s

    async def submit(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Store `drafts` in order and atomically; one outcome each, once all of them are synced.

        Raises:
            Overloaded: too much is waiting already; nothing was stored.
            Unavailable: the server is stopping; nothing was stored.
            JournalUnwritable: the write or the sync failed; none may be taken as stored.
            JournalStuck: the disk hangs; nothing was stored.
            StoringSlow: the sync has not ended within `ANSWERED_WITHIN_S`; they may be stored yet.
        """
        # Should the client go away, only the future ends: the events are stored all the same.
        return await self.put(drafts)

    def put(self, drafts: Sequence[Draft]) -> "asyncio.Future[list[Outcome]]":
        """As `submit`, for one who waits in another way: returns what it would await.

        Raises:
            Overloaded, Unavailable, JournalStuck: at once, as `submit` does.
        """
        assert self._loop is not None
        answer: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self.hand_over(drafts, partial(_resolve, answer))
        return answer

    def hand_over(self, drafts: Sequence[Draft], answered: Answered) -> None:
        """As `submit`, for one who waits for many: `answered` is told what came of it.

        Raises:
            Overloaded, Unavailable, JournalStuck: at once, as `submit` does.
        """
        if self._stopped:
            raise Unavailable("The server is stopping")
        if self._stuck_s:
            raise JournalStuck(under_way_s=self._stuck_s)
        size = sum(len(d.payload) + len(d.record) + _OVERHEAD_BYTES for d in drafts)
        source = _source_of(drafts)
        if self._waiting_bytes and not self._has_room(source, size):
            raise Overloaded
        self._waiting_bytes += size
        self._waiting_of[source] += size
        waiting = _Waiting(next(self._numbers), source, drafts, size, answered, self.pulse.s)
        self._under_way[waiting.number] = waiting
        self._queue.put(waiting)

    def _has_room(self, source: _Source | None, size: int) -> bool:
        """Whether one more request may wait: not asked where nothing does, so that one that alone
        is over the limit can be stored."""
        most = self._max_waiting_bytes
        if source is not None and source.lane is Lane.PRODUCT:
            most *= _PRODUCT_SHARE
        left = most - self._waiting_bytes - size
        mine = self._waiting_of[source]
        return left >= 0 and (not mine or mine + size <= _OF_WHAT_IS_LEFT * left)

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            if not group:
                self._probe()
                continue
            self._begun += 1
            drafts = [draft for waiting in group for draft in waiting.drafts]
            result: Result
            try:
                with COMMIT_SECONDS.time():
                    result = self._journal.append(drafts)
                self.is_failing = False
            except Exception as error:  # the one door of this thread: it must go on answering
                result = self._note(error)
            GROUP_EVENTS.observe(len(drafts))
            assert self._loop is not None
            with suppress(RuntimeError):  # the loop was closed: nobody is left to answer
                self._loop.call_soon_threadsafe(self._answer, group, result)

    def _note(self, error: Exception) -> IndelibleError:
        """Remember and log why a group was not stored; return the error for its requests."""
        answer: IndelibleError
        if isinstance(error, IndelibleError):
            answer = error
        else:
            answer = JournalUnwritable(f"{type(error).__name__} while writing a group")
            answer.__cause__ = error
            # The message might quote an event, so log only the place.
            logger.error("storing: %s in %s", type(error).__name__, place_of(error))
        if not self.is_failing:
            logger.error("nothing is stored: %s", answer.message)
        self.last_failure = Failure(answer.message, self._clock())
        self.is_failing = True
        return answer

    def _probe(self) -> None:
        """Check whether the journal accepts writes again after a failure."""
        try:
            self._journal.probe()
        except IndelibleError:
            return  # still failing, and already logged
        except Exception as error:  # as in `_run`
            self._note(error)
            return
        logger.warning("events are stored again")
        self.is_failing = False

    def _next_group(self) -> list[_Waiting] | None:
        """Wait for a request, then take along others that are there; None at the end.

        While the journal is failing, returns an empty group if no request arrives for a while.
        """
        if not self._fair and not self._is_ending:
            try:
                self._sort_in(self._queue.get(timeout=_PROBE_S if self.is_failing else None))
            except queue.Empty:
                return []
        with suppress(queue.Empty):
            while True:
                self._sort_in(self._queue.get_nowait())
        return self._fair.take(_GROUP_EVENTS) if self._fair else None

    def _sort_in(self, waiting: _Waiting | None) -> None:
        if waiting is None:
            self._is_ending = True
        else:
            self._fair.put(waiting.source, len(waiting.drafts), waiting)

    def _look(self) -> None:
        """Update how long the current group has taken, and answer requests that waited too long."""
        begun = self._begun
        if begun != self._watched:
            self._watched, self._watched_since_s = begun, self.pulse.s
        under_way_s = 0.0 if begun == self._answered else self.pulse.s - self._watched_since_s
        if under_way_s > STUCK_S and not self._stuck_s:
            logger.error("nothing is stored: one sync has been under way for %.1f s", under_way_s)
        self._stuck_s = under_way_s if under_way_s > STUCK_S else 0.0
        for waiting in self._under_way.values():
            if self.pulse.s - waiting.since_s < ANSWERED_WITHIN_S:
                break
            if waiting.number not in self._late:
                self._late.add(waiting.number)
                waiting.answered(StoringSlow())

    def _answer(self, group: list[_Waiting], result: Result) -> None:
        self._answered += 1
        self._stuck_s = 0.0
        start = 0
        for waiting in group:
            del self._under_way[waiting.number]
            end = start + len(waiting.drafts)
            self._waiting_bytes -= waiting.size_bytes
            self._waiting_of[waiting.source] -= waiting.size_bytes
            if waiting.number in self._late:
                self._late.remove(waiting.number)
            else:
                mine = result if isinstance(result, IndelibleError) else result[start:end]
                waiting.answered(mine)
            start = end


def _resolve(answer: "asyncio.Future[list[Outcome]]", result: Result) -> None:
    if answer.done():  # the client has left
        return
    if isinstance(result, IndelibleError):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _source_of(drafts: Sequence[Draft]) -> _Source | None:
    if not drafts:
        return None
    first = drafts[0]
    return _Source(first.project_id, first.lane, len(drafts) > _BATCH_EVENTS)
