"""WSGI applications behind the standard library's server, on a socket of their own."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication


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
