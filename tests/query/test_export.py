"""The whole log as NDJSON."""

import json

import pytest

from tests.query.log import Log
from tests.world import assert_canonical_error, audit, product


def test_an_empty_log_exports_nothing(log: Log) -> None:
    assert [] == log.export()


def test_a_line_has_what_was_sent(log: Log) -> None:
    log.send(product(uuid="exported"))
    log.send_audit(audit('{"a": 1}', trace_id="t"), key="k")

    one, other = log.export()

    assert (0, "product", "exported", {"amount": 99.99, "currency": "USD"}) == (
        one["index"],
        one["kind"],
        one["uuid"],
        one["properties"],
    )
    assert (1, "audit", "k", '{"a": 1}', "t") == (
        other["index"],
        other["kind"],
        other["idempotency_key"],
        other["payload"],
        other["meta"]["trace_id"],
    )
    for line in (one, other):
        assert {"tx_id", "received_at"} < set(line)
        assert "payload_hash" not in line


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [(0, 10, range(10)), (3, 7, range(3, 7)), (7, 99, range(7, 10)), (5, 5, ()), (8, 2, ())],
)
def test_a_range_is_half_open_and_cut_to_the_log(
    log: Log, start: int, end: int, wanted: range
) -> None:
    log.send({"batch": [{"event": "e", "distinct_id": "d"}] * 10})

    assert list(wanted) == [line["index"] for line in log.export(start=start, end=end)]
    assert list(range(start, 10)) == [line["index"] for line in log.export(start=start)]


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("value", [-1, 10**40, "x", "null", "", 1.5])
def test_a_bound_that_is_no_index_is_refused(log: Log, name: str, value: object) -> None:
    answer = log.http.get("/v1/export", params={name: str(value)})

    assert name in assert_canonical_error(answer, 400, "invalid_parameter")["message"]


def test_an_event_stays_one_line_whatever_breaks_its_payload_holds(log: Log) -> None:
    body = f'{{"api_key":"{log.token}","event":"e","distinct_id":"d",'
    body += '"properties":{\r\n "a" :\n"x\u2028y",\r"b":"\\n"}}'
    log.http.post("/api/e", content=body.encode())
    log.send_audit(audit("line\r\nbreak\u2028"))

    one, other = log.export()

    assert {"a": "x\u2028y", "b": "\n"} == one["properties"]
    assert "line\r\nbreak\u2028" == other["payload"]
    assert b"\r" not in log.http.get("/v1/export").content  # which some readers take for an end


def test_a_large_log_is_streamed_whole(log: Log) -> None:
    filler = "x" * 2_000
    batch = [
        {"event": "e", "distinct_id": "d", "properties": {"n": n, "filler": filler}}
        for n in range(4_000)
    ]
    for start in range(0, len(batch), 1_000):
        assert 1_000 == log.send({"batch": batch[start : start + 1_000]}).json()["accepted"]

    pieces, tail, numbers = 0, b"", []
    with log.http.stream("GET", "/v1/export") as answer:
        assert "content-length" not in answer.headers
        for piece in answer.iter_raw():
            pieces += 1
            *lines, tail = (tail + piece).split(b"\n")
            numbers += [json.loads(line)["properties"]["n"] for line in lines]

    assert b"" == tail
    assert list(range(len(batch))) == numbers
    assert pieces > 10


def test_an_export_ends_with_what_was_there_when_it_began(log: Log) -> None:
    filler = "x" * 1_000
    batch = [{"event": "e", "distinct_id": "d", "properties": {"f": filler}}] * 3_000
    log.send({"batch": batch})

    with log.http.stream("GET", "/v1/export") as answer:
        parts = answer.iter_bytes()
        text = next(parts)
        log.send({"batch": batch[:10]})
        text += b"".join(parts)

    assert 3_000 == text.count(b"\n")
