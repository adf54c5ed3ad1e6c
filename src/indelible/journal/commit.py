"""Group commit: requests that arrive while a sync is under way share the next one.

One thread writes. The event loop hands it each request's drafts and gets a future back, which is
resolved only after the sync, so an answer can never be sent before its events are durable.
"""

import asyncio
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from indelible.errors import IndelibleError, JournalUnwritable, Overloaded, Unavailable
from indelible.event import Lane
from indelible.journal.contract import Draft, Journal, Outcome
from indelible.metrics import BYTES_WAITING, COMMIT_SECONDS, GROUP_EVENTS

# A group beyond this gains nothing in throughput and only keeps its requests waiting.
_GROUP_EVENTS: Final = 1_000

# Product events may fill this much of what may wait. The rest is left to audit events, which a
# flood by a public token must not keep out.
_PRODUCT_SHARE: Final = 0.75

_OVERHEAD_BYTES: Final = 500  # what a waiting draft weighs besides its payload and record


class _Waiting(NamedTuple):
    drafts: Sequence[Draft]
    size_bytes: int
    answer: "asyncio.Future[list[Outcome]]"


class Committer:
    """Stores the drafts of many requests with one sync.

    `submit` belongs to one event loop; `journal` may be used by others meanwhile.
    """

    def __init__(self, journal: Journal, *, max_waiting_bytes: int) -> None:
        self._journal = journal
        self._max_waiting_bytes: float = max_waiting_bytes
        self._stopped = False
        self._waiting_bytes = 0  # touched by the event loop only
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        BYTES_WAITING.set_function(lambda: self._waiting_bytes)

    def start(self) -> None:
        """Begin to write; call it on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Write what was submitted, then end the thread. Later submissions are refused."""
        self._stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def submit(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Store `drafts` in order and atomically; one outcome each, once all of them are synced.

        Raises:
            Overloaded: too much is waiting already; nothing was stored.
            Unavailable: the server is stopping; nothing was stored.
            JournalUnwritable: the write or the sync failed; none may be taken as stored.
        """
        assert self._loop is not None
        if self._stopped:
            raise Unavailable("The server is stopping")
        size = sum(len(d.payload) + len(d.record) + _OVERHEAD_BYTES for d in drafts)
        most = self._max_waiting_bytes
        if drafts and drafts[0].lane is Lane.PRODUCT:
            most *= _PRODUCT_SHARE
        # A request that alone is over the limit is taken when nothing else waits.
        if self._waiting_bytes and self._waiting_bytes + size > most:
            raise Overloaded
        self._waiting_bytes += size
        answer: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._queue.put(_Waiting(drafts, size, answer))
        # Should the client go away, only the future ends: the events are stored all the same.
        return await answer

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            drafts = [draft for waiting in group for draft in waiting.drafts]
            result: list[Outcome] | IndelibleError
            try:
                with COMMIT_SECONDS.time():
                    result = self._journal.append(drafts)
            except IndelibleError as error:
                result = error
            except Exception as error:  # the one door of this thread: it must go on answering
                result = JournalUnwritable(f"{type(error).__name__} while writing a group")
                result.__cause__ = error
            GROUP_EVENTS.observe(len(drafts))
            assert self._loop is not None
            with suppress(RuntimeError):  # the loop was closed: nobody is left to answer
                self._loop.call_soon_threadsafe(self._answer, group, result)

    def _next_group(self) -> list[_Waiting] | None:
        """Wait for a request, then take along every other that is there; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        group, events = [first], len(first.drafts)
        while events < _GROUP_EVENTS:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._queue.put(None)
                break
            group.append(waiting)
            events += len(waiting.drafts)
        return group

    def _answer(self, group: list[_Waiting], result: list[Outcome] | IndelibleError) -> None:
        start = 0
        for waiting in group:
            end = start + len(waiting.drafts)
            self._waiting_bytes -= waiting.size_bytes
            if waiting.answer.done():
                pass
            elif isinstance(result, IndelibleError):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result[start:end])
            start = end
