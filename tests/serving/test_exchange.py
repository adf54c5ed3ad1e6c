"""What an ASGI application sees of a request, and what becomes of what it sends."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from indelible.serving import Patience, listening, serve_asgi
from indelible.serving.exchange import AtOnce
from tests.edge.lines import Line, chunked, exchange, post
from tests.edge.wire import eventually

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, *, goes_on: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": goes_on}


@contextlib.contextmanager
def serving(
    handler: Any, patience: Patience | None = None, at_once: AtOnce | None = None
) -> Iterator[str]:
    """Serve an application that is only its handler; the address."""
    ready = threading.Event()
    url: list[str] = []
    ends: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                assert f"lifespan.{phase}" == (await receive())["type"]
                await send({"type": f"lifespan.{phase}.complete"})
        else:
            await handler(scope, receive, send)

    def announce(where: str) -> None:
        url.append(where)
        ready.set()

    async def main() -> None:
        stop = asyncio.Event()
        ends.extend((asyncio.get_running_loop(), stop))
        with listening("127.0.0.1", 0) as on:
            await serve_asgi(
                application,
                on=on,
                announce=announce,
                stop=stop,
                patience=patience or Patience(),
                at_once=at_once,
            )

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(30)
    try:
        yield url[0]
    finally:
        ends[0].call_soon_threadsafe(ends[1].set)
        thread.join(30)
    assert not thread.is_alive()


async def read_all(receive: Any) -> list[Any]:
    """Every message up to the end of the body."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def test_a_small_body_is_one_message_however_its_bytes_arrive() -> None:
    async def count(scope: Any, receive: Any, send: Any) -> None:
        sizes = [len(message["body"]) for message in await read_all(receive)]
        await send(START)
        await send(body(json.dumps(sizes).encode()))

    with serving(count) as url:
        for request, size in (
            (post("/", b"x" * 300), 300),
            (post("/", chunked(*[b"x"] * 300), "Transfer-Encoding: chunked"), 300),
            (post("/", b""), 0),
            (GET, 0),
        ):
            with Line(url) as line:
                for start in range(0, len(request), 50):
                    line.send(request[start : start + 50])
                    time.sleep(0.01)  # so that each part is read by itself
                assert [size] == json.loads(line.read().body)
        sizes = json.loads(exchange(url, post("/", b"x" * 1_000_000)).body)
    assert 1_000_000 == sum(sizes)
    assert all(size >= 65_536 for size in sizes[:-1])


@pytest.mark.parametrize(
    ("request_", "sizes"),
    [
        (b"\r\n" + GET, [0]),
        (GET + GET, [0, 0]),
        (GET + b"\r\n" + post("/", b"xyz"), [0, 3]),
    ],
    ids=["a line before it", "two at once", "a body at the end"],
)
def test_a_request_is_read_wherever_it_is_cut(request_: bytes, sizes: list[int]) -> None:
    async def count(scope: Any, receive: Any, send: Any) -> None:
        size = sum(len(message["body"]) for message in await read_all(receive))
        await send(START)
        await send(body(b"%d" % size))

    byte_by_byte = [request_[at : at + 1] for at in range(len(request_))]
    cut_once = [[request_[:at], request_[at:]] for at in range(1, len(request_))]
    with serving(count) as url:
        for parts in (byte_by_byte, *cut_once):
            with Line(url) as line:
                for part in parts:
                    line.send(part)
                    time.sleep(0.002)  # so that each part is read by itself
                assert sizes == [int(line.read().body) for _ in sizes], parts


def test_after_the_body_the_next_message_is_that_the_client_is_gone() -> None:
    seen: list[Any] = []

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([*(await read_all(receive)), await receive()])

    with serving(wait) as url:
        line = Line(url)
        line.send(post("/", b"x"))
        time.sleep(0.1)
        line.reset()
        eventually(lambda: len(seen) == 2)
    assert ["http.request", "http.disconnect"] == [message["type"] for message in seen]


