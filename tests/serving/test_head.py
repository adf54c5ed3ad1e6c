"""Which heads are read, and as what; which are refused, and with what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import (
    ExpectationFailed,
    HeadTooLarge,
    HttpVersionUnsupported,
    IndelibleError,
    RequestMalformed,
    TargetTooLong,
    UnknownTransferCoding,
)
from indelible.serving.head import CHUNKED, MOST_FIELDS, MOST_HEAD_BYTES, check_unfinished, parse

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"

REFUSED: list[tuple[bytes, type[IndelibleError]]] = [
    # The request line.
    (b"GET  / HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n", RequestMalformed),
    (b"GET /a b HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET /a#b HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET nowhere HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET * HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET / http/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET /\r\n", RequestMalformed),
    (b"G(T / HTTP/1.1\r\nHost: a\r\n", RequestMalformed),
    (b"GET / HTTP/1.1\nHost: a\r\n", RequestMalformed),
    (b"GET / HTTP/2.0\r\nHost: a\r\n", HttpVersionUnsupported),
    (b"PRI * HTTP/2.0\r\n", HttpVersionUnsupported),
    (b"GET / HTTP/0.9\r\nHost: a\r\n", HttpVersionUnsupported),
    # The lines of the fields.
    (GET + b"A: b\nC: d\r\n", RequestMalformed),
    (GET + b"A: b\rC: d\r\n", RequestMalformed),
    (GET + b"A : b\r\n", RequestMalformed),
    (GET + b" A: b\r\n", RequestMalformed),
    (GET + b"A: b\r\n folded\r\n", RequestMalformed),
    (GET + b"A: b\r\n\tfolded\r\n", RequestMalformed),
    (GET + b": b\r\n", RequestMalformed),
    (GET + b"no colon\r\n", RequestMalformed),
    (GET + b"A\x00: b\r\n", RequestMalformed),
    (GET + b"A: \x00\r\n", RequestMalformed),
    (GET + b"A: \x7f\r\n", RequestMalformed),
    (GET + b"A\xc3\xa9: b\r\n", RequestMalformed),
    # Host.
    (b"GET / HTTP/1.1\r\n", RequestMalformed),
    (GET + b"Host: a\r\n", RequestMalformed),
    (b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n", RequestMalformed),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n", RequestMalformed),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n", RequestMalformed),
    # The end of the body, where two readers might differ.
    (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", RequestMalformed),
    (GET + b"Content-Length: 1\r\nContent-Length: 1\r\n", RequestMalformed),
    (GET + b"Content-Length: 1, 1\r\n", RequestMalformed),
    (GET + b"Content-Length: +1\r\n", RequestMalformed),
    (GET + b"Content-Length: -1\r\n", RequestMalformed),
    (GET + b"Content-Length: 0x1\r\n", RequestMalformed),
    (GET + b"Content-Length: 1_0\r\n", RequestMalformed),
    (GET + b"Content-Length:\r\n", RequestMalformed),
    (GET + b"Content-Length: 9999999999999999999\r\n", RequestMalformed),
    (GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", RequestMalformed),
    (GET + b"Transfer-Encoding: chunked, chunked\r\n", RequestMalformed),
    (GET + b"Transfer-Encoding:\r\n", RequestMalformed),
    (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", RequestMalformed),
    (GET + b"Transfer-Encoding: gzip\r\n", UnknownTransferCoding),
    (GET + b"Transfer-Encoding: identity\r\n", UnknownTransferCoding),
    (GET + b"Transfer-Encoding: gzip, chunked\r\n", UnknownTransferCoding),
    (GET + b"Transfer-Encoding: chunked, identity\r\n", UnknownTransferCoding),
    (GET + b"Transfer-Encoding: xchunked\r\n", UnknownTransferCoding),
    (GET + b'Transfer-Encoding: "chunked"\r\n', UnknownTransferCoding),
    # The rest.
    (GET + b"Expect: a miracle\r\n", ExpectationFailed),
    (GET + b"A: b\r\n" * MOST_FIELDS, HeadTooLarge),
]


@pytest.mark.parametrize(("block", "error"), REFUSED)
def test_what_two_readers_might_understand_differently_is_refused(
    block: bytes, error: type[IndelibleError]
) -> None:
    with pytest.raises(error):
        parse(block)


@pytest.mark.parametrize(("block", "error"), REFUSED)
def test_a_head_that_cannot_become_one_is_refused_at_the_latest_when_it_ends(
    block: bytes, error: type[IndelibleError]
) -> None:
    """Cut at every byte, a part is either waited for or refused, and never with another word."""
    checked = 0
    for end in range(len(block)):
        try:
            checked = check_unfinished(block[:end], checked)
        except (RequestMalformed, HttpVersionUnsupported) as refused:
            assert error in (type(refused), HttpVersionUnsupported)  # noqa: PT017 — either is fine


@pytest.mark.parametrize(
    ("block", "length", "is_persistent"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 0, True),
        (b"GET / HTTP/1.1\r\nHost:\r\n", 0, True),
        (b"GET / HTTP/1.1\r\nhOST:\t [::1]:80 \t\r\n", 0, True),
        (b"GET / HTTP/1.0\r\n", 0, False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", 0, True),
        (GET + b"Connection: close\r\n", 0, False),
        (GET + b"Connection: x, CLOSE\r\n", 0, False),
        (GET + b"Connection: close\r\nConnection: keep-alive\r\n", 0, False),
        (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", 0, True),
        (GET + b"Content-Length: 007\r\n", 7, True),
        (GET + b"Transfer-Encoding: Chunked\r\n", CHUNKED, True),
        (GET + b"A: b\r\n" * (MOST_FIELDS - 1), 0, True),
    ],
)
def test_where_the_body_ends_and_whether_the_connection_goes_on(
    block: bytes, length: int, is_persistent: bool
) -> None:
    head = parse(block)
    assert (length, is_persistent) == (head.length, head.is_persistent)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/a?b=c?d", b"/a", b"b=c?d"),
        (b"//api/e", b"//api/e", b""),
        (b'/a?data={"b":"\xc3\xa9"}', b"/a", b'data={"b":"\xc3\xa9"}'),
        (b"http://shop.example", b"/", b""),
        (b"HTTPS://shop.example:443/a?b", b"/a", b"b"),
        (b"http://shop.example?b", b"/", b"b"),
    ],
)
def test_path_and_query_of_a_target(target: bytes, path: bytes, query: bytes) -> None:
    head = parse(b"POST %b HTTP/1.1\r\nHost: a\r\n" % target)
    assert (path, query) == (head.path, head.query)


def test_the_host_of_an_absolute_target_replaces_host() -> None:
    head = parse(b"GET http://b/ HTTP/1.1\r\nHost: a\r\nX: y\r\n")
    assert [(b"host", b"b"), (b"x", b"y")] == head.headers
    assert b"b" == head.fields[b"host"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET /" + b"a" * MOST_HEAD_BYTES, TargetTooLong),
        (GET + b"A: " + b"b" * MOST_HEAD_BYTES, HeadTooLarge),
        (b"GET / HTTP/1.1\nHost: a\n", RequestMalformed),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", RequestMalformed),  # TLS
        (b"PRI * HTTP/2.0\r\n", HttpVersionUnsupported),
    ],
)
def test_no_more_is_waited_for_once_it_can_become_no_head(
    data: bytes, error: type[IndelibleError]
) -> None:
    with pytest.raises(error):
        check_unfinished(data)


def test_a_head_cut_at_any_byte_is_waited_for() -> None:
    whole = b"POST /api/e?a=b HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n\r\n"
    checked = 0
    for end in range(len(whole) - 1):
        assert whole[:end].rfind(b"\n") + 1 == check_unfinished(whole[:end])
        checked = check_unfinished(whole[:end], checked)
        assert whole[:end].rfind(b"\n") + 1 == checked


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(data: bytes) -> None:
    for block in (data, GET + data, GET + b"A: " + data + b"\r\n"):
        for read in (parse, check_unfinished):
            try:
                read(block)
            except IndelibleError as error:
                assert error.http_status in (400, 414, 417, 431, 501, 505)  # noqa: PT017
