"""Holds connections open in a separate process, so as not to slow down the measurement.

Run: ``python -m tests.edge.holder URL COUNT OPENING …``, each opening in hex. Prints a line once
all connections are open, and holds them until its input ends. A connection that the server ends is
opened again: the number stays.
"""

import contextlib
import resource
import select
import socket
import sys
from urllib.parse import urlsplit


def main(url: str, count: int, openings: list[bytes]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = [_opened(url, openings[number % len(openings)]) for number in range(count)]
    print("held", flush=True)  # noqa: T201 — the parent waits for it
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        for number, line in enumerate(lines):
            if _has_ended(line):
                line.close()
                with contextlib.suppress(OSError):
                    lines[number] = _opened(url, openings[number % len(openings)])


def _opened(url: str, opening: bytes) -> socket.socket:
    address = urlsplit(url)
    line = socket.create_connection((address.hostname or "", address.port or 0), 30)
    line.sendall(opening)
    line.setblocking(False)
    return line


def _has_ended(line: socket.socket) -> bool:
    try:
        while line.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [bytes.fromhex(opening) for opening in sys.argv[3:]])
