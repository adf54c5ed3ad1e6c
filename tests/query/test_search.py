"""Finding events: search page by page, one event, where an id is."""

import base64
from typing import Any

import httpx
import pytest

from indelible.moment import parse_time_ms
from indelible.query.events import SCANNED_PER_PAGE
from indelible.query.search import Cursor, Search
from tests.query.log import Log, new_log
from tests.world import AS_ADMIN, World, assert_canonical_error, audit, bearer, product


def search(log: Log, **parameters: Any) -> dict[str, Any]:
    answer = log.http.get("/v1/events", params=parameters)
    assert 200 == answer.status_code, answer.text
    page: dict[str, Any] = answer.json()
    return page


def refused(log: Log, code: str, **parameters: Any) -> None:
    answer = log.http.get("/v1/events", params=parameters)
    assert_canonical_error(answer, 400, code)


def walk(log: Log, **parameters: Any) -> list[dict[str, Any]]:
    """Every event of a search, by its cursors."""
    found: list[dict[str, Any]] = []
    page = search(log, **parameters)
    while True:
        found += page["events"]
        if page["next"] is None:
            return found
        page = search(log, **parameters, cursor=page["next"])


def fill(log: Log, count: int, **more: Any) -> list[dict[str, Any]]:
    """Send `count` product events in one request; their results."""
    batch = [{"event": f"e{n}", "distinct_id": "d", **more} for n in range(count)]
    results: list[dict[str, Any]] = log.send({"batch": batch}).json()["events"]
    return results


def indexes(events: list[dict[str, Any]]) -> list[int]:
    return [event["index"] for event in events]


def test_the_newest_come_first_unless_the_oldest_are_asked_for(log: Log) -> None:
    fill(log, 5)

    assert [4, 3, 2, 1, 0] == indexes(search(log)["events"])
    assert [0, 1, 2, 3, 4] == indexes(search(log, order="oldest")["events"])


def test_pages_follow_each_other_and_end(log: Log) -> None:
    fill(log, 5)

    first = search(log, limit=2)
    second = search(log, limit=2, cursor=first["next"])
    third = search(log, limit=2, cursor=second["next"])

    assert [[4, 3], [2, 1], [0]] == [indexes(page["events"]) for page in (first, second, third)]
    assert third["next"] is None


def test_a_cursor_stays_where_it_is_while_events_are_added(log: Log) -> None:
    fill(log, 4)
    newest, oldest = search(log, limit=2), search(log, limit=2, order="oldest")

    fill(log, 3)

    assert [1, 0] == indexes(search(log, limit=2, cursor=newest["next"])["events"])
    rest = search(log, limit=9, order="oldest", cursor=oldest["next"])
    assert [2, 3, 4, 5, 6] == indexes(rest["events"])


def test_only_events_behind_after_are_found(log: Log) -> None:
    fill(log, 4)

    assert [2, 3] == indexes(search(log, order="oldest", after=1)["events"])
    assert [0, 1, 2, 3] == indexes(search(log, order="oldest", after=-1)["events"])
    assert [] == search(log, order="oldest", after=99)["events"]
    assert [3, 2] == indexes(search(log, after=1)["events"])
    assert [3, 2] == indexes(walk(log, after=1, limit=1))


def test_a_tail_that_asks_after_its_position_misses_nothing(log: Log) -> None:
    seen: list[int] = []
    position = 0
    for size in (2, 1, 3):
        fill(log, size)
        page = search(log, order="oldest", after=position - 1, limit=2)
        seen += indexes(page["events"])
        position = page["position"]
    page = search(log, order="oldest", after=position - 1)
    assert list(range(6)) == seen + indexes(page["events"])
    assert (6, None) == (page["position"], page["next"])


def test_an_empty_range_ends_at_once(log: Log) -> None:
    fill(log, 2)

    for order in ("oldest", "newest"):
        page = search(log, order=order, **{"from": "2999-01-01T00:00:00Z"})
        assert ([], None) == (page["events"], page["next"])
    page = search(log, order="oldest", after=0, **{"from": "2999-01-01T00:00:00Z"})
    assert ([], None) == (page["events"], page["next"])
    page = search(log, **{"from": "2999-01-01T00:00:00Z", "to": "1999-01-01T00:00:00Z"})
    assert ([], None) == (page["events"], page["next"])


