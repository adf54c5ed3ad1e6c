"""The harness: a real server in a process of its own, or in this one where a fault is injected.

Every story goes through the front door: HTTP on a loopback socket, into real SQLite files.
"""

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import pytest
import uvloop

from indelible import metrics
from indelible.app import (
    Bell,
    House,
    Welcome,
    WritingHouse,
    run,
    run_family,
    serve_edge,
    serve_reader,
)
from indelible.clock import Clock, now_ms
from indelible.edge.notice import Listening
from indelible.processes.family import READER
from indelible.processes.zygote import Word
from indelible.serving import Patience, listening, url_of
from indelible.settings import Settings
from tests import nursery
from tests.nursery import inherited

TOKEN = "test-token"
API_KEY = "iml_live_test-key-0123456789"
ADMIN_KEY = "ind_adm_test-key-0123456789"

AS_APPLICATION = {"Authorization": f"Bearer {API_KEY}"}
AS_ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}

START_S = 60.0
OUTPUT_FILE = "output.txt"

_PORTS = range(10_000, 16_000)  # below those that a system gives to clients and to port 0
_reserved: list[socket.socket] = []


def bearer(secret: str) -> dict[str, str]:
    """The headers of a caller who has this key."""
    return {"Authorization": f"Bearer {secret}"}


def product(event: str = "purchase_completed", **more: Any) -> dict[str, Any]:
    """A product event as vTilt's guides send it, with the test server's token."""
    return {
        "api_key": TOKEN,
        "event": event,
        "distinct_id": "user_42",
        "properties": {"amount": 99.99, "currency": "USD"},
        **more,
    }


def audit(payload: str = '{"order_id":"ord_1"}', **meta: str) -> dict[str, Any]:
    """An audit event as ImmutableLog's guides send it."""
    return {
        "payload": payload,
        "meta": {"type": "success", "event_name": "order.created", "service": "shop", **meta},
    }


def assert_canonical_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one flat error body, whatever the route; returns it."""
    assert (status, code) == (answer.status_code, answer.json().get("code")), answer.text
    assert "application/json" == answer.headers["content-type"]
    body: dict[str, Any] = answer.json()
    assert body["ok"] is False
    assert body["success"] is False
    assert 0 == body["status"]
    assert code == body["reason"] == body["error"]
    for field in ("message", "detail", "error_description", "hint", "request_id"):
        assert isinstance(body[field], str), field
        assert body[field], field
    if status == 503:
        assert answer.headers["retry-after"].isdigit()
    return body


class World:
    """One running server, and the ways in. Use `started` or `inside`."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir
        self._mine = threading.local()
        self._clients: list[httpx.Client] = []

    @property
    def http(self) -> httpx.Client:
        """This thread's client: in a pool that threads share, one of them may close as idle the
        connection that another has just begun to send on."""
        if not hasattr(self._mine, "client"):
            self._mine.client = plain_client(self.url)
            self._clients.append(self._mine.client)
        client: httpx.Client = self._mine.client
        return client

    def close(self) -> None:
        """Close the connections of all threads."""
        for client in self._clients:
            client.close()

    def send(self, body: Any, **more: Any) -> httpx.Response:
        """POST a product body (JSON unless `content=` is given) to /api/e."""
        if "content" not in more:
            more["json"] = body
        return self.http.post("/api/e", **more)

    def send_audit(self, body: Any, key: str | None = None, **more: Any) -> httpx.Response:
        """POST an audit body with the application key; `key` is the Idempotency-Key."""
        headers = {**AS_APPLICATION, **({"Idempotency-Key": key} if key else {})}
        headers.update(more.pop("headers", {}))
        return self.http.post("/v1/events", json=body, headers=headers, **more)

    def events(self, headers: dict[str, str] = AS_APPLICATION) -> list[dict[str, Any]]:
        """The whole log, by its export, checked for contiguity."""
        answer = self.http.get("/v1/export", headers=headers)
        assert 200 == answer.status_code, answer.text
        events = [json.loads(line) for line in answer.content.split(b"\n")[:-1]]
        assert list(range(len(events))) == [event["index"] for event in events]
        return events

    def count(self, metric: str, **labels: str) -> float:
        """The value of one counter of /metrics; 0 when it has never counted."""
        for line in self.http.get("/metrics", headers=AS_ADMIN).text.splitlines():
            name, _, value = line.rpartition(" ")
            if name.partition("{")[0] == metric and all(
                f'{key}="{wanted}"' in name for key, wanted in labels.items()
            ):
                return float(value)
        return 0.0


