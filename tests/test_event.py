"""The vocabulary: its words and numbers are public and never change."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.event import (
    DropReason,
    Kind,
    Lane,
    WarnReason,
    tx_bytes,
    tx_text,
    tx_time_ms,
    tx_uuid,
)


def test_the_numbers_of_the_kinds_are_fixed() -> None:
    assert {
        "product": 1,
        "audit": 2,
        "erasure": 3,
        "administration": 4,
        "loss": 5,
    } == {kind.word: kind.value for kind in Kind}


def test_the_words_of_the_lanes_are_fixed() -> None:
    """They are part of every unique key in every journal."""
    assert ["product", "audit"] == [lane.value for lane in Lane]


def test_the_reasons_are_the_documented_ones() -> None:
    assert {
        "invalid_event",
        "missing_event",
        "missing_distinct_id",
        "name_too_long",
        "id_too_long",
        "event_too_large",
        "too_deep",
        "invalid_timestamp",
        "bot",
        "quota",
        "rate_limited",
    } == {reason.value for reason in DropReason}
    assert {
        "illegal_distinct_id",
        "merge_refused",
        "uuid_conflict",
        "idempotency_conflict",
        "future_timestamp",
        "unreadable_timestamp",
        "bot",
    } == {reason.value for reason in WarnReason}


@pytest.mark.parametrize("reason", [*DropReason, *WarnReason])
def test_every_reason_has_a_sentence_of_its_own(reason: DropReason | WarnReason) -> None:
    assert reason.meaning.endswith(".")
    every: list[DropReason | WarnReason] = [*DropReason, *WarnReason]
    assert [reason] == [other for other in every if other.meaning == reason.meaning]


@given(st.binary(min_size=16, max_size=16))
def test_a_transaction_id_is_written_and_read_back(tx: bytes) -> None:
    assert tx == tx_bytes(tx_text(tx))
    assert tx == uuid.UUID(tx_uuid(tx)).bytes
    assert int.from_bytes(tx[:6], "big") == tx_time_ms(tx)


@given(st.text())
def test_nothing_else_is_read_as_a_transaction_id(text: str) -> None:
    made = tx_bytes(text)
    assert made is None or text == tx_text(made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tx_",
        "tx_" + "0" * 31,
        "tx_" + "0" * 33,
        "tx_" + "A" * 32,
        "tx_" + "g" * 32,
        "TX_" + "0" * 32,
        "tx_" + "0" * 32 + "\n",
        " tx_" + "0" * 32,
        "0" * 32,
        "tx_" + "\N{FULLWIDTH DIGIT ZERO}" * 32,
    ],
)
def test_what_only_looks_like_a_transaction_id_is_none(text: str) -> None:
    assert tx_bytes(text) is None
