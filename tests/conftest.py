"""Servers for the stories: one shared by those that only add events, a fresh one for the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from indelible.testing import Recorder
from tests import nursery
from tests.world import ServerProcess, started

# How long an example takes is the machine's doing, and what runs beside the tests.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

nursery.is_open = True


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that many tests send to: its log is never empty and never to be counted."""
    with started(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ServerProcess]:
    """A fresh server with an empty log."""
    with started(tmp_path / "data") as server:
        yield server


@pytest.fixture
def events(indelible_events: Recorder) -> Recorder:
    """The fixture of `indelible.testing` by a shorter name."""
    return indelible_events
