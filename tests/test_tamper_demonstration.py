"""The README's demonstration, run as it is printed: send, verify, change a byte, audit."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.cli.command import call
from tests.world import environment, spawn

ROOT = Path(__file__).parents[1]
SHELL_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def blocks() -> tuple[str, str]:
    """The README's commands before the server is stopped, and those behind."""
    found = SHELL_BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    (proving,) = [block for block in found if "indelible verify" in block]
    (forging,) = [block for block in found if "indelible audit" in block]
    return proving.replace('export PATH="$PWD/.venv/bin:$PATH"\n', ""), forging


def test_the_readmes_demonstration_does_what_it_says(tmp_path: Path) -> None:
    proving, forging = blocks()
    env = environment(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        XDG_STATE_HOME=str(tmp_path / "state"),
    )

    def run(script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True
        )

    server = spawn(tmp_path / "data")
    try:
        env["INDELIBLE_TOKEN"] = "test-token"
        proved = run(proving)
        sound = call("audit", str(tmp_path / "data"), XDG_STATE_HOME=env["XDG_STATE_HOME"])
    finally:
        server.stop()
        server.end()
    forged = run(forging)

    assert 0 == proved.returncode, proved.stderr
    assert re.search(r"^verdict +verified$", proved.stdout, re.MULTILINE), proved.stdout
    assert 0 == sound.code, sound.out
    assert 1 == forged.returncode, forged.stdout + forged.stderr
    assert "tampered: 1 finding" in forged.stdout
    assert "index 0, tx_" in forged.stdout
    assert "journal.db" in forged.stdout
