"""A walk along the log is cut into runs that fit, whatever the sizes of its entries."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from indelible.journal.pieces import MEASURED_AT_ONCE, cut, pieces
from tests.journal.contract import a_draft
from tests.journal.rig import SqliteRig

SIZES = st.lists(st.integers(0, 12), max_size=40)


@given(SIZES, st.integers(1, 20))
def test_runs_have_every_entry_once_and_in_order(sizes: list[int], most: int) -> None:
    assert len(sizes) == sum(cut(sizes, most))


@given(SIZES, st.integers(1, 20))
def test_a_run_fits_or_is_one_entry_that_is_too_large_by_itself(
    sizes: list[int], most: int
) -> None:
    at = 0
    for count in cut(sizes, most):
        assert count >= 1
        assert count == 1 or sum(sizes[at : at + count]) <= most
        at += count


@given(SIZES, st.integers(1, 20))
def test_a_run_ends_only_where_the_next_entry_would_not_fit(sizes: list[int], most: int) -> None:
    at = 0
    for count, _ in pairwise(cut(sizes, most)):
        assert sum(sizes[at : at + count + 1]) > most
        at += count


def test_the_pieces_of_a_log_join_and_end_with_it(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    count = MEASURED_AT_ONCE + 20
    for _ in range(2):
        sqlite.journal.append([a_draft(project, payload=b"x" * 100) for _ in range(count // 2)])

    for start, end in ((0, count), (0, 2**40), (7, count - 3), (5, 5), (count, 2**40)):
        runs = list(pieces(sqlite.journal, project, start, end, most_bytes=1_000))
        assert [*range(start, min(end, count))] == [n for run in runs for n in range(*run)]
        assert all(behind - first <= 1_000 // 100 for first, behind in runs)


def test_a_walk_that_reads_no_payloads_is_cut_by_its_records(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append([a_draft(project, payload=b"x" * 5_000, record=b"y" * 100)] * 20)

    runs = pieces(sqlite.journal, project, 0, 20, most_bytes=1_000, with_payloads=False)

    assert [(0, 10), (10, 20)] == list(runs)
