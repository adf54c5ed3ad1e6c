"""The opening of a commitment: what a receipt carries so that its holder sees the payload. Pure.

A leaf holds salted commitments only (`indelible.leaf`). The opening is the leaf with what it
commits to and the two salts, as one JSON object in the line `extra` of a `.tlog-proof`:

    {"indelible": "opening/v1", "leaf": <base64>, "payload": <text>, "payload_salt": <base64>,
     "record": <text>, "record_salt": <base64>}

Once the event has been erased the four members behind the leaf are null: the leaf is all there is.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from indelible import leaf
from indelible.errors import ProofMalformed, UnknownVersion
from indelible.ledger.format.note import strict_base64

VERSION: Final = "opening/v1"
_OURS: Final = "indelible"
_MEMBERS: Final = {_OURS, "leaf", "payload", "payload_salt", "record", "record_salt"}


@dataclass(frozen=True, slots=True)
class Opening:
    """A leaf entry and, unless it was erased, what it commits to."""

    leaf_entry: bytes
    payload: bytes | None
    payload_salt: bytes | None
    record: bytes | None
    record_salt: bytes | None

    @property
    def erased(self) -> bool:
        """Whether only the leaf is left."""
        return self.payload is None

    def wrong_commitments(self) -> list[str]:
        """Which of ``payload`` and ``record`` are not what the leaf commits to; none if erased.

        Raises:
            LeafMalformed: the leaf entry is none.
        """
        held = leaf.decode(self.leaf_entry)
        checks = (
            ("payload", leaf.PAYLOAD, self.payload, self.payload_salt, held.payload_commitment),
            ("record", leaf.RECORD, self.record, self.record_salt, held.record_commitment),
        )
        return [
            name
            for name, domain, content, salt, commitment in checks
            if content is not None
            and (salt is None or leaf.commit(salt, domain, content) != commitment)
        ]

    def encode(self) -> bytes:
        """As it stands in `extra`."""
        members = {
            _OURS: VERSION,
            "leaf": _base64(self.leaf_entry),
            "payload": _text(self.payload),
            "payload_salt": _base64(self.payload_salt),
            "record": _text(self.record),
            "record_salt": _base64(self.record_salt),
        }
        return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, extra: bytes) -> Self:
        """
        Raises:
            UnknownVersion: it is an opening of another version.
            ProofMalformed: it is no opening of ours.
        """
        try:
            members: Any = json.loads(extra.decode(), object_pairs_hook=_once_each)
        except (ValueError, RecursionError):
            raise ProofMalformed("The line `extra` of the proof is no opening") from None
        if not isinstance(members, dict) or _OURS not in members:
            raise ProofMalformed("The line `extra` of the proof is no opening of Indelible's")
        if members[_OURS] != VERSION:
            raise UnknownVersion(f"The opening is of version {members[_OURS]!r}")
        if members.keys() != _MEMBERS:
            raise ProofMalformed("The opening has other members than it should")
        contents = [members[name] for name in ("payload", "record")]
        salts = [members[name] for name in ("payload_salt", "record_salt")]
        held = _bytes_of(members["leaf"], leaf.SIZE)
        if contents == [None, None] == salts:
            return cls(held, None, None, None, None)
        payload, record = (_encoded(content) for content in contents)
        payload_salt, record_salt = (_bytes_of(salt, leaf.SALT_SIZE) for salt in salts)
        return cls(held, payload, payload_salt, record, record_salt)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that has a member twice means different things to different readers.

    Raises:
        ValueError: it has.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands there twice")
    return members


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode()


def _encoded(content: object) -> bytes:
    try:
        if isinstance(content, str):
            return content.encode()
    except UnicodeEncodeError:
        pass
    raise ProofMalformed("The payload and the record of an opening are text")


def _bytes_of(text: object, size: int) -> bytes:
    content = strict_base64(text) if isinstance(text, str) else None
    if content is None or len(content) != size:
        raise ProofMalformed(
            f"The opening needs base64 of {size} bytes where it has something else"
        )
    return content
