"""The tiles above the events: each hash is the root of the 256 below it, on every level.

Tiles that are ahead of the checkpoint are compared too, on all levels, as far as the journal has
the events that they are of.
"""

from collections.abc import Sequence

from indelible.ledger.audit.checks.computed import Computed
from indelible.ledger.audit.checks.tiles import TILES, absent, compare_copy, read_tiles, wrong_size
from indelible.ledger.audit.findings import Report, tampered
from indelible.ledger.audit.sources import Content, Source
from indelible.ledger.format.tile import WIDTH, Tile, hashes_of, root_of_full, tile_at
from indelible.ledger.format.tree import HASH_SIZE


def check_levels(source: Source, log: Computed, copies: Sequence[Tile], report: Report) -> None:
    """Compare each higher tile, and its narrower `copies`, with what the full tiles below give.

    What a bundle and its tile do not give any more, the tile above may: then `log` has it
    afterwards.
    """
    whole = log.size // WIDTH
    log.levels = [[]]
    below = log.roots[:whole]
    level = 1
    while below:
        log.levels.append(below)
        tiles = [tile_at(level, number, log.size) for number in range(-(-len(below) // WIDTH))]
        above: list[bytes | None] = []
        for tile, content in zip(tiles, read_tiles(source, tiles), strict=True):
            start = tile.number * WIDTH
            log.tiles += 1
            hashes = _compare(tile, content, below[start : start + WIDTH], report)
            below[start : start + WIDTH] = hashes
            if tile.width == WIDTH:
                above.append(_parent(hashes))
        for copy in (one for one in copies if one.level == level):
            start = copy.number * WIDTH
            _compare_further(source, log, copy, below[start : start + copy.width], None, report)
        below, level = above, level + 1
    if whole:
        log.roots[:whole] = log.levels[1]


def check_ahead(source: Source, log: Computed, ahead: Sequence[Tile], report: Report) -> None:
    """Compare the tiles that are ahead of the checkpoint, as far as anything is known of them."""
    if not ahead:
        return
    rest = log.size % WIDTH
    start = log.size - rest
    hashes = [*(log.last if rest else ()), *log.beyond]
    entries = [*(log.last_entries if rest else ()), *log.beyond_entries]
    whole = [
        root_of_full(b"".join(hashes[at : at + WIDTH]))
        for at in range(0, len(hashes) - WIDTH + 1, WIDTH)
    ]
    unknown = 0
    for tile in ahead:
        first = tile.number * WIDTH
        known: list[bytes | None]
        mine = None
        if tile.level <= 0:
            place = slice(max(0, first - start), max(0, first + tile.width - start))
            known, mine = [*hashes[place]], entries[place]
        else:
            known = _level(log.levels, whole, tile.level)[first : first + tile.width]
        _compare_further(source, log, tile, known, mine, report)
        unknown += sum(one is not None for one in known) < tile.width
    said = f", {unknown:,} of them in part unknown to the journal" if unknown else ""
    report.note(
        f"{len(ahead):,} tiles and bundles are ahead of the checkpoint{said}: written, and not"
        " signed yet."
    )


def _compare(
    tile: Tile, content: Content, computed: list[bytes | None], report: Report
) -> list[bytes | None]:
    """The hashes of the tile: as they were computed, and where they were not, as they lie."""
    if not isinstance(content, bytes):
        report.add(absent(TILES, tile.path, content))
        return computed
    wanted = tile.width * HASH_SIZE
    if len(content) != wanted:
        report.add(wrong_size(TILES, tile.path, len(content), wanted))
        return computed
    found = hashes_of(content)
    for number, (mine, theirs) in enumerate(zip(computed, found, strict=True)):
        if mine is None or mine == theirs:
            continue
        reach = WIDTH**tile.level
        start = (tile.number * WIDTH + number) * reach
        sentence = f"The hash is not the root of the events {start:,} to {start + reach - 1:,}."
        report.add(tampered(TILES, sentence, file=tile.path, number=number))
    return [theirs if mine is None else mine for mine, theirs in zip(computed, found, strict=True)]


def _compare_further(
    source: Source,
    log: Computed,
    tile: Tile,
    hashes: Sequence[bytes | None],
    entries: Sequence[bytes] | None,
    report: Report,
) -> None:
    """A tile of another width than its own, as far as the hashes of its place are known."""
    known: list[bytes] = []
    for one in hashes:
        if one is None:
            break
        known.append(one)
    (content,) = source.read([tile.path])
    log.tiles += 1
    report.add(*compare_copy(tile, content, known, entries))


def _level(
    levels: list[list[bytes | None]], whole: Sequence[bytes], level: int
) -> list[bytes | None]:
    """The hashes of a level above 0, those that are ahead of the checkpoint included."""
    hashes: list[bytes | None] = [*(levels[1] if len(levels) > 1 else ()), *whole]
    for _ in range(1, level):
        hashes = [
            _parent(hashes[at : at + WIDTH]) for at in range(0, len(hashes) - WIDTH + 1, WIDTH)
        ]
    return hashes


def _parent(hashes: Sequence[bytes | None]) -> bytes | None:
    """The root of 256 hashes; None when one of them is missing."""
    known = [one for one in hashes if one is not None]
    return root_of_full(b"".join(known)) if len(known) == WIDTH else None
