"""The table of each project's log, and how its name is found.

A table of its own for each log, because a log only ever grows at its end: then SQLite's B-tree
never splits a page in the middle. Such a split copies rows and leaves bytes of them behind in the
free space of a page, where no later erasure of the row can reach them; `secure_delete` does not
cover it. The view `event` has all logs together, for whoever looks at the file from outside.
"""

from typing import Final

import apsw

from indelible.journal.contract import LARGEST_INDEX

INDEX_BITS: Final = LARGEST_INDEX.bit_length()
"""A row's id is `project id << INDEX_BITS | index`."""
INDEX_MASK: Final = LARGEST_INDEX

_TABLE: Final = """
-- Kind, received time and transaction id are in the leaf and nowhere else. The leaf stands first
-- so that a search by time or transaction id never touches a large row's overflow pages.
CREATE TABLE IF NOT EXISTS {table} (
    id         INTEGER PRIMARY KEY,  -- (project id << 40) + index
    leaf       BLOB NOT NULL CHECK (length(leaf) = 96),
    unique_key BLOB,   -- HMAC-SHA256(project secret, lane || 0x00 || client id), or NULL
    salts      BLOB,   -- payload salt, then record salt; NULL once erased, as are the next two
    record     BLOB,
    payload    BLOB
)
"""
_NOTHING: Final = (
    "SELECT 0 AS id, x'' AS leaf, x'' AS unique_key, x'' AS salts, x'' AS record, x'' AS payload"
    " WHERE false"
)
_MOST_AHEAD: Final = 128
MOST_ARMS: Final = 400
"""Of one compound SELECT: SQLite takes 500."""


def table_of(project_id: int) -> str:
    """The table that holds the log of this project."""
    return f"event_{project_id:d}"


def id_of(project_id: int, index: int) -> int:
    """The id of the row that holds this entry."""
    return project_id << INDEX_BITS | index


def ids_of(project_id: int, start: int, end: int) -> tuple[int, int]:
    """The row ids of the indexes [start, end), half-open too."""
    first, behind = (min(max(index, 0), INDEX_MASK + 1) for index in (start, end))
    return id_of(project_id, 0) + first, id_of(project_id, 0) + behind


def next_index_of(connection: apsw.Connection, project_id: int) -> int:
    """How many entries the project's log has."""
    last = connection.execute(f"SELECT max(id) FROM {table_of(project_id)}").get  # noqa: S608
    return 0 if last is None else (int(last) & INDEX_MASK) + 1


def projects_of(connection: apsw.Connection) -> list[int]:
    """The ids of all projects, ascending."""
    ids = connection.execute("SELECT id FROM project ORDER BY id").fetchall()
    return [int(str(project_id)) for (project_id,) in ids]


def create_table(connection: apsw.Connection, project_id: int) -> None:
    """Make the table of a new project's log, within a transaction of the caller's.

    As many more are made ahead as there are projects, up to `_MOST_AHEAD`. A new table lets every
    connection read the whole schema again, and the view has to name it: done for each project,
    both would cost more the more projects there are.
    """
    found = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table_of(project_id),)
    )
    if found.get is not None:
        return
    for ahead in range(max(1, min(project_id - 1, _MOST_AHEAD))):
        connection.execute(_TABLE.format(table=table_of(project_id + ahead)))
    create_view(connection)


def create_view(connection: apsw.Connection) -> None:
    """Make the view `event` again, over the logs of all projects."""
    names_of_tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'event_[0-9]*'"
    ).fetchall()
    ids = sorted(int(str(name).removeprefix("event_")) for (name,) in names_of_tables)
    tables = [table_of(project_id) for project_id in ids]
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'view' AND name GLOB 'event*'"
    ).fetchall():
        connection.execute(f"DROP VIEW {name}")
    parts = [tables[at : at + MOST_ARMS] for at in range(0, len(tables), MOST_ARMS)]
    names = [f"event_part_{number}" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        connection.execute(f"CREATE VIEW {name} AS {_union(part)}")
    connection.execute(f"CREATE VIEW event AS {_union(names) or _NOTHING}")


def _union(tables: list[str]) -> str:
    return " UNION ALL ".join(
        f"SELECT id, leaf, unique_key, salts, record, payload FROM {table}"  # noqa: S608
        for table in tables
    )
