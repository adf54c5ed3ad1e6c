"""One tile or bundle: read, and compared with the hashes of its place."""

from collections.abc import Sequence
from typing import Final

from indelible.errors import LogUnreadable, TileMalformed
from indelible.ledger.audit.findings import Finding, cannot, tampered
from indelible.ledger.audit.sources import Content, Source
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    Tile,
    decode_entries,
    encode_entries,
    hashes_of,
)
from indelible.ledger.format.tree import HASH_SIZE, leaf_hash

TILES: Final = "tiles"
COPIES: Final = "older tiles"


def read_tiles(source: Source, tiles: Sequence[Tile]) -> list[Content]:
    """The bytes of each tile; of a partial one that is gone, the beginning of the full one."""
    found = source.read([tile.path for tile in tiles])
    for at, (tile, content) in enumerate(zip(tiles, found, strict=True)):
        if content is None and tile.width < WIDTH:
            (full,) = source.read([tile.full.path])
            found[at] = _beginning(tile, full)
    return found


def compare_copy(
    copy: Tile, content: Content, hashes: Sequence[bytes], entries: Sequence[bytes] | None
) -> list[Finding]:
    """Whether a tile of another width agrees with the hashes, or entries, of its place.

    It is compared as far as both of them reach. A partial one that is gone since the files were
    listed says nothing: a server takes it away once there is a full one.
    """
    if content is None and copy.width < WIDTH:
        return []
    path, first = copy.path, copy.number * WIDTH if copy.level <= 0 else None
    if not isinstance(content, bytes):
        return [absent(COPIES, path, content, index=first)]
    if copy.level == ENTRIES:
        try:
            parts = decode_entries(copy, content)
        except TileMalformed as error:
            return [cannot(COPIES, f"{error.message}.", file=path, index=first)]
        found = [leaf_hash(part) for part in parts]
        if entries is not None and encode_entries(parts) != content:
            return [tampered(COPIES, "The lengths in it are not those of its entries.", file=path)]
    else:
        wanted = copy.width * HASH_SIZE
        if len(content) != wanted:
            return [wrong_size(COPIES, path, len(content), wanted)]
        found = hashes_of(content)
    return [
        tampered(
            COPIES,
            "It is not the beginning of what the log has at this place now.",
            file=path,
            number=number,
            index=None if first is None else first + number,
        )
        for number, (old, new) in enumerate(zip(found, hashes, strict=False))
        if old != new
    ]


def absent(
    check: str, path: str, content: LogUnreadable | None, *, index: int | None = None
) -> Finding:
    """A file that is not there, or cannot be read."""
    why = "It is not there" if content is None else content.message
    return cannot(check, f"{why}.", file=path, index=index)


def wrong_size(check: str, path: str, size: int, wanted: int) -> Finding:
    """A tile that is cut short, or too long."""
    return cannot(check, f"It has {size:,} bytes where {wanted:,} belong.", file=path)


def _beginning(tile: Tile, full: Content) -> Content:
    if not isinstance(full, bytes):
        return full
    if tile.level != ENTRIES:
        return full[: tile.width * HASH_SIZE]
    try:
        return encode_entries(decode_entries(tile.full, full)[: tile.width])
    except TileMalformed as error:
        return LogUnreadable(error.message)
