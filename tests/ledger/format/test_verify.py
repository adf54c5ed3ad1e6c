"""Receipts: what verifies, what is tampered with, what cannot be checked; never confused."""

import base64
import dataclasses
from collections.abc import Callable

import pytest

from indelible.event import Kind
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.note import Note, Signer
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.policy import KnownLog, Policy, Witness
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.verify import Outcome, Seen, Verdict, Verification, verify_receipt
from tests.ledger.audit.audited import (
    COSIGNERS,
    ORIGIN,
    POLICY_OF_LOG,
    SEEN_AT_S,
    SIGNER,
    Shop,
    cosign,
    sealed,
)

OK, FAILED, CANNOT = Outcome.OK, Outcome.FAILED, Outcome.CANNOT


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """20 events, the last two of which are erased."""
    shop = sealed(tmp_path_factory.mktemp("shop") / "data", 12)
    shop.store(5, Kind.AUDIT, '{"who":"Zoë"}'.encode())
    shop.erase(15, 17)
    shop.store(2)
    shop.seal()
    return shop


def verdict(text: str | bytes, policy: Policy = POLICY_OF_LOG) -> Verdict:
    return verify_receipt(text, policy).verdict


def outcomes(found: Verification) -> dict[str, Outcome]:
    return {step.name: step.outcome for step in found.steps}


def changed(receipt: str, **members: object) -> str:
    """The receipt with other fields of its proof, or of its opening."""
    proof = Proof.parse(receipt)
    assert proof.extra is not None
    of_opening = {
        name: value
        for name, value in members.items()
        if name in {one.name for one in dataclasses.fields(Opening)}
    }
    opening = dataclasses.replace(Opening.decode(proof.extra), **of_opening)  # type: ignore[arg-type]
    rest = {name: value for name, value in members.items() if name not in of_opening}
    return dataclasses.replace(proof, **{"extra": opening.encode(), **rest}).text  # type: ignore[arg-type]


def test_a_receipt_is_verified_in_four_steps_and_shows_its_event(shop: Shop) -> None:
    found = verify_receipt(shop.receipt(13), POLICY_OF_LOG)

    assert {"leaf": OK, "log": OK, "witnesses": OK, "inclusion": OK} == outcomes(found)
    assert Verdict.VERIFIED is found.verdict
    assert (ORIGIN, 13, 20, "audit") == (found.origin, found.index, found.size, found.kind)
    assert '{"who":"Zoë"}'.encode() == found.payload
    assert b'{"event":"seen"}' == found.record
    assert (Seen("w1", SEEN_AT_S), Seen("w2", SEEN_AT_S)) == found.witnesses
    assert found.tx_id is not None
    assert found.tx_id.startswith("tx_")
    assert all(step.sentence.endswith(".") for step in found.steps)


