"""Audit events: what the durable door promises, and what it says when it cannot keep it."""

import asyncio
import inspect
import itertools
import json
import logging
import math
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import indelible
from indelible.client import (
    AsyncIndelible,
    AuditEvent,
    AuditFields,
    Indelible,
    LossReason,
    Receipt,
)
from indelible.client.asynchronous import AsyncAudit
from indelible.client.audit import Audit
from indelible.errors import AuditFailed, AuditNotKept, AuditRefused, ClientDisabled
from indelible.ledger.format.verify import Verdict
from tests.client.stub import (
    API_KEY,
    TOKEN,
    Behaviour,
    Line,
    Request,
    Stub,
    answers,
    assert_balanced,
    client_of,
    garbage,
    hangs_up,
    results,
    stalls,
    takes,
    takes_and_hangs_up,
    takes_at_most,
)
from tests.world import API_KEY as REAL_KEY
from tests.world import AS_APPLICATION, ServerProcess
from tests.world import TOKEN as REAL_TOKEN

UNREACHABLE: list[Behaviour] = [
    *(answers(status) for status in (408, 500, 502, 503, 504)),
    answers(202, b"<html>hello</html>"),
    answers(200, {"welcome": "to the hotel's network"}),
    answers(200, {"ok": True}),
    hangs_up(),
    takes_and_hangs_up(),
    garbage(),
]


@pytest.fixture
def real(shared: ServerProcess) -> Any:
    with Indelible(REAL_TOKEN, api_key=REAL_KEY, host=shared.url) as client:
        yield client


# Against a real server.


def test_a_durable_event_comes_back_with_what_the_server_answered(real: Indelible) -> None:
    receipt = real.audit.send("order.created", {"order_id": "ord_1"}, type="success")

    assert ("accepted", True, False) == (receipt.status, receipt.ok, receipt.is_spooled)
    assert re.fullmatch(r"tx_[0-9a-f]{32}", str(receipt.tx_id))
    assert isinstance(receipt.index, int)
    assert receipt.payload_hash == indelible.sha256_hex('{"order_id":"ord_1"}')
    assert receipt.duplicate is False
    assert 1 == real.audit.counts().delivered


def test_the_same_key_again_is_the_same_entry(real: Indelible) -> None:
    key = f"invoice-{time.time_ns()}"
    first = real.audit.send("invoice.paid", {"n": 1}, idempotency_key=key)
    again = real.audit.send("invoice.paid", {"n": 1}, idempotency_key=key)

    assert (first.tx_id, first.index) == (again.tx_id, again.index)
    assert (False, True) == (first.duplicate, again.duplicate)
    with pytest.raises(AuditRefused, match="idempotency_conflict") as caught:
        real.audit.send("invoice.paid", {"n": 2}, idempotency_key=key)
    assert ("idempotency_conflict", 409) == (caught.value.reason, caught.value.status)


def test_waiting_for_the_seal_brings_the_receipt_and_it_verifies(
    real: Indelible, shared: ServerProcess
) -> None:
    policy = shared.http.get("/ledger/default/policy", headers=AS_APPLICATION).text

    real.audit.send("order.created", {"id": 0})
    sealed = real.audit.send("order.created", {"id": 1}, wait="sealed", timeout_s=10)
    fetched = real.audit.send("order.created", {"id": 2})

    assert "sealed" == sealed.status
    assert sealed.receipt is not None
    for given in (sealed, sealed.receipt, fetched):
        assert Verdict.VERIFIED == real.audit.verify(given, policy=policy).verdict
    forged = re.sub(r"\nindex (\d+)\n", lambda m: f"\nindex {int(m[1]) - 1}\n", sealed.receipt)
    assert forged != sealed.receipt
    assert Verdict.TAMPERED == real.audit.verify(forged, policy=policy).verdict


def test_an_event_is_shaped_as_immutablelogs_guides_shape_it(shared: ServerProcess) -> None:
    with Indelible(
        None, api_key=REAL_KEY, host=shared.url, service="my-service", env="production"
    ) as client:
        receipt = client.audit.send(
            "user.created", {"user_id": "usr_123", "plan": "pro"}, type="success"
        )
    entry = shared.http.get(f"/v1/events/{receipt.tx_id}", headers=AS_APPLICATION).json()

    assert {"user_id": "usr_123", "plan": "pro"} == json.loads(entry["payload"])
    meta = entry["meta"]
    expected = {"type": "success", "event_name": "user.created", "service": "my-service"}
    assert expected == {name: meta[name] for name in expected}
    assert ("production", "production") == (meta["env"], meta["environment"])
    assert all(isinstance(value, str) for value in meta.values())