def test_a_page_may_be_short_and_still_have_a_next(log: Log) -> None:
    fill(log, 1, properties={"rare": True})
    fill(log, SCANNED_PER_PAGE)

    page = search(log, event_name="e0", order="newest", limit=200)

    assert ([1], True) == (indexes(page["events"]), page["next"] is not None)
    rest = search(log, event_name="e0", order="newest", limit=200, cursor=page["next"])
    assert ([0], None) == (indexes(rest["events"]), rest["next"])


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "=", "é", "\x00", "0", "MA", "e30", base64.urlsafe_b64encode(b"1.abc").decode()],
)
def test_a_forged_cursor_is_refused(log: Log, cursor: str) -> None:
    refused(log, "invalid_cursor", cursor=cursor)


def test_a_cursor_of_another_search_order_or_project_is_refused(log: Log, shared: World) -> None:
    fill(log, 3)
    cursor = search(log, limit=1)["next"]
    named = search(log, limit=1, event_name="e1")["next"]

    refused(log, "invalid_cursor", cursor=cursor, order="oldest")
    refused(log, "invalid_cursor", cursor=cursor, event_name="e1")
    refused(log, "invalid_cursor", cursor=named)
    refused(log, "invalid_cursor", cursor=cursor + "A")
    refused(log, "invalid_cursor", cursor=cursor, after=2)  # points before where that begins
    with new_log(shared) as other:
        fill(other, 3)
        refused(other, "invalid_cursor", cursor=cursor)
    assert search(log, limit=5, cursor=cursor)["events"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "many"},
        {"limit": 10**40},
        {"order": "sideways"},
        {"kind": "secret"},
        {"kind": "null"},
        {"after": 10**40},
        {"after": -2},
        {"event_name": "x" * 1_025},
        {"cursor": "x" * 201},
        {"from": "yesterday"},
        {"from": "²"},
        {"from": "1_000"},
        {"from": "NaN"},
        {"to": "9" * 400},
        {"to": "2026-13-01T00:00:00Z"},
        {"to": ""},
    ],
)
def test_a_parameter_that_cannot_be_read_is_named(log: Log, parameters: Any) -> None:
    answer = log.http.get("/v1/events", params=parameters)

    body = assert_canonical_error(answer, 400, "invalid_parameter")
    assert next(iter(parameters)) in body["message"]


@pytest.mark.parametrize(
    "text", ["", "\x00", "é\u2028\U0001f600", "%", "'; --", "null", "a" * 1_024]
)
def test_any_text_can_be_searched_for(log: Log, text: str) -> None:
    uuid = log.send(product(distinct_id="d", event="odd" + text[:190])).json()["events"][0]

    found = search(log, event_name="odd" + text[:190])["events"]

    assert uuid["index"] in indexes(found)


META = {
    "type": "warning",
    "event_name": "order.refunded",
    "service": "filters",
    "request_id": "r-1",
    "trace_id": "t-1",
    "immutable_trail": "order-1",
    "env": "production",
}


@pytest.mark.parametrize("name", META)
def test_each_filter_finds_the_audit_events_that_have_it(log: Log, name: str) -> None:
    mine = log.send_audit(audit(**META)).json()["index"]
    other = log.send_audit(audit(**{**META, name: "error"})).json()["index"]

    found = indexes(search(log, **{name: META[name]})["events"])
    assert [mine] == found
    assert [other, mine] == indexes(search(log)["events"])


def test_env_also_finds_its_canonical_name(log: Log) -> None:
    mine = log.send_audit(audit(environment="staging-7")).json()["index"]

    assert [mine] == indexes(search(log, env="staging-7")["events"])


def test_kind_and_distinct_id_and_name_find_product_events(log: Log) -> None:
    log.send(product(event="a", distinct_id="x"))
    log.send(product(event="b", distinct_id="y"))
    log.send(product(event="a", distinct_id=12))
    log.send_audit(audit(event_name="a"))
    log.http.post(
        "/v1/keys", json={"role": "application", "project": log.project}, headers=AS_ADMIN
    )

    assert [2, 1, 0] == indexes(search(log, kind="product")["events"])
    assert [3] == indexes(search(log, kind="audit")["events"])
    assert [4] == indexes(search(log, kind="administration")["events"])
    assert [4, 3, 2, 1, 0] == indexes(search(log, kind="any")["events"])
    assert [1] == indexes(search(log, distinct_id="y")["events"])
    assert [2] == indexes(search(log, distinct_id="12")["events"])
    assert [3, 2, 0] == indexes(search(log, event_name="a")["events"])
    assert [2, 0] == indexes(search(log, event_name="a", kind="product")["events"])


