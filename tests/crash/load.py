"""Load over real sockets that remembers what it was told, and the check of a log against that.

A sender notes each request before it sends it, and each acknowledgement as it arrives. When the
server dies under it, what was noted is exactly what an application would know.
"""

import contextlib
import http.client
import itertools
import json
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.world import API_KEY, TOKEN, World

BATCH = 10
SENDERS = 4
ANSWER_S = 60
"""A request that takes longer is lost; a machine that does much beside may keep it for seconds."""

Lane = Literal["product", "audit"]
Exported = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, and the client ids of its events in order."""

    lane: Lane
    path: str
    body: bytes
    headers: Mapping[str, str]
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ack:
    """The server said that it has this event."""

    lane: Lane
    client_id: str
    index: int
    tx_id: str
    duplicate: bool


@dataclass(slots=True)
class History:
    """What was sent and what was answered, by every sender so far.

    `refused` has status and body of every answer that was no acknowledgement.
    """

    sent: list[Request] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)

    def sent_ids(self) -> Counter[tuple[Lane, str]]:
        return Counter((request.lane, i) for request in self.sent for i in request.ids)

    def acked_ids(self) -> set[tuple[Lane, str]]:
        return {(ack.lane, ack.client_id) for ack in self.acks}

    def unanswered(self) -> int:
        """How many events were sent and never acknowledged."""
        return len(self.sent_ids().keys() - self.acked_ids())


# Sending


def single(lane: Lane) -> Request:
    """A request of one event, with a client id of its own."""
    client_id = str(uuid.uuid4())
    if lane == "product":
        body = {"api_key": TOKEN, **_product(client_id)}
        return Request(lane, "/api/e", _json(body), _JSON, (client_id,))
    headers = {**_AS_APPLICATION, "Idempotency-Key": client_id}
    return Request(lane, "/v1/events", _json(_audit(client_id)), headers, (client_id,))


def batch(lane: Lane, size: int = BATCH) -> Request:
    """A request of `size` events, each with a client id of its own."""
    ids = tuple(str(uuid.uuid4()) for _ in range(size))
    if lane == "product":
        body = {"api_key": TOKEN, "batch": [_product(i) for i in ids]}
        return Request(lane, "/api/e", _json(body), _JSON, ids)
    events = [{**_audit(i), "idempotency_key": i} for i in ids]
    return Request(lane, "/v1/events/batch", _json({"events": events}), _AS_APPLICATION, ids)


class Load:
    """Senders on threads, each with a socket of its own; half send product, half audit events.

    Each alternates single and batched requests, and ends when its connection breaks or a request is
    refused.
    """

    def __init__(self, url: str, *, senders: int = SENDERS) -> None:
        self.histories = [History() for _ in range(senders)]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(url, number, history))
            for number, history in enumerate(self.histories)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def until_acked(self, count: int, *, timeout_s: float = 60) -> None:
        """Wait until `count` events were acknowledged."""
        deadline = time.monotonic() + timeout_s
        while sum(len(history.acks) for history in self.histories) < count:
            assert time.monotonic() < deadline, "too few events were acknowledged"
            time.sleep(0.005)

    def stop(self) -> None:
        """Let each sender finish its request."""
        self._stopping.set()

    def join(self) -> History:
        """Wait for the senders to end; what they know together."""
        for thread in self._threads:
            thread.join(2 * ANSWER_S)
            assert not thread.is_alive(), "a sender hangs"
        return merged(self.histories)

    def _send(self, url: str, number: int, history: History) -> None:
        lane: Lane = ("product", "audit")[number % 2]
        with (
            _connection(url) as connection,
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            for make in itertools.cycle((single, batch)):
                if self._stopping.is_set() or history.refused:
                    return
                send(connection, make(lane), history)


def send(connection: http.client.HTTPConnection, request: Request, history: History) -> None:
    """Send one request and note what came of it.

    Raises:
        OSError, http.client.HTTPException: no whole answer came.
    """
    history.sent.append(request)
    connection.request("POST", request.path, request.body, dict(request.headers))
    response = connection.getresponse()
    text = response.read()
    if response.status not in (200, 202):
        history.refused.append((response.status, text.decode()))
        return
    answer = json.loads(text)
    results = answer.get("events") or answer.get("results") or [answer]
    assert len(request.ids) == len(results)
    for client_id, result in zip(request.ids, results, strict=True):
        history.acks.append(
            Ack(
                request.lane,
                client_id,
                result["index"],
                result["tx_id"],
                duplicate=result.get("duplicate", False),
            )
        )


def resend(url: str, requests: Sequence[Request]) -> History:
    """Send the same requests once more, byte for byte; every one must be acknowledged."""
    history = History()
    with _connection(url) as connection:
        for request in requests:
            send(connection, request, history)
    assert [] == history.refused
    return history


def merged(histories: Sequence[History]) -> History:
    """What all of them know together."""
    whole = History()
    for history in histories:
        whole.sent += history.sent
        whole.acks += history.acks
        whole.refused += history.refused
    return whole


# Checking


def complaints(export: Sequence[Exported], history: History) -> list[str]:
    """What is wrong with a log, given what its clients know; empty when nothing is.

    Indexes are contiguous from 0 and transaction ids grow with them; no client id stands twice;
    every acknowledged event stands at the index and under the transaction id that were
    acknowledged; nothing stands there that nobody sent; and each event says what was sent.
    """
    return [
        *_wrong_places(export),
        *_wrong_ids(export, history),
        *_wrong_contents(export),
        *_broken_promises(export, history),
    ]


def _wrong_places(export: Sequence[Exported]) -> Iterator[str]:
    for place, event in enumerate(export):
        if event["index"] != place:
            yield f"index {event['index']} stands at place {place}"
    for one, two in itertools.pairwise(export):
        if not one["tx_id"] < two["tx_id"]:
            yield f"{two['tx_id']} at index {two['index']} is not above its predecessor's"


def _wrong_ids(export: Sequence[Exported], history: History) -> Iterator[str]:
    places: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
    for event in export:
        places[event["kind"], _client_id(event)].append(event["index"])
    sent = history.sent_ids()
    for (kind, client_id), indexes in places.items():
        if len(indexes) > 1:
            yield f"{kind} {client_id} is stored {len(indexes)} times, at {indexes}"
        if (kind, client_id) not in sent:
            yield f"{kind} {client_id} at index {indexes[0]} was sent by nobody"


def _wrong_contents(export: Sequence[Exported]) -> Iterator[str]:
    for event in export:
        properties = event.get("properties")
        content = json.loads(event["payload"]) if properties is None else properties
        if content != {"mark": _client_id(event)}:
            yield f"index {event['index']} does not say what was sent"


def _broken_promises(export: Sequence[Exported], history: History) -> Iterator[str]:
    stored = {(event["kind"], _client_id(event)): event for event in export}
    for ack in history.acks:
        event = stored.get((ack.lane, ack.client_id))
        if event is None:
            yield f"{ack.lane} {ack.client_id} was acknowledged at {ack.index} and is lost"
        elif (ack.index, ack.tx_id) != (event["index"], event["tx_id"]):
            yield (
                f"{ack.lane} {ack.client_id} was acknowledged at {ack.index} as {ack.tx_id} "
                f"and stands at {event['index']} as {event['tx_id']}"
            )


def _client_id(event: Exported) -> str | None:
    client_id: str | None = event.get("uuid") or event.get("idempotency_key")
    return client_id


# Bodies

_JSON = {"Content-Type": "application/json"}
_AS_APPLICATION = {**_JSON, "Authorization": f"Bearer {API_KEY}"}


def _product(client_id: str) -> dict[str, object]:
    return {
        "uuid": client_id,
        "event": "crash_test",
        "distinct_id": "user_42",
        "properties": {"mark": client_id},
    }


def _audit(client_id: str) -> dict[str, object]:
    return {
        "payload": json.dumps({"mark": client_id}),
        "meta": {"type": "info", "event_name": "crash.test"},
    }


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


@contextlib.contextmanager
def _connection(url: str) -> Iterator[http.client.HTTPConnection]:
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_S)
    with contextlib.closing(connection):
        yield connection


def assert_nothing_lost_or_doubled(server: World, history: History, latest: History) -> None:
    """All that was acknowledged is there once, also after `latest`, a part of `history`, was sent
    again; what comes of that is added to `history`."""
    assert [] == complaints(server.events(), history)
    again = resend(server.url, latest.sent)
    known = latest.acked_ids()
    assert [] == [
        ack for ack in again.acks if (ack.lane, ack.client_id) in known and not ack.duplicate
    ]
    history.acks += again.acks
    log = server.events()
    assert [] == complaints(log, history)
    assert len(history.sent_ids()) == len(log)
