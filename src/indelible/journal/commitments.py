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
    return Commitments(salts, *leaf.commit_both(salts, draft.payload, draft.record))


class Committing:
    """Commits to drafts, in a process that is not forked any more. For one thread.

    Random bytes are taken from the system for many drafts at once: most requests bring one.
    """

    def __init__(self) -> None:
        self._random = BytesIO()

    def __call__(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts with their commitments."""
        return [
            replace(draft, commitments=commitments_of(draft, self._salts())) for draft in drafts
        ]

    def _salts(self) -> bytes:
        salts = self._random.read(SALTS_BYTES)
        if not salts:
            self._random = BytesIO(os.urandom(SALTS_BYTES * _AT_ONCE))
            salts = self._random.read(SALTS_BYTES)
        return salts
