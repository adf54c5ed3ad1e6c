"""Audit ingest: what a payload and its meta may be, what is answered, and when two are one."""

import hashlib
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.wire import encoded, fresh, gz, known_as, stored, tenant
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    World,
    assert_canonical_error,
    audit,
    bearer,
)

MEMBERS = {"ok", "tx_id", "payload_hash", "status", "duplicate", "request_id"}


def receipt(answer: httpx.Response) -> dict[str, Any]:
    """The answer of a stored event, or of one that was stored before."""
    assert 202 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    assert MEMBERS <= body.keys()
    return body


def with_header(world: World, name: bytes, value: bytes, body: Any) -> httpx.Response:
    """Sent with a header of any bytes."""
    key = [(k.encode(), v.encode()) for k, v in AS_APPLICATION.items()]
    return world.http.post("/v1/events", json=body, headers=[*key, (name, value)])


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def batch(world: World, events: list[Any], **headers: str) -> httpx.Response:
    return world.http.post(
        "/v1/events/batch", json={"events": events}, headers={**AS_APPLICATION, **headers}
    )


# The answer


def test_the_202_has_exactly_the_six_documented_members_and_the_index(shared: World) -> None:
    body = audit('{"total":9900}')

    answer = shared.send_audit(body, key=fresh(), headers={"Request-Id": "req-7"})

    made = receipt(answer)
    assert {
        "ok": True,
        "tx_id": made["tx_id"],
        "payload_hash": sha256('{"total":9900}'),
        "status": "accepted",
        "duplicate": False,
        "request_id": "req-7",
        "index": made["index"],
    } == made
    assert made["tx_id"].startswith("tx_")
    assert 7 == uuid.UUID(made["tx_id"][3:]).version
    assert "application/json" == answer.headers["content-type"]


