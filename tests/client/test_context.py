"""Whose event it is when the caller does not say: contexts, over threads, tasks and generators."""

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import indelible
from indelible.client import Context, IdLike, context
from indelible.client.joins import MAX_PAIRS, Joins
from indelible.client.timing import REAL_TIME, Time
from tests.client.stub import Stub, client_of


def test_events_inside_a_context_have_what_it_says_unless_they_say_otherwise(stub: Stub) -> None:
    with client_of(stub, batch_s=60) as client:
        with client.context(
            distinct_id="user_42", properties={"plan": "pro"}, meta={"region": "eu"}, trail="o:7"
        ):
            client.capture("a", properties={"n": 1})
            client.capture("b", distinct_id="user_7", properties={"plan": "free"})
            client.audit.send_async("order.created", {})
            client.audit.send_async("order.paid", {}, meta={"region": "us"})
        client.capture("c", distinct_id="user_9")
        client.capture("d")
        assert client.flush(60)

        events = {one["event"]: one for one in stub.stored.values() if "event" in one}
        assert ("user_42", "pro", 1) == (
            events["a"]["distinct_id"],
            events["a"]["properties"]["plan"],
            events["a"]["properties"]["n"],
        )
        assert ("user_7", "free") == (
            events["b"]["distinct_id"],
            events["b"]["properties"]["plan"],
        )
        assert "plan" not in events["c"]["properties"]
        # An event of nobody has the process's id, and no person is made of it.
        assert client.process_id == events["d"]["distinct_id"]
        assert events["d"]["properties"]["$process_person_profile"] is False
        metas = [one["meta"] for one in stub.stored.values() if "meta" in one]
        assert [("eu", "o-7"), ("us", "o-7")] == [
            (m["region"], m["immutable_trail"]) for m in metas
        ]


def test_events_of_either_kind_have_the_ids_of_the_request_that_they_were_captured_in(
    stub: Stub,
) -> None:
    with client_of(stub, batch_s=60) as client:
        with context.bound(request_id="req-1", trace_id="4b" * 16):
            client.capture("a")
            client.capture("b", properties={"request_id": "mine"})
            client.identify("user_42", {"plan": "pro"})
            client.audit.send_async("c", {})
            with client.context(properties={"trace_id": "the application's"}):
                client.capture("d")
        with client.context(distinct_id="user_42"):
            client.capture("e")
        assert client.flush(60)

    def ids(event: dict[str, Any]) -> tuple[IdLike | None, IdLike | None]:
        said = event.get("properties") or event["meta"]
        return said.get("request_id"), said.get("trace_id")

    of_the_request = ("req-1", "4b" * 16)
    assert {
        "a": of_the_request,
        "b": ("mine", "4b" * 16),
        "$identify": of_the_request,
        "c": of_the_request,
        "d": ("req-1", "the application's"),
        "e": (None, None),
    } == {
        event.get("event") or event["meta"]["event_name"]: ids(event)
        for event in stub.stored.values()
    }


def test_identify_inside_a_request_names_the_rest_of_it_and_joins_the_visitor(stub: Stub) -> None:
    with client_of(stub, batch_s=60) as client:
        with client.context(anonymous_id="visitor"):
            client.capture("before")
            client.identify("user_42", {"plan": "pro"})
            client.capture("after")
        client.identify("user_42", {"seen": True})
        client.identify("user_42", {"seen": True}, anonymous_id="user_42")
        assert client.flush(60)

    before, joined, after, alone, same = stub.stored.values()
    assert ("visitor", "user_42") == (before["distinct_id"], after["distinct_id"])
    assert ("visitor", {"plan": "pro"}) == (
        joined["properties"]["$anon_distinct_id"],
        joined["properties"]["$set"],
    )
    assert "visitor" == after["properties"]["$device_id"]
    for one in (alone, same):  # without another id there is nobody to join
        assert "$anon_distinct_id" not in one["properties"]


def test_identify_sends_nothing_that_is_not_new(stub: Stub) -> None:
    with client_of(stub, batch_s=60) as client:
        with client.context():
            client.identify("user_42")  # nothing to write, and nobody to join
            client.capture("of the person")
        for _ in range(3):
            client.identify("user_42", anonymous_id="visitor")
            client.identify("user_43", anonymous_id="visitor")
        for _ in range(2):  # properties may have been changed elsewhere in between
            client.identify("user_42", {"plan": "pro"})
        assert client.flush(60)

    assert [
        ("of the person", "user_42"),
        ("$identify", "user_42"),
        ("$identify", "user_43"),
        ("$identify", "user_42"),
        ("$identify", "user_42"),
    ] == [(one["event"], one["distinct_id"]) for one in stub.stored.values()]


def test_a_join_is_sent_again_after_an_hour_since_it_may_have_been_lost() -> None:
    now_s = [0.0]
    joins = Joins(Time(wall_ns=lambda: 0, monotonic=lambda: now_s[0]))
    said = []
    for now_s[0] in (0, 1, 3_599, 3_600, 3_601):
        said.append(joins.is_due("visitor", "user_42"))
    assert [True, False, False, True, False] == said


