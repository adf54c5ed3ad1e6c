"""One kept-alive HTTP connection on the standard library, with a limit on the whole exchange.

A socket's time-out starts anew with each byte that arrives, so a server that sends one byte a
second could hold a caller for hours. Here every wait is given what is left of one deadline.

LIMIT: looking a name up is the system's own business and has its own limit (resolv.conf, usually
5 s a server); nothing in the standard library can cut it short.
"""

import _pyio  # type: ignore[import-not-found]  # no stub has it
import codecs
import contextlib
import gzip
import http.client
import io
import json
import socket
import ssl
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from indelible.client.options import LONGEST_S

# For the names of hosts. Loaded here, not by the first look-up on the worker: a child that is
# forked in the middle of that import has half of the codec, for ever.
codecs.lookup("idna")

GZIP_FROM_BYTES: Final = 1_024
MAX_ANSWER_BYTES: Final = 16 << 20


class TransportFailed(Exception):
    """No answer was had; whether the server took the request is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `headers` have lower-case names; `body` is decoded JSON, or None."""

    status: int
    headers: Mapping[str, str]
    body: Any
    text: bytes

    @property
    def reason(self) -> str | None:
        """The error code of the body, if it has one."""
        if isinstance(self.body, dict):
            for name in ("reason", "code", "error"):
                if isinstance(self.body.get(name), str):
                    return str(self.body[name])
        return None


class Transport:
    """Sends requests to one host, one at a time.

    Not for two threads at once. The connection is made with the first request and kept; when the
    server has closed it meanwhile, it is made anew, once.
    """

    def __init__(
        self,
        host: str,
        *,
        headers: Mapping[str, str],
        connect_s: float,
        total_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        parts = urlsplit(host)
        if parts.hostname is None:
            raise ValueError(f"{host!r} names no host")
        self._secure = parts.scheme == "https"
        self._name = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._headers = dict(headers)
        self._connect_s = connect_s
        self._total_s = total_s
        self._monotonic = monotonic
        self._connection: http.client.HTTPConnection | None = None
        self._through_proxy = False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str],
        total_s: float | None = None,
    ) -> Answer:
        """Send, and read the whole answer. A body over 1 KiB is compressed.

        Whatever else interrupts it (Ctrl-C, a time limit of the application's) is raised as it is,
        and the connection is not used again: half an answer may still be on its way.

        Raises:
            TransportFailed: no complete answer came in time.
        """
        deadline = self._monotonic() + (self._total_s if total_s is None else total_s)
        sent = {**self._headers, **headers}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            if len(body) > GZIP_FROM_BYTES:
                body = gzip.compress(body, compresslevel=1)
                sent["Content-Encoding"] = "gzip"
        try:
            return self._answer(method, path, body, sent, deadline)
        except BaseException as error:
            self.close()
            # Variables hold headers and body, those of http.client too: they go no further.
            body = None
            error.__cause__ = error.__context__ = None
            raise error.with_traceback(None)  # noqa: B904

    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | None,
        sent: dict[str, str],
        deadline: float,
    ) -> Answer:
        reused = self._connection is not None
        try:
            return self._exchange(method, path, body, sent, deadline)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not reused:
                raise TransportFailed(_words(error)) from error
            # A server may close an idle connection just as it is used again.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransportFailed(_words(error)) from error
        try:
            return self._exchange(method, path, body, sent, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransportFailed(_words(error)) from error

    def prepare(self) -> None:
        """Let gevent begin the thread in which it looks up names: from Python 3.12 on none can
        begin while the interpreter ends, which may be when the first batch is sent."""
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("socket"):
            with contextlib.suppress(Exception):  # whatever it is, the first try will say so
                socket.getaddrinfo(self._name, self._port)

    def close(self) -> None:
        """Close the connection; the next request makes a new one.

        After a fork this closes the child's copy of the descriptor and says nothing to the server.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
    ) -> Answer:
        connection = self._connection or self._connect(deadline)
        self._connection = connection
        timed = connection.sock
        assert isinstance(timed, _TimedSocket)
        timed.deadline = deadline
        connection.request(method, self._target(path), body, dict(headers))
        response = connection.getresponse()
        text = response.read(MAX_ANSWER_BYTES + 1)
        received = {name.lower(): value for name, value in response.getheaders()}
        if len(text) > MAX_ANSWER_BYTES:
            self.close()
            raise ValueError("the answer is too long")
        if response.will_close:
            self.close()
        if response.length:  # its header promised more bytes than arrived
            self.close()
            raise ValueError("the answer was cut off")
        response.close()
        return Answer(response.status, received, _decoded(text), text)

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        wait_s = min(self._connect_s, max(deadline - self._monotonic(), 0.001))
        proxy = proxy_for(self._name, "https" if self._secure else "http")
        name, port = (proxy.hostname or "", proxy.port or 80) if proxy else (self._name, self._port)
        if self._secure:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                name, port, timeout=wait_s, context=ssl.create_default_context()
            )
            if proxy:
                connection.set_tunnel(self._name, self._port)
        else:
            connection = http.client.HTTPConnection(name, port, timeout=wait_s)
        self._through_proxy = proxy is not None and not self._secure
        connection.connect()
        connection.sock = _TimedSocket(connection.sock, self._monotonic)
        return connection

    def _target(self, path: str) -> str:
        target = self._prefix + path
        # A proxy for plain HTTP is asked by the whole address (RFC 9112 section 3.2.2).
        return f"http://{self._name}:{self._port}{target}" if self._through_proxy else target


class _TimedSocket:
    """A connected socket whose every wait ends at `deadline`, a monotonic time."""

    def __init__(self, wrapped: Any, monotonic: Callable[[], float]) -> None:
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
            raise TimeoutError("the answer took too long")
        self.wrapped.settimeout(min(left, LONGEST_S))


class _TimedReader(io.RawIOBase):
    """What http.client reads an answer from."""

    def __init__(self, timed: _TimedSocket) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._timed.arm()
        received: int = self._timed.wrapped.recv_into(buffer)
        return received


def proxy_for(name: str, scheme: str) -> Any:
    """The proxy that the environment names for this host, taken apart; None when there is none."""
    proxy = urllib.request.getproxies().get(scheme)
    if not proxy or urllib.request.proxy_bypass(name) or name in ("127.0.0.1", "::1", "localhost"):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _words(error: BaseException) -> str:
    """A fault in words that hold nothing of what was sent."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
