"""Cosignatures as C2SP tlog-cosignature 1.0.1 defines them, version 1 (key type 0x04). Pure.

A witness signs the line ``cosignature/v1``, the line ``time <seconds>`` and the whole text of a
checkpoint. It says: at that time this was the largest consistent tree that I had seen for this
origin. What follows the key id in its line is the time, u64 big-endian, and the signature.

>>> from indelible.ledger.format.checkpoint import Checkpoint
>>> from indelible.ledger.format.tree import leaf_hash, root_of
>>> root = root_of([leaf_hash(str(i).encode()) for i in range(3)])
>>> text = Checkpoint("log.example/indelible", 3, root).text
>>> cosigner = Cosigner("witness.example/w1", b"\\x01" * 32)
>>> cosigner.key.text
'witness.example/w1+0ad7d35e+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c'
>>> signature = cosigner.cosign(text, 1700000000)
>>> print(signature.line, end="")
— witness.example/w1 CtfTXgAAAABlU/EAcaZH1nVlelMVO+RVeua0dvCRoVP5PHtvsVBOSGfxIZMx/sLw3rvIDv4cW6rSEiiHVSytHG/ILdv6NykM1yCMAQ==
>>> cosigner.key.verify(text, signature.payload), time_of(signature)
(True, 1700000000)
"""  # noqa: E501 — a signature is longer than a line

import os
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from indelible.ledger.format.note import (
    COSIGNATURE,
    PublicKey,
    Signature,
    check_name,
    is_signed,
    parse_private,
    private_text,
)

_TIME_SIZE: Final = 8
_PAYLOAD_SIZE: Final = _TIME_SIZE + 64
_SEED_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class WitnessKey(PublicKey):
    """The key of a witness: it signs the text of a checkpoint, and a time."""

    kinds = (COSIGNATURE,)

    def verify(self, text: str, payload: bytes) -> bool:
        if len(payload) != _PAYLOAD_SIZE:
            return False
        at_s = int.from_bytes(payload[:_TIME_SIZE], "big")
        return is_signed(self.public, payload[_TIME_SIZE:], message(text, at_s))


class Cosigner:
    """The private half of a `WitnessKey`; `seed` is 32 bytes."""

    def __init__(self, name: str, seed: bytes) -> None:
        check_name(name)
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = WitnessKey(name, COSIGNATURE, self._private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Self:
        """A new key."""
        return cls(name, os.urandom(_SEED_SIZE))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote.

        Raises:
            KeyMalformed: it is something else. The message repeats nothing of it.
        """
        return cls(*parse_private(text, COSIGNATURE))

    @property
    def text(self) -> str:
        """The private key in one line. Keep it secret."""
        return private_text(self.key, self._seed)

    def cosign(self, text: str, at_s: int) -> Signature:
        """The cosignature of a checkpoint's text; `at_s` is in seconds since the epoch."""
        signed = self._private.sign(message(text, at_s))
        payload = at_s.to_bytes(_TIME_SIZE, "big") + signed
        return Signature(self.key.name, self.key.key_id, payload)


def message(text: str, at_s: int) -> bytes:
    """What a witness signs."""
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def time_of(signature: Signature) -> int:
    """The time in a verified cosignature, in seconds since the epoch."""
    return int.from_bytes(signature.payload[:_TIME_SIZE], "big")
