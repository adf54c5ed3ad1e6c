"""Requests that another process answers: what the client sees is as if there were one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from indelible.processes.relay import Counter, Relay
from indelible.refusals import Refusals
from indelible.serving import listening, serve_asgi, url_of

Application = Callable[[Any, Any, Any], Awaitable[None]]
_LIMIT_S = 60


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, piece by piece as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def describe(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it knows of the request."""
    text = " ".join(
        (
            scope["method"],
            scope["path"],
            scope["query_string"].decode(),
            scope["client"][0],
            dict(scope["headers"])[b"x-mine"].decode(),
        )
    )
    headers = [(b"content-type", b"text/plain"), (b"x-yours", b"\xe9")]
    await send({"type": "http.response.start", "status": 418, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


@asynccontextmanager
async def relayed(application: Application) -> AsyncIterator[tuple[int, Counter]]:
    """An HTTP server whose application is at the other end of a bell."""
    bell, its_bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bell.setblocking(False)
    counter, stop, up = Counter(application, its_bell), asyncio.Event(), asyncio.Event()
    with listening("127.0.0.1", 0) as on, bell:
        port = int(url_of(on).rpartition(":")[2])
        serving = asyncio.ensure_future(
            serve_asgi(
                Relay(bell, Refusals(), lambda: True),
                on=on,
                announce=lambda _: up.set(),
                stop=stop,
            )
        )
        await up.wait()
        try:
            yield port, counter
        finally:
            stop.set()
            await serving
            counter.close()


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), _LIMIT_S)
    writer.close()
    return answer


def test_the_application_sees_the_request_and_the_client_the_answer() -> None:
    async def story() -> bytes:
        async with relayed(describe) as (port, _):
            return await exchange(
                port,
                b"GET /a/b%20c?d=1 HTTP/1.1\r\nHost: x\r\nX-Mine: 7\r\nConnection: close\r\n\r\n",
            )

    answer = asyncio.run(story())
    assert answer.startswith(b"HTTP/1.1 418 ")
    assert b"x-yours: \xe9\r\n" in answer
    assert answer.endswith(b"\r\n\r\nGET /a/b c d=1 127.0.0.1 7")


def test_a_long_body_streams_both_ways_and_arrives_whole() -> None:
    body = bytes(range(256)) * 20_000  # five megabytes

    async def story() -> bytes:
        async with relayed(echo) as (port, _):
            head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            return await exchange(port, head % len(body) + body)

    answer = asyncio.run(story())
    pieces, rest = [], answer.partition(b"\r\n\r\n")[2]
    while rest:  # chunked
        size, _, rest = rest.partition(b"\r\n")
        pieces.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    assert body == b"".join(pieces)


def test_the_body_is_asked_for_only_when_the_application_asks() -> None:
    asks = asyncio.Event()

    async def patient(scope: Any, receive: Any, send: Any) -> None:
        await asks.wait()
        await echo(scope, receive, send)

    async def story() -> None:
        async with relayed(patient) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1024), 0.2)
            asks.set()
            said = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _LIMIT_S)
            assert said == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ok")
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), _LIMIT_S)
            writer.close()

    asyncio.run(story())


def test_a_client_that_leaves_is_seen_to_leave_and_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert "http.request" == (await receive())["type"]
        leaving = asyncio.ensure_future(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await asyncio.sleep(0.01)
        assert "http.disconnect" == leaving.result()["type"]
        left.set()

    async def story() -> None:
        async with relayed(endless) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"one"), _LIMIT_S)
            writer.close()
            await asyncio.wait_for(left.wait(), _LIMIT_S)

    asyncio.run(story())
    assert "" == caplog.text


def test_a_client_that_does_not_read_holds_up_the_application_and_costs_bounded_memory() -> None:
    sent = 0

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while sent < 200 << 20:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
            sent += 1 << 20
        await send({"type": "http.response.body", "body": b""})

    async def story() -> None:
        async with relayed(flood) as (port, _):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            before = -1
            while sent != before or not sent:
                before = sent
                await asyncio.sleep(0.5)
            assert sent < 50 << 20
            writer.transport.abort()

    asyncio.run(story())


def test_when_nobody_is_there_to_answer_the_client_is_told_to_come_again() -> None:
    async def story() -> bytes:
        async with relayed(echo) as (port, counter):
            counter.close()
            return await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    answer = asyncio.run(story())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 2\r\n" in answer


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    async def story() -> None:
        async with relayed(broken) as (port, _):
            with contextlib.suppress(ConnectionResetError):
                answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert not answer.endswith(b"0\r\n\r\n")

    asyncio.run(story())
