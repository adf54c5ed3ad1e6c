"""The 96 bytes of a leaf entry, and commitments."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import leaf
from indelible.errors import LeafMalformed
from indelible.event import Kind

GOOD = leaf.encode(
    Kind.AUDIT, received_at_ms=0x0102030405060708, tx=b"t" * 16, payload=b"p" * 32, record=b"r" * 32
)


def test_the_worked_commitment_of_the_specification() -> None:
    made = leaf.commit(bytes(range(32)), leaf.PAYLOAD, b'{"a":1}')
    assert "22d6638a2e9bac93860e57aa4a681f82b19f658e6d9ecedf923badcafe3d789c" == made.hex()


@given(salt=st.binary(min_size=32, max_size=32), content=st.binary())
def test_a_commitment_is_an_hmac_over_domain_zero_and_content(salt: bytes, content: bytes) -> None:
    for domain, name in (
        (leaf.PAYLOAD, b"indelible/payload/v1"),
        (leaf.RECORD, b"indelible/record/v1"),
    ):
        expected = hmac.new(salt, name + b"\x00" + content, hashlib.sha256).digest()
        assert expected == leaf.commit(salt, domain, content)


def test_the_layout_to_the_byte() -> None:
    assert b"\x01\x02" + bytes(6) + bytes(range(1, 9)) + b"t" * 16 + b"p" * 32 + b"r" * 32 == GOOD
    assert (96, leaf.SIZE) == (len(GOOD), 96)


@given(
    kind=st.sampled_from(Kind),
    received_at_ms=st.integers(0, 2**64 - 1),
    tx=st.binary(min_size=16, max_size=16),
    payload=st.binary(min_size=32, max_size=32),
    record=st.binary(min_size=32, max_size=32),
)
def test_what_is_encoded_is_decoded(
    kind: Kind, received_at_ms: int, tx: bytes, payload: bytes, record: bytes
) -> None:
    entry = leaf.encode(kind, received_at_ms=received_at_ms, tx=tx, payload=payload, record=record)
    assert leaf.Leaf(kind, received_at_ms, tx, payload, record) == leaf.decode(entry)


@given(
    events=st.lists(
        st.tuples(st.binary(min_size=64, max_size=64), st.binary(max_size=300), st.binary()),
        max_size=5,
    )
)
def test_many_commitments_made_at_once_are_those_made_one_by_one(
    events: list[tuple[bytes, bytes, bytes]],
) -> None:
    salts = b"".join(both for both, _, _ in events)
    made = leaf.commit_all(salts, [event[1] for event in events], [event[2] for event in events])
    assert [
        (
            both,
            leaf.commit(both[:32], leaf.PAYLOAD, payload),
            leaf.commit(both[32:], leaf.RECORD, record),
        )
        for both, payload, record in events
    ] == list(made)


@pytest.mark.parametrize("size", [*range(96), 97, 192])
def test_a_leaf_entry_of_another_length_is_malformed(size: int) -> None:
    with pytest.raises(LeafMalformed, match=str(size)):
        leaf.decode((GOOD * 2)[:size])


@pytest.mark.parametrize("place", range(2, 8))
def test_padding_that_is_not_zero_is_malformed(place: int) -> None:
    with pytest.raises(LeafMalformed, match="zero"):
        leaf.decode(GOOD[:place] + b"\x01" + GOOD[place + 1 :])


@pytest.mark.parametrize("version", [n for n in range(256) if n != 1])
def test_another_version_is_malformed(version: int) -> None:
    with pytest.raises(LeafMalformed, match="version"):
        leaf.decode(bytes([version]) + GOOD[1:])


@pytest.mark.parametrize("kind", [n for n in range(256) if n not in range(1, 6)])
def test_an_unknown_kind_is_malformed(kind: int) -> None:
    with pytest.raises(LeafMalformed, match="kind"):
        leaf.decode(GOOD[:1] + bytes([kind]) + GOOD[2:])
