"""Checkers that we did not write, built and run: Go's sumdb packages, and tlog-scales of PyPI."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tlog_scales import cli

from tests.foreign import programs
from tests.foreign.needs import Missing

GO_AT_LEAST: Final = (1, 25)
"""What golang.org/x/mod 0.40 needs; before it tlog.TileHashReader believed some tiles unchecked."""

_DOWNLOAD_S: Final = 120
_BUILD_S: Final = 300
_RUN_S: Final = 60


@dataclass(frozen=True)
class Verdict:
    """What a checker said."""

    code: int
    out: str
    err: str


def build(source: Path, program: Path) -> Path:
    """Build the Go program in `source`, whose go.sum pins its one module."""
    go = str(_go())
    env = go_environment()
    fetched = _run([go, "mod", "download"], source, _DOWNLOAD_S, env)
    if fetched.code != 0:
        raise Missing(f"golang.org/x/mod cannot be fetched: {fetched.err.strip()}")
    built = _run([go, "build", "-trimpath", "-o", str(program), "."], source, _BUILD_S, env)
    assert built.code == 0, f"it does not build:\n{built.err}"
    return program


def go_run(source: Path, *arguments: str) -> Verdict:
    """`go run .`, as the README of an evidence tar says."""
    return _run([str(_go()), "run", ".", *arguments], source, _BUILD_S, go_environment())


def run(program: Path, *arguments: str | Path, cwd: Path | None = None) -> Verdict:
    """Run a checker to its end."""
    return _run([str(program), *map(str, arguments)], cwd, _RUN_S, {"PATH": os.environ["PATH"]})


def tlog_tiles(*arguments: str, cwd: Path) -> Verdict:
    """The command of tlog-scales, from the folder that its ./DIR stands in."""
    return run(Path(sys.executable).with_name("tlog-tiles"), *arguments, cwd=cwd)


def tlog_tiles_here(*arguments: str, cwd: Path) -> bytes:
    """What the same command writes, without a process: for cases that differ in arguments.

    Raises what it raises, which would end its process with exit code 1.
    """
    written = io.BytesIO()
    asked = cli.build_parser().parse_args(arguments)
    out = io.TextIOWrapper(written, write_through=True)
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out):
        asked.func(asked)
    return written.getvalue()


@contextlib.contextmanager
def one_bit_flipped(path: Path, at: int) -> Iterator[None]:
    """The lowest bit of byte `at` is another one for the time of a `with`."""
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[at] ^= 1
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(whole)


@contextlib.contextmanager
def taken_away(path: Path) -> Iterator[None]:
    """`path` is not there for the time of a `with`."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def go_environment() -> dict[str, str]:
    """As the machine has it set up for fetching modules; nothing else is fetched or guessed."""
    return {
        **os.environ,
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


def _go() -> Path:
    go = programs.go()
    version = programs.go_version(go)
    if version < GO_AT_LEAST:
        wanted, has = (".".join(map(str, one)) for one in (GO_AT_LEAST, version))
        raise Missing(f"golang.org/x/mod needs Go {wanted}, this is {has}")
    return go


def _run(command: list[str], cwd: Path | None, timeout_s: float, env: dict[str, str]) -> Verdict:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    return Verdict(done.returncode, done.stdout, done.stderr)
