"""Portable proofs, ``.tlog-proof``, as the C2SP draft tlog-proof defines them. Pure.

    c2sp.org/tlog-proof@v1
    extra <base64>                    may be left out; not covered by any signature
    index <n>
    <hash in base64>                  none or more: the leaf's sibling first, the root's child last
                                      (an empty line)
    <checkpoint, verbatim>            a note with the log's signature and its witnesses'

>>> print(Proof(2, (bytes(32),), "the note\\n").text, end="")
c2sp.org/tlog-proof@v1
index 2
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
<BLANKLINE>
the note
"""

import base64
import re
from dataclasses import dataclass
from typing import Final, Self

from indelible.errors import ProofMalformed, UnknownVersion
from indelible.ledger.format.note import strict_base64
from indelible.ledger.format.tree import HASH_SIZE

HEADER: Final = "c2sp.org/tlog-proof@v1"
MOST_HASHES: Final = 63

_OTHER_VERSION: Final = re.compile(r"c2sp\.org/tlog-proof@(v[0-9]+)", re.ASCII)
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Proof:
    """That a log has an entry at `index`; `checkpoint` is a note, `extra` is for the reader."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    @property
    def text(self) -> str:
        """The file."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(one).decode() for one in self.hashes]
        return "".join(f"{line}\n" for line in lines) + "\n" + self.checkpoint

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a file; nothing of it is verified yet.

        Raises:
            UnknownVersion: it is a proof of another version.
            ProofMalformed: it is cut short, or has a line that does not belong there.
        """
        head, separator, checkpoint = text.partition("\n\n")
        # More than there may be need not be cut apart: a file may be millions of short lines.
        version, *lines = head.split("\n", MOST_HASHES + 4)
        if version != HEADER:
            other = _OTHER_VERSION.fullmatch(version)
            if other is not None:
                raise UnknownVersion(f"The proof is of version {other[1]}")
            if version.strip("\ufeff\r") == HEADER:
                raise ProofMalformed(
                    "The proof was saved with Windows line endings or a byte order mark; save it"
                    " again, byte for byte"
                )
            raise ProofMalformed(f"A proof begins with the line {HEADER!r}")
        if not separator or not checkpoint:
            raise ProofMalformed("The proof is cut short: no empty line and checkpoint at its end")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = strict_base64(lines.pop(0).removeprefix("extra "))
            if extra is None:
                raise ProofMalformed("The line `extra` of the proof is not base64")
        match = _INDEX.fullmatch(lines[0]) if lines else None
        if match is None:
            raise ProofMalformed("The proof has no line `index` with a number where it belongs")
        if len(lines) - 1 > MOST_HASHES:
            raise ProofMalformed(f"The proof has more than {MOST_HASHES} hashes")
        hashes = tuple(_hash(line, number) for number, line in enumerate(lines[1:], start=1))
        return cls(int(match[1]), hashes, checkpoint, extra)


def _hash(line: str, number: int) -> bytes:
    value = strict_base64(line)
    if value is None or len(value) != HASH_SIZE:
        raise ProofMalformed(f"Hash {number} of the proof is not base64 of {HASH_SIZE} bytes")
    return value
