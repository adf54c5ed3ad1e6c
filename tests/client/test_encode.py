"""Whatever an application puts into an event, the server takes it and the caller never notices."""

import dataclasses
import json
import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.client import AuditEvent, Indelible, Receipt
from indelible.client.encode import CYCLE, MAX_DEPTH, TOO_DEEP, encode
from indelible.event import LossReason
from tests.client.stub import Stub, assert_balanced, client_of
from tests.world import API_KEY, TOKEN, ServerProcess


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Name(StrEnum):
    PAID = "order.paid"


@dataclasses.dataclass
class Point:
    x: int
    tags: tuple[str, ...]


class Hostile:
    """Fails in every way that an object can while somebody looks at it."""

    def __repr__(self) -> str:
        return "secret in repr"

    def __str__(self) -> str:
        raise RuntimeError("secret in str")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("secret in iter")


class HostileDict(dict[str, object]):
    def items(self) -> Any:
        raise RuntimeError("secret in items")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("secret in iter")

    keys = items


FORMS = [
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T00:00:00+02:00"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(3, 4), "03:04:00"),
    (Decimal("99.990"), "99.990"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (Path("/tmp/x"), "/tmp/x"),
    (Color.RED, "red"),
    (Name.PAID, "order.paid"),
    (Level.HIGH, 3),
    (b"text", "text"),
    (b"\xff\x00", "/wA="),
    (bytearray(b"abc"), "abc"),
    ({3, 1, 2}, [1, 2, 3]),
    ((1, 2), [1, 2]),
    (deque([1]), [1]),
    (range(3), [0, 1, 2]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (OrderedDict(a=1), {"a": 1}),
    (Point(1, ("a",)), {"x": 1, "tags": ["a"]}),
    (math.nan, None),
    (-math.inf, None),
    (2**63, 2**63),
    (2**64, str(2**64)),
    (-(2**63) - 1, str(-(2**63) - 1)),
    ("a\ud800b", "a\ufffdb"),
    ("\ud83d\ude00", "\U0001f600"),
    (
        {1: "a", None: "b", 1.5: "c", Color.RED: "d"},
        {"1": "a", "null": "b", "1.5": "c", "red": "d"},
    ),
    ({"\udfff": 1}, {"\ufffd": 1}),
    (object(), "<builtins.object>"),
    (Hostile(), f"<{__name__}.Hostile>"),
    (HostileDict(a=1), f"<{__name__}.HostileDict>"),
    (Point, "<builtins.type>"),
    (lambda: 1, "<builtins.function>"),
    (10**5_000, "<builtins.int>"),
]


@pytest.mark.parametrize(("value", "expected"), FORMS, ids=lambda one: type(one).__name__)
def test_each_kind_of_value_has_one_form(value: object, expected: object) -> None:
    data, _ = encode({"v": [value]})

    assert {"v": [expected]} == json.loads(data)
    assert b"secret" not in data


def test_plain_json_is_written_as_it_is_and_not_called_repaired() -> None:
    value = {"a": [1, 2.5, True, None, "ü"], "b": {"c": {}}}

    assert (b'{"a":[1,2.5,true,null,"\xc3\xbc"],"b":{"c":{}}}', False) == encode(value)
    assert encode({"a": object()})[1]


def test_a_value_inside_itself_and_one_without_end_are_cut() -> None:
    inside: dict[str, Any] = {"n": 1}
    inside["self"] = [inside]
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]

    assert {"n": 1, "self": [CYCLE]} == json.loads(encode(inside)[0])
    text = encode(deep)[0]
    assert b"[" * MAX_DEPTH + json.dumps(TOO_DEEP).encode() + b"]" * MAX_DEPTH == text
    while isinstance(deep, list):  # or the interpreter would end it by recursion
        deep = deep.pop()


class Odd:
    pass


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**70),
    st.floats(),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Cc", "L"])),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.uuids(),
    st.sampled_from([Color.RED, Level.HIGH, Name.PAID, object(), Hostile(), HostileDict(a=1), Odd]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.none(), st.binary()), inner),
        st.frozensets(st.integers() | st.text()),
        inner.map(lambda one: [[[[[[[[[[[[[one]]]]]]]]]]]]]),
    ),
    max_leaves=12,
)


@given(value=VALUES)
def test_any_value_becomes_json_that_reads_back(value: object) -> None:
    data, repaired = encode(value)

    decoded = json.loads(data, parse_constant=lambda word: pytest.fail(word))
    assert data == json.dumps(decoded, ensure_ascii=False, separators=(",", ":")).encode()
    if not repaired:
        assert (data, False) == encode(decoded)


@pytest.fixture(scope="module")
def real(shared: ServerProcess) -> Iterator[Indelible]:
    with Indelible(TOKEN, api_key=API_KEY, host=shared.url, spool_audit=False) as client:
        yield client


