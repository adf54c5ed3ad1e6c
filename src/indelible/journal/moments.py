"""When the entries of each log were received, so that a time is found without reading the log.

Transaction ids only ever grow. Where the clock was once ahead they run ahead of it ever after, so
they do not say when an entry came; the time of receipt in its leaf does. But a clock may step to
and fro, so these times stand in no order, and there is nothing to bisect. What is kept instead is
the earliest and the latest of each block of 4,096 entries: those two never change once a block is
full, a log of ten million entries has 2,500 of them, and looking through them is exact whatever the
clock has done. Within a block that a question cuts, the rows themselves are asked.

The blocks are derived from the rows. Those that a merge of the unique keys has passed are kept in
its file (unique.py), so that a start need not read the log again; the others are in memory.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

BLOCK_BITS: Final = 12
BLOCK: Final = 1 << BLOCK_BITS

_TIME_BYTES: Final = 8
_LATEST: Final = (1 << 8 * _TIME_BYTES) - 1
_BEHIND_ALL: Final = b"\xff" * (_TIME_BYTES + 1)


class Block(NamedTuple):
    """The earliest and the latest time of receipt in a block, as a leaf has them: big-endian."""

    earliest: bytes
    latest: bytes


class Rows(Protocol):
    """The rows that blocks are derived from."""

    def next_index(self, project_id: int) -> int:
        """How many entries the project's log has."""
        ...

    def blocks(self, project_id: int, first: int, behind: int) -> list[Block]:
        """The blocks that the entries [first, behind) make; `first` is where a block begins."""
        ...

    def received(
        self, project_id: int, first: int, behind: int, low: bytes, high: bytes
    ) -> tuple[int, int] | None:
        """The run from the first to the last of the entries [first, behind) that were received in
        [low, high); None when there is none."""
        ...


class Moments:
    """The blocks of every log of a journal. Safe from any thread.

    `kept` has the blocks of a project, from a number on, that need not be made from the rows.
    """

    def __init__(self, rows: Rows, kept: Callable[[int, int], list[Block]]) -> None:
        self._rows = rows
        self._kept = kept
        self._full: dict[int, list[Block]] = {}
        self._lock = threading.Lock()

    def stretches(
        self, project_id: int, from_ms: int, to_ms: int | None, *, start: int = 0
    ) -> list[tuple[int, int]]:
        """See `indelible.journal.contract.Journal.stretches`."""
        low = _time(from_ms)
        high = _BEHIND_ALL if to_ms is None or to_ms > _LATEST else _time(to_ms)
        stored = self._rows.next_index(project_id)
        blocks = self._full_blocks(project_id, stored >> BLOCK_BITS)
        blocks = blocks + self._rows.blocks(project_id, len(blocks) << BLOCK_BITS, stored)
        found: list[tuple[int, int]] = []
        for number in range(max(start, 0) >> BLOCK_BITS, len(blocks)):
            earliest, latest = blocks[number]
            if latest < low or earliest >= high:
                continue
            first, behind = number << BLOCK_BITS, min((number + 1) << BLOCK_BITS, stored)
            if earliest < low or latest >= high or first < start:
                run = self._rows.received(project_id, max(first, start), behind, low, high)
                if run is None:
                    continue
                first, behind = run
            if found and found[-1][1] == first:
                found[-1] = (found[-1][0], behind)
            else:
                found.append((first, behind))
        return found

    def _full_blocks(self, project_id: int, count: int) -> list[Block]:
        with self._lock:
            full = self._full.setdefault(project_id, [])
            if len(full) < count:
                full += self._kept(project_id, len(full))[: count - len(full)]
            if len(full) < count:
                first, behind = len(full) << BLOCK_BITS, count << BLOCK_BITS
                full += self._rows.blocks(project_id, first, behind)
            return full[:count]


def _time(at_ms: int) -> bytes:
    return min(max(at_ms, 0), _LATEST).to_bytes(_TIME_BYTES, "big")
