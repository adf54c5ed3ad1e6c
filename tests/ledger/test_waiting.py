"""``?wait=sealed|witnessed&timeout=`` on both ingest routes: the answer that brings its receipt."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible.edge.waiting import LONGEST_WAIT_S, MOST_RECEIPTS, Wish, wish_of
from indelible.errors import InvalidParameter
from indelible.event import Level
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.query.log import new_log
from tests.world import (
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    assert_canonical_error,
    audit,
    product,
    started,
)

WAIT = "?wait=sealed&timeout=20s"


def assert_proves(server: ServerProcess, result: dict[str, Any]) -> None:
    """The receipt in the result is of that very event, and verifies."""
    policy = server.http.get("/ledger/default/policy", headers=AS_APPLICATION).text
    found = verify_receipt(result["receipt"], parse_policy(policy))
    assert Verdict.VERIFIED == found.verdict, found
    assert result["index"] == Proof.parse(result["receipt"]).index
    assert "sealed" == result["status"]


def product_batch(count: int, **more: Any) -> dict[str, Any]:
    return {"api_key": TOKEN, "batch": [product(f"e{n}", **more) for n in range(count)]}


def test_a_product_event_comes_back_with_its_receipt(shared: ServerProcess) -> None:
    answer = shared.http.post(f"/api/e{WAIT}", json=product())

    assert 200 == answer.status_code
    (result,) = answer.json()["events"]
    assert_proves(shared, result)


def test_an_audit_event_comes_back_with_its_receipt(shared: ServerProcess) -> None:
    answer = shared.http.post(f"/v1/events{WAIT}", json=audit(), headers=AS_APPLICATION)

    assert 202 == answer.status_code
    assert_proves(shared, answer.json())


def test_each_event_of_a_batch_comes_back_with_its_receipt(shared: ServerProcess) -> None:
    products = shared.http.post(f"/api/e{WAIT}", json=product_batch(MOST_RECEIPTS))
    audits = shared.http.post(
        f"/v1/events/batch{WAIT}",
        json={"events": [audit(f'{{"n":{n}}}') for n in range(7)]},
        headers=AS_APPLICATION,
    )

    for results, count in ((products.json()["events"], 100), (audits.json()["results"], 7)):
        assert count == len({result["index"] for result in results})
        for result in results:
            assert_proves(shared, result)


def test_what_was_refused_in_a_batch_has_no_receipt(shared: ServerProcess) -> None:
    answer = shared.http.post(
        f"/v1/events/batch{WAIT}",
        json={"events": [audit(), {"payload": 7}, audit('{"n":2}')]},
        headers=AS_APPLICATION,
    )

    good, bad, other = answer.json()["results"]
    assert "receipt" not in bad
    for result in (good, other):
        assert_proves(shared, result)


def test_a_batch_of_which_nothing_was_stored_waits_for_nothing(shared: ServerProcess) -> None:
    began = time.monotonic()

    answer = shared.http.post(
        f"/v1/events/batch{WAIT}", json={"events": [{"payload": 7}]}, headers=AS_APPLICATION
    )

    assert 0 == answer.json()["accepted"]
    assert time.monotonic() - began < 20  # as long as it would have waited


def test_a_repeated_event_comes_back_with_the_receipt_of_the_first(shared: ServerProcess) -> None:
    headers = {**AS_APPLICATION, "Idempotency-Key": "wait-and-repeat"}
    first, again = (
        shared.http.post(f"/v1/events{WAIT}", json=audit(), headers=headers).json()
        for _ in range(2)
    )

    assert (first["index"], first["tx_id"]) == (again["index"], again["tx_id"])
    assert again["duplicate"]
    assert_proves(shared, again)


def test_without_the_wish_there_is_no_receipt(shared: ServerProcess) -> None:
    assert "receipt" not in shared.http.post("/api/e", json=product()).json()["events"][0]
    answer = shared.http.post("/v1/events", json=audit(), headers=AS_APPLICATION).json()
    assert "receipt" not in answer
    assert "accepted" == answer["status"]


@pytest.mark.parametrize(
    "query", ["wait=soon", "wait=", "wait=sealed&timeout=soon", "timeout=-1s", "timeout=1m"]
)
def test_a_wish_that_cannot_be_read_stores_nothing(shared: ServerProcess, query: str) -> None:
    with new_log(shared) as log:
        before = log.export()

        for answer in (
            log.http.post(f"/api/e?{query}", json=product(api_key=log.token)),
            log.http.post(f"/v1/events?{query}", json=audit()),
            log.http.post(f"/v1/events/batch?{query}", json={"events": [audit()]}),
        ):
            assert_canonical_error(answer, 400, "invalid_parameter")

        assert before == log.export()


def test_more_events_than_one_answer_holds_are_refused_and_not_stored(
    shared: ServerProcess,
) -> None:
    with new_log(shared) as log:
        before = log.export()

        too_many = {**product_batch(MOST_RECEIPTS + 1), "api_key": log.token}
        answer = log.http.post(f"/api/e{WAIT}", json=too_many)

        body = assert_canonical_error(answer, 400, "invalid_parameter")
        assert "/v1/receipts" in body["hint"]
        assert before == log.export()


def test_without_witnesses_nobody_waits_for_them(shared: ServerProcess) -> None:
    began = time.monotonic()

    answers = [
        shared.http.post("/api/e?wait=witnessed&timeout=20s", json=product()),
        shared.http.post(
            "/v1/events?wait=witnessed&timeout=20s", json=audit(), headers=AS_APPLICATION
        ),
    ]

    assert time.monotonic() - began < 20  # as long as it would have waited
    assert [200, 202] == [answer.status_code for answer in answers]
    assert "receipt" not in answers[0].json()["events"][0]
    assert "receipt" not in answers[1].json()


def test_when_the_time_is_up_the_event_is_stored_and_answered_without_a_receipt(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "data", INDELIBLE_SEAL_INTERVAL_MS="60000") as server:
        server.http.post(f"/api/e{WAIT}", json=product())  # the next checkpoint is a minute away
        began = time.monotonic()

        answer = server.http.post("/api/e?wait=sealed&timeout=300ms", json=product())
        took_s = time.monotonic() - began
        tx_id = answer.json()["events"][0]["tx_id"]
        asked = server.http.get(f"/v1/events/{tx_id}/receipt", headers=AS_APPLICATION)

        assert 200 == answer.status_code
        assert "receipt" not in answer.json()["events"][0]
        assert 0.3 <= took_s < 30
        assert_canonical_error(asked, 409, "not_sealed")
        assert "stored" == status_of(server, tx_id)


def test_an_event_is_stored_and_then_sealed(shared: ServerProcess) -> None:
    tx_id = shared.http.post("/api/e", json=product()).json()["events"][0]["tx_id"]
    seen = [status_of(shared, tx_id)]

    shared.http.get(f"/v1/events/{tx_id}/receipt?wait=sealed&timeout=20s", headers=AS_APPLICATION)
    seen.append(status_of(shared, tx_id))

    assert seen in (["stored", "sealed"], ["sealed", "sealed"])  # a second is a long time
    life = shared.http.get(f"/v1/events/{tx_id}", headers=AS_APPLICATION).text
    assert "sealed_at" in life or '"sealed"' in life


def status_of(server: ServerProcess, tx_id: str) -> str:
    answer: httpx.Response = server.http.get(f"/v1/events/{tx_id}", headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["status"])


# What the parameters may be


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, 1.0),
        ("0", 0.0),
        ("2", 2.0),
        ("1s", 1.0),
        ("2.5s", 2.5),
        ("250ms", 0.25),
        ("0.125s", 0.125),
        ("99999s", LONGEST_WAIT_S),
    ],
)
def test_a_time_is_read(timeout: str | None, seconds: float) -> None:
    assert Wish(Level.SEALED, seconds) == wish_of("sealed", timeout)
    assert None is wish_of(None, timeout)


@pytest.mark.parametrize(
    "timeout",
    ["", "s", "ms", "-1", "1 s", "1e3", "1m", "\u0661s", "1.2345", "100000", "1s\n", "nan"],
)
def test_what_is_no_time_is_refused(timeout: str) -> None:
    for wait in ("sealed", None):
        with pytest.raises(InvalidParameter):
            wish_of(wait, timeout)
