"""Which unique keys are stored, and where: exact, permanent, and cheap to keep.

A unique key is 32 bytes of an HMAC, so each new one falls on another page of a B-tree: an index
kept in step costs more than the events. The key therefore stands in the event's own row, which is
the truth and is synced with it, and the look-up is derived from the rows:

    recent    a dict of the keys stored last, in memory
    settling  the dict before it, while a thread of its own merges it
    unique.db all older ones, in order, and a mark for how far into each project's log it reaches

The file also keeps when the blocks of each log were received (moments.py), as far as its marks
reach.

A merge brings thousands of sorted keys at once, so that many share a page. A key is looked up in
all three, unless the sieve (sieve.py) rules it out at once. After a crash the rows behind the marks
are read again; without unique.db, all of them.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import apsw

from indelible.connections import in_runs
from indelible.derived import Derived
from indelible.errors import JournalUnwritable, Unavailable
from indelible.journal.keys_file import HEAD_BYTES, KeysFile, Mark
from indelible.journal.moments import BLOCK_BITS, Block
from indelible.journal.sieve import Sieve
from indelible.journal.tables import INDEX_BITS, INDEX_MASK

logger = logging.getLogger(__name__)

_MERGE_AT: Final = 65_536  # keys; half as many write nearly twice the pages a key, beside a million
_WAIT_AT: Final = 4  # merges: how far merging may fall behind before storing waits for it
_MARK_AT: Final = 2  # as many rows as keys of so many merges, with a key or without
_SLICE_BITS: Final = 3  # of a key's first byte
_RETRY_S: Final = 1.0
_SIEVED_AT_ONCE: Final = 4_096  # keys of the file, while the sieve is filled: some 2 ms
_SIEVE_PAUSE_S: Final = 0.004  # between two such steps, for those who answer requests
_CACHE_KIB: Final = 32 * 1024

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS unique_key (
    key BLOB PRIMARY KEY,  -- its first 16 bytes
    id  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (
    project_id INTEGER PRIMARY KEY,
    last_id    INTEGER NOT NULL,  -- the keys of the project's rows up to this one are in unique_key
    last_tx    BLOB NOT NULL      -- its transaction id: tells the keys of another journal apart
);
CREATE TABLE IF NOT EXISTS block (
    id       INTEGER PRIMARY KEY,  -- that of its rows, without the bits that count within it
    earliest BLOB NOT NULL,        -- times of receipt, as in a leaf
    latest   BLOB NOT NULL
);
"""


class Rows(Protocol):
    """The rows that keys are derived from."""

    def tx_of(self, row_id: int) -> bytes | None:
        """The transaction id of a row; None when there is no such row."""
        ...

    def behind(self, marks: Mapping[int, Mark]) -> Iterator[tuple[int, int, bytes, bytes | None]]:
        """(project id, row id, transaction id, key if any) of every row behind its project's mark,
        in the order of ids."""
        ...

    def blocks(self, project_id: int, first: int, behind: int) -> list[Block]:
        """The blocks that the entries [first, behind) of a project make."""
        ...


