"""Checking a receipt, offline: the four steps of tlog-proof, each explained in words. Pure.

    leaf         what the receipt discloses is what its leaf commits to
    log          a log that the policy names signed the checkpoint
    witnesses    the witnesses that the policy asks for have seen this checkpoint
    inclusion    the leaf is in the tree that the checkpoint is of

A step has *failed* when it was made and what it compared differs: the receipt is *tampered*. It
*cannot be checked* when something that it needs is missing, unreadable, of an unknown version or
by an unknown log: that says nothing about the receipt, which is *unverifiable*. A failed step
outweighs one that cannot be checked.

A receipt is believed for what its steps say and for nothing else; `Verification` has its facts in
any verdict, so that a person can see what the receipt claims.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from indelible import leaf as leaves
from indelible.errors import (
    LeafMalformed,
    ProofMalformed,
    SignatureMissing,
    SignatureWrong,
    Tampered,
    Unverifiable,
)
from indelible.event import tx_text
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import time_of
from indelible.ledger.format.note import LogKey, Note, parse_note, verified
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tree import check_inclusion, leaf_hash


class Outcome(StrEnum):
    """What came of one step."""

    OK = "ok"
    FAILED = "failed"
    CANNOT = "cannot be checked"


class Verdict(StrEnum):
    """What came of the whole."""

    VERIFIED = "verified"
    TAMPERED = "tampered"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `sentence` says what was compared and what it means."""

    name: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A witness of the policy, and when it saw the checkpoint, in seconds since the epoch."""

    witness: str
    at_s: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The steps in their order, the verdict, and what the receipt says of its event.

    The facts are the receipt's own claims; None where it makes none, or none that can be read.
    `payload` and `record` are None too once the event has been erased. `witnesses` have each
    cosigned the checkpoint, verified, and are those of the policy.
    """

    steps: tuple[Step, ...]
    origin: str | None = None
    index: int | None = None
    size: int | None = None
    tx_id: str | None = None
    kind: str | None = None
    received_at_ms: int | None = None
    payload: bytes | None = None
    record: bytes | None = None
    witnesses: tuple[Seen, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Tampered if a step failed; else unverifiable if one cannot be checked; else verified."""
        outcomes = {step.outcome for step in self.steps}
        if Outcome.FAILED in outcomes:
            return Verdict.TAMPERED
        return Verdict.UNVERIFIABLE if Outcome.CANNOT in outcomes else Verdict.VERIFIED


_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")  # the byte order marks

RECEIPT: Final = "receipt"
LEAF: Final = "leaf"
LOG: Final = "log"
WITNESSES: Final = "witnesses"
INCLUSION: Final = "inclusion"


def verify_receipt(text: str | bytes, policy: Policy) -> Verification:
    """Check the receipt `text`, a whole `.tlog-proof` file, against `policy`. Never raises.

    A file that is no receipt at all has the one step `receipt`; any other has the four above.
    """
    try:
        proof = Proof.parse(_decoded(text))
    except Unverifiable as error:
        return Verification((Step(RECEIPT, Outcome.CANNOT, f"{error.message}."),))
    checking = _Checking(proof, policy)
    checking.run()
    return checking.result()


def _decoded(text: str | bytes) -> str:
    try:
        if isinstance(text, str):
            text.encode()  # half a surrogate pair cannot have been signed
            return text
        return text.decode("utf-8")
    except UnicodeEncodeError as error:
        raise ProofMalformed(f"Character {error.start} is no character of Unicode") from None
    except UnicodeDecodeError as error:
        if text[:2] in _UTF_16:
            raise ProofMalformed(
                "The file is UTF-16, as PowerShell's > writes it; save it again, byte for byte"
            ) from None
        raise ProofMalformed(f"Byte {error.start} of the file is not UTF-8") from None


@dataclass(slots=True)
class _Checking:
    """The steps as they are made."""

    proof: Proof
    policy: Policy
    steps: list[Step] = field(default_factory=list)
    opening: Opening | None = None
    leaf: leaves.Leaf | None = None
    note: Note | None = None
    checkpoint: Checkpoint | None = None
    seen: tuple[Seen, ...] = ()

    def run(self) -> None:
        self._step(LEAF, self._check_leaf)
        self._step(LOG, self._check_log)
        self._step(WITNESSES, self._check_witnesses)
        self._step(INCLUSION, self._check_inclusion)

    def result(self) -> Verification:
        opening, held, checkpoint = self.opening, self.leaf, self.checkpoint
        return Verification(
            steps=tuple(self.steps),
            origin=None if checkpoint is None else checkpoint.origin,
            index=self.proof.index,
            size=None if checkpoint is None else checkpoint.size,
            tx_id=None if held is None else tx_text(held.tx),
            kind=None if held is None else held.kind.word,
            received_at_ms=None if held is None else held.received_at_ms,
            payload=None if opening is None else opening.payload,
            record=None if opening is None else opening.record,
            witnesses=self.seen,
        )

    def _step(self, name: str, check: Callable[[], str]) -> None:
        """Make one step; `check` returns its sentence, or raises what came of it."""
        try:
            step = Step(name, Outcome.OK, check())
        except Tampered as error:
            step = Step(name, Outcome.FAILED, error.message)
        except (Unverifiable, LeafMalformed) as error:
            step = Step(name, Outcome.CANNOT, _sentence(error.message))
        self.steps.append(step)

    def _check_leaf(self) -> str:
        if self.proof.extra is None:
            raise Unverifiable(
                "The receipt discloses no event: it has no line `extra`, so there is no leaf to"
                " compute a hash from."
            )
        self.opening = opening = Opening.decode(self.proof.extra)
        self.leaf = leaves.decode(opening.leaf_entry)
        wrong = opening.wrong_commitments()
        if wrong:
            raise Tampered(
                f"The commitment to the {' and to the '.join(wrong)} was computed again and is not"
                " the one in the leaf: what the receipt shows is not what was recorded."
            )
        if opening.erased:
            return (
                "The receipt discloses its leaf alone, as that of an erased event does: there is no"
                " payload or record to compare with it."
            )
        return (
            "The commitments to payload and record were computed again and are those in the leaf:"
            " what the receipt shows is what the leaf stands for."
        )

    def _check_log(self) -> str:
        # The text first: a signature by a known key that does not fit is a failure, even where
        # what it signs is no checkpoint any more.
        self.note = note = parse_note(self.proof.checkpoint)
        keys = log_keys(self.policy)
        unreadable, self.checkpoint = _read(note)
        try:
            signed = verified(note, keys)
        except SignatureWrong as error:
            raise SignatureWrong(
                f"{error.message}: it was altered after it was signed, or signed by somebody else."
            ) from None
        if self.checkpoint is None:
            assert unreadable is not None
            raise unreadable
        origin = self.checkpoint.origin
        if not any(key.name == origin for key in keys):
            raise SignatureMissing(f"The policy names no log {origin}, which the receipt is from.")
        if not any(signature.name == origin for signature in signed):
            raise SignatureMissing(
                f"The checkpoint has no signature by the key that the policy names for {origin}."
            )
        return (
            f"The signature of {origin} was verified: it said that at {self.checkpoint.size:,}"
            " events its tree had this root."
        )

    def _check_witnesses(self) -> str:
        if self.note is None:
            raise Unverifiable("There is no readable checkpoint that witnesses could have signed.")
        self.seen = seen = cosigned(self.note, self.policy)
        names = ", ".join(one.witness for one in seen) or "none"
        if not self.policy.is_met({one.witness for one in seen}):
            raise Unverifiable(
                f"The policy asks for the quorum {self.policy.quorum!r}; of its witnesses"
                f" {names} cosigned, which is not enough."
            )
        if self.policy.quorum is None:
            return f"The policy asks for no witness; of those that it names {names} cosigned."
        return (
            f"Cosigned by {names}, which meets the quorum {self.policy.quorum!r}: each said that"
            " this was a continuation of what it had seen before."
        )

    def _check_inclusion(self) -> str:
        if self.opening is None or self.checkpoint is None:
            lacking = "leaf" if self.opening is None else "checkpoint"
            raise Unverifiable(
                f"There is no readable {lacking} to lead the hashes of the proof to."
            )
        index, size = self.proof.index, self.checkpoint.size
        entry = leaf_hash(self.opening.leaf_entry)
        if not check_inclusion(index, size, entry, self.proof.hashes, self.checkpoint.root):
            raise Tampered(
                f"From this leaf at index {index:,} the {len(self.proof.hashes)} hashes of the"
                " proof do not lead to the checkpoint's root: the leaf, its place or a hash is"
                " another than the log's."
            )
        return (
            f"From this leaf at index {index:,} the {len(self.proof.hashes)} hashes of the proof"
            f" lead to the checkpoint's root: it is in the tree of {size:,} events."
        )


def cosigned(note: Note, policy: Policy) -> tuple[Seen, ...]:
    """The witnesses of `policy` that have cosigned `note`, in the order of the policy.

    Raises:
        SignatureWrong: a cosignature by one of them does not fit.
    """
    return tuple(
        Seen(witness.name, time_of(signature))
        for witness in policy.witnesses
        for signature in verified(note, [witness.key])
    )


def log_keys(policy: Policy) -> list[LogKey]:
    """The keys of the logs that `policy` names."""
    return [log.key for log in policy.logs]


def _read(note: Note) -> tuple[Unverifiable | None, Checkpoint | None]:
    """The checkpoint in a note, or why there is none."""
    try:
        return None, Checkpoint.parse(note.text)
    except Unverifiable as error:
        return error, None


def _sentence(message: str) -> str:
    """A message as a sentence: with a capital letter and a full stop."""
    return f"{message[:1].upper()}{message[1:]}{'' if message.endswith('.') else '.'}"
