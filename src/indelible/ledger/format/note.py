"""Signed notes as C2SP signed-note 1.0.0 defines them, with Ed25519 keys (type 0x01). Pure.

    note = text, an empty line, and at least one signature line
    text = UTF-8, ends in LF, no control character below U+0020 but LF
    line = "— " name " " base64(key id || signature) LF          (the dash is U+2014)

The text may hold empty lines: the last one separates. A key has a name (not empty, no space, no
plus) and an id, the first four bytes of ``SHA-256(name || LF || type || public key)``. In one line:
``<name>+<key id in hex>+<base64(type || public key)>``.

>>> signer = Signer("log.example/indelible", bytes(range(32)))
>>> signer.key.text
'log.example/indelible+2dd4226a+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4'
>>> signed = signer.sign("a text\\n")
>>> open_note(signed, [signer.key]).text
'a text\\n'

A signature line whose name and id are not both known is passed over, even if one of them is known.
One by a known key that does not fit spoils the whole note. At most 64 lines are read.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from indelible.errors import KeyMalformed, NoteMalformed, SignatureMissing, SignatureWrong

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
MOST_SIGNATURES: Final = 64  # the format obliges a verifier to accept 16
MOST_NOTE_BYTES: Final = 256 * 1024
"""The longest note that is read: room for 64 signatures of a size that is yet to come."""

_DASH: Final = "— "  # U+2014
_ID_SIZE: Final = 4
_KEY_SIZE: Final = 32
_SIGNATURE_SIZE: Final = 64
_PRIVATE: Final = "PRIVATE+KEY"
_SPACE: Final = re.compile(r"\s")
# A surrogate that stands alone is no UTF-8, so nobody can have signed it.
_NOT_IN_TEXT: Final = re.compile("[^\n\x20-\ud7ff\ue000-\U0010ffff]")


class Signature(NamedTuple):
    """One signature line: who says so, and what follows the key id."""

    name: str
    key_id: bytes
    payload: bytes

    @property
    def line(self) -> str:
        """The line, with its line feed."""
        packed = base64.b64encode(self.key_id + self.payload).decode()
        return f"{_DASH}{self.name} {packed}\n"


class Note(NamedTuple):
    """A note, read; nothing of it is verified yet."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(signature.line for signature in self.signatures)


class Verifier(Protocol):
    """A known key."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def verify(self, text: str, payload: bytes) -> bool:
        """Whether `payload`, what follows the key id, is this key's signature of `text`."""
        ...


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key in the form of one line; `kind` says what it signs (ED25519, COSIGNATURE)."""

    name: str
    kind: int
    public: bytes

    kinds: ClassVar[tuple[int, ...]] = (ED25519, COSIGNATURE)
    """Which types `parse` takes."""

    @property
    def key_id(self) -> bytes:
        """Four bytes that stand for the key in a signature line."""
        return key_id_of(self.name, self.kind, self.public)

    @property
    def text(self) -> str:
        """The key in one line: a *vkey*."""
        packed = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{packed}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Raises:
            KeyMalformed: it is not three parts, its id is not that of the key, or it is of a type
                that signs something else.
        """
        parts = text.split("+", 2)  # the base64 may hold a plus
        if len(parts) != 3:
            raise KeyMalformed(f"{text!r} is not a name, a key id and a key with + between them")
        name, key_id, packed = parts
        check_name(name)
        content = strict_base64(packed)
        if content is None or len(content) != 1 + _KEY_SIZE:
            raise KeyMalformed(f"The key of {name!r} is not base64 of {1 + _KEY_SIZE} bytes")
        if content[0] not in cls.kinds:
            known = ", ".join(f"{kind:#04x}" for kind in cls.kinds)
            raise KeyMalformed(f"The key of {name!r} has type {content[0]:#04x}, not {known}")
        key = cls(name, content[0], content[1:])
        if key.key_id.hex() != key_id:
            raise KeyMalformed(f"The key of {name!r} has the id {key.key_id.hex()}, not {key_id}")
        return key


@dataclass(frozen=True, slots=True)
class LogKey(PublicKey):
    """The Ed25519 key of a log: it signs the text of a note."""

    kinds = (ED25519,)

    def verify(self, text: str, payload: bytes) -> bool:
        return len(payload) == _SIGNATURE_SIZE and is_signed(self.public, payload, text.encode())


