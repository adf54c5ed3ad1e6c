"""Programs that use the client, run as processes of their own, and what arrived of them."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Self

from indelible.testing import InMemoryServer
from tests.world import client_environment

PATIENT = "Indelible(exit_s=30)"
"""A client whose end may take long: on a busy machine two seconds may be too few to be asked."""

BEGINNING = f"""\
import atexit, os, signal, sys, threading, time
from indelible import Indelible

def ticks(count, name="tick"):
    for place in range(count):
        client.capture(name, properties={{"place": place}})

def ready():
    print("ready", flush=True)

client = {PATIENT}
"""
"""What a program begins with unless it is to be whole."""

LIMIT_S = 60.0


class Program:
    """A program under way. It has ended, one way or another, when its `with` has."""

    def __init__(self, text: str, folder: Path, /, *arguments: str, **env: str) -> None:
        folder.mkdir(exist_ok=True)
        file = folder / "program.py"
        file.write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, file, *arguments],
            env=client_environment(**{"INDELIBLE_SPOOL_DIR": str(folder / "spool"), **env}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """Its next line of output; waits for it."""
        return _of(self.process.stdout).readline().strip()

    def wait_until_ready(self) -> None:
        line = self.line()
        if line != "ready":
            raise AssertionError(f"{line!r}: {self.process.communicate(timeout=LIMIT_S)[1]}")

    def say(self, line: str) -> None:
        """Write a line to its input."""
        _of(self.process.stdin).write(line + "\n")
        _of(self.process.stdin).flush()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def end(self) -> tuple[int, str]:
        """Wait for its end: the exit code, and what it said to the last."""
        said, complaint = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, said + complaint


def run(text: str, server: InMemoryServer, folder: Path, *, code: int = 0) -> str:
    """Run a program after `BEGINNING` to its end; what it said."""
    with Program(BEGINNING + text, folder, **address(server)) as program:
        ended, said = program.end()
    assert code == ended, said
    return said


def address(server: InMemoryServer) -> dict[str, str]:
    """The variables by which a client finds the server."""
    return {
        "INDELIBLE_HOST": server.url,
        "INDELIBLE_TOKEN": server.token,
        "INDELIBLE_API_KEY": server.api_key,
    }


def arrived(server: InMemoryServer) -> dict[str, int]:
    """How many events of each name the server has."""
    return dict(Counter(event.name for event in list(server.received)))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
