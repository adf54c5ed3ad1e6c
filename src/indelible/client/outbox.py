"""One lane's way out of the process: a queue that costs nothing, and a worker that does the rest.

    capture ─▶ inbox ─▶ shelf ─▶ sender ─▶ server
               deque    batches, in memory and on disk

The caller's thread only appends to the inbox. Everything else happens on the worker, a thread that
begins with the first event: it writes the event as JSON and puts it into a batch and, where the
lane is spooled, into the batch's file *before* anything is sent. A batch leaves when each of its
events has a fate that the server named, or one that we counted.

What the caller's thread touches takes no lock that another thread could hold for long, and none
that a signal handler could find held by the code it interrupted.
"""

import _thread
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from indelible.client.lifecycle import may_begin_thread
from indelible.client.options import Options
from indelible.client.sender import Sender, Sent
from indelible.client.shelf import ADOPT_EACH_S, Batch, Shelf
from indelible.client.tally import Counts, Numbers, Tally
from indelible.client.timing import Time
from indelible.client.transport import Transport
from indelible.client.wire import Capture, LetGo, Observed, Record, Stamp, Wire
from indelible.event import Lane, LossReason

logger = logging.getLogger("indelible")

_SETTLE_S: Final = 0.01
_NO_THREAD: Final = (
    "events of uWSGI's master wait for flush(): use --lazy-apps, or --enable-threads with "
    "--py-call-uwsgi-fork-hooks"
)
_RANDOM_BYTES: Final = 10
_RANDOM_POOL: Final = 256


@dataclass(slots=True, eq=False)
class Mark:
    """A place in the inbox that `flush` waits for: all before it, settled."""

    waits_for: set[Batch] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False