ANY_PROPERTIES = st.dictionaries(st.one_of(st.text(), st.integers(), st.none()), VALUES)


@pytest.mark.parametrize("examples", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_the_real_server_stores_any_properties_and_any_payload(
    real: Indelible, examples: int
) -> None:
    # Several in an example: the server's answer takes longer than to think of what to send.
    @settings(max_examples=examples)
    @given(several=st.lists(ANY_PROPERTIES, min_size=1, max_size=8))
    def store(several: list[dict[Any, Any]]) -> None:
        for properties in several:
            real.capture("any", distinct_id="u", properties=properties)
            real.audit.send_async("any.value", properties)
        assert real.flush(60)

        assert {} == real.counts().lost == real.audit.counts().lost
        assert 0 == real.counts().waiting == real.audit.counts().waiting
        assert 0 == real.counts().failures
        assert real.audit.send("any.value", several[0]).ok
        durably = [AuditEvent(event_name="any.value", payload=one) for one in several]
        for receipt in real.audit.send_batch(durably):
            assert isinstance(receipt, Receipt)
            assert receipt.ok

    store()


@pytest.mark.parametrize(
    "arguments",
    [
        ((), {"event": None}),
        ((), {"event": ""}),
        ((), {"event": b"bytes"}),
        (("e",), {"properties": 5}),
        (("e",), {"properties": Hostile()}),
        (("e",), {"distinct_id": object()}),
        (("e",), {"distinct_id": True}),
        (("e",), {"timestamp": "yesterday"}),
        (("e",), {"timestamp": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))}),
    ],
    ids=range(9),
)
def test_arguments_that_mean_nothing_are_counted_and_raise_only_when_strict(
    stub: Stub, arguments: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    positional, named = arguments
    with client_of(stub) as client, client_of(stub, strict=True, mode="sync") as strict:
        client.capture(*positional, **named)
        client.capture("good")
        assert client.flush(60)
        with pytest.raises(Exception, match=r"."):
            strict.capture(*positional, **named)

        assert (1, {LossReason.ENCODE_FAILED: 1}) == (
            client.counts().delivered,
            client.counts().lost,
        )
        assert_balanced(client)
    assert ["good"] == [event["event"] for event in stub.stored.values()]


def test_no_door_that_promises_it_ever_raises(stub: Stub) -> None:
    with client_of(stub) as client:
        odd: Any
        for odd in (None, 5, object(), b"x", [1], Hostile(), HostileDict(a=1)):
            client.capture(odd)
            client.capture("e", properties=odd, distinct_id=odd, anonymous_id=odd, uuid=odd)
            client.identify(odd, odd, anonymous_id=odd)
            client.alias(odd, distinct_id=odd)
            client.set(odd, once=odd, distinct_id=odd)
            client.audit.send_async(odd, odd, type=odd, meta=odd, idempotency_key=odd)
        assert client.flush(60)

        assert_balanced(client)
        assert 0 == client.counts().waiting == client.audit.counts().waiting


def test_an_event_that_is_too_long_goes_as_a_stub_with_its_size_and_digest(stub: Stub) -> None:
    with client_of(stub, max_event_bytes=2_000, max_payload_bytes=2_000) as client:
        client.capture("long", distinct_id="u", properties={"text": "x" * 5_000})
        client.audit.send_async("long.payload", {"text": "x" * 5_000})
        assert client.flush(60)

        assert (1, 1) == (client.counts().repaired, client.audit.counts().repaired)
    product, audit = sorted(stub.stored.values(), key=lambda one: "payload" in one)
    assert ("long", "u") == (product["event"], product["distinct_id"])
    assert {"$truncated", "$original_size", "$sha256"} == product["properties"].keys()
    cut = json.loads(audit["payload"])
    assert (True, 5_011) == (cut["truncated"], cut["original_size"])


def test_an_event_whose_name_is_of_an_enum_goes_under_its_value(stub: Stub) -> None:
    with client_of(stub) as client:
        client.capture(Name.PAID)
        client.audit.send(Name.PAID, {})
        assert client.flush(60)

    events = list(stub.stored.values())
    assert {"order.paid"} == {one.get("event") or one["meta"]["event_name"] for one in events}


def test_a_dict_that_is_changed_while_it_is_written_harms_nobody(stub: Stub) -> None:
    shared_list: list[Any] = [{str(n): n for n in range(200)}]
    with client_of(stub, batch_s=0.0) as client:
        for number in range(300):
            client.capture("changed", properties={"shared": shared_list})
            shared_list[0][f"new-{number}"] = number
            shared_list[0].pop(str(number), None)
        assert client.flush(60)

        assert (300, {}) == (client.counts().delivered, client.counts().lost)
