"""A server that keeps what it is sent in memory: for tests that need an address.

It speaks the ingest routes as Indelible does, knows an event that it was sent before, and can be
told to fail. It is no place to keep events: nothing is written anywhere, nothing is sealed.
"""

import contextlib
import gzip
import hashlib
import json
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

TOKEN: Final = "in-memory"  # noqa: S105 — a name for tests
API_KEY: Final = "iml_test_in-memory-0123456789"
_PRODUCT: Final = frozenset({"/api/e", "/batch", "/batch/", "/e/", "/capture/"})


@dataclass(frozen=True, slots=True)
class Received:
    """One event as it arrived.

    Attributes:
        kind: ``product`` or ``audit``.
        name: the event's name.
        body: the event as it was sent, decoded.
        headers: of the request, with lower-case names.
    """

    kind: str
    name: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def properties(self) -> dict[str, Any]:
        """Of a product event; empty for an audit event."""
        return dict(self.body.get("properties") or {})

    @property
    def meta(self) -> dict[str, str]:
        """Of an audit event; empty for a product event."""
        return dict(self.body.get("meta") or {})

    @property
    def payload(self) -> Any:
        """Of an audit event, decoded where it is JSON."""
        text = self.body.get("payload")
        try:
            return json.loads(text) if isinstance(text, str) else None
        except ValueError:
            return text

    @property
    def distinct_id(self) -> str | None:
        """Of a product event, as it was sent; an event of nobody has its process's id there."""
        value = self.body.get("distinct_id")
        return None if value is None else str(value)

    @property
    def person(self) -> str | None:
        """The person or visitor that a product event belongs to; None if that is nobody."""
        is_nobodys = self.properties.get("$process_person_profile") is False
        return None if is_nobodys else self.distinct_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is given instead of taking the events."""

    status: int
    reason: str = "unavailable"
    headers: Mapping[str, str] | None = None
    body: bytes | None = None


class _Http(ThreadingHTTPServer):
    # With the 5 of the standard library a client that opens some connections at once waits for a
    # second, until the system tries again.
    request_queue_size = 128


class InMemoryServer:
    """An HTTP server on a loopback port of its own.

    with InMemoryServer() as server:
        client = Indelible(server.token, api_key=server.api_key, host=server.url)
    """

    token = TOKEN
    api_key = API_KEY

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.requests: list[Mapping[str, str]] = []
        self.losses: list[Mapping[str, Any]] = []
        self._known: dict[str, int] = {}
        self._refusals: deque[Refusal] = deque()
        self._changed = threading.Condition()
        self._http = _Http(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer nobody any more."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def product(self) -> list[Received]:
        """The product events, in order of arrival, each once."""
        return [event for event in list(self.received) if event.kind == "product"]

    @property
    def audit(self) -> list[Received]:
        """The audit events, in order of arrival, each once."""
        return [event for event in list(self.received) if event.kind == "audit"]

    def refuse(self, *refusals: Refusal) -> None:
        """Answer the next requests with these, one each."""
        self._refusals.extend(refusals)

    def wait_for(self, count: int, *, timeout_s: float = 10.0) -> list[Received]:
        """What was received, as soon as there are `count` events; fails when they do not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, timeout_s):
                raise AssertionError(f"{len(self.received)} of {count} events arrived")
            return list(self.received)

    def clear(self) -> None:
        """Forget what was received."""
        with self._changed:
            self.received.clear()
            self.requests.clear()
            self.losses.clear()
            self._known.clear()

    # Answering.

    def answer(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers for one POST."""
        with self._changed:
            self.requests.append(headers)
            if self._refusals:
                refusal = self._refusals.popleft()
                said = refusal.body
                if said is None:
                    said = json.dumps({"ok": False, "reason": refusal.reason}).encode()
                return refusal.status, said, refusal.headers or {}
            try:
                status, answer = self._take(path, headers, json.loads(body))
            except (ValueError, TypeError, KeyError, AttributeError):
                status, answer = 400, {"ok": False, "reason": "invalid_json"}
            self._changed.notify_all()
        return status, json.dumps(answer).encode(), {}

    def _take(self, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, dict[str, Any]]:
        if path in _PRODUCT:
            return self._take_product(body, headers)
        if headers.get("authorization") != f"Bearer {self.api_key}":
            return 401, {"ok": False, "reason": "invalid_api_key"}
        if path == "/v1/events":
            key = headers.get("idempotency-key") or str(uuid.uuid4())
            return 202, self._take_audit(body, key, headers)
        if path == "/v1/events/batch":
            self._take_losses(body)
            results = [
                self._take_audit(event, event.get("idempotency_key") or str(uuid.uuid4()), headers)
                for event in body["events"]
            ]
            return 202, {"ok": True, "accepted": len(results), "rejected": 0, "results": results}
        return 404, {"ok": False, "reason": "not_found"}

    def _take_product(self, body: Any, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        token = body.get("api_key") or body.get("token")
        if token != self.token:
            return 401, {"ok": False, "reason": "unknown_token"}
        self._take_losses(body)
        events = body.get("batch", [body])
        results = {}
        for event in events:
            event_id = str(event.get("uuid") or uuid.uuid4())
            received = Received("product", str(event["event"]), event, headers)
            index, duplicate = self._keep(event_id, received)
            results[event_id] = {"result": "ok", "index": index, "duplicate": duplicate}
        return 200, {"status": 1, "accepted": len(results), "rejected": 0, "results": results}

    def _take_audit(
        self, event: Mapping[str, Any], key: str, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        meta = event.get("meta") or {}
        received = Received("audit", str(meta.get("event_name", "")), event, headers)
        index, duplicate = self._keep("audit " + key, received)
        return {
            "ok": True,
            "tx_id": f"tx_{index:032x}",
            "payload_hash": hashlib.sha256(str(event["payload"]).encode()).hexdigest(),
            "status": "accepted",
            "duplicate": duplicate,
            "request_id": str(meta.get("request_id", "")),
            "index": index,
        }

    def _take_losses(self, body: Mapping[str, Any]) -> None:
        if body.get("lost"):
            self.losses.append(body["lost"])

    def _keep(self, key: str, received: Received) -> tuple[int, bool]:
        if key in self._known:
            return self._known[key], True
        self._known[key] = len(self.received)
        self.received.append(received)
        return self._known[key], False


def _handler_of(server: InMemoryServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = self.path.partition("?")[0]
            status, answer, more = server.answer(path, headers, body)
            with contextlib.suppress(ConnectionError):
                self._say(status, answer, more.items())

        def _say(self, status: int, answer: bytes, more: Iterable[tuple[str, str]]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            for name, value in more:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: this is somebody's test output."""

    return Handler
