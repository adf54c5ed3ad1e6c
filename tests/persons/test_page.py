"""docs/how-to/persons.md, run as printed: each output is what the commands before it write."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import environment, spawn

PAGE = Path(__file__).parents[2] / "docs/how-to/persons.md"
BLOCK = re.compile(r"```sh\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)

# `send` says where the event is; the page does not repeat that.
QUIET_SEND = """
indelible() {
  if [ "$1" = send ]; then command indelible "$@" >/dev/null; else command indelible "$@"; fi
}
"""


@pytest.mark.timeout(600)
def test_the_page_shows_what_its_commands_write(tmp_path: Path) -> None:
    env = environment(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        INDELIBLE_DATA_DIR=str(tmp_path / "data"),
    )
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    assert PAGE.read_text("utf-8").count("```sh") == len(blocks) == 8

    server = spawn(tmp_path / "data")
    try:
        for commands, shown in blocks:
            ran = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", QUIET_SEND + commands],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
            )
            assert 0 == ran.returncode, (commands, ran.stdout, ran.stderr)
            wanted = [re.escape(line).replace("…", ".*") for line in shown.splitlines()]
            written = ran.stdout.splitlines()
            assert len(wanted) == len(written), ran.stdout
            for pattern, line in zip(wanted, written, strict=True):
                assert re.fullmatch(pattern, line.rstrip()), (pattern, line)
    finally:
        server.end()
