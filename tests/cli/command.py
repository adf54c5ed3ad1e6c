"""The command as a shell runs it: a process of its own, with a clean environment."""

import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indelible.cli.main import run as run_here
from tests import nursery
from tests.nursery import inherited
from tests.world import World

PROGRAM = [sys.executable, "-m", "indelible"]


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The documents on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def fact(self, name: str) -> str:
        """The value of the one line that begins with `name`."""
        pairs = [line.partition("  ") for line in self.out.splitlines()]
        (value,) = [value.strip() for fact, _, value in pairs if fact == name]
        return value


def surroundings(**env: str) -> dict[str, str]:
    """An environment with nothing of Indelible's but `env`."""
    return {**inherited(), **env}


def run(
    *arguments: str,
    cwd: Path | None = None,
    beforehand: Callable[[], None] | None = None,
    **env: str,
) -> Ran:
    """Run `indelible` with these arguments to its end; its process calls `beforehand` first."""
    env = surroundings(**env)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        streams: dict[str, Any] = {"stdout": out, "stderr": err}
        process: nursery.Running
        if beforehand is None:
            process = nursery.start(arguments, env=env, cwd=cwd, **streams)
        else:
            process = subprocess.Popen(
                [*PROGRAM, *arguments], env=env, cwd=cwd, preexec_fn=beforehand, **streams
            )
        try:
            code = process.wait(60)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        ran = Ran(code, out.read(), err.read())
    assert "Traceback" not in ran.err, ran.err
    return ran


def call(*arguments: str, cwd: Path | None = None, **env: str) -> Ran:
    """The same through the same door, without a process: for cases that differ in arguments."""
    before, streams = dict(os.environ), (sys.stdout, sys.stderr)
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    os.environ.clear()
    os.environ.update(surroundings(**env))
    sys.stdout, sys.stderr = out, err
    try:
        with contextlib.chdir(cwd or Path.cwd()):
            code = run_here(arguments)
    finally:
        sys.stdout, sys.stderr = streams
        os.environ.clear()
        os.environ.update(before)
    written = [stream.buffer.getvalue().decode() for stream in (out, err)]
    assert "Traceback" not in written[1], written[1]
    return Ran(code, *written)


def run_without_privilege(*arguments: str) -> Ran:
    """`run` as somebody for whom the modes of files count, even where the tests run as root."""
    libc = ctypes.CDLL(None)
    drop, dac_override, dac_read_search = 24, 1, 2  # PR_CAPBSET_DROP; CAP_… of Linux

    def give_up() -> None:
        for capability in (dac_override, dac_read_search):
            libc.prctl(drop, capability, 0, 0, 0)

    return run(*arguments, beforehand=give_up)


def fine(*arguments: str) -> Ran:
    """`run`, which must end well."""
    ran = run(*arguments)
    assert 0 == ran.code, ran.err
    return ran


def at(server: World) -> tuple[str, str]:
    """The arguments that name the server's data folder."""
    return "--data", str(server.data_dir)


def begin(*arguments: str, cwd: Path | None = None) -> "subprocess.Popen[str]":
    """Start `indelible`; the caller ends it."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=surroundings(),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def assert_refused(ran: Ran, exit_code: int, code: str) -> None:
    """One `code: message` line and one `try: hint` line on stderr, nothing on stdout."""
    first, second = ran.err.splitlines()
    assert (exit_code, code, "") == (ran.code, first.partition(":")[0], ran.out)
    assert first.partition(": ")[2]
    assert second.startswith("try: ")
    assert second.removeprefix("try: ").strip()
