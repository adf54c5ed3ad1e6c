"""One lane's way out of the process: a queue that costs nothing, and a worker that does the rest.

    capture ─▶ inbox ─▶ shelf ─▶ sender ─▶ server
               deque    batches, in memory and on disk

This is the caller's side. Its thread only appends to the inbox; the worker has the rest.

What the caller's thread touches takes no lock that another thread could hold for long, and none
that a signal handler could find held by the code it interrupted.
"""

import os
import sys
from collections import deque
from pathlib import Path
from typing import Final

from indelible.client.capture import Capture, Record, Stamp
from indelible.client.hidden import Secret
from indelible.client.inbox import Inbox, Mark
from indelible.client.lifecycle import is_over, release
from indelible.client.notices import Notices
from indelible.client.options import Options
from indelible.client.reports import Reports
from indelible.client.roles import Roles
from indelible.client.sender import Sender
from indelible.client.shelf import Shelf
from indelible.client.tally import Counts, Numbers, Tally
from indelible.client.timing import Time
from indelible.client.transport import Transport
from indelible.client.wire import Wire
from indelible.client.worker import Worker
from indelible.client.writer import Writer
from indelible.event import LossReason

_LOOK_EACH_S: Final = 0.05
_END_WAIT_S: Final = 0.1
_RANDOM_BYTES: Final = 10
_RANDOM_POOL: Final = 256