def test_a_stored_event_can_be_read_at_once_as_it_was_sent(shared: World) -> None:
    key, body = fresh(), audit("plain text, no JSON", trace_id="t1")

    made = receipt(shared.send_audit(body, key=key))

    event = stored(shared, made["tx_id"])
    assert "audit" == event["kind"]
    assert (made["index"], key) == (event["index"], event["idempotency_key"])
    assert body == {"payload": event["payload"], "meta": event["meta"]}
    assert [made["tx_id"]] == [e["tx_id"] for e in known_as(shared, key)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_a_payload_is_any_string_and_comes_back_to_the_byte(shared: World, payload: str) -> None:
    made = receipt(shared.send_audit({"payload": payload}))

    assert sha256(payload) == made["payload_hash"]
    assert payload == stored(shared, made["tx_id"])["payload"]


@pytest.mark.parametrize(
    ("escaped", "payload"),
    [
        (rb'"{\"a\":1}"', '{"a":1}'),
        (rb'"{ \"b\" : 1.50 ,\r\n\t\"a\":\"\\u00e9\" }"', '{ "b" : 1.50 ,\r\n\t"a":"\\u00e9" }'),
        ('"Zoë ✓ 𝄞"'.encode(), "Zoë ✓ 𝄞"),
        (rb'"\u00e9\ud834\udd1e\/\b\f"', "é𝄞/\b\f"),
        (rb'"e\u0301 is not \u00e9"', "e\N{COMBINING ACUTE ACCENT} is not é"),
        (rb'"\u0000\u001f\u007f\ufeff\uffff"', "\x00\x1f\x7f\ufeff\uffff"),
        (b'""', ""),
    ],
)
def test_the_payload_is_hashed_and_kept_as_its_utf_8_form(
    shared: World, escaped: bytes, payload: str
) -> None:
    answer = shared.http.post(
        "/v1/events", content=b'{"payload":' + escaped + b"}", headers=AS_APPLICATION
    )

    made = receipt(answer)
    assert sha256(payload) == made["payload_hash"]
    assert payload == stored(shared, made["tx_id"])["payload"]


# What is refused


@pytest.mark.parametrize("payload", [{"order_id": 1}, [], 7, 1.5, True, None])
def test_a_payload_that_is_no_string_is_400_invalid_payload(shared: World, payload: Any) -> None:
    answer = shared.send_audit({"payload": payload, "meta": {}})
    body = assert_canonical_error(answer, 400, "invalid_payload")
    assert "json.dumps" in body["hint"]


def test_a_missing_payload_is_400_invalid_payload(shared: World) -> None:
    assert_canonical_error(shared.send_audit({"meta": {}}), 400, "invalid_payload")


def test_a_payload_with_a_lone_surrogate_is_refused_and_never_changed(shared: World) -> None:
    for text in (rb"\ud83d", rb"\ude00", rb"\ude00\ud83d"):
        for around in (b'{"payload":"%s"}', b'{"payload":"p","meta":{"a":"%s"}}'):
            answer = shared.http.post("/v1/events", content=around % text, headers=AS_APPLICATION)
            assert_canonical_error(answer, 400, "invalid_payload")


@pytest.mark.parametrize(
    "meta",
    [
        {"http_status": 201},
        {"amount": 1.5},
        {"vip": True},
        {"trace_id": None},
        {"nested": {"a": "b"}},
        {"list": ["a"]},
        {"immutable_trail": 7},
        {"type": None},
        ["type"],
        [[]],
        "text",
        7,
        None,
    ],
)
def test_meta_that_is_no_flat_map_of_strings_is_400_invalid_meta(shared: World, meta: Any) -> None:
    answer = shared.send_audit({"payload": "p", "meta": meta})
    assert_canonical_error(answer, 400, "invalid_meta")


@pytest.mark.parametrize("type_", ["success", "info", "warning", "error", "debug", "audit"])
def test_each_documented_type_is_taken(shared: World, type_: str) -> None:
    made = receipt(shared.send_audit(audit(type=type_)))
    assert type_ == stored(shared, made["tx_id"])["meta"]["type"]


@pytest.mark.parametrize("type_", ["", "Success", "warn", "fatal", " info"])
def test_any_other_type_is_400_invalid_type(shared: World, type_: str) -> None:
    assert_canonical_error(shared.send_audit(audit(type=type_)), 400, "invalid_type")


@pytest.mark.parametrize("body", [{"payload": "p"}, {"payload": "p", "meta": {}}])
def test_the_type_is_info_where_none_is_sent(shared: World, body: Any) -> None:
    made = receipt(shared.send_audit(body))
    assert {"type": "info"} == stored(shared, made["tx_id"])["meta"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'"p"', "invalid_json"),
        (b'{"payload":"\xff"}', "invalid_json"),
        (b'{"payload":"p","x":NaN}', "invalid_json"),
        (b'{"payload":"p","meta":{"a":Infinity}}', "invalid_json"),
        (b'{"payload":"p","x":1e999}', "invalid_event"),
        (b'{"payload":"a\nb"}', "invalid_json"),
    ],
)
def test_an_audit_body_that_cannot_be_read_is_400(shared: World, content: bytes, code: str) -> None:
    answer = shared.http.post("/v1/events", content=content, headers=AS_APPLICATION)
    assert_canonical_error(answer, 400, code)


@pytest.mark.parametrize("kind", ["text/html", "application/x-www-form-urlencoded"])
def test_an_audit_body_of_another_type_is_415(shared: World, kind: str) -> None:
    answer = shared.http.post(
        "/v1/events", content=b"{}", headers={**AS_APPLICATION, "content-type": kind}
    )
    assert_canonical_error(answer, 415, "unsupported_media_type")


def test_an_audit_body_may_be_gzipped(shared: World) -> None:
    body = audit("packed")
    for headers in ({}, {"content-encoding": "gzip"}):
        content = gz(encoded(body))
        made = receipt(
            shared.http.post("/v1/events", content=content, headers={**AS_APPLICATION, **headers})
        )
        assert "packed" == stored(shared, made["tx_id"])["payload"]


# Limits


