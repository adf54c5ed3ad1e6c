"""A listener for the metrics alone.

Metrics name projects and count their events, so they are not for everyone who reaches the server.
On the server's own port they want a key (`guard.scrapers_only`). Loopback is no proof there: behind
a proxy on the same machine, every caller comes from it. A listener of their own is reached only by
those whom the operator lets reach it, and wants a key if one is set.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from indelible.edge.gate import has_bearer
from indelible.edge.http import Answer, Receive, Request, Scope, Send, refuse
from indelible.errors import IndelibleError, InvalidApiKey, MethodNotAllowed, NotFound
from indelible.refusals import Refusals
from indelible.serving import Patience, lifespan, plain_refusal, serve_asgi

PATH: Final = "/metrics"
CONTENT_TYPE: Final = "text/plain; version=0.0.4"
_PATIENCE: Final = Patience(connections=32, memory_bytes=1024 * 1024, reserved_bytes=0)


class MetricsDoor:
    """The ASGI application of the separate listener: GET /metrics, and nothing else.

    `page` makes what is answered. `key` is wanted as Bearer; None lets everyone in who reaches the
    listener.
    """

    def __init__(
        self, page: Callable[[], Awaitable[bytes]], key: str | None, refusals: Refusals
    ) -> None:
        self._page = page
        self._key = key
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        request = Request(scope, receive)
        answer = await self._answer(scope["path"], request)
        if answer.refusal is not None:
            self._refusals.refused(answer.refusal, PATH if scope["path"] == PATH else None)
        await answer.send(send)

    async def _answer(self, path: str, request: Request) -> Answer:
        if path != PATH:
            return refuse(NotFound(), request)
        if request.method not in ("GET", "HEAD"):
            answer = refuse(MethodNotAllowed(), request)
            answer.headers.append((b"allow", b"GET, HEAD"))
            return answer
        if self._key is not None and not has_bearer(request.header(b"authorization"), self._key):
            return refuse(InvalidApiKey(), request)
        return Answer(200, await self._page(), CONTENT_TYPE)

    def refusal(
        self, error: IndelibleError, scope: Scope | None
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Build an answer that the server gives in place of this application."""
        self._refusals.refused(error, None)
        return plain_refusal(error, scope)


@asynccontextmanager
async def scraped(
    on: socket.socket,
    *,
    page: Callable[[], Awaitable[bytes]],
    key: str | None,
    refusals: Refusals,
) -> AsyncIterator[None]:
    """Serve the metrics on a listening socket of their own, for the time of an `async with`."""
    door, stop = MetricsDoor(page, key, refusals), asyncio.Event()
    serving = asyncio.ensure_future(
        serve_asgi(
            door,
            on=on,
            announce=lambda _: None,
            stop=stop,
            refusal=door.refusal,
            patience=_PATIENCE,
        )
    )
    try:
        yield
    finally:
        stop.set()
        await serving
