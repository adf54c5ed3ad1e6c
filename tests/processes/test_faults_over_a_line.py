"""What the edge promises when the disk fails, hangs or is full, it promises over its line too.

These are the stories of tests/edge, told of a server whose edge has nothing but its line.
"""

import pytest

from tests import world
from tests.edge.test_faults import *  # noqa: F403


@pytest.fixture(autouse=True)
def _over_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "OVER_A_LINE", True)
