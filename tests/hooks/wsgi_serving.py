"""WSGI applications behind the standard library's server: on a socket, or for one request."""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

from werkzeug.serving import make_server


class _Server(WSGIServer):
    """A few threads that serve one connection after the other: what leaks would be seen."""

    request_queue_size = 128

    def __init__(self, threads: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="site")

    def process_request(self, request: Any, client_address: Any) -> None:
        self.pool.submit(self._serve, request, client_address)

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except ConnectionError:
            return
        finally:
            self.shutdown_request(request)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: this is a test's output."""

    def get_stderr(self) -> Any:
        return _Silence()


class _Silence:
    """Where tracebacks go: the tests raise on purpose."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


@contextmanager
def served(app: WSGIApplication, threads: int = 4) -> Iterator[str]:
    """Serve `app` on a free loopback port; yields the address, and stops with the block."""
    with _Server(threads) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="site")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(20)
            server.pool.shutdown()


def read_and_reset(app: WSGIApplication, path: str, end: bytes, has_left: threading.Event) -> None:
    """Serve one request with Werkzeug's server, whose client reads up to `end` and then resets.

    To the last byte: a reset before it would be one in the middle. `has_left` is set after it.
    """
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        received = b""
        while end not in received:
            part = client.recv(1_000)
            assert part, received
            received += part
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    has_left.set()
    thread.join(60)
    server.server_close()


class Handler(SimpleHandler):
    """A server for one request: keeps what it sent, and whether it sent a file by itself."""

    files: ClassVar[bool] = False
    result: Any

    def __init__(self, stays_for: int = 1_000_000) -> None:
        environ: dict[str, Any] = {"QUERY_STRING": ""}
        setup_testing_defaults(environ)
        self.out = io.BytesIO()
        self.log = io.StringIO()
        self.stays_for = stays_for
        self.has_left = False
        self.sent_file: object = None
        super().__init__(io.BytesIO(), self.out, self.log, environ, multithread=False)

    def write(self, data: bytes) -> None:
        self.stays_for -= 1
        if self.stays_for < 0:
            self.has_left = True
            raise BrokenPipeError
        super().write(data)

    def sendfile(self) -> bool:
        """The standard library's place for a platform's own way to send a file."""
        if not self.files:
            return False
        self.sent_file = self.result
        self.send_headers()
        self._write(self.result.filelike.read())
        return True

    @property
    def errors(self) -> list[str]:
        """The last line of each traceback that it wrote."""
        return [line for line in self.log.getvalue().splitlines() if "Error" in line]

    def answered(self, app: WSGIApplication) -> bytes:
        """The answer to one request, without its date; the lines of its head end in a line feed."""
        with contextlib.suppress(BrokenPipeError):
            self.run(app)
        head, blank, body = self.out.getvalue().partition(b"\r\n\r\n")
        kept = [x for x in head.split(b"\r\n") if not x.startswith((b"Date:", b"X-Request-"))]
        return b"\n".join(kept) + blank.replace(b"\r", b"") + body


class FileHandler(Handler):
    files = True
