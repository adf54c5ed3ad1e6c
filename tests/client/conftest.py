"""A server that misbehaves as told, for every story of the client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.client.options import ENVIRONMENT
from tests.client.stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own configuration, and a folder for state that goes away."""
    for variables in ENVIRONMENT.values():
        for variable in variables:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def fresh_default() -> Iterator[None]:
    """The module's own client, made for one test."""
    from indelible.client import default

    default._made.clear()
    yield
    for client in default._made:
        client.shutdown(1)
    default._made.clear()
