"""A process that has imported the product, and forks one for each command that a test runs.

What `python -m indelible` does before its first own line, a second of processor time for a server,
is the same every time; here it is done once for each run of the tests. What is forked is a process
like any other: it runs the same `__main__`, has a pid, streams and an environment of its own, can
be killed, and ends as the interpreter ends.

The nursery is told by a socket: one message a command, with the descriptors that become its
streams. Each command has a pipe on which its pid and, in the end, its exit status are said.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).parents[1]
_LONGEST_ORDER = 1 << 18  # bytes; arguments and environment
_FDS = 1 << 16  # more than a nursery ever has
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")
_NEEDED = ("indelible.app", "indelible.cli.main")
# What these import only when a command or a server begins.
_USED_LATER = ("typer._adapters", "litestar.plugins.pydantic", "anyio._backends._asyncio")


class Process:
    """A command that runs, or ran. What it has of `subprocess.Popen` means the same."""

    def __init__(self, said: int) -> None:
        self._said = os.fdopen(said, "rb", buffering=0)
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self.pid = self._number()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, in `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = 1.0 if deadline is None else min(1.0, max(0, deadline - time.monotonic()))
            with self._lock:
                if self.returncode is None and select.select([self._said], [], [], left)[0]:
                    self.returncode = os.waitstatus_to_exitcode(self._number())
                    self._said.close()
            if self.returncode is None and deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it this signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        line = self._said.readline()
        if not line:
            raise RuntimeError("the nursery has ended")
        return int(line)


Running = Process | subprocess.Popen[bytes]

is_open = False
"""Whether commands are forked here. pytest opens it; what measures a start never does."""


def start(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdout: int | IO[str],
    stderr: int | IO[str],
) -> Running:
    """Start `indelible` with these arguments and nothing on stdin; the caller ends it.

    Not as a fork while the nursery is not open, nor where `env` has something else of what an
    interpreter reads as it starts.
    """
    if not is_open or _read_at_start(env) != _read_at_start(inherited()):
        program = [sys.executable, "-m", "indelible", *arguments]
        return subprocess.Popen(
            program, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
    order = {
        "arguments": [str(argument) for argument in arguments],
        "env": dict(env),
        "cwd": str((cwd or Path.cwd()).absolute()),
    }
    streams = [each if isinstance(each, int) else each.fileno() for each in (stdout, stderr)]
    ours, theirs = os.pipe()
    try:
        with Path(os.devnull).open() as nothing:
            fds = [nothing.fileno(), *streams, theirs]
            socket.send_fds(_nursery(), [json.dumps(order).encode()], fds)
    finally:
        os.close(theirs)
    return Process(ours)


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: env[name] for name in env if name.startswith(_READ_AT_START)}


def inherited() -> dict[str, str]:
    """The environment of these tests, for a program that they start: nothing of Indelible's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INDELIBLE_")}
    # A third of a server's start would be compiling its modules once more.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


@functools.cache
def _nursery() -> socket.socket:
    """The way to this process's nursery."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.nursery"],
        cwd=_ROOT,
        env=inherited(),
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(60)

    atexit.register(end)
    return ours


class _Nursery:
    """The other end: forks, and says how each ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._said: dict[int, int] = {}
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands

    def run(self) -> None:
        """Until the tests have ended; in a command's process, until that has."""
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._say_who_ended()
            if self._control.fileno() in ready:
                order, fds, _, _ = socket.recv_fds(self._control, _LONGEST_ORDER, 4)
                if not order:
                    return
                self._fork(order, fds)

    def _fork(self, order: bytes, fds: list[int]) -> None:
        *streams, said = fds
        pid = os.fork()
        if pid == 0:
            for target, stream in enumerate(streams):
                os.dup2(stream, target)
            os.closerange(3, _FDS)
            _become(**json.loads(order))
        for stream in streams:
            os.close(stream)
        os.write(said, b"%d\n" % pid)
        self._said[pid] = said

    def _say_who_ended(self) -> None:
        while self._said:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            said = self._said.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
                os.write(said, b"%d\n" % status)
            os.close(said)


def _become(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    """Be `python -m indelible` in this process, and end as that ends."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["indelible", *arguments]
    # The nursery's own know of what they were opened on whether one may seek in it.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    runpy.run_module("indelible", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    for needed in _NEEDED:
        importlib.import_module(needed)
    for used in _USED_LATER:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(used)
    gc.collect()
    gc.freeze()  # what all share is not looked through and taken apart again by each
    assert 1 == threading.active_count(), threading.enumerate()  # else no fork is safe
    _Nursery(socket.socket(fileno=os.dup(0))).run()
