"""When each checkpoint was signed, and when it was witnessed: `DATA/seals.db`.

For people who ask for the life of an event. Nothing depends on it: when it is lost, the times of
older events are those of the oldest checkpoint that it knows of.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from indelible.connections import SqliteError
from indelible.derived import Derived
from indelible.errors import Unavailable

SEALS_FILE: Final = "seals.db"

_LOST: Final = (SqliteError, Unavailable)
"""Nothing depends on what is kept here, so what cannot be written or read now is left out."""

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
        self._file = Derived(
            path,
            schema=_SCHEMA,
            version=1,
            probe="SELECT size FROM seal LIMIT 1",
            cache_kib=256,
        )

    def sealed(self, checkpoints: Iterable[tuple[str, int]], at_ms: int) -> None:
        """Note checkpoints, by origin and size, in one transaction; the first time counts."""
        with suppress(*_LOST), self._file.transaction() as connection:
            connection.executemany(
                "INSERT INTO seal (origin, size, sealed_at_ms) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                [(origin, size, at_ms) for origin, size in checkpoints],
            )

    def witnessed(self, origin: str, size: int, at_ms: int) -> None:
        """Note that the checkpoint of this size met the quorum."""
        with suppress(*_LOST), self._file.transaction() as connection:
            connection.execute(
                "UPDATE seal SET witnessed_at_ms = ? WHERE origin = ? AND size = ?",
                (at_ms, origin, size),
            )

    def size(self, origin: str) -> int:
        """How many events the largest checkpoint of this log covers; 0 if none is known.

        Never more than were sealed: a checkpoint is noted here after it is published.
        """
        with suppress(*_LOST), self._file.watched():
            largest = (
                self._file.reader()
                .execute("SELECT max(size) FROM seal WHERE origin = ?", (origin,))
                .get
            )
            return int(largest or 0)
        return 0

    def times(self, origin: str, index: int) -> Times:
        """When the event with this index was covered for the first time.

        Unknown, too, where the file has been damaged since it was opened.
        """
        with suppress(*_LOST), self._file.watched():
            found = [
                self._file.reader()
                .execute(
                    f"SELECT {column} FROM seal"  # noqa: S608 — a constant
                    f" WHERE origin = ? AND size > ? AND {column} IS NOT NULL"
                    " ORDER BY size LIMIT 1",
                    (origin, index),
                )
                .get
                for column in ("sealed_at_ms", "witnessed_at_ms")
            ]
            return Times(*found)
        return Times(None, None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
