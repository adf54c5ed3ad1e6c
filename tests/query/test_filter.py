"""`filter=`: searching and exporting by a condition."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import condition as c
from indelible.moment import parse_time_ms
from indelible.query.events import SCANNED_BYTES_PER_PAGE, SCANNED_PER_PAGE
from tests.condition.some import is_true
from tests.query.log import Log, new_log
from tests.world import (
    AS_ADMIN,
    TOKEN,
    World,
    assert_canonical_error,
    audit,
    inside,
    product,
)


def lines(log: Log, **parameters: Any) -> list[dict[str, Any]]:
    answer = log.http.get("/v1/export", params=parameters)
    assert 200 == answer.status_code, answer.text
    return [json.loads(line) for line in answer.content.split(b"\n")[:-1]]


def walk(log: Log, **parameters: Any) -> tuple[list[int], int]:
    """The indexes that a search finds by its cursors, and in how many pages."""
    found: list[int] = []
    cursor: dict[str, str] = {}
    for pages in range(1, 100):
        answer = log.http.get("/v1/events", params={**parameters, **cursor})
        assert 200 == answer.status_code, answer.text
        page = answer.json()
        found += [event["index"] for event in page["events"]]
        if page["next"] is None:
            return found, pages
        cursor = {"cursor": page["next"]}
    raise AssertionError("the pages do not end")


@pytest.fixture
def shop(log: Log) -> Log:
    """Six events of both lanes."""
    log.send(product("purchase", distinct_id="ann", properties={"amount": 120, "plan": "pro"}))
    log.send(product("purchase", distinct_id="bob", properties={"amount": 80.5, "plan": None}))
    log.send(product("opened", uuid="u-1", timestamp="2026-01-31T12:00:00Z", properties=[]))
    log.send_audit(audit('{"order":"ord_1"}', event_name="order.created", service="shop"), key="k")
    log.send_audit(audit("{}", event_name="order.paid", service="bank", http_status="502"))
    log.send(
        product("opened", timestamp="soon", properties={}, more=1, **{"$set": {"city": "Wien"}})
    )
    return log


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('event = "purchase"', [0, 1]),
        ('event = "purchase" and properties.amount >= 100', [0]),
        ("properties.amount < 100", [1]),
        ('properties.plan != "pro"', [1, 2, 3, 4, 5]),
        ("properties.plan = null", [1]),
        ("exists(properties.plan)", [0, 1]),
        ("exists(properties)", [0, 1, 2, 5]),
        ('event starts_with "order."', [3, 4]),
        ('kind = "audit" and meta.service = "bank"', [4]),
        ('meta.http_status starts_with "5"', [4]),
        ('payload contains "ord_1"', [3]),
        ('idempotency_key = "k" or uuid = "u-1"', [2, 3]),
        ("timestamp = 2026-01-31T12:00:00Z", [2]),
        ("exists(timestamp)", [2]),
        ('$set.city = "Wien" and $extra.more = 1', [5]),
        ("index >= 2 and index < 4", [2, 3]),
        ("received_at < 2020-01-01", []),
        ('distinct_id in ("ann", "zoe") or index = 5', [0, 5]),
        ('not (event = "purchase" or properties.amount > 0)', [2, 3, 4, 5]),
        ('event = "opened" or properties.amount > 100', [0, 2, 5]),
        ('{"path":"event","op":"=","value":"purchase"}', [0, 1]),
    ],
)
def test_a_filter_finds_what_is_true_of_an_event(shop: Log, source: str, wanted: list[int]) -> None:
    assert wanted == walk(shop, filter=source, order="oldest", limit=2)[0]
    assert wanted[::-1] == walk(shop, filter=source)[0]
    assert wanted == [line["index"] for line in lines(shop, filter=source)]


def test_an_export_takes_a_filter_and_times_and_indexes_together(shop: Log) -> None:
    events = shop.export()
    at = events[3]["received_at"]

    def exported(**parameters: Any) -> list[int]:
        return [line["index"] for line in lines(shop, **parameters)]

    before = [event["index"] for event in events if event["received_at"] < at]
    behind = [event["index"] for event in events if event["received_at"] >= at]
    assert behind == exported(**{"from": at})
    assert before == exported(to=at)
    assert [i for i in behind if 2 <= i < 5] == exported(start=2, end=5, **{"from": at})
    opened = exported(filter='event = "opened"', start=1, end=5)
    assert [2] == opened
    assert [] == exported(**{"from": "2999-01-01T00:00:00Z"})
    assert events[2:3] == lines(shop, filter='event = "opened"', end=5)  # as in any export


def test_a_filter_and_the_other_parameters_must_all_hold(shop: Log) -> None:
    assert [0] == walk(shop, filter="properties.amount > 0", distinct_id="ann")[0]
    assert [3] == walk(shop, filter='payload contains "1"', service="shop", kind="audit")[0]
    later = {"from": "2999-01-01T00:00:00Z"}
    assert [] == walk(shop, filter="properties.amount > 0", **later)[0]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/export"])
@pytest.mark.parametrize(
    ("source", "position", "named"),
    [
        ("event = purchase", 8, "line 1, column 9"),
        ("", 0, "empty"),
        ('{"all":[]}', None, "/all"),
        ('in_cohort("vip")', None, "'vip'"),
        ("(" * 16_000, 31, "32 deep"),
        ("x" * 17_000, None, "16,384 bytes"),
        ("event = '\0'", 8, "control character"),
    ],
    ids=["text", "empty", "json", "cohort", "deep", "long", "nul"],
)
def test_a_filter_that_cannot_be_read_is_refused_with_its_place(
    log: Log, path: str, source: str, position: int | None, named: str
) -> None:
    answer = log.http.get(path, params={"filter": source})

    body = assert_canonical_error(answer, 400, "invalid_condition")
    assert position == body["position"]
    assert named in body["message"]


def test_a_filter_that_fills_the_request_line_is_refused_with_it(log: Log) -> None:
    answer = log.http.get("/v1/events", params={"filter": "x" * 65_400})
    assert answer.status_code in (414, 431)


@pytest.mark.parametrize("path", ["/v1/events", "/v1/export"])
def test_a_misspelt_parameter_finds_nothing_but_its_name(log: Log, path: str) -> None:
    answer = log.http.get(path, params={"filer": "event = 'x'"})
    assert "`filter`" in assert_canonical_error(answer, 400, "unknown_parameter")["hint"]


def test_a_cursor_of_one_filter_is_none_of_another(shop: Log) -> None:
    page = shop.http.get("/v1/events", params={"filter": "index < 9", "limit": 1}).json()

    again = {"cursor": page["next"], "limit": 1}
    same = shop.http.get("/v1/events", params={"filter": "index  <  9.0", **again})
    other = shop.http.get("/v1/events", params={"filter": "index < 8", **again})

    assert 200 == same.status_code  # the same condition, written in another way
    assert_canonical_error(other, 400, "invalid_cursor")


def test_a_filter_that_matches_rarely_goes_on_by_cursors(log: Log) -> None:
    log.send(product("rare", properties={"n": 1}))
    batch = [{"event": "e", "distinct_id": "d", "properties": {"n": 0}}] * SCANNED_PER_PAGE
    log.send({"batch": batch})
    log.send(product("rare", properties={"n": 1}))
    last = SCANNED_PER_PAGE + 1

    for source in ("properties.n = 1", 'event = "rare"'):
        found, pages = walk(log, filter=source)
        assert ([last, 0], True) == (found, pages >= 2)
        assert [0, last] == [line["index"] for line in lines(log, filter=source)]
        assert [last] == [line["index"] for line in lines(log, filter=source, start=1)]


def test_payloads_that_a_filter_tests_count_towards_what_a_page_looks_at(tmp_path: Path) -> None:
    text = "x" * 1_000_000
    count = SCANNED_BYTES_PER_PAGE // len(text) + 4
    with inside(tmp_path, product_min_free_percent=0, audit_min_free_percent=0) as world:
        event = {"event": "e", "distinct_id": "d", "properties": {"x": text}}
        for _ in range(0, count, 6):
            world.send({"api_key": TOKEN, "batch": [event] * 6})

        def page(source: str) -> dict[str, Any]:
            answer = world.http.get("/v1/events", params={"filter": source}, headers=AS_ADMIN)
            body: dict[str, Any] = answer.json()
            return body

        assert [] == page('properties.x = "y"')["events"]
        assert page('properties.x = "y"')["next"] is not None
        assert page('event = "none" and properties.x = "y"')["events"] == []
        assert page('event = "none"')["next"] is None


def test_an_erased_event_has_the_facts_of_its_leaf_alone(shop: Log, shared: World) -> None:
    (first, *_) = shop.export()
    body = {"tx_ids": [first["tx_id"]], "project": shop.project}
    answer = shared.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
    assert answer.status_code < 300, answer.text

    for source in ("erased = true", f'tx_id = "{first["tx_id"]}"', "index < 1"):
        assert [0] == walk(shop, filter=source)[0]
    assert [1] == walk(shop, filter='event = "purchase"')[0]
    assert [1] == walk(shop, filter="properties.amount > 0")[0]
    assert [0] == walk(shop, filter='not exists(properties) and kind = "product"')[0]
    (erasure,) = lines(shop, filter='event = "erasure" and exists(facts.erased)')
    assert "erasure" == erasure["kind"]


NAMES = st.sampled_from(["a", "b", "ü"])
PROPERTIES = st.dictionaries(
    NAMES,
    st.sampled_from([1, 1.0, 2, True, None, "1", "a", "ab", "2026-01-31", [1], {"a": 1}]),
    max_size=2,
)
EVENTS = st.one_of(
    st.fixed_dictionaries(
        {"event": NAMES, "distinct_id": st.sampled_from(["x", "y"]), "properties": PROPERTIES},
        optional={"timestamp": st.sampled_from(["2026-01-31", "soon", 1769817600])},
    ),
    st.fixed_dictionaries({"payload": NAMES}, optional={"event_name": NAMES, "service": NAMES}),
)
TESTS = st.one_of(
    st.builds(c.Test, st.just(("event",)), st.sampled_from([c.Op.EQUAL, c.Op.CONTAINS]), NAMES),
    st.builds(
        c.Test,
        st.builds(lambda *names: ("properties", *names), NAMES),
        st.just(c.Op.EQUAL),
        st.sampled_from([1, True, None, "1", c.Moment(1769817600000)]),
    ),
    st.builds(c.Test, st.just(("properties", "a", "a")), st.just(c.Op.MORE), st.just(0)),
    st.builds(c.Test, st.just(("payload",)), st.just(c.Op.STARTS_WITH), NAMES),
    st.builds(c.Test, st.just(("meta", "service")), st.just(c.Op.EQUAL), NAMES),
    st.builds(
        c.Test, st.just(("timestamp",)), st.just(c.Op.AT_LEAST), st.just(c.Moment(1769817600000))
    ),
    st.builds(c.Test, st.just(("index",)), st.just(c.Op.LESS), st.integers(0, 9)),
    st.builds(c.Test, st.just(("timestamp",)), st.just(c.Op.EXISTS)),
)
CONDITIONS: st.SearchStrategy[c.Condition] = st.recursive(
    TESTS,
    lambda inner: (
        st.builds(c.Not, inner)
        | st.builds(c.All, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(c.Any, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=5,
)


def facts_of(line: dict[str, Any]) -> dict[str, Any]:
    """The facts of an event as its JSON shows them, by the reference page."""
    facts = {**line, "received_at": c.Moment(parse_time_ms(line["received_at"]) or 0)}
    if "meta" in line and "event_name" in line["meta"]:
        facts["event"] = line["meta"]["event_name"]
    at_ms = parse_time_ms(facts.pop("timestamp", None))
    return facts if at_ms is None else {**facts, "timestamp": c.Moment(at_ms)}


@settings(
    max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    events=st.lists(EVENTS, max_size=10), conditions=st.lists(CONDITIONS, min_size=4, max_size=8)
)
def test_search_and_export_find_exactly_the_events_of_which_the_condition_is_true(
    shared: World, events: list[dict[str, Any]], conditions: list[c.Condition]
) -> None:
    with new_log(shared) as log:
        for event in events:
            if "payload" in event:
                meta = {name: event[name] for name in event if name != "payload"}
                log.send_audit({"payload": event["payload"], "meta": meta})
            else:
                log.send(event)
        stored = log.export()
        assert len(events) == len(stored)
        for condition in conditions:
            wanted = [
                line["index"] for line in stored if is_true(condition, facts_of(line), frozenset())
            ]
            for source in (c.text(condition), c.to_json(condition)):
                assert wanted == walk(log, filter=source, order="oldest", limit=3)[0]
                assert wanted == [line["index"] for line in lines(log, filter=source)]


def test_the_head_of_an_export_does_not_wait_until_something_is_found(shop: Log) -> None:
    nothing = {"filter": 'event = "never"'}
    for answer in (
        shop.http.get("/v1/export", params=nothing),
        shop.http.head("/v1/export", params=nothing),
        shop.http.head("/v1/export"),
    ):
        assert 200 == answer.status_code
        assert b"" == answer.content
        assert "content-length" not in answer.headers
