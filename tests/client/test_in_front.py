"""What stands before the server may answer anything: nothing is lost, and the log names it."""

import email.utils
import gzip
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indelible.client import Indelible
from indelible.client.hidden import Unspoken
from indelible.client.receipt import Receipt
from indelible.client.retry import CODES, asked_wait_s, own_code, retry_after_s
from indelible.client.transport import Transport
from indelible.client.words import said_by
from indelible.errors import AuditFailed, AuditNotKept, AuditRefused, UnknownToken
from indelible.event import LossReason
from tests.client.stub import (
    TOKEN,
    Behaviour,
    HangUp,
    Hours,
    Line,
    Request,
    Stub,
    answers,
    assert_balanced,
    client_of,
    results,
    takes,
)

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
PAGE = b"<html><head><title>Access denied</title></head><body>Sign in</body></html>"


def raw(data: bytes, *, hang_up: bool = True) -> Behaviour:
    """These bytes, whatever they are."""

    def behave(line: Line, request: Request) -> None:
        line.say(data)
        if hang_up:
            raise HangUp

    return behave


def page(status: int, **headers: str) -> Behaviour:
    """A page of somebody else's."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answers(status, PAGE, {"Content-Type": "text/html", **named})


def cut(status: int, data: bytes) -> Behaviour:
    """An answer that ends before its time."""
    return raw(b"HTTP/1.1 %d X\r\nContent-Length: 999\r\n\r\n%s" % (status, data))


def packed(status: int, data: bytes, coding: str = "gzip") -> Behaviour:
    return answers(status, data, {"Content-Encoding": coding})


def _at(seconds: int) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


REFUSED = UnknownToken().body(request_id="r")

# What answers, and the words of the log; None where no answer was had at all.
KINDS: dict[str, tuple[Behaviour, str | None]] = {
    # Pages, empty bodies and other services' JSON, with any status.
    **{
        f"page {status}": (page(status), f"a proxy answered {status}")
        for status in (
            *(400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 414, 415, 418, 421),
            *(422, 423, 425, 426, 428, 429, 431, 451, 460, 494, 499, 500, 501, 502, 503, 504, 505),
            *(507, 508, 511, 520, 521, 522, 523, 524, 525, 526, 527, 530, 599, 600, 999),
        )
    },
    **{
        f"empty {status}": (answers(status, b""), f"a proxy answered {status}")
        for status in (200, 202, 205, 206, 401, 403, 404, 429, 500)
    },
    "204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n", hang_up=False), "a proxy answered 204"),
    "413 page": (page(413), "a proxy answered 413"),
    "gateway's json": (answers(403, {"message": "Forbidden"}), "a proxy answered 403 X"),
    "another service's json": (answers(404, {"ok": False, "error": "not_found"}), "answered 404"),
    "unknown code": (answers(400, {"ok": False, "reason": "blocked"}), "a proxy answered 400"),
    "codes that differ": (answers(401, {**REFUSED, "error": "no"}), "a proxy answered 401"),
    "json of other types": (answers(403, {"ok": False, "reason": ["forbidden"]}), "answered 403"),
    "a success in a refusal": (answers(403, {"ok": True}), "a proxy answered 403"),
    "another service's results": (answers(400, {"ok": False, "events": [1]}), "answered 400"),
    # Successes that are none.
    "login page": (page(200), "a proxy answered 200"),
    "hotel's json": (answers(200, {"welcome": "guest"}), "an answer that cannot be read"),
    "other json": (answers(200, ["ok"]), "a proxy answered 200"),
    "a no with 200": (answers(200, {"ok": False, "error": "denied"}), "cannot be read"),
    "part": (answers(206, {"ok": True, "status": 1}), "a proxy answered 206"),
    # Redirects.
    **{
        f"redirect {status}": (
            page(status, Location="https://login.example.com/?back=/api/e"),
            f"a proxy answered {status}",
        )
        for status in (300, 301, 302, 303, 304, 305, 307, 308)
    },
    "redirect to itself": (page(302, Location="/login"), "a proxy answered 302"),
    "redirect to nowhere": (page(301, Location="http://[half"), "a proxy answered 301"),
    # When to come again.
    **{
        f"429 after {name}": (page(429, Retry_After=after), "a proxy answered 429")
        for name, after in {
            **{text: text for text in ("0", "0.5", "1s", "-1", "1000000000", "soon", "")},
            "a number of 400 digits": "9" * 400,
            "a date to come": _at(5),
            "a date that is over": _at(-5),
        }.items()
    },
    "429 reset": (page(429, RateLimit_Reset="2"), "a proxy answered 429"),
    "429 epoch": (page(429, X_RateLimit_Reset=str(int(time.time()) + 2)), "a proxy answered 429"),
    # Broken on the way.
    "cut page": (cut(403, PAGE), "a proxy answered 403"),
    "cut success": (cut(200, b'{"ok": true, "status": 1'), None),
    "cut refusal": (cut(401, json.dumps(REFUSED).encode()), "a proxy answered 401"),
    "cut chunk": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\n{"),
        None,
    ),
    "packed page": (packed(403, gzip.compress(PAGE)), "a proxy answered 403"),
    "packed and cut": (packed(200, gzip.compress(b'{"status": 1}')[:-9]), None),
    "packed rubbish": (packed(200, b'{"status": 1}'), None),
    "unknown packing": (packed(200, b"\x0b\x02\x80", "br"), "a proxy answered 200"),
    "old http": (raw(b"HTTP/1.0 403 Forbidden\r\n\r\n" + PAGE), "a proxy answered 403"),
    "no phrase": (raw(b"HTTP/1.1 403\r\nContent-Length: 0\r\n\r\n"), "a proxy answered 403"),
    "switching": (raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"), None),
    "hints for ever": (raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200), None),
    "http/2": (raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"), None),
    "another protocol": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), None),
    "nothing": (raw(b""), None),
}


def _send_by_every_door(client: Indelible) -> None:
    client.capture("captured", distinct_id="u")
    client.audit.send_async("order.queued", {})
    spooled = client.audit.send("order.sent", {})
    (batched,) = client.audit.send_batch([{"event_name": "order.batched", "payload": {}}])
    assert isinstance(batched, Receipt)
    assert spooled.is_spooled
    assert batched.is_spooled


def _said_of(lane: str, words: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith(f"{lane}: ") and words in line]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_something_in_front_answers_no_event_is_lost_and_the_log_names_it(
    stub: Stub, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub.usual, words = KINDS[kind]
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        _send_by_every_door(client)
        for _ in range(2):
            client.flush(0.02)
        if words is not None:
            _until(lambda: all(_said_of(lane, words, caplog) for lane in ("product", "audit")))
        stub.usual = takes()
        _until(lambda: client.flush(1))  # which asks at once, whatever was said before

        assert ({}, {}) == (client.counts().lost, client.audit.counts().lost)
        assert (1, 3) == (client.counts().delivered, client.audit.counts().delivered)
        assert_balanced(client)
    assert 4 == len(stub.stored)
    # The same ids, times and bytes with every try.
    assert 1 == len({str(one.events) for one in stub.deliveries if one.path == "/api/e"})
    if words is not None:
        for lane in ("product", "audit"):
            assert 1 == len(_said_of(lane, words, caplog)), caplog.text
    assert TOKEN not in caplog.text


def test_more_than_two_dozen_kinds_are_tried() -> None:
    assert len(KINDS) >= 25


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_the_server_is_its_word_in_both_of_the_forms_that_it_is_sent(
    code: str,
) -> None:
    assert code == own_code({"ok": False, "reason": code})
    assert code == own_code({**REFUSED, "code": code, "reason": code, "error": code})
    assert own_code({"ok": True, "reason": code}) is None
    assert own_code({"error": code, "ok": False}) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["ok", "reason", "code", "error", "status"]), x)
        ),
        max_leaves=9,
    )
)
def test_any_json_is_the_servers_word_or_is_not(body: Any) -> None:
    assert own_code(body) is None or own_code(body) in CODES


def test_the_servers_own_429_without_its_header_is_tried_again(stub: Stub) -> None:
    """As a proxy may take Retry-After away."""
    stub.next(answers(429, {"ok": False, "reason": "rate_limited"}))
    with client_of(stub) as client:
        client.capture("limited")
        assert client.flush(60)

        assert (1, {}) == (client.counts().delivered, client.counts().lost)


def test_answers_that_only_announce_one_are_passed_over_and_the_connection_stays_in_step(
    stub: Stub,
) -> None:
    def hints_first(line: Line, request: Request) -> None:
        line.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        line.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        takes()(line, request)

    stub.usual = hints_first
    with client_of(stub) as client:
        for number in range(3):
            client.capture(f"n{number}")
            assert client.flush(60)

        assert (3, 0) == (client.counts().delivered, client.counts().retried)
    assert [1, 1, 1] == [request.connection for request in stub.requests]


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
def test_an_answer_that_a_proxy_has_compressed_is_read(stub: Stub, coding: str) -> None:
    import zlib

    def behave(line: Line, request: Request) -> None:
        said = json.dumps(line.stub.take(request)).encode()
        pack = zlib.compress if coding == "deflate" else gzip.compress
        line.answer(200, pack(said), {"Content-Encoding": coding, "Content-Type": "text/html"})

    stub.usual = behave
    with client_of(stub) as client:
        client.capture("packed")
        assert client.flush(60)

        assert (1, 0) == (client.counts().delivered, client.counts().retried)


def test_after_an_answer_of_something_in_front_another_connection_is_tried(stub: Stub) -> None:
    """A balancer may have another way; a 421 asks for just that."""
    stub.next(page(421), page(503))
    with client_of(stub) as client:
        client.capture("first")
        assert client.flush(60)

    assert [1, 2, 3] == [request.connection for request in stub.requests]


# How long it may ask for.


@pytest.mark.parametrize(
    ("asks", "most_s"),
    [
        (page(429, Retry_After="1000000000"), 300),
        (page(503, Retry_After=email.utils.formatdate(time.time() + 1e9, usegmt=True)), 300),
        (page(429, X_RateLimit_Reset=str(int(time.time() * 1000 + 1e12))), 300),
        (answers(503, headers={"Retry-After": "1000000000"}), 3_600),
        (answers(429, headers={"Retry-After": "1000000000"}), 3_600),
    ],
    ids=["seconds", "date", "reset", "server", "server-429"],
)
def test_nobody_can_keep_a_client_silent_for_ever(stub: Stub, asks: Behaviour, most_s: int) -> None:
    """The server can for an hour, something in front for five minutes."""
    hours = Hours()
    told: list[str] = []
    stub.next(asks)
    options: dict[str, Any] = {"batch_events": 1, "max_age_s": 1e6, "on_error": told.append}
    with client_of(stub, _time=hours.time, **options) as client:
        client.capture("first")
        _until(lambda: bool(told))
        hours.advance(most_s - 60)
        client.capture("second")
        assert _stays(lambda: len(stub.requests) == 1)
        hours.advance(61)
        client.capture("third")
        stub.wait_until(lambda s: len(s.stored) == 3, 20)


@given(st.text() | st.from_regex(r"[-+]?[0-9.]{1,30} ?(ms|s|m)?"), st.sampled_from([403, 429, 503]))
@example("9" * 400, 429)
@example("Sat, 31 Dec 9999 23:59:59 -2359", 429)
@example("Mon, 01 Jan 0001 00:00:00 +2359", 429)
def test_whatever_a_header_asks_for_the_wait_is_from_0_to_an_hour(text: str, status: int) -> None:
    for name in ("retry-after", "ratelimit-reset", "x-ratelimit-reset", "ratelimit"):
        asked = asked_wait_s(status, {name: text}, now=NOW)
        assert asked is None or 0 <= asked <= 3_600


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "1s"}, 1.0),
        ({"retry-after": "250 ms"}, 0.25),
        ({"retry-after": "2 minutes"}, 120.0),
        ({"retry-after": "Sat, 21 Nov 2026 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 07:59:30 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "-1", "ratelimit-reset": "9"}, 9.0),
        ({"retry-after": "3", "ratelimit-reset": "9"}, 3.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 40)}, 40.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() * 1_000) + 40_000)}, 40.0),
        ({"x-ratelimit-reset": "Sat, 21 Nov 2026 08:00:30 GMT"}, 30.0),
        ({"ratelimit": '"burst";r=0;t=5, "day";r=9;t=50'}, 50.0),
        ({"ratelimit-reset": "²"}, None),
    ],
)
def test_a_wait_is_read_in_every_form_in_which_proxies_write_it(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert seconds == asked_wait_s(429, headers, now=NOW)
    # Elsewhere a limit's reset is news and asks for nothing.
    assert retry_after_s(headers.get("retry-after"), now=NOW) == asked_wait_s(502, headers, now=NOW)


def test_what_the_server_wants_again_is_sent_again_after_a_pause(stub: Stub) -> None:
    """Or a server that is pressed for room would be pressed harder."""
    hours = Hours()
    stub.usual = results(_0="retry")
    options: dict[str, Any] = {"breaker_failures": 1, "breaker_probe_s": 30.0, "batch_events": 1}
    with client_of(stub, _time=hours.time, **options) as client:
        for tried in (2, 4, 6):  # once in each lane, however often it was wanted again
            client.capture("product")
            client.audit.send_async("order.created", {})
            stub.wait_until(lambda s, tried=tried: len(s.requests) == tried)  # type: ignore[misc]
            assert _stays(lambda tried=tried: len(stub.requests) == tried)  # type: ignore[misc]
            hours.advance(31)
        stub.usual = takes()
        assert client.flush(60)

    assert 6 == len(stub.stored)


def test_while_one_half_of_a_batch_is_to_wait_the_other_is_not_sent(stub: Stub) -> None:
    hours = Hours()
    stub.next(page(413), page(429, Retry_After="300"))
    with client_of(stub, _time=hours.time, batch_s=60.0) as client:
        for _ in range(4):
            client.capture("many")
        client.flush(0.2)
        assert [4, 2] == [len(request.events) for request in stub.requests]
        assert client.flush(60)

    assert 4 == len(stub.stored)


def test_a_half_that_went_well_takes_no_pause_away_from_the_other(stub: Stub) -> None:
    """The first of the two is too large for a proxy, and the second passes."""
    hours = Hours()
    stub.usual = _at_most_bytes(2_000)
    options: dict[str, Any] = {"breaker_failures": 1, "breaker_probe_s": 30.0, "batch_s": 60.0}
    with client_of(stub, _time=hours.time, **options) as client:
        client.capture("large", properties={"text": os.urandom(3_000).hex()})
        client.capture("small")
        client.flush(0.3)
        assert _stays(lambda: len(stub.requests) == 3)


# A limit on bodies that is not the server's.


def _at_most_bytes(count: int) -> Behaviour:
    """nginx's 413 for a longer body, as it arrives."""

    def behave(line: Line, request: Request) -> None:
        (takes() if len(request.wire_bytes) <= count else page(413))(line, request)

    return behave


