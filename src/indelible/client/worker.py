"""The work of one lane: what is in the inbox is written as JSON, kept, sent and settled.

It is done by a thread that begins with the first event, or by a caller's thread: in sync mode, and
where the interpreter is too far gone for a thread of our own. An event is put into a batch and,
where the lane is spooled, into the batch's file *before* anything is sent; a batch leaves when each
of its events has a fate that the server named, or one that we counted.
"""

import threading
from collections import deque
from typing import Final

from indelible.client.batch import Batch
from indelible.client.capture import Record
from indelible.client.crew import start_thread
from indelible.client.inbox import Inbox, Mark
from indelible.client.lifecycle import Watched, hold, may_begin_thread, release
from indelible.client.notices import Notices, one_line
from indelible.client.options import Options
from indelible.client.roles import Roles
from indelible.client.sender import Sender, Sent
from indelible.client.shelf import ADOPT_EACH_S, Shelf
from indelible.client.tally import Tally
from indelible.client.timing import Time
from indelible.client.wire import Wire
from indelible.client.writer import Writer
from indelible.event import LossReason

_SETTLE_S: Final = 0.01
_LOOK_EACH_S: Final = 0.005
_PAUSE_S: Final = 0.25
_KEEP_WAIT_S: Final = 30.0
_NO_THREAD: Final = (
    "events of uWSGI's master wait for flush(): use --lazy-apps, or --enable-threads with "
    "--py-call-uwsgi-fork-hooks"
)


