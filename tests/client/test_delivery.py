"""How events leave: retries, faults of the server, limits, and the accounts that must balance."""

import email.utils
import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.client import Indelible
from indelible.client.inbox import Inbox
from indelible.client.options import Mode
from indelible.client.retry import Again, Halve, Pace, Refused, Taken, meaning_of
from indelible.event import LossReason
from tests.client.stub import (
    TOKEN,
    TOLD,
    Behaviour,
    Hours,
    Stub,
    answers,
    assert_balanced,
    client_of,
    drips,
    garbage,
    hangs_up,
    results,
    stalls,
    takes,
    takes_and_hangs_up,
    takes_at_most,
)

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


# What is sent.


def test_an_event_has_every_field_that_the_wire_demands(stub: Stub) -> None:
    with client_of(stub) as client:
        client.capture("first", distinct_id="user_42", properties={"amount": 99.99})
        client.audit.send_async("order.created", {"id": "ord_1"}, type="success")
        assert client.flush(60)

    product = next(one for one in stub.requests if one.path == "/api/e")
    (event,) = product.events
    assert {"api_key", "sent_at", "batch"} == product.body.keys()
    assert {
        "event",
        "distinct_id",
        "uuid",
        "timestamp",
        "process_id",
        "sequence",
        "properties",
    } == (event.keys())
    assert ("first", "user_42", 99.99) == (
        event["event"],
        event["distinct_id"],
        event["properties"]["amount"],
    )
    assert re.fullmatch(r"[0-9a-f]{32}", event["process_id"])
    assert 0 == event["sequence"]
    assert re.fullmatch(r"indelible-python/\d.*", product.headers["user-agent"])
    assert uuid.UUID(product.headers["x-request-id"])
    (entry,) = next(one for one in stub.requests if one.path == "/v1/events/batch").events
    assert {"payload", "meta", "idempotency_key"} == entry.keys()
    assert {"type", "event_name", "process_id", "sequence"} == entry["meta"].keys()
    assert '{"id":"ord_1"}' == entry["payload"]


def test_ids_are_uuids_of_version_7_that_ascend_with_time_and_never_repeat(stub: Stub) -> None:
    with client_of(stub) as client:
        for number in range(250):
            client.capture("numbered", properties={"n": number})
        assert client.flush(60)

    events = [event for request in stub.requests for event in request.events]
    ids = [uuid.UUID(event["uuid"]) for event in events]
    assert {7} == {one.version for one in ids}
    assert 250 == len(set(ids))
    moments = [one.int >> 80 for one in ids]
    assert sorted(moments) == moments
    assert list(range(250)) == [event["sequence"] for event in events]
    assert list(range(250)) == [event["properties"]["n"] for event in events]


def test_a_flush_of_nothing_sends_nothing(stub: Stub) -> None:
    with client_of(stub) as client:
        assert client.flush(60)
        assert client.flush()

    assert [] == stub.requests


def test_a_long_body_is_packed_and_says_so_and_a_short_one_is_not(stub: Stub) -> None:
    with client_of(stub) as client:
        client.capture("short")
        assert client.flush(60)
        client.capture("long", properties={"text": "x" * 5_000})
        assert client.flush(60)

    short, long = stub.requests
    assert "content-encoding" not in short.headers
    assert short.wire_bytes == short.text
    assert "gzip" == long.headers["content-encoding"]
    assert b"\x1f\x8b" == long.wire_bytes[:2]
    assert len(long.wire_bytes) < len(long.text)


def test_a_burst_of_a_thousand_loses_nothing(stub: Stub) -> None:
    with client_of(stub) as client:
        for _ in range(1_000):
            client.capture("burst")
        assert client.flush(60)

        assert (1_000, 1_000) == (client.counts().delivered, len(stub.stored))
        assert {} == client.counts().lost
    assert max(len(request.events) for request in stub.requests) <= 100


def test_one_connection_is_kept_for_batch_after_batch(stub: Stub) -> None:
    with client_of(stub) as client:
        for _ in range(3):
            client.capture("again")
            assert client.flush(60)

    assert [1, 1, 1] == [request.connection for request in stub.requests]


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(stub: Stub) -> None:
    with client_of(stub) as client:
        client.capture("before")
        assert client.flush(60)
        stub.hang_up_on_idle()
        client.capture("after")
        assert client.flush(60)

        assert 2 == client.counts().delivered
        assert 0 == client.counts().retried
    assert 2 == len(stub.requests)


