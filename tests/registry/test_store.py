"""The registry's tables in SQLite keep the store's contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.journal.contract import Entry
from indelible.journal.registry_tables import RegistryTables
from tests.journal.contract import whole_log
from tests.journal.rig import SqliteRig
from tests.registry.contract import StoreContract


class TablesRig:
    """`tests.registry.contract.StoreRig` for `RegistryTables`."""

    def __init__(self, folder: Path) -> None:
        self.sqlite = SqliteRig(folder)
        self.store = RegistryTables(self.sqlite.journal)

    def log(self, project_id: int) -> list[Entry]:
        return whole_log(self.sqlite.journal, project_id)

    def reopen(self) -> None:
        self.sqlite.disk.writes_left = None
        self.sqlite.reopen()
        self.store = RegistryTables(self.sqlite.journal)

    def lose_power(self) -> None:
        self.sqlite.lose_power()
        self.store = RegistryTables(self.sqlite.journal)

    def fail_writes(self) -> None:
        self.sqlite.disk.writes_left = 0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[TablesRig]:
    folder = tmp_path / "data"
    folder.mkdir()
    made = TablesRig(folder)
    yield made
    made.sqlite.close()


class TestRegistryTables(StoreContract):
    pass
