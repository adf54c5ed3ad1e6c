"""Salts and commitments of drafts: made by the journal, or before it by the process that read them.

It is a third of the work of storing an event, and needs nothing that only the writer has.
"""

import os
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from indelible import leaf
from indelible.journal.contract import Commitments, Draft

SALTS_BYTES: Final = 2 * leaf.SALT_SIZE


def commitments_of(draft: Draft, salts: bytes) -> Commitments:
    """Commit to the content of `draft` with these fresh random bytes, `SALTS_BYTES` of them."""
    size = leaf.SALT_SIZE
    return Commitments(
        salts,
        leaf.commit(salts[:size], leaf.PAYLOAD, draft.payload),
        leaf.commit(salts[size:], leaf.RECORD, draft.record),
    )


def committed(drafts: Sequence[Draft]) -> list[Draft]:
    """Return the drafts with their commitments."""
    random = os.urandom(SALTS_BYTES * len(drafts))
    return [
        replace(
            draft,
            commitments=commitments_of(
                draft, random[place * SALTS_BYTES : (place + 1) * SALTS_BYTES]
            ),
        )
        for place, draft in enumerate(drafts)
    ]
