"""The whole log, computed again range by range on every core, and its root at any size."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from indelible.ledger.audit.checks.events import recompute
from indelible.ledger.audit.checks.ranges import Range, Recomputed, out_of_order
from indelible.ledger.audit.findings import MOST_FINDINGS, Report, cannot
from indelible.ledger.format.tile import WIDTH, Tile
from indelible.ledger.format.tree import EMPTY_ROOT, root_of

TIME: Final = "time"
RANGE: Final = 65_536
"""Events that are computed again at once: 256 tiles."""
_FEW_RANGES: Final = 2  # below this the processes would cost more than they bring
_MOST_PROCESSES: Final = 61  # as many as Windows can wait for
_RANGES_AHEAD: Final = 4  # handed to processes before the first comes back

Progress = Callable[[int, int], None]
"""Called with the events done so far, and all of them."""


@dataclass(slots=True)
class Computed:
    """The log as it was computed again: its ranges, as `Recomputed` has them, put together.

    Attributes:
        size, stored: how many events are signed, and how many the journal has.
        is_whole: nothing was left out; else there was too much to find.
        levels: the hashes of each level above 0; None where nothing gives one.
    """

    size: int
    stored: int
    is_whole: bool = True
    roots: list[bytes | None] = field(default_factory=list)
    other_roots: dict[int, bytes] = field(default_factory=dict)
    cut_roots: dict[int, bytes] = field(default_factory=dict)
    last: list[bytes] = field(default_factory=list)
    last_entries: list[bytes] = field(default_factory=list)
    beyond: list[bytes] = field(default_factory=list)
    beyond_entries: list[bytes] = field(default_factory=list)
    levels: list[list[bytes | None]] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    erasures: list[int] = field(default_factory=list)
    events: int = 0
    tiles: int = 0

    def take(self, part: Recomputed) -> None:
        """Put the next range behind those that are there."""
        self.roots += part.roots
        self.other_roots |= part.other_roots
        self.cut_roots |= part.cut_roots
        self.last = part.last or self.last
        self.last_entries = part.last_entries or self.last_entries
        self.beyond += part.beyond
        self.beyond_entries += part.beyond_entries
        self.erased += part.erased
        self.erasures += part.erasures
        self.events += part.events
        self.tiles += part.tiles

    def root_at(self, size: int, *, by_tiles: bool = False) -> bytes | None:
        """The root of the first `size` events; None when something that it needs is missing."""
        if size == 0:
            return EMPTY_ROOT
        if not self.is_whole:
            return None
        if size > self.size:
            return self._root_beyond(size)
        roots = list(self.roots[: -(-size // WIDTH)])
        if by_tiles:
            for number, root in self.other_roots.items():
                if number < len(roots):
                    roots[number] = root
        if size % WIDTH and size != self.size:
            roots[-1] = self.cut_roots.get(size)
        known = [root for root in roots if root is not None]
        return root_of(known) if len(known) == len(roots) else None

    def _root_beyond(self, size: int) -> bytes | None:
        """With the events that the journal has and no checkpoint covers."""
        if size > self.size + len(self.beyond):
            return None
        whole, rest = self.roots[: self.size // WIDTH], self.size % WIDTH
        if rest and len(self.last) != rest:
            return None
        hashes = (self.last if rest else []) + self.beyond[: size - self.size]
        tail = [root_of(hashes[at : at + WIDTH]) for at in range(0, len(hashes), WIDTH)]
        known = [root for root in whole if root is not None]
        return root_of(known + tail) if len(known) == len(whole) else None


def compute(
    whole: Range,
    report: Report,
    *,
    processes: int,
    progress: Progress | None,
    deadline: float | None = None,
) -> Computed:
    """Compute `whole`, a range from the first event on, in parts of RANGE events."""
    log = Computed(whole.size, whole.stored)
    last_tx: tuple[int, bytes] | None = None
    done = 0
    for part in _in_order(_parts(whole), count=-(-whole.end // RANGE), processes=processes):
        log.take(part)
        report.add(*part.findings)
        if last_tx is not None and part.first_tx is not None and part.first_tx[1] <= last_tx[1]:
            report.add(out_of_order(*part.first_tx))
        last_tx = part.last_tx or last_tx
        done = min(done + RANGE, whole.end)
        if progress is not None:
            progress(done, whole.end)
        if len(report.findings) >= MOST_FINDINGS:
            report.note(f"Stopped after {MOST_FINDINGS:,} findings.")
            log.is_whole = False
            break
        if deadline is not None and time.monotonic() >= deadline and done < whole.end:
            sentence = f"The time was up after {done:,} of {whole.end:,} events."
            report.add(cannot(TIME, sentence, index=done))
            log.is_whole = False
            break
    return log


def _parts(whole: Range) -> Iterator[Range]:
    copies: dict[int, list[Tile]] = {}
    for tile in whole.copies:
        copies.setdefault(tile.number * WIDTH // RANGE, []).append(tile)
    for start in range(0, whole.end, RANGE):
        yield replace(
            whole,
            start=start,
            end=min(start + RANGE, whole.end),
            cuts=tuple(cut for cut in whole.cuts if start < cut < start + RANGE),
            copies=tuple(copies.get(start // RANGE, ())),
        )


def _in_order(ranges: Iterator[Range], *, count: int, processes: int) -> Iterator[Recomputed]:
    if processes < 2 or count <= _FEW_RANGES:
        yield from map(recompute, ranges)
        return
    # Spawned: a process that was forked would share the journal's connection.
    context = multiprocessing.get_context("spawn")
    most = min(processes, count, _MOST_PROCESSES)
    with ProcessPoolExecutor(most, mp_context=context) as pool:
        waiting = [pool.submit(recompute, one) for one in islice(ranges, _RANGES_AHEAD)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(recompute, one) for one in islice(ranges, 1)]
        finally:
            pool.shutdown(cancel_futures=True)
