"""The keys of ids: what stands for an id where the id itself must not be. Pure.

A key is a keyed hash under a subkey of the project, so it is the same in every process and after a
rebuild, and differs between projects. Decisions of the log hold keys only: who has the log but not
the journal's secret can't find out which id a key is of by trying ids.
"""

import hashlib
from typing import Final

USE: Final = "identity"
"""What the project's subkey is for: see `indelible.journal.contract.JournalReader.subkey`."""

KEY_BYTES: Final = 16

_blake2b = hashlib.blake2b


def key_of(distinct_id: str, subkey: bytes) -> bytes:
    """The 16 bytes that stand for an id, under a subkey of 32 bytes.

    >>> key_of("u1", bytes(32)).hex()
    '95526d1fde5778793adfb81d2a3c41bc'
    >>> key_of("U1", bytes(32)) == key_of("u1", bytes(32))
    False
    """
    # A lone surrogate can be asked for, but not stored: its bytes are those of no text.
    text = distinct_id.encode("utf-8", "surrogatepass")
    return _blake2b(text, digest_size=KEY_BYTES, key=subkey).digest()
