"""Values of other people's libraries, in the JSON that a person would write by hand."""

import dataclasses
import ipaddress
import json
import logging
import math
import traceback
import uuid
from array import array
from collections import ChainMap, Counter, OrderedDict, UserList, UserString, namedtuple
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import bson
import httpx
import markupsafe
import msgspec
import numpy as np
import pandas as pd
import pendulum
import polars as pl
import pydantic
import pytest
import sqlalchemy
import yarl
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, lazystr
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict
from starlette.datastructures import URL, Headers, QueryParams, Secret
from werkzeug.datastructures import MultiDict as WerkzeugMultiDict
from werkzeug.local import LocalProxy

from indelible.client import AuditEvent, Receipt
from indelible.client.encode import MAX_DEPTH, TOO_MANY, encode
from indelible.client.privacy import MASK
from indelible.event import LossReason
from tests.client.stub import Stub, assert_balanced, client_of


class Plan(Enum):
    PRO = "pro"


class Size(StrEnum):
    LARGE = "l"


class Address(pydantic.BaseModel):
    city: str
    since: date
    password: str = "hush"
    pin: pydantic.SecretStr = pydantic.SecretStr("hush")


class Loose(pydantic.BaseModel):
    """Holds what pydantic itself cannot write."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    rate: Any
    pin: pydantic.SecretStr = pydantic.SecretStr("hush")


@attrs.define
class Line:
    sku: str
    price: Decimal


class Order(msgspec.Struct, rename="camel"):
    order_id: int
    paid_at: datetime | None = None
    note: str | msgspec.UnsetType = msgspec.UNSET


class Login(NamedTuple):
    user: str
    password: str


@dataclasses.dataclass
class Half:
    """One field cannot be read."""

    good: int
    bad: int = dataclasses.field(init=False)


Pair = namedtuple("Pair", "left right")

ENGINE = sqlalchemy.create_engine("sqlite://")
with ENGINE.connect() as connection:
    ROW = connection.execute(sqlalchemy.text("select 1 a, 2 b")).one()
ENGINE.dispose()

BY_HAND: list[tuple[Any, Any]] = [
    # numpy
    (np.int64(-3), -3),
    (np.uint8(200), 200),
    (np.float32(0.1), 0.1),
    (np.float64("inf"), None),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.bytes_(b"x"), "x"),
    (np.complex128(1 + 2j), "(1+2j)"),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.datetime64("2026-01-02T03:04:05.5", "ns"), "2026-01-02T03:04:05.5"),
    (np.datetime64("NaT", "s"), None),
    (np.timedelta64(90, "s"), 90),
    (np.timedelta64(1500, "ms"), 1.5),
    (np.timedelta64("NaT", "s"), None),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array([1.5, math.nan]), [1.5, None]),
    (np.array(["2026-01-02"], "datetime64[ns]"), ["2026-01-02T00:00:00"]),
    (np.array(7), 7),
    (np.array([(1, "a")], dtype=[("n", int), ("t", "U1")]), [{"n": 1, "t": "a"}]),
    (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    # pandas
    (pd.Timestamp("2026-01-02 03:04:05", tz="UTC"), "2026-01-02T03:04:05+00:00"),
    (pd.NaT, None),
    (pd.NA, None),
    (pd.Timedelta(minutes=2), 120),
    (pd.Period("2026-01", "M"), "2026-01"),
    (pd.Interval(0, 1), "(0, 1]"),
    (pd.Series([1, 2]), [1, 2]),
    (pd.Series([1.0, None]), [1.0, None]),
    (pd.Series([1, 2], index=["a", "b"]), {"a": 1, "b": 2}),
    (pd.Series([1, 2], index=["a", "a"]), {"a": 1, "a (2)": 2}),
    (pd.Series([pd.Timestamp("2026-01-02"), pd.NaT]), ["2026-01-02T00:00:00", None]),
    (pd.Index(["x", "y"]), ["x", "y"]),
    (pd.Categorical(["x", "y", "x"]), ["x", "y", "x"]),
    (pd.array([1, None], dtype="Int64"), [1, None]),
    (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), [{"a": 1, "a (2)": 2}]),
    # polars
    (pl.Series([1, None]), [1, None]),
    (pl.DataFrame({"a": [1], "d": [date(2026, 1, 2)]}), [{"a": 1, "d": "2026-01-02"}]),
    # pydantic
    (
        Address(city="Ulm", since=date(2026, 1, 2)),
        {"city": "Ulm", "since": "2026-01-02", "password": MASK, "pin": "**********"},
    ),
    (Loose(rate=np.int64(3)), {"rate": 3, "pin": "<pydantic.types.SecretStr>"}),
    (pydantic.SecretStr("hush"), "<pydantic.types.SecretStr>"),
    (pydantic.HttpUrl("https://a.example/x"), "https://a.example/x"),
    # attrs, msgspec, dataclasses
    (Line("a-1", Decimal("9.90")), {"sku": "a-1", "price": "9.90"}),
    (Order(7), {"orderId": 7, "paidAt": None}),
    (Half(1), {"good": 1, "bad": "<unreadable>"}),
    (Login("ada", "hush"), {"user": "ada", "password": MASK}),
    (Pair(1, (2,)), {"left": 1, "right": [2]}),
    # web frameworks
    (lazystr("Hello"), "Hello"),
    (MultiValueDict({"a": ["1", "2"], "b": ["3"]}), {"a": ["1", "2"], "b": "3"}),
    (MultiDict([("a", "1"), ("a", "2"), ("b", "3")]), {"a": ["1", "2"], "b": "3"}),
    (CIMultiDict([("A", "1")]), {"A": "1"}),
    (WerkzeugMultiDict([("a", "1"), ("a", "2")]), {"a": ["1", "2"]}),
    (
        Headers(raw=[(b"x", b"1"), (b"x", b"2"), (b"cookie", b"hush")]),
        {"x": ["1", "2"], "cookie": MASK},
    ),
    (QueryParams("a=1&a=2"), {"a": ["1", "2"]}),
    (markupsafe.Markup("<b>x</b>"), "<b>x</b>"),
    (Secret("hush"), "<starlette.datastructures.Secret>"),
    (URL("https://u:hush@a.example/"), f"https://{MASK}@a.example/"),
    (yarl.URL("https://a.example/x"), "https://a.example/x"),
    (httpx.URL("https://a.example/x"), "https://a.example/x"),
    (
        SimpleLazyObject(lambda: pytest.fail("it was looked up")),
        "<django.utils.functional.SimpleLazyObject>",
    ),
    (LocalProxy(lambda: pytest.fail("it was looked up")), "<werkzeug.local.LocalProxy>"),
    # others
    (bson.ObjectId("0123456789ab0123456789ab"), "0123456789ab0123456789ab"),
    (pendulum.datetime(2026, 1, 2), "2026-01-02T00:00:00+00:00"),
    (pendulum.duration(minutes=3), 180),
    (ROW, {"a": 1, "b": 2}),
    # the standard library
    (timedelta(seconds=90), 90),
    (timedelta(milliseconds=-1), -0.001),
    (ipaddress.ip_address("2001:db8::1"), "2001:db8::1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (ZoneInfo("UTC"), "UTC"),
    (Fraction(1, 4), 0.25),
    (Decimal("NaN"), None),
    (UserString("x"), "x"),
    (UserList([1]), [1]),
    (SimpleNamespace(a=1), {"a": 1}),
    (ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ({"b": 1, "a": 2}.keys(), ["b", "a"]),
    ({"b": 1, "a": 2}.values(), [1, 2]),
    ({10, 9, 1}, [1, 9, 10]),
    (memoryview(b"x"), "x"),
    (array("i", [1, 2]), [1, 2]),
    (HTTPStatus.OK, 200),
    (LookupError("hush"), "<builtins.LookupError>"),
]


@pytest.fixture
def written(stub: Stub) -> Iterator[Any]:
    """What arrives of a property of a product event and of a member of an audit payload."""
    with client_of(stub, batch_s=0.0) as client:

        def write(value: object) -> Any:
            client.capture("e", properties={"v": value})
            client.audit.send("a.b", {"v": value})
            assert client.flush(60)
            assert {} == client.counts().lost == client.audit.counts().lost
            product, audit = sorted(list(stub.stored.values())[-2:], key=lambda e: "payload" in e)
            return product["properties"]["v"], json.loads(audit["payload"])["v"]

        yield write


@pytest.mark.parametrize(
    ("value", "expected"), BY_HAND, ids=lambda one: f"{type(one).__module__}.{type(one).__name__}"
)
def test_a_value_of_a_library_arrives_as_a_person_would_write_it(
    written: Any, value: object, expected: object
) -> None:
    product, audit = written(value)

    assert expected == product == audit
    assert json.dumps(expected) == json.dumps(product), "1 is not True, nor 1.0"


# Any of them, anywhere.

TEXT = st.text(max_size=12)
SMALL = st.integers(-(2**31), 2**31 - 1)
MOMENTS = (
    st.dates(date(1971, 1, 1), date(2100, 1, 1)).map(pd.Timestamp).map(pd.Timestamp.to_pydatetime)
)
SCALARS: st.SearchStrategy[tuple[Any, Any]] = st.one_of(
    SMALL.map(lambda n: (n, n)),
    TEXT.filter(str.isprintable).map(lambda t: (t, t)),
    SMALL.map(lambda n: (np.int64(n), n)),
    SMALL.map(lambda n: (np.int32(n), n)),
    st.floats(width=64).map(lambda f: (np.float64(f), f if math.isfinite(f) else None)),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(
        lambda f: (np.float32(f), float(str(np.float32(f))))
    ),
    st.booleans().map(lambda b: (np.bool_(b), b)),
    MOMENTS.map(lambda m: (pd.Timestamp(m), m.isoformat())),
    MOMENTS.map(lambda m: (pendulum.instance(m, tz="UTC"), m.replace(tzinfo=UTC).isoformat())),
    st.integers(-(10**6), 10**6).map(lambda s: (timedelta(seconds=s), s)),
    st.integers(-(10**6), 10**6).map(lambda s: (np.timedelta64(s, "s"), s)),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: (d, str(d))),
    st.uuids().map(lambda u: (u, str(u))),
    st.ip_addresses().map(lambda a: (a, str(a))),
    st.binary(min_size=12, max_size=12).map(lambda b: (bson.ObjectId(b), b.hex())),
    TEXT.filter(str.isprintable).map(lambda t: (markupsafe.Markup(t), t)),
    st.sampled_from([(pd.NaT, None), (pd.NA, None), (Plan.PRO, "pro"), (Size.LARGE, "l")]),
)


def _listed(pairs: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    return [one for one, _ in pairs], [form for _, form in pairs]


ARRAYS: st.SearchStrategy[tuple[Any, Any]] = st.lists(SMALL, max_size=4).flatmap(
    lambda numbers: st.sampled_from(
        [
            (np.array(numbers, dtype="int64"), numbers),
            (pd.Series(numbers, dtype="int64"), numbers),
            (pl.Series(numbers, dtype=pl.Int64), numbers),
            (UserList(numbers), numbers),
            (MultiDict([("k", str(n)) for n in numbers]), _several(numbers)),
        ]
    )
)


def _several(numbers: list[int]) -> dict[str, Any]:
    texts = [str(number) for number in numbers]
    return {"k": texts if len(texts) > 1 else texts[0]} if texts else {}


def _made(pair: tuple[Any, Any]) -> list[tuple[Any, Any]]:
    """Of one value, an object of each library that has one of it as a field."""
    one, form = pair
    return [
        (Line("a", one), {"sku": "a", "price": form}),
        (Order(1, one), {"orderId": 1, "paidAt": form}),
        (Pair(1, one), {"left": 1, "right": form}),
        (Loose(rate=object()), {"rate": "<builtins.object>", "pin": "<pydantic.types.SecretStr>"}),
        (SimpleNamespace(a=one), {"a": form}),
    ]


ANYTHING = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(_listed),
        st.lists(inner, max_size=3).map(lambda ps: (tuple(_listed(ps)[0]), _listed(ps)[1])),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda of: ({k: p[0] for k, p in of.items()}, {k: p[1] for k, p in of.items()})
        ),
        inner.flatmap(lambda pair: st.sampled_from(_made(pair))),
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(several=st.lists(ANYTHING, min_size=1, max_size=6))
def test_values_of_fifteen_libraries_arrive_wherever_they_stand(
    door: Any, several: list[tuple[Any, Any]]
) -> None:
    stub, client = door
    for value, _ in several:
        client.capture("e", properties={"v": value})
    assert client.flush(60)

    arrived = [one["properties"]["v"] for one in list(stub.stored.values())[-len(several) :]]
    assert [form for _, form in several] == arrived
    assert {} == client.counts().lost


@pytest.fixture(scope="module")
def door() -> Iterator[Any]:
    with Stub() as stub, client_of(stub) as client:
        yield stub, client


# Keys.

KEYS = st.one_of(
    TEXT,
    st.sampled_from(["1", "true", "null", "1.5", "2026-01-02", "pro", "1 (int)", "1 (2)"]),
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.floats(-2, 2) | st.just(math.nan),
    st.sampled_from(
        [np.int64(1), np.float64(1.5), np.bool_(True), pd.NaT, pd.Timestamp(2026, 1, 2)]
    ),
    st.dates(date(2026, 1, 1), date(2026, 1, 3)),
    st.sampled_from([b"1", b"pro", Decimal("1.5"), Decimal("1.50"), Fraction(3, 2), Plan.PRO]),
    st.uuids(),
    st.tuples(st.integers(0, 2), st.sampled_from("ab")),
    st.sampled_from([object(), object(), ipaddress.ip_address("10.0.0.1"), timedelta(seconds=1)]),
    st.text(st.characters(categories=["Cs"]), max_size=2),
)


@given(keys=st.lists(KEYS, max_size=12))
def test_no_two_keys_become_one_and_a_key_of_text_keeps_its_name(keys: list[Any]) -> None:
    fields = {key: place for place, key in enumerate(keys)}

    data, _ = encode({"v": fields})
    arrived = json.loads(data, object_pairs_hook=list)[0][1]

    assert list(fields.values()) == [place for _, place in arrived]
    assert len(fields) == len({name for name, _ in arrived})
    readable = {key: place for key, place in fields.items() if _is_readable(key)}
    assert readable.items() <= dict(arrived).items()


def _is_readable(key: object) -> bool:
    return type(key) is str and key == key.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (True, "true"),
        (np.bool_(True), "true"),
        (None, "null"),
        (7, "7"),
        (np.int64(7), "7"),
        (1.5, "1.5"),
        (date(2026, 1, 2), "2026-01-02"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (Plan.PRO, "pro"),
        (Size.LARGE, "l"),
        (b"bytes", "bytes"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (("eu", 2026), "eu, 2026"),
        (markupsafe.Markup("x"), "x"),
        (object(), "<builtins.object>"),
    ],
    ids=lambda value: type(value).__qualname__,
)
@pytest.mark.parametrize("beside", [None, object()], ids=["null", "object"])
def test_a_key_has_one_name_whatever_stands_beside_it(
    key: object, name: str, beside: object
) -> None:
    assert name in json.loads(encode({key: 1, "beside": beside})[0])


def test_a_key_that_is_told_apart_from_a_secret_one_is_masked_as_well(written: Any) -> None:
    product, audit = written({"password": "hush", b"password": "hush", Plan.PRO: "seen"})

    assert {"password": MASK, "password (bytes)": MASK, "pro": "seen"} == product == audit


# Ids.


@pytest.mark.parametrize(
    ("given_id", "text"),
    [
        (np.int64(42), "42"),
        (np.int64(0), "0"),
        (0, "0"),
        (np.float64(42.0), "42"),
        (1.5, "1.5"),
        (Decimal("42"), "42"),
        (Plan.PRO, "pro"),
        (Size.LARGE, "l"),
        (b"user_42", "user_42"),
        (np.str_("user_42"), "user_42"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (bson.ObjectId("0123456789ab0123456789ab"), "0123456789ab0123456789ab"),
        (lazystr("someone"), "someone"),
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (2**70, str(2**70)),
        ("a\ud800", "a\ufffd"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_id_of_any_type_is_its_text_at_every_door(stub: Stub, given_id: Any, text: str) -> None:
    with client_of(stub) as client:
        client.capture("a", distinct_id=given_id)
        client.capture("b", anonymous_id=given_id)
        client.capture("c", distinct_id="u", anonymous_id=given_id)
        client.capture("d", distinct_id=given_id, anonymous_id=text)
        client.identify("u", anonymous_id=given_id)
        client.alias(given_id, distinct_id="u")
        client.set({"plan": "pro"}, distinct_id=given_id)
        with client.context(distinct_id=given_id):
            client.capture("e")
        client.capture("f", distinct_id="u", uuid=given_id)
        assert client.flush(60)

        sent = {one.get("event"): one for one in stub.stored.values()}
        if text.isascii():
            receipt = client.audit.send("a.b", {}, idempotency_key=given_id)
            assert text == receipt.idempotency_key
            client.audit.send_async("queued", {}, idempotency_key=given_id)
            assert client.flush(60)
            [queued] = stub.deliveries[-1].events
            assert text == queued["idempotency_key"]
            [again] = client.audit.send_batch(
                [{"event_name": "a.b", "payload": {}, "idempotency_key": given_id}]
            )
            assert isinstance(again, Receipt)
            assert (text, True) == (again.idempotency_key, again.duplicate)
        assert {} == client.counts().lost == client.audit.counts().lost
    assert [text] * 5 == [sent[name]["distinct_id"] for name in ("a", "b", "d", "$set", "e")]
    assert text == sent["c"]["properties"]["$device_id"]
    assert "$device_id" not in sent["d"]["properties"]
    assert text == sent["$identify"]["properties"]["$anon_distinct_id"]
    assert text == sent["$create_alias"]["properties"]["alias"]
    assert text == sent["f"]["uuid"]


@pytest.mark.parametrize("key", [True, [1], object(), math.nan, "", "a b", "é"])
def test_what_has_no_text_that_a_header_can_carry_is_no_idempotency_key(
    stub: Stub, key: Any
) -> None:
    with client_of(stub) as client:
        with pytest.raises((TypeError, ValueError), match="idempotency_key"):
            client.audit.send("a.b", {}, idempotency_key=key)
        client.audit.send_async("a.b", {}, idempotency_key=key)
        assert client.flush(60)

        assert {LossReason.ENCODE_FAILED: 1} == client.audit.counts().lost
    assert [] == stub.deliveries


def test_meta_and_trail_of_a_context_are_text_whatever_was_put_in(stub: Stub) -> None:
    meta: Any = {"n": np.int64(5), "plan": Plan.PRO, "on": date(2026, 1, 2), "all": [1], 7: True}
    trail: Any = uuid.UUID(int=7)
    with client_of(stub) as client:
        with client.context(meta=meta, trail=trail):
            client.audit.send_async("a.b", {})
        assert client.flush(60)

        assert {} == client.audit.counts().lost
    (event,) = stub.stored.values()
    expected = {"n": "5", "plan": "pro", "on": "2026-01-02", "all": "[1]", "7": "true"}
    assert {**expected, "immutable_trail": str(trail)}.items() <= event["meta"].items()


@pytest.mark.parametrize("nobody", [None, "", b"", math.nan, np.float64("nan"), pd.NaT, pd.NA])
def test_an_id_that_is_missing_in_a_table_is_nobody_s(stub: Stub, nobody: Any) -> None:
    with client_of(stub) as client:
        client.capture("a", distinct_id=nobody)
        client.identify("u", anonymous_id=nobody)  # says nothing new
        client.identify("u", {"plan": "pro"}, anonymous_id=nobody)
        client.capture("b", distinct_id="u", anonymous_id=nobody)
        assert client.flush(60)

        alone, joined, known = stub.stored.values()
        assert client.process_id == alone["distinct_id"]
        assert alone["properties"]["$process_person_profile"] is False
    assert "$anon_distinct_id" not in joined["properties"]
    assert "$device_id" not in known["properties"]


@pytest.mark.parametrize(
    ("door", "said"),
    [
        (lambda c: c.capture(5), "event must be text, not builtins.int"),
        (lambda c: c.capture("e", distinct_id=["hush"]), "distinct_id must be text, a number or a"),
        (lambda c: c.capture("e", distinct_id=True), "UUID, not builtins.bool"),
        (lambda c: c.capture("e", distinct_id=pydantic.SecretStr("hush")), "pydantic.types.Secret"),
        (lambda c: c.capture("e", uuid={"hush": 1}), "uuid must be text"),
        (lambda c: c.capture("e", properties=5), "event: builtins.str, properties: builtins.int"),
        (
            lambda c: c.capture("e", timestamp="hush"),
            "timestamp must be a datetime, not builtins.s",
        ),
        (lambda c: c.identify("u", 5), "properties: builtins.int"),
        (lambda c: c.identify("u", anonymous_id=["hush"]), "anonymous_id must be text"),
        (lambda c: c.alias(["hush"], distinct_id="u"), "alias must be text, a number"),
        (lambda c: c.set(once=5), "once: builtins.int"),
        (lambda c: c.audit.send_async(5, {}), "event_name: builtins.int"),
        (lambda c: c.audit.send_async("a.b", {}, meta=5), "meta: builtins.int"),
    ],
    ids=range(13),
)
def test_the_log_names_field_and_type_of_what_was_let_go_and_never_the_value(
    stub: Stub, caplog: pytest.LogCaptureFixture, door: Any, said: str
) -> None:
    kept: list[Any] = []

    def keep(event: Any) -> Any:
        kept.append(event)
        return event

    with (
        caplog.at_level(logging.WARNING, "indelible"),
        client_of(stub, before_send=keep) as client,
    ):
        door(client)
        client.flush(60)

        assert LossReason.ENCODE_FAILED in {*client.counts().lost, *client.audit.counts().lost}
        assert_balanced(client)
    assert said in caplog.text
    assert "hush" not in caplog.text
    assert [] == kept


# Hostile ones.


class Interrupts(BaseException):
    pass


def _hostile(error: type[BaseException]) -> list[Any]:
    """Values that raise it from each thing that a look at them might call."""

    def fail(*_: object, **__: object) -> Any:
        raise error("hush")

    doors = ["__index__", "__float__", "__fspath__", "isoformat", "tolist", "model_dump", "as_py"]
    doors += ["__repr__", "__str__", "__iter__", "__bool__", "__eq__", "__len__", "__getattr__"]
    made = [type("Hostile", (), {name: fail, "__hash__": object.__hash__})() for name in doors]
    made.append(type("Hostile", (), {"__class__": property(fail)})())
    for base in (dict, Mapping, UserList):
        names = dict.fromkeys(("keys", "items", "__iter__", "__getitem__", "__len__"), fail)
        made.append(type("Hostile", (base,), names)())
    made.append(type("Hostile", (datetime,), {"isoformat": fail})(2026, 1, 2))
    made.append(datetime(2026, 1, 2, tzinfo=type("Hostile", (tzinfo,), {"utcoffset": fail})()))
    made.append(
        type("Meta", (type,), {"__hash__": fail, "__module__": property(fail)})("X", (), {})()
    )
    return made


@pytest.mark.parametrize("error", [RuntimeError, RecursionError, Interrupts, SystemExit])
def test_a_value_that_raises_when_it_is_looked_at_costs_itself_only(
    stub: Stub, error: type[BaseException]
) -> None:
    hostile = _hostile(error)
    with client_of(stub) as client:
        for value in hostile:
            client.capture("e", properties={"v": value, "deep": [{"v": value}], "n": 1})
            client.audit.send_async("a.b", {"v": value, "n": 1})
        for value in hostile:
            client.capture("key", properties={"v": {value: 1} if _hashes(value) else 1, "n": 1})
        assert client.flush(60)

        assert {} == client.counts().lost == client.audit.counts().lost
        assert 0 == client.counts().failures == client.audit.counts().failures
    assert all(
        1 == (one.get("properties") or json.loads(one["payload"]))["n"]
        for one in stub.stored.values()
    )
    assert "hush" not in json.dumps(list(stub.stored.values()))


def test_a_lazy_object_is_not_woken_at_any_door(stub: Stub) -> None:
    woken = []

    def wake() -> dict[str, str]:
        woken.append(traceback.format_stack())
        return {"name": "Ada"}

    with client_of(stub) as client:
        for lazy in (SimpleLazyObject(wake), LocalProxy(wake), FakeModel(wake)):
            client.audit.send_async("a.b", lazy)
            client.audit.send("a.b", lazy)
            client.audit.send_batch([AuditEvent(event_name="a.b", payload=lazy)])
            client.audit.send_batch([{"event_name": "a.b", "payload": [lazy]}])
            client.capture("e", properties={"v": lazy, "deep": {"v": [lazy]}})
        assert client.flush(60)

        assert {} == client.counts().lost == client.audit.counts().lost
    assert [] == woken
    assert "Ada" not in json.dumps(list(stub.stored.values()))


class FakeModel:
    """Stands for another object, whose class it says is its own."""

    def __init__(self, wake: Any) -> None:
        self._wake = wake

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._wake())


def _hashes(value: object) -> bool:
    try:
        hash(value)
    except BaseException:
        return False
    return True


def test_what_can_be_used_up_is_left_alone(written: Any) -> None:
    numbers = iter([1, 2, 3])
    made = (n for n in [1, 2, 3])

    assert ("<builtins.generator>", "<builtins.list_iterator>") == tuple(
        written([made, numbers])[0]
    )
    assert [1, 2, 3] == list(made) == list(numbers)


def test_what_is_too_wide_or_refers_to_itself_from_everywhere_arrives_cut(stub: Stub) -> None:
    doubled: list[Any] = ["x"]
    for _ in range(MAX_DEPTH):
        doubled = [doubled, doubled]  # 17 million values in 25 lists
    friends: list[dict[str, Any]] = [{"n": n} for n in range(12)]
    for one in friends:
        one["friends"] = list(friends)
    with client_of(stub) as client:
        for wide in (range(10**15), list(range(60_000)), doubled, friends, np.zeros(60_000, "i1")):
            client.capture("wide", properties={"n": 1, "wide": wide})
        assert client.flush(60)

        assert {} == client.counts().lost
    for one in stub.stored.values():
        assert 1 == one["properties"]["n"]
        text = json.dumps(one)
        assert TOO_MANY in text
        assert sum(text.count(sign) for sign in "[{,") <= 50_000
