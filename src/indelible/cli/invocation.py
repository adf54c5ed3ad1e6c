"""Commands as they work when typed in the folder that this process was started in."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def as_typed(*arguments: str, data: Path | None = None) -> str:
    """A command line for the reader to copy; `data` adds --data unless it is the default."""
    chosen = [] if data is None or _same(data, Path("data")) else ["--data", str(data)]
    words = [*program(sys.argv[0], sys.executable), *arguments, *chosen]
    if os.name == "nt":
        return subprocess.list2cmdline(words)
    return shlex.join(words)


def how_to_send(*, project: str | None, data: Path | None) -> str:
    """What an empty log says."""
    where = [] if project is None else ["--project", project]
    example = as_typed("send", "hello", "--distinct-id", "me", *where, data=data)
    return f"no events yet; send one with: {example}"


def program(started_as: str, python: str) -> list[str]:
    """What to type for this program: its name when PATH finds it, else the way to it."""
    script = Path(started_as)
    if script.name == "__main__.py" or not script.is_file():
        return [_from_here(Path(python)), "-m", "indelible"]
    found = shutil.which(script.name)
    if found is not None and _same(Path(found), script):
        return [script.name]
    return [_from_here(script)]


def _from_here(path: Path) -> str:
    """`path` as seen from the current folder, when it is below it; else the whole of it."""
    # Not resolve(): .venv/bin/python is a link, and what it points to is another installation.
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 — see above
    try:
        below = absolute.relative_to(Path.cwd())
    except ValueError:
        return str(absolute)
    # A shell looks for a bare name in PATH only.
    return str(below) if len(below.parts) > 1 else f".{os.sep}{below}"


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
