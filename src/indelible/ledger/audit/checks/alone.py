"""Events of a journal, each held against its own leaf: what can be said without the log's files."""

from collections.abc import Iterable, Iterator
from typing import Final

from indelible.ledger.audit.checks.rows import Stored, differing, leaf_of
from indelible.ledger.audit.findings import Finding
from indelible.ledger.audit.known import JournalRows

_READ_AT_ONCE: Final = 500


def damages(journal: JournalRows, indexes: Iterable[int]) -> Iterator[tuple[int, str | None]]:
    """Each index with what is wrong with its event, None where nothing is. `indexes` must ascend.

    Raises as it goes:
        JournalUnreadable.
    """
    last_tx = bytes(16)
    for run in _runs(indexes):
        rows = {row.at: Stored.of(row) for row in journal.rows(run.start, run.stop)}
        for index in run:
            if index not in rows:
                yield index, "is not there"
                continue
            what, tx = _compare(rows[index])
            if what is None and tx <= last_tx:
                what = "its transaction id is not above those before it"
            last_tx = max(tx, last_tx)
            yield index, what


def _runs(indexes: Iterable[int]) -> Iterator[range]:
    """Neighbouring indexes together, a bounded number at once."""
    run: range | None = None
    for index in indexes:
        if run is not None and index == run.stop and len(run) < _READ_AT_ONCE:
            run = range(run.start, index + 1)
            continue
        if run is not None:
            yield run
        run = range(index, index + 1)
    if run is not None:
        yield run


def _compare(row: Stored) -> tuple[str | None, bytes]:
    """What is wrong with one event, if anything, and its transaction id."""
    held = leaf_of(row)
    if isinstance(held, Finding):
        return held.sentence.rstrip("."), bytes(16)
    if row.is_erased:
        return None, held.tx
    if row.fault is not None:
        return "a part of it is missing, or is not what was stored", held.tx
    if wrong := differing(row, held):
        return f"its {' and '.join(wrong)} differs from what its leaf commits to", held.tx
    return None, held.tx
