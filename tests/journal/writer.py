"""``python -m tests.journal.writer JOURNAL``: appends events one by one until it is killed.

Prints the index of each once it is stored.
"""

import sys
from itertools import count
from pathlib import Path

from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry
from tests.journal.contract import a_draft, stored


def main() -> None:
    journal = SqliteJournal(Database(Path(sys.argv[1])))
    registry = Registry(RegistryTables(journal))
    if not registry.snapshot.projects:
        registry.projects.create("shop")
    (project,) = journal.projects()
    for number in count(journal.next_index(project)):
        (outcome,) = stored(journal.append([a_draft(project, f"e{number}")]))
        sys.stdout.write(f"{outcome.index}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
