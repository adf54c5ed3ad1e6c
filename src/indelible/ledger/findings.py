"""What an audit has to say: findings, each with its gravity and its place. Pure."""

from dataclasses import dataclass
from enum import StrEnum


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
