"""What the edge promises when the disk fails, hangs or is full, it promises over its line too.

These are the stories of tests/edge, told of a server whose edge has nothing but its line.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.edge.notice import Listening, Notice
from tests import world
from tests.edge.test_faults import *  # noqa: F403
from tests.edge.wire import eventually

# Those of the last milliseconds of a sync may share the one after the next.
del globals()["test_requests_that_arrive_during_a_sync_share_the_next_one"]


@pytest.fixture(scope="module", autouse=True)
def _over_a_line() -> Iterator[None]:
    world.OVER_A_LINE = True
    yield
    world.OVER_A_LINE = False


def test_who_listens_in_the_writer_is_told_what_the_edge_refuses(tmp_path: Path) -> None:
    queues: list[Listening] = []
    heard: list[Notice] = []
    with world.inside(tmp_path, listener=queues.append) as server:
        server.send(world.product() | {"api_key": "nobodys"})
        server.send([world.product(), world.product(event="")])

        def are_both_told() -> bool:
            heard.extend(queues[0].take().notices)
            return len(heard) == 2

        eventually(are_both_told)
    assert ["unknown_token", "missing_event"] == [notice.reason for notice in heard]
    assert "purchase_completed" not in heard[1].excerpt
    assert world.TOKEN not in heard[1].excerpt
