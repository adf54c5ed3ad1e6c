"""Streams: every client that looks on, each at its own pace, none at the cost of the others.

Everything here belongs to one event loop; only the making of messages and the testing of conditions
are done on two threads of this module.

    rings ──▶ feed, one for each project that is looked at ──▶ stream ──lines──▶ client
                 (makes each message once)                     (has a place, and no queue)

A stream pulls: it asks for what comes at its place, and the ring is the only queue. While its
client does not read it asks for nothing, and when it asks again, what the ring has lost meanwhile
is a gap with a number. So a client that never reads costs its place and nothing more, until the
connection is cut off for it.

How often a stream asks depends on how many there are, on the bytes it got, and on the time that its
condition took: all of them together have a share of the processor, and ingest has the rest.
"""

import asyncio
import secrets
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from indelible.errors import Stopping, TooManyStreams
from indelible.journal.contract import JournalReader
from indelible.live.choice import Choice
from indelible.live.messages import Message, Place, block, gap_block, messages
from indelible.live.rings import Rings, Slice, gap
from indelible.metrics import LIVE_GAPS, LIVE_STREAMS

MOST_STREAMS: Final = 200
MOST_STREAMS_OF_PROJECT: Final = 50
HEARTBEAT_S: Final = 15.0
MOST_RECENT: Final = 1_000

_PAUSE_S: Final = 0.05  # between two pieces of a stream
_PAUSE_EACH_S: Final = 0.002  # and that for every stream there is
_MOST_BYTES_PER_S: Final = 16 * 1024 * 1024  # of all streams
_FILTERING_SHARE: Final = 0.25  # of a processor, for the conditions of all streams
_FILTERING_S: Final = 0.05  # for the condition of one stream at a time
_KEPT_MESSAGES: Final = 500  # of a feed: what streams at other paces have not asked for yet
_KEPT_BYTES: Final = 512 * 1024
_RETRY_MS: Final = 2_000  # after which a browser connects again


class Streams:
    """The open streams, and the feeds that they share."""

    def __init__(self, journal: JournalReader, rings: Rings) -> None:
        self.epoch = secrets.token_hex(4)
        """Names this run of the server: sequence numbers of another mean nothing here."""
        self._journal = journal
        self.rings = rings
        self._streams: dict[int, set[Stream]] = {}
        self._feeds: dict[int, Feed] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = ThreadPoolExecutor(1, "live-messages")
        self.filtering = ThreadPoolExecutor(1, "live-conditions")
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many are open."""
        return sum(map(len, self._streams.values()))

    @property
    def filtered(self) -> int:
        """How many of them have a condition."""
        return sum(each.choice.is_dear for some in self._streams.values() for each in some)

    def start(self) -> None:
        """Begin; call it on the loop."""
        self._loop = asyncio.get_running_loop()
        self.rings.on_news = self._told

    def close(self) -> None:
        """End every stream, and take no more."""
        self._is_closed = True
        for stream in [each for some in self._streams.values() for each in some]:
            stream.close()
        self._making.shutdown(wait=False)
        self.filtering.shutdown(wait=False)

    async def open(
        self,
        project_id: int,
        choice: Choice,
        *,
        last_event_id: str | None,
        recent: int = 0,
        seconds: float,
    ) -> "Stream":
        """Begin a stream of one project.

        It goes on behind `last_event_id`; without one it begins with the last `recent` messages. It
        ends after `seconds`.

        Raises:
            TooManyStreams: as many as may be open are.
            Stopping: no more are taken.
        """
        of_project = self._streams.get(project_id, ())
        if self._is_closed:
            raise Stopping
        if self.count >= MOST_STREAMS:
            raise TooManyStreams(f"{MOST_STREAMS} streams are open, which is the most")
        if len(of_project) >= MOST_STREAMS_OF_PROJECT:
            raise TooManyStreams(
                f"{MOST_STREAMS_OF_PROJECT} streams of this project are open, which is the most"
            )
        stream = Stream(self, project_id, choice, seconds)
        self._streams.setdefault(project_id, set()).add(stream)
        LIVE_STREAMS.value = self.count
        try:
            await stream.begin(last_event_id, recent)
        except BaseException:
            stream.close()
            raise
        return stream

    def leave(self, stream: "Stream") -> None:
        """Forget a stream that has ended; may be called again."""
        of_project = self._streams.get(stream.project_id)
        if of_project is None or stream not in of_project:
            return
        of_project.discard(stream)
        if not of_project:
            del self._streams[stream.project_id]
            self._feeds.pop(stream.project_id, None)
        LIVE_STREAMS.value = self.count

    async def after(self, project_id: int, seq: int, there: Slice) -> Sequence[Message]:
        """The messages from `seq` on; `there` says that there are some. They begin later if the
        ring has lost the first of them."""
        feed = self._feeds.get(project_id)
        if feed is None:
            feed = self._feeds[project_id] = Feed(seq)
        if found := feed.since(seq):
            return found
        seq = max(seq, there.first)
        if found := feed.since(seq):
            return found
        if seq < feed.end:  # behind the others: by itself
            return await self._make(project_id, there)
        if feed.making is None:
            feed.making = asyncio.ensure_future(self._feed(project_id, feed, seq))
        await asyncio.shield(feed.making)
        return feed.since(seq, exactly=False)

    async def _feed(self, project_id: int, feed: "Feed", seq: int) -> None:
        try:
            seq = max(seq, feed.end)
            feed.add(seq, await self._make(project_id, self.rings.since(project_id, seq)))
        finally:
            feed.making = None

    async def _make(self, project_id: int, there: Slice) -> list[Message]:
        if self._is_closed:
            return []
        make = partial(messages, self._journal, project_id, there.items)
        return await asyncio.get_running_loop().run_in_executor(self._making, make)

    async def log_end(self, project_id: int) -> int:
        """How many entries a project's log has."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._making, self._journal.next_index, project_id)

    def _told(self, project_id: int) -> None:
        """Called on any thread."""
        if project_id in self._streams and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake, project_id)

    def _wake(self, project_id: int) -> None:
        for stream in self._streams.get(project_id, ()):
            stream.news.set()


