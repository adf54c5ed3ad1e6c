"""For the examples: serve an ASGI application on this machine, and ask it for a few pages."""

import threading
import time
import urllib.error
import urllib.request
from typing import Any

import uvicorn


def visit(app: Any, *paths: str) -> None:
    """Serve `app` until each path was asked for once, as `ask` does."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    ask(f"http://127.0.0.1:{port}", *paths)
    server.should_exit = True
    thread.join()


def ask(url: str, *paths: str) -> None:
    """Print what the application at `url` answers to each, ``/path`` or ``POST /path``."""
    for asked in paths:
        method, path = asked.split() if " " in asked else ("GET", asked)
        try:
            request = urllib.request.Request(url + path, method=method)
            with urllib.request.urlopen(request, timeout=10) as answer:
                print(answer.status, path, answer.read().decode())
        except urllib.error.HTTPError as error:
            print(error.code, path)
