"""The layer that records, compiled once for each run of the tests."""

from pathlib import Path

import pytest

from tests.foreign.needs import needed
from tests.power.recording import built


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with needed():
        return built(tmp_path_factory.mktemp("recorder"))
