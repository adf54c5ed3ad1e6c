"""The journal in SQLite.

Unique key, index, payload, salts, record and leaf of an event are one row, written in one synced
transaction, so there is no moment at which one exists without the others.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Final

import apsw

from indelible import leaf
from indelible.clock import Clock, now_ms
from indelible.errors import JournalUnwritable, NotErasable, NotFound
from indelible.event import tx_text
from indelible.journal.contract import Draft, Erased, Outcome, Stored
from indelible.journal.database import Database
from indelible.journal.erasing import ERASABLE, erasure, leaves_of, refuse_held, wipe
from indelible.journal.group import Group
from indelible.journal.keys_file import KEYS_FILE
from indelible.journal.reading import SqliteReading
from indelible.journal.standing import Standing
from indelible.journal.stored import StoredRows
from indelible.journal.tables import INDEX_MASK, id_of, table_of
from indelible.journal.txids import TxIds
from indelible.journal.unique import UniqueKeys

_MOST_ERASED: Final = 2_000  # in one transaction: ingest waits for it, some 50 ms


class SqliteJournal(SqliteReading):
    """`indelible.journal.contract.Journal` over a `Database`."""

    def __init__(self, database: Database, *, clock: Clock = now_ms) -> None:
        rows = StoredRows(database.reader)
        self._keys = UniqueKeys(database.path.with_name(KEYS_FILE), rows, vfs=database.vfs)
        super().__init__(database.reader, rows, self._keys)
        self.database = database
        self._clock = clock
        self._tx_ids = TxIds(clock, last=self._last_tx())
        self._appending = threading.Lock()
        self._standing = Standing(self._read_ends)

    @property
    def newest_tx_ms(self) -> int:
        """The time in the newest transaction id, ms since the epoch; 0 in an empty journal."""
        return self._tx_ids.ms

    @property
    def failure(self) -> str | None:
        """Why nothing is stored any more, or None while all is well."""
        return self.database.failure or self._keys.failure

    # Writing

    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        # Held until the new keys can be found, or a second append could miss them.
        with self._appending:
            if self._keys.failure is not None:  # before anything is written
                raise JournalUnwritable(self._keys.failure)
            with self.database.transaction(patience_s=None, looks_first=False) as connection:
                group = self._group(connection)
                outcomes = group.take_all(drafts)
                group.write()
            marks = group.marks()
            self._standing.committed(marks, group.used(), group.month)
            self._keys.add(group.new_keys, marks)
        # They are stored in the file that is open: is it still the one that a restart would find?
        if (misplaced := self.database.out_of_place()) is not None:
            raise JournalUnwritable(misplaced)
        return outcomes

    def probe(self) -> None:
        if self._keys.failure is not None:
            raise JournalUnwritable(self._keys.failure)
        self.database.probe()

    def log(self, connection: apsw.Connection, draft: Draft) -> Stored:
        """Add one uncounted event without a client id, in a transaction that the caller holds."""
        assert draft.client_id is None
        group = self._group(connection)
        (outcome,) = group.take_all([draft])
        group.write()
        assert isinstance(outcome, Stored)
        self._standing.begun(draft.project_id, outcome.index + 1)
        return outcome

    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        wanted = sorted(set(indexes))
        self._refuse_unerasable(project_id, wanted)
        entries: list[Stored] = []
        erased = 0
        for start in range(0, len(wanted), _MOST_ERASED):
            row_ids = [id_of(project_id, index) for index in wanted[start : start + _MOST_ERASED]]
            with self.database.transaction() as connection:
                # Here, in the transaction itself: a hold that was acknowledged is kept, whoever
                # looked at the project before that.
                refuse_held(connection, project_id, erased)
                wiped = [
                    row_id & INDEX_MASK
                    for row_id in wipe(connection, table_of(project_id), row_ids)
                ]
                if wiped:
                    self.database.must_sweep()
                    draft = erasure(project_id, wiped, reason=reason, at_ms=received_at_ms)
                    entries.append(self.log(connection, draft))
            # power lost here: the entries are erased, and the next start sweeps their bytes away
            erased += len(wiped)
        return Erased(tuple(entries), erased, len(wanted) - erased, self.database.sweep())

    def sweep(self) -> bool:
        return self.database.sweep()

    def wait(self, seen: int, *, timeout_s: float) -> int:
        return self.database.wait_for_commit(seen, timeout_s=timeout_s)

    def wake(self) -> None:
        self.database.wake()

    def close(self) -> None:
        """Close the journal and the database below it."""
        self._keys.close()
        self.database.close()

    # Reading

    def next_indexes(self, project_ids: Iterable[int]) -> dict[int, int]:
        return self._standing.ends(project_ids)

    # Behind the scenes

    def _refuse_unerasable(self, project_id: int, indexes: Sequence[int]) -> None:
        """
        Raises:
            NotFound, NotErasable.
        """
        if indexes and not 0 <= indexes[0] <= indexes[-1] < self.next_index(project_id):
            raise NotFound(f"The log has no index {indexes[0] if indexes[0] < 0 else indexes[-1]}")
        reader = self.database.reader()
        row_ids = [id_of(project_id, index) for index in indexes]
        for entry in leaves_of(reader, table_of(project_id), row_ids).values():
            read = leaf.decode(entry)
            if read.kind not in ERASABLE:
                raise NotErasable(f"{tx_text(read.tx)} is of kind {read.kind.word}")

    def _group(self, connection: apsw.Connection) -> Group:
        month = self._standing.month(self._clock())
        return Group(
            connection, self._keys, self._unique_keys, self._tx_ids, self._standing, month=month
        )

    def _last_tx(self) -> bytes | None:
        return max((entry.leaf.tx for entry in self.newest()), default=None)