def test_a_proxy_that_wants_smaller_batches_gets_them(stub: Stub) -> None:
    stub.usual = _at_most_bytes(30_000)
    with client_of(stub, batch_s=60.0) as client:
        for number in range(16):
            client.capture("many", properties={"text": os.urandom(4_000).hex(), "n": number})
            client.audit.send_async("order.created", {"text": os.urandom(4_000).hex()})
        assert client.flush(60)

        assert ({}, {}) == (client.counts().lost, client.audit.counts().lost)
    assert 32 == len(stub.stored)


def test_a_proxy_that_finds_every_body_too_large_is_not_flooded_with_halves(stub: Stub) -> None:
    stub.usual = page(413)
    with client_of(stub, batch_s=60.0, retry_base_s=60.0, retry_cap_s=60.0) as client:
        for _ in range(100):
            client.capture("many")
        client.flush(0.3)
        tried = len(stub.requests)
        stub.usual = takes()
        assert client.flush(60)

        assert (100, {}) == (client.counts().delivered, client.counts().lost)
    assert 7 <= tried <= 12


def test_an_event_that_is_too_large_for_a_proxy_holds_up_no_other_and_is_kept(
    stub: Stub, tmp_path: Path
) -> None:
    stub.usual = _at_most_bytes(2_000)
    with client_of(stub, spool_audit=True, spool_dir=tmp_path, batch_events=2) as client:
        client.audit.send_async("order.large", {"text": os.urandom(3_000).hex()})
        for number in range(5):
            client.audit.send_async(f"order.{number}", {})
        stub.wait_until(lambda s: len(s.stored) == 5)
        # The limit was raised before the proxy was believed.
        stub.usual = takes()
        assert client.flush(60)

        assert (6, {}) == (client.audit.counts().delivered, client.audit.counts().lost)


