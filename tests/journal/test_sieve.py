"""The sieve: what was put is held back, and of the rest nearly nothing."""

import random

from hypothesis import given
from hypothesis import strategies as st

from indelible.journal.sieve import Sieve

# A few beginnings, so that keys fall on one place, on neighbouring bits and on one byte.
beginnings = st.sampled_from([0, 1, 7, 8, 255, 256, 1 << 24, 1 << 31, (1 << 32) - 1])
keys = st.lists(beginnings.map(lambda first: first.to_bytes(4, "big") + b"rest" * 7))


@given(keys, keys)
def test_every_key_that_was_put_is_held_back_whole_or_not(
    put: list[bytes], asked: list[bytes]
) -> None:
    sieve = Sieve()
    sieve.put([key[:16] for key in put])
    held_back = sieve.held_back(asked)
    assert [key for key in asked if key in put] == [key for key in held_back if key in put]
    assert put == sieve.held_back(put)


def test_few_others_are_held_back() -> None:
    sieve, chosen = Sieve(), random.Random(1)
    put = [chosen.randbytes(32) for _ in range(100_000)]
    for start in range(0, len(put), 1_000):
        sieve.put(put[start : start + 1_000])
    strangers = [chosen.randbytes(32) for _ in range(10_000)]
    assert len(sieve.held_back(strangers)) < 50  # 7 or 8 are to be expected
    assert put == sieve.held_back(put)
