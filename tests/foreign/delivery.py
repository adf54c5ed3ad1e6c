"""A foreign program at work, and what the server has of it afterwards."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.world import API_KEY, AS_APPLICATION, TOKEN, World

_END_S = 60.0
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True)
class Program:
    """A program that sends when it starts and ends when its input is closed."""

    path: Path

    @contextlib.contextmanager
    def running(self, url: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Run it against the server at `url`; its whole environment is host and key."""
        with subprocess.Popen(
            [self.path, *arguments],
            env={
                "VTILT_HOST": url,
                "VTILT_TOKEN": TOKEN,
                "IMTBL_URL": url,
                "IMTBL_API_KEY": API_KEY,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()  # of one that has ended, nothing

    def send(self, server: World, *arguments: str, count: int, timeout_s: float = 60.0) -> str:
        """Run it until the log has `count` events, and end it; returns what it printed.

        Raises:
            AssertionError: that many events have not come within `timeout_s`.
        """
        with self.running(server.url, *arguments) as process:
            wait_for(server, count, timeout_s=timeout_s)
            return end(process)


def wait_for(server: World, count: int, *, timeout_s: float = 60.0) -> None:
    """Return when the server's log has `count` events."""
    deadline = time.monotonic() + timeout_s
    while (seen := len(server.events())) < count:
        assert time.monotonic() < deadline, f"{seen} of {count} events after {timeout_s} s"
        time.sleep(0.02)


def properties(server: World) -> list[str]:
    """The properties of every event of the log, byte for byte."""
    lines = server.http.get("/v1/export", headers=AS_APPLICATION).content.splitlines()
    return [bytes(_MEMBERS.decode(line)["properties"]).decode() for line in lines]


def end(process: "subprocess.Popen[str]") -> str:
    """Close the program's input; what it printed, once it has ended well."""
    printed, _ = process.communicate(timeout=_END_S)
    assert process.returncode == 0, printed
    return printed
