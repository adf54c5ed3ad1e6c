"""One kept-alive HTTP connection on the standard library, with a limit on the whole exchange.

    direct             ─▶ server           POST /prefix/api/e
    plain HTTP proxy   ─▶ proxy ─▶ server  POST http://server:8080/prefix/api/e
    tunnel, for https  ─▶ proxy ═▶ server  CONNECT server:443, then TLS to the server through it

What the proxy demands (user and password of its address, a header Proxy-Authorization among the
client's own) goes to the proxy alone. No redirect is followed: it would carry events and keys to
another place.

Every wait is given what is left of one deadline; see `indelible.client.sockets`.
"""

import codecs
import contextlib
import gzip
import http.client
import json
import socket
import ssl
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from indelible.client.hidden import Unspoken
from indelible.client.proxy import Proxy, ProxyUnusable, proxy_for, with_port
from indelible.client.retry import WITHOUT_ANSWER, own_code
from indelible.client.sockets import TimedSocket, connected, secured
from indelible.client.trust import TrustUnreadable, tls_context
from indelible.client.words import said_by

# For the names of hosts. Loaded here, not by the first look-up on the worker: a child that is
# forked in the middle of that import has half of the codec, for ever.
codecs.lookup("idna")

GZIP_FROM_BYTES: Final = 1_024
MAX_ANSWER_BYTES: Final = 16 << 20
_REFUSAL_BYTES: Final = 4_096  # of what a proxy says when it opens no tunnel
_REFUSAL_S: Final = 0.5
_MOST_INTERIM: Final = 100
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_TO_PROXY: Final = "proxy-authorization"


class TransportFailed(Exception):
    """No answer was had; whether the server took the request is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, or something in front of it.

    Attributes:
        headers: with lower-case names.
        body: decoded JSON, or None.
        text: the body as it arrived, unpacked.
        words: who answered what, for a log: no secret, and nothing of what was sent.
    """

    status: int
    headers: Mapping[str, str]
    body: Any
    text: bytes
    words: str = ""

    @property
    def reason(self) -> str | None:
        """The code of the server's own error body; None if the answer has none."""
        return own_code(self.body)

    @property
    def said(self) -> str:
        """Why it is none that settles anything: the server's code, or who answered what."""
        return self.reason or self.words or f"http_{self.status}"


