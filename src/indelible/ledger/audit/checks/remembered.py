"""What this auditor saw before: the log must go on from it, and nothing signed may be gone.

It is what tells a log that was rewritten and signed anew from an honest one.
"""

from typing import Final

from indelible.clock import now_ms
from indelible.errors import MemoryUnreadable, NoteMalformed, PolicyMalformed
from indelible.ledger.audit.checks.belief import Belief, parsed
from indelible.ledger.audit.checks.computed import Computed
from indelible.ledger.audit.checks.heads import Head
from indelible.ledger.audit.findings import Report, cannot, tampered
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Memory, Remembered
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.note import parse_note
from indelible.ledger.format.policy import Policy

MEMORY: Final = "memory"


def recall(known: Known, note: str | None, own: Policy | None, report: Report) -> Remembered | None:
    """The last head of this log; its origin is the journal's, the note's or the policy's word."""
    if known.memory is None:
        return None
    origins = [] if own is None else [log.key.name for log in own.logs]
    if note is not None:
        origins.insert(0, note.partition("\n")[0])
    if known.vkey is not None:
        origins.insert(0, known.vkey.partition("+")[0])
    for origin in dict.fromkeys(origins):
        try:
            found = known.memory.recall(origin)
            if found is not None:
                parsed(found.policy)
                return found
        except (MemoryUnreadable, PolicyMalformed) as error:
            report.add(cannot(MEMORY, f"{error.message}."))
    return None


def check_remembered(
    kept: Remembered, basis: Head | None, seen: Head | None, log: Computed, report: Report
) -> None:
    """The log goes on from the remembered head; `seen` is the witnessed one of now."""
    if basis is None:
        if not report.findings:
            sentence = (
                f"This auditor has seen {kept.size:,} events of the log, and there is no"
                " checkpoint now."
            )
            report.add(cannot(MEMORY, sentence, file=CHECKPOINT))
        return
    if basis.checkpoint.origin != kept.origin:
        report.add(tampered(MEMORY, f"This was the log {kept.origin}.", file=basis.where))
        return
    if basis.size < kept.size:
        sentence = (
            f"Rolled back: this auditor has seen {kept.size:,} events, signed, and the checkpoint"
            f" covers {basis.size:,}."
        )
        report.add(tampered(MEMORY, sentence, file=basis.where, index=basis.size))
    else:
        _check_root(kept, basis, log, report)
    _check_lines(CHECKPOINT, kept.checkpoint, basis, report)
    if kept.witnessed is not None:
        if seen is not None:
            _check_lines(WITNESSED, kept.witnessed, seen, report)
        elif not report.is_about(WITNESSED):
            sentence = "It was there at the last audit, and is gone."
            report.add(cannot(MEMORY, sentence, file=WITNESSED))


def remember(
    memory: Memory, basis: Head, seen: Head | None, belief: Belief, published: str | None
) -> None:
    """Keep a head that was found sound, and whom it was believed from.

    Raises:
        OSError, SyncFailed: what was remembered before still is.
    """
    memory.keep(
        Remembered(
            origin=basis.checkpoint.origin,
            size=basis.size,
            root=basis.checkpoint.root,
            checkpoint=str(basis.note),
            witnessed=None if seen is None else str(seen.note),
            policy=belief.policy.text,
            published_policy=published,
            at_ms=now_ms(),
        )
    )


def _check_root(kept: Remembered, basis: Head, log: Computed, report: Report) -> None:
    same = basis.size == kept.size
    computed = basis.checkpoint.root if same else log.root_at(kept.size)
    if computed == kept.root:
        return
    if computed is None:
        sentence = (
            f"The root at {kept.size:,} events, which this auditor remembers, cannot be computed."
        )
        report.add(cannot(MEMORY, sentence, file=basis.where))
        return
    sentence = (
        f"Fork: at {kept.size:,} events this auditor has seen another root, signed by the same"
        " log: it has two histories."
    )
    report.add(tampered(MEMORY, sentence, file=basis.where))


def _check_lines(where: str, kept: str, now: Head, report: Report) -> None:
    """A note of the same size has every signature that it had."""
    try:
        before = parse_note(kept)
    except NoteMalformed:
        report.add(cannot(MEMORY, f"The remembered note {where} cannot be read."))
        return
    if before.text != now.note.text:
        return
    there = {(one.name, one.key_id) for one in now.note.signatures}
    for line in before.signatures:
        if (line.name, line.key_id) not in there:
            sentence = f"The signature of {line.name}, there at the last audit, is gone."
            report.add(cannot(MEMORY, sentence, file=where))
