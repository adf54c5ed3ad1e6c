"""Where an auditor reads a log from: its folder, or the address that serves it.

Both belong to the party under audit. In a folder we read only regular files and follow no link
(`indelible.untrusted`). From an address we fetch one file at a time and follow no redirect, so a
key goes to the address that the caller named and to no other. The whole answer has a deadline,
however slowly it drips; it must be as long as its header says, and no longer than a file of its
name may be.

Only the standard library is used. Both can be handed to another process.
"""

import http.client
import io
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from indelible.errors import LogUnreadable
from indelible.ledger.format.layout import most_bytes_of
from indelible.untrusted import FolderReader, is_link

Content = bytes | LogUnreadable | None
"""The bytes of a file; why it cannot be read; None when there is none."""

_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")
_AT_ONCE: Final = 8
_TIMEOUT_S: Final = 30.0
_DEEPEST: Final = 12  # folders below a log; tile/entries/x001/x002/x003/x004/x005/006.p has eight


class Source(Protocol):
    """The files of one log, by their paths below its prefix."""

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        ...

    def read(self, paths: Sequence[str]) -> list[Content]:
        """What lies at each path, in the order asked. Never raises."""
        ...

    def files(self) -> Iterator[str] | None:
        """The paths of all files there are, in any order; None where they cannot be listed.

        Raises as it goes:
            LogUnreadable: they cannot be read.
        """
        ...


class FolderSource:
    """A log's folder on this machine; `log` is where it lies below a folder that was named."""

    def __init__(self, folder: Path | str, log: str = "") -> None:
        self._folder = os.fspath(folder)
        self._prefix = f"{log}/" if log else ""

    @property
    def name(self) -> str:
        return f"{self._folder}/{self._prefix}".rstrip("/")

    def read(self, paths: Sequence[str]) -> list[Content]:
        with FolderReader(self._folder) as reader:
            return [self._read(reader, path) for path in paths]

    def files(self) -> Iterator[str]:
        try:
            yield from _below(self.name, "", 0)
        except FileNotFoundError:  # nothing was published yet; else its checkpoint is missed
            return
        except OSError as error:
            raise LogUnreadable(f"{self.name}: {error.strerror or error}") from error

    def _read(self, reader: FolderReader, path: str) -> Content:
        try:
            return reader.read(self._prefix + path, most_bytes=most_bytes_of(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            said = str(error.strerror or error)
            return LogUnreadable(f"{said[:1].upper()}{said[1:]}")


class UrlSource:
    """A log served over HTTP; `url` is its prefix, `key` an API key where the log asks for one.

    `deadline`: when nothing more is asked for, in seconds of the monotonic clock; None for never.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        deadline: float | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError("the prefix of a log begins with https:// or http://")
        self._url = url.rstrip("/")
        self._headers = {"Accept-Encoding": "identity"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._deadline = deadline
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        return self._url

    def read(self, paths: Sequence[str]) -> list[Content]:
        if len(paths) == 1:
            return [self._read(paths[0])]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._read, paths))

    def files(self) -> None:
        return None

    def _read(self, path: str) -> Content:
        until = time.monotonic() + self._timeout_s
        if self._deadline is not None:
            until = min(until, self._deadline)
        most_bytes = most_bytes_of(path)
        try:
            request = urllib.request.Request(f"{self._url}/{path}", headers=self._headers)  # noqa: S310
            with _opener(self._url, until).open(request, timeout=_left(until)) as answer:
                content: bytes = answer.read(most_bytes + 1)
                cut_off = bool(getattr(answer, "length", None))
                encoding = answer.headers.get("Content-Encoding", "identity").lower()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                return None
            return LogUnreadable(_refused(error, with_key="Authorization" in self._headers))
        except (OSError, ValueError, HTTPException) as error:  # it broke off, or is no answer
            return LogUnreadable(self._broken(error, until))
        if len(content) > most_bytes:
            return LogUnreadable(f"It is longer than the {most_bytes:,} bytes that it may have")
        if cut_off:
            return LogUnreadable("The answer broke off before its end")
        if encoding != "identity":
            return LogUnreadable(f"The answer is packed as {encoding}, which was not asked for")
        return content

    def _broken(self, error: Exception, until: float) -> str:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "The time for the whole audit was up before it was read"
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError) or time.monotonic() >= until:
            return f"The address did not answer within {self._timeout_s:g} s"
        if isinstance(error, urllib.error.URLError):
            return f"The address does not answer: {cause}"
        return f"The answer cannot be read: {error or type(error).__name__}"


# HTTP with a deadline


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: it would take the key to an address that the caller did not name."""

    def redirect_request(self, *_: Any) -> None:
        return None  # HTTPError is raised, as for every other answer that is no file


def _opener(url: str, until: float) -> urllib.request.OpenerDirector:
    """Opens http and https addresses, and ends at `until`.

    By the proxies of the environment, which are for the world outside: none of them sees a key for
    this machine.
    """

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock = _TimedSocket(self.sock, until)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock = _TimedSocket(self.sock, until)

    class Opens(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class OpensSecure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req, context=_trust())

    handlers: list[Any] = [Opens, OpensSecure, _StayHere]
    if urlsplit(url).hostname in _THIS_MACHINE:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _TimedSocket:
    """A connected socket of which every wait ends at `until`: a timeout alone counts each byte."""

    def __init__(self, wrapped: Any, until: float) -> None:
        self._wrapped = wrapped
        self._until = until

    def sendall(self, data: bytes) -> None:
        self._wrapped.settimeout(_left(self._until))
        self._wrapped.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._wrapped, self._until))

    def close(self) -> None:
        self._wrapped.close()


class _TimedReader(io.RawIOBase):
    """What http.client reads an answer from."""

    def __init__(self, wrapped: socket.socket, until: float) -> None:
        self._wrapped = wrapped
        # As socket.makefile does: http.client closes its socket before it has read the answer.
        self._file = wrapped.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._wrapped.settimeout(_left(self._until))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _left(until: float) -> float:
    """The seconds until then.

    Raises:
        TimeoutError: there are none.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


_contexts: list[ssl.SSLContext] = []


def _trust() -> ssl.SSLContext:
    """The authorities of this machine, read once."""
    if not _contexts:
        _contexts.append(ssl.create_default_context())
    return _contexts[0]


def _refused(error: urllib.error.HTTPError, *, with_key: bool) -> str:
    said = f"The address answered {error.code} {error.reason}"
    if error.code in (401, 403):
        said += ", with this API key" if with_key else ": it wants an API key"
    if 300 <= error.code < 400:
        said += f", which leads to {error.headers.get('Location', 'nowhere')}: no redirect is"
        said += " followed, so name that address yourself if you trust it"
    return said


def _below(folder: str, prefix: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False) and not is_link(entry.path)
            if is_folder and depth < _DEEPEST:
                yield from _below(entry.path, f"{prefix}{entry.name}/", depth + 1)
            else:
                yield prefix + entry.name