def test_send_event_answers_with_the_whole_answer_as_a_dict(
    shared: ServerProcess, fresh_default: None
) -> None:
    indelible.configure(api_key=REAL_KEY, host=shared.url)

    answer = indelible.send_event("käufer.created", {"name": "Zoë"}, kind="success", service="shop")

    assert {"ok", "tx_id", "payload_hash", "status", "duplicate", "request_id"} <= answer.keys()
    entry = shared.http.get(f"/v1/events/{answer['tx_id']}", headers=AS_APPLICATION).json()
    assert "Zoë" in entry["payload"]
    assert re.match(r"\d{4}-\d\d-\d\dT.*\+00:00", json.loads(entry["payload"])["timestamp"])
    assert ("success", "shop", "production") == (
        entry["meta"]["type"],
        entry["meta"]["service"],
        entry["meta"]["env"],
    )


def test_many_come_back_by_their_place_at_most_a_hundred_in_a_request(
    real: Indelible, shared: ServerProcess
) -> None:
    events: list[AuditEvent | AuditFields] = [
        {"event_name": "order.created", "payload": {"n": n}} for n in range(250)
    ]
    events[120] = AuditEvent(event_name="order.created", payload="x" * 100_000)

    answers = real.audit.send_batch(events)

    assert 250 == len(answers)
    assert [120] == [place for place, one in enumerate(answers) if isinstance(one, AuditFailed)]
    refused = answers[120]
    assert isinstance(refused, AuditRefused)
    assert "payload_too_large" == refused.reason
    for place in (0, 99, 100, 249):
        receipt = answers[place]
        assert isinstance(receipt, Receipt)
        entry = shared.http.get(f"/v1/events/{receipt.tx_id}", headers=AS_APPLICATION).json()
        assert {"n": place} == json.loads(entry["payload"])


@pytest.mark.parametrize(
    ("key", "reason", "status"), [("iml_live_wrong-0123456789", "invalid_api_key", 401)]
)
def test_a_wrong_key_is_refused_with_its_code_and_a_hint(
    shared: ServerProcess, key: str, reason: str, status: int
) -> None:
    with Indelible(api_key=key, host=shared.url) as client:
        with pytest.raises(AuditRefused) as caught:
            client.audit.send("order.created", {})
        assert (reason, status) == (caught.value.reason, caught.value.status)
        assert caught.value.advice
        assert key not in str(caught.value)
        assert {LossReason.REFUSED: 1} == client.audit.counts().lost


# Against one that fails.


@pytest.mark.parametrize("fault", UNREACHABLE)
def test_what_the_server_did_not_take_is_on_disk_when_send_returns(
    stub: Stub, fault: Behaviour, tmp_path: Path
) -> None:
    stub.usual = fault
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        receipt = client.audit.send("order.created", {"id": 1})

        assert ("spooled", True, None) == (receipt.status, receipt.is_spooled, receipt.tx_id)
        assert 1 == len(list(tmp_path.rglob("*.batch")))
        stub.usual = takes()
        assert client.flush(60)
        assert [receipt.idempotency_key] == list(stub.stored)
        assert (1, {}) == (client.audit.counts().delivered, client.audit.counts().lost)
        assert_balanced(client)
    assert [] == list(tmp_path.rglob("*.batch"))


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 429])
def test_what_the_server_will_never_take_raises_and_is_not_kept(
    stub: Stub, status: int, tmp_path: Path
) -> None:
    stub.usual = answers(status, {"ok": False, "reason": "forbidden", "hint": "Do this."})
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        with pytest.raises(AuditRefused) as caught:
            client.audit.send("order.created", {})

        assert status == caught.value.status
        assert "Do this." == caught.value.advice
        assert 1 == len(stub.deliveries)
        assert {LossReason.REFUSED: 1} == client.audit.counts().lost
        assert [] == list(tmp_path.rglob("*.batch"))


def test_without_server_and_disk_it_raises_so_that_nobody_believes_it_safe(
    stub: Stub, tmp_path: Path
) -> None:
    stub.usual = answers(503)
    blocked = tmp_path / "a-file"
    blocked.write_text("no folder")
    with client_of(stub, spool_audit=True, spool_dir=blocked) as client:
        with pytest.raises(AuditNotKept):
            client.audit.send("order.created", {})
        (result,) = client.audit.send_batch([{"event_name": "order.created", "payload": {}}])

        assert isinstance(result, AuditNotKept)
        assert {LossReason.SPOOL_FAILED: 2} == client.audit.counts().lost
        assert_balanced(client)