@pytest.mark.parametrize("letter", ["a", "é", "𝄞"])
def test_a_payload_has_64_kib_of_utf_8_at_most(shared: World, letter: str) -> None:
    longest = letter * (64 * 1024 // len(letter.encode()))
    made = receipt(shared.send_audit({"payload": longest}))
    assert sha256(longest) == made["payload_hash"]

    answer = shared.send_audit({"payload": longest + "a"})
    body = assert_canonical_error(answer, 413, "payload_too_large")
    assert "65,537" in body["message"]


def test_meta_has_64_keys_at_most(shared: World) -> None:
    meta = {f"k{n}": "v" for n in range(64)}
    made = receipt(shared.send_audit({"payload": "p", "meta": meta}))
    assert meta.items() <= stored(shared, made["tx_id"])["meta"].items()

    answer = shared.send_audit({"payload": "p", "meta": {**meta, "one": "more"}})
    assert_canonical_error(answer, 400, "invalid_meta")


@pytest.mark.parametrize("letter", ["a", "𝄞"])
def test_a_meta_key_has_64_characters_and_a_value_1024_at_most(shared: World, letter: str) -> None:
    meta = {letter * 64: letter * 1024}
    made = receipt(shared.send_audit({"payload": "p", "meta": meta}))
    assert meta.items() <= stored(shared, made["tx_id"])["meta"].items()

    for over in ({letter * 65: "v"}, {"k": letter * 1025}):
        answer = shared.send_audit({"payload": "p", "meta": over})
        assert_canonical_error(answer, 400, "invalid_meta")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("order-2026-00441", "order-2026-00441"),
        ("  order-1\t", "order-1"),
        ("order:2026:1", "order-2026-1"),
        ("::", "--"),
        ("", None),
        ("   ", None),
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 256),
        ("x" * 2000, "x" * 256),
        ("x" * 255 + " y", "x" * 255),
    ],
)
def test_the_trail_is_cleaned_and_nothing_is_refused(
    shared: World, sent: str, kept: str | None
) -> None:
    made = receipt(shared.send_audit(audit(immutable_trail=sent)))
    assert kept == stored(shared, made["tx_id"])["meta"].get("immutable_trail")


def test_unknown_members_of_an_audit_event_are_kept_under_extra(shared: World) -> None:
    extra = {"actor": {"id": 7}, "tags": ["a"]}
    made = receipt(shared.send_audit({**audit(), **extra}))
    assert extra == stored(shared, made["tx_id"])["$extra"]


def test_every_audit_event_that_is_stored_can_be_read_however_deep_it_was(shared: World) -> None:
    def send(deep: bytes) -> httpx.Response:
        content = b'{"payload":"p","deep":' + deep + b"}"
        return shared.http.post("/v1/events", content=content, headers=AS_APPLICATION)

    receipt(send(b"[" * 30 + b"]" * 30))
    for depth in (33, 500, *range(955, 985), 100_000):
        for deep in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
            answer = send(deep)
            assert answer.status_code in (202, 400)
            if answer.status_code == 202:
                path = f"/v1/events/{answer.json()['tx_id']}"
                read = shared.http.get(path, headers=AS_APPLICATION)
                assert (depth, 200) == (depth, read.status_code)


# Request ids


def test_the_request_id_is_the_header_then_metas_then_one_made_here(shared: World) -> None:
    with_both = shared.send_audit(audit(request_id="of meta"), headers={"Request-Id": "of header"})
    with_meta = shared.send_audit(audit(request_id="of meta"))
    with_none = shared.send_audit(audit())

    assert "of header" == receipt(with_both)["request_id"]
    assert "of meta" == receipt(with_meta)["request_id"]
    made = receipt(with_none)["request_id"]
    assert made == str(uuid.UUID(made))
    assert "of meta" == stored(shared, with_both.json()["tx_id"])["meta"]["request_id"]


@pytest.mark.parametrize("unusable", [b"", b"x" * 256, b"caf\xc3\xa9"])
def test_an_unusable_request_id_header_counts_as_absent(shared: World, unusable: bytes) -> None:
    answer = with_header(shared, b"request-id", unusable, audit(request_id="of meta"))
    assert "of meta" == receipt(answer)["request_id"]


def test_an_error_carries_the_request_id_too(shared: World) -> None:
    answer = shared.send_audit({"payload": 7}, headers={"Request-Id": "req-9"})
    assert "req-9" == assert_canonical_error(answer, 400, "invalid_payload")["request_id"]


