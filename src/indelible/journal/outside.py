"""The journal's file, looked at from outside: by another process than the one that writes it.

Everything here reads. A connection sees one moment of the journal for as long as a transaction is
open, and never holds up the writer.

An attacker may have made the file for us to open. A database can hold views that count for ever,
triggers, tables that are programs, and trees whose pages lead back to themselves. So we open only
a regular file, tell SQLite to trust nothing in the schema, bound the length of every value, can
give a connection a deadline, and refuse a schema that has anything we never write before we read
a row.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from indelible import leaf
from indelible.connections import BUSY_TIMEOUT_MS
from indelible.errors import JournalUnreadable
from indelible.event import Kind
from indelible.journal.tables import INDEX_BITS, INDEX_MASK
from indelible.registry.values import SERVER_ID
from indelible.untrusted import FileRefused, check_regular

Opened = apsw.Connection
"""A journal that was opened to read, for what here takes one."""

DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError)
"""What SQLite says of the file itself; every other error is of the machine around it."""
RIGHTS_HINT: Final = (
    "Check the free space and the rights of the folder: SQLite keeps files beside the journal that "
    "it reads. Of a folder that is read-only, look at a copy."
)
MOST_VALUE_BYTES: Final = 128 * 1024 * 1024
"""The longest value that is read of a row: a body, which holds an event, has 20 MB as it comes."""
_STEPS_A_LOOK: Final = 100_000  # of SQLite's machine, between two looks at the clock: some 5 ms
_ALONGSIDE: Final = ("", "-wal", "-shm", "-journal")
_LIMITS: Final = {
    apsw.SQLITE_LIMIT_LENGTH: MOST_VALUE_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 4 * 1024 * 1024,  # a view of all projects is long
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 100,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
# What create_view of indelible.journal.tables writes: an arm for each project, and parts of those.
_ARM: Final = r"SELECT id, leaf, unique_key, salts, record, payload FROM event_(?:part_)?[0-9]{1,8}"
_VIEW: Final = re.compile(
    rf"CREATE VIEW (event(?:_part_[0-9]{{1,8}})?) AS (?:{_ARM}(?: UNION ALL {_ARM})*"
    r"|SELECT 0 AS id, (?:x'' AS [a-z_]+(?:, )?)+ WHERE false)",
    re.ASCII,
)
_PART: Final = re.compile(r"event_part_[0-9]+", re.ASCII)
_INTEGRITY_COMPLAINTS: Final = 5


@dataclass(frozen=True, slots=True)
class Log:
    """What the file holds of one project's log; the indexes are None when it is empty."""

    project_id: int
    name: str
    entries: int
    first_index: int | None
    last_index: int | None

    @property
    def fault(self) -> str | None:
        """Why its indexes are not contiguous from 0; None when they are."""
        if self.entries == 0:
            return None
        if self.first_index != 0:
            return f"project {self.name} begins at index {self.first_index}"
        assert self.last_index is not None
        missing = self.last_index + 1 - self.entries
        return f"project {self.name} misses {missing} of its indexes" if missing else None


def open_to_read(path: Path, *, timeout_s: float | None = None) -> apsw.Connection:
    """A connection that believes nothing of the file.

    `timeout_s`: how long a statement may take before it is interrupted; None for as long as it
    needs.

    Raises:
        apsw.Error: it cannot be opened, is no database, or has a schema that we never write.
        FileRefused: it, or a file that SQLite keeps next to it, is not a regular file.
    """
    for end in _ALONGSIDE:
        check_regular(path.with_name(path.name + end))
    connection = apsw.Connection(
        str(path.parent.resolve() / path.name),
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW,
    )
    try:
        for limit, most in _LIMITS.items():
            connection.limit(limit, most)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.execute("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0").fetchall()
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if timeout_s is not None:
            limit_time(connection, timeout_s)
        _check_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of what stops a read within that this file cannot be read.

    Raises:
        JournalUnreadable.
    """
    try:
        yield
    except FileRefused as error:
        raise JournalUnreadable(f"{path}: {error.strerror}") from error
    except (apsw.Error, UnicodeDecodeError) as error:
        hint = None if isinstance(error, (*DAMAGED, UnicodeDecodeError)) else RIGHTS_HINT
        raise JournalUnreadable(f"{path}: {type(error).__name__}: {error}", hint=hint) from error


def limit_time(connection: apsw.Connection, timeout_s: float) -> None:
    """Interrupt this connection's statements `timeout_s` seconds from now."""
    deadline = time.monotonic() + timeout_s
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_A_LOOK)


def _check_schema(connection: apsw.Connection) -> None:
    """
    Raises:
        apsw.SQLError: the schema has what we never write, so what it would do is not ours to guess.
    """
    names: list[str] = []
    for kind, name, text in connection.execute(
        "SELECT type, name, sql FROM sqlite_schema LIMIT 100000"
    ):
        match kind:
            case "table" if isinstance(text, str) and not _is_virtual(text):
                names.append(str(name))
            case "index":
                pass
            case "view" if isinstance(text, str) and _is_ours(str(name), text):
                pass
            case _:
                raise apsw.SQLError(f"its schema has the {kind} {name}, which is none of ours")
    for name in names:
        for column, hidden in connection.execute(
            "SELECT name, hidden FROM pragma_table_xinfo(?)", (name,)
        ):
            if hidden:
                raise apsw.SQLError(
                    f"its column {name}.{column} is computed, which none of ours is"
                )


