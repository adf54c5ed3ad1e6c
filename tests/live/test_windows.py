"""The figures of one project's last half hour: exact whatever order events come in."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.live import active, windows
from indelible.live.budget import Budget
from indelible.live.facts import MOST_PATH_CHARS, Stretch, path_of_url
from indelible.live.windows import ACTIVE_MS, MINUTE_MS, MINUTES, TICK_MS, WINDOW_MS, Windows

START = 1_800_000_000_000 // TICK_MS

events = st.tuples(
    st.integers(0, 4_000),  # ticks since the start: a little more than the window
    st.sampled_from("abcdefghijklmn"),
    st.sampled_from(["", "/", "/a", "/b", "/c"]),
    st.sampled_from("uvwxyz"),
)


def stretch(tick: int, name: str, page: str, distinct_id: str) -> Stretch:
    return Stretch(START + tick, 1, [name], [distinct_id], [page] if page else [])


def naive(told: list[tuple[int, str, str, str]], as_of: int) -> tuple[Any, ...]:
    """The same by looking at every event; `as_of` in ticks since the start."""
    window = [each for each in told if as_of - WINDOW_MS // TICK_MS <= each[0] < as_of]
    ids = {each[3] for each in told if as_of - ACTIVE_MS // TICK_MS <= each[0] < as_of}
    running = (START + as_of) * TICK_MS // MINUTE_MS
    minutes = Counter((START + each[0]) * TICK_MS // MINUTE_MS for each in told if each[0] < as_of)

    def top(names: list[str]) -> list[tuple[str, int]]:
        return sorted(Counter(names).items(), key=lambda each: (-each[1], each[0]))[:10]

    return (
        [(each * MINUTE_MS, minutes[each]) for each in range(running - MINUTES + 1, running + 1)],
        top([each[1] for each in window]),
        top([each[2] for each in window if each[2]]),
        len(ids),
        ids,
    )


@settings(max_examples=60)
@given(st.lists(st.one_of(events, st.integers(0, 4_200)), max_size=60))
def test_the_figures_are_those_of_a_naive_count_whatever_comes_late(steps: list[Any]) -> None:
    budget = Budget()
    one, told, as_of = Windows(budget), [], 0
    for step in steps:
        if isinstance(step, int):
            one.settle((START + step) * TICK_MS)
            as_of = max(as_of, step)
        else:
            one.take(stretch(*step))
            told.append(step)
        if as_of == 0:
            continue
        found = one.figures()
        assert (START + as_of) * TICK_MS == found.as_of_ms
        minutes, names, pages, ids, texts = naive(told, as_of)
        assert minutes == found.minutes
        assert names == [(each.name, each.count) for each in found.names]
        assert pages == [(each.name, each.count) for each in found.pages]
        assert ids == found.ids
        assert texts == set(found.id_texts or ())
        assert (0, 0, 0) == found.unlisted

    one.clear()
    assert Budget() == budget


def test_what_leaves_the_window_gives_its_room_back() -> None:
    budget = Budget()
    one = Windows(budget)
    for tick in range(20_000):
        one.take(stretch(tick, f"name-{tick}", f"/{tick}", f"user-{tick}"))
        one.settle((START + tick) * TICK_MS)
    one.settle((START + 20_000 + WINDOW_MS // TICK_MS) * TICK_MS)

    assert Budget() == budget
    assert [] == one.figures().names


def test_a_flood_of_different_names_is_bounded_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST_NAMES", 100)
    monkeypatch.setattr(active, "MOST_TEXTS", 50)
    one = Windows(Budget(ids=80))
    for number in range(1_000):
        one.take(stretch(number % 7, f"{number:0200}", f"/{number}", f"user-{number}"))
    one.settle((START + 7) * TICK_MS)

    found = one.figures()
    assert 1_000 == sum(count for _, count in found.minutes)
    assert (900, 900, 920) == found.unlisted
    assert 80 == found.ids
    assert found.id_texts is None


def test_a_pathname_that_is_too_long_is_not_listed() -> None:
    one = Windows(Budget())
    one.take(stretch(0, "a", "/" * (MOST_PATH_CHARS + 1), "u"))
    one.take(stretch(0, "a", "/" * MOST_PATH_CHARS, "u"))
    one.settle((START + 1) * TICK_MS)

    assert [1] == [each.count for each in one.figures().pages]
    assert 1 == one.figures().unlisted.pages


def test_a_moment_that_is_settled_has_the_same_figures_whoever_asks_again() -> None:
    one = Windows(Budget())
    one.take(stretch(0, "a", "", "u"))
    one.settle((START + 1) * TICK_MS)
    before = one.figures()
    one.settle(START * TICK_MS)

    assert before is one.figures()
    assert 0 == before.late
    one.take(stretch(0, "b", "", "u"))
    assert 1 == one.figures().late


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://shop.example/", "/"),
        ("https://shop.example", "/"),
        ("https://shop.example#/route", "/"),
        ("https://shop.example/a/?b=/c#d", "/a/"),
        ("http://[::1]:8000/a", "/a"),
        ("/a?u=https://other.example/b", "/a"),
        ("a?u=https://other.example/b", ""),
        ("https://[broken/a", "/a"),
        ("about:blank", ""),
        ("", ""),
    ],
)
def test_the_path_of_an_address(url: str, path: str) -> None:
    assert path == path_of_url(url)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.sets(st.integers(0, 30), max_size=12))))
def test_ids_are_counted_exactly_whether_they_are_few_or_many(
    monkeypatch_once: None, steps: list[tuple[int, set[int]]]
) -> None:
    budget = Budget()
    ids, told, first, now = active.ActiveIds(budget), list[tuple[int, str]](), 0, 1
    for ahead, some in steps:
        now += ahead // 10
        tick = max(1, now - ahead % 3, first)
        named = {f"user-{number}" for number in some}
        ids.add(tick, named)
        told += [(tick, name) for name in named]
        first = max(first, now - 10)
        ids.leave(first)
        there = {name for tick, name in told if tick >= first}

        assert len(there) == ids.count()
        assert ids.texts() is None or there == set(ids.texts() or ())
        if len(there) > active.MOST_TEXTS:
            assert ids.texts() is None
    ids.leave(now + 100)
    assert [] == ids.texts()
    assert Budget() == budget


@pytest.fixture(scope="module")
def monkeypatch_once() -> Any:
    """Few texts, for all examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active, "MOST_TEXTS", 8)
        yield