# What is tried again, and what is not.


@pytest.mark.parametrize(
    "fault",
    [
        *(answers(status) for status in (408, 500, 502, 503, 504)),
        answers(429, headers={"Retry-After": "0"}),
        answers(503, headers={"Retry-After": "soon"}),
        answers(200, b"<html>a proxy's greeting</html>"),
        hangs_up(),
        takes_and_hangs_up(),
        garbage(),
    ],
    ids=[
        "408",
        "500",
        "502",
        "503",
        "504",
        "429",
        "unreadable-date",
        "unreadable",
        "hangs-up",
        "answer-lost",
        "garbage",
    ],
)
def test_after_a_passing_fault_the_same_event_is_sent_again(stub: Stub, fault: Behaviour) -> None:
    stub.next(fault, fault)
    with client_of(stub) as client:
        client.capture("kept", distinct_id="u")
        assert client.flush(60)

        assert (1, {}) == (client.counts().delivered, client.counts().lost)
        assert_balanced(client)
    assert 1 == len(stub.stored)
    first, second, third = stub.requests
    # Its id, time and every other byte are what they were; so is the batch's id.
    assert first.events == second.events == third.events
    assert 1 == len({request.headers["x-request-id"] for request in stub.requests})
    assert ["1", "2", "3"] == [r.headers["x-indelible-attempt"] for r in stub.requests]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_final_refusal_is_counted_and_never_repeated(stub: Stub, status: int) -> None:
    said: list[str] = []
    stub.next(answers(status))
    with client_of(stub, on_error=said.append) as client:
        client.capture("refused")
        assert client.flush(60)
        client.capture("taken")
        assert client.flush(60)

        assert {LossReason.REFUSED: 1} == client.counts().lost
        assert 1 == client.counts().delivered
        assert_balanced(client)
    assert 2 == len(stub.deliveries)
    assert [f"product: 1 refused: {TOLD}"] == said


def test_a_used_up_quota_is_final_even_with_a_retry_after(stub: Stub) -> None:
    stub.next(answers(429, {"ok": False, "reason": "monthly_limit_exceeded"}, {"Retry-After": "0"}))
    with client_of(stub) as client:
        client.audit.send_async("order.created", {})
        assert client.flush(60)

        assert {LossReason.REFUSED: 1} == client.audit.counts().lost
    assert 1 == len(stub.deliveries)


@given(
    status=st.integers(100, 999),
    reason=st.sampled_from([None, TOLD, "rate_limited", "monthly_limit_exceeded"]),
    after=st.sampled_from([None, "3", "nonsense"]),
)
def test_every_status_has_one_meaning(status: int, reason: str | None, after: str | None) -> None:
    """`reason` is the server's own code: without one, something in front has answered."""
    headers = {} if after is None else {"retry-after": after}

    meaning = meaning_of(status, headers, reason, now=NOW)

    if 200 <= status < 300 and status not in (204, 205, 206):
        assert Taken() == meaning
    elif status == 413:
        assert Halve(is_final=reason is not None) == meaning
    elif (
        reason is None
        or status < 400
        or status == 408
        or status >= 500
        or (status == 429 and reason == "rate_limited")
        or (status == 429 and reason == TOLD and after == "3")
    ):
        assert isinstance(meaning, Again)
        assert (3.0 if after == "3" else None) == meaning.after_s
    else:
        assert Refused(reason) == meaning


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_server_that_says_when_is_not_asked_before(stub: Stub, as_date: bool) -> None:
    hours = Hours()
    moment = datetime.now(UTC) + timedelta(seconds=301)
    stub.next(
        answers(
            503,
            headers={
                "Retry-After": email.utils.format_datetime(moment, usegmt=True)
                if as_date
                else "300"
            },
        )
    )
    told: list[str] = []
    with client_of(stub, _time=hours.time, batch_events=1, on_error=told.append) as client:
        client.capture("first")
        _until(lambda: told)
        hours.advance(240)
        client.capture("second")  # wakes the worker, which finds that it is too early
        assert _stays(lambda: len(stub.requests) == 1)
        hours.advance(70)
        client.capture("third")
        stub.wait_until(lambda s: len(s.stored) == 3)


