"""Holds connections open in a separate process, so as not to slow down the measurement.

Run: ``python -m tests.edge.holder URL COUNT OPENING …``, each opening in hex. Prints a line once
all connections are open, and holds them until its input ends. A connection that the server ends is
opened again, at a pace that is no flood: `_MOST_REOPENED_PER_S`.
"""

import contextlib
import resource
import select
import socket
import sys
from urllib.parse import urlsplit

_MOST_REOPENED_PER_S = 500


def main(url: str, count: int, openings: list[bytes]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = [_opened(url, openings[number % len(openings)]) for number in range(count)]
    print("held", flush=True)  # noqa: T201 — the parent waits for it
    while True:
        for number, line in enumerate(lines):
            if _has_ended(line):
                line.close()
                with contextlib.suppress(OSError):
                    lines[number] = _opened(url, openings[number % len(openings)])
                if _is_over(1 / _MOST_REOPENED_PER_S):
                    return
        if _is_over(0.5):
            return


def _is_over(within_s: float) -> bool:
    return bool(select.select([sys.stdin], [], [], within_s)[0])


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
