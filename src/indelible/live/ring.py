"""The newest entries of one project, in the order in which this server learned of them. Pure.

A ring holds no content of stored events: it has their indexes, in runs, and whoever shows them
reads them from the journal. So what is erased there is nowhere else, and a ring of a thousand
events is a few numbers. A refusal is in no journal, so its message is kept whole.

Every message has a sequence number. A refusal that stands for five events takes five, and so does a
gap of five: the difference between two numbers is how many events there were in between.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

MOST_ENTRIES: Final = 1_000
LONGEST_MS: Final = 30 * 60 * 1000

_RUN_MS: Final = 5_000  # events received within this time may share a run
_RUN_BYTES: Final = 128  # of memory


class Run(msgspec.Struct, frozen=True, gc=False):
    """The stored events [index, index + count), at the sequence numbers from `seq` on."""

    seq: int
    index: int
    count: int
    at_ms: int

    @property
    def end(self) -> int:
        """The sequence number of what comes next."""
        return self.seq + self.count


class Told(msgspec.Struct, frozen=True, gc=False):
    """A message that is in no journal.

    `count` is how many sequence numbers it takes. `index` is that of the stored event that it is
    about, -1 if none. `body` is JSON; what follows are the facts by which it is chosen.
    """

    seq: int
    count: int
    at_ms: int
    index: int
    body: bytes
    kind: str
    result: str = ""
    event: str | None = None
    distinct_id: str | None = None

    @property
    def end(self) -> int:
        """The sequence number of what comes next."""
        return self.seq + self.count


Item = Run | Told


class Ring:
    """The newest `MOST_ENTRIES` messages of a project, none older than `LONGEST_MS`."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._end = 0
        self._next_index = 0
        self.entries = 0
        self.size_bytes = 0
        """Of memory, nearly."""

    @property
    def first(self) -> int:
        """The sequence number of the oldest message that is here."""
        return self._items[0].seq if self._items else self._end

    @property
    def end(self) -> int:
        """The sequence number that the next message will have."""
        return self._end

    @property
    def next_index(self) -> int:
        """The index behind the newest stored event that was told."""
        return self._next_index

    def add_events(self, start: int, end: int, at_ms: int) -> None:
        """Take the stored events [start, end), which are behind all others."""
        count = end - start
        last = self._items[-1] if self._items else None
        if isinstance(last, Run) and last.index + last.count == start and _is_near(last, at_ms):
            self._items[-1] = replace(last, count=last.count + count)
        else:
            self._items.append(Run(self._end, start, count, at_ms))
            self.size_bytes += _RUN_BYTES
        self._end += count
        self._next_index = end
        self.entries += count
        self._shorten(self.entries - MOST_ENTRIES)

    def tell(self, told: Told) -> None:
        """Take a message that is in no journal; its number is given here."""
        told = replace(told, seq=self._end)
        self._items.append(told)
        self._end = told.end
        self.entries += 1
        self.size_bytes += _size(told)
        self._shorten(self.entries - MOST_ENTRIES)

    def expire(self, before_ms: int) -> None:
        """Forget what was received before this time."""
        while self._items and self._items[0].at_ms < before_ms:
            self._shorten(_entries(self._items[0]))

    def forget_oldest(self) -> None:
        """Make room: forget the older half."""
        self._shorten((self.entries + 1) // 2)

    def since(self, seq: int) -> Iterator[Item]:
        """What is here from this sequence number on, oldest first; a run is cut there."""
        # From the newest back: who follows wants the last few.
        found: list[Item] = []
        for item in reversed(self._items):
            if item.end <= seq:
                break
            found.append(item)
        for item in reversed(found):
            if isinstance(item, Run) and item.seq < seq:
                skipped = seq - item.seq
                yield Run(seq, item.index + skipped, item.count - skipped, item.at_ms)
            else:
                yield item

    def seq_of(self, index: int) -> int:
        """The sequence number of the first stored event from `index` on that is here."""
        for item in self._items:
            if isinstance(item, Run) and item.index + item.count > index:
                return item.seq + max(0, index - item.index)
        return self._end

    def seq_back(self, entries: int) -> int:
        """The sequence number of the last `entries` messages, or of all that are here."""
        left = entries
        for item in reversed(self._items):
            if left <= 0:
                return item.end
            if isinstance(item, Run) and item.count > left:
                return item.end - left
            left -= _entries(item)
        return self._end if entries <= 0 else self.first

    def _shorten(self, entries: int) -> None:
        """Forget this many of the oldest entries."""
        items = self._items
        while entries > 0:
            oldest = items[0]
            if isinstance(oldest, Run) and oldest.count > entries:
                items[0] = Run(
                    oldest.seq + entries,
                    oldest.index + entries,
                    oldest.count - entries,
                    oldest.at_ms,
                )
                self.entries -= entries
                return
            items.popleft()
            self.entries -= _entries(oldest)
            self.size_bytes -= _size(oldest)
            entries -= _entries(oldest)


def _is_near(run: Run, at_ms: int) -> bool:
    return abs(at_ms - run.at_ms) < _RUN_MS


def _entries(item: Item) -> int:
    return item.count if isinstance(item, Run) else 1


def _size(item: Item) -> int:
    return _RUN_BYTES if isinstance(item, Run) else _RUN_BYTES + len(item.body)
