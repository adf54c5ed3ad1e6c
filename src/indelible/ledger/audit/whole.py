"""Computing a whole log again, and comparing it with everything that speaks of it.

In this order: whose signature counts; the signed notes; the events, against bundles, tiles and
journal; the tiles above; the roots, of the checkpoint, of the witnessed note, of the lock and of
what this auditor saw before; the erasures; and every file that lies in the log's folder besides.
Each check is a module of `indelible.ledger.audit.checks`.

A finding is *tampered* or *cannot be checked*, and has a place. The first outweighs the second.
Needs nothing but `cryptography`; a journal is handed in by whoever can open one.
"""

from dataclasses import dataclass

from indelible.ledger.audit.checks.belief import believe, read_own
from indelible.ledger.audit.checks.computed import Computed, Progress, compute
from indelible.ledger.audit.checks.erasures import check_erasures
from indelible.ledger.audit.checks.files import Besides, besides, name_strays, read_note
from indelible.ledger.audit.checks.heads import Heads, read_heads
from indelible.ledger.audit.checks.levels import check_ahead, check_levels
from indelible.ledger.audit.checks.ranges import Range
from indelible.ledger.audit.checks.remembered import check_remembered, recall, remember
from indelible.ledger.audit.checks.roots import check_heads, check_root
from indelible.ledger.audit.checks.rows import count_stored
from indelible.ledger.audit.findings import Finding, Gravity, Report
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Remembered
from indelible.ledger.audit.sources import Source
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.verify import Verdict


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it.

    Attributes:
        source: where the log was read.
        origin, size, root: of the checkpoint that everything was compared with; None: there is no
            checkpoint that could be believed.
        believed: whose word was taken for the log's key, in a sentence.
        findings: what is not as it should be, the tampered ones first.
        notes: what else is worth knowing; nothing is wrong with it.
        events, tiles: how many were looked at.
        unsealed: of the events, those that no checkpoint covers yet.
        erased: of the events, those whose payload was erased, as a later event says.
        with_journal: whether the journal was compared.
    """

    source: str
    origin: str | None
    size: int
    root: bytes | None
    believed: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    events: int
    tiles: int
    unsealed: int
    erased: int
    with_journal: bool

    @property
    def verdict(self) -> Verdict:
        """Tampered if one finding says so; else unverifiable if there is any; else verified."""
        gravities = {finding.gravity for finding in self.findings}
        if Gravity.TAMPERED in gravities:
            return Verdict.TAMPERED
        return Verdict.UNVERIFIABLE if gravities else Verdict.VERIFIED


def audit_log(
    source: Source,
    known: Known | None = None,
    *,
    processes: int = 1,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> Audit:
    """Check a whole log. Whatever is wrong is in the findings; it never raises for it.

    `processes`: how many to start for a large log. They import the caller's main module, which
    must not do its work on import. `deadline`: when to stop, by the monotonic clock; what was not
    looked at by then cannot be checked.

    Raises:
        OSError, SyncFailed: the log is sound, and that could not be remembered.
    """
    known = known or Known()
    report = Report()
    # `witnessed` before `checkpoint` before the lock before the journal: each may only be ahead of
    # the one before it while a server goes on sealing.
    witnessed = read_note(source, WITNESSED, report)
    published = read_note(source, POLICY, report)
    note = read_note(source, CHECKPOINT, report)

    own = read_own(published, known, report)
    remembered = recall(known, note, own, report)
    belief = believe(known, remembered, own, published, report)
    heads = read_heads(note, witnessed, known, None if belief is None else belief.policy, report)
    basis = heads.basis
    size = 0 if basis is None else basis.size

    lying = besides(source, size, report)
    whole = _whole(source, known, heads, remembered, lying, report)
    log = compute(whole, report, processes=processes, progress=progress, deadline=deadline)
    _check_tiles_above(source, log, heads, lying, report)
    if basis is not None:
        check_root(basis, log, remembered, report)
        check_heads(heads, basis, log, report)
        name_strays(lying.strays, report)
    if remembered is not None:
        check_remembered(remembered, basis, heads.witnessed, log, report)
    erased = 0 if known.journal is None else check_erasures(known.journal, log, report)

    if not report.findings and basis is not None and basis.where != WITNESSED:
        assert belief is not None
        if known.memory is not None:
            remember(known.memory, basis, heads.witnessed, belief, published)
    return Audit(
        source=source.name,
        origin=None if basis is None else basis.checkpoint.origin,
        size=size,
        root=None if basis is None else basis.checkpoint.root,
        believed=None if belief is None else belief.why,
        findings=report.in_order(),
        notes=tuple(report.notes),
        events=log.events,
        tiles=log.tiles,
        unsealed=max(0, log.stored - size),
        erased=erased,
        with_journal=known.journal is not None,
    )


def _whole(
    source: Source,
    known: Known,
    heads: Heads,
    remembered: Remembered | None,
    lying: Besides,
    report: Report,
) -> Range:
    """All events, and the sizes at which their root will be asked for."""
    size = 0 if heads.basis is None else heads.basis.size
    stored = count_stored(known.journal, size, report)
    signed = {head.size for head in (heads.witnessed, heads.lock, remembered) if head is not None}
    return Range(
        source=source,
        journal=known.journal,
        start=0,
        end=max(size, stored),
        size=size,
        stored=stored,
        cuts=tuple(cut for cut in signed if cut < size),
        copies=tuple(tile for tile in lying.copies if tile.level <= 0),
    )


def _check_tiles_above(
    source: Source, log: Computed, heads: Heads, lying: Besides, report: Report
) -> None:
    if not log.is_whole:
        return
    check_levels(source, log, [tile for tile in lying.copies if tile.level > 0], report)
    if heads.basis is not None:
        check_ahead(source, log, lying.ahead, report)
