"""Where the tiles of a log lie. tests/ledger/tilestore.py can be run against any implementation.

The folder is in the form of C2SP tlog-tiles, so any web server can serve it as it is. Nothing in it
is trusted: whatever is read from it is recomputed before it is signed.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from indelible import durable
from indelible.errors import TileConflict, TileMalformed, TileMissing
from indelible.ledger.format.layout import most_bytes_of, most_bytes_of_tile
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    ReadTiles,
    Tile,
    decode_entries,
    encode_entries,
)
from indelible.ledger.format.tree import HASH_SIZE
from indelible.untrusted import FileRefused, FolderReader, read_file


class TileStore(Protocol):
    """The tiles, bundles and notes of one log."""

    def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        """Put tiles in their places; on return they survive power loss.

        Raises:
            TileConflict: a place holds other bytes already; nothing there was changed.
            OSError: it may be tried again.
            SyncFailed: it may not.
        """
        ...

    def replace(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        """Put tiles in their places whatever is there; on return they survive power loss.

        Raises:
            TileConflict: a link lies where a folder belongs.
            OSError, SyncFailed: as `write`.
        """
        ...

    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        """The bytes of each tile; of a partial one that is gone, the beginning of the full one.

        Raises:
            TileMissing: one is not there.
            TileMalformed: one is not a file that can be read as a tile.
        """
        ...

    def reader(self) -> AbstractContextManager[ReadTiles]:
        """`read` for a few calls one after the other, cheaper than each by itself."""
        ...

    def missing(self, tiles: Iterable[Tile]) -> list[Tile]:
        """Those of these that `read` would not find; made for a whole log at once."""
        ...

    def discard_partials(self, tiles: Sequence[Tile]) -> None:
        """Take the partial tiles of these full ones away: a reader is content with the full one."""
        ...

    def publish(self, name: str, note: str) -> None:
        """Put one of NOTES in its place, in one step and durably.

        Raises:
            OSError, SyncFailed: as `write`.
        """
        ...

    def published(self, name: str) -> str | None:
        """What was published under this name; None when nothing was."""
        ...


class FolderTiles:
    """A `TileStore` of plain files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = str(folder)
        self._kept: set[str] = set()  # folders whose names this process has synced

    def write(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        touched: dict[str, None] = {}
        looked_at: set[str] = set()
        for tile, content in tiles:
            path = self._place(tile, touched, looked_at)
            if not os.path.lexists(path):
                durable.write_file(path, content)
            else:
                self._compare(tile, content)
        # power lost here: some tiles are there and some are not, and no checkpoint covers them
        durable.sync_folders(touched)

    def replace(self, tiles: Sequence[tuple[Tile, bytes]]) -> None:
        touched: dict[str, None] = {}
        looked_at: set[str] = set()
        for tile, content in tiles:
            path = self._place(tile, touched, looked_at)
            durable.write_file(path, content)
        # power lost here: the damaged files may be back, and are rebuilt once more
        durable.sync_folders(touched)

    def read(self, tiles: Sequence[Tile]) -> list[bytes]:
        with FolderReader(self._root) as folder:
            return [self._read(folder.read, tile) for tile in tiles]

    @contextmanager
    def reader(self) -> Iterator[ReadTiles]:
        # Whoever asks for a few calls compares all that he reads and passes none of it on, so a
        # folder that is a link gives nothing away; and `write` follows none. A file's own name is
        # looked at all the same. Opening every folder on the way costs four times as much.
        yield lambda tiles: [self._read(self._by_name, tile) for tile in tiles]

    def missing(self, tiles: Iterable[Tile]) -> list[Tile]:
        listed: dict[str, frozenset[str]] = {}

        def is_there(tile: Tile) -> bool:
            folder, _, name = tile.path.rpartition("/")
            if folder not in listed:
                listed[folder] = _names(self.folder / folder)
            return name in listed[folder]

        return [tile for tile in tiles if not is_there(tile) and not is_there(tile.full)]

    def discard_partials(self, tiles: Sequence[Tile]) -> None:
        for tile in tiles:
            partials = f"{self._root}/{tile.full.path}.p"
            if os.path.lexists(partials):  # few have any: a tile is full at once under load
                self._kept.discard(partials)
                shutil.rmtree(partials, ignore_errors=True)

    def publish(self, name: str, note: str) -> None:
        self._keep(self._root, set())
        durable.write_file(f"{self._root}/{name}", note.encode())
        durable.sync_folder(self._root)

    def published(self, name: str) -> str | None:
        with FolderReader(self.folder) as reader:
            content = _content(reader.read, name, most_bytes_of(name))
        return None if content is None else content.decode("utf-8", "replace")

    def partials(self, size: int) -> list[Tile]:
        """The partial tiles and bundles at the right edge of a tree that are there, of any width
        up to its own."""
        found: list[Tile] = []
        level, count = 0, size
        while count:
            for one in (level, ENTRIES) if level == 0 else (level,):
                edge = Tile(one, count // WIDTH, 1)
                names = _names((self.folder / edge.path).parent)
                widths = sorted(int(name) for name in names if name.isdigit())
                found += [edge._replace(width=w) for w in widths if 0 < w <= count % WIDTH]
            level, count = level + 1, count // WIDTH
        return found

    def tidy(self) -> None:
        """Take away what writes that were broken off have left."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if name.startswith(".") and name.endswith(durable.DRAFT_SUFFIX):
                    with suppress(FileNotFoundError):
                        Path(folder, name).unlink()

    def _place(self, tile: Tile, touched: dict[str, None], looked_at: set[str]) -> str:
        """Where a tile's file belongs; its folder is there from now on, and among `touched`.

        Raises:
            TileConflict, OSError, SyncFailed.
        """
        # As text: these are called for every file, and a Path costs more than what is done with it.
        path = f"{self._root}/{tile.path}"
        folder = path.rpartition("/")[0]
        if folder not in touched:
            self._keep(folder, looked_at)
            touched[folder] = None
        return path

    def _keep(self, folder: str, looked_at: set[str]) -> None:
        """Make a folder of the log, and every name on the way to it durable, once.

        Once in each process: the one that made it may have been killed before it could sync. That
        none of them is a link is looked at each time, unless they are among `looked_at`.

        Raises:
            TileConflict: a link lies there.
        """
        if folder in looked_at:
            return
        above, is_own = os.path.dirname(folder), len(folder) > len(self._root)  # noqa: PTH120
        if is_own:
            self._keep(above, looked_at)
        mode = _mode(folder, follow=not is_own)
        if stat.S_ISLNK(mode):
            raise TileConflict(f"{folder} is a link, and none is followed here")
        if folder not in self._kept or not stat.S_ISDIR(mode):
            if folder == self._root:
                self._keep(above, looked_at)  # the folder of all logs, in the data folder
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            durable.sync_folder(above)
            self._kept.add(folder)
        looked_at.add(folder)

    def _by_name(self, path: str, *, most_bytes: int) -> bytes:
        return read_file(f"{self._root}/{path}", most_bytes=most_bytes, follow=False)

    def _compare(self, tile: Tile, content: bytes) -> None:
        """
        Raises:
            TileConflict: the file of this tile is another one.
        """
        try:
            with FolderReader(self.folder) as reader:
                is_same = _lying(reader.read, tile) == content
        except TileMalformed as error:
            raise TileConflict(error.message) from None
        if not is_same:
            path = self.folder / tile.path
            raise TileConflict(f"{path} holds other bytes than the journal gives")

    def _read(self, file: "_ReadFile", tile: Tile) -> bytes:
        content = _lying(file, tile)
        if content is not None:
            return content
        if tile.width == WIDTH:
            raise TileMissing(f"{self.folder / tile.path} is not there")
        full = self._read(file, tile.full)
        if tile.level != ENTRIES:
            return full[: tile.width * HASH_SIZE]
        return encode_entries(decode_entries(tile.full, full)[: tile.width])


class _ReadFile(Protocol):
    """Reads the file of the log at this path.

    Raises:
        FileRefused, OSError.
    """

    def __call__(self, path: str, *, most_bytes: int) -> bytes: ...


def _lying(file: _ReadFile, tile: Tile) -> bytes | None:
    """The content of a tile's own file, or None if not found.

    Raises:
        TileMalformed: it is a link, a pipe, or longer than any tile.
    """
    try:
        return _content(file, tile.path, most_bytes_of_tile(tile))
    except FileRefused as error:
        raise TileMalformed(f"{error.filename}: {error.strerror}") from None


def _mode(path: str, *, follow: bool) -> int:
    """What lies there; 0 if nothing does."""
    try:
        return os.stat(path, follow_symlinks=follow).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return 0


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _content(file: _ReadFile, path: str, most_bytes: int) -> bytes | None:
    """The content of a file below the log's folder, or None if not found. Follows no link.

    Raises:
        FileRefused, OSError.
    """
    try:
        return file(path, most_bytes=most_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None
