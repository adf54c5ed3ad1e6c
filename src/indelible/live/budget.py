"""How much memory the figures of all projects may take together. Pure."""

from dataclasses import dataclass
from typing import Final

MOST_TEXT_BYTES: Final = 16 * 1024 * 1024
MOST_ROWS: Final = 4_000_000
MOST_IDS: Final = 2_000_000
MOST_ID_TEXTS: Final = 200_000


@dataclass(slots=True)
class Budget:
    """What is left of it. For one thread at a time.

    Attributes:
        text_bytes: of names and pages.
        rows: of columns, 12 bytes each.
        ids: hashes of distinct ids, 8 bytes each.
        texts: distinct ids as text, some 200 bytes each.
    """

    text_bytes: int = MOST_TEXT_BYTES
    rows: int = MOST_ROWS
    ids: int = MOST_IDS
    texts: int = MOST_ID_TEXTS