@pytest.mark.clocked
def test_all_attempts_of_one_call_have_one_key_and_say_which_they_are(stub: Stub) -> None:
    stub.next(answers(503), takes_and_hangs_up())
    with client_of(stub) as client:
        receipt = client.audit.send("order.created", {}, attempts=3)

        assert ("accepted", True) == (receipt.status, receipt.duplicate)
    sent = stub.deliveries
    assert {receipt.idempotency_key} == {one.headers["idempotency-key"] for one in sent}
    assert ["1", "2", "3"] == [one.headers["x-indelible-attempt"] for one in sent]
    assert 1 == len({one.headers["x-request-id"] for one in sent})
    assert 1 == len({one.text for one in sent})
    pauses = [after.at - before.at for before, after in itertools.pairwise(sent)]
    assert 0.2 < pauses[0] < 2
    assert 0.45 < pauses[1] < 3


def test_a_server_that_says_when_is_not_asked_again_before(stub: Stub) -> None:
    stub.next(answers(503, headers={"Retry-After": "1"}))
    with client_of(stub) as client:
        receipt = client.audit.send("order.created", {}, attempts=2)

    first, second = stub.deliveries
    assert "accepted" == receipt.status
    assert 1 <= second.at - first.at


@pytest.mark.parametrize(("limit", "asked"), [(None, "3600"), (0.5, "60")])
def test_a_server_that_asks_for_more_time_than_a_call_has_is_not_waited_for(
    stub: Stub, tmp_path: Path, limit: float | None, asked: str
) -> None:
    stub.next(answers(503, headers={"Retry-After": asked}))
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        started = time.perf_counter()
        receipt = client.audit.send("order.created", {}, attempts=3, timeout_s=limit)

        assert receipt.is_spooled
        assert time.perf_counter() - started < 20
        assert client.flush(60)
    assert ["/v1/events", "/v1/events/batch"] == [one.path for one in stub.deliveries]


@pytest.mark.clocked
def test_a_stalled_server_costs_one_time_out_and_no_more(stub: Stub, tmp_path: Path) -> None:
    stub.usual = stalls()
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        started = time.perf_counter()
        receipt = client.audit.send("order.created", {}, timeout_s=0.3)

        assert receipt.is_spooled
        assert 0.25 < time.perf_counter() - started < 3


def test_a_call_may_wait_for_ever(stub: Stub) -> None:
    with client_of(stub) as client:
        assert "accepted" == client.audit.send("order.created", {}, timeout_s=math.inf).status


@pytest.mark.parametrize("door", ["send", "send_batch"])
def test_a_call_that_is_interrupted_leaves_its_event_to_the_spool_and_a_clean_connection(
    stub: Stub, tmp_path: Path, door: str
) -> None:
    """Ctrl-C in a notebook, a soft time limit in a task: what was under way is not forgotten."""

    interrupted: list[bool] = []  # no event: its lock is not for a signal handler

    def interrupt(line: Line, request: Request) -> None:
        # To the thread that waits, or it is heard when the wait is over; and again, for one that
        # comes just before the wait begins is heard after it too.
        while not interrupted:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            line.stub.closing.wait(0.02)
        line.stub.closing.wait()

    calls: dict[str, Callable[[Audit], object]] = {
        "send": lambda audit: audit.send("order.paid", {}),
        "send_batch": lambda audit: audit.send_batch([{"event_name": "order.paid", "payload": {}}]),
    }

    class TimeIsUp(Exception):
        pass

    def time_is_up(*_: object) -> None:
        if not interrupted:
            interrupted.append(True)
            raise TimeIsUp

    previous = signal.signal(signal.SIGUSR1, time_is_up)
    try:
        with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
            client.audit.send("order.created", {})
            stub.next(interrupt)
            with pytest.raises(TimeIsUp):
                calls[door](client.audit)

            assert "accepted" == client.audit.send("order.sent", {}).status
            assert client.flush(60)
            assert (3, 3, 0) == (
                client.audit.counts().captured,
                client.audit.counts().delivered,
                client.audit.counts().waiting,
            )
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert 3 == len(stub.stored)