# Idempotency


def test_the_same_key_and_body_get_the_stored_answer_and_no_second_entry(shared: World) -> None:
    key, body = fresh(), audit()
    made = receipt(shared.send_audit(body, key=key, headers={"Request-Id": "attempt-1"}))

    again = receipt(shared.send_audit(body, key=key, headers={"Request-Id": "attempt-2"}))

    assert {**made, "duplicate": True, "request_id": "attempt-2"} == again
    assert 1 == len(known_as(shared, key))


def test_the_same_key_with_a_renewed_request_id_in_meta_is_the_same_event(shared: World) -> None:
    key = fresh()
    made = receipt(shared.send_audit(audit(request_id="attempt-1"), key=key))

    again = receipt(shared.send_audit(audit(request_id="attempt-2"), key=key))
    without = receipt(shared.send_audit(audit(), key=key))

    assert made["tx_id"] == again["tx_id"] == without["tx_id"]
    assert again["duplicate"] is True
    assert "attempt-1" == stored(shared, made["tx_id"])["meta"]["request_id"]


@pytest.mark.parametrize(
    "other",
    [
        audit('{"order_id":"ord_2"}'),
        audit('{"order_id": "ord_1"}'),
        audit(type="error"),
        audit(trace_id="t9"),
        {**audit(), "more": 1},
    ],
    ids=["payload", "white space in the payload", "meta", "more meta", "another member"],
)
def test_the_same_key_with_other_content_is_409_and_keeps_the_first(
    shared: World, other: Any
) -> None:
    key = fresh()
    made = receipt(shared.send_audit(audit(), key=key))
    before = shared.count(
        "indelible_events_dropped_total", lane="audit", reason="idempotency_conflict"
    )

    assert_canonical_error(shared.send_audit(other, key=key), 409, "idempotency_conflict")

    assert before + 1 == shared.count(
        "indelible_events_dropped_total", lane="audit", reason="idempotency_conflict"
    )
    assert [made["tx_id"]] == [event["tx_id"] for event in known_as(shared, key)]
    assert receipt(shared.send_audit(audit(), key=key))["duplicate"] is True


def clock_reading() -> str:
    return str(uuid.uuid4().int)[:19]


def test_a_clock_reading_used_twice_is_two_entries_with_a_warning(shared: World) -> None:
    key = clock_reading()
    made = receipt(shared.send_audit(audit("first", request_id=key), key=key))

    other = receipt(shared.send_audit(audit("second", request_id=key), key=key))

    assert ("warning", "idempotency_conflict") == (other["result"], other["reason"])
    assert other["duplicate"] is False
    assert sha256("second") == other["payload_hash"]
    assert made["tx_id"] != other["tx_id"]
    assert "second" == stored(shared, other["tx_id"])["payload"]


def test_a_colliding_clock_reading_sent_again_is_still_recognised(shared: World) -> None:
    key = clock_reading()
    made = receipt(shared.send_audit(audit("first", request_id=key), key=key))
    other = receipt(shared.send_audit(audit("second", request_id=key), key=key))

    for payload, known in (("first", made), ("second", other)):
        again = receipt(shared.send_audit(audit(payload, request_id=key), key=key))
        assert (known["tx_id"], True) == (again["tx_id"], again["duplicate"])


@pytest.mark.parametrize(
    ("key", "request_id"), [("12345678", "87654321"), ("12345678", ""), ("k-123", "k-123")]
)
def test_only_digits_that_are_the_request_id_too_are_a_clock_reading(
    shared: World, key: str, request_id: str
) -> None:
    project = tenant(shared)
    assert 202 == project.send_audit(audit("first", request_id=request_id), key).status_code
    answer = project.send_audit(audit("second", request_id=request_id), key)
    assert_canonical_error(answer, 409, "idempotency_conflict")


