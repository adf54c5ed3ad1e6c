"""The composition root: builds the parts, wires them, and says which runs in which process.

    writer   the PID: listening socket, lock on the data folder, journal, registry; the API and
             all that follows the log; starts, restarts and drains the others
    edges    accept connections, read requests, admit events; they have nothing of the data folder

With `settings.edges` 0 all of it is one process: the same parts, of which the hot routes store and
look things up directly instead of over a line. When the PID dies, however it dies, nothing of ours
listens or holds a lock any more.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import uvloop

from indelible import __version__, metrics
from indelible.access import Scope
from indelible.accounting.accounting import Accounting
from indelible.accounting.part import accounting_part
from indelible.api.application import make_api
from indelible.api.deadline import Deadline, use_own_threads
from indelible.api.scraping import scraped
from indelible.clock import JUMP_MS, Clock, Steadiness, monotonic_s, now_ms, rfc3339
from indelible.durable import keep_folder
from indelible.edge.asgi import Edge, Framework
from indelible.edge.dialects import DIALECTS
from indelible.edge.gate import Gate
from indelible.edge.intake import Intake, Limits, Submit
from indelible.edge.large import LargeBodies
from indelible.edge.notice import Notices
from indelible.edge.pipeline import hot_routes
from indelible.edge.rates import Rates
from indelible.edge.waiting import Confirm, bounded
from indelible.erasure.erase import Eraser
from indelible.erasure.part import retention_part
from indelible.erasure.retention import Retention, Rule
from indelible.errors import ProcessLost, SettingInvalid
from indelible.folder import hold, private
from indelible.journal.commit import Committer
from indelible.journal.database import Database
from indelible.journal.disk import DiskGuard, DiskState, Reserve
from indelible.journal.keys_file import KEYS_FILE
from indelible.journal.part import clock_part, journal_part
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.layout import JOURNAL_FILE
from indelible.ledger.ledger import Ledger
from indelible.ledger.part import ledger_part
from indelible.parts import Part
from indelible.processes.edge import Desk, Writer
from indelible.processes.family import Family, family_part
from indelible.processes.frames import MOST_FRAME_BYTES
from indelible.processes.relay import Relay
from indelible.processes.writing import Services
from indelible.processes.zygote import Forks, make_zygote
from indelible.query.events import Events
from indelible.query.health import Lookout, disk_part
from indelible.query.senders import Senders
from indelible.refusals import Refusals
from indelible.registry.registry import Registry
from indelible.registry.snapshot import Known
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
from indelible.start import (
    DEFAULT_PROJECT,
    choices_of,
    refuse_leftovers,
    refuse_one_secret_for_two,
    refuse_taken_keys,
    settle_keys,
    write_cli_file,
)

logger = logging.getLogger(__name__)

_LONGEST_SILENCE_MS: Final = 24 * 60 * 60 * 1000

_COLLECT_AFTER: Final = (50_000, 20, 20)
_EDGE_ENDS_S: Final = 5.0  # after its requests are answered


@dataclass(slots=True)
class Welcome:
    """What the banner says: where the server is, and the secrets that were made just now."""

    url: str
    data_dir: Path
    token: str
    projects: int
    made: dict[str, str] = field(default_factory=dict)


class House:
    """All parts of one server, over one data folder.

    Raises on building:
        DataFolderInUse: another server has the folder.
        JournalNewer: a later version wrote the journal.
        LogRefused: the parts of a log do not fit together.
        AlreadyExists: a secret that was given is in use as another key.
        SettingInvalid: the witness policy cannot be read, or one secret was given for two keys.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        vfs: str | None = None,
        clock: Clock = now_ms,
        processes: "Processes | None" = None,
    ) -> None:
        self.settings = settings
        self._processes = processes
        self.clock = clock
        self.refusals = Refusals()
        self.notices = Notices(clock)
        self.steadiness = Steadiness(clock)
        # A refused start must not change anything, so every check precedes the first write.
        choices = choices_of(settings)
        refuse_one_secret_for_two(settings)
        keep_folder(settings.data_dir, mode=0o700)
        with ExitStack() as opened:  # what was opened is closed again should the rest fail
            opened.enter_context(hold(settings.data_dir))
            refuse_leftovers(settings.data_dir, base=settings.ledger_origin)
            self.reserve = Reserve(settings.data_dir)
            self.reserve.release_if_full()
            for name in (JOURNAL_FILE, KEYS_FILE):  # SQLite gives its -wal and -shm the same mode
                private(settings.data_dir / name)
            self.database = Database(settings.data_dir / JOURNAL_FILE, vfs=vfs)
            opened.callback(self.database.close)
            self.journal = SqliteJournal(self.database, clock=clock)
            opened.callback(self.journal.close)
            self._compare_clock()
            self.registry = Registry(RegistryTables(self.journal), clock=clock)
            refuse_taken_keys(settings, self.registry)
            self.ledger = Ledger(
                settings.data_dir,
                journal=self.journal,
                registry=self.registry,
                choices=choices,
                clock=clock,
            )
            opened.callback(self.ledger.close)
            self.made = settle_keys(settings, self.registry)
            self.ledger.settle()
            self.accounting = Accounting(
                settings.data_dir,
                journal=self.journal,
                projects=self._projects,
                clock=clock,
                in_doubt=self.steadiness.in_doubt,
            )
            opened.callback(self.accounting.close)
            self.retention = Retention(
                settings.data_dir,
                self.journal,
                rules=self._rules,
                clock=clock,
                in_doubt=self.steadiness.in_doubt,
            )
            opened.callback(self.retention.close)
            self._build()
            self._opened = opened.pop_all()

    def _build(self) -> None:
        settings = self.settings
        self.committer = Committer(
            self.journal, max_waiting_bytes=settings.max_waiting_bytes, clock=self.clock
        )
        self.disk = DiskGuard(
            settings.data_dir,
            product_percent=settings.product_min_free_percent,
            audit_percent=settings.audit_min_free_percent,
        )
        self.gate = _gate(settings, self.registry, self.clock)
        self.large = LargeBodies(max_waiting_bytes=settings.max_waiting_bytes)
        self.committer.pulse.on_beat(self.steadiness.look)
        self.lookout = lookout = Lookout(pulse=self.committer.pulse)
        self.parts = self._list_parts(lookout)
        lookout.watch(self.parts)
        use_own_threads()
        self.api = make_api(
            self.parts,
            gate=self.gate,
            health=lookout.form,
            limits=_limits(settings),
            refusals=self.refusals,
            metrics_key=settings.metrics_key,
            clock=self.clock,
        )
        self.answers = Deadline(self.api, self.refusals)
        self.edge = _make_edge(
            settings,
            gate=self.gate,
            rates=Rates(),
            disk=self.disk,
            store=self.committer.put,
            large=self.large,
            confirm=self.ledger.confirm,
            framework=self.answers,
            refusals=self.refusals,
            notices=self.notices,
            clock=self.clock,
        )

    def _list_parts(self, lookout: Lookout) -> list[Part]:
        """Every part, in the order in which an event passes them: so they start and stop."""
        journal, ledger = self.journal, self.ledger
        reading = {
            "events": Events(journal, ledger),
            "senders": Senders(self.accounting.accounts),
            "eraser": Eraser(journal, clock=self.clock),
        }
        if self._processes is None:  # the edge is in this process
            door = Part(name="bodies", stop=self.large.stop)
        else:
            self.family = self._make_family(self._processes)
            door = family_part(self.family)
        return [
            door,
            journal_part(journal, self.committer, self.registry),
            disk_part(self.disk, self.reserve, lookout),
            retention_part(self.retention),
            ledger_part(ledger),
            accounting_part(self.accounting),
            clock_part(journal, self.clock, self.steadiness),
            Part(name="reading", gives=reading),
        ]

    def _make_family(self, processes: "Processes") -> Family:
        """The edges of this server, in processes of their own."""

        async def health() -> tuple[int, bytes]:
            await self.lookout.fresh()
            body = self.lookout.health(version=__version__)
            return 503 if body.status == "failing" else 200, msgspec.json.encode(body)

        async def page() -> tuple[int, bytes]:
            return 200, await self.metrics_page()

        services = Services(
            committer=self.committer,
            confirm=self.ledger.confirm,
            answers={"/healthz": health, "/metrics": page},
            application=lambda *request: self.answers(*request),
            notices=self.notices,
            most_frame_bytes=_most_frame_bytes(self.settings),
        )
        family = Family(
            processes.zygote,
            processes.on,
            services,
            edges=self.settings.edges or 1,
            disk=self.disk,
            pulse=self.committer.pulse,
            stop_within_s=Patience().stop_s + _EDGE_ENDS_S,
        )
        family.publish(self.registry.snapshot)
        self.registry.on_change(family.publish)
        return family

    def start(self) -> None:
        """Start what works behind the answers; call it on the event loop that will serve."""
        for part in self.parts:
            part.start()

    async def stop(self) -> None:
        """Store, expire, seal and count what is under way, then end the threads."""
        self.refusals.close()
        for part in self.parts:
            await part.stop()

    def _compare_clock(self) -> None:
        """Distrust the clock if it is far from the newest event: it may be wrong since boot."""
        newest_ms, now = self.journal.newest_at_start_ms, self.clock()
        if newest_ms is not None and not -JUMP_MS < now - newest_ms < _LONGEST_SILENCE_MS:
            self.steadiness.doubt(
                f"the clock says {rfc3339(now)}, and the newest event is of {rfc3339(newest_ms)}"
            )
        ahead_ms = self.journal.newest_tx_ms - now
        if ahead_ms > JUMP_MS:
            logger.warning("transaction ids are %.0f s ahead of the clock", ahead_ms / 1000)

    def _projects(self) -> list[int]:
        return [project.id for project in self.registry.snapshot.projects.values()]

    def _rules(self) -> list[Rule]:
        """The projects that keep their events for a time only."""
        return [
            Rule(project.id, project.retention_days)
            for project in self.registry.snapshot.projects.values()
            if project.retention_days is not None
        ]

    def token(self) -> str:
        """The newest valid token of the project `default`."""
        project = self.registry.snapshot.project(DEFAULT_PROJECT)
        tokens = [
            key.token
            for key in self.registry.keys.all()
            if key.project == project and key.token and key.is_valid(self.clock())
        ]
        return tokens[-1] if tokens else ""

    async def metrics_page(self) -> bytes:
        """What all processes of the server have counted."""
        if self._processes is not None:
            await self.family.count()
        return metrics.exposition()

    def welcome(self, url: str) -> Welcome:
        """What there is to say once requests are answered at `url`."""
        projects = len(self.registry.snapshot.projects)
        return Welcome(url, self.settings.data_dir, self.token(), projects, self.made)

    def close(self) -> None:
        """Close the parts and the journal, and let go of the folder."""
        for part in reversed(self.parts):
            part.close()
        self._opened.close()

    def write_cli_file(self, url: str) -> None:
        """Leave the address and an admin key for commands that run on this machine."""
        made = self.made.get("admin key")
        write_cli_file(self.settings, self.registry, url, made=made, is_admin=self._is_admin)

    def _is_admin(self, secret: str) -> bool:
        with suppress(Exception):
            return Scope.MANAGE in self.gate.caller(f"Bearer {secret}", lambda: None).scopes
        return False


