"""Copies of a SQLite file, taken while another process writes it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from indelible.errors import JournalNewer
from indelible.journal import outside
from indelible.journal.database import SCHEMA_VERSION
from indelible.untrusted import check_regular

_PAGES_AT_ONCE: Final = 4096

Progress = Callable[[int, int], None]
"""Called with the pages that are copied, and with all of them."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy of the journal holds; of one with complaints nothing more was read."""

    schema_version: int
    complaints: list[str]
    logs: list[outside.Log]
    keys: int


def copy_journal(source: Path, target: Path, *, progress: Progress | None = None) -> Copied:
    """Copy the journal to one file, complete without a WAL beside it, and check the copy.

    Nothing is synced here: that is the caller's, once, before the copy gets its name.

    Raises:
        JournalNewer: a later version wrote it.
        apsw.Error: it cannot be read, or the copy not be written.
        FileRefused: it is no regular file.
    """
    with (
        closing(outside.open_to_read(source)) as reading,
        closing(apsw.Connection(str(target))) as writing,
    ):
        writing.execute("PRAGMA synchronous = OFF")
        # One transaction from the first page to the last: all pages are of the same moment, and a
        # busy writer cannot make the copy begin again.
        reading.execute("BEGIN")
        version = outside.schema_version(reading)
        if version > SCHEMA_VERSION:
            raise JournalNewer(
                f"{source} has schema {version}; this version reads {SCHEMA_VERSION}"
            )
        _copy(reading, writing, progress)
        reading.execute("COMMIT")
        # One file; a server that opens it turns the WAL on again.
        writing.execute("PRAGMA journal_mode = DELETE").fetchall()
        # Before anything is counted: a tree whose pages lead back to themselves has no last row.
        if complaints := outside.integrity(writing, full=True):
            return Copied(version, complaints, [], 0)
        logs = outside.logs(writing)
        complaints = [log.fault for log in logs if log.fault]
        return Copied(version, complaints, logs, 0 if complaints else outside.keys(writing))


def copy_file(source: Path, target: Path) -> None:
    """Copy any SQLite file of ours as it is at one moment, its WAL included.

    Raises:
        FileRefused: it is no regular file.
    """
    check_regular(source)
    with (
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as read,
        closing(apsw.Connection(str(target))) as written,
    ):
        _copy(read, written, None)


def _copy(source: apsw.Connection, target: apsw.Connection, progress: Progress | None) -> None:
    with target.backup("main", source, "main") as run:
        while not run.done:
            run.step(_PAGES_AT_ONCE)
            if progress is not None:
                progress(run.page_count - run.remaining, run.page_count)
