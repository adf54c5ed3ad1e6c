"""Salts and commitments of drafts: made by the journal, or before it by the process that read them.

It is a third of the work of storing an event, and needs nothing that only the writer has.
"""

import os
from collections.abc import Sequence
from io import BytesIO
from typing import Final

from msgspec.structs import replace

from indelible import leaf
from indelible.journal.contract import Commitments, Draft

SALTS_BYTES: Final = 2 * leaf.SALT_SIZE
_AT_ONCE: Final = 256


def commitments_of(draft: Draft, salts: bytes) -> Commitments:
    """Commit to the content of `draft` with these fresh random bytes, `SALTS_BYTES` of them."""
    size = leaf.SALT_SIZE
    return Commitments(
        salts,
        leaf.commit(salts[:size], leaf.PAYLOAD, draft.payload),
        leaf.commit(salts[size:], leaf.RECORD, draft.record),
    )


class Committing:
    """Commits to drafts, in a process that is not forked any more. For one thread.

    Random bytes are taken from the system for many drafts at once: most requests bring one.
    """

    def __init__(self) -> None:
        self._random = BytesIO()

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts with their commitments."""
        salts = self._salts(SALTS_BYTES * len(drafts))
        if len(drafts) == 1:  # what is done for many at once costs 1 us to begin
            return [replace(drafts[0], commitments=commitments_of(drafts[0], salts))]
        payloads = [draft.payload for draft in drafts]
        made = leaf.commit_all(salts, payloads, [draft.record for draft in drafts])
        return [
            replace(draft, commitments=Commitments(*each))
            for draft, each in zip(drafts, made, strict=True)
        ]

    def _salts(self, size_bytes: int) -> bytes:
        salts = self._random.read(size_bytes)
        if len(salts) < size_bytes:
            self._random = BytesIO(os.urandom(max(size_bytes, SALTS_BYTES * _AT_ONCE)))
            salts = self._random.read(size_bytes)
        return salts
