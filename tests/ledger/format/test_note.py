"""Notes, checkpoints, cosignatures and keys: both ways, cut, flipped, and at random."""

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import (
    IndelibleError,
    KeyMalformed,
    NoteMalformed,
    SignatureMissing,
    SignatureWrong,
)
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner, WitnessKey, time_of
from indelible.ledger.format.note import (
    ED25519,
    MOST_SIGNATURES,
    LogKey,
    Note,
    PublicKey,
    Signature,
    Signer,
    key_id_of,
    open_note,
    parse_note,
    verified,
)
from indelible.ledger.format.tree import EMPTY_ROOT
from tests.ledger.format import worked
from tests.ledger.format.worked import COSIGNER, SIGNER

KEYS = (SIGNER.key, COSIGNER.key)
STRANGER = Signer("log.example/other", b"\x07" * 32)
NAMESAKE = Signer(worked.ORIGIN, b"\x07" * 32)  # the log's name, another key


# What the reference worked out


def test_the_worked_checkpoint_is_signed_to_the_byte() -> None:
    assert worked.TEXT == worked.CHECKPOINT.text
    assert worked.NOTE == SIGNER.sign(worked.CHECKPOINT.text)
    assert worked.LOG_VKEY == SIGNER.key.text
    assert SIGNER.key == LogKey.parse(worked.LOG_VKEY)


def test_the_worked_cosignature_is_made_to_the_byte() -> None:
    signature = COSIGNER.cosign(worked.TEXT, worked.COSIGNED_AT_S)
    assert worked.WITNESS_LINE == signature.line
    assert worked.WITNESS_VKEY == COSIGNER.key.text
    assert COSIGNER.key == WitnessKey.parse(worked.WITNESS_VKEY)
    assert worked.COSIGNED_AT_S == time_of(signature)


def test_the_worked_note_is_opened_by_both_keys() -> None:
    note = open_note(worked.COSIGNED, KEYS)
    assert worked.TEXT == note.text
    assert [key.name for key in KEYS] == [signature.name for signature in note.signatures]
    assert worked.CHECKPOINT == Checkpoint.parse(note.text)


# Notes


def test_a_note_is_read_as_it_was_written() -> None:
    assert worked.COSIGNED == str(parse_note(worked.COSIGNED))
    signed = SIGNER.sign("a\n\n\nb — ü\n\n— no line 123\n")
    assert signed == str(parse_note(signed))
    assert "a\n\n\nb — ü\n\n— no line 123\n" == open_note(signed, KEYS).text


def test_a_note_cut_anywhere_is_never_the_whole_one() -> None:
    for cut in worked.cuts(worked.NOTE):
        with pytest.raises(NoteMalformed):
            open_note(cut, KEYS)
    whole = open_note(worked.COSIGNED, KEYS)
    for cut in worked.cuts(worked.COSIGNED):
        with contextlib.suppress(NoteMalformed):
            assert whole != open_note(cut, KEYS)


@pytest.mark.parametrize("more", ["\n", " ", "x", "\n\n", "— \n", "\x00", "— x y\n", "— x AAAA\n"])
def test_a_note_has_nothing_behind_its_signatures(more: str) -> None:
    with pytest.raises(NoteMalformed):
        open_note(worked.NOTE + more, KEYS)


def test_every_single_bit_of_a_signed_note_counts() -> None:
    for flipped in worked.flips(worked.NOTE):
        with pytest.raises((NoteMalformed, SignatureMissing, SignatureWrong)):
            open_note(flipped, [SIGNER.key])


def test_every_single_bit_of_a_cosigned_note_counts() -> None:
    whole = open_note(worked.COSIGNED, KEYS)
    for flipped in worked.flips(worked.COSIGNED):
        with contextlib.suppress(*worked.TREATED):
            assert whole != open_note(flipped, KEYS)