@pytest.mark.parametrize("attempt", range(3))
def test_one_key_sent_by_many_threads_at_once_gives_one_entry(shared: World, attempt: int) -> None:
    key, threads = fresh(), 16
    together = threading.Barrier(threads)

    def send(number: int) -> dict[str, Any]:
        together.wait()
        headers = {"Request-Id": f"attempt-{number}"}
        return receipt(shared.send_audit(audit(), key=key, headers=headers))

    with ThreadPoolExecutor(threads) as pool:
        receipts = list(pool.map(send, range(threads)))

    assert 1 == len({made["tx_id"] for made in receipts})
    assert [False] + [True] * (threads - 1) == sorted(made["duplicate"] for made in receipts)
    assert 1 == len(known_as(shared, key))


def test_many_threads_with_other_payloads_under_one_key_store_one_of_them(shared: World) -> None:
    key, threads = fresh(), 8

    def send(number: int) -> int:
        return shared.send_audit(audit(f"payload {number}"), key=key).status_code

    with ThreadPoolExecutor(threads) as pool:
        statuses = sorted(pool.map(send, range(threads)))

    assert [202] + [409] * (threads - 1) == statuses
    assert 1 == len(known_as(shared, key))


def test_without_a_key_the_same_event_is_always_a_new_entry(shared: World) -> None:
    one, other = (receipt(shared.send_audit(audit())) for _ in range(2))
    assert one["tx_id"] != other["tx_id"]
    assert (False, False) == (one["duplicate"], other["duplicate"])


def test_keys_belong_to_their_project(shared: World) -> None:
    key = fresh()
    for project in (tenant(shared), tenant(shared)):
        assert receipt(project.send_audit(audit(), key))["duplicate"] is False


def keyed(world: World, key: bytes) -> httpx.Response:
    return with_header(world, b"idempotency-key", key, audit())


@pytest.mark.parametrize("character", [chr(code) for code in (0x21, 0x22, 0x2F, 0x5C, 0x7E)])
def test_a_key_is_any_visible_ascii_up_to_255_characters(shared: World, character: str) -> None:
    unique = fresh()
    longest = unique + character * (255 - len(unique))
    assert (
        longest
        == stored(shared, receipt(keyed(shared, longest.encode()))["tx_id"])["idempotency_key"]
    )
    assert_canonical_error(keyed(shared, longest.encode() + b"!"), 400, "invalid_idempotency_key")


@pytest.mark.parametrize("key", [b"", b"two words", "schlüssel".encode(), b"latin-1 \xe9", b"\x80"])
def test_a_key_that_is_empty_spaced_or_not_ascii_is_400(shared: World, key: bytes) -> None:
    assert_canonical_error(keyed(shared, key), 400, "invalid_idempotency_key")


def test_a_refused_event_does_not_use_its_key_up(shared: World) -> None:
    key = fresh()
    assert 400 == shared.send_audit({"payload": 7}, key=key).status_code
    assert receipt(shared.send_audit(audit(), key=key))["duplicate"] is False


# Batches


def test_a_batch_is_answered_with_a_result_for_each_in_order(shared: World) -> None:
    payloads = [f"payload {number}" for number in range(3)]

    answer = batch(shared, [audit(payload) for payload in payloads], **{"Request-Id": "req-b"})

    body = answer.json()
    assert 202 == answer.status_code
    assert {"ok", "accepted", "rejected", "results", "request_id"} == body.keys()
    assert (True, 3, 0, "req-b") == (
        body["ok"],
        body["accepted"],
        body["rejected"],
        body["request_id"],
    )
    assert list(map(sha256, payloads)) == [made["payload_hash"] for made in body["results"]]
    assert [MEMBERS | {"index"}] * 3 == [made.keys() for made in body["results"]]
    first = body["results"][0]["index"]
    assert [first, first + 1, first + 2] == [made["index"] for made in body["results"]]


def test_100_events_fit_a_batch_and_101_do_not(shared: World) -> None:
    answer = batch(shared, [audit()] * 100)
    assert (202, 100) == (answer.status_code, answer.json()["accepted"])
    assert_canonical_error(batch(shared, [audit()] * 101), 413, "batch_too_large")


def test_an_empty_batch_is_400(shared: World) -> None:
    assert_canonical_error(batch(shared, []), 400, "empty_batch")


