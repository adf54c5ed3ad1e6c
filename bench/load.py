"""A load generator: a closed loop over keep-alive connections, cheap enough to stand beside.

Run as a process of its own: ``python -m bench.load PORT --connections 64 --seconds 5``. Prints one
JSON object. Every event has an id of its own, so nothing that it sends is a duplicate.
"""

import argparse
import json
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

_COUNTER: Final = b"@" * 12
_ANSWER_OK: Final = b"HTTP/1.1 200"


def event(token: str, place: int) -> dict[str, object]:
    """One event of the size that shops send: five properties, 270 bytes."""
    run = secrets.token_hex(4)
    return {
        "api_key": token,
        "event": "purchase_completed",
        "distinct_id": f"user_{place}",
        "uuid": f"{run}-{place:04x}-7000-8000-{_COUNTER.decode()}",
        "properties": {
            "amount": 99.99,
            "currency": "USD",
            "plan": "pro",
            "$pathname": "/checkout/step/2",
            "$lib": "bench",
        },
    }


def requests(token: str, batch: int, *, is_framed: bool = False) -> Callable[[int], bytes]:
    """Makes the n-th request as bytes: one event, or a batch of `batch`.

    `is_framed`: the events of a batch as `bench/tessera` takes them, each after its length.
    """
    events = [event(token, place) for place in range(batch)]
    if batch == 1:
        body = json.dumps(events[0]).encode()
    elif is_framed:
        frames = [json.dumps(each).encode() for each in events]
        body = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    else:
        body = json.dumps({"api_key": token, "batch": events}).encode()
    head = (
        "POST /api/e HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"{'X-Frames: 1' if is_framed and batch > 1 else 'X-Events: 1'}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    template = head + body
    return lambda n: template.replace(_COUNTER, b"%012d" % n)


def drive(
    port: int,
    *,
    token: str,
    connections: int,
    seconds: float,
    batch: int,
    rate: float,
    is_framed: bool = False,
) -> dict[str, object]:
    """Keep one request under way on each connection for `seconds`; what came of it.

    No more than `rate` events a second are sent; a connection that is ahead of it waits its turn.
    """
    request = requests(token, batch, is_framed=is_framed)
    selector = selectors.DefaultSelector()
    sent_at: dict[int, float] = {}
    latencies: list[float] = []
    per_second: list[int] = []
    sent = refused = 0
    idle: list[socket.socket] = []
    began = time.perf_counter()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        sent_at[connection.fileno()] = time.perf_counter()
        connection.sendall(request(sent))
        sent += 1
    now = began
    while now - began < seconds:
        while idle and sent * batch < rate * (now - began):
            connection = idle.pop()
            sent_at[connection.fileno()] = now
            connection.sendall(request(sent))
            sent += 1
        for key, _ in selector.select(0.001 if idle else 1):
            connection = key.fileobj  # type: ignore[assignment]
            answer = _read_answer(connection)
            now = time.perf_counter()
            latencies.append(now - sent_at[key.fd])
            refused += not answer.startswith(_ANSWER_OK)
            second = int(now - began)
            per_second += [0] * (second + 1 - len(per_second))
            per_second[second] += 1
            idle.append(connection)
        now = time.perf_counter()
    latencies.sort()
    return {
        "events_per_s": (len(latencies) - refused) * batch / (now - began),
        "events": (len(latencies) - refused) * batch,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
        "refused": refused,
        "per_second": [count * batch for count in per_second[: int(seconds)]],
    }


def _read_answer(connection: socket.socket) -> bytes:
    answer = connection.recv(1 << 18)
    end_of_head = answer.find(b"\r\n\r\n")
    while end_of_head < 0:
        more = connection.recv(1 << 18)
        if not more:
            raise ConnectionError("the server closed a connection")
        answer += more
        end_of_head = answer.find(b"\r\n\r\n")
    start = answer.lower().index(b"content-length:") + 15
    length = int(answer[start : answer.index(b"\r\n", start)])
    while len(answer) < end_of_head + 4 + length:
        answer += connection.recv(1 << 18)
    return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--token", required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rate", type=float, default=float("inf"), help="events a second at most")
    parser.add_argument("--framed", action="store_true", help="batches as bench/tessera takes them")
    given = parser.parse_args()
    outcome = drive(
        given.port,
        token=given.token,
        connections=given.connections,
        seconds=given.seconds,
        batch=given.batch,
        rate=given.rate,
        is_framed=given.framed,
    )
    print(json.dumps(outcome))
