"""Frames: length-prefixed messages over a stream socket, in one direction and the other.

A frame is four bytes, the length in little endian, and so many bytes of msgpack. A frame that is
longer than both ends agree on, cannot be decoded, or is cut off by the end of the stream is an
error that ends the line: after it nobody knows where the next one begins. Both ends are processes
of one server, so it means that one of them is broken, and it is started anew.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

logger = logging.getLogger(__name__)

MOST_FRAME_BYTES: Final = 1024 * 1024 * 1024
"""Of a length that is more, nothing was meant. The longest that are: a snapshot of five million
keys, and the largest event that an operator allows."""

_HEAD_BYTES: Final = 4

Heard = TypeVar("Heard")


class FrameBroken(Exception):
    """What came is no frame of ours."""


class Frames:
    """Cuts a stream into the contents of its frames."""

    def __init__(self, most_bytes: int = MOST_FRAME_BYTES) -> None:
        self._most_bytes = most_bytes
        self._begun = bytearray()

    @property
    def is_within(self) -> bool:
        """Whether the stream stands in the middle of a frame."""
        return bool(self._begun)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes, in order.

        Raises:
            FrameBroken: one is too long. Nothing can be read any more.
        """
        if self._begun:
            self._begun += data
            if len(self._begun) < _HEAD_BYTES + self._missing(self._begun):
                return []
            data = bytes(self._begun)
            self._begun = bytearray()
        frames, start, end = [], 0, len(data)
        while end - start >= _HEAD_BYTES:
            behind = start + _HEAD_BYTES + self._length(data[start : start + _HEAD_BYTES])
            if behind > end:
                break
            frames.append(data[start + _HEAD_BYTES : behind])
            start = behind
        self._begun += data[start:]
        return frames

    def _missing(self, begun: bytearray) -> int:
        return self._length(begun[:_HEAD_BYTES]) if len(begun) >= _HEAD_BYTES else 1

    def _length(self, head: bytes | bytearray) -> int:
        length = int.from_bytes(head, "little")
        if length > self._most_bytes:
            raise FrameBroken(f"a frame of {length:,} bytes")
        return length


def frame(content: bytes, most_bytes: int = MOST_FRAME_BYTES) -> bytes:
    """Return `content` as a frame.

    Raises:
        FrameBroken: it is too long; nobody would read it.
    """
    if len(content) > most_bytes:
        raise FrameBroken(f"a frame of {len(content):,} bytes")
    return len(content).to_bytes(_HEAD_BYTES, "little") + content


class Line(asyncio.Protocol, Generic[Heard]):
    """One end of a stream of messages. Belongs to one event loop.

    `heard` is called with each message, `ended` once, when nothing more will come. A line that is
    broken is closed and logged. Both ends have the same `most_bytes`, for frames either way.
    """

    def __init__(
        self,
        form: msgspec.msgpack.Decoder[Heard],
        *,
        heard: Callable[[Heard], None],
        ended: Callable[[], None],
        most_bytes: int = MOST_FRAME_BYTES,
    ) -> None:
        self._decode = form.decode
        self._heard = heard
        self._ended = ended
        self._most_bytes = most_bytes
        self._frames = Frames(most_bytes)
        self._encode = msgspec.msgpack.Encoder().encode
        self._transport: asyncio.Transport | None = None
        self._is_over = False
        self._is_full = False
        self._drained: asyncio.Future[None] | None = None

    async def take(self, own: socket.socket) -> None:
        """Use this connected socket from now on, and close it in the end."""
        own.setblocking(False)  # noqa: FBT003
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=own)

    @property
    def is_over(self) -> bool:
        """Whether nothing can be said or heard any more."""
        return self._is_over

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the other end has not taken from the socket yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def say(self, message: object) -> None:
        """Send a message, or drop it if the line is over."""
        if not self._is_over and self._transport is not None:
            self._transport.write(frame(self._encode(message), self._most_bytes))

    async def drained(self) -> None:
        """Wait until the other end has taken nearly all that was said, or is gone."""
        if self._is_full and not self._is_over:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def pause(self) -> None:
        """Hear nothing more for now; the other end will notice when the socket is full."""
        if self._transport is not None and not self._is_over:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Hear again."""
        if self._transport is not None and not self._is_over:
            self._transport.resume_reading()

    def close(self) -> None:
        """Say what is still to be sent, then end."""
        if self._transport is not None:
            self._transport.close()

    def _break(self, why: str) -> None:
        logger.error("a line between two processes of the server is broken: %s", why)
        if self._transport is not None:
            self._transport.abort()

    # Called by the transport.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                self._heard(self._decode(content))
        except FrameBroken as error:
            self._break(str(error))
        except msgspec.MsgspecError as error:
            self._break(f"no such message: {type(error).__name__}")

    def eof_received(self) -> bool:
        if self._frames.is_within:
            self._break("a frame is cut off")
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self._is_over = True
        self.resume_writing()
        self._ended()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
