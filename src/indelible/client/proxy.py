"""The proxy that the environment names, and which hosts go past it.

`HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, in either case, name a proxy as ``http://proxy:3128``
or ``http://user:password@proxy:3128``; user and password may have %XX for any byte. `NO_PROXY`
lists the hosts that are reached directly, separated by commas or blanks:

    *                       every host
    example.com             that name and every name below it; so do .example.com, *.example.com
    example.com:8443        the same, on this port alone
    10.1.2.3  fd00::1       an address; with a port: 10.1.2.3:8443, [fd00::1]:8443
    10.0.0.0/8  fd00::/8    every address of a network

A host that is a name is not looked up to find out whether an address or a network covers it. This
machine is always reached directly.
"""

import base64
import re
import urllib.request
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from indelible.client.hidden import Hidden, Secret
from indelible.network import Address

_HTTP_PORT: Final = 80
_PORT: Final = re.compile(r"(?P<host>[^:\[\]]+|\[[^\[\]]+\]):(?P<port>\d{1,5})", re.A)


class ProxyUnusable(Exception):
    """The environment names a proxy that cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        name, port: where it is.
        credentials: the value of Proxy-Authorization; None if it wants none.
        secrets: what must not be repeated of an answer of the proxy's.
    """

    name: str
    port: int
    credentials: Secret | None = None
    secrets: tuple[Secret, ...] = ()

    def __str__(self) -> str:
        return with_port(self.name, self.port)


def proxy_for(name: str, port: int, scheme: str) -> Proxy | None:
    """The proxy before this host; None if it is reached directly.

    Raises:
        ProxyUnusable: the environment names one that this client cannot speak to.
    """
    if is_loopback(name):
        return None
    # The addresses may hold passwords, so no variable here does: see `indelible.client.hidden`.
    known = Hidden(urllib.request.getproxies())
    variable = scheme if known.get(scheme) else "all"
    if not known.get(variable):
        return None
    if urllib.request.getproxies_environment():
        if is_exempt(name, port, known.get("no") or ""):
            return None
    elif urllib.request.proxy_bypass(name):  # the settings of macOS or Windows
        return None
    found = _read(Hidden({"address": known.get(variable)}), f"{variable.upper()}_PROXY")
    if isinstance(found, Proxy):
        return found
    raise ProxyUnusable(found)


def _read(given: Hidden, variable: str) -> Proxy | str:
    """The proxy whose `address` a variable has; why there is none, in words that hold no secret."""
    # Nothing here waits or raises while a variable holds an address.
    address = given.get("address")
    scheme, separator, _ = address.partition("://")
    scheme = scheme.lower() if separator else "http"
    if scheme.startswith("socks"):
        return (
            f"{variable} names a SOCKS proxy, which this client does not speak: name an HTTP proxy "
            "there, or list the host in NO_PROXY"
        )
    if scheme != "http":
        return (
            f"{variable} names a proxy that is spoken to by {scheme[:20]!r}; this client speaks to "
            "one by plain http:// alone, also for https:// hosts"
        )
    try:
        parts = urlsplit(address if separator else f"http://{address}")
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    if not name:
        return (
            f"{variable} is no address of a proxy, such as http://proxy:3128; write @ : / ? # in a "
            "user or a password as %40 %3A %2F %3F %23"
        )
    if parts.username is None:
        return Proxy(name, port or _HTTP_PORT)
    user, password = (unquote_to_bytes(one or "") for one in (parts.username, parts.password))
    encoded = base64.b64encode(user + b":" + password).decode()
    texts = (password.decode("latin-1"), password.decode(errors="replace"), encoded)
    secrets = tuple(Secret.of(text) for text in texts if text)
    return Proxy(name, port or _HTTP_PORT, Secret.of(f"Basic {encoded}"), secrets)


def is_exempt(name: str, port: int, no_proxy: str) -> bool:
    """Whether `no_proxy`, the value of NO_PROXY, says to reach this host directly.

    >>> is_exempt("events.example.com", 443, "localhost, .example.com")
    True
    >>> is_exempt("10.1.2.3", 443, "10.0.0.0/8"), is_exempt("badexample.com", 443, "example.com")
    (True, False)
    """
    name = name.lower().rstrip(".")
    address = _address(name)
    return any(
        entry == "*" or _covers(entry, name, address, port)
        for entry in re.split(r"[\s,;]+", no_proxy.lower())
        if entry
    )


def _covers(entry: str, name: str, address: Address | None, port: int) -> bool:
    with_its_port = _PORT.fullmatch(entry)
    if with_its_port is not None:
        if int(with_its_port["port"]) != port:
            return False
        entry = with_its_port["host"]
    if address is not None:
        if "/" in entry:
            try:
                return address in ip_network(entry.replace("[", "").replace("]", ""), strict=False)
            except ValueError:
                return False
        return _address(entry.strip("[]")) == address
    suffix = entry.removeprefix("*").strip(".")
    if not suffix.isascii():
        try:
            suffix = suffix.encode("idna").decode()
        except ValueError:
            return False
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def is_loopback(name: str) -> bool:
    """Whether the host is this machine, by its name or its address."""
    address = _address(name)
    if address is not None:
        return address.is_loopback
    name = name.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def with_port(name: str, port: int | None) -> str:
    """A host as it is written in an address: one of IPv6 in brackets.

    >>> with_port("fd00::1", 8443), with_port("example.com", None)
    ('[fd00::1]:8443', 'example.com')
    """
    bare = name.partition("%")[0]  # a zone means something on this machine alone
    shown = f"[{bare}]" if ":" in bare else name
    return shown if port is None else f"{shown}:{port}"


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
