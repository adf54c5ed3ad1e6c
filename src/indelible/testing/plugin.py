"""The pytest fixture `indelible_events`; pytest finds it by itself where Indelible is installed."""

from collections.abc import Iterator

import pytest

from indelible.testing.recorder import Recorder


@pytest.fixture
def indelible_events() -> Iterator[Recorder]:
    """A `Recorder` for this test: give `events.client` to the application, then assert."""
    with Recorder() as recorder:
        yield recorder
