"""The scrub: all that lies on disk of every log is compared with what was signed, slowly.

A flipped bit in a tile that nobody asks for would be found by a stranger, years later. This thread
of its own walks the tiles of level 0 of all logs in turn: the tile with every tile above it, its
bundle, and the rows of its 256 events. It reads a bounded number of bytes a second. Each pass
begins by comparing the log's notes with the lock.

What can be rebuilt is (`soundness`). What cannot is reported to `Damages`, which health reads, and
looked at again whenever the process starts, so that it is taken back once it is sound.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from indelible.clock import monotonic_s
from indelible.connections import SqliteError
from indelible.errors import IndelibleError, Tampered
from indelible.journal.contract import JournalReader
from indelible.ledger import notes
from indelible.ledger.damages import NOTES, Damages
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.tile import ENTRIES, WIDTH, Tile, TileHashes, hashes_of, tile_at
from indelible.ledger.format.tree import leaf_hash, prove_root
from indelible.ledger.lockstore import Head
from indelible.ledger.logs import Log
from indelible.ledger.receipts import changed, sound_opening
from indelible.ledger.soundness import Soundness
from indelible.ledger.stored import entries
from indelible.metrics import SCRUBBED_BYTES

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE: Final = 16  # events of 1 MiB each are what may be in memory at a time
_PASS_S: Final = 60 * 60.0
_SAVE_S: Final = 60.0


class Scrub:
    """Compares every log with its last checkpoint, on a thread of its own.

    Args:
        logs: returns all logs, frozen ones too; called at the beginning of each pass.
        head_of: returns the last checkpoint of a log.
        republish: publishes again those notes of a log whose files are damaged.
        bytes_per_s: how much is read, at the most, on average.
        pass_s: least time from the beginning of one pass to that of the next.
    """

    def __init__(
        self,
        journal: JournalReader,
        soundness: Soundness,
        damages: Damages,
        *,
        logs: Callable[[], list[Log]],
        head_of: Callable[[Log], Head | None],
        republish: Callable[[Log], None],
        bytes_per_s: int,
        pass_s: float = _PASS_S,
    ) -> None:
        self._journal = journal
        self._soundness = soundness
        self._damages = damages
        self._logs = logs
        self._head_of = head_of
        self._republish = republish
        self._bytes_per_s = bytes_per_s
        self._pass_s = pass_s
        self._saved_at = monotonic_s()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the step under way, then end; returns when the thread has."""
        self._stopping.set()
        self._thread.join()
        self._damages.save()

    def steps(self) -> Iterator[int]:
        """One pass over all logs in turn, in steps; each says how many bytes it looked at."""
        walks = deque(self._walk(log) for log in self._logs())
        while walks:
            walk = walks.popleft()
            step = next(walk, None)
            if step is not None:
                yield step
                walks.append(walk)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = monotonic_s()
            try:
                self._pass()
            except Exception as error:  # this thread's one door: the next pass tries it again
                logger.warning("scrub: %s; again in %g s", type(error).__name__, self._pass_s)
            self._stopping.wait(max(began + self._pass_s - monotonic_s(), 1.0))

    def _pass(self) -> None:
        for looked_at in self.steps():
            SCRUBBED_BYTES.inc(looked_at)
            if monotonic_s() > self._saved_at + _SAVE_S:
                self._damages.save()
                self._saved_at = monotonic_s()
            if self._stopping.wait(looked_at / self._bytes_per_s):
                return

    def _walk(self, log: Log) -> Iterator[int]:
        """A log from where the last walk broke off to its end, and from its beginning to there."""
        self._look_at_notes(log)
        head = self._head_of(log)
        if head is None or head.size == 0:
            return
        count = -(-head.size // WIDTH)
        first = self._damages.position(log.name) % count
        again = [number for number in self._damages.numbers(log.name) if number < count]
        for number in (*again, *range(first, count), *range(first)):
            yield from self._look_at(log, head, number)
            self._damages.move(log.name, (number + 1) % count)
        yield self._look_at_left_overs(log, head)

    def _look_at(self, log: Log, head: Head, number: int) -> Iterator[int]:
        """Compare one tile of level 0, all that is above it, its bundle and its events' rows."""
        found: list[str] = []
        tile = tile_at(0, number, head.size)
        hashes = self._content(log, head, tile, found)
        bundle = self._content(log, head, tile._replace(level=ENTRIES), found)
        yield len(hashes or b"") + len(bundle or b"")
        if hashes is not None and log.signer is not None:
            yield from self._look_at_rows(log, number * WIDTH, hashes_of(hashes), found)
        self._damages.settle(log.name, number, found)

    def _content(self, log: Log, head: Head, tile: Tile, found: list[str]) -> bytes | None:
        try:
            return self._soundness.tile(log, head, tile)
        except Tampered as error:
            found.append(error.message)
        except (IndelibleError, OSError, SqliteError) as error:
            found.append(f"{log.origin}: {tile.path} cannot be checked: {type(error).__name__}")
        return None

    def _look_at_rows(
        self, log: Log, first: int, hashes: list[bytes], found: list[str]
    ) -> Iterator[int]:
        for start in range(first, first + len(hashes), _ROWS_AT_ONCE):
            end = min(start + _ROWS_AT_ONCE, first + len(hashes))
            looked_at = 0
            for entry in entries(self._journal, log.project_id, start, end):
                try:
                    if isinstance(entry, Tampered):
                        raise entry
                    if leaf_hash(entry.leaf_entry) != hashes[entry.index - first]:
                        raise changed(log.origin, entry.index, "leaf")
                    sound_opening(entry, log.origin)
                    looked_at += len(entry.payload or b"") + len(entry.record or b"")
                except Tampered as error:
                    found.append(error.message)
            yield looked_at

    def _look_at_left_overs(self, log: Log, head: Head) -> int:
        """Compare the narrower files that earlier checkpoints left at the right edge."""
        looked_at, found = 0, list[str]()
        number = head.size // WIDTH
        for tile in log.tiles.partials(head.size):
            content = self._content(log, head, tile, found)
            if content is not None:
                looked_at += len(content)
        if found:
            self._damages.add(log.name, number, found[0])
        return looked_at

    def _look_at_notes(self, log: Log) -> None:
        """Compare what was published with the lock, which is ahead of it at every moment."""
        if log.signer is None:
            return
        held = [
            (name, note)
            for name in (CHECKPOINT, WITNESSED)
            if (note := notes.published(log.tiles, name, log.key)) is not None
        ]
        found: list[str] = []
        try:
            self._republish(log)
            head = self._head_of(log)
            assert head is not None
            notes.check_head(head, log.key)
            for name, note in held:
                root_at = self._root_at(log, head)
                complaint = notes.contradiction(name, note, head, root_at)
                if complaint is not None:
                    found.append(f"{complaint}: the log was forked; keep everything as it is")
        except (IndelibleError, OSError, SqliteError) as error:
            found.append(f"{log.origin}: its notes cannot be checked: {error}")
        self._damages.settle(log.name, NOTES, found)

    def _root_at(self, log: Log, head: Head) -> notes.RootAt:
        tiles = self._soundness.tiles(log, head)
        return lambda size: prove_root(TileHashes(tiles, head.size), size)
