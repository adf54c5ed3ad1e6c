"""The page about data quality, as a session of a shell: its commands, and what they print."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.edge.wire import eventually
from tests.nursery import inherited
from tests.world import AS_ADMIN, World

PAGE = Path(__file__).parents[2] / "docs/how-to/data-quality.md"

_BLOCK = re.compile(r"^```(sh|text|json)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_TX = re.compile(r"tx_[0-9a-f]{32}")


def steps(page: str) -> Iterator[tuple[str, str | None]]:
    """Each piece of shell of a page, with what the page says that it prints, if anything."""
    blocks = _BLOCK.findall(page)
    for (kind, text), following in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "sh":
            yield text, following[1] if following[0] == "text" else None


def printed(server: World, script: str, folder: Path) -> str:
    """What a piece of shell prints, once all that was sent is learned and counted."""
    bin_folder = Path(sys.executable).parent
    env = {
        **inherited(),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "INDELIBLE_DATA_DIR": str(server.data_dir),
    }
    eventually(lambda: is_quiet(server))
    ran = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == ran.returncode, (script, ran.stdout)
    return ran.stdout


def is_quiet(server: World) -> bool:
    health = server.http.get("/healthz", headers=AS_ADMIN).json()
    return bool(
        health["quality"]["unlearned"] == 0 and health["accounting"]["oldest_uncounted_s"] is None
    )


def timeless(text: str) -> list[str]:
    """The lines of a text without what is another one each time."""
    text = _TX.sub("tx_…", _MOMENT.sub("…", text))
    return [re.sub(r" +", " ", line).rstrip() for line in text.splitlines()]