def test_a_proxy_that_goes_on_finding_one_event_too_large_is_believed_in_the_end(
    stub: Stub, tmp_path: Path
) -> None:
    told: list[str] = []
    stub.usual = _at_most_bytes(2_000)
    options: dict[str, Any] = {"breaker_failures": 3, "breaker_probe_s": 0.01, "batch_events": 1}
    with client_of(
        stub, spool_audit=True, spool_dir=tmp_path, on_error=told.append, **options
    ) as client:
        client.audit.send_async("order.large", {"text": os.urandom(3_000).hex()})
        assert _stays(lambda: client.audit.counts().lost == {}, 0.3)  # nothing passed yet
        client.audit.send_async("order.small", {})
        assert client.flush(60)

        assert {LossReason.TOO_LARGE: 1} == client.audit.counts().lost
        assert 1 == client.audit.counts().delivered
        assert_balanced(client)
    (said,) = [what for what in told if "refused" in what]
    assert "a proxy answered 413" in said
    assert [True] == [b"order.large" in path.read_bytes() for path in tmp_path.rglob("refused/*")]


def test_an_answer_that_comes_before_the_end_of_a_long_body_is_heard() -> None:
    """As a proxy gives it that will not read on; it then resets the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.recv(1_000)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            connection.close()  # with bytes unread: a reset

        thread = threading.Thread(target=serve)
        thread.start()
        transport = Transport(
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            headers={},
            connect_s=9,
            total_s=9,
            monotonic=time.monotonic,
        )
        answer = transport.request("POST", "/", os.urandom(8 << 20), headers={})
        transport.close()
        thread.join(10)

    assert (413, None) == (answer.status, answer.reason)


def test_a_report_of_losses_that_a_login_page_answered_is_sent_again(stub: Stub) -> None:
    with client_of(stub, before_send=lambda e: None if e["event"] == "no" else e) as client:
        stub.next(page(200), page(404), answers(204, b""))
        for _ in range(3):
            client.capture("no")
            client.flush(60)
        assert {} == stub.losses
        client.capture("yes")
        assert client.flush(60)

    assert 3 == sum(one["counts"]["before_send"] for one in stub.losses.values())


def test_an_ingress_without_a_route_is_not_asked_for_each_event_of_a_batch(
    stub: Stub, tmp_path: Path
) -> None:
    """A 404 also makes the client look for the single route, as the original service has it."""
    stub.usual = page(404)
    slowly: dict[str, Any] = {"retry_base_s": 60.0, "retry_cap_s": 60.0}
    with client_of(stub, spool_audit=True, spool_dir=tmp_path, **slowly) as client:
        kept = client.audit.send_batch([{"event_name": "order.created", "payload": {}}] * 50)
        asked = len(stub.requests)
        stub.usual = takes()
        assert client.flush(60)

    assert 50 == sum(isinstance(one, Receipt) and one.is_spooled for one in kept)
    assert asked <= 4  # the queue asks too
    assert 50 == len(stub.stored)


# Reading back.


@pytest.mark.parametrize("answer", [page(404), page(200), answers(403, {"message": "no"})])
def test_what_a_proxy_answers_is_no_receipt_and_no_refusal(stub: Stub, answer: Behaviour) -> None:
    stub.usual = answer
    with client_of(stub) as client, pytest.raises(AuditFailed) as caught:
        client.audit.fetch_receipt("tx_1", timeout_s=1)

    assert not isinstance(caught.value, AuditRefused)


# What the log says.


def test_ten_thousand_refusals_leave_twenty_lines_at_most(
    stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codes = sorted(CODES)
    turn = iter(range(1 << 30))

    def behave(line: Line, request: Request) -> None:
        number = next(turn)
        if number % 7 == 6:  # things go well now and then
            takes()(line, request)
        elif number % 7 == 5:
            page(400 + number % 90)(line, request)
        else:
            line.answer(400, {"ok": False, "reason": codes[number % len(codes)]})

    stub.usual = behave
    with client_of(stub, batch_events=10, spool_audit=True, spool_dir=tmp_path) as client:
        while client.counts().lost.get(LossReason.REFUSED, 0) < 10_000:
            for _ in range(1_000):
                client.capture("refused")
            client.flush(60)
        for _ in range(50):
            client.audit.send_async("order.refused", {})
            client.flush(60)

        assert_balanced(client)
    lines = Counter(message.partition(":")[0] for message in caplog.messages)
    assert 20 >= lines.total(), caplog.messages
    assert {"product", "audit"} == set(lines)


def test_what_is_over_and_begins_again_is_news_a_minute_later(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    hours = Hours()
    with client_of(stub, _time=hours.time) as client:
        for expected in (1, 1, 2):
            stub.next(page(403))
            client.capture("one")
            assert client.flush(60)
            lines = [line for line in caplog.messages if "a proxy answered 403" in line]
            assert expected == len(lines)
            if expected == 1 and len(stub.requests) > 2:
                hours.advance(61)


@pytest.mark.parametrize(
    ("status", "phrase", "headers", "text", "line"),
    [
        (403, "Forbidden", {}, PAGE, 'a proxy answered 403 Forbidden ("Access denied")'),
        (403, "Forbidden", {}, b"<title>403 Forbidden</title>", "a proxy answered 403 Forbidden"),
        (502, "", {"server": "nginx"}, b"", "a proxy answered 502, nginx"),
        (
            403,
            "No",
            {},
            b'{"message": "Out of office"}',
            'a proxy answered 403 No ("Out of office")',
        ),
        (
            302,
            "Found",
            {"location": "https://u:p@login.example.com/in?key=s3cret"},
            b"",
            "a proxy answered 302 Found, and points to https://login.example.com",
        ),
        (400, "Bad\x1b[31m\r\nLine", {}, b"\xff\x00", "a proxy answered 400 Bad [31m Line"),
    ],
)
def test_an_answer_of_something_in_front_is_named_in_one_line(
    status: int, phrase: str, headers: Mapping[str, str], text: bytes, line: str
) -> None:
    assert line == said_by(status, phrase, headers, text, b"", Unspoken([]))[: len(line)]
    assert said_by(status, phrase, headers, text, b"", Unspoken([])).isprintable()


@pytest.mark.parametrize(
    "echo",
    [
        lambda r: r.text,
        lambda r: b"<title>" + r.text[:70] + b"</title>",
        lambda r: b"<title>hush-value</title>" if b"hush-value" in r.text else b"",
        lambda r: b'{"message": "bad %s"}' % r.text[12:24] if b"ind_pub" in r.text[:24] else b"",
        lambda r: f"<p>{dict(r.headers)}</p>".encode(),
        lambda r: r.headers.get("authorization", "-").encode(),
        lambda r: b"<title>key hidden-header</title>",
    ],
)
def test_a_page_that_repeats_what_was_sent_to_it_puts_none_of_it_into_the_log(
    stub: Stub, echo: Callable[[Request], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    stub.usual = lambda line, request: line.answer(403, echo(request))
    with client_of(stub, on_error=told.append, headers={"X-Key": "hidden-header"}) as client:
        client.capture("hush-name", properties={"hush": "hush-value"})
        client.audit.send_async("hush.sent", {"hush": "hush-value"})
        _until(lambda: len({what.partition(":")[0] for what in told}) == 2)
        shown = caplog.text + "".join(told) + str(client.doctor())

    assert "a proxy answered 403" in shown
    for secret in ("hush", "ind_pub_stub", "iml_test_stub", "hidden-header"):
        assert secret not in shown


@given(st.binary(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_any_page_makes_a_line_of_bounded_length(text: bytes, phrase: str, server: str) -> None:
    line = said_by(403, phrase, {"server": server, "location": server}, text, None, Unspoken([]))

    assert len(line) < 400
    assert line.isprintable()


@pytest.mark.parametrize(
    ("answer", "says", "cure"),
    [
        (page(403), "a proxy answered 403", "firewall"),
        (page(401), "a proxy answered 401", "headers"),
        (page(404), "a proxy answered 404", "Check the host"),
        (page(407), "a proxy answered 407", "user:password@proxy"),
        (page(413), "a proxy answered 413", "20 MiB"),
        (page(429), "a proxy answered 429", "rate limit"),
        (page(308, Location="https://events.example.com/"), "points to https://events", "the host"),
        (page(200), "a proxy answered 200", "login page"),
        (answers(204, b""), "a proxy answered 204", "stands before"),
        (answers(404, {"ok": False, "error": "not_found"}), "a proxy answered 404", "the host"),
    ],
)
def test_the_doctor_names_what_stands_in_front(
    stub: Stub, answer: Behaviour, says: str, cure: str
) -> None:
    stub.usual = answer
    with client_of(stub) as client:
        last = client.doctor().hops[-1]

    assert last.ok is False
    assert says in last.detail
    assert cure in str(last.cure)


def _stays(condition: Callable[[], bool], for_s: float = 0.25) -> bool:
    """Whether it holds for so long: for what must not happen, there is nothing to wait for."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if not condition():
            return False
        threading.Event().wait(0.01)
    return True


