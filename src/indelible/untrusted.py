"""Files that somebody else may have prepared: regular ones, of a size that was expected.

An auditor points our commands at a folder that came from the operator, and the server serves a
folder that others may be able to write to. A pipe in it would be waited for, a device read for
ever, a sparse file of a terabyte taken into memory, and a link would show what lies outside. So:

    open      without waiting, which a pipe would have us do, and without becoming its terminal
    fstat     on what was opened, not on its name: only a regular file goes on
    size      over the limit is refused before anything is read; what grows while it is read, too
    links     below a folder each component is opened by itself, and none may be a link

A path that the caller names is the caller's own word: its links are followed.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_BINARY: Final = getattr(os, "O_BINARY", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_FILE: Final = (
    os.O_RDONLY | _BINARY | _CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
)
_FOLDER: Final = os.O_RDONLY | _CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_BY_FOLDER: Final = os.open in os.supports_dir_fd
_IN_THE_WAY: Final = (errno.ELOOP, errno.EMLINK)  # what systems say of a link that is not followed

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FileRefused(OSError):
    """It is there, and is not read: no regular file, behind a link, or longer than it may be."""

    def __init__(self, sentence: str, path: str | Path) -> None:
        super().__init__(errno.EINVAL, sentence, str(path))


def read_file(path: str | Path, *, most_bytes: int, only_mine: bool = False) -> bytes:
    """The content of a file that the caller names.

    `only_mine`: only what nobody else can have written is read; not of another user than the one
    who runs this, or root, nor writable for others.

    Raises:
        FileRefused: it is no regular file, longer than `most_bytes`, or not only mine.
        OSError: it is not there, or may not be read.
    """
    handle = os.open(path, _FILE)
    try:
        if only_mine:
            _check_owner(handle, str(path))
        return _content(handle, str(path), most_bytes)
    finally:
        os.close(handle)


class FolderReader:
    """The files below a folder, by paths with slashes. Use it in a `with`.

    Folders stay open from one file to the next, so it is made for some files and not to be kept:
    it would not see that a folder was replaced by another one.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = os.fspath(folder)
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def read(self, path: str, *, most_bytes: int) -> bytes:
        """The content of one file.

        Raises:
            FileRefused: it is no regular file, longer than `most_bytes`, or a link is on the way.
            OSError: it is not there, or may not be read.
        """
        folder, _, name = path.rpartition("/")
        whole = f"{self._folder}/{path}"
        if not name or name in (".", ".."):
            raise FileRefused("this is no name of a file", whole)
        with self._named(whole, name, folder) as handle:
            return _content(handle, whole, most_bytes)

    @contextmanager
    def _named(self, whole: str, name: str, folder: str) -> Iterator[int]:
        if _BY_FOLDER:
            handle = _open_by_name(name, _FILE, self._handle_of(folder), whole)
        else:
            _check_links(self._folder, folder, name)
            handle = os.open(whole, _FILE)
        try:
            yield handle
        finally:
            os.close(handle)

    def _handle_of(self, folder: str) -> int:
        """The open folder at a path below; "" is the one that was named, links and all."""
        handle = self._open.get(folder)
        if handle is not None:
            return handle
        if not folder:
            handle = os.open(self._folder, _FOLDER)
        else:
            above, _, name = folder.rpartition("/")
            whole = f"{self._folder}/{folder}"
            if name in ("", ".", ".."):
                raise FileRefused("this is no name of a folder", whole)
            handle = _open_by_name(name, _FOLDER, self._handle_of(above), whole)
        self._open[folder] = handle
        return handle


def read_below(folder: str | Path, path: str, *, most_bytes: int) -> bytes:
    """`FolderReader.read` for one file."""
    with FolderReader(folder) as reader:
        return reader.read(path, most_bytes=most_bytes)


def check_regular(path: Path) -> None:
    """Refuse what another library would open by its name, unless it is a regular file or nothing.

    LIMIT: whoever can write to the folder may replace it between this look and that opening.

    Raises:
        FileRefused: something else is there, a link included.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode):
        what = next((word for is_kind, word in _KINDS if is_kind(mode)), "no file")
        raise FileRefused(f"it is {what}, not a regular file", path)


def _check_owner(handle: int, path: str) -> None:
    if not hasattr(os, "geteuid"):  # there are no such owners and modes here
        return
    found = os.fstat(handle)
    me = os.geteuid()
    if me not in (0, found.st_uid) and found.st_uid != 0:
        raise FileRefused("it belongs to another user", path)
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o022:
        raise FileRefused("other users may write to it", path)


def _content(handle: int, path: str, most_bytes: int) -> bytes:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        what = next((word for is_kind, word in _KINDS if is_kind(found.st_mode)), "no file")
        raise FileRefused(f"it is {what}, not a regular file", path)
    too_long = FileRefused(f"it is longer than the {most_bytes:,} bytes that it may have", path)
    if found.st_size > most_bytes:
        raise too_long
    # Some files of a system claim to be empty and are not: the size is where to begin, no promise.
    content = os.read(handle, found.st_size + 1)
    if len(content) == found.st_size:
        return content
    parts = [content]
    size = len(content)
    while size <= most_bytes and (part := os.read(handle, 1 << 20)):
        parts.append(part)
        size += len(part)
    if size > most_bytes:
        raise too_long
    return b"".join(parts)


def _open_by_name(name: str, flags: int, folder: int, whole: str) -> int:
    """Open what lies in an open folder, unless it is a link."""
    try:
        return os.open(name, flags | _NO_LINK, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket cannot be opened at all
            raise FileRefused("it is a socket or a device, not a regular file", whole) from None
        # Systems say of a link where a folder belongs that it is none, as they do of a file.
        if error.errno in _IN_THE_WAY or (error.errno == errno.ENOTDIR and _is_link(name, folder)):
            raise FileRefused("it is a link, and none is followed here", whole) from None
        error.filename = whole
        raise


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _check_links(root: str, folder: str, name: str) -> None:
    """The same rule where a file cannot be opened relative to a folder, one look earlier."""
    path = root
    for part in (*filter(None, folder.split("/")), name):
        if part in (".", ".."):
            raise FileRefused("this is no name of a file", path)
        path = os.path.join(path, part)  # noqa: PTH118
        if os.path.islink(path):  # noqa: PTH114
            raise FileRefused("it is a link, and none is followed here", path)
