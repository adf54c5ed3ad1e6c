"""Which keys are certainly new: a bit of memory for each of 2²⁷ places.

Nearly every key that is looked up is new, and finding that out in `unique.db` takes longer than all
else that is decided about an event. A key falls on one place, by its first four bytes; keys are
HMACs, so they scatter. Where the bit of a place is not set, no stored key falls on it. Of new keys
one in 120 is looked up in vain beside a million that are stored, one in nine beside sixteen
million, every second beside ninety million. Nothing else depends on how full it is.
"""

import threading
from collections.abc import Sequence
from typing import Final

_WORD_BYTES: Final = 4
_BITS: Final = tuple(1 << number for number in range(8))


class Sieve:
    """16 MiB of places. Safe from any thread."""

    def __init__(self) -> None:
        self._putting = threading.Lock()  # a bit is set by reading its byte and writing it back
        self._places = bytearray(1 << 24)  # by three bytes of a word; three bits more say which bit

    def put(self, keys: Sequence[bytes]) -> None:
        """Hold back these keys from now on, whole keys or beginnings of one length."""
        places, words = self._places, _words(keys)
        with self._putting:
            for word in words:
                places[word >> 8] |= _BITS[word & 7]

    def held_back(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that may have been put; every other one was not. They are of one length,
        which may be another than that of the keys that were put."""
        places = self._places
        words = _words(keys)
        return [
            key
            for key, word in zip(keys, words, strict=True)
            if places[word >> 8] & _BITS[word & 7]
        ]


def _words(keys: Sequence[bytes]) -> list[int]:
    """The first four bytes of each, as numbers."""
    if not keys:
        return []
    return memoryview(b"".join(keys)).cast("I")[:: len(keys[0]) // _WORD_BYTES].tolist()