@pytest.mark.parametrize("body", [{}, {"events": None}, {"events": {}}, {"events": "x"}, audit()])
def test_a_batch_without_a_list_of_events_is_400(shared: World, body: Any) -> None:
    answer = shared.http.post("/v1/events/batch", json=body, headers=AS_APPLICATION)
    assert_canonical_error(answer, 400, "invalid_json")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"payload": {}}, "invalid_payload"),
        ({"payload": "p", "meta": {"n": 1}}, "invalid_meta"),
        ({"payload": "p", "meta": {"type": "x"}}, "invalid_type"),
        ({"payload": "x" * 65_537}, "payload_too_large"),
        ({"payload": "p", "idempotency_key": ""}, "invalid_idempotency_key"),
        ({"payload": "p", "idempotency_key": 7}, "invalid_idempotency_key"),
        (7, "invalid_event"),
        (None, "invalid_event"),
        ([], "invalid_event"),
    ],
)
def test_one_bad_event_does_not_fail_the_rest(shared: World, bad: Any, code: str) -> None:
    answer = batch(shared, [audit("before"), bad, audit("after")])

    body = answer.json()
    assert 202 == answer.status_code
    assert (False, 2, 1) == (body["ok"], body["accepted"], body["rejected"])
    assert [None, code, None] == [made.get("code") for made in body["results"]]
    assert body["results"][1]["ok"] is False
    assert body["results"][1]["hint"]
    read = [stored(shared, body["results"][place]["tx_id"])["payload"] for place in (0, 2)]
    assert ["before", "after"] == read


def test_each_event_of_a_batch_may_have_a_key_of_its_own(shared: World) -> None:
    one, other = fresh(), fresh()
    events = [{**audit("a"), "idempotency_key": one}, {**audit("b"), "idempotency_key": other}]

    made = batch(shared, events).json()["results"]
    again = batch(shared, [*reversed(events)]).json()["results"]

    assert [True, True] == [known["duplicate"] for known in again]
    assert [m["tx_id"] for m in made] == [m["tx_id"] for m in reversed(again)]
    single = receipt(shared.send_audit(audit("a"), key=one))
    assert (made[0]["tx_id"], True) == (single["tx_id"], single["duplicate"])


def test_the_same_key_twice_in_one_batch_is_one_entry_or_a_conflict(shared: World) -> None:
    key = fresh()
    events = [{**audit(payload), "idempotency_key": key} for payload in ("a", "a", "b")]

    made = batch(shared, events).json()["results"]

    assert made[0]["tx_id"] == made[1]["tx_id"]
    assert [False, True] == [known["duplicate"] for known in made[:2]]
    assert "idempotency_conflict" == made[2]["code"]


def test_the_requests_key_covers_each_place_so_that_a_batch_sent_again_adds_nothing(
    shared: World,
) -> None:
    key, events = fresh(), [audit("same"), audit("same"), audit("other")]

    made = batch(shared, events, **{"Idempotency-Key": key}).json()["results"]
    again = batch(shared, events, **{"Idempotency-Key": key}).json()["results"]

    assert 3 == len({known["tx_id"] for known in made})
    assert [known["tx_id"] for known in made] == [known["tx_id"] for known in again]
    assert [True] * 3 == [known["duplicate"] for known in again]


def test_the_longest_key_serves_a_batch_too(shared: World) -> None:
    key = (fresh() * 8)[:255]
    for duplicate in (False, True):
        (made,) = batch(shared, [audit()], **{"Idempotency-Key": key}).json()["results"]
        assert duplicate is made["duplicate"]


def test_a_batch_over_the_monthly_limit_stores_what_fits(shared: World) -> None:
    project = tenant(shared, audit_monthly_limit=2)
    events = {"events": [audit("a"), audit("b"), audit("c")]}

    answer = shared.http.post("/v1/events/batch", json=events, headers=project.as_application)

    codes = [made.get("code") for made in answer.json()["results"]]
    assert [None, None, "monthly_limit_exceeded"] == codes
    assert ["a", "b"] == [event["payload"] for event in project.log()]


# Keys


