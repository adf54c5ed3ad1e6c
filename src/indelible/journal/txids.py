"""Transaction ids: UUIDv7 (RFC 9562 section 5.7) that only ever grow.

The twelve bits after the version count within a millisecond (section 6.2, method 1), so the order
of ids is the order of the log even where the clock stands still or steps back.
"""

from collections.abc import Callable
from typing import Final

_PER_MS: Final = 1 << 12
_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << 62
_RANDOM_MASK: Final = (1 << 62) - 1


class TxIds:
    """Makes ids that are all greater than `last` and than each other. Not safe across threads.

    `ms` is the time in the newest one, ms since the epoch.
    """

    def __init__(self, clock: Callable[[], int], *, last: bytes | None = None) -> None:
        self._clock = clock
        number = int.from_bytes(last or b"", "big")
        self.ms = number >> 80
        self._count = (number >> 64) & (_PER_MS - 1)

    def next(self, random: bytes) -> bytes:
        """A new id; `random` is 8 fresh random bytes, of which 62 bits are used."""
        now = self._clock()
        if now > self.ms:
            self.ms, self._count = now, 0
        else:
            # The clock stood still or stepped back: count on, and borrow a millisecond when full.
            self._count += 1
            if self._count == _PER_MS:
                self.ms, self._count = self.ms + 1, 0
        tail = int.from_bytes(random, "big") & _RANDOM_MASK
        number = self.ms << 80 | _VERSION | self._count << 64 | _VARIANT | tail
        return number.to_bytes(16, "big")
