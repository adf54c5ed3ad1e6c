"""ASGI applications behind a real server, on a socket of their own, in a thread of this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from tests.world import plain_client


@contextmanager
def served(app: Any, **config: Any) -> Iterator[str]:
    """Serve `app` on a free loopback port; yields the address, and stops with the block."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5, **config)
    )
    thread = threading.Thread(target=server.run, name="site")
    thread.start()
    try:
        until_started(server, thread)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def browsing(app: Any, **config: Any) -> Iterator[httpx.Client]:
    """A client of `app`, which is served for as long."""
    with (
        served(app, **config) as url,
        plain_client(url) as browser,
    ):
        yield browser


def until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        thread.join(0.005)
        assert thread.is_alive(), "the site ended before it began"