@pytest.mark.parametrize(
    "text",
    [
        worked.NOTE.replace("\n", "\r\n"),
        worked.NOTE.replace("— ", "- "),
        worked.NOTE.replace("— ", "—"),
        worked.NOTE.replace("— log.example/indelible ", "— log.example/indelible  "),
        worked.NOTE.replace("— log.example/indelible ", "— log.example/inde+lible "),
        worked.NOTE.replace("— log.example/indelible ", "— log.example/\u2003indelible "),
        worked.NOTE.replace("— log.example/indelible ", "— "),
        worked.NOTE.replace("=\n", "\n"),
        worked.NOTE.replace("FgI=\n", "FgJ=\n"),  # other bits that mean nothing
        worked.NOTE.replace("FgI=\n", "FgI= \n"),
        worked.TEXT,
        worked.TEXT + "\n",
        "\n" + worked.LOG_LINE,
        worked.LOG_LINE,
        "a\ttab\n\n" + worked.LOG_LINE,
        "a lone surrogate \ud800\n\n" + worked.LOG_LINE,
        "short\n\n— x AAAAAA==\n",
        "",
    ],
)
def test_what_breaks_a_rule_of_the_format_is_no_note(text: str) -> None:
    with pytest.raises(NoteMalformed):
        parse_note(text)


def test_sixteen_signatures_are_read_and_too_many_are_not() -> None:
    lines = [Signer(f"s{n}", bytes([n]) * 32).signature(worked.TEXT).line for n in range(64)]
    head = f"{worked.TEXT}\n"
    sixteen = head + "".join(lines[:15]) + worked.LOG_LINE
    assert worked.TEXT == open_note(sixteen, KEYS).text
    assert MOST_SIGNATURES == len(parse_note(head + "".join(lines)).signatures)
    with pytest.raises(NoteMalformed, match="65"):
        parse_note(head + "".join(lines) + worked.LOG_LINE)


# Whose signature counts


def test_a_line_counts_only_when_name_and_id_are_both_known() -> None:
    signature = SIGNER.signature(worked.TEXT)
    renamed = signature._replace(name="log.example/other")
    other_id = signature._replace(key_id=NAMESAKE.key.key_id)
    for line in (renamed, other_id):
        with pytest.raises(SignatureMissing):
            open_note(str(Note(worked.TEXT, (line,))), [SIGNER.key])
    both = Note(worked.TEXT, (renamed, other_id, signature))
    assert (signature,) == open_note(str(both), [SIGNER.key]).signatures


def test_a_note_that_only_strangers_signed_is_unverifiable() -> None:
    for signer in (STRANGER, NAMESAKE):
        with pytest.raises(SignatureMissing):
            open_note(signer.sign(worked.TEXT), [SIGNER.key])
    with pytest.raises(SignatureMissing):
        open_note(worked.NOTE, [])


def test_one_wrong_signature_by_a_known_key_spoils_the_note_wherever_it_stands() -> None:
    good, wrong = SIGNER.signature(worked.TEXT), SIGNER.signature("something else\n")
    witness = COSIGNER.cosign("something else\n", 1)
    for lines in ((good, wrong), (wrong, good), (good, witness), (witness, good)):
        with pytest.raises(SignatureWrong):
            open_note(str(Note(worked.TEXT, lines)), KEYS)


def test_a_key_that_signed_twice_counts_once() -> None:
    lines = (SIGNER.signature(worked.TEXT),) * 2
    assert lines[:1] == open_note(str(Note(worked.TEXT, lines)), KEYS).signatures
    early, late = (COSIGNER.cosign(worked.TEXT, at) for at in (1, 2))
    assert [early] == verified(Note(worked.TEXT, (early, late)), KEYS)


@pytest.mark.parametrize("payload", [b"", bytes(63), bytes(64), bytes(65), bytes(72), bytes(2428)])
def test_a_signature_of_another_length_does_not_fit(payload: bytes) -> None:
    for key in KEYS:
        assert not key.verify(worked.TEXT, payload)


def test_a_cosignature_covers_its_time() -> None:
    signature = COSIGNER.cosign(worked.TEXT, 1_700_000_000)
    for bit in range(64):
        changed = int.from_bytes(signature.payload[:8], "big") ^ (1 << bit)
        payload = changed.to_bytes(8, "big") + signature.payload[8:]
        assert not COSIGNER.key.verify(worked.TEXT, payload)
    assert COSIGNER.key.verify(worked.TEXT, signature.payload)


