"""Portable proofs and the openings within them: both ways, cut, flipped, and at random."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import leaf
from indelible.errors import LeafMalformed, ProofMalformed, UnknownVersion, Unverifiable
from indelible.event import Kind
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import Note, open_note
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.proof import HEADER, MOST_HASHES, Proof
from indelible.ledger.format.tree import (
    Hashes,
    check_inclusion,
    leaf_hash,
    prove_inclusion,
    root_of,
)
from tests.ledger.format import worked
from tests.ledger.format.worked import COSIGNER, SIGNER

KEYS = (SIGNER.key, COSIGNER.key)
PAYLOAD, RECORD = '{"a":1,"ü":"—"}'.encode(), b'{"clock":"2026-01-01T00:00:00Z"}'
PAYLOAD_SALT, RECORD_SALT = bytes(range(32)), bytes(range(32, 64))
LEAF = leaf.encode(
    Kind.AUDIT,
    received_at_ms=1_700_000_000_000,
    tx=b"t" * 16,
    payload=leaf.commit(PAYLOAD_SALT, leaf.PAYLOAD, PAYLOAD),
    record=leaf.commit(RECORD_SALT, leaf.RECORD, RECORD),
)
OPENING = Opening(LEAF, PAYLOAD, PAYLOAD_SALT, RECORD, RECORD_SALT)
ERASED = Opening(LEAF, None, None, None, None)

INDEX, SIZE = 2, 7
LEAVES = [*worked.LEAVES[:INDEX], leaf_hash(LEAF), *worked.LEAVES[INDEX + 1 :]]
CHECKPOINT = Checkpoint(worked.ORIGIN, SIZE, root_of(LEAVES))
NOTE = str(
    Note(
        CHECKPOINT.text,
        (SIGNER.signature(CHECKPOINT.text), COSIGNER.cosign(CHECKPOINT.text, 1_700_000_001)),
    )
)
PROOF = Proof(INDEX, tuple(prove_inclusion(Hashes(LEAVES), INDEX, SIZE)), NOTE, OPENING.encode())
PLAIN = Proof(0, (), worked.NOTE)


class Refused(Exception):
    """The checks were made, and one of them says no."""


def seen(text: str) -> tuple[int, Note, Opening]:
    """What a reader of this receipt is shown once every check has passed.

    Raises:
        Refused: a commitment or the inclusion does not hold.
        Unverifiable, Tampered: it cannot be checked, or a signature is wrong.
    """
    proof = Proof.parse(text)
    open_note(proof.checkpoint, [SIGNER.key])  # a witness's word does not stand for the log's
    note = open_note(proof.checkpoint, KEYS)
    checkpoint = Checkpoint.parse(note.text)
    opening = Opening.decode(proof.extra or b"")
    leaf_is = leaf_hash(opening.leaf_entry)
    if opening.wrong_commitments() or not check_inclusion(
        proof.index, checkpoint.size, leaf_is, proof.hashes, checkpoint.root
    ):
        raise Refused
    return proof.index, note, opening


# Proofs


def test_a_proof_is_lines_in_a_fixed_order() -> None:
    hashes = "".join(f"{base64.b64encode(one).decode()}\n" for one in PROOF.hashes)
    extra = base64.b64encode(OPENING.encode()).decode()
    assert f"{HEADER}\nextra {extra}\nindex 2\n{hashes}\n{NOTE}" == PROOF.text
    assert f"{HEADER}\nindex 0\n\n{worked.NOTE}" == PLAIN.text


@pytest.mark.parametrize(
    "proof",
    [
        PROOF,
        PLAIN,
        Proof(2**64 - 1, (bytes(32),) * MOST_HASHES, worked.NOTE, b"\x00\xff"),
        Proof(0, (), worked.NOTE, b""),
        Proof(1, (bytes(32),), "\n\nany text", b""),
    ],
)
def test_a_proof_is_read_as_it_was_written(proof: Proof) -> None:
    assert proof == Proof.parse(proof.text)


def test_a_receipt_shows_the_event_once_all_checks_have_passed() -> None:
    note = open_note(NOTE, KEYS)
    assert 2 == len(note.signatures)
    assert (INDEX, note, OPENING) == seen(PROOF.text)
    erased = Proof(INDEX, PROOF.hashes, NOTE, ERASED.encode())
    assert (INDEX, note, ERASED) == seen(erased.text)


def test_a_receipt_cut_anywhere_never_shows_the_same() -> None:
    whole = seen(PROOF.text)
    for cut in worked.cuts(PROOF.text):
        with contextlib.suppress(Refused, *worked.TREATED):
            assert whole != seen(cut)


@pytest.mark.parametrize("more", ["\n", " ", "x", "\n\n", "— x AAAA\n", "\x00", HEADER])
def test_a_receipt_has_nothing_behind_its_checkpoint(more: str) -> None:
    with pytest.raises(Unverifiable):
        seen(PROOF.text + more)


def test_every_single_bit_of_a_receipt_counts() -> None:
    """What a flipped bit can do at most is to make a witness unknown; the log's word stays."""
    whole = seen(PROOF.text)
    for flipped in worked.flips(PROOF.text):
        with contextlib.suppress(Refused, *worked.TREATED):
            index, note, opening = seen(flipped)
            assert whole != (index, note, opening)
            assert (INDEX, CHECKPOINT.text, OPENING) == (index, note.text, opening)
            assert [SIGNER.key.name] == [signature.name for signature in note.signatures]


