"""Every small tree, leaf and older size; and nothing that was changed is ever accepted."""

import base64
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import LeafOutOfRange, ProofMalformed
from indelible.ledger.format.tree import (
    EMPTY_ROOT,
    Frontier,
    Hashes,
    Subtree,
    check_consistency,
    check_inclusion,
    fold,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    prove_root,
    root_of,
    subtrees_of,
)

LARGEST = 100
LEAVES = [leaf_hash(str(i).encode()) for i in range(LARGEST)]
READER = Hashes(LEAVES)
ROOTS = [root_of(LEAVES[:size]) for size in range(LARGEST + 1)]

WORKED_ROOTS = {
    0: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    1: "2zQm6HgGjSjSabbIcXIyLOU3K2V1bQeJAB00g19gHAM=",
    2: "ywCYnZSlacCmeK4EK2Pc1GJduWRAUX83put5duok7Us=",
    3: "cl1SMNto9VdHDcNfHYhlgTrNfrsHrRUndBQd7LrnEyc=",
    7: "o+I7Msy2v5bQktFl2KpUbgmCnejwOw6JV1gdHha5K98=",
}
WORKED_CONSISTENCY = [
    "+mHj3sNDlYn0eEyJO/Mh0AhPBMVyx68raOPzNgo1tIY=",
    "kGxdJIXK5yIHOkMPTQT+F2dQdZLO8iZimurbhaLskJ0=",
    "ywCYnZSlacCmeK4EK2Pc1GJduWRAUX83put5duok7Us=",
    "lz8IOVfHNZ+xlDrPnmaJvKbKXqcZfYCKrTwUSYaJ7+A=",
]

OTHER = leaf_hash(b"of no tree here")


# What the reference worked out


@pytest.mark.parametrize(("size", "root"), WORKED_ROOTS.items())
def test_the_worked_roots(size: int, root: str) -> None:
    expected = base64.b64decode(root)
    frontier = Frontier()
    frontier.append(LEAVES[:size])
    assert expected == root_of(LEAVES[:size])
    assert expected == prove_root(READER, size)
    assert expected == frontier.root()


def test_the_worked_inclusion_proof() -> None:
    proof = prove_inclusion(READER, 2, 3)
    assert [base64.b64decode(WORKED_ROOTS[2])] == proof
    assert check_inclusion(2, 3, LEAVES[2], proof, base64.b64decode(WORKED_ROOTS[3]))


def test_the_worked_consistency_proof() -> None:
    proof = [base64.b64decode(one) for one in WORKED_CONSISTENCY]
    old, new = (base64.b64decode(WORKED_ROOTS[size]) for size in (3, 7))
    assert proof == prove_consistency(READER, 3, 7)
    assert [LEAVES[2], LEAVES[3], ROOTS[2], root_of(LEAVES[4:7])] == proof
    assert check_consistency(3, 7, proof, old, new)


def test_the_root_of_three_is_written_out() -> None:
    assert node_hash(node_hash(LEAVES[0], LEAVES[1]), LEAVES[2]) == root_of(LEAVES[:3])


# Every tree to 100 leaves


def test_every_leaf_of_every_small_tree_has_the_proof_that_the_rfc_defines() -> None:
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = prove_inclusion(READER, index, size)
            assert _path(index, 0, size) == proof
            assert check_inclusion(index, size, LEAVES[index], proof, ROOTS[size])


def test_every_older_size_of_every_small_tree_has_the_proof_that_the_rfc_defines() -> None:
    for new in range(LARGEST + 1):
        for old in range(new + 1):
            proof = prove_consistency(READER, old, new)
            assert ([] if old == 0 else _subproof(old, 0, new, whole=True)) == proof
            assert check_consistency(old, new, proof, ROOTS[old], ROOTS[new])


