"""The signed roots: each is the root of the events that lie here, and all are of one history."""

from typing import Final

from indelible.layout import LOCK_FILE
from indelible.ledger.audit.checks.computed import Computed
from indelible.ledger.audit.checks.heads import LOCK, Head, Heads
from indelible.ledger.audit.findings import Report, cannot, tampered
from indelible.ledger.audit.memory import Remembered
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED

ROOT: Final = "root"


def check_root(basis: Head, log: Computed, remembered: Remembered | None, report: Report) -> None:
    """The events give the root that was signed."""
    checkpoint = basis.checkpoint
    computed = log.root_at(checkpoint.size)
    if computed == checkpoint.root:
        return
    if computed is None:
        sentence = "The root cannot be computed: bundles and tiles of the same events are gone."
        report.add(cannot(ROOT, sentence, file=basis.where))
        return
    if log.root_at(checkpoint.size, by_tiles=True) == checkpoint.root:
        report.note("The tiles give the root that was signed: it is the bundles that were altered.")
        return
    sentence = (
        f"The {checkpoint.size:,} events that lie here do not give the root that was"
        f" signed{_sound_until(checkpoint.size, log, remembered)}."
    )
    report.add(tampered(ROOT, sentence, file=basis.where))


def check_heads(heads: Heads, basis: Head, log: Computed, report: Report) -> None:
    """The witnessed note and the lock fit the events, and are where they may be."""
    seen, lock = heads.witnessed, heads.lock
    if seen is not None:
        _check_other(WITNESSED, seen, basis, log, report)
        if seen.size > basis.size:
            sentence = (
                f"Rolled back: it covers {basis.size:,} events, and witnesses have seen"
                f" {seen.size:,}."
            )
            report.add(tampered(CHECKPOINT, sentence, file=CHECKPOINT))
    if lock is None or lock is basis:
        return
    if lock.size < basis.size:
        sentence = (
            f"The checkpoint covers {basis.size:,} events and lock.db {lock.size:,}: the lock is"
            " from a backup, or somebody else signs with the log's key."
        )
        report.add(tampered(LOCK, sentence, file=LOCK_FILE))
    elif lock.size > basis.size:
        report.note(
            f"lock.db is ahead of the published checkpoint, at {lock.size:,} events: a publish"
            " that has not happened yet, or will at the next start."
        )
    _check_other(LOCK, lock, basis, log, report)


def _sound_until(size: int, log: Computed, remembered: Remembered | None) -> str:
    """How far the remembered head, if it still fits, narrows the place."""
    if (
        remembered is None
        or remembered.size >= size
        or log.root_at(remembered.size) != remembered.root
    ):
        return ""
    return f"; the first {remembered.size:,} are those of the last audit"


def _check_other(check: str, other: Head, basis: Head, log: Computed, report: Report) -> None:
    """Another signed head of the same log: its root must be the root at its size."""
    if other.checkpoint.origin != basis.checkpoint.origin:
        report.add(tampered(check, "It is the head of another log.", file=other.where))
        return
    if other.size == basis.size:
        if other.checkpoint.root != basis.checkpoint.root:
            sentence = (
                f"Its root at {other.size:,} events is not that in {basis.where}: the log has"
                " signed two histories."
            )
            report.add(tampered(check, sentence, file=other.where))
        return
    computed = log.root_at(other.size)
    if computed is None and other.size < basis.size:
        sentence = "The root at its size cannot be computed."
        report.add(cannot(check, sentence, file=other.where))
    elif computed is not None and computed != other.checkpoint.root:
        sentence = f"The first {other.size:,} events do not give the root that it has."
        report.add(tampered(check, sentence, file=other.where))
