"""What a caller's thread leaves for the worker, and how it wakes it: all that both of them touch.

Nothing here takes a lock that another thread could hold for long, and none that a signal handler
could find held by the code it interrupted.
"""

import contextlib
import queue
import threading
from collections import deque
from dataclasses import dataclass, field

from indelible.client.batch import Batch
from indelible.client.capture import Capture
from indelible.client.options import Options
from indelible.client.shelf import Shelf


@dataclass(slots=True, eq=False)
class Mark:
    """A place in the inbox that `flush` waits for: all before it, settled."""

    waits_for: set[Batch] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False


class Inbox:
    """Captures and marks of one lane, in order, and the bell beside them."""

    def __init__(self, options: Options) -> None:
        self._items: deque[tuple[Capture, int] | Mark] = deque()
        self._most_bytes = options.max_queued_bytes
        self._light_bytes = options.max_queued_bytes // options.max_queued
        self._heavy_bytes = 0
        # Taken by the worker, and not yet where it holds what is to be sent.
        self._in_hand = 0
        self._heavy_in_hand = 0
        self._heavy = threading.RLock()
        self._nudge_at = options.batch_events
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Whether the next event must wake the worker, and whether a full batch has done so.
        self._asleep = False
        self._nudged = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def waiting(self) -> int:
        """How many are here, or in the worker's hand.

        Counted in this order, and read before what the worker holds: one on its way from here to
        there is counted twice rather than not at all.
        """
        return len(self._items) + self._in_hand

    # The caller's side.

    def has_room(self, estimate_bytes: int, shelf: Shelf) -> bool:
        """Reserve room for one event of about this size, next to what the shelf holds; False if
        there is none.

        Light events need no account: as many as may be queued stay below the limit. LIMIT: what is
        not yet written as JSON is estimated, so the limit holds to about a half.
        """
        if estimate_bytes <= self._light_bytes:
            return shelf.memory_bytes < self._most_bytes
        with self._heavy:
            if self._heavy_bytes + estimate_bytes + shelf.memory_bytes > self._most_bytes:
                return False
            self._heavy_bytes += estimate_bytes
            return True

    def put(self, capture: Capture, estimate_bytes: int) -> None:
        """Leave one event, for which there was room."""
        self._items.append((capture, estimate_bytes))

    def mark(self) -> Mark:
        """Leave a mark behind all that is here."""
        mark = Mark()
        self._items.append(mark)
        return mark

    def ring_if_due(self) -> None:
        """Wake the worker if it sleeps so that it must be, or if there is a batch for it."""
        if self._asleep or (not self._nudged and len(self._items) >= self._nudge_at):
            self._nudged = True
            self.ring()

    def ring(self) -> None:
        """Wake the worker, or let its next sleep end at once."""
        self._asleep = False
        self._bell.put(None)

    # The worker's side.

    def take(self) -> Capture | Mark | None:
        """Take what was left first; None when there is nothing more.

        An event stays in the account until `put_down`.
        """
        self._in_hand += 1
        try:
            item = self._items.popleft()
        except IndexError:
            self._in_hand -= 1
            return None
        if isinstance(item, Mark):
            self._in_hand -= 1
            return item
        capture, estimate_bytes = item
        if estimate_bytes > self._light_bytes:
            self._heavy_in_hand += estimate_bytes
        return capture

    def put_down(self) -> None:
        """Take from the account what was taken: it is elsewhere now, or is no more."""
        with self._heavy:
            self._heavy_bytes -= self._heavy_in_hand
        self._heavy_in_hand = self._in_hand = 0

    def expect_batch(self) -> None:
        """Let the next full batch ring once more."""
        self._nudged = False

    def open(self) -> None:
        """Get ready for a worker that begins now: gevent may have changed what a queue is since
        the inbox was made."""
        self._bell = queue.SimpleQueue()

    def sleep(self, wait_s: float, *, lightly: bool) -> bool:
        """Wait for the bell while nothing is here, at most so long; whether it rang.

        Every event rings for one who sleeps lightly, only a full batch for others.
        """
        self._asleep = lightly
        if self._items or wait_s <= 0:
            return False
        try:
            self._bell.get(timeout=wait_s)
        except queue.Empty:
            return False
        return True

    def pause(self, wait_s: float) -> None:
        """Wait so long, whatever is here; less if somebody rings."""
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=wait_s)

    def wake(self) -> None:
        """Be awake: whatever rang until now is heard."""
        self._asleep = False
        while not self._bell.empty():
            self._bell.get()
