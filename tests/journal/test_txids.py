"""Transaction ids: UUIDv7s that only ever grow."""

import os
import uuid
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from indelible.event import tx_bytes, tx_text, tx_time_ms, tx_uuid
from indelible.journal.txids import TxIds
from tests.journal.contract import NEW_YEAR_MS, ManualClock

LAST_MS = 2**48 - 1
moments = st.lists(st.integers(0, LAST_MS // 2), min_size=1, max_size=50)
tails = st.sampled_from([bytes(8), b"\xff" * 8, bytes(range(8))])


def made_at(at_ms: Sequence[int], tail: bytes, *, last: bytes | None = None) -> list[bytes]:
    """One id at each reading of the clock."""
    clock = ManualClock(0)
    tx_ids = TxIds(clock, last=last)
    ids = []
    for moment in at_ms:
        clock.now_ms = moment
        ids += tx_ids.make(tail)
    return ids


@given(moments, tails)
def test_ids_grow_strictly_whatever_the_clock_does(at_ms: list[int], tail: bytes) -> None:
    ids = made_at(at_ms, tail)
    assert sorted(set(ids)) == ids


@given(moments, moments, st.sampled_from([bytes(8), b"\xff" * 8]))
def test_ids_go_on_growing_after_a_restart(
    before: list[int], after: list[int], tail: bytes
) -> None:
    first = made_at(before, b"\xff" * 8)
    second = made_at(after, tail, last=first[-1])
    assert sorted({*first, *second}) == first + second


@given(st.binary(min_size=16, max_size=16), tails)
def test_any_last_id_is_exceeded(last: bytes, tail: bytes) -> None:
    # The first bit of a time in milliseconds stays 0 for another 4,000 years.
    last = bytes([last[0] & 0x7F]) + last[1:6] + bytes([0x70 | last[6] & 15, last[7]])
    last += bytes([0x80 | tail[0] & 63]) + tail[1:]
    (tx,) = made_at([0], bytes(8), last=last)
    assert tx > last


@given(moments, st.binary(min_size=8, max_size=8))
def test_every_id_is_a_uuid_of_version_7(at_ms: list[int], tail: bytes) -> None:
    for tx in made_at(at_ms, tail):
        read = uuid.UUID(bytes=tx)
        assert 16 == len(tx)
        assert 7 == read.version
        assert uuid.RFC_4122 == read.variant
        assert str(read) == tx_uuid(tx)
        assert tx == tx_bytes(tx_text(tx))


@given(moments)
def test_the_time_of_an_id_is_the_clocks_unless_that_stood_or_stepped_back(
    at_ms: list[int],
) -> None:
    latest = 0
    for moment, tx in zip(at_ms, made_at(at_ms, bytes(8)), strict=True):
        latest = max(latest, moment)
        # fewer than 4,096 ids: none of them has to borrow a millisecond
        assert latest == tx_time_ms(tx)


@given(moments, tails, st.integers(0, 9))
def test_ids_that_are_made_together_are_those_that_are_made_one_by_one(
    at_ms: list[int], tail: bytes, count: int
) -> None:
    clock = ManualClock(0)
    together, alone = TxIds(clock), TxIds(clock)
    for moment in at_ms:
        clock.now_ms = moment
        made = [tx for _ in range(count) for tx in alone.make(tail)]
        assert made == together.make(tail * count)
        assert alone.ms == together.ms


@given(st.binary(min_size=8, max_size=8))
def test_the_tail_is_62_random_bits(tail: bytes) -> None:
    (tx,) = made_at([NEW_YEAR_MS], tail)
    mask = (1 << 62) - 1
    assert int.from_bytes(tail, "big") & mask == int.from_bytes(tx, "big") & mask


def test_ten_thousand_in_one_millisecond_borrow_the_next_two() -> None:
    tx_ids = TxIds(lambda: NEW_YEAR_MS)
    ids = tx_ids.make(os.urandom(8 * 4_000)) + tx_ids.make(os.urandom(8 * 6_000))
    assert sorted(set(ids)) == ids
    assert {7} == {uuid.UUID(bytes=tx).version for tx in ids}
    times = [tx_time_ms(tx) for tx in ids]
    expected = [NEW_YEAR_MS] * 4096 + [NEW_YEAR_MS + 1] * 4096 + [NEW_YEAR_MS + 2] * 1808
    assert expected == times


def test_a_borrowed_millisecond_is_not_given_out_again_when_the_clock_reaches_it() -> None:
    clock = ManualClock(NEW_YEAR_MS)
    tx_ids = TxIds(clock)
    ids = tx_ids.make(bytes(8 * 5_000))
    clock.now_ms += 1
    ids += tx_ids.make(bytes(8 * 5_000))
    assert sorted(set(ids)) == ids
