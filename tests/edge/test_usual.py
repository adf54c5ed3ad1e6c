"""An event that is read in one piece is the same as if it were read member by member."""

import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from indelible.edge.arrival import Dropped, ProductEvent
from indelible.edge.brackets import MAX_DEPTH
from indelible.edge.dialect import Call, Reading
from indelible.edge.dialects.vtilt import DIALECT
from indelible.edge.http import Request
from indelible.edge.intake import Limits
from indelible.record import encode_record

LIMITS = Limits(max_body_bytes=1 << 20, max_event_bytes=2_000, max_batch=9, max_payload_bytes=1)

TEXTS = st.text(max_size=8) | st.sampled_from(
    ("", "ab" * 16, "$identify", "2026-01-01T00:00:00.5Z", "soon", "[" * 40, "x" * 3_000)
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
NAMES = st.sampled_from(
    (
        *("token", "distinct_id", "alias", "$anon_distinct_id", "$current_url", "$lib"),
        *("api_key", "a", "[{", "lost", "batch"),
    )
)
DEEP = st.sampled_from((29, 30, 31, 32, 33)).map(lambda depth: _nested(depth))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3)
)
PROPERTIES = st.dictionaries(NAMES, VALUES | DEEP, max_size=4)
USUAL = st.fixed_dictionaries(
    {"event": TEXTS, "distinct_id": TEXTS, "properties": PROPERTIES},
    optional={
        "uuid": TEXTS,
        "timestamp": TEXTS,
        "process_id": TEXTS | VALUES,
        "sequence": st.integers() | VALUES,
        "api_key": TEXTS,
        "token": TEXTS,
        "$token": TEXTS,
    },
)
NEARLY_USUAL = st.builds(
    lambda event, more: {**event, **more},
    USUAL,
    st.dictionaries(
        st.sampled_from(("event", "distinct_id", "properties", "uuid", "timestamp", "token")),
        VALUES,
        max_size=2,
    ),
)
EVENTS = st.lists(USUAL | NEARLY_USUAL, min_size=1, max_size=3)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def read(text: str) -> Reading:
    scope = {"method": "POST", "path": "/api/e", "headers": [], "query_string": b""}
    request = Request(scope, None)  # type: ignore[arg-type]
    return DIALECT.read(text.encode(), Call(request, DIALECT.paths[0], LIMITS))


def facts(event: object) -> object:
    """What an event says, but for its measures and the member that makes it unusual."""
    if isinstance(event, Dropped):
        return event.reason, event.client_id
    assert isinstance(event, ProductEvent)
    extra = {} if event.record.extra is UNSET else dict(event.record.extra)
    extra.pop("unusual", None)
    record = replace(event.record, extra=extra or UNSET)
    plain = replace(event, record=record, size_bytes=0, depth=0)
    is_refused = event.size_bytes > LIMITS.max_event_bytes, event.depth > MAX_DEPTH
    return is_refused, encode_record(record), msgspec.structs.astuple(plain)[:-4]


def assert_same(text: str, other: str) -> None:
    one, two = read(text), read(other)
    assert set(one.tokens) == set(two.tokens)
    assert set(one.inner_tokens) == set(two.inner_tokens)
    assert list(map(facts, two.events)) == list(map(facts, one.events))


def escaped(text: str) -> str:
    r"""Write every letter of JSON's strings as its escape is written: `\u0061`."""
    shown = []
    for place, part in enumerate(text.split('"')):
        letters = [f"\\u{ord(c):04x}" if c.isalpha() else c for c in part]
        shown.append("".join(letters) if place % 2 else part)
    return '"'.join(shown)


@given(event=USUAL | NEARLY_USUAL)
@example(event={"event": "e", "distinct_id": "d", "sequence": -0.0, "process_id": "ab" * 16})
@example(event={"event": "e", "distinct_id": "d", "properties": {"a": _nested(29)}})
@example(event={"event": "e", "distinct_id": "d", "properties": {"a": _nested(30)}})
@example(event={"event": "e", "distinct_id": "d", "properties": {"a": _nested(31)}})
@example(event={"event": "e", "distinct_id": "d", "properties": {"a": ["["] * 20}})
@example(event={"event": "e", "distinct_id": "d", "properties": {"token": "t"}})
def test_an_event_is_the_same_with_or_without_a_member_that_is_unusual(
    event: dict[str, Any],
) -> None:
    assert_same(json.dumps(event), json.dumps({"unusual": "x", **event}))


@given(events=EVENTS)
def test_events_of_a_batch_are_the_same_after_one_that_is_unusual(
    events: list[dict[str, Any]],
) -> None:
    unusual = [{"unusual": "x", **event} for event in events]
    assert_same(
        json.dumps({"api_key": "t", "batch": events}),
        json.dumps({"api_key": "t", "batch": unusual}),
    )


def test_a_token_is_found_however_its_name_is_written() -> None:
    event = '{"event":"e","distinct_id":"d","properties":{"token":"t1"}}'
    found = read(escaped(event))
    assert ["t1"] == found.inner_tokens
    assert ["e"] == [item.name for item in found.events if isinstance(item, ProductEvent)]


def test_a_number_is_kept_as_it_was_sent() -> None:
    (event,) = read(
        '{"event":"e","distinct_id":"d","sequence":-0,"process_id":"' + "0a" * 16 + '"}'
    ).events
    assert isinstance(event, ProductEvent)
    assert b'"sequence":-0' in encode_record(event.record)
