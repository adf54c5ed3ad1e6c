"""Every example does what it says, against a real server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import API_KEY, TOKEN, ServerProcess, environment

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_and_adds_nothing_the_second_time(
    world: ServerProcess, example: Path
) -> None:
    host = environment(INDELIBLE_HOST=world.url, INDELIBLE_TOKEN=TOKEN, INDELIBLE_API_KEY=API_KEY)
    logs = []
    for _ in range(2):
        subprocess.run([sys.executable, example], env=host, check=True, timeout=60)
        logs.append([event["tx_id"] for event in world.events()])
    assert 2 == len(logs[0])
    assert logs[0] == logs[1]
