"""A server on a real socket that misbehaves as it is told, and takes events when it is not.

    stub.next(answers(503), stalls())      # the next two requests; those after them are taken

What it takes it keeps once by id, as a real server does, and answers in the same words.
"""

import contextlib
import gzip
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, Self

from indelible.client import Indelible, Options
from indelible.client.timing import REAL_TIME, Time

TOKEN: Final = "ind_pub_stub"
API_KEY: Final = "iml_test_stub-0123456789"
TOLD: Final = "invalid_event"
"""The code of the server's that a refusal has unless it is given a body of its own."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; `headers` have lower-case names, `body` is unpacked."""

    method: str
    path: str
    headers: Mapping[str, str]
    wire_bytes: bytes
    text: bytes
    connection: int
    at: float

    @property
    def body(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.text)
        return decoded

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it carries, whatever the lane."""
        body = self.body
        single = [body] if "payload" in body else []
        found: list[dict[str, Any]] = body.get("batch", body.get("events", single))
        return found

    @property
    def ids(self) -> list[str]:
        key = self.headers.get("idempotency-key", "")
        return [e.get("uuid") or e.get("idempotency_key") or key for e in self.events]


class Line:
    """What a behaviour may do with the connection."""

    def __init__(self, stub: "Stub", connection: socket.socket) -> None:
        self.stub = stub
        self._connection = connection

    def say(self, data: bytes) -> None:
        self._connection.sendall(data)

    def answer(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        """A whole and proper answer; `body` is bytes, or JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.say("\r\n".join([*lines, "", ""]).encode() + data)


class HangUp(Exception):
    """Close the connection now."""


Behaviour = Callable[[Line, Request], None]


def answers(
    status: int, body: object = None, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """This status, keeping nothing; in the server's words unless others are given."""
    said = {"ok": False, "reason": TOLD} if body is None else body
    return lambda line, request: line.answer(status, said, headers)


def stalls() -> Behaviour:
    """No answer, until the stub is closed."""

    def behave(line: Line, request: Request) -> None:
        line.stub.closing.wait()
        raise HangUp

    return behave


def drips(each_s: float) -> Behaviour:
    """An endless header, one byte at a time: a time-out for one read never comes."""

    def behave(line: Line, request: Request) -> None:
        line.say(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not line.stub.closing.wait(each_s):
            line.say(b"x")
        raise HangUp

    return behave


def hangs_up() -> Behaviour:
    """The connection is closed without an answer."""

    def behave(line: Line, request: Request) -> None:
        raise HangUp

    return behave


def takes_and_hangs_up() -> Behaviour:
    """The events are kept, and the answer is lost half-way."""

    def behave(line: Line, request: Request) -> None:
        answer = json.dumps(line.stub.take(request)).encode()
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer[:9])
        raise HangUp

    return behave


def garbage() -> Behaviour:
    """Something that is no HTTP."""

    def behave(line: Line, request: Request) -> None:
        line.say(b"\x00\xff not a protocol\r\n\r\n")
        raise HangUp

    return behave


def results(**by_place: Any) -> Behaviour:
    """Each event's own result, by its place in the batch: ``results(_0="retry", _2="drop")``."""

    def behave(line: Line, request: Request) -> None:
        places = {int(name[1:]): word for name, word in by_place.items()}
        # A report of losses may come alone, and has no places.
        given = {place: word for place, word in places.items() if place < len(request.events)}
        taken = line.stub.take(request, but=set(given))
        for place, word in given.items():
            if "events" in taken:
                taken["events"][place] = {"result": word, "reason": "told_to"}
            else:
                reason = "internal_error" if word == "retry" else "told_to"
                taken["results"][place] = {"ok": False, "reason": reason}
        line.answer(200, taken)

    return behave


def takes() -> Behaviour:
    """The events are kept and answered for, as a server should."""

    def behave(line: Line, request: Request) -> None:
        line.answer(202 if "/v1/" in request.path else 200, line.stub.take(request))

    return behave


def takes_at_most(count: int) -> Behaviour:
    """413 for a longer batch."""

    def behave(line: Line, request: Request) -> None:
        kind = takes() if len(request.events) <= count else answers(413)
        kind(line, request)

    return behave


class Stub:
    """The server. Use it in a `with`.

    Attributes:
        requests: each that arrived whole, in order.
        stored: events by id, in order of arrival.
        losses: reports of what was lost, by their uuid.
        usual: what happens when nothing else was said.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.stored: dict[str, dict[str, Any]] = {}
        self.losses: dict[str, dict[str, Any]] = {}
        self.usual: Behaviour = takes()
        self.closing = threading.Event()
        self._next: deque[Behaviour] = deque()
        self._changed = threading.Condition()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def deliveries(self) -> list[Request]:
        """The requests that carried events; a report of losses may come alone."""
        return [request for request in self.requests if request.events]

    def next(self, *behaviours: Behaviour) -> None:
        """What happens with the next requests, one each."""
        self._next.extend(behaviours)

    def wait_until(self, condition: Callable[["Stub"], bool], timeout_s: float = 60.0) -> None:
        """Return as soon as it holds; fail when it does not in time."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout_s), (
                f"{len(self.requests)} requests, {len(self.stored)} stored"
            )

    def hang_up_on_idle(self) -> None:
        """Close every connection, as a server does with those that are idle for long."""
        with self._changed:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)

    def take(self, request: Request, but: Set[int] = frozenset()) -> dict[str, Any]:
        """Keep the events, each once; the answer in the server's words."""
        body, ids = request.body, request.ids
        with self._changed:
            if body.get("lost"):
                self.losses.setdefault(body["lost"]["uuid"], body["lost"])
            said = []
            for place, (own_id, event) in enumerate(zip(ids, request.events, strict=True)):
                duplicate = own_id in self.stored
                if place not in but:
                    self.stored.setdefault(own_id, event)
                said.append(
                    {
                        **{"ok": True, "tx_id": f"tx_{place:032x}", "status": "accepted"},
                        **{"payload_hash": "0" * 64, "duplicate": duplicate, "request_id": "r"},
                        **{"index": place, "result": "ok"},
                    }
                )
            self._changed.notify_all()
        if request.path.startswith("/v1/events/batch"):
            return {"ok": True, "results": said}
        if request.path.startswith("/v1/events"):
            return said[0]
        return {"status": 1, "results": dict(zip(ids, said, strict=True)), "events": said}

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            assert self._changed.wait_for(lambda: not self._open, 60)

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections += 1
            with self._changed:
                self._open.add(connection)
            arguments = (connection, self._connections)
            threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                plain, connection = connection, self._tls.wrap_socket(connection, server_side=True)
                with self._changed:
                    self._open.discard(plain)
                    self._open.add(connection)
            line = Line(self, connection)
            with connection, connection.makefile("rb") as reader:
                for request in _requests(reader, number):
                    with self._changed:
                        self.requests.append(request)
                        behave = self._next.popleft() if self._next else self.usual
                        self._changed.notify_all()
                    behave(line, request)
        except (HangUp, OSError):
            pass
        finally:
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()


