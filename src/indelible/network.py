"""Addresses and networks, and who a request really comes from."""

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_HOPS: Final = 100
"""Hops of X-Forwarded-For that are looked at: each takes ten microseconds of the event loop."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read networks separated by commas; a lone address is a network of one.

    >>> parse_networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))

    Raises:
        ValueError: one of them is no network, or has bits set beyond its prefix.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def parse_address(text: str) -> Address | None:
    """Read an address as proxies write it: perhaps with a port, perhaps in brackets.

    >>> parse_address("[2001:db8::1]:443"), parse_address("192.0.2.1:8080"), parse_address("junk")
    (IPv6Address('2001:db8::1'), IPv4Address('192.0.2.1'), None)
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def contains(networks: Iterable[Network], address: Address) -> bool:
    """Whether `address` is in one of `networks`."""
    return any(address in network for network in networks)


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> Address | None:
    """The address nearest to us that is no trusted proxy; None when it cannot be known.

    `forwarded_for` are the X-Forwarded-For headers in the order received. They are walked from the
    right, because everything left of the first untrusted hop was written by that hop and may be
    forged; from an untrusted `peer` they are not looked at, nor are more than `MOST_HOPS` of them.

    >>> nets = parse_networks("127.0.0.0/8, 10.0.0.0/8")
    >>> client_address("127.0.0.1", ["203.0.113.9, 198.51.100.7, 10.0.0.2"], nets)
    IPv4Address('198.51.100.7')
    >>> client_address("198.51.100.7", ["10.0.0.1"], nets)
    IPv4Address('198.51.100.7')
    """
    nearest = parse_address(peer) if peer else None
    if nearest is None or not contains(trusted, nearest):
        return nearest
    # Hops beyond the limit stay in one piece, which is no address.
    for hop in reversed(",".join(forwarded_for).rsplit(",", MOST_HOPS)):
        if not hop.strip():
            continue
        address = parse_address(hop)
        if address is None:
            return None  # a trusted proxy passed on garbage: better unknown than the proxy itself
        if not contains(trusted, address):
            return address
        nearest = address
    return nearest
