"""One lane's way out of the process: a queue that costs nothing, and a worker that does the rest.

    capture ─▶ inbox ─▶ open batch ─▶ ready batches ─▶ server
               deque    (and its file, where the lane is spooled)

The caller's thread only appends to the inbox. Everything else happens on the worker, a thread that
begins with the first event: it writes the event as JSON, puts it into the open batch and, where
the lane is spooled, into the batch's file *before* anything is sent. A batch leaves the outbox
when each of its events has a fate that the server named, or one that we counted.

What the caller's thread touches takes no lock that another thread could hold for long, and none
that a signal handler could find held by the code it interrupted.
"""

import _thread
import logging
import operator
import os
import queue
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from indelible.client.options import Options
from indelible.client.retry import Again, Halve, Pace, Refused, Taken, meaning_of
from indelible.client.spool import Spool, SpoolFile
from indelible.client.tally import Counts, Loss, Tally
from indelible.client.transport import Transport, TransportFailed
from indelible.client.wire import Capture, Fate, LetGo, Record, Report, Stamp, Wire
from indelible.event import Lane

logger = logging.getLogger("indelible")

_SPOOL_AGE_S: Final = 24 * 3_600.0
_MEMORY_AGE_S: Final = 3_600.0
_SETTLE_S: Final = 0.01
_ADOPT_EACH_S: Final = 30.0
_NUMBERS: Final = 2**62


@dataclass(frozen=True, slots=True)
class Time:
    """Where an outbox reads time."""

    wall_ns: Callable[[], int]
    monotonic: Callable[[], float]

    def wall_ms(self) -> int:
        return self.wall_ns() // 1_000_000


@dataclass(slots=True, eq=False)
class Batch:
    """Events that are sent together, and the file that keeps them.

    Attributes:
        records: what is to be sent; None while it is on disk only.
        count, size_bytes: of the records, in memory or not.
        born: monotonic time of the first.
        at_ms: wall time of the first, ms since the epoch.
        file: open while the batch is filled.
        path: of the file, until the batch is settled.
        adopted: begun by another process, so not among our captures.
    """

    born: float
    at_ms: int
    records: list[Record] | None = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0
    file: SpoolFile | None = None
    path: Path | None = None
    adopted: bool = False
    attempts: int = 0
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def add(self, records: Sequence[Record]) -> None:
        assert self.records is not None
        self.records += records
        self.count += len(records)
        self.size_bytes += sum(len(record.data) for record in records)


@dataclass(slots=True, eq=False)
class Mark:
    """A place in the inbox that `flush` waits for: all before it, settled."""

    waits_for: set[Batch] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)