def _edges_by_cores() -> int:
    """One fewer than there are cores, so that storing has one of its own; none on a single core.

    None elsewhere than on Linux, which alone ends a child with its parent whatever it does.
    """
    if sys.platform != "linux":
        return 0
    return min(len(os.sched_getaffinity(0)) - 1, MOST_EDGES)


class Processes(NamedTuple):
    """What the processes of a server are made with, before lock and journal are opened."""

    zygote: Forks
    on: socket.socket


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


def serve(settings: Settings, *, announce: Callable[[Welcome], None]) -> Farewell:
    """Run a server until SIGINT or SIGTERM, then answer what is under way and close.

    This process is the writer, with the API and all that follows the log. The edges, which have the
    port, are processes of their own; with `settings.edges` 0 all of it is in this one.
    `announce` is called once, when the first request would be answered.

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
        processes = None
        if settings.edges:
            edge = partial(_run_edge, settings, on)
            zygote = make_zygote(on, lambda name: edge)  # noqa: ARG005 — all are alike
            opened.callback(zygote.end)
            processes = Processes(zygote, on)
        scraped_on = None
        if settings.metrics_listen is not None:
            scraped_on = opened.enter_context(listening(*settings.metrics_listen))
        house = House(settings, processes=processes)
        try:
            signalled, ending = uvloop.run(_until_signalled(house, on, scraped_on, announce))
        finally:
            house.close()
    return Farewell(signalled.by, monotonic_s() - signalled.at_s, ending)


async def _until_signalled(
    house: House,
    on: socket.socket,
    scraped_on: socket.socket | None,
    announce: Callable[[Welcome], None],
) -> tuple[Signalled, Ending]:
    stop = until_signalled()
    page, key, refusals = house.metrics_page, house.settings.metrics_key, house.refusals
    runs = run_family if house.settings.edges else run
    async with AsyncExitStack() as beside:
        if scraped_on is not None:
            await beside.enter_async_context(
                scraped(scraped_on, page=page, key=key, refusals=refusals)
            )
        return stop, await runs(house, on, announce=announce, stop=stop)


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
        house.write_cli_file(url)
        announce(house.welcome(url))

    house.start()
    _spare_collector()
    try:
        return await serve_asgi(
            house.edge,
            on=on,
            announce=answering,
            stop=stop,
            refusal=house.edge.refusal,
            closed=house.edge.closed,
            at_once=house.edge.at_once,
            patience=patience or _patience(house.settings),
        )
    finally:
        await house.stop()


async def run_family(
    house: House,
    on: socket.socket,
    *,
    announce: Callable[[Welcome], None],
    stop: asyncio.Event,
) -> Ending:
    """As `run`, but with the edges that have the port in processes of their own.

    Raises:
        ProcessLost: the process that forks the others was ended.
    """
    family, url = house.family, url_of(on)
    async with living(house.answers):
        house.write_cli_file(url)
        connection_limit()  # a request that an edge passes on takes a descriptor here too
        house.start()
        _spare_collector()
        try:
            await _first_of(family.serving(), stop.wait(), family.is_lost.wait())
            if not stop.is_set() and not family.is_lost.is_set():
                announce(house.welcome(url))
                await _first_of(stop.wait(), family.is_lost.wait())
        finally:
            await house.stop()
    if family.is_lost.is_set() and not stop.is_set():
        raise ProcessLost
    return family.ending


def _run_edge(
    settings: Settings, on: socket.socket, line: socket.socket, bell: socket.socket
) -> None:
    """Be an edge: the process that accepts connections, reads requests and admits events."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the writer says when to end
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(serve_edge(settings, on, line, bell))