class Feed:
    """The newest messages of a project that is looked at, made once for all who look."""

    def __init__(self, seq: int) -> None:
        self.end = seq
        self.making: asyncio.Future[None] | None = None
        self._messages: list[Message] = []
        self._bytes = 0

    def since(self, seq: int, *, exactly: bool = True) -> Sequence[Message]:
        """The messages from this number on, if they are here from exactly there on."""
        at = bisect_left(self._messages, seq, key=lambda message: message.seq)
        found = self._messages[at:]
        return found if found and (found[0].seq == seq or not exactly) else ()

    def add(self, seq: int, made: Sequence[Message]) -> None:
        """Take the messages that come at `seq`."""
        if seq != self.end or (made and made[0].seq != seq):
            self._messages, self._bytes = [], 0  # the ring has lost what was in between
        self._messages += made
        self._bytes += sum(map(_bytes, made))
        self.end = self._messages[-1].end if self._messages else seq
        while self._messages[1:] and (
            len(self._messages) > _KEPT_MESSAGES or self._bytes > _KEPT_BYTES
        ):
            self._bytes -= _bytes(self._messages.pop(0))


class Stream:
    """What one client is sent. Iterate over `lines` once."""

    def __init__(self, streams: Streams, project_id: int, choice: Choice, seconds: float) -> None:
        self.project_id = project_id
        self.choice = choice
        self.news = asyncio.Event()
        """Set when there may be more."""
        self._streams = streams
        self._seconds = seconds
        self._seq = 0
        self._index = 0
        self._resumed_at: int | None = None  # until the first event after another run
        self._gaps: list[bytes] = []
        self._is_closed = False

    async def begin(self, last_event_id: str | None, recent: int) -> None:
        """Find the place to begin at."""
        rings, project_id = self._streams.rings, self.project_id
        there = rings.since(project_id, 1 << 62)
        self._seq, self._index = rings.seq_back(project_id, recent), there.next_index
        if not last_event_id:
            return
        last = Place.read(last_event_id)
        if last is None:
            self._note_gap(None, "unknown_id")
        elif last.epoch == self._streams.epoch:
            if last.seq <= there.end:
                self._seq, self._index = last.seq, last.index
            else:
                self._note_gap(None, "unknown_id")
        elif last.index <= await self._streams.log_end(project_id):
            # Of another run. What was stored meanwhile is known; what was refused is not.
            self._seq = rings.seq_of(project_id, last.index)
            self._index = self._resumed_at = last.index
            self._note_gap(None, "restarted")
        else:
            self._note_gap(None, "unknown_id")

    def close(self) -> None:
        """End it; may be called again."""
        self._is_closed = True
        self.news.set()
        self._streams.leave(self)

    async def lines(self) -> AsyncIterator[bytes]:
        """What to send, piece by piece, until it is closed or its time is over."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._seconds
        sent_s = loop.time()
        try:
            # At once: the head of the answer goes with it.
            yield b"retry: %d\nid: %b\n\n" % (_RETRY_MS, self._place().encode())
            while not self._is_closed:
                self.news.clear()
                piece, took_s = await self._piece()
                if not piece and loop.time() - sent_s >= HEARTBEAT_S:
                    # The id goes with it: a client whose filter finds nothing keeps its place.
                    piece = b": still here\nid: %b\n\n" % self._place().encode()
                if piece:
                    yield piece
                    sent_s = loop.time()
                if piece or took_s is not None:
                    await asyncio.sleep(self._pause_s(len(piece), took_s or 0.0))
                elif loop.time() >= until_s:
                    return
                else:
                    await self._wait(min(until_s, sent_s + HEARTBEAT_S) - loop.time())
        finally:
            self.close()

    async def _wait(self, longest_s: float) -> None:
        """Wait for news."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self.news.wait()

    async def _piece(self) -> tuple[bytes, float | None]:
        """The lines of the next messages, and how long the condition took; None if there are none.

        The lines may be empty all the same: then none of the messages was to be shown.
        """
        there = self._streams.rings.since(self.project_id, self._seq)
        gaps, self._gaps = self._gaps, []
        lines = [gap_block(data, self._at()) for data in gaps]
        found: Sequence[Message] = ()
        if self._seq < there.end:
            found = await self._streams.after(self.project_id, self._seq, there)
        if not found:
            return b"".join(lines), None
        took_s = 0.0
        if found[0].seq > self._seq:
            missed, self._seq = found[0].seq - self._seq, found[0].seq
            indexes = (index for each in found if (index := _index(each)) >= 0)
            self._index = next(indexes, self._index)
            lines.append(gap_block(self._gap(missed, "slow"), self._at()))
        chosen = [self.choice.takes(message) for message in found]
        if self.choice.is_dear:
            found, chosen, took_s = await self._test(found, chosen)
        for message, is_chosen in zip(found, chosen, strict=True):
            index = _index(message)
            if index >= 0 and self._resumed_at is not None:
                if index < self._resumed_at:
                    continue  # was sent by the run before
                if index > self._resumed_at:
                    gap_data = self._gap(index - self._resumed_at, "expired")
                    lines.append(gap_block(gap_data, self._at()))
                self._resumed_at = None
            self._seq = message.end
            if index >= 0:
                self._index = index + 1
            if is_chosen:
                lines.append(block(message, self._at()))
        return b"".join(lines), took_s

    async def _test(
        self, found: Sequence[Message], chosen: list[bool]
    ) -> tuple[Sequence[Message], list[bool], float]:
        """Test the condition on as many of the messages as there is time for."""
        test = partial(_tested, self.choice.meets, found, chosen)
        loop, pool = asyncio.get_running_loop(), self._streams.filtering
        tested, took_s = await loop.run_in_executor(pool, test)
        return found[: len(tested)], tested, took_s

    def _pause_s(self, size_bytes: int, took_s: float) -> float:
        count = self._streams.count
        return max(
            _PAUSE_S,
            count * _PAUSE_EACH_S,
            count * size_bytes / _MOST_BYTES_PER_S,
            self._streams.filtered * took_s / _FILTERING_SHARE,
        )

    def _note_gap(self, missed: int | None, reason: str) -> None:
        self._gaps.append(self._gap(missed, reason))

    def _gap(self, missed: int | None, reason: str) -> bytes:
        LIVE_GAPS.add(reason)
        return gap(missed, reason)

    def _at(self) -> Place:
        return Place(self._streams.epoch, self._seq, self._index)

    def _place(self) -> str:
        return self._at().text()


def _tested(
    meets: Callable[[Message], bool], found: Sequence[Message], chosen: Sequence[bool]
) -> tuple[list[bool], float]:
    began = time.thread_time()
    tested: list[bool] = []
    for message, is_chosen in zip(found, chosen, strict=True):
        tested.append(is_chosen and meets(message))
        if time.thread_time() - began > _FILTERING_S:
            break
    return tested, time.thread_time() - began


def _index(message: Message) -> int:
    """The index of the stored event that a message shows; -1 if it shows none."""
    entry = message.entry if message.kind == "event" else None
    return -1 if entry is None else entry.index


def _bytes(message: Message) -> int:
    entry = message.entry
    of_entry = 0 if entry is None else len(entry.payload or b"") + len(entry.record or b"")
    return len(message.data) + of_entry + 500
