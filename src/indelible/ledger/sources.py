"""Where an auditor reads a log from: its folder, or the address that serves it.

Only the standard library is used. Both can be handed to another process.
"""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Final, Protocol

from indelible.errors import LogUnreadable

Content = bytes | LogUnreadable | None
"""The bytes of a file; why it cannot be read; None when there is none."""

_MOST_BYTES: Final = 256 * (2 + 65_535)  # a bundle of the longest entries
_AT_ONCE: Final = 8
_TIMEOUT_S: Final = 30


class Source(Protocol):
    """The files of one log, by their paths below its prefix."""

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        ...

    def read(self, paths: Sequence[str]) -> list[Content]:
        """What lies at each path, in the order asked. Never raises."""
        ...

    def files(self) -> list[str] | None:
        """The paths of all files there are, sorted; None where they cannot be listed.

        Raises:
            LogUnreadable: they cannot be read.
        """
        ...


class FolderSource:
    """A log's folder on this machine."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = os.fspath(folder)

    @property
    def name(self) -> str:
        return self._folder

    def read(self, paths: Sequence[str]) -> list[Content]:
        return [self._read(path) for path in paths]

    def files(self) -> list[str]:
        try:
            return sorted(_below(self._folder, ""))
        except FileNotFoundError:  # nothing was published yet; else its checkpoint is missed
            return []
        except OSError as error:
            raise LogUnreadable(f"{self._folder}: {error.strerror or error}") from error

    def _read(self, path: str) -> Content:
        try:
            with open(f"{self._folder}/{path}", "rb", buffering=0) as file:  # noqa: PTH123 — speed
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            return LogUnreadable(str(error.strerror or error))


class UrlSource:
    """A log served over HTTP; `url` is its prefix, `key` an API key where the log asks for one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError("the prefix of a log begins with https:// or http://")
        self._url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

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
        try:
            request = urllib.request.Request(f"{self._url}/{path}", headers=self._headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                content: bytes = answer.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                return None
            return LogUnreadable(_refused(error, with_key="Authorization" in self._headers))
        except urllib.error.URLError as error:
            return LogUnreadable(f"The address does not answer: {error.reason}")
        except (OSError, ValueError, HTTPException) as error:  # it broke off, or is no answer
            return LogUnreadable(f"The answer cannot be read: {error or type(error).__name__}")
        if len(content) > _MOST_BYTES:
            return LogUnreadable("It is longer than any file of a log")
        return content


def _refused(error: urllib.error.HTTPError, *, with_key: bool) -> str:
    said = f"The address answered {error.code} {error.reason}"
    if error.code in (401, 403):
        said += ", with this API key" if with_key else ": it wants an API key"
    return said


def _below(folder: str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name