async def serve_edge(
    settings: Settings,
    on: socket.socket,
    line: socket.socket,
    bell: socket.socket,
    *,
    clock: Clock = now_ms,
    patience: Patience | None = None,
) -> None:
    """Accept connections and answer requests until the writer, at the other end of `line`, says
    that the server stops."""
    waiting_bytes = max(settings.max_waiting_bytes // (settings.edges or 1), 1)
    large, rates = LargeBodies(max_waiting_bytes=waiting_bytes), Rates()
    disk = DiskState(
        product_percent=settings.product_min_free_percent,
        audit_percent=settings.audit_min_free_percent,
    )
    refusals, notices = Refusals(), Notices(clock)
    writer = Writer(
        disk,
        rates,
        notices,
        max_waiting_bytes=settings.max_waiting_bytes,
        most_frame_bytes=_most_frame_bytes(settings),
    )
    await writer.meet(line)
    gate = _gate(settings, writer, clock)
    others = Relay(bell, refusals)
    edge = _make_edge(
        settings,
        gate=gate,
        rates=rates,
        disk=disk,
        store=writer.submit,
        large=large,
        confirm=writer.confirm,
        framework=Desk(writer, others, gate, refusals, metrics_key=settings.metrics_key),
        refusals=refusals,
        notices=notices,
        clock=clock,
    )
    _spare_collector()
    ending = await serve_asgi(
        edge,
        on=on,
        announce=lambda _: writer.serve(),
        stop=writer.stopping,
        refusal=edge.refusal,
        closed=edge.closed,
        at_once=edge.at_once,
        patience=patience or _patience(settings),
    )
    await large.stop()
    refusals.close()
    writer.leave(ending)


def _make_edge(
    settings: Settings,
    *,
    gate: Gate,
    rates: Rates,
    disk: DiskState,
    store: Submit,
    large: LargeBodies,
    confirm: Confirm,
    framework: Framework,
    refusals: Refusals,
    notices: Notices,
    clock: Clock,
) -> Edge:
    """The application that answers requests, in whichever process it is."""
    intake = Intake(
        gate=gate,
        rates=rates,
        disk=disk,
        store=store,
        limits=_limits(settings),
        large=large,
        confirm=bounded(confirm),
        notices=notices,
        clock=clock,
    )
    return Edge(hot_routes(DIALECTS, intake), framework, refusals, notices)


def _gate(settings: Settings, known: Known, clock: Clock) -> Gate:
    return Gate(known, clock=clock, trusted_proxies=settings.trusted_proxies)


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_event_bytes=settings.max_event_bytes,
        max_batch=settings.max_batch,
        max_payload_bytes=settings.max_payload_bytes,
    )


def _most_frame_bytes(settings: Settings) -> int:
    """Room for the largest event that the limits allow, its record included, whatever waits beside
    it: else an operator who raises a limit would have such an event refused at the line."""
    return MOST_FRAME_BYTES + 2 * max(settings.max_event_bytes, settings.max_payload_bytes)


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait for one of these, and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _spare_collector() -> None:
    """Keep Python's collector from looking where there is nothing to collect."""
    # All that was made up to here lives as long as the process.
    gc.collect()
    gc.freeze()
    # A body of a megabyte may hold hundreds of thousands of lists, none of them in a cycle. By the
    # usual thresholds the collector looks through them again and again: most of the time of a
    # read.
    gc.set_threshold(*_COLLECT_AFTER)


def _patience(settings: Settings) -> Patience:
    """The limits of connections; the budget always has room for one body of the longest size."""
    share_bytes = settings.max_receiving_bytes // (settings.edges or 1)
    memory_bytes = max(share_bytes, settings.max_body_bytes)
    return Patience(memory_bytes=memory_bytes, reserved_bytes=memory_bytes // 2)