def test_a_cosignature_is_no_log_signature_nor_the_other_way_round() -> None:
    """One seed for both: the id and the message keep the two apart."""
    as_log, as_witness = Signer("both", b"\x05" * 32), Cosigner("both", b"\x05" * 32)
    assert as_log.key.public == as_witness.key.public
    assert as_log.key.key_id != as_witness.key.key_id
    signed = as_log.signature(worked.TEXT).payload
    cosigned = as_witness.cosign(worked.TEXT, 1).payload
    assert not as_witness.key.verify(worked.TEXT, cosigned[:8] + signed)
    assert not as_log.key.verify(worked.TEXT, cosigned[8:])


# Keys


def test_a_public_key_cut_anywhere_is_none() -> None:
    for vkey in (worked.LOG_VKEY, worked.WITNESS_VKEY):
        for cut in worked.cuts(vkey):
            with pytest.raises(KeyMalformed):
                PublicKey.parse(cut)


def test_every_single_bit_of_a_public_key_counts() -> None:
    for vkey in (worked.LOG_VKEY, worked.WITNESS_VKEY):
        for flipped in worked.flips(vkey):
            with pytest.raises(KeyMalformed):
                PublicKey.parse(flipped)


def test_a_key_may_have_a_plus_in_its_base64() -> None:
    with_plus = next(
        key
        for key in (Signer("x", bytes([n]) * 32).key for n in range(256))
        if "+" in key.text.split("+", 2)[2]
    )
    assert with_plus == LogKey.parse(with_plus.text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\nb", "a\u2003b", "a\x1fb", "\ud800"])
def test_a_name_has_neither_space_nor_plus(name: str) -> None:
    for make in (Signer, Cosigner):
        with pytest.raises(KeyMalformed):
            make(name, bytes(32))
    packed = base64.b64encode(bytes([ED25519]) + bytes(32)).decode()
    with pytest.raises(KeyMalformed):
        PublicKey.parse(f"{name}+00000000+{packed}")
    with pytest.raises(KeyMalformed):
        Signer.parse(f"PRIVATE+KEY+{name}+00000000+{packed}")


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03, 0x05, 0x06, 0xFF])
def test_a_key_of_a_type_that_is_not_checked_here_is_refused(kind: int) -> None:
    key_id = key_id_of("x", kind, bytes(32)).hex()
    packed = base64.b64encode(bytes([kind]) + bytes(32)).decode()
    with pytest.raises(KeyMalformed, match=f"{kind:#04x}"):
        PublicKey.parse(f"x+{key_id}+{packed}")


def test_a_witness_key_is_not_read_as_a_log_key_nor_the_other_way_round() -> None:
    with pytest.raises(KeyMalformed, match="0x04"):
        LogKey.parse(worked.WITNESS_VKEY)
    with pytest.raises(KeyMalformed, match="0x01"):
        WitnessKey.parse(worked.LOG_VKEY)


def test_a_private_key_is_read_as_it_was_written_and_only_by_its_kind() -> None:
    assert SIGNER.key == Signer.parse(SIGNER.text).key
    assert SIGNER.key == Signer.parse(f"{SIGNER.text}\n").key
    assert COSIGNER.key == Cosigner.parse(COSIGNER.text).key
    with pytest.raises(KeyMalformed):
        Signer.parse(COSIGNER.text)
    with pytest.raises(KeyMalformed):
        Cosigner.parse(SIGNER.text)


def test_a_private_key_that_was_changed_is_refused_and_never_repeated() -> None:
    secret = SIGNER.text.split("+")[-1]
    for changed in (*worked.cuts(SIGNER.text), *worked.flips(SIGNER.text)):
        with pytest.raises(KeyMalformed) as refused:
            Signer.parse(changed)
        assert secret[4:24] not in refused.value.message
        assert secret[-24:-4] not in refused.value.message


def test_new_keys_differ_and_sign() -> None:
    for make in (Signer.generate, Cosigner.generate):
        assert make("x").key != make("x").key
    signer = Signer.generate("x")
    assert "t\n" == open_note(signer.sign("t\n"), [signer.key]).text
    assert signer.key == Signer.parse(signer.text).key


def test_the_key_is_plain_ed25519() -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    assert public.public_bytes_raw() == SIGNER.key.public
    public.verify(SIGNER.signature(worked.TEXT).payload, worked.TEXT.encode())


# Checkpoints


