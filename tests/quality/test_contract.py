"""A contract marks what does not fit, and nothing else."""

import pytest

from indelible.errors import InvalidParameter
from indelible.quality.contract import (
    MAX_BYTES,
    Contract,
    PropertyRule,
    misfits,
    refuse_unusable,
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
        refuse_unusable(Contract({path: PropertyRule()}))


@pytest.mark.parametrize("path", ["a", "$set.email", "a[].b", '"a b"."c.d"', "payload.id", "a-b"])
def test_a_path_that_a_property_can_have_is_taken(path: str) -> None:
    refuse_unusable(Contract({path: PropertyRule()}))


def test_a_contract_has_a_largest_size() -> None:
    rules = {f"p{n}": PropertyRule(values=["v" * 200]) for n in range(MAX_BYTES // 200)}
    with pytest.raises(InvalidParameter):
        refuse_unusable(Contract(rules))
