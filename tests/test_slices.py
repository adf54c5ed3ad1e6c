"""CI runs another slice of the slow tests for each commit."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.slices import SLICE_MINUTES, slice_of

COSTS = st.dictionaries(
    st.text(min_size=1), st.floats(0.1, SLICE_MINUTES - 0.1), min_size=1, max_size=30
)


@given(COSTS, st.text())
def test_a_slice_is_never_empty_and_fits_into_its_time(
    costs: dict[str, float], commit: str
) -> None:
    chosen = slice_of(costs, commit, limit=SLICE_MINUTES)

    assert chosen
    assert len(set(chosen)) == len(chosen)
    assert sum(costs[test] for test in chosen) <= SLICE_MINUTES + 1e-9


@given(COSTS, st.text())
def test_a_commit_always_has_the_same_slice(costs: dict[str, float], commit: str) -> None:
    backwards = dict(reversed(costs.items()))

    assert slice_of(costs, commit, limit=10) == slice_of(backwards, commit, limit=10)


def test_every_slow_test_belongs_to_the_slices_of_some_commits() -> None:
    costs = {f"test_{number}": 1.0 + number % 9 for number in range(40)}

    covered = {test for commit in range(1_000) for test in slice_of(costs, str(commit), limit=10)}

    assert set(costs) == covered


def test_a_slice_ends_before_the_test_that_no_longer_fits() -> None:
    costs = {"a": 6.0, "b": 5.0, "c": 1.0}
    slices = {tuple(slice_of(costs, str(commit), limit=10)) for commit in range(100)}

    assert {("a",), ("b", "c"), ("c", "a")} == slices


@pytest.mark.parametrize("commit", ["a", "b"])
def test_the_option_runs_the_slice_of_its_commit_and_nothing_else(
    tmp_path: Path, commit: str
) -> None:
    (tmp_path / "test_long.py").write_text(
        "import pytest\n"
        "@pytest.mark.slow(minutes=6)\n"
        "@pytest.mark.parametrize('number', range(5))\n"
        "def test_it(number): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (expected,) = slice_of(
        {f"test_long.py::test_it[{number}]": 6.0 for number in range(5)}, commit, limit=10
    )

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "-p", "tests.slices", "-m", "slow"),
            *("--slice-of", commit, "--rootdir", str(tmp_path), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "1 passed, 4 deselected" in ran.stdout
    assert expected in ran.stdout
