"""Every example does what it says, against a real server."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.world import API_KEY, TOKEN, ServerProcess, client_environment, started

FOLDER = Path(__file__).parent.parent / "examples"
WITH_FIXED_IDS = FOLDER / "standard_library.py"
EXAMPLES = sorted(set(FOLDER.glob("[!_]*.py")) - {WITH_FIXED_IDS})


def run(example: Path, world: ServerProcess) -> None:
    env = client_environment(
        INDELIBLE_HOST=world.url,
        INDELIBLE_TOKEN=TOKEN,
        INDELIBLE_API_KEY=API_KEY,
        INDELIBLE_SPOOL_DIR=str(world.data_dir / "spool"),
    )
    subprocess.run([sys.executable, example], env=env, check=True, timeout=60)


def name_of(event: dict[str, Any]) -> str:
    return str(event["meta"]["event_name"] if event["kind"] == "audit" else event["event"])


def test_the_example_with_fixed_ids_adds_nothing_the_second_time(world: ServerProcess) -> None:
    logs = []
    for _ in range(2):
        run(WITH_FIXED_IDS, world)
        logs.append([event["tx_id"] for event in world.events()])
    assert 2 == len(logs[0])
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all of them, whose log only grows."""
    with started(tmp_path_factory.mktemp("examples") / "data") as server:
        yield server


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_leaves_the_events_that_it_names(server: ServerProcess, example: Path) -> None:
    documented = ast.get_docstring(ast.parse(example.read_text())) or ""
    named = re.search(r"^Leaves: (.+)$", documented, re.MULTILINE)
    assert named, "the docstring says what it leaves: a line `Leaves: name, name`"

    before = len(server.events())
    run(example, server)

    left = server.events()[before:]
    assert set(named[1].split(", ")) == {name_of(event) for event in left}
