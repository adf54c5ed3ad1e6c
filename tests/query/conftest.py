"""An empty log for each story, on the server that all share."""

from collections.abc import Iterator

import pytest

from tests.query.log import Log, new_log
from tests.world import World


@pytest.fixture
def log(shared: World) -> Iterator[Log]:
    with new_log(shared) as log:
        yield log
