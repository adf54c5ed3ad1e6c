"""Transaction ids: UUIDv7 (RFC 9562 section 5.7) that only ever grow.

The twelve bits after the version count within a millisecond (section 6.2, method 1), so the order
of ids is the order of the log even where the clock stands still or steps back.
"""

import struct
from collections.abc import Callable
from typing import Final

_COUNT_BITS: Final = 12
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_VERSION: Final = 7 << _COUNT_BITS
_VARIANT: Final = 2 << 62
_RANDOM_MASK: Final = (1 << 62) - 1
_RANDOM_BYTES: Final = 8

_pack = struct.Struct(">QQ").pack


class TxIds:
    """Makes ids that are all greater than `last` and than each other. Not safe across threads."""

    def __init__(self, clock: Callable[[], int], *, last: bytes | None = None) -> None:
        self._clock = clock
        begins = int.from_bytes((last or bytes(16))[:8], "big")
        # Time and count as one number: a count that is full borrows a millisecond by its carry.
        self._last = begins >> 16 << _COUNT_BITS | begins & _COUNT_MASK

    @property
    def ms(self) -> int:
        """The time in the newest id, ms since the epoch; 0 before the first."""
        return self._last >> _COUNT_BITS

    def make(self, random: bytes) -> list[bytes]:
        """New ids, one for every 8 of these fresh random bytes, of which 62 bits each are used."""
        count = len(random) // _RANDOM_BYTES
        if not count:
            return []
        # Where the clock stood still or stepped back, they count on.
        first = max(self._last + 1, self._clock() << _COUNT_BITS)
        self._last = first + count - 1
        tails = struct.unpack(f">{count}Q", random)
        return [
            _pack(
                number >> _COUNT_BITS << 16 | _VERSION | number & _COUNT_MASK,
                _VARIANT | tail & _RANDOM_MASK,
            )
            for number, tail in enumerate(tails, first)
        ]
