"""What something in front of the server says of itself, made fit for a log.

The status, its phrase, the title of a page: enough to find the team whose proxy, firewall or login
page it is. A page may also repeat what was sent to it, so words that stand in the request, and
secrets, are left out.
"""

import json
import re
from collections.abc import Mapping
from html import unescape
from typing import Any, Final
from urllib.parse import urlsplit

from indelible.client.hidden import Unspoken

_LONGEST: Final = 80
_LOOKED_AT_BYTES: Final = 4_096
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.I | re.S)
_TAG: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.I | re.S)
_WORD: Final = re.compile(r"[^\s<>\"'=,;:()\[\]{}]{4,}")
_MEMBERS: Final = ("message", "error", "detail", "title")


def said_by(
    status: int,
    phrase: str,
    headers: Mapping[str, str],
    text: bytes,
    body: bytes | None,
    secrets: Unspoken,
    *,
    who: str = "a proxy",
) -> str:
    """One line about an answer, such as ``a proxy answered 403 Forbidden ("Access denied")``.

    Args:
        headers: of the answer, with lower-case names.
        text: its body.
        body: that of the request; no word of it is repeated.
        secrets: what must not be repeated either.
        who: who answered.
    """
    data = (body or b"").decode(errors="replace")

    def fit(words: str) -> str:
        words = " ".join("".join(c if c.isprintable() else " " for c in words).split())[:_LONGEST]
        repeats = any(word in data for word in _WORD.findall(words)) or secrets.are_in(words)
        return "" if repeats else words

    line = f"{who} answered {status}"
    phrase, title = fit(phrase), fit(_title(text))
    if phrase:
        line += f" {phrase}"
    if title and title.lower() not in (phrase.lower(), f"{status} {phrase}".lower()):
        line += f' ("{title}")'
    server = fit(headers.get("server", ""))
    if server:
        line += f", {server}"
    origin = fit(_origin(headers.get("location", "")))
    if origin and 300 <= status < 400:
        line += f", and points to {origin}"
    return line


def _title(text: bytes) -> str:
    """What a page or a body of JSON is called, or says if it is short."""
    page = text[:_LOOKED_AT_BYTES].decode(errors="replace")
    found = _TITLE.search(page)
    if found is not None:
        return unescape(_TAG.sub(" ", found[1]))
    try:
        body: Any = json.loads(page)
    except (ValueError, RecursionError):
        return unescape(_TAG.sub(" ", page))
    if not isinstance(body, dict):
        return ""
    return next((body[name] for name in _MEMBERS if isinstance(body.get(name), str)), "")


def _origin(location: str) -> str:
    """Scheme and host of where a redirect leads: the rest may hold a session or a key."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.scheme and host else ""
