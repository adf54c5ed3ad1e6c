"""``python -m bench stages``: where the CPU of one event goes, in an edge, stage by stage.

Each stage is the server's own code over the requests of the load generator, in one thread and
without sockets, so its figure is what the stage costs when nothing else wants the core: beside a
writer and a load generator on two cores it is up to half as much again. The stages do not add up to
an edge: `whole` is the same way taken at once, from the bytes of requests to those of answers, and
the rest of an edge's CPU is the event loop, its sockets and the kernel.
"""

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from tests.world import TOKEN

from bench.load import requests
from indelible.clock import now_ms
from indelible.edge.arrival import ProductEvent
from indelible.edge.asgi import Edge, HotRoute
from indelible.edge.dialect import Call
from indelible.edge.dialects import vtilt
from indelible.edge.gate import Gate
from indelible.edge.http import Request
from indelible.edge.intake import Intake, Limits
from indelible.edge.large import LargeBodies
from indelible.edge.notice import Notices
from indelible.edge.pipeline import Ingest, hot_routes
from indelible.edge.rates import Rates
from indelible.edge.settle import count_stored, settle_product
from indelible.event import Lane
from indelible.journal.commitments import Committing
from indelible.journal.contract import Draft, Outcome, Stored
from indelible.journal.disk import DiskState
from indelible.processes.frames import frame
from indelible.processes.messages import FROM_EDGE, TO_EDGE, Answered, Submitted
from indelible.refusals import Refusals
from indelible.registry.snapshot import KeyRow, Snapshot
from indelible.registry.values import Project
from indelible.serving import Patience
from indelible.serving.connection import Connection
from indelible.serving.exchange import Exchange
from indelible.serving.server import HttpServer
from indelible.settings import Settings

SHAPES: Final = {"single": 1, "batched": 100}
_ROUNDS: Final = 9
_EVENTS: Final = 4_000  # of a round, in each stage
_AT_ONCE: Final = 64  # requests under way

_DIALECT: Final = vtilt.DIALECT
_ENCODE: Final = msgspec.msgpack.Encoder().encode


def us_by_stage(size: int) -> dict[str, float]:
    """CPU of an event in requests of `size`, in microseconds by stage; medians."""
    return uvloop.run(_us_by_stage(size))


async def _us_by_stage(size: int) -> dict[str, float]:
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # as an edge does
    stages = Stages(size)
    spent: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for name, stage in stages.all().items():
            began = time.process_time()
            events = await stage()
            spent.setdefault(name, []).append(1e6 * (time.process_time() - began) / events)
    return {name: statistics.median(costs) for name, costs in spent.items()}


class _Known:
    """A registry of one project with one token."""

    def __init__(self) -> None:
        project = Project(1, "bench", "live", None, None, 0, "key", None, None)
        row = KeyRow(
            id="k",
            project_id=1,
            role="token",
            digest=bytes(32),
            token=TOKEN,
            prefix="",
            label="",
            networks="",
            created_at_ms=0,
            expires_at_ms=None,
            revoked_at_ms=None,
            fixed=1,
            rate=None,
            burst=None,
            origins="",
            scopes="",
        )
        self.snapshot = Snapshot.of([project], [row], [])


