"""The fold: which ids are one person, by what the log says and nothing else."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.identity.fold import Claim, Decision, Facts, Fold, Merged, Node, Unmerged
from indelible.identity.person import MergeKind, MergeState, Refusal
from tests.identity.worlds import IDS, logs, peaceful, renumbered

IDENTIFY, ALIAS = MergeKind.IDENTIFY, MergeKind.ALIAS


def identify(at: int, anonymous: str, user: str) -> Claim:
    return Claim(at, IDENTIFY, anonymous, user)


def alias(at: int, one: str, other: str) -> Claim:
    return Claim(at, ALIAS, one, other)


def fold(*facts: Claim | Decision, identified: dict[Node, int] | None = None) -> Fold:
    """The fold of these facts; an `$identify` identifies its second id."""
    claims = [fact for fact in facts if isinstance(fact, Claim)]
    known: dict[Node, int] = {}
    for claim in sorted(claims, key=lambda claim: claim.index):
        if claim.kind is IDENTIFY:
            known.setdefault(claim.other, claim.index)
    decisions = [fact for fact in facts if not isinstance(fact, Claim)]
    return Fold(Facts(claims, decisions, known | (identified or {})))


def are_one(found: Fold, *nodes: Node) -> bool:
    return len({id(found.group_of[node]) for node in nodes}) == 1


@given(logs(), st.randoms())
def test_the_order_in_which_facts_are_handed_over_does_not_count(
    facts: Facts, chance: object
) -> None:
    claims, decisions = list(facts.claims), list(facts.decisions)
    chance.shuffle(claims)  # type: ignore[attr-defined]
    chance.shuffle(decisions)  # type: ignore[attr-defined]
    other = Fold(Facts(claims, decisions, facts.identified, reversed(IDS)))
    assert Fold(facts).persons() == other.persons()
    assert Fold(facts).fates == other.fates


@given(peaceful(), st.data())
def test_without_conflicts_any_order_of_the_log_gives_the_same_persons(
    facts: Facts, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(facts.claims))))
    plain = renumbered(facts, list(range(len(facts.claims))))
    shuffled = renumbered(facts, list(order))
    assert Fold(plain).persons() == Fold(shuffled).persons()
    assert not [f for f in Fold(shuffled).fates.values() if f.state is MergeState.REFUSED]


@given(logs(), st.integers(0, 24))
def test_the_persons_at_an_index_are_the_fold_of_what_is_below(facts: Facts, at: int) -> None:
    below = [claim for claim in facts.claims if claim.index < at]
    decided = [decision for decision in facts.decisions if decision.index < at]
    known = {node: first for node, first in facts.identified.items() if first < at}
    assert Fold(Facts(below, decided, known, IDS)).persons() == Fold(facts.below(at)).persons()


@given(logs(decisions=False))
def test_the_fate_of_a_claim_does_not_depend_on_what_comes_after_it(facts: Facts) -> None:
    """Only an unmerge looks back."""
    whole = Fold(facts).fates
    for claim in facts.claims:
        assert whole[claim.index] == Fold(facts.below(claim.index + 1)).fates[claim.index]


@given(logs())
def test_a_refused_claim_changes_nothing(facts: Facts) -> None:
    found = Fold(facts)
    left = [c for c in facts.claims if found.fates[c.index].state is not MergeState.REFUSED]
    # Taking out one that was refused lets later ones be judged by the same persons.
    again = Fold(Facts(left, facts.decisions, facts.identified, IDS))
    assert found.persons() == again.persons()
    assert {c.index: found.fates[c.index] for c in left} == {
        c.index: again.fates[c.index] for c in left
    }


@given(logs(), st.data())
def test_unmerge_after_merge_is_as_if_never_merged(facts: Facts, data: st.DataObject) -> None:
    one, other = data.draw(st.lists(st.sampled_from(IDS), min_size=2, max_size=2, unique=True))
    merge = Merged(100, (one, other))
    undone = Unmerged(101, one, pair=(one, other))
    merged = [*facts.decisions, merge, undone]
    # The edges between the two that the log had before go with it.
    without = Facts(
        [c for c in facts.claims if {c.one, c.other} != {one, other}],
        [d for d in facts.decisions if not isinstance(d, Merged) or set(d.nodes) != {one, other}],
        facts.identified,
        IDS,
    )
    found = Fold(Facts(facts.claims, merged, facts.identified, IDS))
    assert Fold(without).persons() == found.persons()


@given(logs(), st.sampled_from(IDS))
def test_a_person_taken_apart_whole_is_as_many_persons_as_ids(facts: Facts, who: str) -> None:
    before = Fold(facts)
    after = Fold(Facts(facts.claims, [*facts.decisions, Unmerged(99, who)], facts.identified, IDS))
    wanted = [p for p in before.persons() if who not in p]
    wanted += [[node] for node in before.group_of[who].nodes]
    assert sorted(wanted) == after.persons()


@given(logs(), st.sampled_from(IDS), st.lists(st.sampled_from(IDS), min_size=1, unique=True))
def test_who_stays_when_ids_are_taken_out_stays_one(facts: Facts, who: str, out: list[str]) -> None:
    before = Fold(facts)
    unmerge = Unmerged(99, who, taken_out=tuple(out))
    after = Fold(Facts(facts.claims, [*facts.decisions, unmerge], facts.identified, IDS))
    person = before.group_of[who].nodes
    staying = sorted(node for node in person if node not in out)  # type: ignore[type-var]
    if staying:
        assert staying in after.persons()
    for node in after.persons():
        assert set(node) <= set(person) - set(out) or not set(node) & (set(person) - set(out))
    others = [p for p in before.persons() if who not in p]
    assert all(p in after.persons() for p in others)


@given(logs(), logs(decisions=False), st.sampled_from(IDS))
def test_what_was_taken_apart_is_never_joined_by_claims(
    facts: Facts, later: Facts, who: str
) -> None:
    before = Fold(facts)
    parted = before.group_of[who].nodes
    claims = [replace(claim, index=claim.index + 100) for claim in later.claims]
    known = {node: at + 100 for node, at in later.identified.items()} | dict(facts.identified)
    found = Fold(Facts([*facts.claims, *claims], [*facts.decisions, Unmerged(99, who)], known, IDS))
    for one, other in itertools.combinations(parted, 2):
        assert not are_one(found, one, other)


def test_an_explicit_merge_joins_again_what_was_taken_apart() -> None:
    apart: list[Claim | Decision] = [identify(0, "a", "u"), Unmerged(1, "u"), identify(2, "a", "u")]
    assert Refusal.TAKEN_APART is fold(*apart).fates[2].reason
    assert are_one(fold(*apart, Merged(3, ("a", "u"))), "a", "u")


def test_ids_stay_apart_after_what_joined_them_is_erased() -> None:
    left: list[Claim | Decision] = [Unmerged(1, "u", apart=("u", "a")), identify(2, "a", "u")]
    assert not are_one(fold(*left), "a", "u")
    left = [Unmerged(1, "u", apart=("u", "a"), taken_out=("a",)), identify(2, "a", "u")]
    assert not are_one(fold(*left), "a", "u")


def test_an_anonymous_id_of_an_identified_person_is_not_given_to_another() -> None:
    found = fold(identify(0, "a", "u"), identify(1, "a", "v"))
    assert [["a", "u"], ["v"]] == found.persons()
    assert Refusal.OTHER_PERSON is found.fates[1].reason


def test_an_alias_that_is_identified_stays_what_it_is() -> None:
    found = fold(alias(1, "u", "x"), identified={"u": 0})
    assert [["u"], ["x"]] == found.persons()
    assert Refusal.ALIAS_IDENTIFIED is found.fates[1].reason


def test_undoing_a_merge_lets_what_was_refused_because_of_it_be_accepted() -> None:
    found = fold(identify(0, "a", "u"), identify(1, "a", "v"), Unmerged(2, "u", pair=("a", "u")))
    assert [["a", "v"], ["u"]] == found.persons()
    assert (MergeState.VOID, None, 2) == found.fates[0]


def test_undoing_a_merge_undoes_its_repetitions() -> None:
    again = [identify(at, "a", "u") for at in range(5)]
    assert [["a"], ["u"]] == fold(*again, Unmerged(5, "u", pair=("a", "u"))).persons()


def test_cycles_of_aliases_end() -> None:
    found = fold(*(alias(at, IDS[at], IDS[(at + 1) % len(IDS)]) for at in range(len(IDS))))
    assert [list(IDS)] == found.persons()
    assert MergeState.REPEATED is found.fates[len(IDS) - 1].state


@pytest.mark.parametrize("star", [True, False])
@pytest.mark.parametrize("many", [10_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_any_number_of_ids_become_one_person_and_are_taken_apart_again(
    many: int, star: bool
) -> None:
    """Nothing is recursive, and nothing is done for each pair."""
    claims = [Claim(at, ALIAS, at, 0 if star else at - 1) for at in range(1, many)]
    whole = Fold(Facts(claims))
    assert [many] == [len(group.nodes) for group in whole.groups()]
    parted = Fold(Facts(claims, [Unmerged(many, 0)]))
    assert many == len(parted.groups())
    out = tuple(range(1, 1_001))
    some = Fold(Facts(claims, [Unmerged(many, 0, taken_out=out)]))
    assert many - 1_000 == len(some.group_of[0].nodes)