def test_the_pause_grows_with_each_failure_up_to_a_cap_and_is_drawn_anew() -> None:
    pauses: dict[int, set[float]] = {}
    for _ in range(200):
        pace = Pace(base_s=0.5, cap_s=30.0, breaker_failures=100, breaker_probe_s=30.0)
        for failure in range(1, 12):
            pace.failed(1_000.0)
            pauses.setdefault(failure, set()).add(pace.not_before - 1_000.0)

    for failure, drawn in pauses.items():
        most = min(30.0, 0.5 * 2 ** (failure - 1))
        assert 0 <= min(drawn)
        assert 0.7 * most < max(drawn) <= most
        assert len(drawn) > 150  # full jitter: clients that failed together come back apart


def test_the_breaker_asks_once_in_a_while_and_closes_when_the_server_is_back(stub: Stub) -> None:
    hours = Hours()
    stub.usual = answers(503)
    options: dict[str, Any] = {"breaker_failures": 3, "breaker_probe_s": 30.0, "batch_events": 1}
    with client_of(stub, _time=hours.time, **options) as client:
        client.capture("first")
        stub.wait_until(lambda s: len(s.requests) == 3)
        client.capture("second")
        assert _stays(lambda: len(stub.requests) == 3)

        hours.advance(31)
        client.capture("third")
        stub.wait_until(lambda s: len(s.requests) == 4)
        client.capture("fourth")
        assert _stays(lambda: len(stub.requests) == 4)

        stub.usual = takes()
        hours.advance(31)
        client.capture("fifth")
        stub.wait_until(lambda s: len(s.stored) == 5)


def test_what_cannot_be_delivered_for_too_long_is_counted_as_expired(stub: Stub) -> None:
    hours = Hours()
    stub.usual = answers(503)
    with client_of(stub, _time=hours.time, max_age_s=3_600) as client:
        client.capture("old")
        client.audit.send_async("order.old", {})
        stub.wait_until(lambda s: len(s.requests) >= 2)
        hours.advance(3_601)
        _until(lambda: client.counts().lost and client.audit.counts().lost)
        stub.usual = takes()
        client.capture("new")
        client.audit.send_async("order.new", {})
        assert client.flush(60)

        assert {LossReason.EXPIRED: 1} == client.counts().lost == client.audit.counts().lost
        assert_balanced(client)
    assert ["new"] == [e["event"] for e in stub.stored.values() if "event" in e]


# Answers about single events.


def test_only_those_that_the_server_wants_again_are_sent_again(stub: Stub) -> None:
    told: list[tuple[str, int]] = []
    stub.next(results(_0="retry", _2="drop"))
    options = {"batch_s": 60.0, "on_drop": lambda *one: told.append(one)}
    with client_of(stub, **options) as client:
        for name in ("a", "b", "c", "d"):
            client.capture(name)
        assert client.flush(60)

        assert (3, {LossReason.REFUSED: 1}) == (client.counts().delivered, client.counts().lost)
        assert_balanced(client)
        _until(lambda: [("refused", 1)] == told)
    names = [[event["event"] for event in request.events] for request in stub.requests]
    assert [["a", "b", "c", "d"], ["a"]] == names[:2]


def test_the_same_holds_for_audit_events(stub: Stub) -> None:
    stub.next(results(_1="retry", _2="drop"))
    with client_of(stub, batch_s=60.0) as client:
        for number in range(3):
            client.audit.send_async(f"order.{number}", {})
        assert client.flush(60)

        assert (2, {LossReason.REFUSED: 1}) == (
            client.audit.counts().delivered,
            client.audit.counts().lost,
        )
    names = [[event["meta"]["event_name"] for event in r.events] for r in stub.requests]
    assert [["order.0", "order.1", "order.2"], ["order.1"]] == names[:2]


