"""Files that survive power loss: written beside their place, synced, renamed, their folder synced.

A failed sync is never tried again: the kernel may have dropped the unwritten pages and marked them
clean, so a second one would succeed without the data. It is told apart from a write that failed,
which may be repeated from the start with a new file.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from indelible.errors import SyncFailed

DRAFT_SUFFIX: Final = ".tmp"

_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_WRITING: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _CLOEXEC | _BINARY
_OPENS_FOLDERS: Final = hasattr(os, "O_DIRECTORY")
"""Windows cannot, so folders are not synced there; only an auditor's memory is kept on it."""


def write_file(path: str | Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put `content` at `path` in one step; durable once the folder is synced as well.

    Raises:
        OSError: nothing has changed at `path`.
        SyncFailed: nothing has changed at `path`, and the disk is not to be trusted any more.
    """
    # Twice for every 256 events, and three times for a checkpoint of one: a Path costs 20 us each.
    folder, name = os.path.split(path)
    draft = f"{folder or os.curdir}/.{name}{DRAFT_SUFFIX}"
    try:
        handle = os.open(draft, _WRITING, mode)
        try:
            if os.write(handle, content) != len(content):
                raise OSError(f"{draft} was written in part only")
            _sync(handle, draft)
        finally:
            os.close(handle)
        os.replace(draft, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
        raise


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into; once the block ends it is at `path`, whole and durable.

    Nobody but its owner may read it. Where the block raises, nothing has changed at `path`.

    Raises:
        OSError, SyncFailed.
    """
    handle, name = tempfile.mkstemp(DRAFT_SUFFIX, prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            _sync(file.fileno(), draft)
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    sync_folder(path.parent)


def keep_folder(folder: Path, *, mode: int = 0o755) -> None:
    """Make `folder` if it is missing, and every name on the way to it durable.

    Also where they are there: a process that made them may have been killed before it could sync,
    and another one may be just about to.

    Raises:
        OSError, SyncFailed.
    """
    folder = folder.absolute()
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    if not _OPENS_FOLDERS:
        return
    for one in (folder, *folder.parents):
        if one.is_mount():
            break
        with suppress(PermissionError):  # a parent that this user may not read is not its own
            sync_folder(one.parent)


def sync_file(path: str | Path) -> None:
    """Make the bytes and the length of a file survive power loss, whoever wrote them.

    Raises:
        OSError, SyncFailed.
    """
    handle = os.open(path, os.O_RDONLY | _CLOEXEC | _BINARY)
    try:
        _sync(handle, path)
    finally:
        os.close(handle)


def sync_folder(folder: str | Path) -> None:
    """Make what was renamed in `folder`, made or taken away survive power loss.

    Raises:
        OSError, SyncFailed.
    """
    if _OPENS_FOLDERS:
        sync_file(folder)  # a folder is synced as a file is


def sync_folders(folders: Iterable[str | Path]) -> None:
    """`sync_folder` for each."""
    for folder in folders:
        sync_folder(folder)


def _sync(handle: int, path: str | Path) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        raise SyncFailed(f"{path}: {error.strerror or error}") from error
