"""How a walk along the log is cut, so that what is in memory at a time is bounded in bytes.

An entry may hold a mebibyte, so a number of entries bounds nothing. Their sizes are asked for
first, which reads none of their content, and the walk is cut into runs that fit.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from indelible.journal.contract import JournalReader

MEASURED_AT_ONCE: Final = 500
"""Most entries of a run, however small they are."""


def cut(sizes: Sequence[int], most_bytes: int) -> Iterator[int]:
    """The lengths of runs of `sizes`, in order, that sum up to at most `most_bytes` each.

    One that alone is larger is a run by itself.

    >>> list(cut([3, 3, 3, 9, 1], 6))
    [2, 1, 1, 1]
    """
    count, held = 0, 0
    for size in sizes:
        if count and held + size > most_bytes:
            yield count
            count, held = 0, 0
        count += 1
        held += size
    if count:
        yield count


def pieces(
    journal: JournalReader,
    project_id: int,
    start: int,
    end: int,
    *,
    most_bytes: int,
    with_payloads: bool = True,
) -> Iterator[tuple[int, int]]:
    """Cut the entries [start, end) into half-open runs of at most about `most_bytes` each.

    `with_payloads` False counts their records alone, for a walk that reads nothing else.
    """
    while start < end:
        sizes = journal.sizes(project_id, start, min(start + MEASURED_AT_ONCE, end))
        if not sizes:
            return
        measured = [size.whole if with_payloads else size.record for size in sizes]
        for count in cut(measured, most_bytes):
            yield start, start + count
            start += count