def test_a_batch_that_is_too_large_is_halved_until_it_fits(stub: Stub) -> None:
    stub.usual = takes_at_most(3)
    with client_of(stub, batch_s=60.0) as client:
        for _ in range(10):
            client.capture("many")
        assert client.flush(60)

        assert (10, {}) == (client.counts().delivered, client.counts().lost)
    assert 10 == len(stub.stored)


def test_one_event_that_is_too_large_is_counted_and_its_neighbours_are_not(stub: Stub) -> None:
    def behave(line: Any, request: Any) -> None:
        huge = any("huge" in event["properties"] for event in request.events)
        (answers(413) if huge else takes())(line, request)

    stub.usual = behave
    with client_of(stub, batch_s=60.0) as client:
        for number in range(5):
            client.capture("one", properties={"huge": 1} if number == 3 else None)
        assert client.flush(60)

        assert (4, {LossReason.TOO_LARGE: 1}) == (client.counts().delivered, client.counts().lost)
        assert_balanced(client)


# Servers that keep one waiting.


@pytest.mark.clocked
@pytest.mark.parametrize("slow", [stalls(), drips(0.05)], ids=["stalls", "drips"])
def test_a_slow_server_never_delays_the_caller(stub: Stub, slow: Behaviour) -> None:
    stub.usual = slow
    with client_of(stub, total_s=1.0) as client:
        client.capture("first")
        stub.wait_until(lambda s: len(s.requests) == 1)
        started = time.perf_counter()
        for _ in range(1_000):
            client.capture("more")
        took_s = time.perf_counter() - started

        assert took_s < 0.7  # 1,000 calls; the server is silent all the while
        started = time.perf_counter()
        assert client.flush(0.2) is False
        assert 0.15 < time.perf_counter() - started < 0.9
        # The exchange itself ends after `total_s`, however often a byte arrives.
        stub.wait_until(lambda s: len(s.requests) >= 2)


def test_a_flush_with_a_time_out_leaves_the_rest_to_the_background(stub: Stub) -> None:
    stub.usual = answers(503)
    with client_of(stub) as client:
        client.capture("late")
        assert client.flush(0.1) is False
        stub.usual = takes()
        stub.wait_until(lambda s: len(s.stored) == 1)
        assert client.flush(60)


# Bounds of the queue.


def test_a_full_queue_lets_the_newest_go_and_counts_each(stub: Stub) -> None:
    told: list[tuple[str, int]] = []
    stub.usual = answers(503)
    options = {"max_queued": 50, "on_drop": lambda *one: told.append(one)}
    with client_of(stub, **options) as client:
        for number in range(80):
            client.capture("n", properties={"n": number})
        assert (80, 50, {LossReason.QUEUE_FULL: 30}) == (
            client.counts().captured,
            client.counts().waiting,
            client.counts().lost,
        )
        stub.usual = takes()
        assert client.flush(60)

        assert set(range(50)) == {event["properties"]["n"] for event in stub.stored.values()}
        _until(lambda: ("queue_full", 30) in told)
        assert_balanced(client)


def test_with_overflow_oldest_the_newest_stay(stub: Stub) -> None:
    stub.usual = answers(503)
    options: dict[str, Any] = {"max_queued": 50, "overflow": "oldest", "batch_events": 5}
    with client_of(stub, **options) as client:
        for number in range(200):
            client.capture("n", properties={"n": number})
            if number % 20 == 0:
                client.flush(0.05)  # the worker packs, and lets the oldest go
        client.flush(0.1)
        stub.usual = takes()
        assert client.flush(60)

        kept = {event["properties"]["n"] for event in stub.stored.values()}
        assert 199 in kept
        assert len(kept) <= 60
        assert {LossReason.QUEUE_FULL: 200 - len(kept)} == client.counts().lost
        assert_balanced(client)