def _is_virtual(text: str) -> bool:
    return text[:20].upper().split()[:2] != ["CREATE", "TABLE"]


def _is_ours(name: str, text: str) -> bool:
    """Whether a view is one of ours; a part is made of tables alone, else it might hold itself."""
    found = _VIEW.fullmatch(text)
    if found is None or found[1] != name:
        return False
    return name == "event" or _PART.search(text, found.end(1)) is None


def schema_version(connection: apsw.Connection) -> int:
    """The version of its tables; 0 when it has none."""
    return int(connection.pragma("user_version"))


def integrity(connection: apsw.Connection, *, full: bool) -> list[str]:
    """What SQLite has to complain about; `full` compares indexes with rows as well."""
    check = "integrity_check" if full else "quick_check"
    rows = connection.execute(f"PRAGMA {check}({_INTEGRITY_COMPLAINTS})")
    found = [str(text) for (text,) in rows]
    return [] if found == ["ok"] else found


def repeated_keys(connection: apsw.Connection) -> int:
    """How many unique keys stand in more than one row: one event, stored twice. Sorts them all."""
    return int(
        connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM event WHERE unique_key IS NOT NULL"
            " GROUP BY unique_key HAVING count(*) > 1)"
        ).get
    )


def logs(connection: apsw.Connection) -> list[Log]:
    """The log of every project, and the server's own last; also of a project that the file does not
    know. Reads every row's key."""
    names = {int(i): str(name) for i, name in connection.execute("SELECT id, name FROM project")}
    runs = {
        int(project_id): (int(entries), int(first), int(last))
        for project_id, entries, first, last in connection.execute(
            "SELECT id >> ?, count(*), min(id & ?), max(id & ?) FROM event GROUP BY 1",
            (INDEX_BITS, INDEX_MASK, INDEX_MASK),
        )
    }
    found = []
    for project_id in sorted(names | runs, key=lambda one: (one == SERVER_ID, one)):
        entries, first, last = runs.get(project_id, (0, None, None))
        name = names.get(project_id, f"#{project_id} (unknown)")
        found.append(Log(project_id, name, entries, first, last))
    return found


def keys(connection: apsw.Connection) -> int:
    """How many keys the registry in the file has."""
    return int(connection.execute("SELECT count(*) FROM access_key").get)


def newest_stored_ms(connection: apsw.Connection) -> int | None:
    """When the newest entry of any project was stored; None in an empty journal."""
    from indelible.event import tx_time_ms

    newest: list[int] = []
    for (project_id,) in connection.execute("SELECT id FROM project").fetchall():
        assert isinstance(project_id, int)
        rows = connection.execute(
            "SELECT leaf FROM event WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
            (project_id << INDEX_BITS, project_id << INDEX_BITS | INDEX_MASK),
        )
        newest += [tx_time_ms(leaf.decode(entry).tx) for (entry,) in rows]
    return max(newest, default=None)


def sample(log: Log, count: int) -> list[int]:
    """At most `count` indexes of the log in order: the newest of them and others at random."""
    if log.entries <= count or log.last_index is None:
        return list(range(log.entries))
    newest = range(log.last_index + 1 - count // 2, log.last_index + 1)
    rest = range(newest.start)
    return sorted([*secrets.SystemRandom().sample(rest, count - len(newest)), *newest])


def erasures(before: Path) -> Iterator[tuple[int, str, dict[int, bytes]]]:
    """The erasures in a journal's log: project, reason, and the leaves of the erased by index."""
    connection = apsw.Connection(str(before), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        entries = connection.execute(
            "SELECT id, payload FROM event WHERE substr(leaf, 2, 1) = ? ORDER BY id",
            (bytes([Kind.ERASURE]),),
        )
        for row_id, payload in entries:
            if payload is None:
                continue
            facts = json.loads(payload)
            first = row_id & ~INDEX_MASK
            leaves: dict[int, bytes] = {}
            for start, end in facts["erased"]:
                rows = connection.execute(
                    "SELECT id, leaf FROM event WHERE id >= ? AND id < ?",
                    (first + start, first + end),
                )
                leaves |= {at - first: leaf for at, leaf in rows}
            yield row_id >> INDEX_BITS, str(facts["reason"]), leaves
    finally:
        connection.close()


def held(before: Path) -> list[str]:
    """The names of the projects that a journal has on legal hold; older versions have none."""
    connection = apsw.Connection(str(before), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(project)")]
        if "legal_hold" not in columns:
            return []
        rows = connection.execute("SELECT name FROM project WHERE legal_hold ORDER BY id")
        return [str(name) for (name,) in rows]
    finally:
        connection.close()


def open_logs(path: Path) -> list[tuple[str, str, str]]:
    """Project, name and origin of the logs that are signed.

    Raises:
        JournalUnreadable.
    """
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            rows: list[Any] = connection.execute(
                "SELECT project.name, log.name, log.origin FROM log"
                " JOIN project ON project.id = log.project_id"
                " WHERE log.state = 'open' ORDER BY project.name"
            ).fetchall()
        finally:
            connection.close()
    except apsw.Error as error:
        raise JournalUnreadable(f"{path}: {type(error).__name__}: {error}") from error
    return rows
