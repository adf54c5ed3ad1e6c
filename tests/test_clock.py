"""When the wall clock is trusted: it runs as time passes, and has done so for an hour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.clock import JUMP_MS, SETTLED_AFTER_S, Steadiness

START_MS = 1_767_225_600_000


class Clocks:
    """A wall clock, and the time that really passes."""

    def __init__(self) -> None:
        self.passed_s = 1_000.0
        self.off_ms = 0
        self.steadiness = Steadiness(self.wall, passed=lambda: self.passed_s)

    def wall(self) -> int:
        return START_MS + round(self.passed_s * 1000) + self.off_ms

    def run(self, seconds: float) -> None:
        self.passed_s += seconds
        self.steadiness.look()

    def step(self, by_ms: int) -> None:
        self.off_ms += by_ms
        self.steadiness.look()


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_a_clock_that_runs_as_time_passes_is_never_in_doubt(pauses: list[float]) -> None:
    clocks = Clocks()
    for pause_s in pauses:
        clocks.run(pause_s)
        assert clocks.steadiness.in_doubt() is None
    assert clocks.steadiness.last_jump is None


@pytest.mark.parametrize("by_ms", [JUMP_MS, -JUMP_MS, 40 * 86_400_000, -40 * 86_400_000])
def test_a_jump_is_doubted_for_an_hour_and_said_once(
    by_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    clocks = Clocks()
    clocks.run(10)
    clocks.step(by_ms)

    clocks.run(SETTLED_AFTER_S - 1)
    doubt = clocks.steadiness.in_doubt()
    assert doubt is not None
    assert f"jumped by {by_ms / 1000:+,.0f} s" in doubt
    clocks.run(1)
    assert clocks.steadiness.in_doubt() is None
    assert 1 == caplog.text.count("jumped")
    assert clocks.steadiness.last_jump is not None
    assert by_ms == clocks.steadiness.last_jump.by_ms


def test_each_jump_begins_the_hour_again_also_the_one_back() -> None:
    clocks = Clocks()
    clocks.step(86_400_000)
    clocks.run(SETTLED_AFTER_S - 1)
    clocks.step(-86_400_000)
    clocks.run(SETTLED_AFTER_S - 1)
    assert clocks.steadiness.in_doubt() is not None


def test_a_clock_that_is_put_right_bit_by_bit_has_not_jumped() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.run(1)
        clocks.step(JUMP_MS - 1)
    assert clocks.steadiness.in_doubt() is None