def test_heavy_events_are_bounded_by_their_bytes(stub: Stub) -> None:
    stub.usual = answers(503)
    with client_of(stub, max_queued_bytes=1 << 20, max_event_bytes=1 << 20) as client:
        for _ in range(100):
            client.capture("heavy", properties={"text": "x" * 100_000})
        client.flush(0.1)
        counts = client.counts()

        assert 1 <= counts.waiting <= 10
        assert {LossReason.QUEUE_BYTES: 100 - counts.waiting} == counts.lost


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"max_queued_bytes": 1 << 20}, "x" * 100_000, LossReason.QUEUE_BYTES),
        ({"max_queued": 10}, "x", LossReason.QUEUE_FULL),
    ],
)
def test_what_the_worker_writes_at_the_moment_counts_against_the_bounds_too(
    stub: Stub, options: dict[str, Any], text: str, reason: LossReason
) -> None:
    stub.usual = answers(503)
    writing, on = threading.Event(), threading.Event()
    written = []

    def hold_up(event: dict[str, Any]) -> dict[str, Any]:
        written.append(event)
        if len(written) == 8:
            writing.set()
            on.wait(60)
        return event

    with client_of(stub, before_send=hold_up, batch_s=3_600, **options) as client:
        for place in range(100):
            client.capture("e", properties={"text": text})
            if place == 9:
                threading.Thread(target=client.flush, args=(0.1,)).start()
                assert writing.wait(60)
        assert {reason: 90} == client.counts().lost
        on.set()


# Hooks of the application.


def test_what_before_send_returns_is_sent_and_what_it_withholds_is_counted(stub: Stub) -> None:
    def only_paid(event: dict[str, Any]) -> dict[str, Any] | None:
        if event["event"] == "secret":
            return None
        event["properties"]["seen"] = True
        return event

    with client_of(stub, before_send=only_paid) as client:
        client.capture("secret")
        client.capture("open", properties={"amount": 1})
        assert client.flush(60)

        assert {LossReason.BEFORE_SEND: 1} == client.counts().lost
    (event,) = stub.stored.values()
    assert ("open", True) == (event["event"], event["properties"]["seen"])


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_a_before_send_that_fails_or_captures_lets_go_and_never_recurs(
    stub: Stub, mode: str
) -> None:
    def failing(event: dict[str, Any]) -> dict[str, Any] | None:
        client.capture("from inside")
        client.flush(60)
        raise RuntimeError("broken filter")

    with client_of(stub, before_send=failing, mode=mode) as client:
        started = time.perf_counter()
        client.capture("outer")
        assert client.flush(60)

        assert time.perf_counter() - started < 50
        assert (2, {LossReason.BEFORE_SEND: 2}) == (client.counts().captured, client.counts().lost)
    assert {} == stub.stored


def test_what_a_finalizer_captures_while_an_event_is_written_is_an_event_like_any(
    stub: Stub,
) -> None:
    """The garbage collector calls finalizers on whatever thread it runs, the worker's as well."""

    class Closed:
        def __del__(self) -> None:
            client.capture("closed")

    class Tags(Mapping[str, object]):
        def __len__(self) -> int:
            return 0

        def __getitem__(self, name: str) -> object:
            raise KeyError(name)

        def __iter__(self) -> Iterator[str]:
            held.clear()  # on the worker, while the event that has these tags is written
            return iter(())

    held = [Closed()]
    with client_of(stub) as client:
        client.capture("opened", properties={"tags": Tags()})
        _until(lambda: client.counts().delivered == 2)

        assert {} == client.counts().lost
    assert ["opened", "closed"] == [event["event"] for event in stub.stored.values()]


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_hooks_that_raise_or_capture_harm_nobody(stub: Stub, mode: str) -> None:
    stub.next(answers(400))

    def on_error(what: str) -> None:
        if "refused" in what:
            client.capture("sdk_error", properties={"what": what})
        raise RuntimeError("a hook of the application")

    with client_of(stub, on_error=on_error, on_drop=on_error, mode=mode, total_s=60.0) as client:
        started = time.perf_counter()
        client.capture("refused")
        assert client.flush(60)
        assert client.flush(60)

        assert time.perf_counter() - started < 50
        assert {LossReason.REFUSED: 1} == client.counts().lost
        assert client.counts().failures >= 1
    assert ["sdk_error"] == [event["event"] for event in stub.stored.values()]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_hook_that_would_end_its_thread_does_not_end_delivery(
    stub: Stub, error: type[BaseException]
) -> None:
    """`sys.exit()` in a hook ends the thread that it runs on: nobody would ever send again."""

    def ending(what: object) -> Any:
        if not isinstance(what, dict) or what["event"] == "withheld":
            raise error
        return what

    stub.next(answers(400))
    with client_of(stub, before_send=ending, on_error=ending) as client:
        client.capture("refused")
        assert client.flush(60)
        for name in ("before", "withheld", "after"):
            client.capture(name)
        assert client.flush(60)

        lost = {LossReason.REFUSED: 1, LossReason.BEFORE_SEND: 1}
        assert (4, 2, 0, lost) == (
            client.counts().captured,
            client.counts().delivered,
            client.counts().waiting,
            client.counts().lost,
        )
    assert ["before", "after"] == [event["event"] for event in stub.stored.values()]


