"""Requests that have arrived whole, and are answered without the application."""

import asyncio
import json
import threading
from typing import Any

from indelible.serving.exchange import Exchange
from tests.edge.lines import Line, post
from tests.edge.wire import eventually
from tests.serving.test_exchange import START, body, read_all, serving

LARGE = 16 * 1024 * 1024


def reply(exchange: Exchange, content: bytes) -> bool:
    """Answer in the next turn, as whoever takes a request has to."""
    headers = [(b"content-length", b"%d" % len(content))]
    asyncio.get_running_loop().call_soon(exchange.reply, 200, headers, content)
    return True


async def by_the_application(scope: Any, receive: Any, send: Any) -> None:
    await read_all(receive)
    await send(START)
    await send(body(b"application"))


def test_a_request_that_came_in_parts_is_the_applications() -> None:
    begun = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await by_the_application(scope, receive, send)

    with (
        serving(application, at_once=lambda one: reply(one, one.body)) as url,
        Line(url) as line,
    ):
        request = post("/", b"abc")
        line.send(request)
        assert b"abc" == line.read().body
        assert not begun.is_set()
        line.send(request[:-1])
        assert begun.wait(60)
        line.send(request[-1:])
        assert b"application" == line.read().body


def test_a_request_that_is_not_taken_is_the_applications() -> None:
    with serving(by_the_application, at_once=lambda _: False) as url, Line(url) as line:
        line.send(post("/", b"abc"))
        assert b"application" == line.read().body


def test_requests_that_were_sent_ahead_are_answered_in_order() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        (message,) = await read_all(receive)
        await send(START)
        await send(body(message["body"]))

    with (
        serving(echo, at_once=lambda one: reply(one, one.body)) as url,
        Line(url) as line,
    ):
        line.send(b"".join(post("/", b"%d" % number) for number in range(3_000)))
        assert list(range(3_000)) == [int(line.read().body) for _ in range(3_000)]


def test_the_next_request_waits_for_a_client_that_does_not_read() -> None:
    taken = []

    def at_once(exchange: Exchange) -> bool:
        taken.append(exchange.body)
        return reply(exchange, bytes(LARGE))

    with serving(by_the_application, at_once=at_once) as url, Line(url) as line:
        line.send(post("/", b"first") + post("/", b"second"))
        eventually(line.has_answer)
        assert [b"first"] == taken
        assert LARGE == len(line.read().body)
        assert LARGE == len(line.read().body)
        assert [b"first", b"second"] == taken


def test_a_fault_is_answered_for_and_ends_the_connection() -> None:
    def at_once(exchange: Exchange) -> bool:
        asyncio.get_running_loop().call_soon(exchange.fail, ValueError("secret"))
        return True

    with serving(by_the_application, at_once=at_once) as url, Line(url) as line:
        line.send(post("/", b"abc"))
        answer = line.read()
        assert (500, "internal_error") == (answer.status, json.loads(answer.body)["code"])
        assert b"secret" not in answer.body
        assert b"" == line.rest()


def test_a_client_that_has_left_costs_no_other_its_answer() -> None:
    waiting: list[tuple[asyncio.AbstractEventLoop, Exchange]] = []
    taken = threading.Event()

    def at_once(exchange: Exchange) -> bool:
        if exchange.body != b"late":
            return reply(exchange, exchange.body)
        waiting.append((asyncio.get_running_loop(), exchange))
        taken.set()
        return True

    with serving(by_the_application, at_once=at_once) as url:
        line = Line(url)
        line.send(post("/", b"late"))
        assert taken.wait(60)
        line.reset()
        loop, exchange = waiting[0]
        eventually(lambda: exchange.is_over)
        loop.call_soon_threadsafe(exchange.reply, 200, [(b"content-length", b"2")], b"{}")
        with Line(url) as line:
            line.send(post("/", b"abc"))
            assert b"abc" == line.read().body
