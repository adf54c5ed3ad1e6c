"""Whose turn it is: nobody waits for all that another has brought."""

from hypothesis import given
from hypothesis import strategies as st

from indelible.journal.fair import QUANTUM, FairQueue

COSTS = st.integers(0, 5 * QUANTUM)
ITEMS = st.lists(st.tuples(st.sampled_from("abcd"), COSTS), max_size=60)
ENOUGH = st.integers(1, 10 * QUANTUM)

Item = tuple[str, int, int]


def filled(items: list[tuple[str, int]]) -> FairQueue[Item]:
    fair: FairQueue[Item] = FairQueue()
    for number, (source, cost) in enumerate(items):
        fair.put(source, cost, (source, cost, number))
    return fair


def emptied(fair: FairQueue[Item], enough: int) -> list[list[Item]]:
    groups = []
    while fair:
        groups.append(fair.take(enough))
    return groups


@given(ITEMS, ENOUGH)
def test_each_item_comes_once_and_in_the_order_of_its_source(
    items: list[tuple[str, int]], enough: int
) -> None:
    came = [item for group in emptied(filled(items), enough) for item in group]

    for source in "abcd":
        mine = [(source, cost, n) for n, (name, cost) in enumerate(items) if name == source]
        assert mine == [item for item in came if item[0] == source]
    assert len(items) == len(came)


@given(ITEMS, ENOUGH)
def test_a_group_has_enough_and_no_more_than_its_last_item_brings(
    items: list[tuple[str, int]], enough: int
) -> None:
    *whole, last = emptied(filled(items), enough) or [[]]

    for group in whole:
        assert enough <= sum(cost for _, cost, _ in group)
    for group in [*whole, last]:
        assert sum(cost for _, cost, _ in group[:-1]) < enough


@given(ITEMS, st.integers(0, QUANTUM))
def test_a_source_with_little_to_give_waits_for_one_turn_of_each_other(
    items: list[tuple[str, int]], cost: int
) -> None:
    fair = filled(items)
    fair.put("late", cost, ("late", cost, -1))
    came = [item for group in emptied(fair, 1) for item in group]
    before = came[: came.index(("late", cost, -1))]

    for source in "abcd":
        assert sum(cost for name, cost, _ in before if name == source) <= QUANTUM


@given(st.integers(1, 30), st.integers(1, 5 * QUANTUM))
def test_many_small_items_and_few_large_ones_get_the_same(rounds: int, large: int) -> None:
    fair = filled([("small", 1)] * 4_000 + [("large", large)] * (4_000 // large + 1))
    came = fair.take(rounds * QUANTUM)
    given_to = {name: sum(cost for n, cost, _ in came if n == name) for name in ("small", "large")}

    assert abs(given_to["small"] - given_to["large"]) <= QUANTUM + large