@pytest.mark.parametrize(
    "checkpoint",
    [
        worked.CHECKPOINT,
        Checkpoint("x", 0, EMPTY_ROOT),
        Checkpoint("x", 10**19, bytes(32)),
        Checkpoint("an origin — with spaces", 1, b"\xff" * 32, ("more", "and more")),
    ],
)
def test_a_checkpoint_is_read_as_it_was_written(checkpoint: Checkpoint) -> None:
    assert checkpoint == Checkpoint.parse(checkpoint.text)


def test_a_checkpoint_cut_anywhere_is_none() -> None:
    for cut in worked.cuts(worked.TEXT):
        with pytest.raises(NoteMalformed):
            Checkpoint.parse(cut)


def test_every_single_bit_of_a_checkpoint_makes_another_one() -> None:
    for flipped in worked.flips(worked.TEXT):
        with contextlib.suppress(NoteMalformed):
            assert worked.CHECKPOINT != Checkpoint.parse(flipped)


ROOT = worked.TEXT.split("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        f"\n3\n{ROOT}\n",
        f"x\n\n{ROOT}\n",
        f"x\n03\n{ROOT}\n",
        f"x\n00\n{ROOT}\n",
        f"x\n-3\n{ROOT}\n",
        f"x\n+3\n{ROOT}\n",
        f"x\n3 \n{ROOT}\n",
        f"x\n3.0\n{ROOT}\n",
        f"x\n1_0\n{ROOT}\n",
        f"x\n\u0663\n{ROOT}\n",
        f"x\n²\n{ROOT}\n",
        f"x\n{'9' * 21}\n{ROOT}\n",
        f"x\n{'9' * 5000}\n{ROOT}\n",
        f"x\n3\n{ROOT[:-1]}\n",
        f"x\n3\n{ROOT[:-2]}d=\n",
        f"x\n3\n{ROOT} \n",
        "x\n3\n\n",
        "x\n3\nAAAA\n",
        f"x\n3\n{ROOT}",
        f"x\n3\n{ROOT}\n\n",
        f"x\n3\n{ROOT}\nmore",
        f"x\n3\n{ROOT}\n\nmore\n",
    ],
)
def test_what_breaks_a_rule_of_the_format_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteMalformed):
        Checkpoint.parse(text)


# At random


@given(
    origin=st.text(min_size=1, max_size=30).filter(lambda text: "\n" not in text),
    size=st.integers(0, 2**64 - 1),
    root=st.binary(min_size=32, max_size=32),
)
def test_every_checkpoint_is_read_as_it_was_written(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert checkpoint == Checkpoint.parse(checkpoint.text)


@given(worked.FUZZ | worked.pieces(worked.COSIGNED))
def test_any_text_is_a_note_or_unverifiable(text: str) -> None:
    with contextlib.suppress(NoteMalformed):
        assert text == str(parse_note(text))
    with contextlib.suppress(*worked.TREATED):
        assert worked.TEXT == open_note(text, KEYS).text
    with contextlib.suppress(NoteMalformed):
        assert text == Checkpoint.parse(text).text


@given(
    worked.FUZZ
    | worked.pieces(f"{worked.LOG_VKEY}\n{SIGNER.text}", "PRIVATE+KEY", *worked.LOG_VKEY.split("+"))
)
def test_any_text_is_a_key_or_malformed(text: str) -> None:
    for parse in (PublicKey.parse, LogKey.parse, WitnessKey.parse, Signer.parse, Cosigner.parse):
        with contextlib.suppress(KeyMalformed):
            assert text.strip() == parse(text).text


@given(
    text=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])), payload=st.binary()
)
def test_only_the_owner_of_a_key_signs(text: str, payload: bytes) -> None:
    for key in KEYS:
        assert not key.verify(text, payload)
    line = Signature(worked.ORIGIN, SIGNER.key.key_id, payload)
    with pytest.raises((NoteMalformed, SignatureWrong)):
        open_note(str(Note(f"{text}\n", (line,))), KEYS)
    assert f"{text}\n" == open_note(SIGNER.sign(f"{text}\n"), KEYS).text


def test_every_error_here_says_what_to_do() -> None:
    for error in (KeyMalformed(), NoteMalformed(), SignatureMissing(), SignatureWrong()):
        assert isinstance(error, IndelibleError)
        assert isinstance(error, worked.TREATED)
        assert error.advice