class UniqueKeys:
    """The keys of one journal. `find` is for any thread, `add` for the one that writes.

    `merge_at`: so many keys are merged at once.
    """

    def __init__(
        self, path: Path, rows: Rows, *, vfs: str | None = None, merge_at: int = _MERGE_AT
    ) -> None:
        self._merge_at = merge_at
        self._sieve = Sieve()
        self._sieved = b""  # up to this key of the file
        self._sieves = False  # up to its end
        self._recent: dict[bytes, int] = {}
        self._settling: dict[bytes, int] = {}
        self._marks: dict[int, Mark] = {}
        self._settling_marks: dict[int, Mark] = {}
        self._rows_since = 0
        self._merging = False
        self._failure: str | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._rows = rows
        self._db = Derived(
            path,
            schema=SCHEMA,
            version=2,
            probe="SELECT * FROM mark",
            cache_kib=_CACHE_KIB,
            vfs=vfs,
        )
        self._file = KeysFile(path, vfs=vfs)
        self._catch_up(rows)
        self._thread = threading.Thread(target=self._run, name="journal-keys", daemon=True)
        self._thread.start()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The row ids of those `keys` that are stored.

        Raises:
            JournalUnwritable: the file is damaged; the next start makes it again.
        """
        # A key moves from recent to settling to the file, and leaves each only once it is in the
        # next; looking in that order, it cannot be missed.
        recent, settling = self._recent, self._settling
        asked = self._sieve.held_back(keys) if self._sieves else keys
        found: dict[bytes, int] = {}
        older: list[bytes] = []
        for key in asked:
            row_id = recent.get(key) or settling.get(key)
            if row_id is None:
                older.append(key)
            else:
                found[key] = row_id
        try:
            with self._db.watched():
                found |= self._file.find(older)
        except Unavailable as error:
            raise JournalUnwritable(self.failure) from error
        return found

    @property
    def failure(self) -> str | None:
        """Why the keys cannot be trusted any more, or None while all is well."""
        return self._failure or self._db.failure

    def mark(self, project_id: int) -> Mark | None:
        """The last row of the project whose key, if it has one, can be found."""
        return self._marks.get(project_id)

    def add(self, keys: Mapping[bytes, int], marks: Mapping[int, Mark]) -> None:
        """Take in the keys of rows that were just committed, with the last row of each project."""
        self._sieve.put(list(keys))  # first: what it does not hold back is nowhere
        self._recent.update(keys)  # before the marks: see `mark`
        for project_id, mark in marks.items():
            self._advance(project_id, mark)
        if not self._is_due():
            return
        with self._changed:
            if len(self._recent) >= _WAIT_AT * self._merge_at:
                self._changed.wait_for(
                    lambda: not self._merging or self._stopping or self.failure is not None
                )
            if not self._merging:
                self._hand_over()
                self._changed.notify_all()

    def blocks(self, project_id: int, first: int) -> list[Block]:
        """See `KeysFile.blocks`."""
        return self._file.blocks(project_id, first)

    def close(self) -> None:
        """End the merging. What was not merged is read from the rows at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._file.close()
        self._db.close()

    def _advance(self, project_id: int, mark: Mark) -> None:
        before = self._marks.get(project_id)
        self._rows_since += 1 if before is None else mark.last_id - before.last_id
        self._marks[project_id] = mark

    def _is_due(self) -> bool:
        # Rows without a key count as well: a start reads every row behind the file's marks.
        return len(self._recent) >= self._merge_at or self._rows_since >= _MARK_AT * self._merge_at

    def _hand_over(self) -> None:
        # settling first: between the two lines a key is in both, never in neither
        self._settling = self._recent
        self._recent = {}
        self._settling_marks = dict(self._marks)
        self._rows_since = 0
        self._merging = True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._merging or self._stopping or not self._sieves)
                if self._stopping:
                    return
            try:
                if self._merging:
                    self._merge()
                else:
                    self._fill_sieve()
            except apsw.ConstraintError as error:
                self._give_up(f"two events share a unique key: {error}")
                return
            except (apsw.FullError, apsw.BusyError) as error:
                # Nothing is forgotten, and the rows are safe: the same merge is tried again.
                logger.warning("merging keys: %s; again in %g s", error, _RETRY_S)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, _RETRY_S)
            except (apsw.Error, Unavailable) as error:
                # After a failed sync a page may be lost unseen, and a key with it. All that the
                # file says stands in the rows: the next start makes it again.
                if self._db.failure is None:
                    self._db.give_up(f"{self._db.path.name}: {error}")
                with self._changed:
                    self._changed.notify_all()
                return

    def _give_up(self, failure: str) -> None:
        logger.critical("%s", failure)
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _merge(self) -> None:
        keys = self._settling
        with self._db.transaction() as connection:
            for ordered in _in_order(keys):
                values = [value for key in ordered for value in (key[:HEAD_BYTES], keys[key])]
                for run in in_runs(values, width=2):
                    connection.execute(_insert(len(run) // 2), run)
            connection.executemany(
                "INSERT OR REPLACE INTO mark (project_id, last_id, last_tx) VALUES (?, ?, ?)",
                [(project_id, *mark) for project_id, mark in self._settling_marks.items()],
            )
            for project_id, mark in self._settling_marks.items():
                self._keep_blocks(
                    connection, project_id, behind=((mark.last_id & INDEX_MASK) + 1) >> BLOCK_BITS
                )
        with self._changed:
            self._settling = {}
            self._merging = False
            self._changed.notify_all()

    def _fill_sieve(self) -> None:
        """Put some more of the keys that the file had at the start."""
        with self._db.watched():
            rows: list[Any] = (
                self._db.reader()
                .execute(
                    "SELECT key FROM unique_key WHERE key > ? ORDER BY key LIMIT ?",
                    (self._sieved, _SIEVED_AT_ONCE),
                )
                .fetchall()
            )
        heads = [head for (head,) in rows]
        self._sieve.put(heads)
        if len(heads) < _SIEVED_AT_ONCE:
            self._sieves = True
            return
        self._sieved = heads[-1]
        with self._changed:
            self._changed.wait_for(lambda: self._merging or self._stopping, _SIEVE_PAUSE_S)

    def _keep_blocks(self, connection: apsw.Connection, project_id: int, *, behind: int) -> None:
        begin = project_id << (INDEX_BITS - BLOCK_BITS)
        last = connection.execute(
            "SELECT max(id) FROM block WHERE id >= ? AND id < ?", (begin, begin + behind)
        ).get
        first = 0 if last is None else int(last) - begin + 1
        if first < behind:
            made = self._rows.blocks(project_id, first << BLOCK_BITS, behind << BLOCK_BITS)
            connection.executemany(
                "INSERT INTO block (id, earliest, latest) VALUES (?, ?, ?)",
                [(begin + number, *block) for number, block in enumerate(made, start=first)],
            )

    def _catch_up(self, rows: Rows) -> None:
        """Read the keys of every row that the file does not know yet."""
        marks = {
            project_id: Mark(last_id, last_tx)
            for project_id, last_id, last_tx in self._db.reader().execute(
                "SELECT project_id, last_id, last_tx FROM mark"
            )
        }
        if any(rows.tx_of(mark.last_id) != mark.last_tx for mark in marks.values()):
            logger.warning("the keys are another journal's: making them anew")
            with self._db.transaction() as connection:
                connection.execute("DELETE FROM unique_key; DELETE FROM mark; DELETE FROM block")
            marks = {}
        self._marks = marks
        for project_id, row_id, tx, key in rows.behind(dict(marks)):
            if key is not None:
                self._recent[key] = row_id
            self._advance(project_id, Mark(row_id, tx))
            if self._is_due() and not self._merging:
                self._sieve.put(list(self._recent))
                self._hand_over()
                try:
                    self._merge()
                except (apsw.FullError, apsw.BusyError) as error:
                    # The rest stays in memory, and the thread tries this merge again.
                    logger.warning("merging keys: %s", error)
        self._sieve.put(list(self._recent))


def _in_order(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The keys in order, in slices: sorting them at once would hold the interpreter for 20 ms."""
    slices: list[list[bytes]] = [[] for _ in range(1 << _SLICE_BITS)]
    for key in keys:
        slices[key[0] >> (8 - _SLICE_BITS)].append(key)
    for each in slices:
        each.sort()
        yield each


@cache
def _insert(keys: int) -> str:
    return f"INSERT INTO unique_key (key, id) VALUES {', '.join(['(?, ?)'] * keys)}"  # noqa: S608