def test_where_the_breaker_is_open_a_call_does_not_wait_to_find_it_out(
    stub: Stub, tmp_path: Path
) -> None:
    stub.usual = answers(503)
    told: list[str] = []
    twice = threading.Event()

    def on_error(what: str) -> None:
        told.append(what)
        if len(told) == 2:
            twice.set()

    options: dict[str, Any] = {"breaker_failures": 2, "breaker_probe_s": 60.0}
    with client_of(
        stub, spool_audit=True, spool_dir=tmp_path, on_error=on_error, **options
    ) as client:
        client.audit.send_async("order.created", {})
        assert twice.wait(60)
        stub.usual = stalls()
        started = time.perf_counter()
        receipts = [client.audit.send("order.created", {}, timeout_s=60) for _ in range(5)]

        assert all(receipt.is_spooled for receipt in receipts)
        assert time.perf_counter() - started < 50


def test_a_batch_is_answered_for_event_by_event(stub: Stub, tmp_path: Path) -> None:
    stub.next(results(_0="retry", _2="drop"))
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        kept, taken, refused = client.audit.send_batch(
            [{"event_name": f"order.{n}", "payload": {}} for n in range(3)]
        )

        assert isinstance(kept, Receipt)
        assert isinstance(taken, Receipt)
        assert isinstance(refused, AuditRefused)
        assert ("spooled", "accepted", "told_to") == (kept.status, taken.status, refused.reason)
        assert client.flush(60)
        assert_balanced(client)


@pytest.mark.parametrize("short", [[], [{"ok": True, "tx_id": "tx_0"}] * 2])
def test_an_answer_that_leaves_events_out_is_no_answer(
    short: list[object], stub: Stub, tmp_path: Path
) -> None:
    stub.next(answers(200, {"ok": True, "results": short}))
    with client_of(stub, spool_audit=True, spool_dir=tmp_path) as client:
        kept = client.audit.send_batch([{"event_name": "order.created", "payload": {}}] * 3)

        assert ["spooled"] * 3 == [one.status for one in kept if isinstance(one, Receipt)]
        assert client.flush(60)
        assert 3 == len(stub.stored)
        assert_balanced(client)


def test_a_refusal_that_names_each_event_refuses_no_other(stub: Stub) -> None:
    """As a 400 may, of which only one event was at fault."""

    def partly(line: Line, request: Request) -> None:
        taken = stub.take(request, but={1})
        taken["results"][1] = {"ok": False, "reason": "told_to"}
        line.answer(400, taken)

    stub.next(partly)
    with client_of(stub) as client:
        first, second, third = client.audit.send_batch(
            [{"event_name": "order.created", "payload": {}}] * 3
        )

    assert isinstance(first, Receipt)
    assert isinstance(second, AuditRefused)
    assert isinstance(third, Receipt)


def test_a_batch_that_is_too_large_is_halved(stub: Stub) -> None:
    stub.usual = takes_at_most(3)
    with client_of(stub) as client:
        answers = client.audit.send_batch(
            [{"event_name": f"order.{n}", "payload": {}} for n in range(10)]
        )

    assert ["accepted"] * 10 == [one.status for one in answers if isinstance(one, Receipt)]
    assert [f"order.{n}" for n in range(10)] == [
        stub.stored[one.idempotency_key]["meta"]["event_name"]
        for one in answers
        if isinstance(one, Receipt)
    ]


def test_no_more_than_eight_requests_of_a_batch_are_under_way_at_once(stub: Stub) -> None:
    under_way = most = 0
    eight, never, lock = threading.Event(), threading.Event(), threading.Lock()

    def counting(line: Any, request: Any) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 8:
                eight.set()
        eight.wait(60)
        never.wait(0.2)  # long enough for a ninth to come, if one is sent
        with lock:
            under_way -= 1
        takes()(line, request)

    stub.usual = counting
    with client_of(stub) as client:
        events = [AuditEvent(event_name="order.created", payload={})] * 1_500
        assert 1_500 == len(client.audit.send_batch(events))

    assert 8 == most


def test_the_whole_of_a_large_batch_has_the_context_of_its_caller(stub: Stub) -> None:
    with client_of(stub) as client, client.context(trail="order-7", meta={"region": "eu"}):
        client.audit.send_batch([{"event_name": "order.created", "payload": {}}] * 250)

    metas = [event["meta"] for event in stub.stored.values()]
    assert 250 == len(metas)
    assert {("order-7", "eu")} == {(one.get("immutable_trail"), one.get("region")) for one in metas}