def test_no_proof_holds_for_another_index_size_leaf_or_root() -> None:
    for size in range(1, 20):
        for index in range(size):
            proof = prove_inclusion(READER, index, size)
            leaf, root = LEAVES[index], ROOTS[size]
            others = [other for other in range(size) if other != index]
            assert not any(check_inclusion(other, size, leaf, proof, root) for other in others)
            assert not any(check_inclusion(index, size, LEAVES[n], proof, root) for n in others)
            for other in range(index + 1, 40):
                if other != size:
                    # A proof may have the form that another size asks for, but not its root.
                    assert not check_inclusion(index, other, leaf, proof, ROOTS[other])
            assert not check_inclusion(index, size, leaf, proof, OTHER)


def test_no_consistency_holds_for_other_sizes_or_roots() -> None:
    for new in range(2, 24):
        for old in range(1, new):
            proof = prove_consistency(READER, old, new)
            assert not check_consistency(old, new, proof, OTHER, ROOTS[new])
            assert not check_consistency(old, new, proof, ROOTS[old], OTHER)
            for other in range(1, new):
                if other != old:
                    assert not check_consistency(other, new, proof, ROOTS[other], ROOTS[new])
            for other in range(old + 1, 40):
                if other != new:
                    assert not check_consistency(old, other, proof, ROOTS[old], ROOTS[other])


def test_a_changed_past_has_no_consistency_proof() -> None:
    for new in range(2, 24):
        for changed in range(new):
            leaves = [*LEAVES[:changed], OTHER, *LEAVES[changed + 1 : new]]
            forged = Hashes(leaves)
            for old in range(1, new):
                proof = prove_consistency(forged, old, new)
                accepted = check_consistency(old, new, proof, ROOTS[old], root_of(leaves))
                assert (changed >= old) == accepted


def test_every_dropped_added_or_swapped_hash_of_every_small_proof_is_noticed() -> None:
    for size in range(1, 20):
        for index in range(size):
            proof = prove_inclusion(READER, index, size)
            for changed in _rearranged(proof):
                assert not check_inclusion(index, size, LEAVES[index], changed, ROOTS[size])
        for old in range(1, size):
            proof = prove_consistency(READER, old, size)
            for changed in _rearranged(proof):
                assert not check_consistency(old, size, changed, ROOTS[old], ROOTS[size])


def test_every_single_bit_of_a_proof_counts() -> None:
    for index, size in ((0, 1), (2, 3), (5, 7), (6, 7), (9, 12)):
        proof = prove_inclusion(READER, index, size)
        for position in range(len(proof)):
            for flipped in _flips(proof[position]):
                changed = [*proof[:position], flipped, *proof[position + 1 :]]
                assert not check_inclusion(index, size, LEAVES[index], changed, ROOTS[size])
        for flipped in _flips(LEAVES[index]):
            assert not check_inclusion(index, size, flipped, proof, ROOTS[size])
        for flipped in _flips(ROOTS[size]):
            assert not check_inclusion(index, size, LEAVES[index], proof, flipped)
    for old, new in ((1, 2), (3, 7), (4, 7), (6, 8)):
        proof = prove_consistency(READER, old, new)
        for position in range(len(proof)):
            for flipped in _flips(proof[position]):
                changed = [*proof[:position], flipped, *proof[position + 1 :]]
                assert not check_consistency(old, new, changed, ROOTS[old], ROOTS[new])


def test_a_frontier_grows_to_the_same_roots_however_it_is_fed() -> None:
    one_by_one = Frontier()
    for size in range(1, LARGEST + 1):
        one_by_one.append([LEAVES[size - 1]])
        assert (size, ROOTS[size]) == (one_by_one.size, one_by_one.root())
    for start in range(LARGEST + 1):
        at_once = Frontier(start, READER.read(subtrees_of(0, start)))
        assert ROOTS[start] == at_once.root()
        at_once.append(LEAVES[start:])
        assert (LARGEST, ROOTS[LARGEST]) == (at_once.size, at_once.root())


def test_perfect_subtrees_cover_a_range_once_and_largest_first() -> None:
    for end in range(1, 300):
        subtrees = subtrees_of(0, end)
        leaves = [
            leaf
            for level, number in subtrees
            for leaf in range(number << level, (number + 1) << level)
        ]
        assert list(range(end)) == leaves
        levels = [subtree.level for subtree in subtrees]
        assert sorted(set(levels), reverse=True) == levels
    assert [Subtree(2, 1), Subtree(1, 4), Subtree(0, 10)] == subtrees_of(4, 11)


