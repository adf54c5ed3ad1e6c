"""One process for one folder: held by a lock that the kernel lets go of when the process ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from indelible.errors import DataFolderInUse

LOCK_NAME: Final = "serve.lock"


def hold(folder: Path) -> IO[str]:
    """Hold the folder until the file that is returned is closed, or this process ends.

    Raises:
        DataFolderInUse: another process holds it.
    """
    file = private(folder / LOCK_NAME).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DataFolderInUse(f"Process {owner} is using {folder.resolve()}") from error
    file.truncate(0)
    with suppress(OSError):  # on a full disk; the lock is held all the same
        file.write(str(os.getpid()))
        file.flush()
    return file


def private(path: Path) -> Path:
    """The file, made if need be, for nobody else to read."""
    path.touch(mode=0o600)
    return path
