"""The file behind the journal: one writing connection, a reading one for each thread.

What a transaction leaves behind when something fails is decided here and nowhere else.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Final

import apsw

from indelible.connections import (
    BUSY_TIMEOUT_MS,
    Readers,
    identity_of,
    open_for_writing,
)
from indelible.durable import sync_file
from indelible.errors import JournalNewer, JournalUnwritable, SyncFailed
from indelible.journal.tables import create_table, create_view, projects_of, table_of

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 5
_CACHE_KIB: Final = 16 * 1024  # 64 MiB are no faster, for what is only added to
_SWEEP_S: Final = 5.0
_SWEEP_PAUSE_S: Final = 0.05
_SWEEP_HOLDS_MS: Final = 20  # how long one try may keep events from being stored

PATIENCE_S: Final = 4.0
"""How long a change waits for an earlier one, which may be stuck in a sync."""

# What turns a journal of the version before into one of this version; schema.sql is the newest.
_MIGRATIONS: Final = {
    1: """
ALTER TABLE project ADD COLUMN ledger_access TEXT NOT NULL DEFAULT 'key'
    CHECK (ledger_access IN ('key', 'public'));
ALTER TABLE project ADD COLUMN retention_days INTEGER;
CREATE TABLE log (
    name       TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id),
    origin     TEXT UNIQUE,
    vkey       TEXT,
    state      TEXT NOT NULL CHECK (state IN ('new', 'open', 'frozen'))
);
INSERT INTO log (name, project_id, state) SELECT name, id, 'new' FROM project;
""",
    # One limit for both lanes becomes one each. What the month has used so far cannot be told apart
    # without reading the month: product keeps the whole count, and audit begins with nothing used.
    2: """
ALTER TABLE project ADD COLUMN audit_monthly_limit INTEGER;
UPDATE project SET audit_monthly_limit = monthly_limit;
ALTER TABLE access_key ADD COLUMN rate REAL;
ALTER TABLE access_key ADD COLUMN burst INTEGER;
ALTER TABLE access_key ADD COLUMN origins TEXT NOT NULL DEFAULT '';
ALTER TABLE usage RENAME TO usage_of_both;
CREATE TABLE usage (
    project_id INTEGER NOT NULL REFERENCES project (id),
    month      TEXT NOT NULL,
    lane       TEXT NOT NULL CHECK (lane IN ('product', 'audit')),
    events     INTEGER NOT NULL,
    PRIMARY KEY (project_id, month, lane)
) WITHOUT ROWID;
INSERT INTO usage SELECT project_id, month, 'product', events FROM usage_of_both;
DROP TABLE usage_of_both;
""",
    3: """
ALTER TABLE access_key ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE log ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;
""",
    4: """