def test_a_proof_is_read_at_once_and_has_at_most_log2_hashes() -> None:
    class Counting(Hashes):
        reads = 0

        def read(self, subtrees: Sequence[Subtree]) -> list[bytes]:
            self.reads += 1
            return super().read(subtrees)

    for size in range(1, LARGEST + 1):
        counting = Counting(LEAVES)
        proof = prove_inclusion(counting, size // 2, size)
        assert 1 == counting.reads
        assert len(proof) <= (size - 1).bit_length()
        counting = Counting(LEAVES)
        assert prove_root(counting, size) == ROOTS[size]
        assert 1 == counting.reads


# What is decided for the edges


def test_the_same_size_needs_an_empty_proof_and_the_same_root() -> None:
    for size in (0, 1, 5):
        assert [] == prove_consistency(READER, size, size)
        assert check_consistency(size, size, [], ROOTS[size], ROOTS[size])
        assert not check_consistency(size, size, [], ROOTS[size], OTHER)
        assert not check_consistency(size, size, [OTHER], ROOTS[size], ROOTS[size])


def test_from_the_empty_tree_only_the_empty_proof_and_the_empty_root_will_do() -> None:
    assert [] == prove_consistency(READER, 0, 5)
    assert check_consistency(0, 5, [], EMPTY_ROOT, ROOTS[5])
    assert not check_consistency(0, 5, [], OTHER, ROOTS[5])
    assert not check_consistency(0, 5, [ROOTS[5]], EMPTY_ROOT, ROOTS[5])


def test_an_empty_proof_is_no_proof_between_two_sizes() -> None:
    for old in range(1, 9):
        assert not check_consistency(old, 9, [], ROOTS[old], ROOTS[9])
        assert not check_consistency(old, 9, [], ROOTS[9], ROOTS[9])


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5), (-2, -1)])
def test_sizes_that_cannot_be_are_an_error_not_a_wrong_proof(old: int, new: int) -> None:
    with pytest.raises(ProofMalformed):
        check_consistency(old, new, [], EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(LeafOutOfRange):
        prove_consistency(READER, old, new)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5)])
def test_an_index_outside_the_tree_is_an_error_not_a_wrong_proof(index: int, size: int) -> None:
    with pytest.raises(ProofMalformed):
        check_inclusion(index, size, OTHER, [], OTHER)
    with pytest.raises(LeafOutOfRange):
        prove_inclusion(READER, index, size)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_hash_has_32_bytes_wherever_it_stands(length: int) -> None:
    short = bytes(length)
    proof = prove_inclusion(READER, 2, 7)
    for leaf, hashes, root in (
        (short, proof, ROOTS[7]),
        (LEAVES[2], [*proof, short], ROOTS[7]),
        (LEAVES[2], proof, short),
    ):
        with pytest.raises(ProofMalformed):
            check_inclusion(2, 7, leaf, hashes, root)
    proof = prove_consistency(READER, 3, 7)
    for old, hashes, new in (
        (short, proof, ROOTS[7]),
        (ROOTS[3], [short, *proof], ROOTS[7]),
        (ROOTS[3], proof, short),
    ):
        with pytest.raises(ProofMalformed):
            check_consistency(3, 7, hashes, old, new)
    with pytest.raises(ProofMalformed):
        check_consistency(0, 0, [], short, short)


def test_a_leaf_is_no_node_and_no_odd_leaf_is_counted_twice() -> None:
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])
    assert root_of(LEAVES[:3]) != root_of([*LEAVES[:3], LEAVES[2]])


# At random


@given(data=st.data())
def test_no_changed_inclusion_proof_is_accepted(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LARGEST), "size")
    index = data.draw(st.integers(0, size - 1), "index")
    proof = prove_inclusion(READER, index, size)
    changed = _changed(data, proof)
    assert check_inclusion(index, size, LEAVES[index], proof, ROOTS[size])
    assert not check_inclusion(index, size, LEAVES[index], changed, ROOTS[size])


