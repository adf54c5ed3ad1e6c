"""Any log, any filters: paging to the end finds exactly the matching events, each once."""

import itertools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.log import Log, new_log
from tests.world import World

NAMES = st.sampled_from(["a", "b", "ü"])
META = ("type", "service", "env", "request_id", "trace_id", "immutable_trail")
VALUES = {"type": st.sampled_from(["info", "error"])}


def values(name: str) -> st.SearchStrategy[str]:
    return VALUES.get(name, st.sampled_from(["x", "y"]))


PRODUCT = st.fixed_dictionaries({"event": NAMES, "distinct_id": st.sampled_from(["x", "y"])})
AUDIT = st.fixed_dictionaries(
    {}, optional={"event_name": NAMES, **{name: values(name) for name in META}}
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["product", "audit", "administration"]),
        "event_name": NAMES,
        "distinct_id": st.sampled_from(["x", "z"]),
        **{name: values(name) for name in META},
    },
)


def matches(event: dict[str, Any], filters: dict[str, str]) -> bool:
    """The rule of each filter, said once more."""
    is_product = "distinct_id" in event
    for name, wanted in filters.items():
        match name:
            case "kind":
                held = wanted == ("product" if is_product else "audit")
            case "event_name":
                held = wanted == event.get("event" if is_product else "event_name")
            case "distinct_id":
                held = wanted == event.get("distinct_id")
            case "type":
                held = not is_product and wanted == event.get("type", "info")
            case _:
                held = not is_product and wanted == event.get(name)
        if not held:
            return False
    return True


def store(log: Log, events: list[dict[str, Any]]) -> None:
    """Send each run of a lane as a batch, so that the log has their order."""
    for is_product, run in itertools.groupby(events, lambda event: "distinct_id" in event):
        if is_product:
            assert 200 == log.send({"batch": [*run]}).status_code
        else:
            body = {"events": [{"payload": "{}", "meta": event} for event in run]}
            assert 202 == log.http.post("/v1/events/batch", json=body).status_code


def page_through(log: Log, parameters: dict[str, Any]) -> list[int]:
    found: list[int] = []
    cursor: dict[str, str] = {}
    for _ in range(100):
        answer = log.http.get("/v1/events", params={**parameters, **cursor})
        assert 200 == answer.status_code, answer.text
        page = answer.json()
        assert len(page["events"]) <= parameters["limit"]
        found += [event["index"] for event in page["events"]]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}
    raise AssertionError("the pages do not end")


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    events=st.lists(st.one_of(PRODUCT, AUDIT), max_size=14),
    searches=st.lists(st.tuples(FILTERS, st.integers(1, 5)), min_size=3, max_size=6),
)
def test_paging_to_the_end_finds_exactly_the_matching_events_each_once(
    shared: World,
    events: list[dict[str, Any]],
    searches: list[tuple[dict[str, str], int]],
) -> None:
    with new_log(shared) as log:
        store(log, events)
        for filters, limit in searches:
            wanted = [index for index, event in enumerate(events) if matches(event, filters)]
            oldest = {**filters, "limit": limit, "order": "oldest"}
            newest = {**filters, "limit": limit}
            assert wanted == page_through(log, oldest)
            assert wanted[::-1] == page_through(log, newest)
