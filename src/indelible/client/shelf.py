"""Batches that wait to be sent: in memory, and on disk where the lane is spooled.

    add ─▶ open batch ─▶ ready batches ─▶ settle
           filled, and   closed, oldest
           its file      first

Memory has two limits, in events and in bytes. A batch that is on disk may leave memory when half of
either is used, and is read again when its turn comes; so what a spooled lane can hold while its
server is down is the spool's size.

Nothing here is safe for two threads at once: the outbox holds a lock around each call.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from indelible.client.batch import Batch, size_of
from indelible.client.capture import Record
from indelible.client.notices import Notices
from indelible.client.options import Options
from indelible.client.spool import FILE_BYTES, Spool, begun_at_ms
from indelible.client.tally import Tally
from indelible.client.timing import Time
from indelible.client.wire import Wire
from indelible.event import Lane, LossReason

SPOOLED_AGE_S: Final = 24 * 3_600.0
MEMORY_AGE_S: Final = 3_600.0
ADOPT_EACH_S: Final = 30.0
_FRAME_BYTES: Final = 8


class Shelf:
    """The waiting batches of one lane.

    Args:
        options: its limits.
        wire: of the lane. Audit events are synced to disk; product events only written.
        folder: of the spool; None for a lane that is not spooled.
        tally, notices: where what happens on disk is counted and said.
    """

    def __init__(
        self,
        options: Options,
        wire: Wire,
        *,
        folder: Path | None,
        process_id: str,
        time: Time,
        tally: Tally,
        notices: Notices,
    ) -> None:
        self.ready: deque[Batch] = deque()
        self.open: Batch | None = None
        self.in_memory = 0
        self.memory_bytes = 0
        self._options = options
        self._wire = wire
        self._folder = folder
        self._process_id = process_id
        self._time = time
        self._tally = tally
        self._notices = notices
        self._spool: Spool | None = None
        self._next_adoption = 0.0

    @property
    def is_spooled(self) -> bool:
        return self._folder is not None

    @property
    def is_empty(self) -> bool:
        return self.open is None and not self.ready

    @property
    def is_full_of_refused(self) -> bool:
        """Whether the last events that were refused found no room in the spool."""
        return self._spool is not None and self._spool.is_full_of_refused

    def may_have_leftovers(self) -> bool:
        """Whether there may be something on disk that was not looked at yet."""
        if self._folder is None or self._spool is not None:
            return False
        try:
            return self._folder.exists()
        except OSError:  # a folder that this user may not look into
            return False

    # Filling.

    def add(self, records: list[Record], at_ms: int) -> None:
        """Put records into the open batch and its file, closing it wherever it is full."""
        while records:
            batch = self.open or Batch(self._time.monotonic(), at_ms)
            room = batch.room_for(records, self._options)
            if not room:
                self.close_open()
                continue
            self.open = batch
            chunk, records = records[:room], records[room:]
            try:
                self._write_down(batch, chunk)
            except Exception as error:  # whatever a disk does, the events are here
                self._unspooled(len(chunk), "the spool cannot be written")
                self._failed(error)
            self._hold(batch, chunk)
            if records or batch.count >= self._options.batch_events:
                self.close_open()

    def keep(self, record: Record, at_ms: int) -> bool:
        """Put one record on disk, synced, as a batch of its own; False when that cannot be."""
        batch = Batch(self._time.monotonic(), at_ms)
        if not self._write_down(batch, [record]):
            if batch.file is not None:  # begun in vain
                batch.file.seal()
                self._remove(batch)
            return False
        self._hold(batch, [record])
        self._close(batch)
        return True

    def close_due(self) -> None:
        """Close the open batch if it has waited long enough for company."""
        if self.open is not None and self._time.monotonic() >= self.due_at:
            self.close_open()

    @property
    def due_at(self) -> float:
        """When the open batch is due, as a monotonic time; infinite without one."""
        return float("inf") if self.open is None else self.open.born + self._options.batch_s

    def close_open(self) -> None:
        """Nothing more joins the open batch: it waits to be sent."""
        batch, self.open = self.open, None
        if batch is not None:
            self._close(batch)

    def _close(self, batch: Batch) -> None:
        if batch.file is not None:
            batch.file.seal()
            batch.file = None
        half_full = (
            self.memory_bytes > self._options.max_queued_bytes // 2
            or self.in_memory > self._options.max_queued // 2
        )
        if half_full and batch.kept == batch.count:
            self._release(batch)  # it is read from disk when its turn comes
        self.ready.append(batch)

    # Emptying.

    def put_last(self, batch: Batch) -> None:
        """Let the other batches pass it: what is too large for now must not hold them up."""
        self.ready.remove(batch)
        self.ready.append(batch)

    def load(self, batch: Batch) -> list[Record]:
        """The records of a batch, read from its file where they are not in memory."""
        if batch.records is not None:
            return batch.records
        found: list[bytes] = []
        if batch.path is not None and self._spool is not None:
            try:
                found, is_whole = self._spool.read(batch.path)
                batch.damaged = not is_whole
            except OSError as error:
                batch.damaged = True
                self._failed(error)
        records = [Record(self._wire.event_id_of(data), data) for data in found]
        if batch.is_counted and len(records) < batch.count:
            self._tally.add(LossReason.SPOOL_FAILED, batch.count - len(records))
        batch.records, batch.count, batch.size_bytes = [], 0, 0
        self._hold(batch, records)
        return records

    def reduce(self, batch: Batch, left: list[Record]) -> None:
        """Only these of a batch are still to be sent. Its file stays whole until it is settled."""
        self._release(batch)
        batch.records, batch.count, batch.size_bytes = [], 0, 0
        self._hold(batch, left)
        batch.kept = min(batch.kept, batch.count)

    def settle(self, batch: Batch) -> None:
        """Every event of the batch has its fate: let go of it and of its file."""
        self.ready.remove(batch)
        self._release(batch)
        self._remove(batch)

    def _remove(self, batch: Batch) -> None:
        """Let go of its file; of a damaged one, where a person finds it."""
        if batch.path is not None and self._spool is not None:
            try:
                if batch.damaged:
                    self._say_damaged(self._spool.put_aside(batch.path))
                else:
                    self._spool.remove(batch.path)
            except OSError as error:
                self._failed(error)

    def put_aside(self, batch: Batch, records: Sequence[Record]) -> Path | None:
        """Keep what the server refused where a person finds it, if the batch was spooled."""
        if self._spool is None or batch.path is None:
            return None
        try:
            return self._spool.refuse([record.data for record in records], batch.at_ms)
        except OSError as error:
            self._failed(error)
            return None

    def expired(self) -> Iterator[Batch]:
        """The batches that have been tried for too long, oldest first; an audit event on disk is
        never one."""
        limit_s = self._options.max_age_s
        if limit_s is None:
            if self.is_spooled and self._wire.lane == Lane.AUDIT:
                return
            limit_s = SPOOLED_AGE_S if self.is_spooled else MEMORY_AGE_S
        for batch in list(self.ready):
            age_s = self._time.monotonic() - batch.born
            if batch.adopted:  # another process's clock; only the wall's is shared
                age_s = (self._time.wall_ms() - batch.at_ms) / 1_000
            if age_s > limit_s:
                yield batch

    def surplus(self) -> Iterator[Batch]:
        """With `overflow="oldest"`: what must go, oldest first, until the rest is within bounds."""
        if self._options.overflow != "oldest":
            return
        for batch in list(self.ready)[1:]:  # the first may be under way
            if self.in_memory <= self._options.max_queued:
                return
            yield batch

    # The disk.

    def adopt(self) -> None:
        """Now and then, take over what dead processes left in the spool, to be sent first."""
        now = self._time.monotonic()
        if self._folder is None or now < self._next_adoption:
            return
        self._next_adoption = now + ADOPT_EACH_S
        spool = self._opened()
        if spool is None:
            return
        spool.look_again()
        try:
            paths = spool.adopt()
        except OSError as error:
            self._failed(error)
            return
        for path in reversed(paths):
            at_ms = begun_at_ms(path.name)
            self.ready.appendleft(Batch(now, at_ms, records=None, path=path, adopted=True))
        if spool.passed_over is not None:
            what = f"files of a later version are in {spool.passed_over}: they stay there"
            self._notices.tell(f"{self._wire.lane}: {what}")

    def _opened(self) -> Spool | None:
        if self._spool is None and self._folder is not None:
            try:
                self._spool = Spool(
                    self._folder, self._process_id, max_bytes=self._options.spool_bytes
                )
            except (OSError, ValueError) as error:  # a name that no file can have
                self._failed(error)
                self._folder = None
        return self._spool

    def _write_down(self, batch: Batch, records: list[Record]) -> bool:
        """Put records into the batch's file; where that fails they wait in memory only."""
        spool = self._opened()
        if spool is None:
            return False
        size = size_of(records) + _FRAME_BYTES * len(records)
        if batch.path is None:
            size += FILE_BYTES
        if not spool.has_room(size):
            self._unspooled(len(records), "the spool is full")
            return False
        try:
            if batch.file is None and batch.path is None:
                batch.file = spool.create(batch.at_ms)
                batch.path = batch.file.path
            if batch.file is None:
                return False
            data = [record.data for record in records]
            batch.file.append(data, sync=self._wire.lane == Lane.AUDIT)
        except OSError as error:
            self._unspooled(len(records), "the spool cannot be written")
            self._failed(error)
            return False
        batch.kept += len(records)
        spool.grew(size)
        return True

    # What is said of the disk.

    def _unspooled(self, count: int, what: str) -> None:
        """Events wait in memory only."""
        self._tally.add("unspooled", count)
        self._notices.tell(f"{self._wire.lane}: {what}: events wait in memory only")

    def _failed(self, error: BaseException) -> None:
        """The disk refused."""
        what = getattr(error, "strerror", None) or type(error).__name__
        self._notices.failed(f"the spool: {what}")

    def _say_damaged(self, path: Path | None) -> None:
        """A file could not be read whole, and is kept here, or nowhere."""
        what = "a file of the spool is damaged"
        where = f"kept in {path}" if path is not None else "not kept, since refused/ is full"
        self._notices.failed(f"{self._wire.lane}: {what}; {where}", what)

    # The end.

    def write_off(self) -> int:
        """Give up what is in memory only, since the process ends; how many events that are."""
        self.close_open()
        count = self.unkept()
        for batch in self.ready:
            batch.written_off = batch.written_off or batch.kept < batch.count
        return count

    def unkept(self) -> int:
        """How many of our events are in memory only, and not given up."""
        batches = [*self.ready, *([self.open] if self.open is not None else [])]
        return sum(batch.count - batch.kept for batch in batches if batch.is_counted)

    def give_back(self) -> None:
        """Let go of the spool; what is still in it may be adopted by others."""
        spool, self._spool = self._spool, None
        if spool is None:
            return
        if self.open is not None and self.open.file is not None:
            self.open.file.seal()
        try:
            spool.close()
        except OSError as error:
            self._failed(error)

    def abandon(self) -> None:
        """In a forked child: close its copies of the descriptors. The parent goes on."""
        if self.open is not None and self.open.file is not None:
            self.open.file.seal()
        if self._spool is not None:
            self._spool.abandon()

    # Memory.

    def _hold(self, batch: Batch, records: list[Record]) -> None:
        assert batch.records is not None
        size = size_of(records)
        batch.records += records
        batch.count += len(records)
        batch.size_bytes += size
        self.in_memory += len(records)
        self.memory_bytes += size

    def _release(self, batch: Batch) -> None:
        if batch.records is not None:
            self.in_memory -= len(batch.records)
            self.memory_bytes -= size_of(batch.records)
            batch.records = None
