"""A request to add a checkpoint: a line ``old <size>``, hashes, an empty line, a checkpoint. Pure.

The hashes, one a line in base64 and at most 63, prove that the tree of `old` leaves is the
beginning of the checkpoint's tree.
"""

import base64
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from indelible.errors import NoteMalformed
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import Note, parse_note, strict_base64
from indelible.ledger.format.tree import HASH_SIZE

MOST_BODY_BYTES: Final = 64 * 1024
MOST_HASHES: Final = 63
LARGEST_SIZE: Final = 2**63 - 1  # what SQLite can hold

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


class Request(NamedTuple):
    old: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint


def request_body(old: int, proof: Sequence[bytes], note: str) -> str:
    """The request to add `note`, given the proof from `old` to its size."""
    hashes = "".join(f"{base64.b64encode(one).decode()}\n" for one in proof)
    return f"old {old}\n{hashes}\n{note}"


def parse_request(body: bytes) -> Request | None:
    """The request in a body, or None if it is malformed."""
    try:
        head, separator, text = body.decode("utf-8").partition("\n\n")
        note = parse_note(text)
        checkpoint = Checkpoint.parse(note.text)
    except (UnicodeDecodeError, NoteMalformed):
        return None
    first, *lines = head.split("\n")
    old = _OLD.fullmatch(first)
    proof = [strict_base64(line) for line in lines]
    if not separator or old is None or len(proof) > MOST_HASHES:
        return None
    hashes = tuple(one for one in proof if one is not None and len(one) == HASH_SIZE)
    if len(hashes) != len(proof) or max(int(old[1]), checkpoint.size) > LARGEST_SIZE:
        return None
    return Request(int(old[1]), hashes, note, checkpoint)