def _until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


ODD: list[Any] = [
    None,
    5,
    "ok",
    [],
    {},
    {"result": []},
    {"result": "done"},
    {"ok": 1},
    {"ok": True},
]


@pytest.mark.parametrize("said", ODD, ids=[f"answer-{place}" for place in range(len(ODD))])
def test_an_answer_that_says_nothing_known_of_an_event_settles_it_at_no_door(
    stub: Stub, said: Any
) -> None:
    odd = {"ok": True, "status": 1, "events": [said], "results": [said]}
    stub.next(*[answers(200, odd)] * 2)
    with client_of(stub, spool_audit=False) as client:
        client.audit.send_async("row.read", "x")
        _until(lambda: len(stub.deliveries) == 2)
        assert client.flush(60)

        stub.next(answers(200, odd))
        [result] = client.audit.send_batch([{"event_name": "row.read", "payload": "x"}])
        assert isinstance(result, AuditNotKept)
        assert (1, 0) == (client.audit.counts().delivered, client.audit.counts().failures)
    assert 1 == len(stub.stored)


@pytest.mark.parametrize("said", [{"result": []}, {"result": "done"}, {"result": None}])
def test_a_word_that_no_server_of_ours_says_of_an_event_settles_nothing(
    stub: Stub, said: Any
) -> None:
    stub.next(answers(200, {"events": [said]}))
    with client_of(stub) as client:
        client.capture("tick")
        assert client.flush(60)

        assert (1, {}, 0) == (
            client.counts().delivered,
            client.counts().lost,
            client.counts().failures,
        )
