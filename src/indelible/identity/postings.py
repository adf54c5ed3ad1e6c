"""Walking along the postings of subjects: the places of their entries in the log."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import apsw

from indelible.identity.tables import LOW_MASK, SEGMENT_BITS, rows_in, segment_of

_SOUGHT: Final = 4_000
"""As many subjects are sought one by one; for more, the whole segment is read."""


class Span(NamedTuple):
    """A subject, and where it has entries: from `first` to `last`, both included."""

    subject: int
    first: int
    last: int


def walk(
    connection: apsw.Connection, spans: Sequence[Span], start: int, end: int, *, down: bool = False
) -> Iterator[tuple[int, int]]:
    """The entries of several subjects in [start, end), in order: index and subject."""
    spans = [span for span in spans if span.first < end and span.last >= start]
    if not spans:
        return
    lowest = segment_of(max(start, min(span.first for span in spans)))
    highest = segment_of(min(end - 1, max(span.last for span in spans)))
    segments = range(lowest, highest + 1)
    for segment in reversed(segments) if down else segments:
        base = segment << SEGMENT_BITS
        active = {
            span.subject for span in spans if span.first <= base + LOW_MASK and span.last >= base
        }
        if not active:
            continue
        low, high = max(start - base, 0), min(end - base, LOW_MASK + 1)
        if len(active) <= _SOUGHT:
            found: list[Any] = list(
                rows_in(
                    connection,
                    f"SELECT low, subject FROM posting WHERE segment = {segment:d}"  # noqa: S608
                    f" AND low >= {low:d} AND low < {high:d} AND subject",
                    active,
                )
            )
        else:
            rows = connection.execute(
                "SELECT low, subject FROM posting WHERE segment = ?", (segment,)
            )
            found = [row for row in rows if row[1] in active and low <= row[0] < high]
        found.sort(reverse=down)
        for place, subject in found:
            yield base + place, subject


def count(connection: apsw.Connection, span: Span, end: int) -> int:
    """How many entries below `end` a subject has."""
    total = 0
    for segment in range(segment_of(span.first), segment_of(max(end - 1, 0)) + 1):
        total += connection.execute(
            "SELECT count(*) FROM posting WHERE segment = ? AND subject = ? AND low < ?",
            (segment, span.subject, end - (segment << SEGMENT_BITS)),
        ).get
    return total


def first_of(connection: apsw.Connection, subject: int, start: int, end: int) -> int | None:
    """The first entry of a subject in [start, end)."""
    return next(postings(connection, subject, start, end), None)


def last_of(connection: apsw.Connection, subject: int, start: int, end: int) -> int | None:
    """The last entry of a subject in [start, end)."""
    spans = [Span(subject, start, end)]
    return next((index for index, _ in walk(connection, spans, start, end, down=True)), None)


def postings(connection: apsw.Connection, subject: int, start: int, end: int) -> Iterator[int]:
    """The entries of a subject in [start, end), ascending."""
    return (index for index, _ in walk(connection, [Span(subject, start, end)], start, end))
