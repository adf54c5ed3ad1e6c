"""Frames survive any cutting of the stream; what is no frame ends the line."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import DiskLow, IndelibleError, JournalStuck, StoringSlow, catalogue
from indelible.event import Kind, Lane
from indelible.journal.contract import Draft, Duplicate, OverLimit, Stored
from indelible.processes.frames import FrameBroken, Frames, Line, frame
from indelible.processes.messages import FROM_EDGE, TO_EDGE, Answered, Refused, Submitted


@given(st.lists(st.binary(min_size=1, max_size=300)), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    contents: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(frame, contents))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    frames, heard = Frames(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += frames.feed(stream[start:end])

    assert contents == heard
    assert not frames.is_within


@given(st.binary(min_size=1, max_size=50), st.integers(1, 53))
def test_a_stream_that_ends_in_the_middle_of_a_frame_shows_it(content: bytes, kept: int) -> None:
    whole = frame(content)
    frames = Frames()
    cut = whole[: min(kept, len(whole) - 1)]

    assert [] == frames.feed(cut)
    assert frames.is_within


def test_a_frame_that_is_too_long_is_refused_by_its_head_alone() -> None:
    with pytest.raises(FrameBroken, match="101 bytes"):
        Frames(most_bytes=100).feed((101).to_bytes(4, "little"))


drafts = st.builds(
    Draft,
    project_id=st.integers(1, 2**31),
    kind=st.sampled_from(Kind),
    received_at_ms=st.integers(0, 2**43),
    payload=st.binary(max_size=50),
    record=st.binary(max_size=50),
    lane=st.sampled_from(Lane),
    client_id=st.none() | st.text(max_size=20),
    new_entry_on_conflict=st.booleans(),
    monthly_limit=st.none() | st.integers(0, 2**40),
)
outcomes = st.one_of(
    st.builds(
        Stored, index=st.integers(0, 2**40), tx=st.binary(min_size=16), conflict=st.booleans()
    ),
    st.builds(
        Duplicate,
        index=st.integers(0, 2**40),
        tx=st.binary(min_size=16),
        same_content=st.none() | st.booleans(),
    ),
    st.builds(OverLimit),
)


@given(st.lists(st.tuples(st.integers(0, 2**50), st.lists(drafts, max_size=3)), max_size=3))
def test_drafts_arrive_as_they_were_sent(requests: list[tuple[int, list[Draft]]]) -> None:
    sent = Submitted(requests)
    assert sent == FROM_EDGE.decode(msgspec.msgpack.encode(sent))


@given(st.lists(st.tuples(st.integers(0, 2**50), st.lists(outcomes, max_size=3)), max_size=3))
def test_outcomes_arrive_as_they_were_sent(
    stored: list[tuple[int, list[Stored | Duplicate | OverLimit]]],
) -> None:
    sent = Answered(stored, [(7, Refused.of(StoringSlow()))])
    assert sent == TO_EDGE.decode(msgspec.msgpack.encode(sent))


def test_every_error_says_the_same_in_the_other_process() -> None:
    errors: list[IndelibleError] = [
        JournalStuck(under_way_s=2.5),
        DiskLow(free_percent=3.2, floor_percent=5),
    ]
    for form in catalogue():
        with contextlib.suppress(TypeError):  # it has arguments of its own
            errors.append(form())
    assert len(errors) > 50
    for error in errors:
        there = msgspec.msgpack.decode(
            msgspec.msgpack.encode(Refused.of(error)), type=Refused
        ).error()
        assert type(error) is type(there)
        assert error.retry_after_s == there.retry_after_s
        assert error.body(request_id="r") == there.body(request_id="r")


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"\xff\xff\xff\xff", "a frame of 4,294,967,295 bytes"),
        (frame(b"\x07"), "no such message"),
        (frame(b"\xc1"), "no such message"),
        (b"\x05\x00\x00\x00ab", "a frame is cut off"),
    ],
    ids=["too long", "another message", "no msgpack", "cut off"],
)
def test_what_is_no_frame_ends_the_line(
    sent: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def listen() -> list[object]:
        heard: list[object] = []
        over = asyncio.Event()
        with pair() as (ours, theirs):
            line = Line(FROM_EDGE, heard=heard.append, ended=over.set)
            await line.take(ours)
            theirs.sendall(sent)
            theirs.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(over.wait(), 60)
            assert line.is_over
        return heard

    with caplog.at_level(logging.ERROR):
        assert [] == asyncio.run(listen())
    assert why in caplog.text


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        yield ours, theirs
