"""Serving an ASGI application over HTTP/1.1 from this process, until it is told to stop.

We wrote this server because no embeddable one has every guard that a public endpoint needs
(docs/decisions/0025-http-server.md): deadlines from the first byte on, a minimum rate in both
directions, a connection limit, a memory budget, and exact knowledge of whether a body is complete.
Dependencies point one way:

    server ─▶ connection ─▶ exchange ─▶ the application
                 │
                 └─▶ head, framing: pure, bytes in and values out

Everything runs on the event loop's thread. TLS and HTTP/2 end at the proxy in front.
"""

import asyncio
import errno
import json
import resource
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from indelible.clock import monotonic_s
from indelible.errors import AddressInUse, IndelibleError
from indelible.serving.exchange import (
    Application,
    AtOnce,
    Headers,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
)
from indelible.serving.patience import CloseReason, Patience
from indelible.serving.server import BACKLOG, Ending, HttpServer

__all__ = [
    "Ending",
    "Patience",
    "Signalled",
    "connection_limit",
    "lifespan",
    "listening",
    "living",
    "plain_refusal",
    "serve_asgi",
    "until_signalled",
    "url_of",
]

_HINTS: Final = {
    errno.EADDRINUSE: AddressInUse.hint,
    errno.EACCES: "Ports below 1024 need rights: choose another with --port.",
}
_NO_ADDRESS: Final = "Choose an address of this machine with --listen, or 0.0.0.0 for all of them."
_SHARE_OF_DESCRIPTORS: Final = 0.9
_OWN_DESCRIPTORS: Final = 100  # an idle server has 40 files and sockets open
_MOST_CONNECTIONS: Final = 50_000
_LETS_GO_WITHIN_S: Final = 1.0
_LOOKS_EVERY_S: Final = 0.02


class Signalled(asyncio.Event):
    """Set by a signal.

    Attributes:
        by: the name of the first signal, such as SIGTERM; empty until one came.
        at_s: when it came, by `monotonic_s`.
    """

    by: str = ""
    at_s: float = 0.0

    def hear(self, number: signal.Signals) -> None:
        if not self.is_set():
            self.by, self.at_s = number.name, monotonic_s()
            self.set()


def until_signalled() -> Signalled:
    """Return an event of the running loop that SIGINT and SIGTERM set."""
    stop = Signalled()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.hear, number)
    return stop


@contextmanager
def listening(listen: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on `port`, or on a free port if it is 0.

    Where another process listens it looks again for a moment: a server that was just killed is gone
    at once, and its children, which have the port, some milliseconds later.

    Raises:
        AddressInUse: another process listens there, or this machine does not have the address.
    """
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    deadline = monotonic_s() + _LETS_GO_WITHIN_S
    with socket.socket(family) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                made.bind((listen, port))
                made.listen(BACKLOG)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or monotonic_s() > deadline:
                    hint = _HINTS.get(error.errno or 0, _NO_ADDRESS)
                    message = f"{listen}:{port}: {error.strerror or error}"
                    raise AddressInUse(message, hint=hint) from error
                time.sleep(_LOOKS_EVERY_S)
        made.settimeout(0)
        yield made


async def serve_asgi(
    app: Application,
    *,
    on: socket.socket,
    announce: Callable[[str], None],
    stop: asyncio.Event,
    refusal: Refusal | None = None,
    closed: Callable[[CloseReason], None] = lambda _: None,
    patience: Patience = Patience(),  # noqa: B008 — frozen
    at_once: AtOnce | None = None,
) -> Ending:
    """Serve on a listening socket until `stop` is set, then finish the requests under way.

    `announce` is called once, with the address, when requests are answered. `refusal` builds the
    answers that the server gives in place of the application; `closed` is called for each
    connection that ended. `at_once` is offered each request that has arrived whole, before the
    application is.
    """
    async with living(app):
        server = HttpServer(
            app,
            refusal=refusal or plain_refusal,
            closed=closed,
            limit=patience.connections or connection_limit(),
            patience=patience,
            at_once=at_once,
        )
        await server.start(on)
        try:
            announce(url_of(on))
            await stop.wait()
        finally:
            ending = await server.stop()
    return ending


@asynccontextmanager
async def living(app: Application) -> AsyncIterator[None]:
    """Start and stop the application with ASGI's lifespan messages."""
    messages: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
    task = asyncio.ensure_future(app(scope, messages.get, said.put))

    async def go(phase: str) -> None:
        await messages.put({"type": f"lifespan.{phase}"})
        hearing = asyncio.ensure_future(said.get())
        await asyncio.wait({task, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done() and hearing.result()["type"] == f"lifespan.{phase}.complete":
            return
        hearing.cancel()
        await task
        raise RuntimeError(f"the application failed at its {phase}")

    await go("startup")
    try:
        yield
    finally:
        await go("shutdown")
        await task


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer ASGI's lifespan messages for an application that opens and closes nothing."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def plain_refusal(error: IndelibleError, _: Scope | None) -> tuple[int, Headers, bytes]:
    """The flat error body, for any request."""
    body = json.dumps(error.body(request_id=str(uuid.uuid4()))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return error.http_status, headers, body


def connection_limit() -> int:
    """Raise the limit of descriptors as far as the system allows, and return how many of them
    connections may take.

    The rest is for files, for outgoing requests, and for refusing clients over the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems say "unlimited" and have a limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    most = min(int(soft * _SHARE_OF_DESCRIPTORS), soft - _OWN_DESCRIPTORS, _MOST_CONNECTIONS)
    return max(1, most)


def url_of(listening: socket.socket) -> str:
    """The address under which a process of this machine reaches a listening socket."""
    listen, port = listening.getsockname()[:2]
    shown = "127.0.0.1" if listen in ("0.0.0.0", "::") else listen  # noqa: S104 — compared
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
