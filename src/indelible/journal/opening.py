"""The journal, opened by a command that changes it while no server runs."""

from pathlib import Path
from typing import NamedTuple

from indelible.clock import Clock
from indelible.journal.contract import Journal
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry


class OpenJournal(NamedTuple):
    """A journal and the registry that it holds; closing the journal closes both."""

    journal: Journal
    registry: Registry


def open_journal(path: Path, *, clock: Clock) -> OpenJournal:
    """Open the journal at `path` for writing, raised to this version's schema if it is older.

    Raises:
        JournalNewer: a later version wrote it.
        apsw.Error: it cannot be opened.
    """
    journal = SqliteJournal(Database(path), clock=clock)
    try:
        return OpenJournal(journal, Registry(RegistryTables(journal), clock=clock))
    except BaseException:
        journal.close()
        raise
