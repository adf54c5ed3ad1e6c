"""A contract marks what does not fit, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import InvalidParameter
from indelible.quality.contract import (
    MAX_BYTES,
    Contract,
    PropertyRule,
    misfits,
    usable,
)
from indelible.quality.walk import walk

CONTRACT = Contract(
    {
        "plan": PropertyRule(type="text", required=True, values=["free", "pro"]),
        "amount": PropertyRule(type=["number", "text"]),
        "at": PropertyRule(type="time"),
        "cart.items[].sku": PropertyRule(type="number"),
        "ok": PropertyRule(values=[True]),
    },
    extra=False,
)


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"plan": "pro", "$lib": "web"}, []),
        ({"plan": "pro", "amount": None, "at": None, "ok": None}, []),
        ({"plan": "pro", "amount": "1", "at": "2026-11-30", "ok": True}, []),
        ({}, ["required plan"]),
        ({"plan": None}, ["required plan"]),
        ({"plan": 1}, ["type plan"]),
        ({"plan": "Pro"}, ["values plan"]),
        ({"plan": "pro", "amount": True}, ["type amount"]),
        ({"plan": "pro", "at": "tomorrow"}, ["type at"]),
        ({"plan": "pro", "ok": 1}, ["values ok"]),
        ({"plan": "pro", "cart": {"items": [{"sku": 1}, {"sku": "2"}]}}, ["type cart.items[].sku"]),
        ({"plan": "pro", "coupon": 1, "x": {"y": {"z": 2}}}, ["extra coupon", "extra x"]),
        ({"coupon": 1}, ["required plan", "extra coupon"]),
    ],
)
def test_each_rule_that_an_event_does_not_fit_is_named(
    event: dict[str, object], found: list[str]
) -> None:
    assert found == [f"{rule} {name}" for rule, name in misfits(CONTRACT, walk(event))]


def test_an_event_that_is_not_seen_whole_is_not_judged() -> None:
    assert [] == misfits(CONTRACT, walk({"x": list(range(5)), **{f"k{n}": n for n in range(900)}}))


@pytest.mark.parametrize(
    "path", ["a b", "a.", ".a", "a..b", "a[0]", '"a', "a.b.c.d.e", "a[][][][]"]
)
def test_a_path_that_no_property_can_have_is_refused(path: str) -> None:
    with pytest.raises(InvalidParameter):
        usable(Contract({path: PropertyRule()}))


@pytest.mark.parametrize(
    ("path", "written"),
    [
        *((same, same) for same in ("a", "$set.email", "a[].b", "a[][]", "payload.id", "a-b")),
        ('"a b"."c.d"', '"a b"."c.d"'),
        ('"a"."b"[]', "a.b[]"),
        ('"a\\u0000"', '"a\\u0000"'),
        ('"jane@example.com"', '"{a***@***}"'),
        ('"{a***@***}".x', '"{a***@***}".x'),
    ],
)
def test_a_path_that_a_property_can_have_is_taken_as_the_schema_writes_it(
    path: str, written: str
) -> None:
    contract = usable(Contract({path: PropertyRule()}))
    assert [written] == list(contract.properties)
    assert contract == usable(contract)


@given(st.dictionaries(st.text(max_size=6), st.dictionaries(st.text(max_size=6), st.just(1))))
def test_each_path_that_the_schema_shows_can_be_named(event: dict[str, dict[str, int]]) -> None:
    for path in walk(event).paths:
        assert [path] == list(usable(Contract({path: PropertyRule()})).properties)


def test_a_contract_has_a_largest_size() -> None:
    rules = {f"p{n}": PropertyRule(values=["v" * 200]) for n in range(MAX_BYTES // 200)}
    with pytest.raises(InvalidParameter):
        usable(Contract(rules))
