"""Running a server, from its first socket to its last word."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from indelible.api.scraping import scraped
from indelible.app.admitting import patience_of, serve_edge, spare_collector
from indelible.app.following import Start
from indelible.app.house import House, ReadingHouse, WritingHouse
from indelible.clock import Clock, monotonic_s, now_ms
from indelible.edge.notice import Notices
from indelible.errors import IndelibleError, SettingInvalid
from indelible.processes.family import READER
from indelible.processes.messages import Ready
from indelible.processes.reader import Writer
from indelible.processes.relay import Counter
from indelible.processes.zygote import Child, make_zygote
from indelible.refusals import Refusals
from indelible.serving import (
    Ending,
    Patience,
    Signalled,
    connection_limit,
    listening,
    living,
    serve_asgi,
    until_signalled,
    url_of,
)
from indelible.settings import MOST_EDGES, Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Welcome:
    """What the banner says: where the server is, and the secrets that were made just now."""

    url: str
    data_dir: Path
    token: str
    projects: int
    made: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Farewell:
    """How a server ended.

    Attributes:
        why: the signal that it obeyed.
        took_s: from the signal until everything was closed.
        ending: what became of the requests under way.
    """

    why: str
    took_s: float
    ending: Ending


class Bell(NamedTuple):
    """Over which edges hand the requests that are not theirs to the reader. All edges share one
    end, and each reader in turn has the other."""

    of_edges: socket.socket
    of_reader: socket.socket

    @classmethod
    def make(cls) -> "Bell":
        """Make the pair, before the processes that inherit it."""
        bell = cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        for end in bell:
            end.setblocking(False)  # noqa: FBT003
        return bell

    def close(self) -> None:
        """Let go of both ends."""
        for end in self:
            end.close()


def serve(settings: Settings, *, announce: Callable[[Welcome], None]) -> Farewell:
    """Run a server until SIGINT or SIGTERM, then answer what is under way and close.

    This process is the writer; edges, which have the port, and the reader, which has the API and
    all that follows the log, are processes of their own. With `settings.edges` 0 all of it is in
    this one. `announce` is called once, when the first request would be answered.

    Raises:
        AddressInUse, and what `House` raises.
        SettingInvalid: there cannot be edges on this system.
        ProcessLost: the process that forks the others was ended.
    """
    if settings.edges is None:
        settings = replace(settings, edges=_edges_by_cores())
    if settings.edges and sys.platform != "linux":
        raise SettingInvalid("INDELIBLE_EDGES: only Linux has what several processes need")
    if settings.edges and threading.active_count() > 1:
        logger.debug("this process has other threads and cannot fork: the server is one process")
        settings = replace(settings, edges=0)
    with ExitStack() as opened:
        # Before anything is written: another server may have the port.
        on = opened.enter_context(listening(settings.listen, settings.port))
        zygote = None
        if settings.edges:
            bell = Bell.make()
            zygote = make_zygote(on, partial(_child, settings, on, bell))
            opened.callback(zygote.end)
            bell.close()
        scraped_on = None
        if settings.metrics_listen is not None:
            scraped_on = opened.enter_context(listening(*settings.metrics_listen))
        house: House | WritingHouse
        house = House(settings) if zygote is None else WritingHouse(settings, zygote, on)
        try:
            signalled, ending = uvloop.run(_until_signalled(house, on, scraped_on, announce))
        finally:
            house.close()
    return Farewell(signalled.by, monotonic_s() - signalled.at_s, ending)


def _edges_by_cores() -> int:
    """One fewer than there are cores, so that storing has one of its own; none on a single core.

    None elsewhere than on Linux, which alone ends a child with its parent whatever it does.
    """
    if sys.platform != "linux":
        return 0
    return min(len(os.sched_getaffinity(0)) - 1, MOST_EDGES)


async def _until_signalled(
    house: House | WritingHouse,
    on: socket.socket,
    scraped_on: socket.socket | None,
    announce: Callable[[Welcome], None],
) -> tuple[Signalled, Ending]:
    stop = until_signalled()
    page, key, refusals = house.metrics_page, house.settings.metrics_key, house.refusals
    async with AsyncExitStack() as beside:
        if scraped_on is not None:
            await beside.enter_async_context(
                scraped(scraped_on, page=page, key=key, refusals=refusals)
            )
        if isinstance(house, House):
            return stop, await run(house, on, announce=announce, stop=stop)
        return stop, await run_family(house, on, announce=announce, stop=stop)


async def run(
    house: House,
    on: socket.socket,
    *,
    announce: Callable[[Welcome], None],
    stop: asyncio.Event,
    patience: Patience | None = None,
) -> Ending:
    """Serve on a listening socket until `stop` is set, then finish the requests under way.

    Everything is in this process. `announce` is called once, when the first request would be
    answered.
    """

    def answering(url: str) -> None:
        house.following.write_cli_file(url)
        announce(_welcome(house.settings, url, house.following.start()))

    house.start()
    spare_collector()
    try:
        return await serve_asgi(
            house.edge,
            on=on,
            announce=answering,
            stop=stop,
            refusal=house.edge.refusal,
            closed=house.edge.closed,
            at_once=house.edge.at_once,
            patience=patience or patience_of(house.settings),
        )
    finally:
        await house.stop()


async def run_family(
    house: WritingHouse,
    on: socket.socket,
    *,
    announce: Callable[[Welcome], None],
    stop: asyncio.Event,
) -> Ending:
    """As `run`, with edges and reader in processes of their own.

    Raises:
        ProcessLost: the process that forks the others was ended, or no reader stays alive.
        what `Following` raises, in the reader, at the start.
    """
    family, url = house.family, url_of(on)
    house.start()
    spare_collector()
    try:
        await _first_of(family.serving(), stop.wait(), family.is_failing.wait())
        if family.ready is not None and not stop.is_set() and not family.is_failing.is_set():
            start = Start(family.ready.token, family.ready.projects, family.ready.made)
            announce(_welcome(house.settings, url, start))
            await _first_of(stop.wait(), family.is_failing.wait())
    finally:
        await house.stop()
    if family.failure is not None and not stop.is_set():
        raise family.failure
    return family.ending


async def serve_reader(
    settings: Settings,
    url: str,
    bell: socket.socket,
    line: socket.socket,
    *,
    clock: Clock = now_ms,
) -> None:
    """Follow the log and answer what edges pass on over `bell`, until the writer, at the other end
    of `line`, says that the server stops; then follow what is stored to its end."""
    refusals = Refusals()
    writer = Writer(Notices(clock))
    await writer.meet(line)
    try:
        house = await asyncio.to_thread(
            ReadingHouse, settings, writer, refusals=refusals, clock=clock, url=url
        )
    except (IndelibleError, OSError) as error:
        writer.refuse(error)
        writer.leave()
        return
    following = house.following
    async with living(following.answers):
        connection_limit()  # a request that an edge passes on takes a descriptor here too
        house.start()
        spare_collector()
        counter = Counter(following.answers, bell)
        writer.serve(
            Ready(*following.start()), confirm=following.ledger.confirm, parts=house.lookout
        )
        await writer.stopping.wait()
        counter.close()
        await house.stop()
    house.close()
    writer.leave()


def _child(settings: Settings, on: socket.socket, bell: Bell, name: str) -> Child:
    """What the child of this name does."""
    return partial(_run_reader if name == READER else _run_edge, settings, on, bell)


def _run_edge(settings: Settings, on: socket.socket, bell: Bell, line: socket.socket) -> None:
    """Be an edge: the process that accepts connections, reads requests and admits events."""
    bell.of_reader.close()
    _ignore_signals()
    uvloop.run(serve_edge(settings, on, bell.of_edges, line))


def _run_reader(settings: Settings, on: socket.socket, bell: Bell, line: socket.socket) -> None:
    """Be the reader: the process that follows the log, and answers whatever is not ingest."""
    url = url_of(on)
    on.close()
    bell.of_edges.close()
    _ignore_signals()
    uvloop.run(serve_reader(settings, url, bell.of_reader, line))


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the writer says when to end
        signal.signal(number, signal.SIG_IGN)


def _welcome(settings: Settings, url: str, start: Start) -> Welcome:
    return Welcome(url, settings.data_dir, start.token, start.projects, start.made)


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait for one of these, and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
