"""Checkpoints as C2SP tlog-checkpoint 1.0.0 defines them: how long a log is, and its root. Pure.

The text of the note is the log's origin, its size in decimal and its root in base64, a line each;
lines behind them are extensions, which we never write. The name of the log's key is the origin.

>>> from indelible.ledger.format.note import Signer
>>> from indelible.ledger.format.tree import leaf_hash, root_of
>>> root = root_of([leaf_hash(str(i).encode()) for i in range(3)])
>>> signer = Signer("log.example/indelible", bytes(range(32)))
>>> print(signer.sign(Checkpoint("log.example/indelible", 3, root).text), end="")
log.example/indelible
3
cl1SMNto9VdHDcNfHYhlgTrNfrsHrRUndBQd7LrnEyc=
<BLANKLINE>
— log.example/indelible LdQiau7I1XV2F2b7o/kZItVnmxMLsSJueGSYhEw3q5HBYhE2jBemci4N/kpRt9LVhhSN8tTWcDHWhOh+TApuLehRFgI=
"""  # noqa: E501 — a signature is longer than a line

import base64
from dataclasses import dataclass
from typing import Final, Self

from indelible.errors import NoteMalformed
from indelible.ledger.format.note import strict_base64
from indelible.ledger.format.tree import HASH_SIZE

_MOST_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself at one size."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text of the note."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode())
        return "".join(f"{line}\n" for line in (*lines, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note.

        Raises:
            NoteMalformed: it is not the text of a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise NoteMalformed("A checkpoint has an origin, a size and a root, a line each")
        origin, size, packed, *extensions = lines
        if not origin:
            raise NoteMalformed("A checkpoint begins with its log's origin")
        if not _is_decimal(size):
            raise NoteMalformed("The size of a checkpoint is a decimal without leading zeros")
        root = strict_base64(packed)
        if root is None or len(root) != HASH_SIZE:
            raise NoteMalformed(f"The root of a checkpoint is base64 of {HASH_SIZE} bytes")
        if not all(extensions):
            raise NoteMalformed("An extension line of a checkpoint is not empty")
        return cls(origin, int(size), root, tuple(extensions))


def _is_decimal(text: str) -> bool:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        return False
    return text == "0" or not text.startswith("0")
