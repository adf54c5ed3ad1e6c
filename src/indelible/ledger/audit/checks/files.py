"""What lies in a log's folder: its notes, its tiles, and what does not belong there."""

from dataclasses import dataclass
from typing import Final

from indelible.durable import DRAFT_SUFFIX
from indelible.errors import LogUnreadable
from indelible.ledger.audit.checks.tiles import absent
from indelible.ledger.audit.findings import Report, cannot
from indelible.ledger.audit.sources import Source
from indelible.ledger.format.layout import NOTES
from indelible.ledger.format.tile import WIDTH, Tile, parse_path

FILES: Final = "files"
_MOST_BESIDES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Besides:
    """The files that are not among those that a log of its size has.

    Attributes:
        copies: tiles and bundles that are narrower than theirs: left from when the log was smaller.
        ahead: those that are wider, or further on: written, and not signed yet.
        strays: what is neither tile nor note.
    """

    copies: tuple[Tile, ...]
    ahead: tuple[Tile, ...]
    strays: tuple[str, ...]


def read_note(source: Source, path: str, report: Report) -> str | None:
    """A note; None, with a finding unless it is simply not there, when there is none."""
    (content,) = source.read([path])
    if content is None:
        return None
    if isinstance(content, LogUnreadable):
        report.add(absent(path, path, content))
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        report.add(cannot(path, "A byte of it is not UTF-8.", file=path, number=error.start))
        return None


def besides(source: Source, size: int, report: Report) -> Besides:
    """List what lies there that a log of `size` events would not have; nothing where that fails.

    The files are looked at one after the other and not kept: there may be millions.
    """
    copies: list[Tile] = []
    ahead: list[Tile] = []
    strays: list[str] = []
    try:
        for path in source.files() or ():
            if path in NOTES:
                continue
            tile = parse_path(path)
            if tile is None:
                strays.append(path)
            else:
                count = size >> (8 * max(tile.level, 0))
                width = min(WIDTH, count - tile.number * WIDTH)
                if tile.width < width:
                    copies.append(tile)
                elif tile.width > width:
                    ahead.append(tile)
            if len(copies) + len(ahead) + len(strays) > _MOST_BESIDES:
                sentence = (
                    f"There are more than {_MOST_BESIDES:,} files that a log of {size:,} events"
                    " does not have; no more were looked at."
                )
                report.add(cannot(FILES, sentence))
                break
    except LogUnreadable as error:
        report.add(cannot(FILES, f"{error.message}."))
    return Besides(tuple(sorted(copies)), tuple(sorted(ahead)), tuple(sorted(strays)))


def name_strays(strays: tuple[str, ...], report: Report) -> None:
    """Name what does not belong to a log; a draft that was left behind is no fault."""
    for path in strays:
        name = path.rpartition("/")[2]
        if name.startswith(".") and name.endswith(DRAFT_SUFFIX):
            report.note(f"{path} is what a write that was broken off has left.")
        else:
            report.add(cannot(FILES, "This is no file of a log.", file=path))
