"""Where the body of an HTTP/1 request ends. Pure: bytes in, bytes of the body out.

Both decoders take data as it arrives, split anywhere, and know exactly whether the body is
complete. A body that was cut off, short of its Content-Length or without its last chunk, never is.

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
"""Longest line with the size of a chunk, including extensions, which are ignored."""
MOST_TRAILER_BYTES: Final = 8 * 1024
MOST_CHUNKS_A_TURN: Final = 250
"""Chunks decoded before other connections get their turn: about a quarter of a millisecond."""

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:[ \t]*+;[\t -~\x80-\xff]*+)?\r\n")


class Sized:
    """A body of known length."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_done(self) -> bool:
        return not self._left

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of the body in `data`, and the bytes after its end."""
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
        self._begun = b""  # an incomplete line or end of a chunk

    @property
    def is_done(self) -> bool:
        return self._expected is _Expected.NOTHING

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of the body in `data`, and the rest.

        If the body is not done, feed the rest again in another turn of the loop.

        Raises:
            RequestMalformed: the chunks are not well-formed.
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
                if at < end and data[end : end + 2] == b"\r\n":  # the whole chunk is here
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
        """Return the bytes after the trailer; empty if the trailer is incomplete."""
        end = 0 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n") + 2
        if end == 1:
            self._begun = _begun(data, MOST_TRAILER_BYTES, is_line=False)
            return b""
        if end > MOST_TRAILER_BYTES or not are_fields(data[:end]):
            raise RequestMalformed("The trailer is not well-formed")
        self._expected = _Expected.NOTHING
        return data[end + 2 :]


def _begun(data: bytes, limit_bytes: int, *, is_line: bool) -> bytes:
    """Return `data`, the beginning of a line or trailer.

    Raises:
        RequestMalformed: it is too long, or a complete line, which then has the wrong form.
    """
    if len(data) > limit_bytes or (is_line and b"\n" in data):
        raise RequestMalformed("The chunks of the body are not well-formed")
    return data