# Called wrongly, or not at all.


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("", {}), {}),
        ((None, {}), {}),
        (("order.created", {}), {"type": "fatal"}),
        (("order.created", {}), {"meta": {"n": 1}}),
        (("order.created", {}), {"idempotency_key": "line\nfeed"}),
        (("order.created", {}), {"idempotency_key": "schlüssel"}),
        (("order.created", {}), {"idempotency_key": "x" * 256}),
        (("order.created", {}), {"wait": "forever"}),
    ],
)
def test_a_wrong_argument_raises_at_the_durable_door_and_is_counted_at_the_other(
    stub: Stub, arguments: tuple[Any, Any], more: dict[str, Any]
) -> None:
    with client_of(stub) as client:
        with pytest.raises((TypeError, ValueError)):
            client.audit.send(*arguments, **more)
        assert 0 == client.audit.counts().captured
        if "wait" not in more:
            client.audit.send_async(*arguments, **more)
            assert client.flush(60)
            assert {LossReason.ENCODE_FAILED: 1} == client.audit.counts().lost
            assert_balanced(client)
    assert [] == stub.deliveries


def test_an_item_of_a_batch_that_is_none_raises_before_anything_is_sent(stub: Stub) -> None:
    with client_of(stub) as client:
        wrong: Any
        for wrong in ({"event_name": "x.y", "payload": {}, "color": "red"}, {"payload": {}}):
            with pytest.raises(TypeError):
                client.audit.send_batch([{"event_name": "x.y", "payload": {}}, wrong])
        assert [] == client.audit.send_batch([])
        assert 0 == client.audit.counts().captured
    assert [] == stub.deliveries


def test_a_client_without_key_or_after_shutdown_says_so(stub: Stub) -> None:
    keyless = Indelible(TOKEN, host=stub.url)
    with pytest.raises(ClientDisabled):
        keyless.audit.send("order.created", {})
    keyless.audit.send_async("order.created", {})
    assert {LossReason.DISABLED: 1} == keyless.audit.counts().lost
    keyless.shutdown(1)

    with client_of(stub) as client:
        client.shutdown(1)
        with pytest.raises(ClientDisabled):
            client.audit.send("order.created", {})
        client.audit.send_async("order.created", {})
        assert {LossReason.AFTER_SHUTDOWN: 1} == client.audit.counts().lost


def test_a_client_that_is_switched_off_breaks_nothing_and_calls_nothing_safe(stub: Stub) -> None:
    with client_of(stub, enabled=False) as client:
        receipt = client.audit.send("order.created", {}, idempotency_key="k-1")
        assert ("disabled", False, "k-1") == (receipt.status, receipt.ok, receipt.idempotency_key)
        (batched,) = client.audit.send_batch([{"event_name": "order.created", "payload": {}}])
        assert isinstance(batched, Receipt)
        assert not batched.ok
        with pytest.raises(ValueError, match="type"):
            client.audit.send("order.created", {}, type="wrong")  # type: ignore[arg-type]
        assert {LossReason.DISABLED: 2} == client.audit.counts().lost
    assert [] == stub.deliveries


# The decorator.


def test_a_decorated_function_is_recorded_by_its_outcome_and_raises_what_it_raised(
    stub: Stub,
) -> None:
    with client_of(stub) as client:

        @client.audited("order.created", payload=lambda order_id: {"order": order_id})
        def create(order_id: str) -> str:
            """Docs."""
            if order_id == "bad":
                raise LookupError("no such thing: secret-42")
            return order_id.upper()

        assert "GOOD" == create("good")
        with pytest.raises(LookupError, match="secret-42"):
            create("bad")
        assert client.flush(60)

    good, bad = stub.stored.values()
    assert ("create", "Docs.") == (create.__name__, create.__doc__)
    assert ("success", {"order": "good"}) == (good["meta"]["type"], json.loads(good["payload"]))
    assert ("error", "LookupError") == (bad["meta"]["type"], bad["meta"]["error_type"])
    assert "secret-42" not in json.dumps(bad)


def test_a_decorated_coroutine_function_stays_one_and_a_failing_payload_harms_nobody(
    stub: Stub,
) -> None:
    with client_of(stub) as client:

        @client.audited("report.made", payload=lambda: 1 / 0)
        async def report() -> int:
            await asyncio.sleep(0)
            return 7

        assert inspect.iscoroutinefunction(report)
        assert 7 == asyncio.run(report())
        assert client.flush(60)

    (event,) = stub.stored.values()
    assert "success" == event["meta"]["type"]
    assert "report" in json.loads(event["payload"])["function"]


# The twin for event loops.

