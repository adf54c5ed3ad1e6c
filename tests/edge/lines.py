"""Raw connections: bytes sent as no client library would send them, and what comes back."""

import contextlib
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Reply:
    """One answer, as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """A TCP connection to a server."""

    def __init__(self, url: str, *, timeout_s: float = PATIENCE_S) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection(
            (address.hostname or "", address.port or 0), timeout=timeout_s
        )
        self._unread = b""

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        """FIN: nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def read(self, *, is_head: bool = False) -> Reply:
        """The next answer. `is_head`: to a HEAD, so without a body."""
        while b"\r\n\r\n" not in self._unread:
            self._unread += self._more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        status = int(first.split(" ")[1])
        length = 0 if is_head or status < 200 else int(headers.get("content-length", 0))
        while len(self._unread) < length:
            self._unread += self._more()
        body, self._unread = self._unread[:length], self._unread[length:]
        return Reply(status, headers, body)

    def has_answer(self) -> bool:
        """Whether something has come that was not read yet."""
        return bool(self._unread or select.select([self._socket], [], [], 0)[0])

    def rest(self) -> bytes:
        """All that comes until the server ends the connection, however it does."""
        with contextlib.suppress(ConnectionError):
            while more := self._socket.recv(1 << 16):
                self._unread += more
        rest, self._unread = self._unread, b""
        return rest

    def _more(self) -> bytes:
        more = self._socket.recv(1 << 16)
        if not more:
            raise ConnectionError(f"the server ended the connection after {self._unread!r}")
        return more


def exchange(url: str, request: bytes) -> Reply:
    """Send bytes on a connection of their own; the first answer."""
    with Line(url) as line:
        line.send(request)
        return line.read(is_head=request.startswith(b"HEAD"))


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request as bytes, with a Content-Length unless a header says otherwise."""
    if not any(header.lower().startswith("transfer-encoding") for header in headers):
        headers = (*headers, f"Content-Length: {len(body)}")
    head = "\r\n".join((f"POST {path} HTTP/1.1", "Host: shop.example", *headers))
    return head.encode() + b"\r\n\r\n" + body


def chunked(*parts: bytes) -> bytes:
    """A body in chunks, whole."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@contextlib.contextmanager
def held(url: str, count: int, *openings: bytes) -> Iterator[None]:
    """Hold `count` connections that send one of `openings` each, and nothing after it."""
    command = [sys.executable, "-m", "tests.edge.holder", url, str(count)]
    process = subprocess.Popen(
        [*command, *(opening.hex() for opening in openings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert b"held\n" == process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(60)


def waits_of(ask: Callable[[], object], *, for_s: float, every_s: float = 0.01) -> list[float]:
    """How long each of many questions took, in ascending order; one after the other."""
    took = []
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
        time.sleep(every_s)
    return sorted(took)
