"""How long each log was when each day began: `DATA/retention.db`.

An entry stored after such a note is younger than the note, whatever time it carries. If the file is
lost, the notes begin again: until the oldest event that is kept is younger than the first of them,
an event received while the clock was behind may be taken for older than it is.
"""

from pathlib import Path
from typing import Final

from indelible.derived import Derived
from indelible.journal.contract import JournalReader
from indelible.leaf import decode

LENGTHS_FILE: Final = "retention.db"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS length (
    project_id INTEGER NOT NULL,
    day        INTEGER NOT NULL,  -- since the epoch, by the clock
    entries    INTEGER NOT NULL,  -- how many the log had when the day was noted
    last_tx    BLOB NOT NULL,     -- the transaction id of the last: tells another journal apart
    PRIMARY KEY (project_id, day)
) WITHOUT ROWID;
"""


class Lengths:
    """The notes of every project's log; for one thread.

    Raises, as every method does:
        Unavailable: the file is damaged; the next start begins it again.
        apsw.Error: it cannot be read or written now.
    """

    def __init__(self, path: Path, journal: JournalReader) -> None:
        self._journal = journal
        self._file = Derived(
            path, schema=_SCHEMA, version=1, probe="SELECT day FROM length LIMIT 1", cache_kib=256
        )

    def note(self, project_id: int, day: int, entries: int) -> None:
        """Note that the log has this many entries; the first note of a day counts."""
        if not entries:
            return
        last_tx = self._tx_before(project_id, entries)
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT INTO length (project_id, day, entries, last_tx) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (project_id, day, entries, last_tx),
            )

    def on(self, project_id: int, first_day: int, last_day: int) -> int | None:
        """The length of the log on the first of these days that was noted, or None."""
        with self._file.watched():
            noted = self._file.reader().execute(
                "SELECT entries, last_tx FROM length WHERE project_id = ? AND day BETWEEN ? AND ?"
                " ORDER BY day",
                (project_id, first_day, last_day),
            )
            for entries, last_tx in noted.fetchall():
                assert isinstance(entries, int)
                if self._tx_before(project_id, entries) == last_tx:
                    return entries
        return None

    def forget(self, project_id: int, *, before_day: int) -> None:
        """Forget the notes of earlier days."""
        with self._file.transaction() as connection:
            connection.execute(
                "DELETE FROM length WHERE project_id = ? AND day < ?", (project_id, before_day)
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _tx_before(self, project_id: int, index: int) -> bytes | None:
        """The transaction id of the entry before this index, or None if the log has no such."""
        leaves = self._journal.leaves(project_id, index - 1, index)
        return decode(leaves[0]).tx if leaves else None
