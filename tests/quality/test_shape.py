"""What is shown of a value never says the value."""

import string

from hypothesis import example, given
from hypothesis import strategies as st

from indelible.event import Kind
from indelible.quality.shape import MAX_NAME_CHARS, name_of, shape_of_number, shape_of_text
from indelible.quality.walk import MAX_DEPTH, MAX_VALUES, walk, walk_event

_WORD = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
EMAILS = st.builds("{}.{}@{}.example".format, _WORD, _WORD, _WORD)
PHONES = st.from_regex(r"\+?\d{2,3}[ -]?\(?\d{2,4}\)?[ /-]?\d{3,4}[ -]?\d{2,4}", fullmatch=True)
TOKENS = st.text(string.ascii_letters + string.digits + "-_", min_size=16, max_size=64)
IBANS = st.from_regex(r"[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){3,7}", fullmatch=True)
MASKS = st.sampled_from(["a***@***", "x-9 (4-7)", "time (16-31)", "uuid", "(8-15)", "url ("])
PERSONAL = st.one_of(EMAILS, PHONES, TOKENS, IBANS, st.text(min_size=4), MASKS)


def shared(one: str, other: str) -> list[str]:
    """The runs of four characters that both have."""
    runs = {one[at : at + 4] for at in range(len(one) - 3)}
    return sorted(run for run in runs if run in other)


@given(PERSONAL)
@example("jane@example.com")
@example("2026-11-30T10:00:00Z")
@example("9 9 9 9 9")
def test_no_four_characters_of_a_text_are_in_its_shape(text: str) -> None:
    assert [] == shared(text, shape_of_text(text))


@given(PERSONAL, _WORD)
def test_no_value_is_in_what_an_event_is_seen_as(text: str, name: str) -> None:
    event = {name: text, "list": [text], "deep": {"er": {"est": text}}}

    for seen in walk(event).paths.values():
        assert [] == shared(text, seen.shape or "")


@given(st.one_of(EMAILS, PHONES, IBANS, st.uuids().map(str), st.integers(10**5).map(str)))
def test_a_name_that_looks_like_a_value_is_shown_by_its_shape(name: str) -> None:
    assert [] == shared(name, name_of(name))


@given(st.from_regex(r"[a-zA-Z$_][a-z_ .]{0,11}[0-9]{0,3}", fullmatch=True))
def test_a_name_that_looks_like_a_name_is_kept(name: str) -> None:
    assert name == name_of(name)


@given(st.text())
def test_a_name_that_is_kept_is_short_and_never_like_a_shape(name: str) -> None:
    kept = name_of(name)
    assert len(kept) <= MAX_NAME_CHARS
    assert kept == name or kept.startswith("{")
    assert kept == name_of(kept)


@given(st.one_of(st.integers(), st.floats(allow_nan=False)))
def test_a_number_lies_in_what_is_shown_of_it(number: float) -> None:
    low, _, high = shape_of_number(number).replace("10^15", "1000000000000000").partition("..")
    assert (
        float(low or "-inf")
        <= number
        <= float(high or "inf" if ".." in shape_of_number(number) else low)
    )


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=8), inner, max_size=8)
    ),
    max_leaves=60,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=8))
def test_whatever_is_sent_a_bounded_part_of_it_is_looked_at(event: dict[str, object]) -> None:
    seen = walk(event)

    assert len(seen.paths) <= MAX_VALUES
    assert all(one.types for one in seen.paths.values())


def test_what_is_too_much_is_cut_and_said_to_be() -> None:
    nested: object = "end"
    for _ in range(MAX_DEPTH):
        nested = {"a": nested}

    assert walk({f"k{'x' * n}": n for n in range(MAX_VALUES + 1)}).is_cut
    assert not walk({f"k{'x' * n}": n for n in range(190)}).is_cut
    assert walk({"a": nested}).is_cut
    assert not walk({"a": [[], {}]}).is_cut


def test_names_that_differ_in_unicode_form_or_hold_strange_characters_are_told_apart() -> None:
    names = ["caf\u00e9", "cafe\u0301", "a.b", "a[0]", "a\0b", '"', "", "a b", "x" * 200]

    seen = walk(dict.fromkeys(names, 1) | {"a": {"b": 1}})

    assert len(names) + 2 == len(seen.paths)
    assert {"a.b", '"a.b"', '"a[0]"', '"a\\u0000b"', '""', '"a b"'} <= seen.paths.keys()


def test_an_audit_payload_is_text_unless_it_is_an_object() -> None:
    record = {"meta": {"type": "info", "event_name": "e", "service": "shop", "sequence": "1"}}

    for payload, paths in (
        (b'{"id": 1}', {"payload.id"}),
        (b"[1]", {"payload"}),
        (b"{broken", {"payload"}),
        (b'{"n": 1e999}', {"payload"}),
        (b"{" * 100_000, {"payload"}),
        (b"", {"payload"}),
    ):
        seen = walk_event(Kind.AUDIT, payload, record).paths.keys()
        assert {"meta.type", "meta.service", *paths} == seen


def test_an_empty_list_in_place_of_an_object_has_no_properties() -> None:
    for payload in (b"[]", b"null"):
        assert {} == walk_event(Kind.PRODUCT, payload, {"$set": []}).paths
    seen = walk_event(Kind.PRODUCT, b"{}", {"$set": {"email": "a@b.c"}, "$set_once": {"n": 1}})
    assert {"$set.email", "$set_once.n"} == seen.paths.keys()