def test_an_answer_in_pieces_is_sent_in_chunks_and_one_of_known_length_as_it_is() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"6")] if scope["path"] == "/known" else []
        await send({**START, "headers": headers})
        for part in (b"abc", b"", b"def"):
            await send(body(part, goes_on=True))
        await send(body(b""))

    with serving(stream) as url:
        with Line(url) as line:
            line.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n" in line.rest()
        assert b"abcdef" == exchange(url, GET.replace(b"/ ", b"/known ")).body


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_is_sent_without(status: int) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "status": status})
        await send(body(b"not sent"))

    with serving(answer) as url, Line(url) as line:
        line.send(GET * 2)
        for _ in range(2):
            assert status == line.read(is_head=True).status


BROKEN = {
    "nothing": [],
    "an exception": [Exception("secret")],
    "no start": [body(b"x")],
    "a line break in a header": [{**START, "headers": [(b"a", b"b\r\nc: d")]}, body(b"")],
    "a status that there is not": [{**START, "status": 999}, body(b"")],
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_an_application_that_breaks_is_answered_for(
    sent: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            if isinstance(message, Exception):
                raise message
            await send(message)

    with caplog.at_level(logging.ERROR), serving(broken) as url:
        answer = exchange(url, GET)
    assert (500, "internal_error") == (answer.status, json.loads(answer.body)["code"])
    assert 1 == len(caplog.records)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("length", [None, b"10", b"2"], ids=["chunked", "longer", "shorter"])
def test_an_answer_that_breaks_off_does_not_look_whole(length: bytes | None) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", length)] if length else []
        await send({**START, "headers": headers})
        await send(body(b"ab", goes_on=True))
        if length is None:
            raise RuntimeError
        await send(body(b"cd"))

    with serving(broken) as url, Line(url) as line:
        line.send(GET)
        whole = line.rest()
    assert not whole.endswith(b"0\r\n\r\n")
    assert b"cd" not in whole


def test_an_application_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(1_000):
            await send(body(bytes(1 << 16), goes_on=True))
            sent += 1 << 16
            await asyncio.sleep(0)
        await send(body(b""))

    with serving(flood) as url, Line(url) as line:
        line.send(GET)
        eventually(lambda: sent > 0)
        time.sleep(0.5)
        assert sent < 16 << 20  # all of it in the buffers of the system


def test_where_requests_that_were_sent_ahead_had_to_be_dropped_the_connection_ends() -> None:
    asked: list[str] = []
    go = threading.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        while not go.is_set():
            await asyncio.sleep(0.01)
        await send(START)
        await send(body(b"done"))

    with serving(wait, Patience(memory_bytes=10_000, reserved_bytes=0)) as url, Line(url) as line:
        line.send(GET)
        eventually(lambda: asked == ["/"])
        line.send(b"GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n" * 500)
        time.sleep(0.2)  # so that they were read
        go.set()
        answer = line.read()
        assert (200, "close") == (answer.status, answer.headers.get("connection"))
        assert b"" == line.rest()
    assert ["/"] == asked


@pytest.mark.parametrize("reads", [True, False])
def test_an_event_stream_ends_with_the_server_and_is_not_waited_for(*, reads: bool) -> None:
    started = {**START, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}
    ended: list[str] = []

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await read_all(receive)
        await send(started)
        await send(body(b": here\n\n", goes_on=True))
        if not reads:
            for _ in range(200):
                await send(body(b":" + b"x" * 65_536 + b"\n\n", goes_on=True))
        ended.append((await receive())["type"])
        await send(body(b": more", goes_on=True))  # nobody gets it

    patience = Patience(stop_s=3600)  # a stop that waits for it does not come to its end
    with serving(streams, patience) as url:
        line = Line(url)
        line.send(GET)
        line.half_close()  # a client may do so, and read on
        if reads:
            assert 200 == line.read().status
        else:
            eventually(line.has_answer)
    with line:
        rest = line.rest()

    if reads:
        assert ["http.disconnect"] == ended
        assert b"8\r\n: here\n\n\r\n0\r\n\r\n" == rest