class ServerProcess(World):
    """`indelible serve` in a process of its own, with fixed keys."""

    def __init__(self, url: str, data_dir: Path, process: nursery.Running) -> None:
        super().__init__(url, data_dir)
        self.process = process

    def output(self) -> str:
        """All that it printed and logged so far."""
        return (self.data_dir / OUTPUT_FILE).read_text()

    def end(self) -> None:
        """Stop it if it still runs, and let go of what belongs to it."""
        if self.process.poll() is None:
            self.stop()
        self.close()

    def kill(self) -> None:
        """kill -9 the serve PID."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def plain_client(url: str, **more: Any) -> httpx.Client:
    """A client of a server on this machine, by no proxy."""
    # Without TLS there is nothing to verify, and reading the list of authorities takes its time.
    return httpx.Client(base_url=url, timeout=30, trust_env=False, verify=False, **more)


def client_environment(**more: str) -> dict[str, str]:
    """The environment of an application that sends to a test server."""
    return {**inherited(), "INDELIBLE_TOKEN": TOKEN, "INDELIBLE_API_KEY": API_KEY, **more}


def environment(**more: str) -> dict[str, str]:
    """The environment of a test server, with fixed keys."""
    fixed = {
        "INDELIBLE_SERVER_TOKEN": TOKEN,
        "INDELIBLE_SERVER_API_KEY": API_KEY,
        "INDELIBLE_SERVER_ADMIN_KEY": ADMIN_KEY,
    }
    return {**inherited(), **fixed, **more}


def a_free_port() -> int:
    """A port of 127.0.0.1 that nothing else gets before this process ends, listen there or not.

    The kernel hands out none of `_PORTS` by itself, and of the runs of these tests that are under
    way on this machine one has each. Two servers on one port would each get a part of the requests.
    """
    return next(port for port in _PORTS if _reserve(port))


def _reserve(port: int) -> bool:
    mine = socket.socket(socket.AF_UNIX)
    try:
        mine.bind(f"\0indelible-tests:{port}")  # no file: it goes with the process
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        mine.close()
        return False
    _reserved.append(mine)
    return True


def spawn(data_dir: Path, port: int | None = None, /, **env: str) -> ServerProcess:
    """Start `indelible serve` and return when it answers.

    `env` adds variables, `INDELIBLE_…`. The caller ends the process.
    """
    port = port or a_free_port()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    output = data_dir / OUTPUT_FILE  # a pipe that nobody reads would block it one day
    with output.open("a") as said:
        process = nursery.start(
            ["serve", "--data", data_dir, "--port", str(port)],
            env=environment(**env),
            stdout=said,
            stderr=said,
        )
    server = ServerProcess(f"http://127.0.0.1:{port}", data_dir, process)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {output.read_text()}")
        with contextlib.suppress(httpx.TransportError):
            server.http.get("/healthz")
            return server
        time.sleep(0.02)
    server.kill()
    raise AssertionError(f"the server did not answer within {START_S} s")


@contextlib.contextmanager
def started(data_dir: Path, **env: str) -> Iterator[ServerProcess]:
    """A server process for the time of a `with`."""
    server = spawn(data_dir, **env)
    try:
        yield server
    finally:
        server.end()


OVER_A_LINE = False


@contextlib.contextmanager
def inside(
    data_dir: Path,
    *,
    vfs: str | None = None,
    patience: Patience | None = None,
    clock: Clock = now_ms,
    listener: Callable[[Listening], None] | None = None,
    **settings: Any,
) -> Iterator[World]:
    """The same server within this process, on a thread, so that a fault can be injected.

    `vfs` names a SQLite file layer; `patience` has deadlines of the test's own; `clock` is what the
    server takes for the time; `listener` gets the queue of what is refused; `settings` are fields
    of `Settings`.

    With `OVER_A_LINE` edge and reader are on other threads and have nothing but their lines and
    the files, as they have in other processes.
    """
    fixed = {"server_token": TOKEN, "server_api_key": API_KEY, "server_admin_key": ADMIN_KEY}
    of_house = Settings(data_dir=data_dir, **{**fixed, **settings})
    house: House | WritingHouse
    with contextlib.ExitStack() as opened:
        on = opened.enter_context(listening("127.0.0.1", a_free_port()))
        if OVER_A_LINE:
            threads = opened.enter_context(Threads(of_house, on, clock, patience))
            house = WritingHouse(of_house, threads, on, vfs=vfs, clock=clock)
            running = partial(run_family, house, on)
        else:
            house = House(of_house, vfs=vfs, clock=clock)
            running = partial(run, house, on, patience=patience)
        opened.callback(house.close)
        if listener is not None:
            listener(house.notices.listen())
        with _on_a_thread(running) as welcome:
            world = World(welcome.url, data_dir)
            yield world
            world.close()


@contextlib.contextmanager
def _on_a_thread(running: Callable[..., Coroutine[Any, Any, Any]]) -> Iterator[Welcome]:
    """Run a server on a thread of this process until the `with` ends."""
    ready = threading.Event()
    welcome: list[Welcome] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def announce(what: Welcome) -> None:
        welcome.append(what)
        ready.set()

    async def main() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        await running(announce=announce, stop=stop)

    thread = threading.Thread(target=lambda: uvloop.run(main()), name="server")
    thread.start()
    try:
        assert ready.wait(START_S), "the server did not answer"
        yield welcome[0]
    finally:
        loop, stop = stopping[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


class Threads:
    """Makes the children of a server as threads of this process, so that a fault can be injected.

    What they count is in this process's own counts already, so they say nothing of it.
    """

    def __init__(
        self, settings: Settings, on: socket.socket, clock: Clock, patience: Patience | None
    ) -> None:
        self._on = on.dup()
        self._on.setblocking(False)
        self._bell = bell = Bell.make()
        self._edge = partial(
            serve_edge, settings, self._on, bell.of_edges, clock=clock, patience=patience
        )
        self._reader = partial(serve_reader, settings, url_of(on), bell.of_reader, clock=clock)
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._threads: list[threading.Thread] = []
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(metrics, "counts", dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def fileno(self) -> int:
        return self._ours.fileno()

    def fork(self, name: str, line: socket.socket) -> None:
        own, child = line.dup(), self._reader if name == READER else self._edge

        def run() -> None:
            self._say(Word("born", name, threading.get_native_id(), 0))
            uvloop.run(child(own))
            own.close()
            self._say(Word("ended", name, threading.get_native_id(), 0))

        thread = threading.Thread(target=run, name=name)
        self._threads.append(thread)
        thread.start()

    def kill(self, name: str) -> None:
        raise AssertionError(f"{name} is a thread, and cannot be killed")

    def close_listening(self) -> None:
        pass  # the edge does, and there is no other end

    def word(self) -> Word | None:
        said = self._ours.recv(4096, socket.MSG_DONTWAIT)
        return msgspec.msgpack.decode(said, type=Word) if said else None

    def end(self) -> None:
        for thread in self._threads:
            thread.join(60)
        self._patch.undo()
        for each in (self._ours, self._theirs, self._on, self._bell):
            each.close()

    def _say(self, word: Word) -> None:
        self._theirs.send(msgspec.msgpack.encode(word))
