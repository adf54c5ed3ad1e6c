"""What must not leave the process does not, on the wire and in the log of the server."""

import hashlib
import hmac
import json
from collections import UserDict, deque
from collections.abc import Callable, Iterator
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import pseudonym, sha256_hex
from indelible.client.privacy import MASK, SECRET_NAMES, Redaction
from tests.client.stub import API_KEY, Stub, client_of

KEPT = "this may be seen"


def _sent(stub: Stub) -> str:
    return "\n".join(request.text.decode() for request in stub.requests)


def _nested(depth: int, value: Any) -> Any:
    for level in range(depth):
        value = {"a": value} if level % 2 else [value, {"b": 1}]
    return value


@pytest.mark.parametrize("depth", [0, 1, 5, 15])
def test_a_secret_name_is_masked_at_any_depth_in_both_lanes(stub: Stub, depth: int) -> None:
    names = sorted(SECRET_NAMES)
    spelled = [*names, *(name.upper().replace("_", "-") for name in names)]
    secrets = dict.fromkeys(spelled, "hush-1234")
    body = {"deep": _nested(depth, {**secrets, "inside": KEPT, "keyboard": KEPT})}
    with client_of(stub) as client:
        client.capture("e", properties=body)
        client.identify("user_42", body)
        client.audit.send_async("order.created", body, meta={"password": "hush-1234"})
        client.audit.send("order.created", body)
        assert client.flush(60)

    assert "hush" not in _sent(stub)
    assert 4 * 2 == _sent(stub).count(KEPT)


def test_a_value_that_has_to_be_given_a_form_first_is_masked_too(stub: Stub) -> None:
    class Odd:
        pass

    with client_of(stub) as client:
        client.capture("e", properties={"o": Odd(), "in": ({"password": "hush"},)})
        client.capture("e", properties={"o": {1, 2}, "token": "hush"})
        assert client.flush(60)

    assert "hush" not in _sent(stub)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key iml_live_0123456789abcdef here", f"key {MASK} here"),
        ("iml_test_0123456789abcdef", MASK),
        ("ind_adm_0123456789", MASK),
        ("ind_key_0123456789", MASK),
        ("https://me:hush@db.example.com/x", f"https://{MASK}@db.example.com/x"),
        ("ind_pub_0123456789", "ind_pub_0123456789"),  # public by nature
        ("a@b.example, https://b.example/@me", "a@b.example, https://b.example/@me"),
    ],
)
def test_our_own_keys_and_the_login_of_an_address_are_masked_in_any_text(
    stub: Stub, text: str, expected: str
) -> None:
    with client_of(stub) as client:
        client.capture("e", properties={"list": [text]})
        client.audit.send("order.created", {"t": text}, meta={"note": text})
        assert client.flush(60)

    product, audit = sorted(stub.stored.values(), key=lambda one: "payload" in one)
    assert [expected] == product["properties"]["list"]
    assert (expected, expected) == (json.loads(audit["payload"])["t"], audit["meta"]["note"])


def test_own_names_and_patterns_are_masked_and_ids_and_times_are_left_alone(stub: Stub) -> None:
    options = {"redact_names": ("card-number",), "redact_patterns": (r"\d{4}",)}
    with client_of(stub, **options) as client:
        client.capture(
            "e", distinct_id="user_2026", properties={"Card_Number": "hush", "note": "pin 1234"}
        )
        client.audit.send_async("order.created", {"note": "pin 1234"})
        assert client.flush(60)

        product, audit = sorted(stub.stored.values(), key=lambda one: "payload" in one)
        assert (MASK, f"pin {MASK}") == (
            product["properties"]["Card_Number"],
            product["properties"]["note"],
        )
        assert ("user_2026", client.process_id) == (product["distinct_id"], product["process_id"])
        assert product["timestamp"].startswith("20")
        assert product["uuid"] in stub.stored
        assert f"pin {MASK}" == json.loads(audit["payload"])["note"]
        assert client.process_id == audit["meta"]["process_id"]


