"""A batch: events that are sent together, in memory and on disk."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indelible.client.capture import Record
from indelible.client.options import Options
from indelible.client.spool import SpoolFile


@dataclass(slots=True, eq=False)
class Batch:
    """Events that are sent together, and the file that keeps them.

    Attributes:
        born: monotonic time of the first event.
        at_ms: its wall time, ms since the epoch.
        records: what is to be sent; None while it is on disk only.
        count, size_bytes: of the records, in memory or not.
        kept: how many of them are on disk.
        file: while the batch is filled; `path` until it is settled.
        adopted: begun by another process, so not among our captures.
        written_off: counted as lost, so that whatever still comes of it is not.
        damaged: the file could not be read whole.
        attempts, request_id: of its delivery.
    """

    born: float
    at_ms: int
    records: list[Record] | None = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0
    kept: int = 0
    file: SpoolFile | None = None
    path: Path | None = None
    adopted: bool = False
    written_off: bool = False
    damaged: bool = False
    attempts: int = 0
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_counted(self) -> bool:
        """Whether its events are among those that wait, by our account."""
        return not (self.adopted or self.written_off)

    def room_for(self, records: Sequence[Record], options: Options) -> int:
        """How many of `records` it still takes, from the first; an empty batch takes any one."""
        size = self.size_bytes
        for place, record in enumerate(records):
            size += len(record.data)
            is_first = self.count + place == 0
            too_long = size > options.batch_bytes and not is_first
            if too_long or self.count + place >= options.batch_events:
                return place
        return len(records)


def size_of(records: Sequence[Record]) -> int:
    """Their length as JSON, in bytes."""
    return sum(len(record.data) for record in records)
