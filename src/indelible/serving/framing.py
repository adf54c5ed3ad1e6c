"""Where the body of an HTTP/1 request ends. Pure: bytes in, bytes of the body out.

Both readers take data as it arrives, cut anywhere, and know exactly whether the body has ended. A
body that was cut off never has: what Content-Length announced did not come, or the last chunk.

>>> sized = Sized(3)
>>> sized.feed(b"ab"), sized.is_done, sized.feed(b"cGET"), sized.is_done
((b'ab', b''), False, (b'c', b'GET'), True)
>>> chunked = Chunked()
>>> chunked.feed(b"2\\r\\nab\\r\\n1\\r"), chunked.feed(b"\\nc\\r\\n0\\r\\n\\r\\nGET")
((b'ab', b''), (b'c', b'GET'))
"""

import re
from enum import Enum
from typing import Final

from indelible.errors import RequestMalformed
from indelible.serving.head import are_fields

MOST_SIZE_LINE_BYTES: Final = 256
"""Longest line with the size of a chunk; what stands after its semicolon is not looked at."""
MOST_TRAILER_BYTES: Final = 8 * 1024
MOST_CHUNKS_A_TURN: Final = 250
"""Chunks that are read before others get their turn: a quarter of a millisecond."""

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:[ \t]*+;[\t -~\x80-\xff]*+)?\r\n")


class Sized:
    """A body of a length that is known."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_done(self) -> bool:
        return not self._left

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what belongs to the body, and what comes after it."""
        left = self._left
        if len(data) <= left:
            self._left = left - len(data)
            return data, b""
        self._left = 0
        return data[:left], data[left:]


class _Expected(Enum):
    SIZE = 1
    DATA = 2
    END_OF_DATA = 3
    TRAILER = 4
    NOTHING = 5


class Chunked:
    """A body in chunks (RFC 9112 section 7.1). Trailers are checked and dropped."""

    __slots__ = ("_begun", "_expected", "_left")

    def __init__(self) -> None:
        self._expected = _Expected.SIZE
        self._left = 0
        self._begun = b""  # of a line, or of the end of a chunk

    @property
    def is_done(self) -> bool:
        return self._expected is _Expected.NOTHING

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what belongs to the body, and what is left.

        What is left of a body that is not done is to be fed again, in another turn of the loop.

        Raises:
            RequestMalformed: this is not how chunks are written.
        """
        data, self._begun = self._begun + data, b""
        parts: list[bytes] = []
        at = 0
        for _ in range(MOST_CHUNKS_A_TURN):
            if self._expected is _Expected.SIZE:
                size = _SIZE.match(data, at)
                if size is None:
                    self._begun = _begun(data[at:], MOST_SIZE_LINE_BYTES, is_line=True)
                    return b"".join(parts), b""
                at = size.end()
                end = at + int(size[1], 16)
                if at < end and data[end : end + 2] == b"\r\n":  # all of it is here
                    parts.append(data[at:end])
                    at = end + 2
                    continue
                self._left = end - at
                self._expected = _Expected.DATA if self._left else _Expected.TRAILER
            if self._expected is _Expected.TRAILER:
                return b"".join(parts), self._skip_trailer(data[at:])
            part = data[at : at + self._left]
            parts.append(part)
            at += len(part)
            self._left -= len(part)
            if self._left:
                return b"".join(parts), b""
            self._expected = _Expected.END_OF_DATA
            end_of_data = data[at : at + 2]
            if not b"\r\n".startswith(end_of_data):
                raise RequestMalformed("A chunk is longer than it says")
            if len(end_of_data) < 2:
                self._begun = end_of_data
                return b"".join(parts), b""
            at += 2
            self._expected = _Expected.SIZE
        return b"".join(parts), data[at:]

    def _skip_trailer(self, data: bytes) -> bytes:
        """Return what comes after the trailer, once it has ended."""
        end = 0 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n") + 2
        if end == 1:
            self._begun = _begun(data, MOST_TRAILER_BYTES, is_line=False)
            return b""
        if end > MOST_TRAILER_BYTES or not are_fields(data[:end]):
            raise RequestMalformed("The trailer is not well-formed")
        self._expected = _Expected.NOTHING
        return data[end + 2 :]


def _begun(data: bytes, limit_bytes: int, *, is_line: bool) -> bytes:
    """Return `data`, the beginning of a line or trailer that is not whole yet.

    Raises:
        RequestMalformed: it is a whole line, so of another form, or too long already.
    """
    if len(data) > limit_bytes or (is_line and b"\n" in data):
        raise RequestMalformed("The chunks of the body are not well-formed")
    return data
