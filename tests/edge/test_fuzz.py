"""Whatever is sent to an ingest route, the answer is a documented one, and nothing acknowledged is
missing afterwards."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.world import (
    API_KEY,
    TOKEN,
    ServerProcess,
    assert_canonical_error,
    audit,
    bearer,
    product,
    started,
)

PRODUCT = ("/api/e", "/batch/", "/batch")
AUDIT = ("/v1/events", "/v1/events/batch")
EXAMPLES = [150, pytest.param(800, marks=pytest.mark.slow)]


class Fuzzed:
    """A server, what its description says, and every index that it has acknowledged."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.documented = server.http.get("/openapi.json").json()["paths"]
        self.acknowledged: dict[int, str] = {}

    def send(self, path: str, body: bytes, headers: dict[str, str], **query: str) -> httpx.Response:
        """POST, and check that the answer is one of those that the description names."""
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = self.server.http.post(path, content=body, headers=sent, params=query)
        assert answer.status_code in (200, 202, 204, 400, 401, 403, 404, 409, 413, 415, 429)
        described = self.documented[path]["post"]["responses"][str(answer.status_code)]
        if answer.status_code < 400:
            self._remember(answer)
            return answer
        code = answer.json()["code"]
        assert_canonical_error(answer, answer.status_code, code)
        assert code in described["content"]["application/json"]["examples"], (path, code)
        return answer

    def _remember(self, answer: httpx.Response) -> None:
        if answer.status_code == 204:
            assert b"" == answer.content
            return
        said = answer.json()
        for result in [said, *said.get("events", ()), *said.get("results", ())]:
            if isinstance(result, dict) and "index" in result:
                tx_id = self.acknowledged.setdefault(result["index"], result["tx_id"])
                assert tx_id == result["tx_id"]

    def check(self) -> None:
        """The server still stores a good event; all that it acknowledged is in the export."""
        good = json.dumps(product(uuid="good")).encode()
        assert 200 == self.send("/api/e", good, {}).status_code
        receipt = self.send("/v1/events", json.dumps(audit()).encode(), bearer(API_KEY))
        assert 202 == receipt.status_code
        lines = self.server.http.get("/v1/export", headers=bearer(API_KEY)).content.split(b"\n")
        exported = {e["index"]: e["tx_id"] for e in map(json.loads, lines[:-1])}
        assert list(range(len(exported))) == sorted(exported)
        assert self.acknowledged.items() <= exported.items()


def fuzz(examples: int) -> settings:
    """The same examples each time: making them costs more than sending them."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with started(
        tmp_path_factory.mktemp("fuzzed"), INDELIBLE_MAX_BODY_BYTES=str(64 * 1024)
    ) as server:
        fuzzed = Fuzzed(server)
        yield fuzzed
        fuzzed.check()
        assert server.process.poll() is None


# Names that mean something to a dialect, and values that ought to be something else.

MEMBERS = st.sampled_from(
    (
        *("api_key", "token", "$token", "event", "distinct_id", "properties", "uuid"),
        *("timestamp", "$set", "$set_once", "$unset", "batch", "sent_at", "historical_migration"),
        *("payload", "meta", "events", "idempotency_key", "type", "request_id"),
    )
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from([TOKEN, "", "null", "2026-01-02T03:04:05Z", "x" * 256, "\x00", "\u2028"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(MEMBERS, st.text()), inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def spoilt(draw: st.DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """A good object with some members replaced, dropped or added."""
    names = st.one_of(st.sampled_from(sorted(whole)), MEMBERS)
    changed = {**whole, **draw(st.dictionaries(names, VALUES, max_size=2))}
    for name in draw(st.lists(st.sampled_from(sorted(whole)), max_size=1)):
        changed.pop(name, None)
    return changed


GOOD = st.sampled_from([product(), audit()])
EVENTS = st.one_of(GOOD, spoilt(product()), spoilt(audit()), VALUES)
DOCUMENTS = st.one_of(
    EVENTS,
    st.lists(EVENTS, max_size=4),
    st.fixed_dictionaries({"api_key": st.just(TOKEN), "batch": st.lists(EVENTS, max_size=4)}),
    st.fixed_dictionaries({"events": st.lists(EVENTS, max_size=4)}),
)

NEARLY_JSON = st.sampled_from(
    [
        b"",
        b" ",
        b"{",
        b"]",
        b"nul",
        b"\xef\xbb\xbf{}",
        b'{"api_key":"test-token","event":"\xff","distinct_id":"d"}',
        b'{"api_key":"test-token","event":"\\ud800","distinct_id":"\\udfff"}',
        b'{"api_key":"test-token","event":"e","distinct_id":"d","properties":{"n":NaN}}',
        b'{"api_key":"test-token","event":"e","distinct_id":1e999}',
        b'{"api_key":"test-token","event":"e","distinct_id":"d","properties":{"n":1e400}}',
        b'{"api_key":"test-token","event":"e","event":"f","distinct_id":"d"}',
        b'{"api_key":"test-token","event":"e","distinct_id":"d",}',
        b'{"payload":"\\ud800"}',
        b'{"payload":"a","meta":{"a":"\\udc00"}}',
        b'{"payload":"a","payload":"b"}',
        b'{"events":[{"payload":"a"},{"payload":1e999},1e999]}',
        b"[" * 100,
        b"[" * 20_000 + b"]" * 20_000,
        b'{"api_key":"test-token","event":"e","distinct_id":"d","properties":'
        + b'{"a":' * 40
        + b"1"
        + b"}" * 41,
        b'{"payload":"a","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"api_key":"test-token","batch":[' + b"[" * 3_000 + b"]" * 3_000 + b"]}",
        b"9" * 5_000,
        b'{"payload":"a","n":' + b"9" * 5_000 + b"}",
        b'{"api_key":"test-token","event":"e","distinct_id":' + b"9" * 5_000 + b"}",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00",
        b"data=",
        b"data=%",
        b"data=%7B&data=%7B",
        b"data=" + b"&data=" * 200,
        gzip.compress(bytes(10_000_000)),
        b"x" * 70_000,
    ]
)


def _cut(data: bytes, at: int) -> bytes:
    return data[: at % (len(data) + 1)]


LAYERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda b: b,
    gzip.compress,
    zlib.compress,
    lambda b: zlib.compress(b)[2:-4],
    base64.b64encode,
    lambda b: base64.urlsafe_b64encode(b).rstrip(b"="),
    lambda b: b"data=" + quote_plus(b).encode(),
    lambda b: b"data=" + b,
)


class Body:
    """Bytes that are shown in part when a test fails."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes: {self.data[:300]!r}>"


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    """JSON or nearly so, in up to four layers of packing, perhaps cut short or damaged."""
    body = draw(
        st.one_of(
            DOCUMENTS.map(lambda d: json.dumps(d).encode()),
            DOCUMENTS.map(lambda d: json.dumps(d, ensure_ascii=False).encode("utf-8", "replace")),
            NEARLY_JSON,
            st.binary(max_size=100),
        )
    )
    for layer in draw(st.lists(st.sampled_from(LAYERS), max_size=4)):
        body = layer(body)
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "damaged", "longer"])):
        case "cut":
            body = _cut(body, draw(st.integers(0, 10**6)))
        case "damaged" if body:
            at = draw(st.integers(0, len(body) - 1))
            body = body[:at] + draw(st.binary(min_size=1, max_size=1)) + body[at + 1 :]
        case "longer":
            body += draw(st.binary(max_size=10))
    return Body(body)


VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.one_of(
            st.sampled_from(
                [
                    "application/json",
                    "text/plain;charset=UTF-8",
                    "application/x-www-form-urlencoded",
                    "application/octet-stream",
                    "multipart/form-data",
                    "application/vnd.x+json",
                    ";",
                ]
            ),
            VISIBLE,
        ),
        "Content-Encoding": st.sampled_from(
            ["gzip", "deflate", "identity", "br", "GZIP", "x", "gzip, gzip"]
        ),
        "User-Agent": st.sampled_from(["Go-http-client/1.1", "Googlebot/2.1", "x" * 2_000, "\xe9"]),
        "Idempotency-Key": st.one_of(VISIBLE, st.sampled_from(["a b", "\xe9", "x" * 300])),
        "Request-Id": st.one_of(VISIBLE, st.sampled_from(["\xe9", "x" * 300])),
        "X-Forwarded-For": st.sampled_from(["1.2.3.4", "garbage", ",,,", "[::1]:80, 1.1.1.1"]),
        "Origin": st.sampled_from(["https://shop.example", "null", "\xe9"]),
        "Authorization": st.sampled_from(["Bearer", "Bearer x", "Basic eA==", f"Bearer {TOKEN}"]),
    },
)
QUERY = st.fixed_dictionaries(
    {},
    optional={
        "compression": st.sampled_from(["gzip", "gzip-js", "base64", "lz64", "", "\x00"]),
        "token": st.sampled_from([TOKEN, "other", ""]),
        "api_key": st.sampled_from([TOKEN, API_KEY]),
        "project": st.sampled_from(["default", "nobody", "\x00", "é"]),
        "img": st.just("1"),
    },
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_product_route_has_a_documented_answer_to_anything(fuzzed: Fuzzed, examples: int) -> None:
    @fuzz(examples)
    @given(st.sampled_from(PRODUCT), bodies(), HEADERS, QUERY)
    def holds(path: str, body: Body, headers: dict[str, str], query: dict[str, str]) -> None:
        fuzzed.send(path, body.data, headers, **query)

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_an_audit_route_has_a_documented_answer_to_anything(fuzzed: Fuzzed, examples: int) -> None:
    @fuzz(examples)
    @given(st.sampled_from(AUDIT), bodies(), HEADERS, QUERY)
    def holds(path: str, body: Body, headers: dict[str, str], query: dict[str, str]) -> None:
        fuzzed.send(path, body.data, {**bearer(API_KEY), **headers}, **query)

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_readable_body_has_a_documented_answer(fuzzed: Fuzzed, examples: int) -> None:
    # Plain and with nothing else wrong, so that more of it comes as far as the journal.
    headers = {"Content-Type": "application/json", **bearer(API_KEY)}
    before = len(fuzzed.acknowledged)

    @fuzz(examples)
    @given(st.sampled_from([*PRODUCT, *AUDIT]), DOCUMENTS)
    def holds(path: str, document: Any) -> None:
        fuzzed.send(path, json.dumps(document).encode(), headers)

    holds()
    assert len(fuzzed.acknowledged) - before > examples // 10