class _Nowhere:
    """A transport whose client reads everything at once."""

    def __init__(self, answered: Callable[[bytes], None]) -> None:
        self.write = answered

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Stages:
    """The stages for requests of one size; each returns how many events it has handled."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._request = requests(TOKEN, size)
        self._loop = asyncio.get_running_loop()
        self._commit = Committing()
        self._outcomes: list[Outcome] = [Stored(n, os.urandom(16)) for n in range(size)]
        self._answer = b""
        settings = Settings(data_dir=Path("nowhere"))
        limits = Limits(
            max_body_bytes=settings.max_body_bytes,
            max_event_bytes=settings.max_event_bytes,
            max_batch=settings.max_batch,
            max_payload_bytes=settings.max_payload_bytes,
        )
        intake = Intake(
            gate=Gate(_Known(), clock=now_ms, trusted_proxies=()),
            rates=Rates(),
            disk=DiskState(product_percent=0, audit_percent=0),
            store=self._store,
            limits=limits,
            large=LargeBodies(max_waiting_bytes=1 << 20),
            confirm=_nobody,
            notices=Notices(now_ms),
            clock=now_ms,
        )
        routes = hot_routes([_DIALECT], intake)
        edge = Edge(routes, _nobody, Refusals(), intake.notices)
        self._whole = self._server(edge, edge.at_once)
        self._http = self._server(edge, self._reply)
        self._ingest = _ingest_of(routes["/api/e"])
        _, _, self._body = self._request(0).partition(b"\r\n\r\n")
        head = {"method": "POST", "path": "/api/e", "headers": [], "query_string": b""}
        self._call = Call(Request(head, _nobody), _DIALECT.paths[0], limits)
        batch = self._ingest.take(self._call, self._body, None, None)
        assert batch.arrival is not None
        self._arrival, self._drafts = batch.arrival, batch.drafts
        self._events = [item for item in batch.items if isinstance(item, ProductEvent)]
        self._committed = self._commit(self._drafts)
        self._submitted = frame(_ENCODE(Submitted([(1, self._committed)])))
        self._answered = frame(_ENCODE(Answered([(1, self._outcomes)], [])))

    def all(self) -> dict[str, Callable[[], Awaitable[int]]]:
        """The stages by name, in the order of an event's way; those with a dash are parts."""
        return {
            "http": lambda: self._drive(self._http),
            "read, gate, admission, records": lambda: self._again(self._take),
            "- decoding": lambda: self._again(self._decode),
            "- records": lambda: self._again(self._record),
            "commitments": lambda: self._again(lambda: self._commit(self._drafts)),
            "frames": lambda: self._again(self._frames),
            "answers": lambda: self._again(self._answers),
            "whole": lambda: self._drive(self._whole),
            "frames, in the writer": lambda: self._again(self._frames_of_writer),
        }

    def _server(self, edge: Edge, at_once: Callable[[Exchange], bool]) -> HttpServer:
        server = HttpServer(
            edge, refusal=edge.refusal, limit=1_000, patience=Patience(), at_once=at_once
        )
        server.date = b"date: Mon, 30 Nov 2026 00:00:00 GMT\r\n"  # as a server that has started
        return server

    async def _again(self, work: Callable[[], object]) -> int:
        times = _EVENTS // self._size
        for _ in range(times):
            work()
        return times * self._size

    async def _drive(self, server: HttpServer) -> int:
        """Have requests answered, `_AT_ONCE` of them under way."""
        answered = asyncio.Event()
        left = 0

        def note(answer: bytes) -> None:
            nonlocal left
            left -= 1
            self._answer = answer
            if not left:
                answered.set()

        connections = [Connection(server) for _ in range(_AT_ONCE if self._size == 1 else 8)]
        for connection in connections:
            connection.connection_made(_Nowhere(note))
        rounds = max(1, _EVENTS // self._size // len(connections))
        request = self._request(0)
        for _ in range(rounds):
            left = len(connections)
            answered.clear()
            for connection in connections:
                connection.data_received(request)
            await answered.wait()
        assert self._answer.startswith(b"HTTP/1.1 200"), self._answer
        for connection in connections:
            connection.connection_lost(None)
        return rounds * len(connections) * self._size

    def _reply(self, exchange: Exchange) -> bool:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        self._loop.call_soon(exchange.reply, 200, headers, b"{}")
        return True

    def _store(self, drafts: Sequence[Draft]) -> "asyncio.Future[list[Outcome]]":
        """As an edge's line does: one frame there and one back."""
        stored: asyncio.Future[list[Outcome]] = self._loop.create_future()
        frame(_ENCODE(Submitted([(1, self._commit(drafts))])))
        answer = TO_EDGE.decode(self._answered[4:])
        assert isinstance(answer, Answered)
        stored.set_result(answer.stored[0][1])
        return stored

    def _take(self) -> None:
        self._ingest.take(self._call, self._body, None, None)

    def _decode(self) -> None:
        list(_DIALECT.read(self._body, self._call).events)

    def _record(self) -> None:
        for event in self._events:
            event.draft(self._arrival)

    def _frames(self) -> None:
        frame(_ENCODE(Submitted([(1, self._committed)])))
        TO_EDGE.decode(self._answered[4:])

    def _frames_of_writer(self) -> None:
        FROM_EDGE.decode(self._submitted[4:])
        frame(_ENCODE(Answered([(1, self._outcomes)], [])))

    def _answers(self) -> None:
        count_stored(self._outcomes, Lane.PRODUCT.value)
        kept = list(map(settle_product, self._events, self._outcomes))
        _DIALECT.answer(self._call, kept, None)


def _ingest_of(route: HotRoute) -> Ingest:
    handler = route.handlers["POST"]
    assert isinstance(handler, Ingest)
    return handler


async def _nobody(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing of this is asked for")