class Signer:
    """The private half of a `LogKey`; `seed` is 32 bytes."""

    def __init__(self, name: str, seed: bytes) -> None:
        check_name(name)
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = LogKey(name, ED25519, self._private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Self:
        """A new key."""
        return cls(name, os.urandom(_KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote.

        Raises:
            KeyMalformed: it is something else. The message repeats nothing of it.
        """
        kind, seed = parse_private(text, ED25519)
        return cls(kind, seed)

    @property
    def text(self) -> str:
        """The private key in one line, as the Go package `note` writes it. Keep it secret."""
        return private_text(self.key, self._seed)

    def signature(self, text: str) -> Signature:
        """The signature of `text` alone."""
        return Signature(self.key.name, self.key.key_id, self._private.sign(text.encode()))

    def sign(self, text: str) -> str:
        """A note with `text` and this one signature."""
        return str(Note(text, (self.signature(text),)))


def parse_note(text: str) -> Note:
    """Read a note without verifying anything.

    Raises:
        NoteMalformed: it is no note, or holds a signature line that is none.
    """
    if len(text) > MOST_NOTE_BYTES:
        raise NoteMalformed(f"A note has at most {MOST_NOTE_BYTES:,} bytes")
    if _NOT_IN_TEXT.search(text):
        raise NoteMalformed("A note is UTF-8, with no control character but the line feed")
    content, separator, tail = text.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise NoteMalformed("A note is a text, an empty line, and signature lines; it ends in LF")
    lines = tail[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise NoteMalformed(f"The note has {len(lines)} signatures; {MOST_SIGNATURES} are read")
    return Note(content + "\n", tuple(_parse_line(line) for line in lines))


def open_note(text: str, keys: Iterable[Verifier]) -> Note:
    """Read a note and verify it: what is returned has the signatures of `keys` only.

    Raises:
        NoteMalformed: it is no note.
        SignatureWrong: a signature by one of the keys does not fit.
        SignatureMissing: none of the keys has signed.
    """
    note = parse_note(text)
    signatures = verified(note, keys)
    if not signatures:
        raise SignatureMissing
    return Note(note.text, tuple(signatures))


def verified(note: Note, keys: Iterable[Verifier]) -> list[Signature]:
    """The signatures of `note` by one of `keys`: the first of each key, in the order of the note.

    Raises:
        SignatureWrong: a signature by one of the keys does not fit.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[tuple[str, bytes], Signature] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.verify(note.text, signature.payload):
            raise SignatureWrong(f"The signature by {signature.name} does not fit this text")
        found.setdefault((key.name, key.key_id), signature)
    return list(found.values())


def key_id_of(name: str, kind: int, public: bytes) -> bytes:
    """The id of a key."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:_ID_SIZE]


@lru_cache(maxsize=1_024)  # receipts of one batch share their checkpoint
def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is Ed25519's (RFC 8032) of `message` under the key `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_name(name: str) -> None:
    """
    Raises:
        KeyMalformed: a key may not have this name.
    """
    if not name or "+" in name or _NOT_IN_TEXT.search(name) or any(map(str.isspace, name)):
        raise KeyMalformed(f"{name!r} cannot name a key: it is empty, or has a space or a plus")


def strict_base64(text: str) -> bytes | None:
    """RFC 4648 section 4 with padding, in its one spelling; None when it is anything else."""
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    # The last character may carry bits that mean nothing: only zeros are the one spelling.
    return content if binascii.b2a_base64(content, newline=False).decode() == text else None


def private_text(key: PublicKey, seed: bytes) -> str:
    """A private key in one line."""
    packed = base64.b64encode(bytes([key.kind]) + seed).decode()
    return f"{_PRIVATE}+{key.name}+{key.key_id.hex()}+{packed}"


def parse_private(text: str, kind: int) -> tuple[str, bytes]:
    """The name and the seed of a private key of this kind.

    Raises:
        KeyMalformed: it is something else.
    """
    prefix, separator, rest = text.strip().partition(f"{_PRIVATE}+")
    parts: Sequence[str] = rest.split("+", 2)
    if prefix or not separator or len(parts) != 3:
        raise KeyMalformed("This is not a private key")
    name, key_id, packed = parts
    check_name(name)
    content = strict_base64(packed)
    if content is None or len(content) != 1 + _KEY_SIZE or content[0] != kind:
        raise KeyMalformed(f"The private key of {name!r} is not one of type {kind:#04x}")
    public = Ed25519PrivateKey.from_private_bytes(content[1:]).public_key().public_bytes_raw()
    if key_id_of(name, kind, public).hex() != key_id:
        raise KeyMalformed(f"The private key of {name!r} does not have the id it claims")
    return name, content[1:]


def _parse_line(line: str) -> Signature:
    name, _, packed = line.removeprefix(_DASH).partition(" ")
    content = strict_base64(packed)
    if not line.startswith(_DASH) or not name or "+" in name or content is None:
        raise NoteMalformed("A signature line is a dash, a name and base64, with spaces between")
    if _SPACE.search(name) or len(content) <= _ID_SIZE:
        raise NoteMalformed("A signature line has no space in its name, and more than a key id")
    return Signature(name, content[:_ID_SIZE], content[_ID_SIZE:])
