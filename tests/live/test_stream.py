"""The debug stream: what a client sees of what happens, and what it costs the others."""

import json
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from indelible.condition import MAX_BYTES
from indelible.live import streams
from indelible.live.messages import EXCERPT_BYTES, SHOWN_BYTES
from indelible.live.ring import MOST_ENTRIES
from indelible.live.streams import MOST_STREAMS_OF_PROJECT
from tests.live.looking import PATH, Look, looking, shown
from tests.world import (
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    inside,
    product,
    started,
)


class Shop:
    """A project of a shared server that only one test knows."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.name = f"live-{uuid.uuid4().hex[:12]}"
        made = server.http.post("/v1/projects", json={"name": self.name}, headers=AS_ADMIN)
        self.token = made.json()["token"]

    def send(self, *names: str, **more: Any) -> Any:
        batch = [product(name, **more) for name in names]
        for event in batch:
            del event["api_key"]
        return self.server.send({"api_key": self.token, "batch": batch}).json()

    def looking(self, last: str = "", **parameters: Any) -> Any:
        return looking(self.server, self._headers(last), project=self.name, **parameters)

    def shown(self, last: str = "", **parameters: Any) -> Look:
        return shown(self.server, self._headers(last), project=self.name, **parameters)

    def _headers(self, last: str) -> dict[str, str]:
        return {**AS_ADMIN, **({"Last-Event-ID": last} if last else {})}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture
def shop(server: ServerProcess) -> Shop:
    return Shop(server)


def test_what_is_stored_and_what_is_not_is_shown_in_order(shop: Shop) -> None:
    with shop.looking() as look:
        shop.send("viewed", "bought")
        look.wait(lambda look: 2 == len(look.messages))
        shop.send("kept", "", "", distinct_id="u-1")
        look.wait(lambda look: 4 == len(look.messages))

    assert ["viewed", "bought", "kept"] == look.names
    assert ["ok"] * 3 == [message["result"] for message in look.of("event")]
    assert [0, 1, 2] == [message["event"]["index"] for message in look.of("event")]
    (reject,) = look.of("reject")
    assert ("drop", "missing_event", 2) == (reject["result"], reject["reason"], reject["count"])
    assert '"distinct_id":"u-1"' in reject["excerpt"]
    assert shop.token not in json.dumps(look.messages)
    assert 5 == look.total


def test_a_refusal_without_a_project_is_shown_to_admins_alone_and_without_a_body(
    server: ServerProcess, shop: Shop
) -> None:
    with (
        looking(server, AS_ADMIN, project="_server") as admin,
        shop.looking() as reader,
    ):
        server.send(product(api_key="nobodys", event="secret"))
        admin.wait(lambda look: bool(look.of("reject")))
        shop.send("after")
        reader.wait(lambda look: bool(look.messages))

    (reject,) = admin.of("reject")
    assert ("refused", "unknown_token", "", 0) == (
        reject["result"],
        reject["reason"],
        reject["excerpt"],
        reject["count"],
    )
    assert [] == reader.of("reject")
    refused = server.http.get(PATH, params={"project": "_server"}, headers=AS_APPLICATION)
    assert_canonical_error(refused, 403, "manage_scope_missing")


def test_an_audit_event_and_its_refusal_are_shown_to_the_readers_of_their_project(
    server: ServerProcess,
) -> None:
    with looking(server, AS_APPLICATION, kind="audit") as audits, looking(server) as all_of_it:
        server.send_audit(audit())
        server.send_audit({"meta": {"type": "info"}})
        all_of_it.wait(lambda look: bool(look.of("reject")))
        audits.wait(lambda look: bool(look.messages))

    (event,) = audits.of("event")
    assert "order.created" == event["event"]["meta"]["event_name"]
    assert "refused" == all_of_it.of("reject")[0]["result"]
    assert API_KEY not in json.dumps(all_of_it.messages)


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ({"event": "b"}, ["b", "b"]),
        ({"distinct_id": "u-2"}, ["b", "c"]),
        ({"event": "b", "distinct_id": "u-2"}, ["b"]),
        ({"filter": "properties.amount >= 2"}, ["b", "c"]),
        ({"filter": 'event = "b" and properties.amount < 2'}, ["b"]),
        ({"kind": "event"}, ["a", "b", "b", "c"]),
        ({"kind": "product"}, ["a", "b", "b", "c"]),
        ({"kind": "reject"}, ["-"]),
        ({"kind": "forwarding"}, []),
        ({"result": "ok"}, ["a", "b", "b", "c"]),
        ({"result": "drop"}, ["-"]),
        ({"kind": "event", "result": "drop"}, []),
        ({}, ["a", "b", "-", "b", "c"]),
    ],
)
def test_a_stream_shows_what_it_is_asked_for(
    server: ServerProcess, wish: dict[str, str], names: list[str]
) -> None:
    shop = Shop(server)
    shop.send("a", "b", distinct_id="u-1", properties={"amount": 1})
    with shop.looking() as look:  # a refusal may come before what was stored earlier
        look.wait(lambda _: 2 <= len(shop.shown(recent=10).of("event")))
    shop.send("", distinct_id="u-1")
    assert_soon(lambda: bool(shop.shown(recent=10).of("reject")))
    shop.send("b", "c", distinct_id="u-2", properties={"amount": 2})
    assert_soon(lambda: 4 == len(shop.shown(recent=10).of("event")))

    found = shop.shown(recent=10, **wish).messages
    assert names == [message.get("event", {}).get("event", "-") for message in found]


def assert_soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stream_that_broke_off_goes_on_where_it_was(shop: Shop) -> None:
    with shop.looking() as look:
        shop.send("one", "two")
        look.wait(lambda look: 2 == len(look.messages))
    shop.send("three")
    assert_soon(lambda: 3 == len(shop.shown(recent=10).messages))

    assert ["three"] == shop.shown(look.ids[-1]).names
    assert ["two", "three"] == shop.shown(look.ids[-2]).names
    assert [] == shop.shown(look.ids[-1], event="two").messages
    assert [] == shop.shown().messages
    assert ["two", "three"] == shop.shown(recent=2).names


def test_what_the_server_remembers_no_more_is_a_gap_with_its_number(shop: Shop) -> None:
    with shop.looking() as look:
        shop.send("first")
        look.wait(lambda look: bool(look.messages))
    for _ in range(12):
        shop.send(*["later"] * 99, "")
    assert_soon(lambda: 1_188 == last_index(shop))

    again = shop.shown(look.ids[-1])
    (gap,) = again.of("gap")
    assert ("slow", 1_200 - MOST_ENTRIES) == (gap["reason"], gap["missed"])
    assert 12 * 100 == again.total


def last_index(shop: Shop) -> int:
    found = shop.shown(recent=1, kind="product").of("event")
    return found[-1]["event"]["index"] if found else -1


@pytest.mark.parametrize(
    "last",
    ["garbage", "-1", "0", "9" * 400, "00000000-0-0x", "{epoch}-999999999999-0", "{epoch}--1-0",
     "ffffffff-1-999999999", "{epoch}-1"],
)  # fmt: skip
def test_a_place_that_the_server_never_gave_is_a_gap_of_unknown_size(shop: Shop, last: str) -> None:
    shop.send("before")
    assert_soon(lambda: bool(shop.shown(recent=1).messages))
    epoch = shop.shown().ids[0].partition("-")[0]

    look = shop.shown(last.replace("{epoch}", epoch))
    assert [(None, "unknown_id")] == [(m["missed"], m["reason"]) for m in look.messages]


def test_a_name_with_any_character_is_one_line_of_json(shop: Shop) -> None:
    names = ["a\0b", "line\nbreak\r\n\r\ndata: x", "\u2028\x85", "id: 1", "😀" * 50]
    body = json.dumps({"api_key": shop.token, "batch": [{"event": n, "distinct_id": n,
        "properties": {n: n}} for n in names]})  # fmt: skip
    body = body.replace('"batch": [', r'"batch": [{"event":"\ud800","distinct_id":"\udfff"},', 1)
    body = body.replace(",", " \r\n,\n")
    with shop.looking() as look:
        answer = shop.server.send(
            None, content=body.encode(), headers={"Content-Type": "application/json"}
        )
        assert 200 == answer.status_code, answer.text
        look.wait(lambda look: 6 == len(look.messages))

    assert {"�", *names} == set(look.names)
    assert all(re.match(r"(id|event|data|retry): |$|:", line) for line in look.lines)


def test_a_long_event_is_shown_by_its_beginning_and_says_so(shop: Shop) -> None:
    text = "x" * SHOWN_BYTES
    with shop.looking(filter=f'properties.text = "{text[:100]}{text[100:]}"') as chosen:
        with shop.looking() as look:
            shop.send("long", distinct_id="u-9", properties={"text": text, "secret": 1})
            look.wait(lambda look: bool(look.messages))
        chosen.wait(lambda look: bool(look.messages))

    (event,) = [message["event"] for message in look.messages]
    assert ("long", "u-9", 0) == (event["event"], event["distinct_id"], event["index"])
    assert "properties" not in event
    assert EXCERPT_BYTES == len(event["cut"]["begins"])
    assert event["cut"]["bytes"] > SHOWN_BYTES
    assert look.messages == chosen.messages


def test_the_largest_filter_holds_nobody_up(shop: Shop) -> None:
    tests = [f'properties.p{n} = "{"x" * 100}"' for n in range(100)]
    condition = " or ".join(tests)
    condition += " " * (MAX_BYTES - len(condition))
    with shop.looking(filter=condition) as heavy, shop.looking() as light:
        for _ in range(3):
            shop.send(*["e"] * 200, properties={"p99": "x" * 100})
        light.wait(lambda look: 600 == look.total)
        heavy.wait(lambda look: 600 == look.total)


def test_what_was_erased_is_shown_no_more(shop: Shop) -> None:
    sent = shop.send("gone", distinct_id="u-7", properties={"name": "Ada"})
    assert_soon(lambda: bool(shop.shown(recent=1).messages))
    wanted = {"project": shop.name, "tx_ids": [sent["events"][0]["tx_id"]], "reason": "asked"}
    erased = shop.server.http.post("/v1/erasures", json=wanted, headers=AS_ADMIN)
    assert erased.is_success, erased.text
    assert_soon(lambda: 2 <= len(shop.shown(recent=9).messages))

    found = shop.shown(recent=9)
    assert "Ada" not in json.dumps(found.messages)
    assert "u-7" not in json.dumps(found.messages)
    assert True is found.messages[0]["event"]["erased"]


def test_too_many_streams_are_refused_and_one_that_ends_makes_room(
    server: ServerProcess,
) -> None:
    shop = Shop(server)
    lines = [silent(server, shop) for _ in range(MOST_STREAMS_OF_PROJECT)]
    try:
        params = {"project": shop.name}
        refused = server.http.get(PATH, params=params, headers=AS_ADMIN)
        assert_canonical_error(refused, 503, "too_many_streams")
        assert_soon(lambda: MOST_STREAMS_OF_PROJECT == streams_of(server))
        assert 200 == server.http.get("/v1/events", headers=AS_ADMIN).status_code
        assert 1 == len(shop.send("kept")["events"])
    finally:
        for line in lines:
            line.close()

    assert_soon(lambda: 0 == streams_of(server))
    assert ["kept"] == shop.shown(recent=1).names


def streams_of(server: World) -> int:
    """How many streams are open."""
    count: int = server.http.get("/healthz").json()["live"]["streams"]
    return count


def silent(server: World, shop: Shop | None = None) -> socket.socket:
    """A client that asks for a stream, reads its head, and nothing more."""
    address = urlsplit(server.url)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect((address.hostname, address.port))
    query, key = ("", AS_APPLICATION) if shop is None else (f"?project={shop.name}", AS_ADMIN)
    line.sendall(
        f"GET {PATH}{query} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {key['Authorization']}\r\n\r\n".encode()
    )
    assert line.recv(1) == b"H"
    return line


def test_head_is_answered_and_leaves_no_stream_open(server: ServerProcess) -> None:
    answer = server.http.head(PATH, headers=AS_APPLICATION)
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert b"" == answer.content
    assert_soon(lambda: 0 == streams_of(server))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?events=x", "unknown_parameter"),
        ("?kind=gap", "invalid_parameter"),
        ("?result=stored", "invalid_parameter"),
        ("?filter=event+%3D", "invalid_condition"),
        ("?filter=in_cohort(%22x%22)", "invalid_condition"),
        ("?recent=-1", "invalid_parameter"),
        ("?seconds=null", "invalid_parameter"),
    ],
)
def test_a_stream_that_is_asked_for_wrongly_is_refused(
    server: ServerProcess, query: str, code: str
) -> None:
    assert_canonical_error(server.http.get(PATH + query, headers=AS_APPLICATION), 400, code)


def test_a_project_that_is_made_later_is_followed_and_the_server_log_tells_of_it(
    server: ServerProcess,
) -> None:
    with looking(server, AS_ADMIN, project="_server", kind="administration") as look:
        made = server.http.post(
            "/v1/keys", json={"role": "admin", "label": "later"}, headers=AS_ADMIN
        )
        assert 201 == made.status_code, made.text
        look.wait(lambda look: bool(look.messages))
        shop = Shop(server)
        with shop.looking() as newest:
            shop.send("hello")
            newest.wait(lambda look: ["hello"] == look.names)


def test_the_stop_of_a_server_ends_every_stream_at_once_and_waits_for_none(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "data") as server:
        unread = silent(server)
        with looking(server) as look:
            for _ in range(10):
                server.send(
                    {"api_key": TOKEN, "batch": [product(properties={"x": "y" * 7_000})] * 200}
                )
            look.wait(lambda look: 2_000 == look.total)
            assert 0 == server.stop(timeout_s=30)
            assert look.has_ended.wait(30)
        assert look.error is None
        (ended,) = re.findall(r"stopped by SIGTERM within ([0-9.]+) s: .* ([0-9]+) cut off",
            server.output())  # fmt: skip
        unread.close()
    assert "0" == ended[1]
    assert float(ended[0]) < 10  # the time that a server waits for requests under way


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux which processes there are")
def test_after_the_reader_was_killed_a_client_goes_on_and_is_told_what_nobody_knows(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "data") as server:
        with looking(server) as look:
            server.send(product("before"))
            look.wait(lambda look: bool(look.messages))
            (child,) = [
                child
                for child in server.http.get("/healthz").json()["processes"]["children"]
                if child["name"] == "reader"
            ]
            os.kill(child["pid"], signal.SIGKILL)
            assert look.has_ended.wait(30)
        assert look.error is None
        server.send(product("meanwhile"))
        assert_soon(lambda: 200 == server.http.get("/v1/events", headers=AS_ADMIN).status_code)
        with looking(server, {**AS_APPLICATION, "Last-Event-ID": look.ids[-1]}) as again:
            again.wait(lambda look: "meanwhile" in look.names)

        assert ["meanwhile"] == again.names
        assert [(None, "restarted")] == [(g["missed"], g["reason"]) for g in again.of("gap")]


def test_a_silent_stream_says_that_it_is_there_and_keeps_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.2)
    with inside(tmp_path) as world, looking(world, event="never") as look:
        look.wait(lambda look: ": still here" in look.lines)
        world.send(product())
        look.wait(lambda look: look.ids[-1].endswith("-1-1"))
    assert [] == look.messages


def test_all_that_happens_is_shown_or_counted_even_if_a_client_never_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inside(tmp_path) as world:
        unread = silent(world)
        stored = dropped = 0
        with looking(world) as look:
            for _ in range(30):
                good = product(properties={"x": "y" * 2_000})
                answer = world.send(
                    {"api_key": TOKEN, "batch": [good] * 95 + [product("")] * 5}
                ).json()
                stored, dropped = stored + answer["accepted"], dropped + answer["rejected"]
            look.wait(lambda look: stored + dropped == look.total)

        with unread:
            rest = text_of(unread)
        late = Look()
        for line in rest.splitlines():
            late.take(line)
        last = shown(world, {**AS_APPLICATION, "Last-Event-ID": late.ids[-1]})
        assert late.of("event")
        assert stored + dropped == late.total + last.total


def text_of(line: socket.socket) -> str:
    """What comes out of a stream in the end, without the frames of HTTP."""
    line.settimeout(2)
    data = b""
    try:
        while piece := line.recv(1 << 20):
            data += piece
    except TimeoutError:
        pass
    _, _, body = data.partition(b"\r\n\r\n")
    text = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        if len(rest) < int(size, 16):
            break
        text, body = text + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return text.decode()