TWINS: list[tuple[type, type]] = [(Indelible, AsyncIndelible), (Audit, AsyncAudit)]


def _shape(door: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of its parameters."""
    parameters = inspect.signature(door).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters if one.name != "self"]


@pytest.mark.parametrize(("one", "twin"), TWINS)
def test_the_twin_has_the_same_doors_with_the_same_arguments(one: type, twin: type) -> None:
    client = AsyncIndelible(enabled=False)
    here: Any = client if twin is AsyncIndelible else client.audit
    doors = {name for name in dir(one) if not name.startswith("_")}

    for name in sorted(doors):
        assert hasattr(here, name), name
        original = inspect.getattr_static(one, name)
        if isinstance(original, property):
            continue
        assert _shape(original) == _shape(getattr(here, name)), name


@pytest.mark.clocked
def test_the_twin_sends_and_never_keeps_its_loop_waiting(stub: Stub) -> None:
    async def story() -> tuple[Receipt, bool, float]:
        longest = 0.0

        async def heartbeat() -> None:
            nonlocal longest
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.005)
                longest = max(longest, time.perf_counter() - before)

        async with AsyncIndelible(TOKEN, api_key=API_KEY, host=stub.url, spool_audit=False) as twin:
            beat = asyncio.create_task(heartbeat())
            twin.capture("loop")
            stub.next(slow, slow)
            receipt = await twin.audit.send("order.created", {})
            flushed = await twin.flush(60)
            await asyncio.sleep(0.02)  # the heartbeat's turn, to notice what it missed
            beat.cancel()
            assert 1 == twin.counts().delivered
        return receipt, flushed, longest

    gate = threading.Event()

    def slow(line: Any, request: Any) -> None:
        gate.wait(0.8)
        takes()(line, request)

    receipt, flushed, longest = asyncio.run(story())

    assert ("accepted", True) == (receipt.status, flushed)
    assert longest < 0.5  # the server takes 0.8 s to answer


def test_everyone_who_asks_first_at_the_same_time_gets_the_same_default_client(
    stub: Stub, fresh_default: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDELIBLE_TOKEN", TOKEN)
    monkeypatch.setenv("INDELIBLE_HOST", stub.url)
    start, found = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        found.append(indelible.default_client())
        indelible.capture("asked")

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len({id(one) for one in found})
    assert indelible.flush(60)
    assert 16 == len(stub.stored)


def test_configure_replaces_the_default_client_and_shuts_the_old_one_down(
    stub: Stub, fresh_default: None
) -> None:
    first = indelible.configure(TOKEN, host=stub.url)
    indelible.capture("to the first")
    second = indelible.configure(TOKEN, api_key=API_KEY, host=stub.url, spool_audit=False)
    indelible.identify("user_42", {"plan": "pro"}, anonymous_id="anon")
    indelible.alias("old", distinct_id="user_42")
    indelible.set({"a": 1}, once={"b": 2}, distinct_id="user_42")
    indelible.audit.send_async("order.created", {})
    indelible.audited("order.deleted")(lambda: None)()
    with indelible.context(distinct_id="user_7"):
        indelible.capture("inside")
    assert indelible.shutdown(60)

    assert first is not second
    first.capture("too late")
    assert {LossReason.AFTER_SHUTDOWN: 1} == first.counts().lost
    names = [one.get("event") or one["meta"]["event_name"] for one in stub.stored.values()]
    product = ["to the first", "$identify", "$create_alias", "$set", "inside"]
    assert sorted([*product, "order.created", "order.deleted"]) == sorted(names)


def test_a_default_client_with_a_senseless_environment_warns_and_lets_go(
    fresh_default: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("INDELIBLE_HOST", "events.example.com")

    indelible.capture("nobody hears")

    assert "host" in caplog.text
    assert {LossReason.DISABLED: 1} == indelible.default_client().counts().lost


@pytest.mark.parametrize("host", [None, "events.example.com"])
def test_a_handler_that_captures_what_is_logged_may_capture_what_the_first_call_logs(
    fresh_default: None, monkeypatch: pytest.MonkeyPatch, host: str | None
) -> None:
    if host is not None:
        monkeypatch.setenv("INDELIBLE_HOST", host)

    class Capturing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            indelible.capture("logged", properties={"message": record.getMessage()})

    handler = Capturing()
    logging.getLogger().addHandler(handler)
    try:
        indelible.capture("first")
    finally:
        logging.getLogger().removeHandler(handler)

    assert {LossReason.DISABLED: 2} == indelible.default_client().counts().lost
