"""A process that appends to a journal as fast as it can, until it is killed.

`python -m tests.crash.writer FOLDER START` stores events START, START + 1, … of project 1 and
writes the number of the last one of each append as a line, once it is durable.
"""

import sys
from pathlib import Path

from indelible.event import Kind, Lane
from indelible.journal.contract import Draft, Stored
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry

AT_ONCE = 1_000
PROJECT = 1


def drafts(start: int, end: int) -> list[Draft]:
    """The events of these numbers."""
    return [
        Draft(
            PROJECT,
            Kind.PRODUCT,
            received_at_ms=number,
            payload=b"%d" % number,
            record=b'{"event":"x"}',
            lane=Lane.PRODUCT,
            client_id=f"id-{number}",
        )
        for number in range(start, end)
    ]


def open_journal(folder: Path) -> SqliteJournal:
    """The journal in `folder`, with project 1."""
    journal = SqliteJournal(Database(folder / "journal.db"))
    registry = Registry(RegistryTables(journal))
    if not registry.snapshot.projects:
        assert PROJECT == registry.projects.create("default").id
    return journal


def main(folder: Path, start: int) -> None:
    journal = open_journal(folder)
    while True:
        outcomes = journal.append(drafts(start, start + AT_ONCE))
        assert all(isinstance(outcome, Stored) for outcome in outcomes)
        start += AT_ONCE
        sys.stdout.write(f"{start - 1}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
