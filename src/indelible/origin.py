"""Web origins (RFC 6454): which pages a request may come from. Pure."""

import re
from functools import lru_cache
from typing import Final

MAX_CHARS: Final = 255
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_LABELS: Final = re.compile(r"[a-z0-9._-]*[a-z0-9_-]")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def parse_origin(text: str) -> str:
    """An origin as browsers write it: lower case, without the scheme's own port.

    `*.` before the host stands for any of its subdomains.

    >>> parse_origin("HTTPS://Shop.example:443/"), parse_origin("https://*.example.com")
    ('https://shop.example', 'https://*.example.com')

    Raises:
        ValueError: it is none, or has a path.
    """
    scheme, separator, rest = text.strip().lower().removesuffix("/").partition("://")
    star = "*." if rest.startswith("*.") else ""
    rest = rest.removeprefix("*.")
    if not rest.isascii():
        name, colon, port = rest.partition(":")
        rest = name.encode("idna").decode() + colon + port
    host = _HOST.fullmatch(rest)
    if len(text) > MAX_CHARS or not separator or not _SCHEME.fullmatch(scheme) or host is None:
        raise ValueError(f"{text[:MAX_CHARS]!r} is no origin")
    port = "" if host[2] in (None, _DEFAULT_PORTS.get(scheme)) else f":{host[2]}"
    return f"{scheme}://{star}{host[1]}{port}"


def allows(origins: tuple[str, ...], origin: str) -> bool:
    """Whether `origin`, as a browser sent it, is one of `origins`.

    >>> allows(("https://*.example.com",), "https://shop.example.com")
    True
    >>> allows(("https://*.example.com",), "https://example.com")
    False
    """
    return len(origin) <= MAX_CHARS and _allows(origins, origin.lower())


@lru_cache(maxsize=1_024)  # a site's pages send the same few again and again
def _allows(origins: tuple[str, ...], origin: str) -> bool:
    return any(one == origin or _is_below(one, origin) for one in origins)


def _is_below(wanted: str, origin: str) -> bool:
    """Whether `wanted` has a star, and `origin` a subdomain in its place."""
    before, star, behind = wanted.partition("*")
    return (
        bool(star)
        and origin.startswith(before)
        and origin.endswith(behind)
        and _LABELS.fullmatch(origin[len(before) : len(origin) - len(behind)]) is not None
    )
