"""Journals in SQLite, on the test bench."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.journal.sqlite import SqliteJournal
from tests.journal.contract import MakeRig
from tests.journal.rig import MakeRigOf, SqliteRig


@pytest.fixture
def make_rig_of(tmp_path: Path) -> Iterator[MakeRigOf]:
    """Builds a rig round a class of journal; each has a new and empty file."""
    rigs: list[SqliteRig] = []
    numbers = itertools.count()

    def make(kind: type[SqliteJournal]) -> SqliteRig:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        rigs.append(SqliteRig(folder, kind=kind))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def make_rig(make_rig_of: MakeRigOf) -> MakeRig:
    """Builds rigs round the journal that ships."""
    return lambda: make_rig_of(SqliteJournal)


@pytest.fixture
def sqlite(make_rig_of: MakeRigOf) -> SqliteRig:
    """One rig round the journal that ships."""
    return make_rig_of(SqliteJournal)
