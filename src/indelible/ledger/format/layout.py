"""The names of the files that a log publishes, and their size limits. Pure.

The tiles lie where C2SP tlog-tiles has them (`tile`), the checkpoint beside them.
"""

from typing import Final

from indelible.ledger.format.note import MOST_NOTE_BYTES
from indelible.ledger.format.policy import MOST_POLICY_BYTES
from indelible.ledger.format.tile import ENTRIES, WIDTH, Tile, parse_path
from indelible.ledger.format.tree import HASH_SIZE

CHECKPOINT: Final = "checkpoint"
"""The newest signed checkpoint, with its cosignatures once they are there."""
WITNESSED: Final = "witnessed"
"""The newest checkpoint whose cosignatures met the policy's quorum."""
POLICY: Final = "policy"
"""The policy that this log proposes to its readers: its key, its witnesses."""
NOTES: Final = (CHECKPOINT, WITNESSED, POLICY)

MOST_BUNDLE_BYTES: Final = 256 * 1024
"""Of 256 entries; one of ours has 96 bytes, and there is room for one of ten times that."""


def most_bytes_of(path: str) -> int:
    """How long the file at a path of a log may be; what is longer is not read."""
    if path == POLICY:
        return MOST_POLICY_BYTES
    tile = parse_path(path)
    return MOST_NOTE_BYTES if tile is None else most_bytes_of_tile(tile)


def most_bytes_of_tile(tile: Tile) -> int:
    """How long the file of a tile or bundle may be."""
    return MOST_BUNDLE_BYTES if tile.level == ENTRIES else WIDTH * HASH_SIZE
