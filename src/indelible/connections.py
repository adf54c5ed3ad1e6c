"""SQLite connections: how they are opened, shared between threads, and fed with many rows."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import apsw

SQLITE_VERSION: Final = apsw.sqlite_lib_version()
SqliteError = apsw.Error
"""What SQLite raises, for those who catch it and open no file of their own."""

BUSY_TIMEOUT_MS: Final = 5_000
_LARGEST_RUN: Final = 256

_T = TypeVar("_T")


def identity_of(file: str) -> tuple[int, int] | None:
    """Return device and inode of the file at this path, or None if there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 — at every commit, and a Path costs twice as much
    except FileNotFoundError:
        return None
    except OSError:
        return (-1, -1)
    return found.st_dev, found.st_ino


def open_for_writing(path: Path, *, vfs: str | None, cache_kib: int) -> apsw.Connection:
    """The one writing connection of a file, made if need be, in WAL mode.

    `vfs` names the SQLite file layer; None is the operating system's own.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


class Readers:
    """A reading connection of one file for each thread that asks."""

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        self._path = path
        self._vfs = vfs
        self._local = threading.local()
        self._all: list[apsw.Connection] = []
        self._renewals = 0

    def mine(self) -> apsw.Connection:
        """This thread's connection; each statement sees all that was committed before it."""
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.renewals != self._renewals:
            connection = apsw.Connection(
                str(self._path), flags=apsw.SQLITE_OPEN_READONLY, vfs=self._vfs
            )
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._local.connection = connection
            self._local.renewals = self._renewals
            self._all.append(connection)
        return connection

    def renew(self) -> None:
        """Give each thread a new connection from now on. Use it after files were out of place:
        a connection opened meanwhile may hold the wrong ones."""
        self._renewals += 1

    def close(self) -> None:
        """Close them all."""
        for connection in self._all:
            with suppress(apsw.Error):
                connection.close()


def in_runs(items: list[_T], *, width: int = 1) -> Iterator[list[_T]]:
    """Cut `items`, of which every `width` make a row, into runs of 256 rows at most, each a power
    of two long or one and a half times that.

    SQLite lets go of the interpreter's lock at each step, and getting it back beside a busy event
    loop costs milliseconds: so many rows go into one statement, and there are few statements to
    keep prepared.
    """
    start, rows = 0, len(items) // width
    while start < rows:
        power = 1 << ((rows - start).bit_length() - 1)
        more = power + power // 2
        size = min(_LARGEST_RUN, more if more <= rows - start else power)
        yield items[start * width : (start + size) * width]
        start += size
