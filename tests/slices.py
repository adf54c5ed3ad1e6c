"""A part of the slow tests that fits into eight minutes, another one for each commit.

    python -m pytest -p tests.slices -m slow --slice-of "$(git rev-parse HEAD)"

A slow test says how long it takes, ``@pytest.mark.slow(minutes=3)``, rounded up for a busy machine;
a minute where it says nothing. The tests form a ring. The commit's hash says where in the ring its
slice begins, and the slice ends when the next test no longer fits, so every test belongs to the
slices of some commits and each slice can be run again.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import pytest

SLICE_MINUTES: Final = 8.0


def slice_of(minutes: Mapping[str, float], commit: str, *, limit: float) -> list[str]:
    """The tests that `commit` runs, in the ring's order; `minutes` is the cost of each by its id.

    There is at least one, and together they cost at most `limit` unless that one alone costs more.
    """
    ring = sorted(minutes)
    begin = int.from_bytes(hashlib.sha256(commit.encode()).digest(), "big") % len(ring)
    chosen: list[str] = []
    left = limit
    for test in ring[begin:] + ring[:begin]:
        left -= minutes[test]
        if chosen and left < 0:
            break
        chosen.append(test)
    return chosen


def minutes_of(item: pytest.Item) -> float:
    """How long a slow test says that it takes."""
    mark = item.get_closest_marker("slow")
    return 0.0 if mark is None else float(mark.kwargs.get("minutes", 1))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slice-of", metavar="COMMIT", help="run only the slice of this commit")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    commit = config.getoption("--slice-of")
    if not commit or not items:
        return
    costs = {item.nodeid: minutes_of(item) for item in items}
    chosen = set(slice_of(costs, commit, limit=SLICE_MINUTES))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]