class Worker:
    """Takes from an inbox until it is stopped.

    Args:
        inbox: where callers leave events.
        shelf: what it holds. Others may read how much that is, and nothing else.
        sender: the way to the server; this worker's alone.
        writer: makes of a capture what is sent.
        tally, notices: where the fate of each is counted and said.
        roles: kept up to date here.

    Attributes:
        stopped: set when it is done for good.
    """

    def __init__(
        self,
        inbox: Inbox,
        shelf: Shelf,
        sender: Sender,
        writer: Writer,
        *,
        wire: Wire,
        options: Options,
        time: Time,
        tally: Tally,
        notices: Notices,
        roles: Roles,
    ) -> None:
        self.stopped = threading.Event()
        self._inbox = inbox
        self._wire = wire
        self._options = options
        self._time = time
        self._tally = tally
        self._sender = sender
        self._notices = notices
        self._roles = roles
        self.shelf = shelf
        self._marks: list[Mark] = []
        # Held by whoever touches the shelf: the worker, or one who keeps or rescues events.
        self._packing = threading.RLock()
        # Held by whoever sends: the worker, or a caller in sync mode.
        self._working = threading.Lock()
        self._beginning = threading.Lock()
        self._stopping = False
        self._retired = False
        self._leaving = False
        self._leftover: Watched | None = None
        self._last = deque((None,))  # for the one who does the last of the work
        self._is_refused_thread = False
        self._flushing = False
        self._writer = writer

    # What callers ask.

    @property
    def has_leftovers(self) -> bool:
        """Whether there is something to send though nothing is in the inbox."""
        return not self.shelf.is_empty or self.shelf.may_have_leftovers()

    @property
    def thread(self) -> int | None:
        """The id of its thread; None while there is none."""
        return self._roles.worker

    # Beginning and end.

    def begin(self) -> None:
        """Begin the thread, unless there is one or somebody does so now.

        In sync mode there is one only for what a dropped client left: no caller will come for it.
        """
        is_callers = self._options.mode == "sync" and not self._leaving
        if is_callers or not self._beginning.acquire(blocking=False):
            return
        try:
            if not may_begin_thread():
                self._notices.log(f"{self._wire.lane}: {_NO_THREAD}")
            elif self.thread is None and not self._stopping and not self._retired:
                self._inbox.open()
                self._roles.worker = start_thread(self._run)
                # Too late in the life of the interpreter: whoever flushes does the work.
                self._is_refused_thread = self.thread is None
        finally:
            self._beginning.release()

    @property
    def is_short_of_hands(self) -> bool:
        """Whether a whole batch waits, and the interpreter gives no thread to send it."""
        return self._is_refused_thread and len(self._inbox) >= self._options.batch_events

    def hurry(self) -> None:
        """Send what is there though it is not due."""
        self._flushing = True

    def work_here(self, mark: Mark, timeout_s: float | None, total_s: float | None) -> None:
        """Work on the calling thread until the mark is reached: there is no other thread."""
        deadline = None if timeout_s is None else self._time.monotonic() + timeout_s
        if not self._working.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return
        self._roles.lent = threading.get_ident()
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
            self._roles.lent = None
            if self._retired:
                self._sender.close()
            self._working.release()

    def stop(self, timeout_s: float) -> None:
        """Let the thread end, and wait so long for it; without one, end here."""
        self._stopping = True
        if self.thread is None:
            with self._working:
                self._finish()
        elif self.thread != threading.get_ident():
            self._inbox.ring()
            self.stopped.wait(timeout_s)

    def retire(self, timeout_s: float) -> None:
        """Let the thread end and begin no other: whoever puts an event from now on does the work.

        Waits so long for its end; one that waits for an answer goes on until it has it.
        """
        self._retired = True
        deadline = self._time.monotonic() + timeout_s
        while (
            self.thread is not None
            and not self._roles.is_worker
            and self._time.monotonic() < deadline
        ):
            self._inbox.ring()
            threading.Event().wait(_LOOK_EACH_S)
        # Or the connection, idle by now, would be finalised while it is open.
        if self.thread is None and self._working.acquire(blocking=False):
            self._sender.close()
            self._working.release()

    def leave(self, leftover: Watched) -> None:
        """Nothing more will come: end when what is here is delivered, or is on disk.

        `leftover` is held for that time.
        """
        hold(leftover)
        self._leftover = leftover
        self._inbox.mark()
        self._leaving = True
        if self.thread is None:
            self.begin()
        self._inbox.ring()

    def abandon(self) -> None:
        """In a forked child: close its copies of the descriptors. The parent goes on."""
        self._stopping = True
        self.stopped.set()  # no thread came along: nobody may wait for it
        self._sender.close()
        self.shelf.abandon()

    def _finish(self) -> None:
        """The last of the work: count or leave on disk what was not delivered."""
        try:
            self._last.pop()
        except IndexError:  # somebody else does it, or did
            return
        with self._packing:
            self._pack()
            self._write_off()
            self.shelf.give_back()
        self._notices.tell_drops()
        self._sender.close()
        self.stopped.set()
        self.dismiss()
        if self._leftover is not None:
            release(self._leftover)

    def dismiss(self) -> None:
        """Count what came after the last of the work: its thread was about to put it just then."""
        while self.stopped.is_set() and (item := self._inbox.take()) is not None:
            if not isinstance(item, Mark):
                self._lose(LossReason.AFTER_SHUTDOWN)

    # The disk, from a caller's thread.

    def keep(self, record: Record, at_ms: int) -> bool:
        """Write one event to the spool and sync it, to be delivered later; False if that failed."""
        # Held for moments only, but for ever by a thread that the interpreter froze at its end.
        if not self._packing.acquire(timeout=_KEEP_WAIT_S):
            return False
        try:
            return self.shelf.keep(record, at_ms)
        finally:
            self._packing.release()

    def rescue(self, timeout_s: float) -> None:
        """Write what is in the inbox to the spool: the process is about to end."""
        if not self.shelf.is_spooled or not self._packing.acquire(timeout=timeout_s):
            return
        try:
            self._pack()
        finally:
            self._packing.release()

    def write_off(self, timeout_s: float) -> None:
        """Count what is in memory only as lost, since the process ends, and say so."""
        if not self._packing.acquire(timeout=timeout_s):
            return
        try:
            self._pack()
            self._write_off()
        finally:
            self._packing.release()
        self._notices.tell_drops()

    def _write_off(self) -> None:
        lost = self.shelf.write_off()
        if lost:
            self._lose(LossReason.EXIT, lost)

    def give_back(self, timeout_s: float) -> None:
        """Remove the spool's folder where nothing is in it."""
        if not self._packing.acquire(timeout=timeout_s):
            return
        try:
            if self.shelf.is_empty:
                self.shelf.give_back()
        finally:
            self._packing.release()

    # The loop.

    def _run(self) -> None:
        self._sender.prepare()
        # Adopts what a dead process left as soon as there is a worker at all.
        while True:
            leaving = self._leaving
            try:
                with self._working:
                    self._work()
                if leaving and not self._inbox and not self.shelf.unkept():
                    self._stopping = True
            except BaseException as error:  # the worker's one door: it must outlive every fault
                self._notices.failed(f"{type(error).__name__} in the worker")
                # Or it would try without a pause: packing does not go by the pace.
                self._sender.pace.failed(self._time.monotonic())
                self._inbox.pause(_PAUSE_S)
            if self._stopping or self._retired:
                break
            self._nap()
        self._roles.worker = None
        if self._stopping:
            self._finish()

    def _nap(self) -> None:
        """Sleep until something is due or somebody rings.

        While a batch is filled in memory nobody need ring: it is due by itself. What is spooled is
        wanted on disk at once, with a moment's company.
        """
        is_spooled = self.shelf.is_spooled
        rang = self._inbox.sleep(self._idle_s(), lightly=is_spooled or self.shelf.open is None)
        if rang and is_spooled and not self._flushing and not self._stopping:
            threading.Event().wait(_SETTLE_S)
        self._inbox.wake()

    def _idle_s(self) -> float:
        """How long there is nothing to do."""
        now = self._time.monotonic()
        due = [ADOPT_EACH_S, self.shelf.due_at - now]
        if self.shelf.ready:
            due.append(self._sender.pace.not_before - now)
        return min(due)

    def _work(self, *, total_s: float | None = None) -> None:
        """Pack what is queued, and send what is due."""
        with self._packing:
            self.shelf.adopt()
            self._pack()
            for batch in self.shelf.expired():
                self._give_up(batch, LossReason.EXPIRED)
        while self.shelf.ready and (self._flushing or self._sender.is_due):
            self._flushing = False
            self._send(self.shelf.ready[0], total_s)
            self._reach_marks(total_s)
            with self._packing:
                self._pack()
            if (self._stopping or self._retired) and not self._marks:
                break
        self._reach_marks(total_s)
        self._notices.tell_drops()

    # Packing.

    def _pack(self) -> None:
        """Write queued events as JSON, into batches and their files; close what is due."""
        self._inbox.expect_batch()
        while self._inbox:
            records: list[Record] = []
            at_ns = 0
            mark: Mark | None = None
            try:
                while mark is None and len(records) < self._options.batch_events:
                    item = self._inbox.take()
                    if item is None:
                        break
                    if isinstance(item, Mark):
                        mark = item
                        continue
                    record = self._writer.record_of(item)
                    if record is not None:
                        at_ns = at_ns or item.stamp.at_ns
                        records.append(record)
            finally:  # whatever came between, those that were taken out are kept
                self.shelf.add(records, at_ns // 1_000_000)
                self._inbox.put_down()
            if mark is not None:
                self._set(mark)
        self.shelf.close_due()
        for batch in self.shelf.surplus():
            self._give_up(batch, LossReason.QUEUE_FULL)

    def _set(self, mark: Mark) -> None:
        """All that was put before `mark` is in batches now: it waits for those."""
        self.shelf.close_open()
        mark.waits_for = set(self.shelf.ready)
        self._marks.append(mark)
        self._flushing = True

    # Sending.

    def _send(self, batch: Batch, total_s: float | None) -> None:
        """Try to deliver a batch, and settle it if every event of it has its fate now."""
        with self._packing:
            records = self.shelf.load(batch)
        sent = Sent()
        if records:
            batch.attempts += 1
            if batch.attempts > 1:
                self._tally.add("retried")
            sent = self._sender.send(
                records, attempt=batch.attempts, request_id=batch.request_id, total_s=total_s
            )
        if sent.delivered:
            if batch.is_counted:
                self._tally.add("delivered", sent.delivered)
            elif batch.adopted:
                self._tally.add("adopted", sent.delivered)
        with self._packing:
            refusals = [self._refused(batch, *refused) for refused in sent.refused]
            if sent.again:
                self.shelf.reduce(batch, sent.again)
                if sent.oversized == len(sent.again):
                    self.shelf.put_last(batch)
            else:
                self._settled(batch)
        for kind, what in refusals:
            self._notices.tell(what, kind)
        if sent.trouble is not None:
            self._notices.tell(f"{self._wire.lane}: {sent.trouble}; trying again", sent.kind)
        elif not sent.refused:
            self._notices.recovered()

    def _refused(
        self, batch: Batch, loss: LossReason, said: str, records: list[Record]
    ) -> tuple[str, str]:
        """The server will never take these: count them, and put spooled ones aside; the kind of
        what is to be told, and the words."""
        path = self.shelf.put_aside(batch, records)
        if batch.is_counted:
            self._lose(loss, len(records))
        where = ""
        if path is not None:
            where = f"; kept in {path}"
        elif self.shelf.is_full_of_refused:
            where = "; not kept, since as much as may be kept is there: indelible spool list"
        what = f"{self._wire.lane}: {len(records)} refused: {one_line(said)}{where}"
        return f"refused {path is None} {said}", what

    def _give_up(self, batch: Batch, reason: LossReason) -> None:
        """We will not try this batch any more."""
        if batch.is_counted:
            self._lose(reason, batch.count)
        elif batch.adopted:
            what = f"events of an earlier process were let go: {reason.meaning}"
            self._notices.tell(f"{self._wire.lane}: {what}", f"adopted {reason}")
        self._settled(batch)

    def _settled(self, batch: Batch) -> None:
        """Every event of the batch has its fate."""
        self.shelf.settle(batch)
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

    def _lose(self, reason: LossReason, count: int = 1) -> None:
        self._tally.add(reason, count)

    def explain(self, reason: LossReason, why: str) -> None:
        """Say more of the latest loss for this reason, when it is told."""
        self._notices.explain(reason, why)
