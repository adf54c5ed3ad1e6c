"""Erasures: whatever has no payload is listed by a later erasure, and what is listed has none."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final

from indelible.errors import Unverifiable
from indelible.event import Kind
from indelible.layout import JOURNAL_FILE
from indelible.ledger.audit.checks.computed import Computed
from indelible.ledger.audit.findings import Report, cannot, tampered
from indelible.ledger.audit.known import JournalRows, Row

ERASURES: Final = "erasures"


def check_erasures(journal: JournalRows, log: Computed, report: Report) -> int:
    """Compare both ways; how many events were erased."""
    erased = sorted(log.erased)
    count = 0
    try:
        newer = _newer(journal, log.stored)
        listed = _Listed(_ranges(journal, [*log.erasures, *newer], report))
        for index in erased:
            if index not in listed:
                sentence = "Its payload is gone, and no erasure lists it."
                report.add(tampered(ERASURES, sentence, file=JOURNAL_FILE, index=index))
        count = len(erased)
        for start, end in listed.gaps(erased):
            _check_gone(journal.rows(start, end), report)
    except Unverifiable as error:
        report.add(cannot(ERASURES, f"{error.message}.", file=JOURNAL_FILE))
    return count


def _newer(journal: JournalRows, stored: int) -> list[int]:
    """Erasures among what the journal has got since its events were counted."""
    count = journal.next_index()
    if count <= stored:
        return []
    return [
        row.at
        for row in journal.rows(stored, count)
        if isinstance(row.leaf, bytes) and len(row.leaf) > 1 and row.leaf[1] == Kind.ERASURE
    ]


def _ranges(
    journal: JournalRows, erasures: Sequence[int], report: Report
) -> Iterator[tuple[int, int]]:
    """The ranges that these erasure entries list."""
    for index in sorted(set(erasures)):
        for row in journal.rows(index, index + 1):
            ranges = _ranges_of(row)
            if ranges is None:
                sentence = "What this erasure lists cannot be read."
                report.add(cannot(ERASURES, sentence, file=JOURNAL_FILE, index=index))
                continue
            yield from ranges


def _ranges_of(row: Row) -> list[tuple[int, int]] | None:
    """What an erasure entry lists; None when it cannot be read. It lists what is before it."""
    if not isinstance(row.payload, bytes):
        return None
    try:
        content: Any = json.loads(row.payload)
        pairs = [(pair[0], pair[1]) for pair in content["erased"] if len(pair) == 2]
        sound = len(pairs) == len(content["erased"]) and all(
            type(start) is int and type(end) is int and 0 <= start < end <= row.at
            for start, end in pairs
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return pairs if sound else None


def _check_gone(rows: Iterable[Row], report: Report) -> None:
    """Rows that are listed as erased, looked at once more: that may be newer."""
    for row in rows:
        parts = {"salts": row.salts, "record": row.record, "payload": row.payload}
        left = [name for name, part in parts.items() if part is not None]
        if left:
            sentence = f"An erasure lists it, and its {' and '.join(left)} is still there."
            report.add(tampered(ERASURES, sentence, file=JOURNAL_FILE, index=row.at))


class _Listed:
    """The indexes that erasures list."""

    def __init__(self, ranges: Iterator[tuple[int, int]]) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if self._ranges and start <= self._ranges[-1][1]:
                last = self._ranges.pop()
                start, end = last[0], max(last[1], end)
            self._ranges.append((start, end))

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self._ranges, index, key=itemgetter(0)) - 1
        return at >= 0 and index < self._ranges[at][1]

    def gaps(self, erased: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The parts of the ranges that are not in `erased`, which ascends."""
        gone = iter(erased)
        index = next(gone, None)
        for start, end in self._ranges:
            at = start
            while index is not None and index < end:
                if index >= start:
                    if index > at:
                        yield at, index
                    at = index + 1
                index = next(gone, None)
            if at < end:
                yield at, end
