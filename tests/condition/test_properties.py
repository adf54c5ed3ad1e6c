"""Any condition, any facts: both forms read back, and the evaluator obeys logic."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from indelible import condition as c
from tests.condition.some import CONDITIONS, FACTS, TESTS, is_true

COHORTS = st.frozensets(st.sampled_from(["", "a", "ab"]))


@given(CONDITIONS)
def test_a_condition_is_read_back_from_its_text(condition: c.Condition) -> None:
    assert condition == c.parse(c.text(condition))
    assert condition == c.read(c.text(condition))


@given(CONDITIONS)
def test_a_condition_is_read_back_from_its_json(condition: c.Condition) -> None:
    assert condition == c.from_json(c.to_json(condition))
    assert condition == c.read(c.to_json(condition))


@given(CONDITIONS, FACTS, COHORTS)
def test_the_evaluator_agrees_with_a_naive_one(
    condition: c.Condition, facts: dict[str, Any], cohorts: frozenset[str]
) -> None:
    assert is_true(condition, facts, cohorts) is c.matches(condition, facts, cohorts)


@given(TESTS, FACTS, st.data())
def test_a_test_agrees_with_a_naive_one_where_its_fact_is_there(
    test: c.Test | c.InCohort, facts: dict[str, Any], data: st.DataObject
) -> None:
    if isinstance(test, c.Test) and test.path[0] == "properties":
        values = test.value if isinstance(test.value, tuple) else (test.value,)
        held: Any = data.draw(st.sampled_from([*values, 1, 1.0, True, "1", None, [], {}, 2**53]))
        held = held if not isinstance(held, c.Moment) else "2026-01-31T00:00:00.000Z"
        for name in reversed(test.path[1:]):
            held = {name: held}
        facts = {**facts, "properties": held}
    assert is_true(test, facts, frozenset()) is c.matches(test, facts)


@given(CONDITIONS, CONDITIONS, FACTS)
def test_the_laws_of_logic_hold(
    one: c.Condition, other: c.Condition, facts: dict[str, Any]
) -> None:
    def holds(condition: c.Condition) -> bool:
        return c.matches(condition, facts)

    assert holds(c.Not(c.All((one, other)))) is holds(c.Any((c.Not(one), c.Not(other))))
    assert holds(c.Not(c.Any((one, other)))) is holds(c.All((c.Not(one), c.Not(other))))
    assert holds(c.Not(c.Not(one))) is holds(one)
    assert holds(c.Any((one, c.Not(one))))
    assert not holds(c.All((one, c.Not(one))))


@given(CONDITIONS)
def test_the_leaves_of_a_condition_name_its_facts(condition: c.Condition) -> None:
    paths = {test.path[0] for test in c.leaves(condition) if isinstance(test, c.Test)}
    assert paths == c.roots(condition) <= c.FACTS.keys()


@given(st.text() | st.text("()and or not'\"=!<>.,0123456789aep \n\\", max_size=40))
def test_whatever_is_typed_is_read_or_refused_at_a_place_in_it(source: str) -> None:
    error = refusal(source)
    if error is None:
        assert c.read(source) == c.parse(c.text(c.read(source)))
    else:
        assert error.position is None or 0 <= error.position <= len(source)


def refusal(source: str) -> c.InvalidCondition | None:
    try:
        c.read(source)
    except c.InvalidCondition as error:
        return error
    return None
