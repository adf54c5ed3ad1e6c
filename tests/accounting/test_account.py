"""Accounts as values: they balance, and no order of facts makes a difference."""

from collections import Counter
from collections.abc import Sequence
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.accounting.account import MAX_GAPS, Account, account_of, merge
from indelible.event import MAX_COUNT

numbers = st.integers(0, 30) | st.integers(0, MAX_COUNT)
pieces = st.builds(
    lambda stored, lost, a, b, announced: account_of(
        stored, lost, first_seen_ms=min(a, b), last_seen_ms=max(a, b), announced=announced
    ),
    st.sets(numbers, max_size=12),
    st.dictionaries(st.sampled_from(["exit", "expired", "other"]), st.integers(1, 9)),
    st.integers(0, 2**48),
    st.integers(0, 2**48),
    st.integers(0, 40),
)


def numbered(*stored: int, **lost: int) -> Account:
    return account_of(set(stored), lost, first_seen_ms=1, last_seen_ms=1)


def numbers_of(account: Account) -> set[int]:
    return {n for start, end in account.runs for n in range(start, end)}


def in_any_order(parts: Sequence[Account]) -> st.SearchStrategy[list[Account]]:
    return st.permutations(parts)


@given(st.lists(pieces, min_size=1, max_size=8), st.data())
def test_the_order_in_which_facts_arrive_makes_no_difference(
    parts: list[Account], data: st.DataObject
) -> None:
    shuffled = data.draw(in_any_order(parts))
    cut = data.draw(st.integers(0, len(shuffled) - 1))

    whole = reduce(merge, parts)

    assert whole == reduce(merge, shuffled)
    if cut:
        assert whole == merge(reduce(merge, shuffled[:cut]), reduce(merge, shuffled[cut:]))


@given(st.lists(pieces, min_size=1, max_size=8))
def test_an_account_says_what_its_parts_say(parts: list[Account]) -> None:
    whole = reduce(merge, parts)
    stored = set().union(*map(numbers_of, parts))
    lost: Counter[str] = sum((Counter(part.lost) for part in parts), Counter())

    assert stored == numbers_of(whole)
    assert len(stored) == whole.stored
    assert dict(lost) == whole.lost
    assert max(part.announced for part in parts) == whole.announced <= whole.captured
    assert min(part.first_seen_ms for part in parts) == whole.first_seen_ms
    assert max(part.last_seen_ms for part in parts) == whole.last_seen_ms


@given(pieces)
def test_an_account_balances_and_its_gaps_are_what_is_not_stored(account: Account) -> None:
    highest = max(numbers_of(account), default=-1)

    assert account.captured == account.stored + account.lost_in_all + account.missing
    assert account.missing >= 0
    assert account.captured >= highest + 1
    in_gaps = sum(end - start for start, end in account.gaps())
    assert highest + 1 == account.stored + in_gaps
    for start, end in account.gaps():
        assert start < end
        assert not numbers_of(account) & {start, end - 1}


def test_what_was_lost_behind_the_last_stored_event_was_captured_too() -> None:
    account = numbered(0, 1, exit=3)

    assert (5, 2, 3, 0) == (
        account.captured,
        account.stored,
        account.lost_in_all,
        account.missing,
    )


def test_a_process_that_only_lost_has_an_account() -> None:
    account = numbered(disabled=4)

    assert (4, 0, 0, []) == (account.captured, account.stored, account.missing, account.gaps())


def test_the_thousand_newest_gaps_are_kept_and_the_count_stays_exact() -> None:
    stored = range(0, 2 * (MAX_GAPS + 5), 2)  # 1,004 gaps between them
    account = numbered(*stored)

    assert MAX_GAPS == len(account.gaps())
    assert (len(stored), len(stored) - 1) == (account.stored, account.missing)
    assert account.gaps()[-1] == (stored[-2] + 1, stored[-1])
    assert account.floor == account.gaps()[0][0] - 1 > 0

    closed = merge(account, numbered(*range(1, 2 * (MAX_GAPS + 5), 2)))
    assert (closed.captured, 0, []) == (closed.stored, closed.missing, closed.gaps())


@settings(max_examples=20)
@given(st.permutations(range(8)))
def test_counts_of_an_account_with_too_many_gaps_do_not_depend_on_the_order(
    order: list[int],
) -> None:
    parts = [numbered(*range(part, 6 * MAX_GAPS, 16), exit=part + 1) for part in range(8)]

    whole = reduce(merge, [parts[place] for place in order])

    stored = sum(1 for n in range(6 * MAX_GAPS) if n % 16 < 8)
    assert stored == whole.stored
    assert max(part.runs[-1][1] for part in parts) - stored - 36 == whole.missing
    assert len(whole.gaps()) <= MAX_GAPS


def test_a_sum_never_outgrows_what_a_column_holds() -> None:
    account = merge(numbered(exit=MAX_COUNT), numbered(exit=MAX_COUNT))

    assert {"exit": MAX_COUNT} == account.lost
    assert account.captured < 2**63