def test_what_ends_a_program_in_a_hook_ends_it_where_the_caller_lends_its_thread(
    stub: Stub,
) -> None:
    def ending(event: dict[str, Any]) -> dict[str, Any]:
        if event["event"] == "withheld":
            sys.exit(3)
        return event

    with client_of(stub, before_send=ending, mode="sync") as client:
        client.capture("before")
        with pytest.raises(SystemExit):
            client.capture("withheld")
        client.capture("after")

        assert {LossReason.BEFORE_SEND: 1} == client.counts().lost
        assert (2, 0) == (client.counts().delivered, client.counts().waiting)


def test_what_comes_after_shutdown_is_counted_and_shutdown_may_be_repeated(stub: Stub) -> None:
    client = Indelible(TOKEN, host=stub.url)
    client.capture("before")
    assert client.shutdown(60)
    client.capture("after")
    assert client.shutdown(60)
    assert client.flush(1)

    assert (1, {LossReason.AFTER_SHUTDOWN: 1}) == (client.counts().delivered, client.counts().lost)
    assert_balanced(client)


# Reports of what was lost.


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_an_event_that_was_about_to_be_queued_when_the_client_was_shut_down_is_counted(
    stub: Stub, mode: Mode
) -> None:
    """The thread had seen that the client was open, and then another one shut it down."""

    def shut_down_first(frame: FrameType, event: str, _: object) -> None:
        if frame.f_code is Inbox.put.__code__:
            sys.settrace(None)
            client.shutdown(60)

    client = Indelible(TOKEN, host=stub.url, mode=mode)
    client.capture("before")
    before = sys.gettrace()
    sys.settrace(shut_down_first)
    try:
        client.capture("just then")
    finally:
        sys.settrace(before)

    _until(lambda: client.counts().waiting == 0)
    assert {LossReason.AFTER_SHUTDOWN: 1} == client.counts().lost
    assert ["before"] == [event["event"] for event in stub.stored.values()]


def test_a_loss_is_reported_once_with_the_next_batch(stub: Stub) -> None:
    with client_of(stub, before_send=lambda e: None if e["event"] == "no" else e) as client:
        client.capture("no")
        client.capture("no")
        client.capture("yes")
        assert client.flush(60)
        client.capture("yes")
        assert client.flush(60)

        (report,) = stub.losses.values()
        assert {"before_send": 2} == report["counts"]
        assert client.process_id == report["process_id"]
        assert 7 == uuid.UUID(report["uuid"]).version


def test_a_report_whose_answer_was_lost_comes_again_with_the_same_uuid(stub: Stub) -> None:
    with client_of(stub, before_send=lambda e: None if e["event"] == "no" else e) as client:
        stub.next(takes_and_hangs_up(), answers(503))
        client.capture("no")
        client.capture("yes")
        stub.wait_until(lambda s: len(s.requests) >= 1)
        client.capture("no")  # belongs to the next report: the first one is frozen
        assert client.flush(60)
        assert client.flush(60)

    reports = [request.body["lost"] for request in stub.requests if "lost" in request.body]
    assert reports[0] == reports[1] == reports[2]
    assert 2 == sum(sum(one["counts"].values()) for one in stub.losses.values())


@pytest.mark.parametrize("end", ["flush", "shutdown"])
def test_what_the_last_batch_lost_is_reported_though_nothing_follows(stub: Stub, end: str) -> None:
    stub.next(answers(400))
    with client_of(stub) as client:
        client.capture("refused")
        assert client.flush(60) if end == "flush" else client.shutdown(60)

        assert [{"refused": 1}] == [one["counts"] for one in stub.losses.values()]