@given(data=st.data())
def test_no_changed_consistency_proof_is_accepted(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, LARGEST), "new")
    old = data.draw(st.integers(0, new), "old")
    proof = prove_consistency(READER, old, new)
    changed = _changed(data, proof)
    assert check_consistency(old, new, proof, ROOTS[old], ROOTS[new])
    assert not check_consistency(old, new, changed, ROOTS[old], ROOTS[new])


@given(
    index=st.integers(0, 2**64 - 1),
    beyond=st.integers(1, 2**64),
    leaf=st.binary(min_size=32, max_size=32),
    proof=st.lists(st.binary(min_size=32, max_size=32), max_size=70),
    root=st.binary(min_size=32, max_size=32),
)
def test_what_is_made_up_proves_nothing(
    index: int, beyond: int, leaf: bytes, proof: list[bytes], root: bytes
) -> None:
    size = index + beyond
    assert (size == 1 and not proof and leaf == root) == check_inclusion(
        index, size, leaf, proof, root
    )
    if index:
        assert not check_consistency(index, size, proof, leaf, root)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20))
def test_folding_is_the_node_above_the_first_and_the_rest(hashes: list[bytes]) -> None:
    expected = hashes[0] if len(hashes) == 1 else node_hash(hashes[0], fold(hashes[1:]))
    assert expected == fold(hashes)


def _path(index: int, start: int, end: int) -> list[bytes]:
    """RFC 6962 section 2.1.1, word for word, of LEAVES[start:end]."""
    if end - start == 1:
        return []
    k = _largest_power_below(end - start)
    if index < k:
        return [*_path(index, start, start + k), _root_between(start + k, end)]
    return [*_path(index - k, start + k, end), _root_between(start, start + k)]


def _subproof(old: int, start: int, end: int, *, whole: bool) -> list[bytes]:
    """RFC 6962 section 2.1.2, word for word, of LEAVES[start:end]."""
    if old == end - start:
        return [] if whole else [_root_between(start, end)]
    k = _largest_power_below(end - start)
    if old <= k:
        return [*_subproof(old, start, start + k, whole=whole), _root_between(start + k, end)]
    return [*_subproof(old - k, start + k, end, whole=False), _root_between(start, start + k)]


@cache
def _root_between(start: int, end: int) -> bytes:
    return root_of(LEAVES[start:end])


def _largest_power_below(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def _rearranged(proof: list[bytes]) -> list[list[bytes]]:
    """`proof` with each hash dropped, one added at each place, each two neighbours swapped."""
    places = range(len(proof))
    dropped = [[*proof[:n], *proof[n + 1 :]] for n in places]
    added = [[*proof[:n], OTHER, *proof[n:]] for n in range(len(proof) + 1)]
    doubled = [[*proof[:n], proof[n], *proof[n:]] for n in places]
    swapped = [[*proof[:n], proof[n + 1], proof[n], *proof[n + 2 :]] for n in places[:-1]]
    return dropped + added + doubled + swapped


def _changed(data: st.DataObject, proof: list[bytes]) -> list[bytes]:
    """A list of hashes that is not `proof`, and not far from it."""
    how = data.draw(st.sampled_from(["flip", "drop", "add", "swap"] if proof else ["add"]), "how")
    at = data.draw(st.integers(0, len(proof) if how == "add" else len(proof) - 1), "at")
    match how:
        case "flip":
            bit = data.draw(st.integers(0, 255), "bit")
            return [*proof[:at], _flip(proof[at], bit), *proof[at + 1 :]]
        case "drop":
            return [*proof[:at], *proof[at + 1 :]]
        case "swap" if len(proof) > 1:
            other = data.draw(st.sampled_from([n for n in range(len(proof)) if n != at]), "other")
            swapped = list(proof)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            return swapped
        case _:
            return [*proof[:at], data.draw(st.sampled_from([OTHER, *LEAVES]), "hash"), *proof[at:]]


def _flip(content: bytes, bit: int) -> bytes:
    return (int.from_bytes(content, "big") ^ (1 << bit)).to_bytes(len(content), "big")


def _flips(content: bytes) -> list[bytes]:
    return [_flip(content, bit) for bit in range(8 * len(content))]
