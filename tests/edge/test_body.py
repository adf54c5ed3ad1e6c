"""From the bytes on the wire to JSON text: pure, so every nesting can be tried."""

import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indelible.edge.body import Packing, checked_packing, unpack
from indelible.edge.brackets import MAX_DEPTH, nesting
from indelible.edge.pipeline import CONTENT_TYPES
from indelible.edge.shallow import parse
from indelible.edge.surrogates import replace_lone_surrogates
from indelible.errors import (
    BodyTooLarge,
    EventRefused,
    IndelibleError,
    InvalidEncoding,
    InvalidJson,
    UnsupportedMediaType,
)
from indelible.event import Lane
from tests.edge.wire import b64, form, gz

LABELS = CONTENT_TYPES[Lane.PRODUCT]

LIMIT = 1024 * 1024
MOST = 10_000

Layer = Callable[[bytes], bytes]

any_text = st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(any_text, children, max_size=3)
    ),
    max_leaves=6,
)
documents = st.dictionaries(any_text, values, max_size=4) | st.lists(values, max_size=4)


def url_safe(data: bytes) -> bytes:
    return b64(data).replace(b"+", b"-").replace(b"/", b"_")


def unpadded(data: bytes) -> bytes:
    """Without padding, unless too little would be left to be told from a word."""
    text = b64(data).rstrip(b"=")
    return text if len(text) >= 4 else b64(data)


def in_lines(data: bytes) -> bytes:
    text = b64(data)
    return b"\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))


BASE64 = (b64, url_safe, unpadded, in_lines)
layers = st.lists(st.sampled_from([gz, form, *BASE64]), max_size=3).filter(
    lambda chosen: sum(layer in BASE64 for layer in chosen) <= 2
)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@settings(deadline=None)
@example(document={"a": 1}, packing=[gz, form])
@example(document={"a": 1}, packing=[gz, b64, form])
@example(document=[], packing=[form, gz, form])
@given(document=documents, packing=layers)
def test_any_nesting_of_up_to_three_layers_gives_the_text_back(
    document: Any, packing: list[Layer]
) -> None:
    text = as_json(document)
    packed = text
    for layer in packing:
        packed = layer(packed)
    assert text == unpack(packed, Packing(), limit_bytes=LIMIT)


@given(document=documents, packing=st.lists(st.sampled_from([gz, form]), min_size=4, max_size=6))
def test_a_fourth_layer_is_refused(document: Any, packing: list[Layer]) -> None:
    packed = as_json(document)
    for layer in packing:
        packed = layer(packed)
    with pytest.raises(InvalidEncoding):
        unpack(packed, Packing(), limit_bytes=LIMIT)


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), packing=layers)
def test_any_bytes_are_read_or_refused_with_an_error_of_ours(
    body: bytes, packing: list[Layer]
) -> None:
    for layer in packing:
        body = layer(body)
    try:
        document, _ = parse(unpack(body, Packing(), limit_bytes=LIMIT), most=MOST)
    except IndelibleError as error:
        assert error.http_status == 400  # noqa: PT017 — both ways out are fine
    else:
        assert isinstance(document, dict | list)


@given(document=documents, size=st.integers(1, 60))
def test_what_is_over_the_budget_is_refused_and_what_is_not_is_read(
    document: Any, size: int
) -> None:
    text = as_json(document)
    if len(text) <= 5 * size:
        assert text == unpack(gz(text), Packing(), limit_bytes=size)
    else:
        with pytest.raises(BodyTooLarge):
            unpack(gz(text), Packing(), limit_bytes=size)


@given(document=documents)
def test_valid_text_is_kept_to_the_byte(document: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only).encode()
        assert text == replace_lone_surrogates(text)
        assert text == parse(text, most=MOST)[1]


@given(st.text(st.characters(categories=["Cs", "Lu"]) | st.sampled_from('"\\u/n'), max_size=30))
def test_a_text_with_half_characters_is_repaired_and_keeps_its_length(text: str) -> None:
    """`text` may hold surrogates of both kinds, paired or alone."""
    sent = json.dumps([text]).encode()

    repaired = replace_lone_surrogates(sent)

    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert joined == json.loads(repaired)[0]
    assert len(sent) == len(repaired)
    assert repaired == parse(sent, most=MOST)[1]