def test_a_report_that_the_server_could_not_take_is_kept_for_later(stub: Stub) -> None:
    stub.next(answers(400), answers(503))
    with client_of(stub) as client:
        client.capture("refused")
        assert client.flush(60)
        assert {} == stub.losses
        client.capture("taken")
        assert client.flush(60)

        assert [{"refused": 1}] == [one["counts"] for one in stub.losses.values()]


# The accounts, whatever happens.

FAULTS = st.sampled_from(
    [
        *(answers(status) for status in (200, 204, 400, 401, 408, 413, 429, 500, 503)),
        answers(200, b"{"),
        answers(200, []),
        answers(200, {"success": False}),
        results(_0="retry"),
        results(_0="drop"),
        hangs_up(),
        takes_and_hangs_up(),
        garbage(),
        takes(),
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("capture"), st.integers(1, 30)),
    st.tuples(st.just("audit"), st.integers(1, 10)),
    st.tuples(st.just("fault"), FAULTS),
    st.tuples(st.just("flush"), st.sampled_from([0.0, 0.05, 2.0])),
    st.tuples(st.just("wrong"), st.just(None)),
)


@pytest.mark.parametrize("examples", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_captured_is_delivered_and_lost_in_the_end_whatever_the_server_does(examples: int) -> None:
    @settings(max_examples=examples)
    @given(steps=st.lists(STEPS, max_size=12), mode=st.sampled_from(["thread", "sync"]))
    def deliver(steps: list[tuple[str, Any]], mode: str) -> None:
        captured = {"product": 0, "audit": 0}
        with Stub() as stub, client_of(stub, mode=mode, max_queued=60, batch_events=7) as client:
            for what, argument in steps:
                if what == "fault":
                    stub.next(argument)
                elif what == "flush":
                    client.flush(argument)
                elif what == "wrong":
                    client.capture(None)  # type: ignore[arg-type]
                    captured["product"] += 1
                elif what == "capture":
                    for _ in range(argument):
                        client.capture("event")
                    captured["product"] += argument
                else:
                    for _ in range(argument):
                        client.audit.send_async("order.created", {})
                    captured["audit"] += argument
                assert_balanced(client)
            stub.next(takes())  # whatever faults are left come first; sync mode tries once a flush
            _until(lambda: client.flush(2))

            product, audit = client.counts(), client.audit.counts()
            assert captured == {"product": product.captured, "audit": audit.captured}
            assert 0 == product.waiting == audit.waiting
            assert_balanced(client)
            # What is called delivered is on the server. The server may have more: an answer that
            # was lost, and then a final refusal of the same events.
            stored = [one for one in stub.stored.values() if "event" in one]
            assert product.delivered <= len(stored)
            assert audit.delivered <= len(stub.stored) - len(stored)

    deliver()


def test_threads_that_capture_at_once_lose_nothing_between_them(stub: Stub) -> None:
    with client_of(stub) as client:

        def capture_many() -> None:
            for _ in range(500):
                client.capture("t")

        threads = [threading.Thread(target=capture_many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(20)

        assert 4_000 == client.counts().delivered == len(stub.stored)
        sequences = sorted(event["sequence"] for event in stub.stored.values())
        assert list(range(4_000)) == sequences


def test_nothing_of_an_event_is_ever_logged(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    stub.next(answers(400, {"ok": False, "reason": "invalid"}), answers(503), garbage())
    with client_of(stub, before_send=lambda e: 1 / 0 if e["event"] == "x" else e) as client:
        client.capture("hush-name", properties={"hush": "hush-value"})
        assert client.flush(60)
        client.capture("hush-again")
        client.capture("x", properties={"hush": 1})
        assert client.flush(60)

    assert caplog.records
    assert "hush" not in caplog.text
    assert json.dumps(TOKEN) not in caplog.text


def _stays(condition: Any, for_s: float = 0.25) -> bool:
    """Whether it holds for so long: for what must not happen, there is nothing to wait for."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if not condition():
            return False
        threading.Event().wait(0.01)
    return True


def _until(condition: Any, within_s: float = 60.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)
