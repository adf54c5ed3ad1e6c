"""Find entries by their time of receipt without reading the whole log.

Transaction ids only ever grow. After one event stored while the clock was ahead, all later ids run
ahead too, so an id does not tell when an entry arrived. The time of receipt in the leaf does. It
follows the clock, though, which may step either way, so these times are not sorted and binary
search is out. Instead we keep the earliest and the latest time of each block of 4,096 entries. A
full block never changes, a log of ten million entries has 2,500 blocks, and scanning them is exact
whatever the clock did. Only a block that a range covers in part is looked up in the rows.

Blocks are derived from the rows. Each merge of the unique keys saves the full blocks so far in the
same file (unique.py), so a start need not read the log again. Later blocks are held in memory.
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
    """The earliest and the latest time of receipt in a block, big-endian as in a leaf."""

    earliest: bytes
    latest: bytes


class Rows(Protocol):
    """The rows that blocks are derived from."""

    def next_index(self, project_id: int) -> int:
        """How many entries the project's log has."""
        ...

    def blocks(self, project_id: int, first: int, behind: int) -> list[Block]:
        """Compute the blocks of the entries [first, behind); `first` is a block boundary."""
        ...

    def received(
        self, project_id: int, first: int, behind: int, low: bytes, high: bytes
    ) -> tuple[int, int] | None:
        """The run from the first to the last of the entries [first, behind) that were received in
        [low, high), or None if there are none."""
        ...


class Moments:
    """The blocks of every log of a journal. Safe from any thread.

    `kept` returns the saved blocks of a project from a block number on.
    """

    def __init__(self, rows: Rows, kept: Callable[[int, int], list[Block]]) -> None:
        self._rows = rows
        self._kept = kept
        self._full: dict[int, list[Block]] = {}
        self._lock = threading.Lock()

    def received_between(
        self, project_id: int, from_ms: int, to_ms: int | None, *, start: int = 0
    ) -> list[tuple[int, int]]:
        """See `indelible.journal.contract.Journal.received_between`."""
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