def test_another_index_or_another_hash_is_refused() -> None:
    others = [index for index in range(SIZE) if index != INDEX]
    rearranged = [PROOF.hashes[::-1], PROOF.hashes[:-1], (*PROOF.hashes, bytes(32)), ()]
    wrong = [Proof(index, PROOF.hashes, NOTE, PROOF.extra) for index in others]
    wrong += [Proof(INDEX, hashes, NOTE, PROOF.extra) for hashes in rearranged]
    for proof in wrong:
        with pytest.raises(Refused):
            seen(proof.text)
    with pytest.raises(ProofMalformed):
        seen(Proof(SIZE, PROOF.hashes, NOTE, PROOF.extra).text)


HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}\n",
        f"{HEADER}\n\n{worked.NOTE}",
        f"{HEADER}\nindex 0\n",
        f"{HEADER}\nindex 0\n\n",
        f"{HEADER}\nindex 0\n{worked.NOTE}",
        f"{HEADER}\nindex 00\n\n{worked.NOTE}",
        f"{HEADER}\nindex -1\n\n{worked.NOTE}",
        f"{HEADER}\nindex  1\n\n{worked.NOTE}",
        f"{HEADER}\nindex 1 \n\n{worked.NOTE}",
        f"{HEADER}\nindex \u0661\n\n{worked.NOTE}",
        f"{HEADER}\nindex {'9' * 21}\n\n{worked.NOTE}",
        f"{HEADER}\nindex {'9' * 5000}\n\n{worked.NOTE}",
        f"{HEADER}\nindex 1\nextra AAAA\n\n{worked.NOTE}",
        f"{HEADER}\nextra AAAA\nextra AAAA\nindex 1\n\n{worked.NOTE}",
        f"{HEADER}\nindex 1\nindex 1\n\n{worked.NOTE}",
        f"{HEADER}\nextra AAA\nindex 1\n\n{worked.NOTE}",
        f"{HEADER}\nextra AAB=\nindex 1\n\n{worked.NOTE}",
        f"{HEADER}\nextra\nindex 1\n\n{worked.NOTE}",
        f"{HEADER}\nindex 1\n{HASH[:-1]}\n\n{worked.NOTE}",
        f"{HEADER}\nindex 1\n{HASH} \n\n{worked.NOTE}",
        f"{HEADER}\nindex 1\nAAAA\n\n{worked.NOTE}",
        f"{HEADER}\nindex 1\n{HASH[:-2]}B=\n\n{worked.NOTE}",
        f"{HEADER}\r\nindex 1\r\n\r\n{worked.NOTE}",
        f"{HEADER}\nindex 1\n" + f"{HASH}\n" * (MOST_HASHES + 1) + f"\n{worked.NOTE}",
        f" {HEADER}\nindex 1\n\n{worked.NOTE}",
        f"\ufeff{HEADER}\nindex 1\n\n{worked.NOTE}",
        worked.NOTE,
    ],
)
def test_what_breaks_a_rule_of_the_format_is_no_proof(text: str) -> None:
    with pytest.raises(ProofMalformed):
        Proof.parse(text)


def test_a_later_version_is_unknown_not_malformed() -> None:
    with pytest.raises(UnknownVersion, match="v2"):
        Proof.parse(PROOF.text.replace("@v1", "@v2", 1))
    with pytest.raises(UnknownVersion, match="v2"):
        Opening.decode(OPENING.encode().replace(b"opening/v1", b"opening/v2"))


# Openings


@pytest.mark.parametrize(
    "opening",
    [
        OPENING,
        ERASED,
        Opening(LEAF, b"", PAYLOAD_SALT, b"", RECORD_SALT),
        Opening(LEAF, '"\\\n\x00\x7f\u2028😀'.encode(), PAYLOAD_SALT, RECORD, RECORD_SALT),
    ],
)
def test_an_opening_is_read_as_it_was_written(opening: Opening) -> None:
    assert opening == Opening.decode(opening.encode())


def test_an_opening_is_one_json_object() -> None:
    assert {
        "indelible": "opening/v1",
        "leaf": base64.b64encode(LEAF).decode(),
        "payload": PAYLOAD.decode(),
        "payload_salt": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "record": RECORD.decode(),
        "record_salt": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
    } == json.loads(OPENING.encode())