@pytest.mark.parametrize("route", ["/v1/events", "/v1/events/batch"])
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nobody's",
        f"Basic {API_KEY}",
        f"Token {API_KEY}",
        API_KEY,
        f"Bearer {API_KEY}x",
        f"Bearer {API_KEY[:-1]}",
        f"Bearer {TOKEN}",
    ],
)
def test_without_a_valid_key_it_is_401_and_nothing_is_stored(
    shared: World, route: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    key = fresh()

    answer = shared.http.post(route, json=audit(), headers={**headers, "Idempotency-Key": key})

    assert_canonical_error(answer, 401, "invalid_api_key")
    assert "Bearer" == answer.headers["www-authenticate"]
    assert [] == known_as(shared, key)


def test_the_scheme_may_be_written_in_any_case(shared: World) -> None:
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {API_KEY}"}
        receipt(shared.http.post("/v1/events", json=audit(), headers=headers))


def test_an_api_key_in_the_body_or_the_query_opens_nothing(shared: World) -> None:
    body = {**audit(), "api_key": API_KEY}
    answer = shared.http.post("/v1/events", json=body, params={"api_key": API_KEY})
    assert_canonical_error(answer, 401, "invalid_api_key")


def test_the_admin_key_writes_to_the_project_that_it_names(shared: World) -> None:
    project = tenant(shared)
    answer = shared.http.post(
        "/v1/events", json=audit("x"), headers=AS_ADMIN, params={"project": project.name}
    )
    receipt(answer)
    assert ["x"] == [event["payload"] for event in project.log()]

    nowhere = shared.http.post(
        "/v1/events", json=audit(), headers=bearer(ADMIN_KEY), params={"project": "nowhere"}
    )
    assert_canonical_error(nowhere, 404, "not_found")


def test_an_application_key_writes_to_no_other_project(shared: World) -> None:
    project = tenant(shared)
    answer = shared.http.post(
        "/v1/events", json=audit(), headers=AS_APPLICATION, params={"project": project.name}
    )
    assert_canonical_error(answer, 403, "forbidden")
    assert [] == project.log()


def test_a_key_bound_to_addresses_is_refused_from_others(shared: World) -> None:
    """The peer is 127.0.0.1, a trusted proxy: what it says of the caller decides."""
    project = tenant(shared)
    wanted = {"role": "application", "project": project.name, "networks": ["203.0.113.0/24"]}
    made = shared.http.post("/v1/keys", json=wanted, headers=AS_ADMIN)
    as_bound = bearer(made.json()["secret"])

    def send(*forwarded_for: str) -> httpx.Response:
        headers = [*as_bound.items(), *(("X-Forwarded-For", hops) for hops in forwarded_for)]
        return shared.http.post("/v1/events", json=audit(), headers=headers)

    assert 202 == send("203.0.113.9").status_code
    assert 202 == send("198.51.100.1, 203.0.113.9").status_code
    assert 202 == send("198.51.100.1", "203.0.113.9").status_code
    for chain in ((), ("203.0.113.9, 198.51.100.1",), ("203.0.113.9", "198.51.100.1"), ("junk",)):
        assert_canonical_error(send(*chain), 403, "ip_not_allowed")
    assert 3 == len(project.log())


def test_the_readable_facts_of_a_request_hold_no_secret(shared: World) -> None:
    made = receipt(shared.send_audit(audit()))
    assert API_KEY not in json.dumps(stored(shared, made["tx_id"]))


def test_an_event_is_found_by_its_trail_as_it_was_sent(shared: World) -> None:
    trail = f" order:{uuid.uuid4()} "
    sent = shared.send_audit(audit(immutable_trail=trail))
    found = shared.http.get(
        "/v1/events", params={"immutable_trail": trail}, headers=AS_APPLICATION
    ).json()["events"]
    assert [sent.json()["tx_id"]] == [event["tx_id"] for event in found]


@pytest.mark.parametrize("path", ["/v1/events/", "/v1/events/batch/"])
def test_a_slash_at_the_end_of_a_path_makes_no_difference(shared: World, path: str) -> None:
    body = {"events": [audit()]} if "batch" in path else audit()
    assert 202 == shared.http.post(path, json=body, headers=AS_APPLICATION).status_code
