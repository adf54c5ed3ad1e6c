"""Reading files that an attacker may have prepared.

An auditor points our commands at a folder that came from the operator, and the server serves a
folder that others may be able to write to. A pipe in it would block us, a device would never end,
a sparse file of a terabyte would fill the memory, and a link would expose a file outside. So:

    open      without blocking, as a pipe would, and without acquiring a terminal
    fstat     the open file, not its name, and go on only if it is a regular file
    size      refuse a file over the limit before reading it, and one that grows past it meanwhile
    links     below a folder, open each component relative to the one above; none may be a link

Windows cannot open a file relative to a folder: there each name is checked before the open. Its
junctions count as links, and names with ``\\`` or ``:`` are refused.

Links in a path that the caller names are followed: the caller chose it.
"""

import errno
import os
import stat
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
_JUNCTION: Final = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT, which `stat` has on Windows only
_LEADING_OUT: Final = ("\\", ":")  # to another folder, to another drive or stream
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
    """A file exists and is not read: not a regular file, behind a link, or over its limit."""

    def __init__(self, sentence: str, path: str | Path) -> None:
        super().__init__(errno.EINVAL, sentence, str(path))


def read_file(
    path: str | Path, *, most_bytes: int, only_mine: bool = False, follow: bool = True
) -> bytes:
    """Read a file that the caller names.

    `follow` False: refuse a file whose own name is a link.
    `only_mine`: refuse a file that another user may have written. Its owner must be root or the
    user of this process, and no one else may write to it.

    Raises:
        FileRefused: it is not a regular file, is longer than `most_bytes`, or is not only mine.
        OSError: it is not there, or may not be read.
    """
    handle = os.open(path, _FILE) if follow else _open_by_name(str(path), _FILE, None, str(path))
    try:
        if only_mine:
            _check_owner(handle, str(path))
        return _content(handle, str(path), most_bytes)
    finally:
        os.close(handle)


class FolderReader:
    """Reads files below a folder, by paths with slashes. Use it in a `with`.

    Folders stay open from one file to the next. Make one for a batch of files and don't keep it: it
    would not notice that a folder was replaced.
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
        """Read one file.

        Raises:
            FileRefused: not a regular file, longer than `most_bytes`, or reached through a link.
            OSError: it is not there, or may not be read.
        """
        folder, _, name = path.rpartition("/")
        whole = f"{self._folder}/{path}"
        if not name or name in (".", ".."):
            raise FileRefused("this is no name of a file", whole)
        if _BY_FOLDER:
            handle = _open_by_name(name, _FILE, self._handle_of(folder), whole)
        else:
            _check_links(self._folder, folder, name)
            handle = os.open(whole, _FILE)
        try:
            return _content(handle, whole, most_bytes)
        finally:
            os.close(handle)

    def _handle_of(self, folder: str) -> int:
        """Open the folder at a path below, once; "" is the one that the caller named."""
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


def is_link(path: str | Path) -> bool:
    """Whether `path` is a link, or a junction of Windows."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == _JUNCTION


def check_regular(path: Path) -> None:
    """Check a file that another library opens by name: it must be regular, or not exist.

    LIMIT: someone who can write to the folder may replace it between this check and that open.

    Raises:
        FileRefused: it is something else, such as a link.
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
    if found.st_size > most_bytes:
        raise _too_long(path, most_bytes)
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
        raise _too_long(path, most_bytes)
    return b"".join(parts)


def _too_long(path: str, most_bytes: int) -> FileRefused:
    return FileRefused(f"it is longer than the {most_bytes:,} bytes that it may have", path)


def _open_by_name(name: str, flags: int, folder: int | None, whole: str) -> int:
    """Open a file or folder, relative to an open folder if given, unless it is a link."""
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


def _is_link(name: str, folder: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _check_links(root: str, folder: str, name: str) -> None:
    """Refuse links on systems that cannot open relative to a folder: by a check before the open."""
    path = root
    for part in (*filter(None, folder.split("/")), name):
        if part in (".", "..") or any(sign in part for sign in _LEADING_OUT):
            raise FileRefused("this is no name of a file", path)
        path = os.path.join(path, part)  # noqa: PTH118
        if is_link(path):
            raise FileRefused("it is a link, and none is followed here", path)