def depth_of(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
    return 0


def wrapped(value: Any, ways: list[str]) -> Any:
    for way in ways:
        value = [value] if way == "list" else {'a"[{\\': value}
    return value


@given(
    value=values,
    ways=st.lists(st.sampled_from(["list", "object"]), max_size=40),
    beside=st.lists(values, max_size=40),
)
@example(value=[], ways=["list"] * (MAX_DEPTH + 1), beside=[])
def test_nesting_says_who_is_too_deep_like_a_plain_recursion(
    value: Any, ways: list[str], beside: list[Any]
) -> None:
    document = [wrapped(value, ways), *beside]
    text = json.dumps(document).encode()
    depth = depth_of(document)

    counted = nesting(text)

    assert (depth > MAX_DEPTH) == (counted > MAX_DEPTH)
    assert min(depth, MAX_DEPTH + 1) <= counted  # beyond that nobody counts on
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        assert min(depth, MAX_DEPTH + 1) == counted


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_what_no_recursion_can_read_is_refused(depth: int) -> None:
    with pytest.raises(EventRefused):
        parse(b"[" * depth + b"]" * depth, most=MOST)


@pytest.mark.parametrize("text", [b"", b"1", b'"a"', b"null", b"{", b"[1 2]", b"{}{}", b"\xff"])
def test_what_is_no_object_and_no_list_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse(text, most=MOST)


def test_an_error_about_json_quotes_nothing_of_the_body() -> None:
    for text in (b'{"secret', b'{"a": secret}', b'"secret"', b'{"a":"secret\x01"}'):
        with pytest.raises(InvalidJson) as caught:
            parse(text, most=MOST)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["", *sorted(LABELS), "application/vnd.x+json"])
@pytest.mark.parametrize("coding", ["", "identity", "gzip", "x-gzip", "deflate", "GZIP", " gzip "])
def test_known_types_and_encodings_pass(kind: str, coding: str) -> None:
    checked_packing(kind and f"{kind.upper()} ; charset=utf-8", coding, "", LABELS)


@given(kind=st.text(min_size=1), coding=st.text(min_size=1))
def test_any_other_type_or_encoding_is_unsupported(kind: str, coding: str) -> None:
    assume_unknown = "other/" + kind.partition("+")[0]
    with pytest.raises(UnsupportedMediaType):
        checked_packing(assume_unknown, "", "", LABELS)
    with pytest.raises(UnsupportedMediaType):
        checked_packing("", "x" + coding, "", LABELS)


PIECE = 1 << 20


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("unit", [b"%7B", b"%", b"%%7B", b"%7", b"=", b"a+%25b", b"%C3%A9", b"%0A"])
def test_a_long_form_is_decoded_as_a_short_one(unit: bytes, shift: int) -> None:
    """Wherever its pieces end."""
    field = (b"!" + b"x" * shift + unit * (PIECE // len(unit) + 9))[: PIECE + 20]
    expected = unquote_to_bytes(field.replace(b"+", b" ")).rstrip()
    assert expected == unpack(b"data=" + field, Packing(), limit_bytes=2 * PIECE)


@pytest.mark.parametrize("shift", range(4))
def test_long_base64_is_decoded_as_a_short_one(shift: int) -> None:
    text = b'{"a":"' + b"x" * (PIECE + shift) + b'"}'
    for layer in BASE64:
        assert text == unpack(layer(text), Packing(), limit_bytes=4 * PIECE)


@pytest.mark.parametrize("shift", range(-2, 3))
def test_a_long_gzip_stream_of_several_members_is_read_to_its_end(shift: int) -> None:
    members = [b'{"a":"', b"x" * (PIECE + shift), b"", bytes(range(97, 123)) * 5_000, b'"}']
    packed = b"".join(gzip.compress(member, 0) for member in members)
    assert b"".join(members) == unpack(packed, Packing(), limit_bytes=4 * PIECE)
    with pytest.raises(InvalidEncoding, match="cut short"):
        unpack(packed[:-1], Packing(), limit_bytes=4 * PIECE)