def _requests(reader: Any, connection: int) -> Iterator[Request]:
    while head := reader.readline():
        words = head.decode("latin-1").split(" ")
        # A greeting of TLS, most of it random, may well be three words too.
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise HangUp
        method, path, _ = words
        headers = {}
        while (row := reader.readline()) not in (b"\r\n", b""):
            name, _, value = row.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        sent = reader.read(int(headers.get("content-length", "0")))
        packed = headers.get("content-encoding") == "gzip"
        text = gzip.decompress(sent) if packed else sent
        yield Request(method, path, headers, sent, text, connection, time.monotonic())


class Hours:
    """Time that goes on by itself, and can be made to jump ahead."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    @property
    def time(self) -> Time:
        return Time(
            wall_ns=lambda: time.time_ns() + int(self._ahead_s * 1e9),
            monotonic=lambda: time.monotonic() + self._ahead_s,
        )


@contextlib.contextmanager
def client_of(stub: Stub, **options: Any) -> Iterator[Indelible]:
    """A client of the stub that tries again soon, without a spool unless one is asked for.

    `_time` is its clock, where it is not the real one.

    It waits for an answer as long as a busy machine may take, unless it is told how long.
    """
    usual = {
        **{"api_key": API_KEY, "host": stub.url, "spool_audit": False, "retry_base_s": 0.01},
        **{"retry_cap_s": 0.05, "breaker_failures": 1_000, "batch_s": 0.02, "total_s": 60.0},
    }
    time = options.pop("_time", REAL_TIME)
    client = Indelible._of(Options.read({}, token=TOKEN, **{**usual, **options}), time=time)
    try:
        yield client
    finally:
        client.shutdown(0.1)


def assert_balanced(client: Indelible) -> None:
    """captured = delivered + waiting + lost, in both lanes, and nothing below zero."""
    for counts in (client.counts(), client.audit.counts()):
        assert counts.captured == counts.delivered + counts.waiting + sum(counts.lost.values())
        assert min(counts.delivered, counts.waiting, *counts.lost.values(), 0) == 0