def test_from_and_to_bound_the_time_of_receipt(log: Log) -> None:
    for _ in range(4):
        log.send(product())
    received = [event["received_at"] for event in search(log, order="oldest")["events"]]

    for form in (lambda text: text, lambda text: str(parse_time_ms(text))):
        start, end = form(received[1]), form(received[3])
        wanted = [n for n, at in enumerate(received) if received[1] <= at < received[3]]
        found = search(log, order="oldest", **{"from": start, "to": end})["events"]
        assert wanted == indexes(found)
        assert wanted[::-1] == indexes(walk(log, limit=1, **{"from": start, "to": end}))


def test_one_event_is_shown_as_it_was_sent_with_its_life(log: Log) -> None:
    sent = log.send(product(uuid="one-1", timestamp="2026-01-02T03:04:05Z")).json()["events"][0]

    event = log.http.get(f"/v1/events/{sent['tx_id']}").json()

    assert ("product", "one-1", "user_42", "2026-01-02T03:04:05Z") == (
        event["kind"],
        event["uuid"],
        event["distinct_id"],
        event["timestamp"],
    )
    assert {"amount": 99.99, "currency": "USD"} == event["properties"]
    steps = [step["step"] for step in event["life"] if step["at"] is not None]
    assert steps in (
        ["received", "stored"],
        ["received", "stored", "sealed"],
    )  # whichever it is by now
    assert steps[-1] == event["status"]
    assert event["received_at"] == event["life"][0]["at"] <= event["life"][1]["at"]
    assert event["stored_at"] == event["life"][1]["at"]


def test_an_audit_event_is_shown_to_the_byte(log: Log) -> None:
    payload = ' {"b": 1.50,\n"a":"é"} '
    receipt = log.send_audit(audit(payload), key="shown-1").json()

    event = log.http.get(f"/v1/events/{receipt['tx_id']}").json()

    assert (payload, "shown-1") == (event["payload"], event["idempotency_key"])
    assert event["status"] in ("accepted", "sealed")  # by now
    assert "order.created" == event["meta"]["event_name"]


@pytest.mark.parametrize("tx_id", ["tx_" + "0" * 32, "tx_", "x", "%00", "%FF", "tx_" + "f" * 4_000])
def test_an_unknown_transaction_id_is_not_found(log: Log, tx_id: str) -> None:
    answer = log.http.get(f"/v1/events/{tx_id}")

    assert_canonical_error(answer, 404, "not_found")


def where(log: Log, any_id: str) -> httpx.Response:
    return log.http.get("/v1/where", params={"id": any_id})


def test_an_event_is_found_by_each_of_its_ids(log: Log) -> None:
    named = log.send(product(uuid="where-1")).json()["events"][0]
    nameless = log.send(product()).json()["events"][0]
    audited = log.send_audit(audit(), key="where-2").json()

    for any_id, index in (
        (named["tx_id"], named["index"]),
        ("where-1", named["index"]),
        (nameless["uuid"], nameless["index"]),
        (nameless["uuid"].upper(), nameless["index"]),
        ("where-2", audited["index"]),
        (audited["tx_id"], audited["index"]),
    ):
        found = where(log, any_id).json()
        assert (any_id, [index]) == (found["id"], indexes(found["events"]))
        assert found["events"][0]["life"]


def test_the_same_id_in_both_lanes_finds_both_events(log: Log) -> None:
    one = log.send(product(uuid="both-1")).json()["events"][0]["index"]
    other = log.send_audit(audit(), key="both-1").json()["index"]

    assert [one, other] == indexes(where(log, "both-1").json()["events"])


@pytest.mark.parametrize("any_id", ["unknown", "\x00", "é" * 500, "tx_" + "0" * 32, "-" * 36])
def test_an_unknown_id_is_nowhere(log: Log, any_id: str) -> None:
    answer = where(log, any_id)

    assert (200, []) == (answer.status_code, answer.json()["events"])


def test_where_needs_an_id(log: Log) -> None:
    assert_canonical_error(where(log, ""), 400, "invalid_parameter")
    assert_canonical_error(where(log, "x" * 513), 400, "invalid_parameter")
    answer = log.http.get("/v1/where")
    assert_canonical_error(answer, 400, "invalid_parameter")


def test_a_project_token_cannot_read(log: Log) -> None:
    for path in ("/v1/events", "/v1/export", "/v1/where?id=x", "/v1/events/x"):
        assert_canonical_error(
            log.http.get(path, headers=bearer(log.token)), 401, "invalid_api_key"
        )


def test_a_cursor_that_an_earlier_version_gave_goes_on() -> None:
    given = "MTg1MDAwLjJiNWI4NDA3ODBkMDAzNGY"
    cursor = Cursor.read(given, 1, Search(event_name="nope"), "newest")
    assert (185_000, given) == (cursor.position, cursor.text())
