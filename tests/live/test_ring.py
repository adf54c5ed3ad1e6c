"""A ring is the newest entries of a log and what was refused in between, by sequence number."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from indelible.clock import now_ms
from indelible.edge.notice import Notice
from indelible.live.ring import MOST_ENTRIES, Ring, Run, Told
from indelible.live.rings import Rings


def told(count: int = 1, at_ms: int = 0) -> Told:
    return Told(0, count, at_ms, -1, b"{}", "reject")


def entries(ring: Ring, seq: int = 0) -> list[tuple[int, int | None]]:
    """Each entry from `seq` on: its sequence number, and the index of a stored one."""
    found: list[tuple[int, int | None]] = []
    for item in ring.since(seq):
        if isinstance(item, Run):
            found += [(item.seq + n, item.index + n) for n in range(item.count)]
        else:
            found.append((item.seq, None))
    return found


steps = st.one_of(
    st.tuples(st.just("events"), st.integers(1, 700), st.integers(0, 9_000)),
    st.tuples(st.just("told"), st.integers(1, 5), st.integers(0, 9_000)),
)


@given(st.lists(steps, max_size=12))
def test_a_ring_keeps_the_newest_thousand_and_no_number_is_given_twice(taken: list[Any]) -> None:
    ring, model, seq, index = Ring(), list[tuple[int, int | None]](), 0, 0
    for what, count, at_ms in taken:
        if what == "events":
            ring.add_events(index, index + count, at_ms)
            model += [(seq + n, index + n) for n in range(count)]
            index += count
        else:
            ring.tell(told(count, at_ms))
            model.append((seq, None))
        seq += count
    kept = model[-MOST_ENTRIES:]

    assert seq == ring.end
    assert index == ring.next_index
    assert kept == entries(ring)
    assert len(kept) == ring.entries
    for number, (at, of_log) in list(enumerate(kept))[:: max(1, len(kept) // 7)]:
        assert kept[number:] == entries(ring, at)
        assert at == ring.seq_back(len(kept) - number)
        if of_log is not None:
            assert at == ring.seq_of(of_log)
    assert seq == ring.seq_of(index) == ring.seq_back(0)
    while ring.entries:
        ring.forget_oldest()
    assert 0 == ring.size_bytes


def test_all_rings_together_are_bounded_and_the_largest_gives_way() -> None:
    rings = Rings(now_ms, most_bytes=200_000)
    notice = Notice(now_ms(), "/api/e", 2, "missing_event", 1, None, "x" * 2_000)
    rings.add_events(1, 0, 500, now_ms())
    for _ in range(1_000):
        rings.reject(2, notice)

    assert rings.held().size_bytes <= 200_000
    assert 0 == rings.since(1, 0).first
    there = rings.since(2, 0)
    assert 1_000 == there.end
    assert 0 < there.first < there.end


def test_what_is_too_old_is_forgotten() -> None:
    at_ms = 0
    rings = Rings(lambda: at_ms)
    rings.reject(1, Notice(0, "/api/e", 1, "missing_event", 1, None, ""))
    rings.add_events(2, 0, 10, 0)
    at_ms = 30 * 60 * 1000 + 1
    rings.expire()

    assert (0, 0) == rings.held()
    assert 10 == rings.since(2, 0).first == rings.since(2, 0).end
