"""Serving an ASGI application from this process, on a port of its own, until it is told to stop."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from granian.constants import Interfaces
from granian.server.embed import Server as Granian

from indelible.errors import AddressInUse

_BACKLOG: Final = 1024


@contextmanager
def claimed_port(listen: str, port: int) -> Iterator[int]:
    """`port`, or a free one for 0: of the servers on this machine, ours alone within the `with`.

    Granian shares ports between processes, so without this two servers on one port would each get a
    part of the requests. The look finds one that listens; the claim, where the system has sockets
    with names of their own (unix(7), "Abstract"), one that is about to.

    Raises:
        AddressInUse: something listens there, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((listen, port))
                port = int(probe.getsockname()[1])
                if sys.platform == "linux":
                    claim.bind(f"\0indelible:{listen}:{port}")  # goes with this process
        except OSError as error:
            raise AddressInUse(f"{listen}:{port}: {error.strerror or error}") from error
        yield port


def until_signalled() -> asyncio.Event:
    """An event of the running loop that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def serve_asgi(
    app: Any, *, listen: str, port: int, announce: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve on `port` until `stop` is set, then answer what is under way.

    `announce` is called once with the address, when the first request would be answered.
    """
    server = Granian(
        app,
        address=listen,
        port=port,
        interface=Interfaces.ASGI,
        websockets=False,
        log_enabled=False,
        backlog=_BACKLOG,
    )
    loop = asyncio.get_running_loop()
    serving = loop.create_task(server.serve())
    try:
        await _until_answering(listen, port, serving)
        announce(_url(listen, port))
        await asyncio.wait(
            {serving, loop.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await serving


async def _until_answering(listen: str, port: int, serving: "asyncio.Task[None]") -> None:
    while not serving.done():
        with suppress(OSError):
            _, writer = await asyncio.open_connection(listen, port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    await serving


def _url(listen: str, port: int) -> str:
    shown = "127.0.0.1" if listen in ("0.0.0.0", "::") else listen  # noqa: S104 — compared
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
