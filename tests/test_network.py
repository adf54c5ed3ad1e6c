"""Who a request comes from: nothing that a caller writes may change it."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from indelible.network import (
    MOST_HOPS,
    Address,
    client_address,
    contains,
    parse_address,
    parse_networks,
)

TRUSTED = parse_networks("127.0.0.0/8,10.0.0.0/8,::1/128,2001:db8:10::/48")

trusted = st.one_of(
    st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(network="2001:db8:10::/48")
)
untrusted = st.ip_addresses().filter(lambda address: not contains(TRUSTED, canonical(address)))
junk = st.text(max_size=40)
header = st.text(st.characters(exclude_characters=","), max_size=20)


def canonical(address: Address) -> Address:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, IPv4Address) else address


def written(address: Address) -> st.SearchStrategy[str]:
    """The ways in which proxies write an address."""
    if isinstance(address, IPv6Address):
        return st.sampled_from([str(address), f"[{address}]", f"[{address}]:443", f'"[{address}]"'])
    return st.sampled_from([str(address), f"{address}:8080", f" {address} ", f"::ffff:{address}"])


def chain_of(addresses: list[Address], data: st.DataObject) -> list[str]:
    return [data.draw(written(address)) for address in addresses]


@given(peer=untrusted, forged=st.lists(junk, max_size=3))
def test_from_an_untrusted_peer_no_header_is_believed(peer: Address, forged: list[str]) -> None:
    assert canonical(peer) == client_address(str(peer), forged, TRUSTED)


@given(
    peer=trusted,
    forged=st.lists(junk, max_size=3),
    caller=untrusted,
    proxies=st.lists(trusted, max_size=4),
    data=st.data(),
)
def test_what_stands_left_of_the_first_untrusted_hop_never_matters(
    peer: Address, forged: list[str], caller: Address, proxies: list[Address], data: st.DataObject
) -> None:
    believed = ", ".join(chain_of([caller, *proxies], data))
    assert canonical(caller) == client_address(str(peer), [*forged, believed], TRUSTED)


@given(peer=trusted, hops=st.lists(st.one_of(trusted, untrusted), max_size=6), data=st.data())
def test_a_trusted_proxy_is_the_answer_only_when_every_hop_is_trusted(
    peer: Address, hops: list[Address], data: st.DataObject
) -> None:
    answer = client_address(str(peer), chain_of(hops, data), TRUSTED)

    chain = [canonical(hop) for hop in (*hops, peer)]
    outside = [hop for hop in chain if not contains(TRUSTED, hop)]
    assert (outside[-1] if outside else chain[0]) == answer


@given(
    peer=trusted,
    hops=st.lists(st.one_of(trusted, untrusted), min_size=1, max_size=6),
    cuts=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_one_header_with_commas_says_the_same_as_many_headers(
    peer: Address, hops: list[Address], cuts: list[bool]
) -> None:
    headers = [[str(hops[0])]]
    for hop, cut in zip(hops[1:], cuts, strict=False):
        if cut:
            headers.append([])
        headers[-1].append(str(hop))
    assert client_address(str(peer), [str(hop) for hop in hops], TRUSTED) == client_address(
        str(peer), [", ".join(parts) for parts in headers], TRUSTED
    )


@given(peer=trusted, rubbish=header, left=st.lists(st.ip_addresses().map(str), max_size=3))
def test_when_a_trusted_proxy_passes_on_rubbish_the_caller_is_unknown(
    peer: Address, rubbish: str, left: list[str]
) -> None:
    assume(rubbish.strip() and parse_address(rubbish) is None)
    assert client_address(str(peer), [*left, rubbish], TRUSTED) is None


@given(peer=junk, forwarded_for=st.lists(junk, max_size=3))
def test_no_text_makes_it_raise(peer: str, forwarded_for: list[str]) -> None:
    client_address(peer, forwarded_for, TRUSTED)


def test_without_a_peer_the_caller_is_unknown() -> None:
    assert client_address(None, ["203.0.113.9"], TRUSTED) is None


@given(st.ip_addresses(), st.data())
def test_an_address_is_read_in_every_way_that_it_is_written(
    address: Address, data: st.DataObject
) -> None:
    assert canonical(address) == parse_address(data.draw(written(address)))


def test_an_ipv4_caller_on_an_ipv6_socket_is_an_ipv4_caller() -> None:
    nets = parse_networks("203.0.113.0/24")
    address = client_address("::ffff:203.0.113.9", [], TRUSTED)
    assert address is not None
    assert contains(nets, address)


@pytest.mark.parametrize("text", ["", "  ", ",", " , "])
def test_no_text_is_no_network(text: str) -> None:
    assert () == parse_networks(text)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "nowhere", "10.0.0.0/33", "1.2.3", "::/129"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_networks(text)


@given(st.lists(st.ip_addresses(), max_size=5))
def test_a_lone_address_is_a_network_of_one(addresses: list[Address]) -> None:
    networks = parse_networks(", ".join(map(str, addresses)))
    assert [1] * len(addresses) == [network.num_addresses for network in networks]
    assert all(contains(networks, ip_address(str(address))) for address in addresses)


@pytest.mark.parametrize(("hops", "known"), [(MOST_HOPS, True), (MOST_HOPS + 1, False)])
def test_behind_more_hops_than_are_looked_at_the_caller_is_unknown(hops: int, known: bool) -> None:
    chain = ["192.0.2.1", *["10.0.0.1"] * hops]
    found = client_address("10.0.0.2", [", ".join(chain)], TRUSTED)
    assert (ip_address("192.0.2.1") if known else None) == found
