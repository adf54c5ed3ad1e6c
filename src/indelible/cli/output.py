"""The files that a command is told to write."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.durable import new_file


@contextmanager
def written(path: Path, *, mode: int = 0o600, keeps_mode: bool = False) -> Iterator[IO[bytes]]:
    """A file to write into; once the block ends it is at `path`, whole and durable.

    It is for its owner alone unless `mode` says more, or one that is replaced `keeps_mode`. A
    device or a pipe, such as /dev/stdout, is never replaced: it is written into.

    Raises:
        Failure: it is a folder, or its folder is not there.
        OSError, SyncFailed: nothing has changed at `path`.
    """
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise Failure(
                "io_failed",
                f"There is no folder {path.parent}",
                hint="Make it first.",
                exit_code=ExitCode.BROKEN,
            ) from None
        found, keeps_mode = stat.S_IFREG, False
    if stat.S_ISDIR(found):
        raise called_wrongly(f"{path} is a folder", hint="Name a file in it.")
    if not stat.S_ISREG(found):
        with path.open("wb") as file:
            yield file
        return
    with new_file(path) as file:
        if hasattr(os, "fchmod"):  # there are no such modes on Windows
            os.fchmod(file.fileno(), stat.S_IMODE(found) if keeps_mode else mode & ~_umask())
        yield file


def _umask() -> int:
    """What the user takes from every new file; it can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
