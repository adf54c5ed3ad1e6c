"""Tessera's POSIX log beside ours: the same load and the same bytes, which to it are opaque.

What its answer means is what ours means and more: synced, and integrated into the tree. It neither
parses nor admits an event; with antispam it recognises repeated bytes, where ours does for ever
what was sent twice. Its front is our own, in `bench/tessera`; the batch size of each shape is the
one that served it best here.
"""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.world import a_free_port

_SOURCE: Final = Path(__file__).parent / "tessera"
_STARTS_WITHIN_S: Final = 30.0


class Shape(NamedTuple):
    """One way to send, and what Tessera's batches are best at for it.

    Attributes:
        together: how many entries Tessera sequences at once, or `age_ms` after the first of them.
    """

    name: str
    connections: int
    size: int
    together: int
    age_ms: int


class Turn(NamedTuple):
    """What one run came to; `refused` is a share of the requests."""

    events_per_s: float
    p99_ms: float
    cpu_us: float
    refused: float

    def __str__(self) -> str:
        refused = f", {self.refused:.0%} of requests refused" if self.refused else ""
        return (
            f"{self.events_per_s:,.0f}/s, p99 {self.p99_ms:.0f} ms, "
            f"CPU {self.cpu_us:.0f} µs an event{refused}"
        )


SHAPES: Final = (Shape("single", 64, 1, 64, 5), Shape("batched", 8, 100, 400, 5))


def built(folder: Path) -> Path | None:
    """Tessera behind our front, as a program; None where there is no Go."""
    go = shutil.which("go")
    if go is None:
        return None
    program = folder / "tessera"
    subprocess.run([go, "build", "-o", program, "."], cwd=_SOURCE, check=True)
    return program


@contextlib.contextmanager
def tessera(
    program: Path, folder: Path, shape: Shape, *, antispam: bool
) -> Iterator[tuple[int, int]]:
    """Its process and port, while it serves a new log in `folder`."""
    port = a_free_port()
    command = [
        *(str(program), "-port", str(port), "-folder", str(folder)),
        *("-size", str(shape.together)),
        *("-age", f"{shape.age_ms}ms", f"-antispam={str(antispam).lower()}"),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            assert time.monotonic() < deadline, "Tessera does not answer"
            time.sleep(0.02)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()