def test_the_joins_that_are_remembered_are_bounded() -> None:
    joins = Joins(REAL_TIME)
    assert all(joins.is_due(number, "user_42") for number in range(MAX_PAIRS + 1))
    assert joins.is_due(0, "user_42")  # forgotten by now
    assert not joins.is_due(MAX_PAIRS, "user_42")


@given(st.lists(st.tuples(st.booleans(), st.none() | st.text(max_size=3)), max_size=8))
def test_the_last_id_that_was_set_counts_wherever_it_was_set(
    steps: list[tuple[bool, str | None]],
) -> None:
    """On this thread or another, as in a dependency; None takes it back."""
    with context.bound() as here, ThreadPoolExecutor(1) as pool:
        for elsewhere, distinct_id in steps:
            if elsewhere:
                run = contextvars.copy_context().run
                pool.submit(run, indelible.set_distinct_id, distinct_id).result()
            else:
                indelible.set_distinct_id(distinct_id)
        assert (steps[-1][1] if steps else None) == here.distinct_id


def test_outside_a_request_an_id_is_set_for_nobody() -> None:
    indelible.set_distinct_id("user_42")
    indelible.set_anonymous_id("visitor")
    assert context.current() is None


def test_a_visitors_id_counts_until_the_person_is_known(stub: Stub) -> None:
    with client_of(stub, batch_s=60) as client:
        with client.context():
            client.set_anonymous_id("visitor")
            client.capture("before")
            client.set_distinct_id("user_42")
            client.capture("after")
            client.set_distinct_id(None)
            client.capture("signed out")
        assert client.flush(60)
    assert ["visitor", "user_42", "visitor"] == [one["distinct_id"] for one in stub.stored.values()]


def test_a_change_made_on_a_worker_thread_is_seen_by_the_request() -> None:
    """A sync endpoint runs on another thread: what it sets anew would be lost, a change is not."""
    with context.bound() as here:

        def endpoint() -> None:
            context.set_event_name("order.paid")
            context.set_trail("order-7")
            context.add_properties({"plan": "pro"})
            context.ignore()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(contextvars.copy_context().run, endpoint).result()

    assert ("order.paid", "order-7", {"plan": "pro"}, True) == (
        here.event_name,
        here.trail,
        here.properties,
        here.ignored,
    )


def test_a_hundred_requests_at_once_never_share_a_context() -> None:
    async def request(number: int) -> tuple[IdLike | None, IdLike | None]:
        with context.bound(Context()) as here:
            here.distinct_id = f"user-{number}"
            await asyncio.sleep(0)
            inner = context.current()
            assert inner is not None
            return inner.distinct_id, here.distinct_id

    async def all_of_them() -> list[tuple[IdLike | None, IdLike | None]]:
        return await asyncio.gather(*(request(number) for number in range(100)))

    assert [(f"user-{n}", f"user-{n}") for n in range(100)] == asyncio.run(all_of_them())


def test_the_next_request_on_the_same_thread_inherits_nothing() -> None:
    def request(name: str) -> Context | None:
        before = context.current()
        with context.bound(Context()) as here:
            here.distinct_id = name
        return before

    with ThreadPoolExecutor(1) as pool:
        assert [None, None] == list(pool.map(request, ["one", "two"]))
    assert context.current() is None


def test_work_that_outlives_its_request_has_a_copy() -> None:
    with context.bound(distinct_id="user_42", properties={"a": 1}) as here:
        mine = context.inherited()
    here.distinct_id = "changed"
    here.properties["a"] = 2

    assert ("user_42", {"a": 1}) == (mine.distinct_id, mine.properties)


def test_a_generator_that_is_closed_elsewhere_undoes_nothing_of_ours() -> None:
    def stream() -> Generator[str, None, None]:
        with context.bound(distinct_id="inner"):
            yield "first"

    made = stream()
    assert "first" == contextvars.copy_context().run(next, made)
    with context.bound(distinct_id="outer") as here:
        made.close()
        assert here is context.current()


def test_outside_every_request_the_setters_do_nothing() -> None:
    context.set_event_name("x")
    context.set_trail("x")
    context.add_properties({"x": 1})
    context.ignore()

    assert context.current() is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-11111111111111111111111111111111-1111111111111111-00", True),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("", False),
        (None, False),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(header: str | None, expected: bool) -> None:
    assert expected == (context.trace_id_of(header) is not None)


@given(st.text(max_size=200))
def test_a_request_id_is_kept_if_it_is_visible_ascii_and_made_anew_otherwise(text: str) -> None:
    kept = 1 <= len(text) <= 128 and all("!" <= char <= "~" for char in text)

    found = context.request_id_of(text)

    assert kept == (found == text)
    assert kept or uuid.UUID(found)


@given(st.text(st.characters(), max_size=400))
def test_an_id_from_a_browser_has_no_controls_and_an_end(text: str) -> None:
    found = context.clean_id(text)

    assert found is None or 1 <= len(found) <= 200
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in found or "")


def test_a_thread_that_was_begun_inside_has_no_context_of_its_own_accord() -> None:
    seen: list[Context | None] = []
    with context.bound(distinct_id="user_42"):
        thread = threading.Thread(target=lambda: seen.append(context.current()))
        thread.start()
        thread.join()

    assert [None] == seen
