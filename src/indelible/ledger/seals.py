"""When each checkpoint was signed, and when it was witnessed: `DATA/seals.db`.

For people who ask for the life of an event. Nothing depends on it: when it is lost, the times of
older events are those of the oldest checkpoint that it knows of.
"""

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from indelible.connections import Readers, open_for_writing

logger = logging.getLogger(__name__)

SEALS_FILE: Final = "seals.db"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seal (
    origin          TEXT NOT NULL,
    size            INTEGER NOT NULL,
    sealed_at_ms    INTEGER NOT NULL,
    witnessed_at_ms INTEGER,          -- NULL: this checkpoint never met the quorum
    PRIMARY KEY (origin, size)
) WITHOUT ROWID;
"""


class Times(NamedTuple):
    """When an event was sealed and witnessed, ms since the epoch; None: not yet."""

    sealed_at_ms: int | None
    witnessed_at_ms: int | None


class Seals:
    """The record, open for writing by this process; a file that is damaged is begun anew."""

    def __init__(self, path: Path) -> None:
        try:
            self._writer = _open(path)
        except apsw.Error as error:
            logger.warning("%s is damaged (%s): begun anew", path, type(error).__name__)
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            self._writer = _open(path)
        self._writing = threading.Lock()
        self._readers = Readers(path, vfs=None)

    def sealed(self, origin: str, size: int, at_ms: int) -> None:
        """Note a checkpoint; the first time counts."""
        with self._writing, suppress(apsw.Error):
            self._writer.execute(
                "INSERT INTO seal (origin, size, sealed_at_ms) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (origin, size, at_ms),
            )

    def witnessed(self, origin: str, size: int, at_ms: int) -> None:
        """Note that the checkpoint of this size met the quorum."""
        with self._writing, suppress(apsw.Error):
            self._writer.execute(
                "UPDATE seal SET witnessed_at_ms = ? WHERE origin = ? AND size = ?",
                (at_ms, origin, size),
            )

    def size(self, origin: str) -> int:
        """How many events the largest checkpoint of this log covers; 0 if none is known.

        Never more than were sealed: a checkpoint is noted here after it is published.
        """
        with suppress(apsw.Error):
            largest = (
                self._readers.mine()
                .execute("SELECT max(size) FROM seal WHERE origin = ?", (origin,))
                .get
            )
            return int(largest or 0)
        return 0

    def times(self, origin: str, index: int) -> Times:
        """When the event with this index was covered for the first time.

        Unknown, too, where the file has been damaged since it was opened.
        """
        try:
            found = [
                self._readers.mine()
                .execute(
                    f"SELECT {column} FROM seal"  # noqa: S608 — a constant
                    f" WHERE origin = ? AND size > ? AND {column} IS NOT NULL"
                    " ORDER BY size LIMIT 1",
                    (origin, index),
                )
                .get
                for column in ("sealed_at_ms", "witnessed_at_ms")
            ]
        except apsw.Error:
            return Times(None, None)
        return Times(*found)

    def close(self) -> None:
        self._readers.close()
        with suppress(apsw.Error):
            self._writer.close()


def _open(path: Path) -> apsw.Connection:
    path.touch(mode=0o600)
    connection = open_for_writing(path, vfs=None, cache_kib=256)
    try:
        # The last seconds may be lost with the power, the file may not: no sync at each checkpoint.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        connection.execute("SELECT size FROM seal LIMIT 1")  # the schema tells nothing of the rows
    except apsw.Error:
        connection.close()  # closed later, it would take the log of the file begun anew with it
        raise
    return connection
