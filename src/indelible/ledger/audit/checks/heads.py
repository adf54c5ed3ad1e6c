"""The signed heads of a log: its checkpoint, the note that witnesses cosigned, and its lock.

Each must have a valid signature of the log by a believed key, the witnessed note those of a quorum,
and the lock must say what its own note says. Whether they fit the events is for `roots`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from indelible.errors import NoteMalformed, SignatureMissing, SignatureWrong, Unverifiable
from indelible.layout import LOCK_FILE
from indelible.ledger.audit.findings import Report, cannot, tampered
from indelible.ledger.audit.known import Known, SignedHead
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.note import Note, parse_note, verified
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.verify import cosigned, log_keys

LOCK: Final = "lock"

_MOST_EVENTS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Head:
    """A verified checkpoint, and where it was read."""

    where: str
    checkpoint: Checkpoint
    note: Note
    witnesses: frozenset[str]

    @property
    def size(self) -> int:
        return self.checkpoint.size


@dataclass(frozen=True, slots=True)
class Heads:
    """All signed heads of a log; each is None where there is none that could be believed."""

    checkpoint: Head | None
    witnessed: Head | None
    lock: Head | None

    @property
    def basis(self) -> Head | None:
        """The one that everything else is compared with."""
        return self.checkpoint or self.lock or self.witnessed


def read_heads(
    note: str | None, witnessed: str | None, known: Known, policy: Policy | None, report: Report
) -> Heads:
    """Verify what is signed, each by itself."""
    head = _read(CHECKPOINT, note, policy, report)
    signed = _signed_head(known, report)
    if note is None and signed is None:
        _no_checkpoint(known, report)
    seen = _read(WITNESSED, witnessed, policy, report)
    if seen is not None and policy is not None:
        _check_quorum(seen, policy, report)
    lock = None if signed is None else _read_lock(signed, policy, report)
    heads = Heads(head, seen, lock)
    if head is None and heads.basis is not None:
        report.note(f"Compared with the checkpoint in {heads.basis.where} instead.")
    return heads


def _read(where: str, text: str | None, policy: Policy | None, report: Report) -> Head | None:
    """A checkpoint with a valid signature of its log; None, and a finding, if it is not."""
    if text is None:
        return None
    try:
        return _open(where, text, policy)
    except SignatureWrong as error:
        sentence = (
            f"{error.message}: it was altered after it was signed, or signed by somebody else."
        )
        report.add(tampered(where, sentence, file=where))
    except Unverifiable as error:
        report.add(cannot(where, f"{error.message}.", file=where))
    return None


def _open(where: str, text: str, policy: Policy | None) -> Head:
    if policy is None:
        raise Unverifiable("No policy says whose signature counts; name one with --policy")
    note, checkpoint, witnesses = _opened(text, policy)
    if checkpoint.size > _MOST_EVENTS:
        raise NoteMalformed(f"No log has {checkpoint.size:,} events")
    return Head(where, checkpoint, note, witnesses)


@lru_cache(maxsize=64)
def _opened(text: str, policy: Policy) -> tuple[Note, Checkpoint, frozenset[str]]:
    """A verified checkpoint and the witnesses that cosigned it, by their names in the policy.

    The note in `checkpoint` and the one in `witnessed` are often the same, and one that was
    verified stays so.

    Raises:
        SignatureWrong, SignatureMissing, NoteMalformed.
    """
    note = parse_note(text)
    # First what is signed at all: a known key whose signature does not fit is a failure, even
    # where what it signs is no checkpoint any more.
    signed = verified(note, log_keys(policy))
    witnesses = frozenset(one.witness for one in cosigned(note, policy))
    checkpoint = Checkpoint.parse(note.text)
    if not any(signature.name == checkpoint.origin for signature in signed):
        raise SignatureMissing(f"There is no signature of {checkpoint.origin} by a believed key")
    return note, checkpoint, witnesses


def _no_checkpoint(known: Known, report: Report) -> None:
    if report.is_about(CHECKPOINT):
        return
    if known.may_be_new:
        report.note("The log has no checkpoint yet: nothing of it was sealed.")
        return
    sentence = "There is no checkpoint: this is no log, or one of which nothing was sealed yet."
    report.add(cannot(CHECKPOINT, sentence, file=CHECKPOINT))


def _check_quorum(seen: Head, policy: Policy, report: Report) -> None:
    if policy.is_met(seen.witnesses):
        return
    said = ", ".join(sorted(seen.witnesses)) or "none"
    sentence = f"The quorum {policy.quorum!r} is not met: of its witnesses {said} cosigned."
    report.add(cannot(WITNESSED, sentence, file=WITNESSED))


def _signed_head(known: Known, report: Report) -> SignedHead | None:
    try:
        return None if known.lock is None else known.lock()
    except Unverifiable as error:
        report.add(cannot(LOCK, f"{error.message}.", file=LOCK_FILE))
        return None


def _read_lock(lock: SignedHead, policy: Policy | None, report: Report) -> Head | None:
    head = _read(LOCK_FILE, lock.note, policy, report)
    if head is not None and (head.size, head.checkpoint.root) != (lock.size, lock.root):
        sentence = "Its size or root is not that of its own note."
        report.add(tampered(LOCK, sentence, file=LOCK_FILE))
    return head