class Outbox:
    """The queue and the worker of one lane in one process.

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
        self._wire = wire
        self._options = options
        self._time = time
        self._host = host
        self._headers = {"User-Agent": f"indelible-python/{version}", **(options.headers or {})}
        self._tally = Tally()
        self._numbers = Numbers()
        self._random: deque[bytes] = deque()
        self._inbox: deque[tuple[Capture, int] | Mark] = deque()
        self._heavy_bytes = 0
        self._heavy = threading.RLock()
        self._light_bytes = options.max_queued_bytes // options.max_queued
        self._shelf = Shelf(
            options,
            lane=wire.lane,
            folder=spool_folder,
            process_id=process_id,
            time=time,
            notes=self,
            event_id_of=wire.event_id_of,
        )
        self._sender = Sender(
            wire,
            options,
            process_id=process_id,
            time=time,
            tally=self._tally,
            captured=self._captured,
            new_transport=self.new_transport,
        )
        self._marks: list[Mark] = []
        # Held by whoever touches the shelf: the worker, or one who keeps or rescues events.
        self._packing = threading.RLock()
        # Held by whoever sends: the worker, or a caller in sync mode.
        self._working = threading.Lock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Whether the next event must wake the worker, and whether a full batch has done so.
        self._asleep = False
        self._nudged = False
        self._worker: int | None = None
        self._starting = threading.Lock()
        self._stopping = False
        self._stopped = threading.Event()
        self._flushing = False
        self._ending: float | None = None
        self._told: dict[str, int] = {}
        self._warned: set[str] = set()
        self._hook_thread: int | None = None
        self._fault: Exception | None = None  # what `strict` raises in the caller
        self._working_here: int | None = None  # a caller's thread, which does the worker's work

    # The caller's side.

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
        if self._stopping:
            self.lose(LossReason.AFTER_SHUTDOWN)
            return
        if self._hook_thread is not None and self._hook_thread == threading.get_ident():
            self.lose(LossReason.BEFORE_SEND)  # captured by before_send itself: it would never end
            return
        queued = len(self._inbox) + self._shelf.in_memory
        most = self._options.max_queued * (2 if self._options.overflow == "oldest" else 1)
        if queued >= most:
            self.lose(LossReason.QUEUE_FULL)
            return
        if not self._fits(estimate_bytes):
            self.lose(LossReason.QUEUE_BYTES)
            return
        self._inbox.append((capture, estimate_bytes))
        if self._worker is None:
            self._start()
        elif self._asleep or (not self._nudged and len(self._inbox) >= self._options.batch_events):
            self._nudged = True
            self._wake_up()

    def _fits(self, estimate_bytes: int) -> bool:
        """Whether an event of about this size may be queued.

        Light events need no account: as many as may be queued stay below the limit. LIMIT: what
        is queued and not yet written as JSON is estimated, so the limit holds to about a half.
        """
        most = self._options.max_queued_bytes
        if estimate_bytes <= self._light_bytes:
            return self._shelf.memory_bytes < most
        with self._heavy:
            if self._heavy_bytes + self._shelf.memory_bytes + estimate_bytes > most:
                return False
            self._heavy_bytes += estimate_bytes
            return True

    def lose(self, reason: LossReason, count: int = 1) -> None:
        """Count events that are let go; the worker will tell `on_drop`."""
        self._tally.add(reason, count)

    def _wake_up(self) -> None:
        self._asleep = False
        self._wake.put(None)

    def _start(self) -> None:
        """Begin the worker, unless somebody does so now.

        `threading.Thread` would wait for the thread to run, and takes a lock that a signal handler
        may find held; the plain function does neither.
        """
        if self._options.mode == "sync" or not self._starting.acquire(blocking=False):
            return
        try:
            if not may_begin_thread():
                if _NO_THREAD not in self._warned:
                    self._warned.add(_NO_THREAD)
                    logger.warning("%s: %s", self._wire.lane, _NO_THREAD)
            elif self._worker is None and not self._stopping:
                # Made now, since gevent may have changed what a queue is after the outbox was made.
                self._wake = queue.SimpleQueue()
                self._worker = _thread.start_new_thread(self._run, ())
        except RuntimeError:
            # Too late in the life of the interpreter for a thread: whoever flushes does the work.
            return
        finally:
            self._starting.release()

    @property
    def is_down(self) -> bool:
        """Whether the server is taken to be down: a call that would wait for it need not."""
        return self._sender.pace.is_open

    def raise_fault(self) -> None:
        """With `strict`, in sync mode: raise what an event was let go for since the last call."""
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    @property
    def is_closed(self) -> bool:
        return self._stopping

    def note_delivered(self, count: int) -> None:
        """Count events that went another way than the queue."""
        self._tally.add("delivered", count)

    def note_repaired(self) -> None:
        """Count an event that was given another form."""
        self._tally.add("repaired")

    def note_failure(self) -> None:
        """Count a fault that the caller was spared."""
        self._tally.add("failures")

    def new_transport(self) -> Transport:
        """A connection of one's own to the same server."""
        return Transport(
            self._host,
            headers=self._headers,
            connect_s=self._options.connect_s,
            total_s=self._options.total_s,
            monotonic=self._time.monotonic,
        )

    def flush(self, timeout_s: float | None, *, total_s: float | None = None) -> bool:
        """Send all that was put before; whether everything was settled in time.

        Safe in a signal handler. `total_s` shortens an exchange that this thread has to do itself.
        """
        if threading.get_ident() in (self._worker, self._hook_thread, self._working_here):
            return False  # it would wait for itself
        if self._stopped.is_set():
            return self.counts().waiting == 0
        if self._ending is not None:
            left_s = max(0.05, self._ending - self._time.monotonic())
            timeout_s, total_s = min(left_s, timeout_s or left_s), left_s
        if self._worker is None and not self._inbox and not self._has_leftovers:
            return True
        mark = Mark()
        self._flushing = True
        self._inbox.append(mark)
        if self._worker is None:
            self._start()
        if self._worker is None:
            self._do_it_here(mark, timeout_s, total_s)
        else:
            self._wake_up()
            # Again and again, since a wake-up may fall between a look and a nap.
            deadline = None if timeout_s is None else self._time.monotonic() + timeout_s
            while not mark.done.wait(0.05 if deadline is None else _left(deadline, self._time)):
                if deadline is not None and self._time.monotonic() >= deadline:
                    break
                if self._stopped.is_set():
                    break
                self._wake_up()
        # While a server is down many may come and go: none is kept that nobody waits for.
        mark.given_up = not mark.done.is_set()
        return not mark.given_up

    @property
    def _has_leftovers(self) -> bool:
        """Whether there is something to send though nothing was put here."""
        return not self._shelf.is_empty or self._shelf.may_have_leftovers()

    def _do_it_here(self, mark: Mark, timeout_s: float | None, total_s: float | None) -> None:
        """Without a worker: sync mode, and the end of the interpreter."""
        deadline = None if timeout_s is None else self._time.monotonic() + timeout_s
        if not self._working.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return
        self._working_here = threading.get_ident()
        try:
            while not mark.done.is_set():
                self._work(total_s=total_s)
                if mark.done.is_set() or self._options.mode == "sync":
                    return  # in sync mode one try is all that a caller waits for
                pause_s = self._sender.pace.not_before - self._time.monotonic()
                left_s = pause_s if deadline is None else deadline - self._time.monotonic()
                if left_s < pause_s or (deadline is not None and left_s <= 0):
                    return
                threading.Event().wait(max(pause_s, _SETTLE_S))
        finally:
            self._working_here = None
            self._working.release()

    def close(self, timeout_s: float) -> bool:
        """Flush, and let go of thread, connection and spool; later events are counted as lost.

        What could not be delivered stays in the spool for the next process, or is counted.
        """
        delivered = self.flush(timeout_s) if not self._stopping else True
        self._stopping = True
        if self._worker is not None and self._worker != threading.get_ident():
            self._wake_up()
            self._stopped.wait(0.5 if delivered else min(timeout_s, 0.5))
        elif self._worker is None:
            self._finish()
        return delivered

    def _rescue(self, timeout_s: float) -> None:
        """Write what is queued to the spool from this thread: the process is about to end."""
        if not self._shelf.is_spooled or not self._packing.acquire(timeout=timeout_s):
            return
        try:
            self._pack()
        finally:
            self._packing.release()

    def abandon(self) -> None:
        """In a forked child: close its copies of the descriptors. The parent goes on."""
        self._stopping = True
        self._stopped.set()  # no worker came along: nobody may wait for it
        self._sender.close()
        self._shelf.abandon()

    def keep(self, record: Record, at_ms: int) -> bool:
        """Write one event to the spool and sync it, for the worker to deliver later.

        Returns False when there is no spool, or it is full or cannot be written.
        """
        with self._packing:
            if not self._shelf.keep(record, at_ms):
                return False
        if self._worker is None:
            self._start()
        else:
            self._wake_up()
        return True

    def save(self, timeout_s: float) -> bool:
        """Deliver for so long, then spool what is left; whether all was delivered."""
        if self.flush(timeout_s, total_s=timeout_s):
            return True
        self._rescue(0.5)
        return False

    def end(self, timeout_s: float) -> None:
        """`save`, since the process is about to end.

        What is put after this is delivered by the thread that puts it, until the time is over.
        """
        self._ending = self._time.monotonic() + timeout_s
        if self.save(timeout_s):
            self._give_back()

    @property
    def is_ending(self) -> bool:
        """Whether the process is about to end, so that nobody may count on the worker."""
        return self._ending is not None

    def _give_back(self) -> None:
        """Remove the spool's folder where nothing is in it."""
        if not self._packing.acquire(timeout=0.1):
            return
        try:
            if self._shelf.is_empty:
                self._shelf.give_back()
        finally:
            self._packing.release()

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

    # The worker's side.

    def _run(self) -> None:
        self._sender.prepare()
        # Adopts what a dead process left as soon as there is a worker at all.
        while True:
            try:
                with self._working:
                    self._work()
            except Exception as error:  # the worker's one door: it must outlive every fault
                self._failed(f"{type(error).__name__} in the worker")
                self._sender.pace.failed(self._time.monotonic())  # or it would try without a pause
            if self._stopping:
                break
            self._nap()
        self._finish()

    def _nap(self) -> None:
        """Sleep until something is due or somebody calls.

        While a batch is filled in memory nobody need call: it is due by itself. What is spooled is
        wanted on disk at once, with a moment's company.
        """
        wait_s = self._idle_s()
        self._asleep = self._shelf.is_spooled or self._shelf.open is None
        if not self._inbox and wait_s > 0:
            try:
                self._wake.get(timeout=wait_s)
            except queue.Empty:
                pass
            else:
                if self._shelf.is_spooled and not self._flushing and not self._stopping:
                    threading.Event().wait(_SETTLE_S)
        self._asleep = False
        while not self._wake.empty():
            self._wake.get()

    def _idle_s(self) -> float:
        """How long there is nothing to do."""
        now = self._time.monotonic()
        due = [ADOPT_EACH_S, self._shelf.due_at - now]
        if self._shelf.ready:
            due.append(self._sender.pace.not_before - now)
        return min(due)

    def _work(self, *, total_s: float | None = None) -> None:
        """Pack what is queued, and send what is due."""
        with self._packing:
            self._shelf.adopt()
            self._pack()
            for batch in self._shelf.expired():
                self._give_up(batch, LossReason.EXPIRED)
        while self._shelf.ready and (self._flushing or self._sender.is_due):
            self._flushing = False
            self._send(self._shelf.ready[0], total_s)
            self._reach_marks(total_s)
            with self._packing:
                self._pack()
            if self._stopping and not self._marks:
                break
        self._reach_marks(total_s)
        self._tell_drops()

    def _send(self, batch: Batch, total_s: float | None) -> None:
        """Try to deliver a batch, and settle it if every event of it has its fate now."""
        with self._packing:
            records = self._shelf.load(batch)
        sent = Sent()
        if records:
            batch.attempts += 1
            if batch.attempts > 1:
                self._tally.add("retried")
            sent = self._sender.send(
                records, attempt=batch.attempts, request_id=batch.request_id, total_s=total_s
            )
        if sent.delivered:
            self._tally.add("adopted" if batch.adopted else "delivered", sent.delivered)
        with self._packing:
            for loss, said, refused in sent.refused:
                self._refused(batch, loss, said, refused)
            if sent.again:
                self._shelf.reduce(batch, sent.again)
            else:
                self._settled(batch)
        if sent.trouble is not None:
            self._tell(f"{self._wire.lane}: {sent.trouble}; trying again")
        elif not sent.refused:
            self._warned.clear()

    def _refused(self, batch: Batch, loss: LossReason, said: str, records: list[Record]) -> None:
        """The server will never take these: count them, and put spooled ones aside."""
        path = self._shelf.put_aside(batch, records)
        if not batch.adopted:
            self.lose(loss, len(records))
        where = f"; kept in {path}" if path is not None else ""
        self._tell(f"{self._wire.lane}: {len(records)} refused: {said}{where}")

    def _give_up(self, batch: Batch, reason: LossReason) -> None:
        """We will not try this batch any more."""
        if not batch.adopted:
            self.lose(reason, batch.count)
        self._settled(batch)

    def _settled(self, batch: Batch) -> None:
        """Every event of the batch has its fate."""
        self._shelf.settle(batch)
        for mark in self._marks:
            mark.waits_for.discard(batch)

    def _reach_marks(self, total_s: float | None) -> None:
        """Let those go on who waited for what is settled now.

        What was lost is reported before: perhaps the process ends as soon as they go on.
        """
        if any(not mark.waits_for for mark in self._marks):
            self._sender.report_losses(total_s)
        with self._packing:
            for mark in self._marks:
                if not mark.waits_for:
                    mark.done.set()
            self._marks = [mark for mark in self._marks if mark.waits_for and not mark.given_up]

    def _pack(self) -> None:
        """Write queued events as JSON, into batches and their files; close what is due."""
        self._nudged = False
        while self._inbox:
            records: list[Record] = []
            at_ns = 0
            mark: Mark | None = None
            while self._inbox and mark is None and len(records) < self._options.batch_events:
                item = self._inbox.popleft()
                if isinstance(item, Mark):
                    mark = item
                    continue
                capture, estimate_bytes = item
                if estimate_bytes > self._light_bytes:
                    with self._heavy:
                        self._heavy_bytes -= estimate_bytes
                record = self._encoded(capture)
                if record is not None:
                    at_ns = at_ns or capture.stamp.at_ns
                    records.append(record)
            self._shelf.add(records, at_ns // 1_000_000)
            if mark is not None:
                self._set(mark)
        self._shelf.close_due()
        for batch in self._shelf.surplus():
            self._give_up(batch, LossReason.QUEUE_FULL)

    def _set(self, mark: Mark) -> None:
        """All that was put before `mark` is in batches now: it waits for those."""
        self._shelf.close_open()
        mark.waits_for = set(self._shelf.ready)
        self._marks.append(mark)
        self._flushing = True

    def _encoded(self, capture: Capture) -> Record | None:
        self._hook_thread = threading.get_ident()
        try:
            if isinstance(capture, Observed):
                capture = capture.expand(capture.stamp)
            record, repaired = self._wire.encode(capture)
        except LetGo:
            self.lose(LossReason.BEFORE_SEND)
        except Exception as error:  # before_send, or a property that broke every rule
            reason = LossReason.ENCODE_FAILED
            if self._wire.lane == Lane.PRODUCT and self._options.before_send is not None:
                reason = LossReason.BEFORE_SEND
            self.lose(reason)
            if self._options.strict and self._options.mode == "sync":
                self._fault = error
            self._tell(f"an event was let go: {type(error).__name__} while it was written")
        else:
            if repaired:
                self._tally.add("repaired")
            return record
        finally:
            self._hook_thread = None
        return None

    # What the shelf tells.

    def unspooled(self, count: int, what: str) -> None:
        """Events wait in memory only."""
        self._tally.add("unspooled", count)
        self._tell(f"{self._wire.lane}: {what}: events wait in memory only")

    def spool_failed(self, error: BaseException) -> None:
        """The disk refused."""
        self._failed(f"the spool: {getattr(error, 'strerror', None) or type(error).__name__}")

    def unreadable(self, count: int) -> None:
        """Events were on disk only and cannot be read."""
        self.lose(LossReason.SPOOL_FAILED, count)

    # Ends.

    def _finish(self) -> None:
        """The last of the worker: count or leave on disk what was not delivered."""
        with self._packing:
            self._pack()
            unkept = self._shelf.unkept()
            if unkept:
                self.lose(LossReason.EXIT, unkept)
            self._shelf.give_back()
        self._tell_drops()
        self._sender.close()
        self._stopped.set()

    def _failed(self, what: str) -> None:
        self._tally.add("failures")
        self._tell(what)

    def _tell(self, what: str) -> None:
        """Tell `on_error`; the log says each thing once, until a batch is delivered again."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("%s", what)
        if self._options.on_error is not None:
            self._spared(self._options.on_error, what)

    def _tell_drops(self) -> None:
        """Tell `on_drop` what was let go since it was told last."""
        sums = self._tally.sums()
        for reason in LossReason:
            new = sums[reason] - self._told.get(reason, 0)
            if new > 0:
                self._told[reason] = sums[reason]
                if f"lost {reason}" not in self._warned:
                    self._warned.add(f"lost {reason}")
                    logger.warning("%s: %d let go: %s", self._wire.lane, new, reason.meaning)
                if self._options.on_drop is not None:
                    self._spared(self._options.on_drop, reason.value, new)

    def _spared(self, hook: Callable[..., None], *arguments: object) -> None:
        """Call a hook of the application; what it raises is counted."""
        try:
            hook(*arguments)
        except Exception:
            self._tally.add("failures")


def _left(deadline: float, time: Time) -> float:
    return min(0.05, max(0.0, deadline - time.monotonic()))
