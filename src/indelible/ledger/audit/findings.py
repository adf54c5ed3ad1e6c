"""What an audit has to say: findings, each with its gravity and its place. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_FINDINGS: Final = 1_000
"""Nobody reads more; a range stops here, and the audit soon after."""


class Gravity(StrEnum):
    """What a finding means. The two are never confused."""

    TAMPERED = "tampered"
    """A check was made, and what it compared differs."""
    CANNOT = "cannot be checked"
    """Something is missing, unreadable or unknown here; that says nothing about the rest."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, and where.

    Attributes:
        check: the name of the check that found it.
        sentence: what was compared, and what it means.
        file: the file below the log's folder, or the part of the data folder, that it is about.
        number: which hash, entry or byte of that file, from 0.
        index: which event of the log.
        tx_id: that event's transaction id.
    """

    gravity: Gravity
    check: str
    sentence: str
    file: str | None = None
    number: int | None = None
    index: int | None = None
    tx_id: str | None = None

    @property
    def place(self) -> str:
        """Where, in a few words; empty when it is about the whole log."""
        parts = []
        if self.index is not None:
            parts.append(f"index {self.index}")
        if self.tx_id is not None:
            parts.append(self.tx_id)
        if self.file is not None:
            parts.append(self.file)
        if self.number is not None:
            parts.append(f"no. {self.number}")
        return ", ".join(parts)


def tampered(
    check: str,
    sentence: str,
    *,
    file: str | None = None,
    number: int | None = None,
    index: int | None = None,
    tx_id: str | None = None,
) -> Finding:
    """A check that failed."""
    return Finding(Gravity.TAMPERED, check, sentence, file, number, index, tx_id)


def cannot(
    check: str,
    sentence: str,
    *,
    file: str | None = None,
    number: int | None = None,
    index: int | None = None,
    tx_id: str | None = None,
) -> Finding:
    """A check that could not be made."""
    return Finding(Gravity.CANNOT, check, sentence, file, number, index, tx_id)


class Report:
    """What the checks of one audit have to say, as they go on.

    Attributes:
        findings: what is not as it should be.
        notes: what else is worth knowing; nothing is wrong with it.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.notes: list[str] = []

    def add(self, *findings: Finding) -> None:
        """Say what is wrong."""
        self.findings += findings

    def note(self, sentence: str) -> None:
        """Say something that is not wrong."""
        self.notes.append(sentence)

    def is_about(self, file: str) -> bool:
        """Whether anything that is wrong is in this file."""
        return any(one.file == file for one in self.findings)

    def in_order(self) -> tuple[Finding, ...]:
        """Each finding once, the tampered ones first, then by place."""

        def key(finding: Finding) -> tuple[bool, bool, int, str, int]:
            return (
                finding.gravity is not Gravity.TAMPERED,
                finding.index is None,
                finding.index or 0,
                finding.file or "",
                finding.number or 0,
            )

        return tuple(sorted(dict.fromkeys(self.findings), key=key))[:MOST_FINDINGS]