def test_a_payload_that_is_text_is_proved_to_the_byte_and_so_never_changed(stub: Stub) -> None:
    text = '{ "password":"the caller\'s own business",  "n": 1 }'
    with client_of(stub) as client:
        client.audit.send("order.created", text)

    assert [text] == [event["payload"] for event in stub.stored.values()]


def test_the_key_travels_in_a_header_only_and_the_token_in_the_body_only(stub: Stub) -> None:
    with client_of(stub) as client:
        client.capture("e")
        client.audit.send("order.created", {})
        assert client.flush(60)

    assert API_KEY not in _sent(stub)
    for request in stub.requests:
        keyed = API_KEY in request.headers.get("authorization", "")
        assert keyed == request.path.startswith("/v1/")


@given(value=st.text(), key=st.text(min_size=1))
def test_a_pseudonym_is_hmac_sha_256_and_a_digest_is_plain_sha_256(value: str, key: str) -> None:
    raw, secret = (one.encode("utf-8", "surrogatepass") for one in (value, key))

    assert hashlib.sha256(raw).hexdigest() == sha256_hex(value) == sha256_hex(raw)
    assert hmac.new(secret, raw, "sha256").hexdigest() == pseudonym(value, key=key)
    assert pseudonym(value, key=key) != pseudonym(value, key=key + "x")


def test_a_pseudonym_without_a_key_is_refused() -> None:
    for empty in ("", b""):
        with pytest.raises(ValueError, match="needs a key"):
            pseudonym("user@example.com", key=empty)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=12,
    )
)
def test_masking_changes_nothing_where_there_is_nothing_to_mask(value: Any) -> None:
    masked = Redaction(names=frozenset()).of_value(value)

    assert value == masked


_WRAPPED_IN_TURN: list[Callable[[Any], Any]] = [
    lambda one: (one,),
    lambda one: [one],
    lambda one: {"a": one},
    lambda one: deque([one]),
    lambda one: UserDict({"a": one}),
    lambda one: SimpleNamespace(a=one),
    lambda one: {b"a": one},
    lambda one: MappingProxyType({"a": one}),
    lambda one: Around(one),
]


class Around(NamedTuple):
    """A tuple whose places have names, one of them secret."""

    a: Any
    password: str = "hush-in-a-tuple"


WRAPPED = st.lists(st.sampled_from(_WRAPPED_IN_TURN), max_size=5)
SPELLED = st.sampled_from(sorted(SECRET_NAMES)).flatmap(
    lambda name: st.sampled_from([name, name.upper(), name.replace("_", "-"), name.encode()])
)
OWN_KEYS = st.builds(
    "{}_{}".format,
    st.sampled_from(["iml_live", "iml_test", "ind_adm", "ind_key"]),
    st.text("abcdefXYZ0189_-", min_size=8, max_size=20).filter(
        lambda text: text.strip("-") == text
    ),
)


@given(
    wrapped=WRAPPED, name=SPELLED, key=OWN_KEYS, around=st.sampled_from(["{}", "a {} b", "'{}'"])
)
def test_secrets_and_our_own_keys_are_masked_inside_containers_of_any_kind(
    door: tuple[Stub, Any], wrapped: list[Callable[[Any], Any]], name: Any, key: str, around: str
) -> None:
    stub, client = door
    value: Any = {name: "hush", "text": around.format(key), "seen": KEPT}
    for wrap in wrapped:
        value = wrap(value)
    stub.stored.clear()
    client.capture("e", properties={"v": value})
    client.audit.send_async("order.created", {"v": value}, meta={"note": around.format(key)})
    assert client.flush(60)

    sent = json.dumps(list(stub.stored.values()))
    assert 2 == sent.count(KEPT)
    assert "hush" not in sent
    assert key not in sent


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[Stub, Any]]:
    with Stub() as stub, client_of(stub) as client:
        yield stub, client
