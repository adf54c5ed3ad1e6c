"""Merkle trees as RFC 6962 section 2.1 defines them, over SHA-256. Pure.

    leaf(e) = H(0x00 || e)        node(l, r) = H(0x01 || l || r)        empty tree = H("")

The root of n > 1 leaves is ``node(root of the first k, root of the rest)``, k being the largest
power of two below n. No odd leaf is ever duplicated.

>>> import base64
>>> leaves = [leaf_hash(str(i).encode()) for i in range(7)]
>>> [base64.b64encode(root_of(leaves[:n])).decode() for n in (0, 3, 7)]  # doctest: +ELLIPSIS
['47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=', 'cl1SMNto9V...LrnEyc=', 'o+I7Msy2v5...Hha5K98=']

A prover asks a `HashReader` once, for all the hashes that a proof needs; a checker has the proof
alone. Checkers follow RFC 9162 sections 2.1.3.2 and 2.1.4.2 and share nothing with the provers but
`leaf_hash` and `node_hash`. A wrong proof is False; input that is no proof at all is an error.

>>> reader = Hashes(leaves)
>>> proof = prove_inclusion(reader, 2, 3)
>>> proof == [root_of(leaves[:2])], check_inclusion(2, 3, leaves[2], proof, root_of(leaves[:3]))
(True, True)
>>> proof = prove_consistency(reader, 3, 7)
>>> [len(proof), check_consistency(3, 7, proof, root_of(leaves[:3]), root_of(leaves))]
[4, True]
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from indelible.errors import LeafOutOfRange, ProofMalformed

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf that holds `entry`."""
    return _sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """`leaf_hash` of each of many entries, without a call for each."""
    sha256 = _sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above `left` and `right`."""
    return _sha256(b"\x01" + left + right).digest()


class Subtree(NamedTuple):
    """The perfect subtree over the leaves [number * 2**level, (number + 1) * 2**level)."""

    level: int
    number: int


class HashReader(Protocol):
    """Where provers read the hashes of subtrees."""

    def read(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        """The hash of each subtree, in the order asked; every one lies within the tree."""
        ...


class Hashes:
    """A `HashReader` over leaf hashes in memory, computed anew at each call: for small trees."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._leaves = hashes

    def read(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        return [
            root_of(self._leaves[number << level : (number + 1) << level])
            for level, number in subtrees
        ]


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, by the definition above, literally."""
    match len(hashes):
        case 0:
            return EMPTY_ROOT
        case 1:
            return hashes[0]
        case size:
            k = _split(size)
            return node_hash(root_of(hashes[:k]), root_of(hashes[k:]))


def root_of_perfect(hashes: Sequence[bytes]) -> bytes:
    """The root above `hashes`, a power of two of them, one level after the other."""
    sha256 = _sha256
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


def subtrees_of(start: int, end: int) -> list[Subtree]:
    """The perfect subtrees that make up [start, end), largest first.

    `start` must be 0 or the place where a split of the tree put it: a multiple of a power of two
    that is not below end - start.
    """
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        assert start % (1 << level) == 0
        found.append(Subtree(level, start >> level))
        start += 1 << level
    return found


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root above the perfect subtrees with these hashes, largest first, at least one."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def prove_root(reader: HashReader, size: int) -> bytes:
    """The root of the first `size` leaves."""
    return fold(reader.read(subtrees_of(0, size))) if size else EMPTY_ROOT


def prove_inclusion(reader: HashReader, index: int, size: int) -> list[bytes]:
    """The sibling hashes from the leaf `index` up to the root of `size`; one read.

    Raises:
        LeafOutOfRange: `index` is not in [0, size).
    """
    if not 0 <= index < size:
        raise LeafOutOfRange(f"The tree has {size} leaves, and none with index {index}")
    return _read_ranges(reader, _siblings(index, 0, size))


def prove_consistency(reader: HashReader, old: int, new: int) -> list[bytes]:
    """The hashes that show the tree of `old` leaves to be the beginning of that of `new`; one read.

    Empty for old = 0 and old = new.

    Raises:
        LeafOutOfRange: not 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise LeafOutOfRange(f"A tree of {old} leaves is not the beginning of one of {new}")
    return _read_ranges(reader, _subproof(old, 0, new, whole=True)) if 0 < old < new else []


def check_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether `proof` shows `leaf`, a leaf hash, at `index` in the tree of `size` with `root`.

    RFC 9162 section 2.1.3.2.

    Raises:
        ProofMalformed: a hash is not 32 bytes long, or the index is not in the tree.
    """
    _all_hashes([leaf, root, *proof])
    if not 0 <= index < size:
        raise ProofMalformed(f"A tree of {size} leaves has none with index {index}")
    first, second, result = index, size - 1, leaf
    for sibling in proof:
        if second == 0:
            return False
        if first & 1 or first == second:
            result = node_hash(sibling, result)
            while first and not first & 1:
                first >>= 1
                second >>= 1
        else:
            result = node_hash(result, sibling)
        first >>= 1
        second >>= 1
    return second == 0 and result == root


def check_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Whether `proof` shows the tree of `old` leaves to be the beginning of that of `new`.

    RFC 9162 section 2.1.4.2. For old = new the proof is empty and the roots are equal; for old = 0
    it is empty and the old root is that of the empty tree.

    Raises:
        ProofMalformed: a hash is not 32 bytes long, or not 0 <= old <= new.
    """
    _all_hashes([old_root, new_root, *proof])
    if not 0 <= old <= new:
        raise ProofMalformed(f"A tree of {old} leaves is not the beginning of one of {new}")
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not proof:
        return False
    first, second = old - 1, new - 1
    while first & 1:
        first >>= 1
        second >>= 1
    of_old = of_new = path[0]
    for sibling in path[1:]:
        if second == 0:
            return False
        if first & 1 or first == second:
            of_old, of_new = node_hash(sibling, of_old), node_hash(sibling, of_new)
            while first and not first & 1:
                first >>= 1
                second >>= 1
        else:
            of_new = node_hash(of_new, sibling)
        first >>= 1
        second >>= 1
    return second == 0 and of_old == old_root and of_new == new_root


class Frontier:
    """A tree that grows at its right edge: the hashes of its perfect subtrees, largest first.

    It computes roots from the leaves upwards, by carrying as an odometer does, and so independently
    of `prove_root`.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._hashes = list(hashes)
        assert len(self._hashes) == size.bit_count()

    @property
    def hashes(self) -> list[bytes]:
        """The hashes of its perfect subtrees, largest first."""
        return list(self._hashes)

    def append(self, hashes: Iterable[bytes]) -> None:
        """Add leaves, by their hashes, at the end."""
        size, subtrees, sha256 = self.size, self._hashes, _sha256
        pop, push = subtrees.pop, subtrees.append
        for carried in hashes:
            rest = size
            while rest & 1:
                carried = sha256(b"\x01" + pop() + carried).digest()
                rest >>= 1
            push(carried)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """The root of all leaves so far."""
        return fold(self._hashes) if self._hashes else EMPTY_ROOT


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


_Range = tuple[int, int]


def _siblings(index: int, start: int, end: int) -> list[_Range]:
    """PATH of RFC 6962 section 2.1.1, as ranges of leaves."""
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_siblings(index, start, middle), (middle, end)]
    return [*_siblings(index, middle, end), (start, middle)]


def _subproof(old: int, start: int, end: int, *, whole: bool) -> list[_Range]:
    """SUBPROOF of RFC 6962 section 2.1.2, as ranges of leaves."""
    if old == end:
        return [] if whole else [(start, end)]
    middle = start + _split(end - start)
    if old <= middle:
        return [*_subproof(old, start, middle, whole=whole), (middle, end)]
    return [*_subproof(old, middle, end, whole=False), (start, middle)]


def _read_ranges(reader: HashReader, ranges: Sequence[_Range]) -> list[bytes]:
    parts = [subtrees_of(start, end) for start, end in ranges]
    hashes = iter(reader.read([subtree for part in parts for subtree in part]))
    return [fold([next(hashes) for _ in part]) for part in parts]


def _all_hashes(hashes: Iterable[bytes]) -> None:
    for value in hashes:
        if len(value) != HASH_SIZE:
            raise ProofMalformed(f"A hash has {HASH_SIZE} bytes, this one {len(value)}")