def test_what_was_changed_behind_a_commitment_is_named() -> None:
    assert [] == OPENING.wrong_commitments()
    assert [] == ERASED.wrong_commitments()
    assert not OPENING.erased
    assert ERASED.erased
    for opening, wrong in (
        (Opening(LEAF, b"{}", PAYLOAD_SALT, RECORD, RECORD_SALT), ["payload"]),
        (Opening(LEAF, PAYLOAD, RECORD_SALT, RECORD, RECORD_SALT), ["payload"]),
        (Opening(LEAF, PAYLOAD, PAYLOAD_SALT, b"{}", RECORD_SALT), ["record"]),
        (Opening(LEAF, PAYLOAD, PAYLOAD_SALT, RECORD, None), ["record"]),
        (Opening(LEAF, RECORD, RECORD_SALT, PAYLOAD, PAYLOAD_SALT), ["payload", "record"]),
    ):
        assert wrong == opening.wrong_commitments()


def test_an_opening_cut_anywhere_is_none() -> None:
    for opening in (OPENING, ERASED):
        encoded = opening.encode()
        for end in range(len(encoded)):
            with pytest.raises(ProofMalformed):
                Opening.decode(encoded[:end])


def test_every_single_bit_of_an_opening_counts() -> None:
    encoded = OPENING.encode()
    for bit in range(8 * len(encoded)):
        flipped = (int.from_bytes(encoded, "big") ^ (1 << bit)).to_bytes(len(encoded), "big")
        with contextlib.suppress(Unverifiable):
            opening = Opening.decode(flipped)
            changed = opening.leaf_entry != LEAF
            assert changed or opening.wrong_commitments()


def _members(**changed: object) -> bytes:
    return json.dumps({**json.loads(OPENING.encode()), **changed}).encode()


@pytest.mark.parametrize(
    "extra",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1" * 5000,
        b"[" * 100_000,
        b"\xff",
        b"\xef\xbb\xbf" + OPENING.encode(),
        OPENING.encode() + b"x",
        OPENING.encode() + b"{}",
        OPENING.encode().replace(b'"indelible"', b'"other"'),
        OPENING.encode().replace(b'"record":', b'"payload":'),
        OPENING.encode()[:-1] + b',"payload":"twice"}',
        _members(more=1),
        _members(leaf=None),
        _members(leaf=7),
        _members(leaf=""),
        _members(leaf=base64.b64encode(LEAF[:-1]).decode()),
        _members(payload=None),
        _members(payload={"a": 1}),
        _members(payload="\ud800"),
        _members(record=None, record_salt=None),
        _members(payload_salt=None),
        _members(payload_salt=base64.b64encode(bytes(31)).decode()),
        _members(payload_salt="A" * 44),
        _members(payload_salt="ü"),
        _members(payload=None, record=None),
        _members(payload=None, payload_salt=None),
    ],
    ids=range(28),
)
def test_what_is_no_opening_is_malformed(extra: bytes) -> None:
    with pytest.raises(ProofMalformed):
        Opening.decode(extra)


@pytest.mark.parametrize("version", [None, 1, "opening/v2", ["opening/v1"], {}])
def test_an_opening_of_another_version_is_unknown(version: object) -> None:
    with pytest.raises(UnknownVersion):
        Opening.decode(_members(indelible=version))


def test_a_leaf_that_cannot_be_read_cannot_be_checked() -> None:
    for wrong in (b"\x02" + LEAF[1:], LEAF[:2] + b"\x01" + LEAF[3:], LEAF[:1] + b"\x09" + LEAF[2:]):
        opening = Opening.decode(
            Opening(wrong, PAYLOAD, PAYLOAD_SALT, RECORD, RECORD_SALT).encode()
        )
        with pytest.raises(LeafMalformed) as refused:
            opening.wrong_commitments()
        assert isinstance(refused.value, Unverifiable)


# At random


HASHES = st.binary(min_size=32, max_size=32)


@given(
    index=st.integers(0, 2**64 - 1),
    hashes=st.lists(HASHES, max_size=MOST_HASHES).map(tuple),
    checkpoint=st.text(min_size=1),
    extra=st.none() | st.binary(),
)
def test_every_proof_is_read_as_it_was_written(
    index: int, hashes: tuple[bytes, ...], checkpoint: str, extra: bytes | None
) -> None:
    proof = Proof(index, hashes, checkpoint, extra)
    assert proof == Proof.parse(proof.text)


@given(payload=st.text(), record=st.text(), salts=st.tuples(HASHES, HASHES))
def test_every_opening_is_read_as_it_was_written(
    payload: str, record: str, salts: tuple[bytes, bytes]
) -> None:
    opening = Opening(LEAF, payload.encode(), salts[0], record.encode(), salts[1])
    assert opening == Opening.decode(opening.encode())


@given(worked.FUZZ | worked.pieces(PROOF.text, HEADER, "index ", "extra "))
def test_any_text_is_a_proof_or_unverifiable(text: str) -> None:
    with contextlib.suppress(Unverifiable):
        assert text == Proof.parse(text).text
    with contextlib.suppress(Refused, *worked.TREATED):
        assert OPENING == seen(text)[2]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(st.sampled_from(sorted(json.loads(OPENING.encode()))), JSON)


@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | MEMBERS.map(lambda some: _members(**some))
)
def test_any_bytes_are_an_opening_or_unverifiable(extra: bytes) -> None:
    with contextlib.suppress(Unverifiable):
        opening = Opening.decode(extra)
        assert opening == Opening.decode(opening.encode())
