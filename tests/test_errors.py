"""The catalogue of errors: one class and one permanent code each."""

from collections import Counter
from typing import Any

import pytest

from indelible import errors
from indelible.errors import BodyTooLarge, EventRefused, IndelibleError, catalogue
from indelible.event import DropReason

CLASSES = list(catalogue())
WITH_A_CODE = [cls for cls in CLASSES if "code" in cls.__dict__]

# Public: clients switch on them. None may go, change its status, or come to mean something else.
STATUS_OF = {
    "internal_error": 500,
    "invalid_json": 400,
    "invalid_encoding": 400,
    "unsupported_media_type": 415,
    "body_too_large": 413,
    "empty_batch": 400,
    "batch_too_large": 413,
    "missing_token": 401,
    "unknown_token": 401,
    "mixed_tokens": 401,
    "event_refused": 400,
    "invalid_payload": 400,
    "invalid_meta": 400,
    "invalid_type": 400,
    "invalid_idempotency_key": 400,
    "invalid_event": 400,
    "invalid_api_key": 401,
    "forbidden": 403,
    "ip_not_allowed": 403,
    "origin_not_allowed": 403,
    "rate_limited": 429,
    "unknown_parameter": 400,
    "idempotency_conflict": 409,
    "payload_too_large": 413,
    "monthly_limit_exceeded": 429,
    "invalid_parameter": 400,
    "invalid_cursor": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "already_exists": 409,
    "overloaded": 503,
    "unavailable": 503,
}


def test_the_catalogue_has_every_error_of_the_module_once() -> None:
    there = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, IndelibleError)
    }
    assert there == set(CLASSES)
    assert len(there) == len(CLASSES)


def test_every_code_is_one_classs_own() -> None:
    counts = Counter(cls.code for cls in WITH_A_CODE)
    assert [] == [code for code, count in counts.items() if count > 1]


def test_a_class_without_a_code_of_its_own_is_a_case_of_one_that_has_one() -> None:
    for cls in CLASSES:
        if cls not in WITH_A_CODE:
            assert any(parent in WITH_A_CODE[1:] for parent in cls.__mro__[1:]), cls


def test_public_codes_keep_their_status() -> None:
    assert STATUS_OF.items() <= {cls.code: cls.http_status for cls in WITH_A_CODE}.items()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_says_what_is_the_case_and_what_to_do(cls: type[IndelibleError]) -> None:
    assert cls.summary.endswith(".")
    assert cls.hint.endswith(".")
    assert len(cls.hint.split()) >= 3
    if cls in WITH_A_CODE:
        assert {"summary", "hint"} <= cls.__dict__.keys()
    assert cls.code == cls.code.lower().strip()
    assert cls.code.replace("_", "").isalpha()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_exactly_the_errors_that_pass_say_when_to_try_again(cls: type[IndelibleError]) -> None:
    passes = cls.http_status == 503 or cls is errors.RateLimited
    assert passes == (cls.retry_after_s is not None)


@pytest.mark.parametrize("code", ["overloaded", "unavailable"])
def test_overload_is_never_429(code: str) -> None:
    """Browser clients and the audit clients take every 429 for final."""
    assert code not in {c.code for c in WITH_A_CODE if c.http_status == 429}


def test_only_what_our_own_client_tries_again_is_a_429_that_passes() -> None:
    finals = {"monthly_limit_exceeded": None, "rate_limited": 1}
    assert finals == {c.code: c.retry_after_s for c in WITH_A_CODE if c.http_status == 429}
    assert (503, "rate_limited") == (
        errors.AuditRateLimited.http_status,
        errors.AuditRateLimited.code,
    )


def test_the_body_is_flat_and_the_same_for_every_error() -> None:
    def shape(error: IndelibleError) -> dict[str, Any]:
        return {name: type(value) for name, value in error.body(request_id="r").items()}

    plain = [cls for cls in CLASSES if "__init__" not in cls.__dict__]
    expected = shape(IndelibleError())
    assert {
        "ok",
        "status",
        "success",
        "code",
        "reason",
        "error",
        "message",
        "detail",
        "error_description",
        "hint",
        "request_id",
    } == expected.keys()
    for cls in plain:
        assert expected == shape(cls())


@pytest.mark.parametrize("reason", DropReason)
def test_a_refused_event_carries_its_reason_as_the_code(reason: DropReason) -> None:
    body = EventRefused(reason).body(request_id="r")
    assert reason.value == body["code"] == body["reason"] == body["error"]
    assert reason.meaning in str(body["message"])
    assert "event_refused" == EventRefused.code


def test_a_message_keeps_its_case() -> None:
    message = BodyTooLarge(limit_bytes=20_971_520, unpacked=True).message
    assert "Once unpacked, the body is over 20,971,520 bytes" == message


def test_a_hint_for_the_case_at_hand_replaces_the_general_one() -> None:
    error = IndelibleError("what", hint="Do this.")
    assert ("what", "Do this.") == (error.message, error.body(request_id="r")["hint"])