class Outbox:
    """The door to one lane in one process.

    A forked child makes a new one; nothing of its parent's is sent twice.
    """

    def __init__(
        self,
        wire: Wire,
        options: Options,
        *,
        host: str,
        process_id: str,
        version: str,
        time: Time,
        spool_folder: Path | None,
    ) -> None:
        self._options = options
        self._time = time
        self._host = host
        own = {"User-Agent": f"indelible-python/{version}"}
        self._headers = own | Secret.of_each(options.headers)
        self._most = options.max_queued * (2 if options.overflow == "oldest" else 1)
        self._tally = Tally()
        self._numbers = Numbers()
        self._random: deque[bytes] = deque()
        self._inbox = Inbox(options)
        self._roles = roles = Roles()
        notices = Notices(
            wire.lane, options, tally=self._tally, monotonic=time.monotonic, roles=roles
        )
        shelf = Shelf(
            options,
            wire,
            folder=spool_folder,
            process_id=process_id,
            time=time,
            tally=self._tally,
            notices=notices,
        )
        reports = Reports(process_id, tally=self._tally, numbers=self._numbers, time=time)
        transport = self.new_transport()
        self._sender = Sender(wire, options, time=time, transport=transport, reports=reports)
        self._writer = Writer(wire, options, tally=self._tally, notices=notices, roles=roles)
        self._notices = notices
        self._worker = Worker(
            self._inbox,
            shelf,
            self._sender,
            self._writer,
            wire=wire,
            options=options,
            time=time,
            tally=self._tally,
            notices=notices,
            roles=roles,
        )
        self._closed = False
        self._pid = os.getpid()
        # When the time is over in which events are still delivered, if the process is ending.
        self._ending = time.monotonic() + options.exit_s if is_over() else None

    # Events.

    def stamp(self) -> Stamp:
        """Freeze now: time, sequence and the random part of the id."""
        try:
            random = self._random.popleft()
        except IndexError:
            random = self._more_random()
        return Stamp(self._time.wall_ns(), self._numbers.draw(), random)

    def _more_random(self) -> bytes:
        """Fetch many ids' worth at once: each look-up gives other threads the interpreter, and the
        caller may have to wait 5 ms to have it back."""
        data = os.urandom(_RANDOM_BYTES * _RANDOM_POOL)
        first, *more = (data[i : i + _RANDOM_BYTES] for i in range(0, len(data), _RANDOM_BYTES))
        self._random.extend(more)
        return first

    def put(self, capture: Capture, estimate_bytes: int) -> None:
        """Queue one event and return at once.

        Counts it as lost when too much waits, or when the outbox is closed.
        """
        inbox, worker = self._inbox, self._worker
        if self._closed:
            self.lose(LossReason.AFTER_SHUTDOWN)
        elif self._writer.is_in_hook:
            self.lose(LossReason.BEFORE_SEND)  # captured by before_send itself: it would never end
        elif inbox.waiting + worker.shelf.in_memory >= self._most:
            self.lose(LossReason.QUEUE_FULL)
        elif not inbox.has_room(estimate_bytes, worker.shelf):
            self.lose(LossReason.QUEUE_BYTES)
        else:
            inbox.put(capture, estimate_bytes)
            if self._closed:  # since we looked
                worker.dismiss()
            elif worker.thread is None:
                worker.begin()
            else:
                inbox.ring_if_due()

    def keep(self, record: Record, at_ms: int) -> bool:
        """Write one event to the spool and sync it, for the worker to deliver later.

        Returns False when there is no spool, or it is full or cannot be written.
        """
        if not self._worker.keep(record, at_ms):
            return False
        if self._worker.thread is None:
            self._worker.begin()
        else:
            self._inbox.ring()
        return True

    def raise_fault(self) -> None:
        """With `strict`, in sync mode: raise what an event was let go for since the last call."""
        fault = self._writer.take_fault()
        if fault is not None:
            raise fault

    # Accounts.

    def lose(self, reason: LossReason, count: int = 1, *, why: str | None = None) -> None:
        """Count events that are let go; the worker will tell `on_drop`, and log `why`."""
        self._tally.add(reason, count)
        if why is not None:
            self._notices.explain(reason, why)

    def note_delivered(self, count: int) -> None:
        """Count events that went another way than the queue."""
        self._tally.add("delivered", count)

    def note_repaired(self) -> None:
        """Count an event that was given another form."""
        self._tally.add("repaired")

    def note_failure(self) -> None:
        """Count a fault that the caller was spared."""
        self._tally.add("failures")

    def counts(self) -> Counts:
        """What became of this lane's events so far."""
        sums = self._tally.sums()
        lost = {reason: sums[reason] for reason in LossReason if sums[reason]}
        captured = self._captured()
        return Counts(
            captured=captured,
            delivered=sums["delivered"],
            waiting=captured - sums["delivered"] - sum(lost.values()),
            lost=lost,
            repaired=sums["repaired"],
            retried=sums["retried"],
            adopted=sums["adopted"],
            unspooled=sums["unspooled"],
            failures=sums["failures"],
        )

    def _captured(self) -> int:
        """How many numbers were given out."""
        return self._numbers.drawn

    # The way to the server.

    @property
    def is_down(self) -> bool:
        """Whether the server is taken to be down: a call that would wait for it need not."""
        return self._sender.pace.is_open

    def new_transport(self) -> Transport:
        """A connection of one's own to the same server."""
        return Transport(
            self._host,
            headers=self._headers,
            connect_s=self._options.connect_s,
            total_s=self._options.total_s,
            monotonic=self._time.monotonic,
            ca_file=self._options.ca_file,
        )

    # Flushing and the end.

    def flush(self, timeout_s: float | None, *, total_s: float | None = None) -> bool:
        """Send all that was put before; whether everything was settled in time.

        Safe in a signal handler. `total_s` shortens an exchange that this thread has to do itself.
        """
        worker = self._worker
        if self._roles.is_worker:
            return False  # it would wait for itself
        if worker.stopped.is_set():
            return self.counts().waiting == 0
        if self._ending is not None:
            left_s = self._ending - self._time.monotonic()
            if left_s <= 0 or (worker.thread is not None and sys.is_finalizing()):
                return self._write_off()
            timeout_s, total_s = left_s if timeout_s is None else min(left_s, timeout_s), left_s
        if worker.thread is None and not self._inbox and not worker.has_leftovers:
            return True
        worker.hurry()
        mark = self._inbox.mark()
        if worker.thread is None:
            worker.begin()
        if worker.thread is None:
            worker.work_here(mark, timeout_s, total_s)
        else:
            self._wait_for(mark, timeout_s)
        # While a server is down many may come and go: none is kept that nobody waits for.
        mark.given_up = not mark.done.is_set()
        if mark.given_up and self._ending is not None:
            return self._write_off()
        return not mark.given_up

    def _wait_for(self, mark: Mark, timeout_s: float | None) -> None:
        deadline = float("inf") if timeout_s is None else self._time.monotonic() + timeout_s
        left_s = deadline - self._time.monotonic()
        self._inbox.ring()
        # Again and again, since it may ring between a look and a nap.
        while not mark.done.wait(min(_LOOK_EACH_S, max(0.0, left_s))):
            left_s = deadline - self._time.monotonic()
            if left_s <= 0 or self._worker.stopped.is_set():
                return
            self._inbox.ring()

    def _write_off(self) -> bool:
        """The process is about to end: spool what waits, and count what only memory has."""
        self._worker.rescue(_END_WAIT_S)
        self._worker.write_off(_END_WAIT_S)
        return self.counts().waiting == 0

    def save(self, timeout_s: float) -> bool:
        """Deliver for so long, then spool what is left; whether all was delivered."""
        if self.flush(timeout_s, total_s=timeout_s):
            return True
        self._worker.rescue(0.5)
        return False

    def end(self, timeout_s: float) -> None:
        """`save`, since the process is about to end.

        What is put after this is delivered by the thread that puts it, until the time is over.
        """
        self._ending = self._time.monotonic() + timeout_s
        delivered = self.flush(timeout_s, total_s=timeout_s)
        # No thread of ours is to be there when the interpreter freezes all but one: what it holds
        # at that moment nobody can have.
        self._worker.retire(min(_END_WAIT_S, timeout_s))
        if delivered:
            self._worker.give_back(_END_WAIT_S)

    @property
    def is_ending(self) -> bool:
        """Whether whoever puts an event must flush: the process is about to end, or gives no
        thread to a worker that has a whole batch to send."""
        return self._ending is not None or self._worker.is_short_of_hands

    def close(self, timeout_s: float) -> bool:
        """Flush, and let go of thread, connection and spool; later events are counted as lost.

        What could not be delivered stays in the spool for the next process, or is counted.
        """
        delivered = True if self._closed else self.flush(timeout_s)
        self._closed = True
        self._worker.stop(0.5 if delivered else min(timeout_s, 0.5))
        return delivered

    @property
    def is_closed(self) -> bool:
        return self._closed

    def let_go(self) -> None:
        """The client is gone, so nothing more will come: deliver what is here, then end.

        A lane that is on disk ends after one try; what is left is sent by the next process.
        """
        if self._closed or self._ending is not None or self._pid != os.getpid():
            return
        self._closed = True
        if self._worker.thread is None and not self._inbox and self._worker.shelf.is_empty:
            self._worker.stop(0)
            return
        self._worker.leave(_Leftover(self, self._options.exit_s))

    def abandon(self) -> None:
        """In a forked child: close its copies of the descriptors. The parent goes on."""
        self._closed = True
        self._worker.abandon()


class _Leftover:
    """What a client that was dropped left in one lane, as something to be told of the end."""

    def __init__(self, outbox: Outbox, exit_s: float) -> None:
        self._outbox = outbox
        self._exit_s = exit_s

    def _at_exit(self, spent_s: float) -> None:
        self._outbox.end(max(_LOOK_EACH_S, self._exit_s - spent_s))

    def _at_signal(self, spent_s: float) -> None:
        self._outbox.save(max(_LOOK_EACH_S, self._exit_s - spent_s))

    def _after_fork(self) -> None:
        self._outbox.abandon()
        release(self)
