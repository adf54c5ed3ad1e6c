"""The floor of single-event ingest: a bare ASGI handler that decodes, and syncs in groups.

The same HTTP server, event loop, decoder and sync as the product, and nothing else: no gate, no
admission, no de-duplication, no index, no hashes, no SQLite.
Run: ``python -m bench.floor PORT FILE``.
"""

import asyncio
import os
import queue
import sys
import threading
from typing import Any

import msgspec
import uvloop

from indelible.serving import listening, serve_asgi

_decode = msgspec.json.Decoder().decode
_ANSWER = b'{"status":1}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"12")]


class GroupSync:
    """Appends bodies to a file; those that arrive during a sync share the next one."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = loop
        threading.Thread(target=self._run, daemon=True).start()

    async def write(self, body: bytes) -> None:
        future = self._loop.create_future()
        self._queue.put((body, future))
        await future

    def _run(self) -> None:
        while True:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            os.write(self._file, b"".join(body for body, _ in group))
            os.fdatasync(self._file)
            self._loop.call_soon_threadsafe(_resolve, [future for _, future in group])


def _resolve(futures: list["asyncio.Future[None]"]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def serve(port: int, path: str) -> None:
    """Serve until killed."""
    sync = GroupSync(path, asyncio.get_running_loop())

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if scope["type"] == "lifespan":
            await send({"type": f"{message['type']}.complete"})
            return
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        _decode(body)
        await sync.write(body)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})

    with listening("127.0.0.1", port) as on:
        await serve_asgi(handler, on=on, announce=lambda _: None, stop=asyncio.Event())


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
