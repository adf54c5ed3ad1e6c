"""The log, the witness and the notes that docs and tests work out by hand, and ways to spoil them.

The log's seed is the bytes 00 to 1f, its leaves the ASCII decimals 0, 1, …; the witness's seed is
32 times the byte 01.
"""

from collections.abc import Iterator

from hypothesis import strategies as st

from indelible.errors import Tampered, Unverifiable
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.note import Signer
from indelible.ledger.format.tree import leaf_hash, root_of

ORIGIN = "log.example/indelible"
SIGNER = Signer(ORIGIN, bytes(range(32)))
COSIGNER = Cosigner("witness.example/w1", b"\x01" * 32)
COSIGNED_AT_S = 1_700_000_000

LEAVES = [leaf_hash(str(i).encode()) for i in range(7)]
CHECKPOINT = Checkpoint(ORIGIN, 3, root_of(LEAVES[:3]))

LOG_VKEY = "log.example/indelible+2dd4226a+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
WITNESS_VKEY = "witness.example/w1+0ad7d35e+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"

LOG_LINE = (
    "— log.example/indelible LdQiau7I1XV2F2b7o/kZItVnmxMLsSJueGSYhEw3q5HBYhE2jBemci4N/kpRt9LV"
    "hhSN8tTWcDHWhOh+TApuLehRFgI=\n"
)
WITNESS_LINE = (
    "— witness.example/w1 CtfTXgAAAABlU/EAcaZH1nVlelMVO+RVeua0dvCRoVP5PHtvsVBOSGfxIZMx/sLw3rvI"
    "Dv4cW6rSEiiHVSytHG/ILdv6NykM1yCMAQ==\n"
)
TEXT = "log.example/indelible\n3\ncl1SMNto9VdHDcNfHYhlgTrNfrsHrRUndBQd7LrnEyc=\n"
NOTE = f"{TEXT}\n{LOG_LINE}"
COSIGNED = NOTE + WITNESS_LINE


TREATED = (Unverifiable, Tampered)
"""All that a reader of these formats ever raises, whatever it is given."""

FUZZ = st.text(st.characters(), max_size=300)
"""Any text, surrogates that stand alone included."""


def cuts(text: str) -> Iterator[str]:
    """`text` as UTF-8, cut off before each of its bytes."""
    content = text.encode()
    return (content[:end].decode("utf-8", "replace") for end in range(len(content)))


def flips(text: str) -> Iterator[str]:
    """`text` as UTF-8, with one of its bits flipped, each in turn."""
    content = text.encode()
    for at in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            yield changed.decode("utf-8", "replace")


def pieces(text: str, *more: str) -> st.SearchStrategy[str]:
    """Texts made of the lines and items of `text`, of `more`, and of what separates them."""
    known = {*text.split("\n"), *text.split(), *more, " ", "\n", "\n\n", "+", "— ", "0", "="}
    return st.lists(st.sampled_from(sorted(known)), max_size=30).map("".join)
