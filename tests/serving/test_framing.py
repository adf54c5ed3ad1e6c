"""Where bodies end: whole, cut anywhere, and with other requests after them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import RequestMalformed
from indelible.serving.framing import (
    MOST_CHUNKS_A_TURN,
    MOST_SIZE_LINE_BYTES,
    MOST_TRAILER_BYTES,
    Chunked,
    Sized,
)

NEXT = b"GET / HTTP/1.1\r\n\r\n"

BODIES = [
    (b"0\r\n\r\n", b""),
    (b"1\r\na\r\n0\r\n\r\n", b"a"),
    (b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    (b"a\r\n\r\n0\r\n\r\nabc\r\n0\r\n\r\n", b"\r\n0\r\n\r\nabc"),
    (b"0001\r\na\r\n000\r\n\r\n", b"a"),
    (b"1;name=value\r\na\r\n0;last\r\n\r\n", b"a"),
    (b'1 ;a="b;c"\r\na\r\n0\r\n\r\n', b"a"),
    (b"1\r\na\r\n0\r\nExpires: never\r\nX: \r\n\r\n", b"a"),
]


def read(framing: Chunked | Sized, *pieces: bytes) -> tuple[bytes, bytes]:
    """Feed every piece; the body, and what came after it."""
    body, after = b"", b""
    for piece in pieces:
        if framing.is_done:
            after += piece
            continue
        rest = piece
        while rest and not framing.is_done:
            part, rest = framing.feed(rest)
            body += part
        after += rest
    return body, after


@pytest.mark.parametrize(("written", "body"), BODIES)
def test_a_body_in_chunks_is_read_whole_byte_by_byte_and_cut_at_every_byte(
    written: bytes, body: bytes
) -> None:
    sent = written + NEXT
    assert (body, NEXT) == read(Chunked(), sent)
    assert (body, NEXT) == read(Chunked(), *(sent[i : i + 1] for i in range(len(sent))))
    for cut in range(len(written)):
        framing = Chunked()
        read(framing, sent[:cut])
        assert not framing.is_done
        assert NEXT == read(framing, sent[cut:])[1]
        assert framing.is_done


@pytest.mark.parametrize(
    "written",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\na",
        b"+1\r\na",
        b"0x1\r\na",
        b" 1\r\na",
        b"1 \r\na",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"1\r\na0\r\n\r\n",
        b"1\r\naXY0\r\n\r\n",
        b"1\r\na\r0\r\n\r\n",
        b"1;\x00\r\na",
        b"1;a\nb\r\na",
        b"1" * 16 + b"\r\n",
        b"1;" + b"a" * MOST_SIZE_LINE_BYTES,
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: a\r\n\r\n",
        b"0\r\nA: b\nC: d\r\n\r\n",
        b"0\r\nA: " + b"b" * MOST_TRAILER_BYTES,
        b"0\r\nA: " + b"b" * MOST_TRAILER_BYTES + b"\r\n\r\n",
    ],
)
def test_chunks_that_are_not_written_as_chunks_are_refused(written: bytes) -> None:
    with pytest.raises(RequestMalformed):
        read(Chunked(), written)
    with pytest.raises(RequestMalformed):
        read(Chunked(), *(written[i : i + 1] for i in range(len(written))))


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=8),
    st.lists(st.integers(min_value=0, max_value=300), max_size=8),
)
def test_chunks_give_back_what_was_put_into_them_wherever_they_are_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    written = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n" + NEXT
    places = sorted({0, len(written), *(cut for cut in cuts if cut < len(written))})
    pieces = [written[a:b] for a, b in itertools.pairwise(places)]
    assert (b"".join(parts), NEXT) == read(Chunked(), *pieces)


def test_a_turn_reads_so_many_chunks_and_no_more() -> None:
    framing = Chunked()
    part, rest = framing.feed(b"1\r\na\r\n" * (MOST_CHUNKS_A_TURN + 1) + b"0\r\n\r\n")
    assert (MOST_CHUNKS_A_TURN, b"1\r\na\r\n0\r\n\r\n") == (len(part), rest)
    assert not framing.is_done
    assert (b"a", b"") == framing.feed(rest)
    assert framing.is_done


def test_a_body_of_a_known_length_ends_with_its_last_byte() -> None:
    for cut in range(4):
        framing = Sized(3)
        sent = b"abc" + NEXT
        first, _ = framing.feed(sent[:cut])
        assert (cut == 3) == framing.is_done
        assert (b"abc"[:cut], b"abc"[cut:], NEXT) == (first, *framing.feed(sent[cut:]))
