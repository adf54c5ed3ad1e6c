"""The file that keeps the schemas, `DATA/schema.db`: derived from the journal, never backed up.

A stretch of a log and the mark that says how far it reaches are written in one transaction, so a
stretch is learned once however often it is handed over. The file holds names of events and
properties, and shapes of values, but no value (`indelible.quality.shape`): nothing in it has to go
when an event is erased. Counts stay. Where the file is made again after an erasure, nobody knows
what the erased events were called, and they are counted as `erased`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
from msgspec import Struct

from indelible.derived import MARKS, RESTART_HINT, Derived, Mark, marks
from indelible.errors import Unavailable
from indelible.event import Kind
from indelible.quality.book import EVENT, HELD, LANE
from indelible.quality.schema import EventSchema, Held, Lane

SCHEMA_FILE: Final = "schema.db"

_VERSION: Final = 1
_CACHE_KIB: Final = 4 * 1024

_SCHEMA: Final = f"""{MARKS}
CREATE TABLE IF NOT EXISTS lane (
    project_id INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    state      BLOB NOT NULL,     -- a Lane in MessagePack
    PRIMARY KEY (project_id, kind)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS event (
    project_id INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    count      INTEGER NOT NULL,
    first_ms   INTEGER NOT NULL,
    last_ms    INTEGER NOT NULL,
    properties INTEGER NOT NULL,
    looked     INTEGER NOT NULL,
    state      BLOB NOT NULL,     -- an EventSchema in MessagePack
    PRIMARY KEY (project_id, kind, name)
);

CREATE TABLE IF NOT EXISTS contract (
    project_id INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    checked    INTEGER NOT NULL,
    unfit      INTEGER NOT NULL,
    state      BLOB NOT NULL,     -- a Held in MessagePack
    PRIMARY KEY (project_id, kind, name)
);
"""


class Listed(Struct, frozen=True, gc=False):
    """An event of a list; `checked` and `unfit` are None if it has no contract.

    One that has a contract and was never seen has a `count` of 0, and no times.
    """

    name: str
    kind: str
    count: int
    first_ms: int | None
    last_ms: int | None
    properties: int
    looked: int
    checked: int | None
    unfit: int | None


class Schemas:
    """The schemas of every project. One thread writes; any thread reads."""

    def __init__(self, path: Path) -> None:
        self._file = Derived(
            path,
            schema=_SCHEMA,
            version=_VERSION,
            probe="SELECT * FROM mark",
            cache_kib=_CACHE_KIB,
        )
        with self._file.watched():
            self.marks = marks(self._file.reader())

    @property
    def failure(self) -> str | None:
        """Why nothing is learned any more, or None while all is well."""
        return self._file.failure

    def next_index(self, project_id: int) -> int:
        """The first entry of the project that is not learned yet."""
        return self.marks[project_id].next_index if project_id in self.marks else 0

    @contextmanager
    def changing(self) -> Iterator[apsw.Connection]:
        """Hold the writing connection for one atomic change.

        Raises:
            Unavailable: the file is damaged; the next start makes it anew.
            apsw.Error: nothing was changed; it may be tried again.
        """
        with self._watched(), self._file.transaction() as connection:
            yield connection

    def moved(self, reached: dict[int, Mark]) -> None:
        """Take these for the positions of their projects: they are in the file."""
        self.marks.update(reached)

    def begin_anew(self) -> None:
        """Forget everything."""
        with self.changing() as connection:
            connection.execute(
                "DELETE FROM lane; DELETE FROM event; DELETE FROM contract; DELETE FROM mark"
            )
        self.marks = {}

    def close(self) -> None:
        """Close every connection."""
        self._file.close()

    # Reading; each raises Unavailable if the file is damaged.

    def page(
        self, project_id: int, *, kind: Kind | None, after: tuple[str, str] | None, limit: int
    ) -> list[Listed]:
        """At most `limit` events in the order of kind and name, of those behind `after`.

        An event with a contract that was never seen is among them.
        """
        conditions, values = ["project_id = :project"], dict[str, Any](project=project_id)
        if kind is not None:
            conditions.append("kind = :kind")
            values["kind"] = kind.word
        if after is not None:
            conditions.append("(kind, name) > (:after_kind, :after_name)")
            values |= {"after_kind": after[0], "after_name": after[1]}
        where = " AND ".join(conditions)
        with self._watched():
            rows: Any = self._file.reader().execute(
                # our own conditions; what callers sent is bound
                "SELECT name, kind, max(count), max(first_ms), max(last_ms), max(properties),"  # noqa: S608
                " max(looked), max(checked), max(unfit) FROM ("
                " SELECT name, kind, count, first_ms, last_ms, properties, looked,"
                f" NULL AS checked, NULL AS unfit FROM event WHERE {where}"
                " UNION ALL SELECT name, kind, 0, NULL, NULL, 0, 0, checked, unfit"
                f" FROM contract WHERE {where}"
                ") GROUP BY kind, name ORDER BY kind, name LIMIT :limit",
                {**values, "limit": limit},
            )
            return [Listed(*row) for row in rows]

    def event(self, project_id: int, kind: Kind, name: str) -> EventSchema | None:
        """What is known of an event; None if it was never seen."""
        found = self._state("event", project_id, kind, name)
        return None if found is None else self._decoded(EVENT, found)

    def contract(self, project_id: int, kind: Kind, name: str) -> Held | None:
        """The contract of an event, and what came of it; None if it has none."""
        found = self._state("contract", project_id, kind, name)
        return None if found is None else self._decoded(HELD, found)

    def contracts(self, project_id: int) -> int:
        """How many events of the project have a contract."""
        with self._watched():
            found = self._file.reader().execute(
                "SELECT count(*) FROM contract WHERE project_id = ?", (project_id,)
            )
            return int(str(found.get))

    def lanes(self, project_id: int) -> dict[Kind, Lane]:
        """What is known of the product and of the audit events of a project together."""
        with self._watched():
            rows: Any = self._file.reader().execute(
                "SELECT kind, state FROM lane WHERE project_id = ?", (project_id,)
            )
            return {Kind[kind.upper()]: LANE(state) for kind, state in rows}

    def _state(self, table: str, project_id: int, kind: Kind, name: str) -> Any:
        with self._watched():
            return (
                self._file.reader()
                .execute(
                    f"SELECT state FROM {table}"  # noqa: S608 — our own names
                    " WHERE project_id = ? AND kind = ? AND name = ?",
                    (project_id, kind.word, name),
                )
                .get
            )

    def _decoded(self, decode: Any, state: bytes) -> Any:
        with self._watched():
            return decode(state)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """As `Derived.watched`; a state that cannot be decoded is damage as well."""
        try:
            with self._file.watched():
                yield
        except msgspec.DecodeError as error:
            self._file.give_up(f"{self._file.path.name} is damaged ({error})")
            raise Unavailable("The schemas are damaged", hint=RESTART_HINT) from error