@dataclass(slots=True, repr=False)
class _Request:
    """What is sent: `packed` of it, which is `body` or that compressed."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    packed: bytes | None


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
        ca_file: str | Path | None = None,
    ) -> None:
        parts = urlsplit(host)
        if parts.hostname is None:
            raise ValueError(f"{host!r} names no host")
        self._scheme = parts.scheme
        self._name = in_ascii(parts.hostname)
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        own_port = None if self._port == _DEFAULT_PORTS[parts.scheme] else self._port
        self._authority = with_port(self._name, own_port)
        self._prefix = parts.path.rstrip("/")
        self._headers = dict(headers)
        if "host" not in map(str.lower, headers):
            self._headers = {"Host": self._authority, **headers}
        proxys = [name for name in headers if name.lower() == _TO_PROXY]
        self._to_proxy = self._headers.pop(proxys[0]) if proxys else None
        self._ca_file = ca_file
        self._connect_s = connect_s
        self._total_s = total_s
        self._monotonic = monotonic
        self._connection: http.client.HTTPConnection | None = None
        self._proxy: Proxy | None = None  # that of the connection

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
        request = _Request(method, path, {**self._headers, **headers}, body, body)
        if body is not None:
            request.headers.setdefault("Content-Type", "application/json")
            if len(body) > GZIP_FROM_BYTES:
                request.packed = gzip.compress(body, compresslevel=1)
                request.headers["Content-Encoding"] = "gzip"
        try:
            return self._answer(request, deadline)
        except BaseException as error:
            self.close()
            # Variables hold headers and body, those of http.client too: they go no further.
            body = None
            del request
            error.__cause__ = error.__context__ = None
            raise error.with_traceback(None)  # noqa: B904

    def _answer(self, request: "_Request", deadline: float) -> Answer:
        reused = self._connection is not None
        try:
            return self._exchange(request, deadline)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not reused:
                raise TransportFailed(_words(error)) from error
            # A server may close an idle connection just as it is used again.
        except _FAULTS as error:
            raise TransportFailed(_words(error)) from error
        try:
            return self._exchange(request, deadline)
        except _FAULTS as error:
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

    def _exchange(self, request: "_Request", deadline: float) -> Answer:
        connection = self._connection or self._connect(deadline)
        self._connection = connection
        timed = connection.sock
        assert isinstance(timed, TimedSocket)
        timed.deadline = deadline
        headers = dict(request.headers)
        target = self._prefix + request.path
        plain_proxy = self._proxy if self._scheme == "http" else None
        if plain_proxy is not None:
            # A proxy for plain HTTP is asked by the whole address (RFC 9112 section 3.2.2).
            target = f"http://{self._authority}{target}"
            headers.update(self._for_proxy(plain_proxy))
        is_cut = False
        try:
            connection.request(request.method, target, request.packed, headers)
        except (BrokenPipeError, ConnectionResetError):
            # Perhaps it was answered before its end, as a body that is too large for a proxy is.
            is_cut = True
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        try:
            text = _unpacked(_read(response), received.get("content-encoding", ""))
        except _FAULTS:
            if response.status < 300:
                raise
            text, is_cut = b"", True  # its status says enough
        decoded = _decoded(text)
        # Reading back may bring what is no JSON, as a receipt is.
        is_own = bool(own_code(decoded)) or (
            response.status < 300
            and response.status not in WITHOUT_ANSWER
            and (request.method == "GET" or isinstance(decoded, dict))
        )
        if is_cut or response.will_close or not is_own:
            # What answered from in front may have another way for the next try.
            self.close()
        response.close()
        words = ""
        if not is_own:
            secrets = self._secrets(headers.get("Authorization"), plain_proxy)
            words = said_by(response.status, response.reason, received, text, request.body, secrets)
        return Answer(response.status, received, decoded, text, words)

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        until = min(deadline, self._monotonic() + self._connect_s)
        proxy = proxy_for(self._name, self._port, self._scheme)
        place = (proxy.name, proxy.port) if proxy else (self._name, self._port)
        connection = http.client.HTTPConnection(self._name, self._port)
        connection.response_class = _Response
        try:
            opened = connected(*place, deadline=until, monotonic=self._monotonic)
        except OSError as error:
            if proxy is None:
                raise
            raise TransportFailed(f"no way to the proxy {proxy}: {_words(error)}") from error
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._scheme == "https":
                if proxy is not None:
                    try:
                        self._open_tunnel(opened, proxy, deadline)
                    except _FAULTS as error:
                        raise TransportFailed(f"the proxy {proxy}: {_words(error)}") from error
                context = tls_context(self._ca_file)
                bare = self._name.partition("%")[0].rstrip(".")  # certificates name neither
                until = min(deadline, self._monotonic() + self._connect_s)
                opened = secured(opened, context, bare, deadline=until, monotonic=self._monotonic)
            connection.sock = TimedSocket(opened, self._monotonic)
        except BaseException:
            opened.close()
            raise
        self._proxy = proxy
        return connection

    def _open_tunnel(self, opened: socket.socket, proxy: Proxy, deadline: float) -> None:
        """Have the proxy pass bytes to the server and back.

        Raises:
            TransportFailed: it will not; in its own words, where it has any.
        """
        target = with_port(self._name, self._port)
        timed = TimedSocket(opened, self._monotonic)
        timed.deadline = deadline
        timed.sendall(b"CONNECT %b HTTP/1.1\r\n" % target.encode() + self._head(target, proxy))
        response = _Response(timed, method="CONNECT")  # type: ignore[arg-type]
        response.begin()
        if 200 <= response.status < 300:
            response.close()
            return
        timed.deadline = min(deadline, self._monotonic() + _REFUSAL_S)
        text = b""
        with contextlib.suppress(OSError, http.client.HTTPException):
            text = response.read(_REFUSAL_BYTES)
        received = {name.lower(): value for name, value in response.getheaders()}
        response.close()
        secrets, who = self._secrets(None, proxy), f"the proxy {proxy}"
        status, phrase = response.status, response.reason
        words = said_by(status, phrase, received, text, None, secrets, who=who)
        raise TransportFailed(f"no tunnel to {target}: {words}")

    def _head(self, target: str, proxy: Proxy) -> bytes:
        """The headers of a CONNECT."""
        headers = {"Host": target, **self._for_proxy(proxy)}
        return (
            b"".join(
                b"%b: %b\r\n" % (name.encode(), value.encode("latin-1"))
                for name, value in headers.items()
            )
            + b"\r\n"
        )

    def _for_proxy(self, proxy: Proxy) -> dict[str, str]:
        """The headers that a proxy is given, and nobody else."""
        credentials = self._to_proxy or proxy.credentials
        return {} if credentials is None else {"Proxy-Authorization": credentials}

    def _secrets(self, authorization: str | None, proxy: Proxy | None) -> Unspoken:
        """What no words of an answer may repeat."""
        own = [value for name, value in self._headers.items() if name not in ("Host", "User-Agent")]
        return Unspoken([*own, authorization, self._to_proxy, *(proxy.secrets if proxy else ())])


class _Response(http.client.HTTPResponse):
    """An answer; those that only announce it (1xx, as 103 with hints) are passed over.

    http.client passes over 100 alone and would take the answer after any other for that to the next
    request.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 < status < 200:
                return version, status, reason
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                break
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("no answer but interim ones")


def in_ascii(name: str) -> str:
    """A host's name as it is looked up and sent: of labels beyond ASCII, their xn-- form."""
    return name if name.isascii() else name.encode("idna").decode()


class _Unreadable(ValueError):
    """An answer that is no whole one; the message holds nothing of it."""


def _read(response: http.client.HTTPResponse) -> bytes:
    """The body of an answer.

    Raises:
        _Unreadable: it is longer than `MAX_ANSWER_BYTES`, or was cut off.
    """
    text = response.read(MAX_ANSWER_BYTES + 1)
    if len(text) > MAX_ANSWER_BYTES:
        raise _Unreadable("the answer is too long")
    if response.length:  # its header promised more bytes than arrived
        raise _Unreadable("the answer was cut off")
    return text


def _unpacked(text: bytes, coding: str) -> bytes:
    """What an answer says that something on the way has compressed, though nobody asked for it.

    Raises:
        _Unreadable: it was cut off, or is too long once unpacked.
    """
    coding = coding.strip().lower()
    if coding not in ("gzip", "x-gzip", "deflate") or not text:
        return text
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # finds out which of the two it is
    try:
        whole = unpacker.decompress(text, MAX_ANSWER_BYTES)
    except zlib.error:
        raise _Unreadable("the answer cannot be unpacked") from None
    if not unpacker.eof:
        raise _Unreadable("the answer was cut off, or is too long")
    return whole


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_FAULTS: Final = (OSError, http.client.HTTPException, ValueError, ProxyUnusable, TrustUnreadable)


def _words(error: BaseException) -> str:
    """A fault in words that hold nothing of what was sent."""
    if isinstance(error, ProxyUnusable | TrustUnreadable | _Unreadable):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
