"""The registry's rows in the journal's own file: `indelible.registry.store.Store` in SQLite."""

import os
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any, Final

import apsw
import msgspec

from indelible import record
from indelible.errors import AlreadyExists
from indelible.event import Kind, Lane
from indelible.journal.contract import Draft
from indelible.journal.reading import SqliteReading
from indelible.journal.sqlite import SqliteJournal
from indelible.journal.standing import events_used
from indelible.journal.tables import create_table
from indelible.registry.snapshot import KeyRow, Snapshot
from indelible.registry.store import PATIENCE_S, Administration, Told
from indelible.registry.values import Key, LogRow, Project, Row

_Values = tuple[str | int | float | bytes | None, ...]

_PROJECT: Final = tuple(field.name for field in fields(Project))
_LOG: Final = tuple(field.name for field in fields(LogRow))
_KEY: Final = KeyRow.__struct_fields__


class RegistryRows:
    """The tables `project`, `access_key` and `log` of a journal, to be read from any process."""

    def __init__(self, journal: SqliteReading) -> None:
        self._connection = journal.connection

    def load(self) -> Snapshot:
        reader = self._connection()
        with reader:  # one state of all three tables
            projects = [_project(row) for row in reader.execute(_select("project", _PROJECT))]
            keys = [KeyRow(*row) for row in reader.execute(_select("access_key", _KEY))]
            logs = [LogRow(*row) for row in reader.execute(_select("log", _LOG))]
        return Snapshot.of(projects, keys, logs)

    def events_used(self, project_id: int, lane: Lane, month: str) -> int:
        return events_used(self._connection(), project_id, lane, month)


class RegistryTables(RegistryRows):
    """The same, to be changed as well, by the process that writes the journal."""

    def __init__(self, journal: SqliteJournal) -> None:
        super().__init__(journal)
        self._journal = journal
        self._database = journal.database

    def apply(
        self,
        *,
        added: Sequence[Row] = (),
        changed: Sequence[Row] = (),
        events: Sequence[Administration] = (),
    ) -> list[Told]:
        try:
            with self._database.transaction(patience_s=PATIENCE_S) as connection:
                for row in added:
                    _add(connection, row)
                for row in changed:
                    _change(connection, row)
                stored = [self._journal.log(connection, _draft(event)) for event in events]
        except apsw.ConstraintError:
            raise AlreadyExists("Another caller has made the same just now") from None
        return [Told(entry.index, entry.tx) for entry in stored]


def _add(connection: apsw.Connection, row: Row) -> None:
    table, names, values = _flat(row)
    if isinstance(row, Project):
        names, values = (*names, "secret"), (*values, os.urandom(32))
    places = ", ".join("?" * len(names))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})",  # noqa: S608 — our own names
        values,
    )
    if isinstance(row, Project):
        create_table(connection, row.id)


def _change(connection: apsw.Connection, row: Row) -> None:
    """Write a row that is there, found by its first column."""
    table, (identity, *names), (found_by, *values) = _flat(row)
    settings = ", ".join(f"{name} = ?" for name in names)
    connection.execute(
        f"UPDATE {table} SET {settings} WHERE {identity} = ?",  # noqa: S608 — our own names
        (*values, found_by),
    )


def _flat(row: Row) -> tuple[str, tuple[str, ...], _Values]:
    """The table of a row, its columns and their values; the first column identifies it."""
    match row:
        case Project():
            return "project", _PROJECT, astuple(row)
        case Key():
            return "access_key", _KEY, msgspec.structs.astuple(KeyRow.of(row))
        case LogRow():
            return "log", _LOG, astuple(row)


def _project(row: Sequence[Any]) -> Project:
    """SQLite has no booleans: what is one comes as a number."""
    members = dict(zip(_PROJECT, row, strict=True))
    return Project(**{**members, "legal_hold": bool(members["legal_hold"])})


def _select(table: str, names: Sequence[str]) -> str:
    return f"SELECT {', '.join(names)} FROM {table}"  # noqa: S608 — our own names


def _draft(event: Administration) -> Draft:
    return Draft(
        project_id=event.log.project_id,
        kind=Kind.ADMINISTRATION,
        received_at_ms=event.at_ms,
        payload=msgspec.json.encode(event.facts, order="sorted"),
        record=record.encode_record(record.Administration(event.name)),
    )