@pytest.mark.parametrize(
    ("converted", "named"),
    [
        (lambda text: text.replace("\n", "\r\n").encode(), "Windows line endings"),
        (lambda text: text.encode("utf-8-sig"), "byte order mark"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
    ],
    ids=["CR LF", "UTF-8 with a mark", "UTF-16"],
)
def test_a_receipt_that_was_saved_as_text_on_windows_cannot_be_checked_and_says_why(
    shop: Shop, converted: Callable[[str], bytes], named: str
) -> None:
    found = verify_receipt(converted(shop.receipt(13)), POLICY_OF_LOG)

    assert Verdict.UNVERIFIABLE is found.verdict
    assert named in found.steps[0].sentence


def test_every_event_has_a_receipt_that_verifies(shop: Shop) -> None:
    assert {Verdict.VERIFIED} == {verdict(shop.receipt(index)) for index in range(20)}


def test_the_receipt_of_an_erased_event_verifies_and_says_that_only_the_leaf_is_left(
    shop: Shop,
) -> None:
    found = verify_receipt(shop.receipt(15), POLICY_OF_LOG)

    assert Verdict.VERIFIED is found.verdict
    assert (None, None) == (found.payload, found.record)
    assert "erased" in found.steps[0].sentence


def test_a_receipt_cut_anywhere_cannot_be_checked(shop: Shop) -> None:
    receipt = shop.receipt(4).encode()
    # Without its last line it is a receipt still, of a checkpoint that one witness has seen.
    seen = [verdict(receipt[:length]) for length in range(len(receipt))]

    assert {Verdict.UNVERIFIABLE} == set(seen)


def test_no_bit_of_a_receipt_can_change_and_it_still_verifies(shop: Shop) -> None:
    receipt = shop.receipt(4).encode()
    for at in range(len(receipt)):
        for bit in range(8):
            mutant = receipt[:at] + bytes([receipt[at] ^ 1 << bit]) + receipt[at + 1 :]
            assert Verdict.VERIFIED is not verdict(mutant), (at, bit, mutant)


@pytest.mark.parametrize("place", range(12))
def test_an_extra_line_cannot_be_checked(shop: Shop, place: int) -> None:
    lines = shop.receipt(4).split("\n")
    at = place * len(lines) // 12
    for more in ("", "extra e30=", "index 4", "AAAA", "— w x"):
        mutant = "\n".join([*lines[:at], more, *lines[at:]])
        assert Verdict.VERIFIED is not verdict(mutant), mutant


def test_bytes_that_are_no_text_cannot_be_checked(shop: Shop) -> None:
    receipt = shop.receipt(4)
    for mutant in (b"", b"\xff" + receipt.encode(), b"\x00", receipt.encode("utf-16")):
        assert Verdict.UNVERIFIABLE is verdict(mutant)
    assert Verdict.UNVERIFIABLE is verdict(receipt + "\ud800")
    assert Verdict.UNVERIFIABLE is verdict(receipt.replace("\n", "\r\n"))


def test_an_unknown_version_cannot_be_checked(shop: Shop) -> None:
    receipt = shop.receipt(4)
    found = verify_receipt(receipt.replace("tlog-proof@v1", "tlog-proof@v2"), POLICY_OF_LOG)
    assert {"receipt": CANNOT} == outcomes(found)
    assert "version" in found.steps[0].sentence

    proof = Proof.parse(receipt)
    assert proof.extra is not None
    later = dataclasses.replace(proof, extra=proof.extra.replace(b"opening/v1", b"opening/v2"))
    found = verify_receipt(later.text, POLICY_OF_LOG)
    assert (CANNOT, OK, OK, CANNOT) == tuple(outcomes(found).values())

    opening = Opening.decode(proof.extra)
    leaf_of_version_2 = b"\x02" + opening.leaf_entry[1:]
    found = verify_receipt(changed(receipt, leaf_entry=leaf_of_version_2), POLICY_OF_LOG)
    assert CANNOT is outcomes(found)["leaf"]


def test_another_payload_record_or_salt_is_tampered_with(shop: Shop) -> None:
    receipt = shop.receipt(4)
    for change in (
        {"payload": b'{"n":5}'},
        {"record": b"{}"},
        {"payload_salt": bytes(32)},
        {"record_salt": bytes(32)},
    ):
        found = verify_receipt(changed(receipt, **change), POLICY_OF_LOG)
        assert (FAILED, OK, OK, OK) == tuple(outcomes(found).values())
        assert Verdict.TAMPERED is found.verdict


def test_a_proof_of_another_leaf_is_tampered_with(shop: Shop) -> None:
    receipt, other = shop.receipt(4), Proof.parse(shop.receipt(5))
    for mutant in (
        changed(receipt, index=5),
        changed(receipt, hashes=other.hashes),
        changed(receipt, hashes=()),
        changed(receipt, hashes=(*other.hashes, bytes(32))),
        dataclasses.replace(Proof.parse(receipt), extra=other.extra).text,
    ):
        found = verify_receipt(mutant, POLICY_OF_LOG)
        assert (OK, OK, OK, FAILED) == tuple(outcomes(found).values())
        assert Verdict.TAMPERED is found.verdict


def test_an_index_beyond_the_log_cannot_be_checked(shop: Shop) -> None:
    found = verify_receipt(changed(shop.receipt(4), index=20), POLICY_OF_LOG)
    assert (OK, OK, OK, CANNOT) == tuple(outcomes(found).values())


def test_a_receipt_without_an_opening_cannot_be_checked(shop: Shop) -> None:
    proof = dataclasses.replace(Proof.parse(shop.receipt(4)), extra=None)
    found = verify_receipt(proof.text, POLICY_OF_LOG)
    assert (CANNOT, OK, OK, CANNOT) == tuple(outcomes(found).values())


def test_a_log_that_the_policy_does_not_name_cannot_be_checked(shop: Shop) -> None:
    other = Signer("log.example/other", bytes(32)).key
    stranger = dataclasses.replace(POLICY_OF_LOG, logs=(KnownLog(other),))
    found = verify_receipt(shop.receipt(4), stranger)
    assert (OK, CANNOT, OK, OK) == tuple(outcomes(found).values())
    assert Verdict.UNVERIFIABLE is found.verdict


def test_a_signature_by_another_key_of_the_same_name_cannot_be_checked(shop: Shop) -> None:
    thief = Signer(ORIGIN, b"\x09" * 32)
    checkpoint = Checkpoint(ORIGIN, shop.head.size, shop.head.root)
    found = verify_receipt(shop.receipt(4, note=thief.sign(checkpoint.text)), POLICY_OF_LOG)
    assert CANNOT is outcomes(found)["log"]
    assert Verdict.UNVERIFIABLE is found.verdict


def test_another_log_that_the_policy_names_cannot_sign_for_this_one(shop: Shop) -> None:
    other = Signer("log.example/other", b"\x09" * 32)
    both = dataclasses.replace(POLICY_OF_LOG, logs=(*POLICY_OF_LOG.logs, KnownLog(other.key)))
    checkpoint = Checkpoint(ORIGIN, shop.head.size, shop.head.root)
    assert Verdict.VERIFIED is verdict(shop.receipt(4), both)
    cosignatures = (one.cosign(checkpoint.text, SEEN_AT_S) for one in COSIGNERS)
    note = str(Note(checkpoint.text, (other.signature(checkpoint.text), *cosignatures)))

    found = verify_receipt(shop.receipt(4, note=note), both)

    assert (OK, CANNOT, OK, OK) == tuple(outcomes(found).values())
    assert Verdict.UNVERIFIABLE is found.verdict


def test_a_signature_by_the_known_key_that_does_not_fit_is_tampered_with(shop: Shop) -> None:
    honest = Checkpoint(ORIGIN, shop.head.size, shop.head.root)
    for text in (
        Checkpoint(ORIGIN, 21, shop.head.root).text,
        Checkpoint(ORIGIN, 20, bytes(32)).text,
        Checkpoint("log.example/elsewhere", 20, shop.head.root).text,
        "no checkpoint\n",
    ):
        note = str(Note(text, (SIGNER.signature(honest.text),)))
        found = verify_receipt(shop.receipt(4, note=note), POLICY_OF_LOG)
        assert FAILED is outcomes(found)["log"], text
        assert Verdict.TAMPERED is found.verdict


def test_a_note_signed_by_the_log_that_is_no_checkpoint_cannot_be_checked(shop: Shop) -> None:
    found = verify_receipt(shop.receipt(4, note=SIGNER.sign("hello\n")), POLICY_OF_LOG)
    assert (OK, CANNOT, CANNOT, CANNOT) == tuple(outcomes(found).values())


def test_a_quorum_that_is_not_met_cannot_be_checked(shop: Shop) -> None:
    checkpoint = Checkpoint(ORIGIN, shop.head.size, shop.head.root)
    for by in ((), COSIGNERS[:1], (COSIGNERS[0], COSIGNERS[0])):
        found = verify_receipt(shop.receipt(4, note=cosign(checkpoint, by=by)), POLICY_OF_LOG)
        assert (OK, OK, CANNOT, OK) == tuple(outcomes(found).values())
        assert Verdict.UNVERIFIABLE is found.verdict
    stranger = Cosigner("witness.example/w1", b"\x08" * 32)
    note = cosign(checkpoint, by=(stranger, COSIGNERS[1]))
    assert Verdict.UNVERIFIABLE is verdict(shop.receipt(4, note=note))
    for by in (COSIGNERS, COSIGNERS[1:]):
        assert Verdict.VERIFIED is verdict(shop.receipt(4, note=cosign(checkpoint, by=by)))


def test_a_wrong_cosignature_by_a_known_witness_is_tampered_with(shop: Shop) -> None:
    checkpoint = Checkpoint(ORIGIN, shop.head.size, shop.head.root)
    other = Checkpoint(ORIGIN, 19, bytes(32))
    signatures = (
        SIGNER.signature(checkpoint.text),
        *(one.cosign(checkpoint.text, SEEN_AT_S) for one in COSIGNERS[:2]),
        COSIGNERS[2].cosign(other.text, SEEN_AT_S),
    )
    found = verify_receipt(
        shop.receipt(4, note=str(Note(checkpoint.text, signatures))), POLICY_OF_LOG
    )
    assert (OK, OK, FAILED, OK) == tuple(outcomes(found).values())


def test_without_a_quorum_no_witness_is_needed(shop: Shop) -> None:
    policy = Policy((KnownLog(SIGNER.key),))
    found = verify_receipt(shop.receipt(4), policy)
    assert (Verdict.VERIFIED, ()) == (found.verdict, found.witnesses)
    named = dataclasses.replace(policy, witnesses=(Witness("w2", COSIGNERS[1].key),))
    assert (Seen("w2", SEEN_AT_S),) == verify_receipt(shop.receipt(4), named).witnesses


def test_a_failed_step_outweighs_one_that_cannot_be_checked(shop: Shop) -> None:
    wrong = changed(shop.receipt(4), payload=b"{}")
    assert Verdict.TAMPERED is verdict(wrong, Policy())


def test_what_is_not_covered_is_not_base64_of_anything_else(shop: Shop) -> None:
    receipt = shop.receipt(4)
    assert Verdict.UNVERIFIABLE is verdict(
        receipt.replace("extra ", f"extra {base64.b64encode(b'{}').decode()}", 1)
    )