ALTER TABLE project ADD COLUMN legal_hold INTEGER NOT NULL DEFAULT 0;
""",
}

# After these SQLite has undone the transaction and nothing half-written was called durable, so a
# later one may succeed: space may come back, the other process may let go.
_PASSING: Final = (apsw.FullError, apsw.BusyError)


class Database:
    """`journal.db`, open for writing by this process.

    `vfs` names the SQLite file layer to use; None is the operating system's own. `sweep_s` is how
    long `sweep` waits for who reads an older state.
    """

    def __init__(self, path: Path, *, vfs: str | None = None, sweep_s: float = _SWEEP_S) -> None:
        self.path = path
        self.vfs = vfs
        self._sweep_s = sweep_s
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._changed = threading.Condition()
        self._commits = 0
        self._files: list[tuple[str, tuple[int, int]]] = []
        self._was_out_of_place = False
        self._unswept = ""  # why the last try to sweep has failed
        self._must_sweep = True  # whatever the last process left in the WAL
        self._readers = Readers(path, vfs=vfs)
        self._writer = open_for_writing(path, vfs=vfs, cache_kib=_CACHE_KIB)
        # FULL syncs the WAL at every commit: an acknowledged event survives power loss.
        self._writer.execute("PRAGMA synchronous = FULL")
        # What an erasure overwrites is overwritten with zeros, on freed pages as well.
        self._writer.execute("PRAGMA secure_delete = ON")
        # A statement's own undo log holds content, and would lie in a file outside the data folder.
        self._writer.execute("PRAGMA temp_store = MEMORY")
        try:
            self._create_tables()
            self._sweep_once()
        except BaseException:
            self._writer.close()
            raise
        # The WAL holds the newest acknowledged events; readers find them by its index.
        names = (path.name, f"{path.name}-wal", f"{path.name}-shm")
        files = ((str(file), identity_of(str(file))) for file in map(path.with_name, names))
        self._files = [(file, identity) for file, identity in files if identity is not None]

    def out_of_place(self) -> str | None:
        """Say which file a restart would not find, or return None if all are in place.

        A file that was moved or removed while open still accepts writes and syncs.
        """
        for file, identity in self._files:
            found = identity_of(file)
            if found != identity:
                state = "gone" if found is None else "another file than the one that is open"
                self._was_out_of_place = True
                return f"{file} is {state}; put it back, or restart the server"
        if self._was_out_of_place:
            self._was_out_of_place = False
            self._readers.renew()
        return None

    @property
    def failure(self) -> str | None:
        """Why nothing is written any more, or None while all is well."""
        return self._failure

    @contextmanager
    def transaction(
        self, *, patience_s: float | None = PATIENCE_S, looks_first: bool = True
    ) -> Iterator[apsw.Connection]:
        """Hold the writing connection for one atomic change; on leaving it is synced.

        `patience_s` is how long to wait for an earlier change; None waits without a limit. Pass
        `looks_first=False` if the caller checks `out_of_place` itself.

        Raises:
            apsw.ConstraintError: the change contradicts what is stored; nothing of it was.
            JournalUnwritable: nothing of the change may be taken as stored. After a full disk or a
                lock held elsewhere the next change may succeed; after anything else none will,
                until the process is restarted.
        """
        if not self._lock.acquire(timeout=-1 if patience_s is None else patience_s):
            raise JournalUnwritable(
                f"another change has been under way for {patience_s:g} s; this one was not begun"
            )
        try:
            if self._failure is not None:
                raise JournalUnwritable(self._failure)
            if looks_first and (misplaced := self.out_of_place()) is not None:
                raise JournalUnwritable(misplaced)
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except apsw.ConstraintError:
                self._undo()
                raise
            except apsw.Error as error:
                self._undo()
                if not isinstance(error, _PASSING):
                    # A failed sync may have dropped the unwritten pages and marked them clean: a
                    # second one would succeed without the data. Never retry. Restart, and let
                    # recovery read what the disk really holds.
                    self._failure = f"an earlier write failed: {error}; restart the server"
                raise JournalUnwritable(f"{type(error).__name__}: {error}") from error
            except BaseException:
                self._undo()
                raise
        finally:
            self._lock.release()
        with self._changed:
            self._commits += 1
            self._changed.notify_all()

    def probe(self) -> None:
        """Write and sync one page without changing it.

        Raises:
            JournalUnwritable: as `transaction`.
        """
        with self.transaction() as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def must_sweep(self) -> None:
        """Say, within a transaction, that it overwrites what must not be left in any file."""
        self._must_sweep = True

    def sweep(self) -> bool:
        """Fold the WAL into the file and cut it to nothing, so that what was overwritten is gone.

        At once when nothing was overwritten since the last time. Otherwise tried for `sweep_s`:
        False means that another connection has been reading an older state all the while, or that
        the disk is full.

        Raises:
            JournalUnwritable: the file could not be written or synced; nothing is written any
                more, until the process is restarted.
        """
        for _ in range(round(self._sweep_s / _SWEEP_PAUSE_S)):
            with self._lock:
                if self._sweep_once():
                    return True
            time.sleep(_SWEEP_PAUSE_S)
        logger.warning(
            "what was erased may still be in %s-wal: %s; it is tried again",
            self.path.name,
            self._unswept,
        )
        return False

    def reader(self) -> apsw.Connection:
        """This thread's connection for reading; each statement sees all that was committed."""
        return self._readers.mine()

    @property
    def commits(self) -> int:
        """How many changes were committed since the start."""
        return self._commits

    def wait_for_commit(self, seen: int, *, timeout_s: float) -> int:
        """Return `commits` as soon as it is over `seen`, or after `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._commits > seen, timeout_s)
            return self._commits

    def wake(self) -> None:
        """Let whoever waits for a commit look around, though there is none."""
        with self._changed:
            self._commits += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Close every connection. The last one to close folds the WAL into the file."""
        with self._lock:
            self._readers.close()
            with suppress(apsw.Error):
                self._writer.close()
            self._failure = "the journal is closed"

    def _sweep_once(self) -> bool:
        if not self._must_sweep:
            return True
        if self._failure is not None:
            raise JournalUnwritable(self._failure)
        try:
            self._writer.set_busy_timeout(_SWEEP_HOLDS_MS)
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            # SQLite does not sync the cut: after a power loss the old WAL would be back, whole.
            sync_file(self.path.with_name(f"{self.path.name}-wal"))
        except _PASSING as error:
            is_full = isinstance(error, apsw.FullError)
            self._unswept = "the disk is full" if is_full else "it is being read"
            return False
        except (apsw.Error, OSError, SyncFailed) as error:
            self._failure = f"the WAL could not be folded in: {error}; restart the server"
            raise JournalUnwritable(self._failure) from error
        finally:
            self._writer.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._must_sweep = False
        return True

    def _undo(self) -> None:
        with suppress(apsw.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _create_tables(self) -> None:
        version = int(self._writer.pragma("user_version"))
        if version > SCHEMA_VERSION:
            raise JournalNewer(
                f"{self.path} has schema {version}; this version reads {SCHEMA_VERSION}"
            )
        if version == SCHEMA_VERSION:
            return
        steps = [_MIGRATIONS[step] for step in range(version, SCHEMA_VERSION)] if version else []
        if not version:
            schema = resources.files("indelible.journal").joinpath("schema.sql")
            steps.append(schema.read_text("utf-8"))
        with self.transaction() as connection:
            for step in steps:
                connection.execute(step)
            if version == 1:
                _part_logs(connection)
            if version == 0:
                create_view(connection)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _part_logs(connection: apsw.Connection) -> None:
    """Give each project's log the table of its own that it has from version 2 on."""
    connection.execute("ALTER TABLE event RENAME TO every_event")
    for project_id in projects_of(connection):
        create_table(connection, project_id)
        connection.execute(
            f"INSERT INTO {table_of(project_id)} SELECT id, leaf, unique_key, salts, record,"  # noqa: S608
            " payload FROM every_event WHERE id >> 40 = ? ORDER BY id",
            (project_id,),
        )
    connection.execute("DROP TABLE every_event")
