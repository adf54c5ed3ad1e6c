"""Sockets whose every wait ends at a deadline, from the first address on.

The time-outs of the standard library begin again: for each address of a name, for each byte that
arrives, and with gevent for each byte of a handshake. A server that drips, or a name with many dead
addresses, could hold a caller for hours.

LIMIT: looking a name up is the system's own business and has its own limit (resolv.conf, usually
5 s a server); nothing in the standard library can cut it short.
"""

import _pyio  # type: ignore[import-not-found]  # no stub has it
import io
import selectors
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from indelible.client.options import LONGEST_S

Clock = Callable[[], float]
"""Monotonic seconds."""

_NO_TIME: Final = "no answer in time"


def connected(name: str, port: int, *, deadline: float, monotonic: Clock) -> socket.socket:
    """A connection to the first address of a name that answers.

    Each address has its share of the time that is left, so that dead ones leave some for the rest.

    Raises:
        OSError: none did; what the last one tried has said.
    """
    places = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    trouble: OSError = TimeoutError(_NO_TIME)
    for tried, (family, kind, protocol, _, address) in enumerate(places):
        left_s = deadline - monotonic()
        if left_s <= 0:
            break
        opened: socket.socket | None = None
        try:
            opened = socket.socket(family, kind, protocol)
            opened.settimeout(min(left_s / (len(places) - tried), LONGEST_S))
            opened.connect(address)
        except BaseException as error:
            if opened is not None:
                opened.close()
            if not isinstance(error, OSError):
                raise
            trouble = error
        else:
            return opened
    try:
        raise trouble
    finally:
        del trouble  # its traceback holds this frame


def secured(
    opened: socket.socket,
    context: ssl.SSLContext,
    name: str,
    *,
    deadline: float,
    monotonic: Clock,
) -> ssl.SSLSocket:
    """The connection with TLS over it; `opened` is not to be used any more.

    Raises:
        OSError: no handshake came about in time; the connection is closed.
    """
    # Not in `wrap_socket`, which loses sight of the socket when the handshake is interrupted.
    wrapped = context.wrap_socket(opened, server_hostname=name, do_handshake_on_connect=False)
    try:
        wrapped.settimeout(0)
        while (waits_for := _shaken(wrapped)) is not None:
            _wait(wrapped, waits_for, deadline - monotonic())
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _wait(wrapped: ssl.SSLSocket, waits_for: int, left_s: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(wrapped, waits_for)
        if left_s <= 0 or not selector.select(min(left_s, LONGEST_S)):
            raise TimeoutError(_NO_TIME)


def _shaken(wrapped: ssl.SSLSocket) -> int | None:
    """Go on with the handshake; what it waits for, or None when it is done."""
    try:
        wrapped.do_handshake()
    except ssl.SSLWantReadError:
        return selectors.EVENT_READ
    except ssl.SSLWantWriteError:
        return selectors.EVENT_WRITE
    return None


class TimedSocket:
    """A connected socket whose every wait ends at `deadline`, a monotonic time."""

    def __init__(self, wrapped: Any, monotonic: Clock) -> None:
        self.wrapped = wrapped
        self.deadline = 0.0
        self._monotonic = monotonic

    def sendall(self, data: bytes) -> None:
        self.arm()
        self.wrapped.sendall(data)

    def makefile(self, mode: str) -> Any:
        assert mode == "rb"
        # Python's own, not C's: that one is locked while it is read and locks itself to be closed,
        # so a child of a fork in the middle of an answer could never let go of its copy.
        return _pyio.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        self.wrapped.close()

    def arm(self) -> None:
        """Give the next wait what is left.

        Raises:
            TimeoutError: nothing is.
        """
        left = self.deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError(_NO_TIME)
        self.wrapped.settimeout(min(left, LONGEST_S))


class _TimedReader(io.RawIOBase):
    """What http.client reads an answer from."""

    def __init__(self, timed: TimedSocket) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._timed.arm()
        received: int = self._timed.wrapped.recv_into(buffer)
        return received
