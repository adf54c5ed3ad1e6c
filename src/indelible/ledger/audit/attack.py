"""Forging a log in every known way, on a copy, to see who notices.

The forger here is the operator: it has the log's own key, the journal, the lock and every file, and
makes all of them agree where it can. What it does not have is what others keep: the head that an
auditor saw, the receipt of a customer, the memory of witnesses. A forgery that none but those can
notice is the reason why they exist.

    audit          an auditor who sees the data folder for the first time
    saved head     an auditor who had audited the log just before the forgery
    receipt        a customer's receipt, from when the log had half of its events, held against it
    witnesses      a witness that had cosigned the log, asked to cosign what it became

Each column has what the audit alone has, and something besides.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from indelible.clock import now_ms
from indelible.errors import IndelibleError, NotAttackable
from indelible.ledger.audit.forgeable import Copy
from indelible.ledger.audit.forgeries import Forgery, forgeries_of
from indelible.ledger.audit.memory import Memory, Remembered
from indelible.ledger.audit.whole import Audit
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import POLICY
from indelible.ledger.format.note import Signer, parse_note
from indelible.ledger.format.policy import KnownLog, Policy
from indelible.ledger.format.tile import TileHashes
from indelible.ledger.format.tree import prove_consistency
from indelible.ledger.witness.request import request_body
from indelible.ledger.witness.rules import Witness
from indelible.ledger.witness.store import create, read_key

FEWEST_EVENTS: Final = 8

AuditFolder = Callable[[Path, Memory | None], Audit]
"""Audits the log under attack in the data folder at a path, with what an auditor remembers."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One forgery: who noticed it, who had to, and what the first of them said."""

    forgery: str
    noticed: frozenset[str]
    must: frozenset[str]
    said: str

    @property
    def missed(self) -> frozenset[str]:
        """Who had to notice it, and did not."""
        return self.must - self.noticed


@dataclass(frozen=True, slots=True)
class _Kept:
    """What others have of the honest log: an auditor's head, a receipt's head, a witness."""

    memory: Path
    receipt: Path
    witness: Path
    signer: Signer
    size: int


def attack(source: Copy, workspace: Path, audit: AuditFolder) -> list[Attempt]:
    """Forge copies of `source`, itself a copy, in `workspace`, and see who notices.

    Raises:
        NotAttackable: it has too few events, or is not sound to begin with.
    """
    size = source.checkpoint.size
    if size < FEWEST_EVENTS:
        raise NotAttackable(
            f"The log {source.log} has {size} sealed events; {FEWEST_EVENTS} are needed to cut,"
            " swap and rewrite some"
        )
    honest = audit(source.folder, Memory(workspace / "saved"))
    if honest.findings:
        raise NotAttackable(
            f"The log {source.log} is not sound to begin with: {honest.findings[0].sentence}",
            hint="Run `indelible audit` on it.",
        )
    kept = _Kept(
        memory=workspace / "saved",
        receipt=workspace / "receipt",
        witness=workspace / "witness",
        signer=source.signer,
        size=size,
    )
    _keep_receipt(source, kept)
    _keep_witness(source, kept)
    attempts = []
    for number, forgery in enumerate(forgeries_of(source)):
        copy = source.again(workspace / f"forgery-{number}")
        forgery.forge(copy)
        attempts.append(_judge(forgery, copy, kept, audit))
        shutil.rmtree(copy.folder)
    return attempts


def _judge(forgery: Forgery, copy: Copy, kept: _Kept, audit: AuditFolder) -> Attempt:
    """Who notices that this copy is forged."""
    said = ""
    noticed = set()
    folders = {"audit": None, "saved head": kept.memory, "receipt": kept.receipt}
    for column, memory in folders.items():
        remembered = None if memory is None else Memory(_fresh(memory, copy))
        findings = audit(copy.folder, remembered).findings
        if findings:
            noticed.add(column)
            said = said or f"{findings[0].place}: {findings[0].sentence}".removeprefix(": ")
    refused = _ask(copy, _fresh(kept.witness, copy), kept.signer, old=kept.size)
    if refused is not None:
        said = said or f"A witness: {refused}"
    if refused is not None or "audit" in noticed:
        noticed.add("witnesses")
    return Attempt(forgery.name, frozenset(noticed), forgery.must, said)


def _fresh(memory: Path, copy: Copy) -> Path:
    """What somebody remembers, so that a clean audit of a forgery does not replace it."""
    there = copy.folder.with_name(f"{copy.folder.name}-{memory.name}")
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(memory, there)
    return there


# What others keep


def _keep_receipt(source: Copy, kept: _Kept) -> None:
    """The head in the receipt that a customer fetched when the log had half of its events."""
    size = source.checkpoint.size // 2
    root = source.root(size)
    published = source.tiles.published(POLICY)
    head = Remembered(
        origin=source.signer.key.name,
        size=size,
        root=root,
        checkpoint=source.sign(size, root),
        witnessed=None,
        policy=published or Policy((KnownLog(source.signer.key),), quorum=None).text,
        published_policy=published,
        at_ms=now_ms(),
    )
    Memory(kept.receipt).keep(head)


def _keep_witness(source: Copy, kept: _Kept) -> None:
    """A witness that has cosigned the honest log."""
    create(kept.witness, "witness.example/attack")
    refusal = _ask(source, kept.witness, source.signer, old=0)
    if refusal is not None:
        raise NotAttackable(f"A witness refuses the log as it is: {refusal}")


def _ask(copy: Copy, folder: Path, signer: Signer, *, old: int) -> str | None:
    """Ask a witness to cosign what is published; why it does not, None when it does."""
    note = copy.note
    proof: Sequence[bytes] = ()
    with suppress(IndelibleError):  # then there is none, and the witness says so
        checkpoint = Checkpoint.parse(parse_note(note).text)
        proof = prove_consistency(
            TileHashes(copy.tiles.read, checkpoint.size), old, checkpoint.size
        )
    witness = Witness(folder, [signer.key], read_key(folder), now_ms)
    try:
        answer = witness.add_checkpoint(request_body(old, proof, note).encode())
    finally:
        witness.close()
    return None if answer.status == HTTPStatus.OK else f"{answer.status} {answer.body.strip()}"