class Outbox:
    """The queue, worker and spool of one lane in one process.

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
        tally: Tally,
        spool_folder: Path | None,
    ) -> None:
        self._wire = wire
        self._options = options
        self._time = time
        self._tally = tally
        self._process_id = process_id
        self._host = host
        self._version = version
        self._headers = dict(options.headers or {})
        self._transport = self.new_transport()
        self._pace = Pace(
            options.retry_base_s,
            options.retry_cap_s,
            options.breaker_failures,
            options.breaker_probe_s,
        )
        self._numbers = iter(range(_NUMBERS))
        self._inbox: deque[tuple[Capture, int] | Mark] = deque()
        self._open: Batch | None = None
        self._ready: deque[Batch] = deque()
        self._waiting_records = 0
        self._memory_bytes = 0
        self._heavy_bytes = 0
        self._heavy = threading.RLock()
        self._light_bytes = options.max_queued_bytes // options.max_queued
        self._marks: list[Mark] = []
        self._report: Report | None = None
        self._reported: dict[str, int] = {}
        # With whoever packs: the worker, or the one who ends the process.
        self._packing = threading.RLock()
        # With whoever sends: the worker, or a caller in sync mode.
        self._working = threading.Lock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Whether the next event must wake the worker, and whether a full batch has done so.
        self._asleep = False
        self._nudged = False
        self._worker: int | None = None
        self._starting = threading.Lock()
        self._stopping = False
        self._stopped = threading.Event()
        self._spool_folder = spool_folder
        self._spool: Spool | None = None
        self._next_adoption = 0.0
        self._flushing = False
        self._ending: float | None = None
        self._told: dict[str, int] = {}
        self._warned: set[str] = set()
        self._hook_thread: int | None = None

    # The caller's side.

    def stamp(self) -> Stamp:
        """Freeze now: time, sequence and the random part of the id."""
        return Stamp(self._time.wall_ns(), next(self._numbers), os.urandom(10))

    def put(self, capture: Capture, estimate_bytes: int) -> None:
        """Queue one event and return at once.

        Counts it as lost when too much waits, or when the outbox is closed.
        """
        if self._stopping:
            self.lose(Loss.AFTER_SHUTDOWN)
            return
        if self._hook_thread is not None and self._hook_thread == threading.get_ident():
            self.lose(Loss.BEFORE_SEND)  # captured by before_send itself: it would never end
            return
        queued = len(self._inbox) + self._waiting_records
        most = self._options.max_queued * (2 if self._options.overflow == "oldest" else 1)
        if queued >= most:
            self.lose(Loss.QUEUE_FULL)
            return
        if not self._fits(estimate_bytes):
            self.lose(Loss.QUEUE_BYTES)
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
            return self._memory_bytes < most
        with self._heavy:
            if self._heavy_bytes + self._memory_bytes + estimate_bytes > most:
                return False
            self._heavy_bytes += estimate_bytes
            return True

    def lose(self, reason: Loss, count: int = 1) -> None:
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
            if self._worker is None and not self._stopping:
                self._worker = _thread.start_new_thread(self._run, ())
        except RuntimeError:
            # Too late in the life of the interpreter for a thread: whoever flushes does the work.
            self._tally.add("no_thread")
        finally:
            self._starting.release()

    @property
    def is_down(self) -> bool:
        """Whether the server is taken to be down: a call that would wait for it need not."""
        return self._pace.is_open

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
            headers={"User-Agent": f"indelible-python/{self._version}", **self._headers},
            connect_s=self._options.connect_s,
            total_s=self._options.total_s,
            monotonic=self._time.monotonic,
        )

    def flush(self, timeout_s: float | None, *, total_s: float | None = None) -> bool:
        """Send all that was put before; whether everything was settled in time.

        Safe in a signal handler. `total_s` shortens an exchange that this thread has to do itself.
        """
        if threading.get_ident() in (self._worker, self._hook_thread):
            return False  # it would wait for itself
        if self._ending is not None:
            left_s = max(0.05, self._ending - self._time.monotonic())
            timeout_s, total_s = min(left_s, timeout_s or left_s), left_s
        if self._worker is None and not self._inbox and not self._has_leftovers():
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
        return mark.done.is_set()

    def _has_leftovers(self) -> bool:
        """Whether there may be something on disk to send, though nothing was put here yet."""
        return bool(self._ready) or (
            self._spool_folder is not None and self._spool is None and self._spool_folder.exists()
        )

    def _do_it_here(self, mark: Mark, timeout_s: float | None, total_s: float | None) -> None:
        """Without a worker: sync mode, and the end of the interpreter."""
        deadline = None if timeout_s is None else self._time.monotonic() + timeout_s
        if not self._working.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return
        try:
            while not mark.done.is_set():
                self._work(total_s=total_s)
                if mark.done.is_set() or self._options.mode == "sync":
                    return  # in sync mode one try is all that a caller waits for
                pause_s = self._pace.not_before - self._time.monotonic()
                left_s = pause_s if deadline is None else deadline - self._time.monotonic()
                if left_s < pause_s or (deadline is not None and left_s <= 0):
                    return
                threading.Event().wait(max(pause_s, _SETTLE_S))
        finally:
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
        if self._spool_folder is None or not self._packing.acquire(timeout=timeout_s):
            return
        try:
            self._pack()
        finally:
            self._packing.release()

    def abandon(self) -> None:
        """In a forked child: close its copies of the descriptors. The parent goes on."""
        self._stopping = True
        self._transport.close()
        for batch in (*self._ready, self._open):
            if batch is not None and batch.file is not None:
                batch.file.seal()
        if self._spool is not None:
            self._spool.abandon()

    def keep(self, record: Record, at_ms: int) -> bool:
        """Write one event to the spool and sync it, for the worker to deliver later.

        Returns False when there is no spool, or it is full or cannot be written.
        """
        with self._packing:
            batch = Batch(self._time.monotonic(), at_ms)
            if not self._write_down(batch, [record]):
                return False
            assert batch.file is not None
            batch.file.seal()
            batch.file = None
            batch.add([record])
            self._waiting_records += 1
            self._memory_bytes += batch.size_bytes
            self._ready.append(batch)
        if self._worker is None:
            self._start()
        else:
            self._wake_up()
        return True

    def end(self, timeout_s: float) -> None:
        """The process is about to end: deliver for so long, then spool what is left.

        What is put after this is delivered by the thread that puts it, until the time is over.
        """
        self._ending = self._time.monotonic() + timeout_s
        if not self.flush(timeout_s, total_s=timeout_s):
            self._rescue(0.5)
        else:
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
            if self._spool is not None and not self._ready and self._open is None:
                self._spool.close()
                self._spool = None
        except OSError as error:
            self._spool_failed(error)
        finally:
            self._packing.release()

    def counts(self) -> Counts:
        """What became of this lane's events so far."""
        sums = self._tally.sums()
        lost = {reason: sums[reason] for reason in Loss if sums[reason]}
        captured = _NUMBERS - operator.length_hint(self._numbers)
        return Counts(
            captured=captured,
            delivered=sums["delivered"],
            waiting=captured - sums["delivered"] - sum(lost.values()),
            lost=lost,
            repaired=sums["repaired"],
            retried=sums["retried"],
            adopted=sums["adopted"],
            failures=sums["failures"],
        )

    # The worker's side.

    def _run(self) -> None:
        # Adopts what a dead process left as soon as there is a worker at all.
        while True:
            try:
                with self._working:
                    self._work()
            except Exception as error:  # the worker's one door: it must outlive every fault
                self._failed(f"{type(error).__name__} in the worker")
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
        spooled = self._spool_folder is not None
        self._asleep = spooled or self._open is None
        if self._inbox:
            wait_s = 0.0
        if wait_s > 0:
            try:
                self._wake.get(timeout=wait_s)
            except queue.Empty:
                pass
            else:
                if spooled and not self._flushing and not self._stopping:
                    threading.Event().wait(_SETTLE_S)
        self._asleep = False
        while not self._wake.empty():
            self._wake.get()

    def _idle_s(self) -> float:
        """How long there is nothing to do."""
        now = self._time.monotonic()
        due = [_ADOPT_EACH_S]
        if self._open is not None:
            due.append(self._open.born + self._options.batch_s - now)
        if self._ready:
            due.append(self._pace.not_before - now)
        return min(due)

    def _work(self, *, total_s: float | None = None) -> None:
        """Pack what is queued, and send what is due."""
        with self._packing:
            self._adopt()
            self._pack()
            self._expire()
        while self._ready and (self._flushing or self._is_due()):
            self._flushing = False
            batch = self._ready[0]
            settled = self._send(batch, total_s)
            with self._packing:
                if settled:
                    self._ready.remove(batch)
                    self._settled(batch)
                self._pack()
            if self._stopping and not self._marks:
                break
        if self._marks and not self._ready:
            self._report_losses(total_s)
        self._reach_marks()
        self._tell_drops()

    def _is_due(self) -> bool:
        return self._time.monotonic() >= self._pace.not_before

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
            self._add(records, at_ns)
            if mark is not None:
                self._set(mark)
        if self._open is not None and self._time.monotonic() >= self._open.born + (
            self._options.batch_s
        ):
            self._close_open()
        self._trim()

    def _set(self, mark: Mark) -> None:
        self._close_open()
        mark.waits_for = set(self._ready)
        self._marks.append(mark)
        self._flushing = True

    def _encoded(self, capture: Capture) -> Record | None:
        self._hook_thread = threading.get_ident()
        try:
            record, repaired = self._wire.encode(capture)
        except LetGo:
            self.lose(Loss.BEFORE_SEND)
        except Exception as error:  # before_send, or a property that broke every rule
            reason = Loss.ENCODE_FAILED
            if self._wire.lane == Lane.PRODUCT and self._options.before_send is not None:
                reason = Loss.BEFORE_SEND
            self.lose(reason)
            self._tell(f"an event was let go: {type(error).__name__} while it was written")
        else:
            if repaired:
                self._tally.add("repaired")
            return record
        finally:
            self._hook_thread = None
        return None

    def _add(self, records: list[Record], at_ns: int) -> None:
        """Put records into the open batch and its file, closing it wherever it is full."""
        while records:
            batch = self._open or Batch(self._time.monotonic(), at_ns // 1_000_000)
            fitting = self._fitting(batch, records)
            if not fitting:
                self._close_open()
                continue
            self._open = batch
            chunk, records = records[:fitting], records[fitting:]
            batch.add(chunk)
            self._waiting_records += len(chunk)
            self._memory_bytes += _size(chunk)
            self._write_down(batch, chunk)
            if records or batch.count >= self._options.batch_events:
                self._close_open()

    def _fitting(self, batch: Batch, records: list[Record]) -> int:
        """How many of `records` the batch still takes; an empty one takes any first one."""
        size = batch.size_bytes
        for place, record in enumerate(records):
            size += len(record.data)
            is_first = batch.count + place == 0
            if batch.count + place >= self._options.batch_events or (
                size > self._options.batch_bytes and not is_first
            ):
                return place
        return len(records)

    def _close_open(self) -> None:
        """Nothing more joins the open batch: it waits to be sent."""
        batch, self._open = self._open, None
        if batch is None:
            return
        if batch.file is not None:
            batch.file.seal()
            batch.file = None
            if self._memory_bytes > self._options.max_queued_bytes // 2:
                self._forget(batch)  # it is read from disk when its turn comes
        self._ready.append(batch)

    def _trim(self) -> None:
        """With `overflow="oldest"`: let the oldest batches go until the rest is within bounds."""
        while (
            self._options.overflow == "oldest"
            and len(self._ready) > 1
            and self._waiting_records > self._options.max_queued
        ):
            oldest = self._ready[1]  # the first may be under way
            self._ready.remove(oldest)
            self._give_up(oldest, Loss.QUEUE_FULL)

    def _expire(self) -> None:
        """Let go of what could not be delivered for too long."""
        limit_s = self._options.max_age_s
        if limit_s is None:
            if self._spool_folder is not None and self._wire.lane == "audit":
                return  # an audit event on disk is kept for as long as it takes
            limit_s = _SPOOL_AGE_S if self._spool_folder is not None else _MEMORY_AGE_S
        now_ms = self._time.wall_ms()
        while self._ready and now_ms - self._ready[0].at_ms > limit_s * 1_000:
            self._give_up(self._ready.popleft(), Loss.EXPIRED)

    def _give_up(self, batch: Batch, reason: Loss) -> None:
        if not batch.adopted:
            self.lose(reason, batch.count)
        self._settled(batch)

    def _settled(self, batch: Batch) -> None:
        """Every event of the batch has its fate; called with `_packing` held."""
        self._forget(batch)
        if not batch.adopted:
            self._waiting_records -= batch.count
        if batch.path is not None and self._spool is not None:
            try:
                self._spool.remove(batch.path)
            except OSError as error:
                self._spool_failed(error)
        for mark in self._marks:
            mark.waits_for.discard(batch)
        self._reach_marks()

    def _forget(self, batch: Batch) -> None:
        """Free the memory of a batch that is on disk or settled."""
        if batch.records is not None:
            self._memory_bytes -= _size(batch.records)
            batch.records = None

    def _reach_marks(self) -> None:
        for mark in [mark for mark in self._marks if not mark.waits_for]:
            self._marks.remove(mark)
            mark.done.set()

    # Sending.

    def _send(self, batch: Batch, total_s: float | None) -> bool:
        """Try to deliver a batch; whether every event of it has its fate now."""
        with self._packing:
            records = self._loaded(batch)
        if not records:
            return True
        batch.attempts += 1
        if batch.attempts > 1:
            self._tally.add("retried")
        left = self._deliver(batch, records, total_s)
        if left:
            with self._packing:
                self._memory_bytes += _size(left) - _size(records)
                if not batch.adopted:
                    self._waiting_records -= batch.count - len(left)
                batch.records, batch.count = left, len(left)
        return not left

    def _loaded(self, batch: Batch) -> list[Record]:
        """The records of a batch, read from its file where they are not in memory."""
        if batch.records is not None:
            return batch.records
        if batch.path is None or self._spool is None:
            return []
        try:
            found = self._spool.read(batch.path)
        except OSError as error:
            self._spool_failed(error)
            found = []
        records = [Record(self._wire.event_id_of(data), data) for data in found]
        if not batch.adopted and len(records) < batch.count:
            self.lose(Loss.SPOOL_FAILED, batch.count - len(records))
            self._waiting_records -= batch.count - len(records)
            batch.count = len(records)
        batch.records = records
        self._memory_bytes += _size(records)
        return records

    def _deliver(self, batch: Batch, records: list[Record], total_s: float | None) -> list[Record]:
        """Send records; what is left is to be sent again, later."""
        report = self._next_report()
        body = self._wire.frame(records, report, sent_at_ms=self._time.wall_ms())
        headers = {
            **self._wire.headers(),
            "X-Indelible-Attempt": str(batch.attempts),
            "X-Request-ID": batch.request_id,
        }
        try:
            answer = self._transport.request(
                "POST", self._wire.path, body, headers=headers, total_s=total_s
            )
        except TransportFailed as error:
            self._pace.failed(self._time.monotonic())
            self._tell(f"{self._wire.lane}: {error}; trying again")
            return records
        now = datetime.fromtimestamp(self._time.wall_ns() / 1e9, UTC)
        meaning = meaning_of(answer.status, answer.headers, answer.reason, now=now)
        fates = self._wire.fates(answer, records) if _has_results(answer.body) else None
        if isinstance(meaning, Refused) and fates is not None:
            meaning = Taken()  # the server looked at each event, and says so for each
        match meaning:
            case Taken():
                fates = fates if fates is not None else self._wire.fates(answer, records)
                if fates is None:
                    self._pace.failed(self._time.monotonic())
                    self._tell(f"{self._wire.lane}: an answer that cannot be read; trying again")
                    return records
                self._taken(report)
                return self._apply(batch, records, fates)
            case Halve() if len(records) > 1:
                middle = len(records) // 2
                left = self._deliver(batch, records[:middle], total_s)
                return left + self._deliver(batch, records[middle:], total_s)
            case Halve():
                self._refuse(batch, records, Loss.TOO_LARGE, "413")
                return []
            case Again(reason, after_s):
                self._pace.failed(self._time.monotonic(), after_s)
                self._tell(f"{self._wire.lane}: {reason}; trying again")
                return records
            case Refused(reason):
                self._pace.succeeded()
                self._refuse(batch, records, Loss.REFUSED, reason)
                return []

    def _apply(
        self, batch: Batch, records: Sequence[Record], fates: Sequence[Fate]
    ) -> list[Record]:
        """Count what became of each event; those that the server wants again are left."""
        again: list[Record] = []
        refused: dict[str, list[Record]] = {}
        delivered = 0
        for record, fate in zip(records, fates, strict=True):
            if fate.result == "retry":
                again.append(record)
            elif fate.result == "refused":
                refused.setdefault(fate.reason, []).append(record)
            else:
                delivered += 1
        if delivered:
            self._tally.add("adopted" if batch.adopted else "delivered", delivered)
        for reason, ones in refused.items():
            self._refuse(batch, ones, Loss.REFUSED, reason)
        if again:
            self._pace.failed(self._time.monotonic())
        else:
            self._pace.succeeded()
            self._warned.clear()
        return again

    def _refuse(self, batch: Batch, records: Sequence[Record], reason: Loss, said: str) -> None:
        """The server will never take these: count them, and put spooled ones aside."""
        where = ""
        if self._spool is not None and batch.path is not None:
            try:
                path = self._spool.refuse([record.data for record in records], batch.at_ms)
                where = f"; kept in {path}"
            except OSError as error:
                self._spool_failed(error)
        if not batch.adopted:
            self.lose(reason, len(records))
        self._tell(f"{self._wire.lane}: {len(records)} refused: {said}{where}")

    # Reports of what was lost.

    def _next_report(self) -> Report | None:
        if self._report is None:
            sums = self._tally.sums()
            counts = {
                reason.value: sums[reason] - self._reported.get(reason, 0)
                for reason in Loss
                if sums[reason] > self._reported.get(reason, 0)
            }
            if counts:
                self._report = Report(self.stamp_id(), self._process_id, counts)
        return self._report

    def stamp_id(self) -> str:
        """A UUIDv7 of now that takes no sequence number."""
        return Stamp(self._time.wall_ns(), 0, os.urandom(10)).uuid

    def _taken(self, report: Report | None) -> None:
        if report is not None and self._report is report:
            for reason, count in report.counts.items():
                self._reported[reason] = self._reported.get(reason, 0) + count
            self._report = None

    def _report_losses(self, total_s: float | None) -> None:
        """With nothing else to send, say what was lost: nobody else would."""
        report = self._next_report()
        if report is None or self._time.monotonic() < self._pace.not_before:
            return
        body = self._wire.frame([], report, sent_at_ms=self._time.wall_ms())
        try:
            self._transport.request(
                "POST", self._wire.path, body, headers=self._wire.headers(), total_s=total_s
            )
        except TransportFailed:
            return
        self._taken(report)  # a server that knows no reports refuses it each time: once is enough

    # The spool.

    def _opened_spool(self) -> Spool | None:
        if self._spool is None and self._spool_folder is not None:
            try:
                self._spool = Spool(
                    self._spool_folder, self._process_id, max_bytes=self._options.spool_bytes
                )
            except (OSError, RuntimeError) as error:
                self._spool_failed(error)
                self._spool_folder = None
        return self._spool

    def _write_down(self, batch: Batch, records: list[Record]) -> bool:
        """Put records into the batch's file; where that fails they wait in memory only."""
        spool = self._opened_spool()
        if spool is None:
            return False
        size = _size(records) + 8 * len(records)
        if not spool.has_room(size):
            self._tally.add("unspooled", len(records))
            self._tell("the spool is full: events wait in memory only")
            return False
        try:
            if batch.file is None:
                batch.file = spool.create(batch.at_ms)
                batch.path = batch.file.path
            data = [record.data for record in records]
            batch.file.append(data, sync=self._wire.lane == Lane.AUDIT)
        except OSError as error:
            self._tally.add("unspooled", len(records))
            self._spool_failed(error)
            return False
        spool.grew(size)
        return True

    def _adopt(self) -> None:
        """Now and then, take over what dead processes left in the spool."""
        now = self._time.monotonic()
        if self._spool_folder is None or now < self._next_adoption:
            return
        self._next_adoption = now + _ADOPT_EACH_S
        spool = self._opened_spool()
        if spool is None:
            return
        spool.look_again()
        try:
            paths = spool.adopt()
        except OSError as error:
            self._spool_failed(error)
            return
        for path in reversed(paths):
            at_ms = int(path.name.partition("-")[0])
            self._ready.appendleft(Batch(now, at_ms, records=None, path=path, adopted=True))

    def _spool_failed(self, error: BaseException) -> None:
        self._failed(f"the spool: {getattr(error, 'strerror', None) or type(error).__name__}")

    # Ends.

    def _finish(self) -> None:
        """The last of the worker: count or leave on disk what was not delivered."""
        with self._packing:
            self._pack()
            self._close_open()
            lost = sum(b.count for b in self._ready if b.path is None and not b.adopted)
            if lost:
                self.lose(Loss.EXIT, lost)
            self._ready.clear()
            self._reach_marks()
            if self._spool is not None:
                try:
                    self._spool.close()
                except OSError as error:
                    self._spool_failed(error)
        self._tell_drops()
        self._transport.close()
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
        for reason in Loss:
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


def _has_results(body: object) -> bool:
    return isinstance(body, dict) and ("results" in body or "events" in body)


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.data) for record in records)


def _left(deadline: float, time: Time) -> float:
    return min(0.05, max(0.0, deadline - time.monotonic()))
