"""Notices: what the edge refuses or drops, told to those who watch while it happens.

The journal has what was stored, and metrics count the rest; neither shows a developer the event
that did not come through, and why. A notice does: the reason, the project, and the beginning of
what was sent. It is never stored, and if no one listens nothing is done for it.

The loop that answers requests only appends to a queue of each listener (`Listening`), and calls no
one. A listener that is slow loses the oldest notices, learns how many of which project, and holds
up nothing.

An excerpt is shown to those who may read the project, so there is none before the project is known.
It is at most `EXCERPT_BYTES` of JSON, masked: the project's own tokens and the key of the request
wherever they stand, and the values of members that are called tokens, keys or passwords. Of a body
in another form there is no excerpt, since a token could not be found in it.
"""

import asyncio
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from indelible.clock import Clock
from indelible.edge.http import Request
from indelible.errors import IndelibleError

MOST_UNREAD: Final = 256
"""How many notices are kept for one listener, each of little more than `EXCERPT_BYTES`."""
EXCERPT_BYTES: Final = 2048
MOST_EXCERPTS_A_SECOND: Final = 100
"""Of an edge. Making one costs half of what a small request does, and the server's own live view
always listens; beyond it a notice has no excerpt."""
MASK: Final = "***"

_LOOKED_AT_BYTES: Final = 64 * 1024  # of a body; the events behind have no excerpt of their own
_PACKED: Final = (b"\x1f\x8b", b"\x78")  # gzip, zlib
_EITHER_PACKING: Final = 47  # wbits of zlib
_SECRET: Final = re.compile(
    r"""("[^"]{0,40}(?:token|key|secret|password|authorization)[^"]{0,40}"\s*:\s*)"""
    r"""("(?:[^"\\]|\\.)*"?|[^\s",}\]]+)""",
    re.IGNORECASE | re.DOTALL,
)
_KNOWN: Final = re.compile(r"(?:ind_pub|ind_adm|iml_live|iml_test)_[\w-]*")


class Notice(msgspec.Struct, frozen=True):
    """One reason for which something of one request was not stored.

    Attributes:
        at_ms: when the request was answered, ms since the epoch.
        path: the route.
        project_id: None if the request was refused before its project was known.
        reason: a code of the reference of errors, or the reason of a dropped event.
        count: how many events this stands for; 0 for a request that was refused as a whole.
        event_id: the client's own id of the first of them.
        excerpt: the beginning of the first of them, or of the body; may be empty.
    """

    at_ms: int
    path: str
    project_id: int | None
    reason: str
    count: int
    event_id: str | None
    excerpt: str


Fate = tuple[str | None, str | None]
"""Why an event was dropped, None if it was not; and the client's own id of it."""


Missed = Mapping[int | None, int]
"""How many events and requests were told of in notices that are lost, by project."""


class Heard(NamedTuple):
    """What was told since the last look, oldest first, and what earlier notices are lost."""

    notices: list[Notice]
    missed: Missed


class Listening:
    """The notices that one listener has not read yet, the newest `MOST_UNREAD` of them.

    `take` may be called from any thread, the rest belongs to the event loop of its `Notices`.
    """

    def __init__(self, leave: "Callable[[Listening], None]") -> None:
        self._leave = leave
        self._unread: deque[Notice] = deque()
        self._missed: Counter[int | None] = Counter()
        self._changed = asyncio.Event()
        self._is_over = False

    async def hear(self) -> Heard | None:
        """Wait for the next notices, and take them; None after `leave`."""
        while not self._unread and not self._missed and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        return self.take() if self._unread or self._missed else None

    def take(self) -> Heard:
        """All that waits, which may be nothing."""
        missed, self._missed = self._missed, Counter()
        return Heard([self._unread.popleft() for _ in range(len(self._unread))], missed)

    def leave(self) -> None:
        """Listen no more; may be called again."""
        self._is_over = True
        self._changed.set()
        self._leave(self)

    def put(self, notice: Notice) -> None:
        """Keep one more, in place of the oldest if there are `MOST_UNREAD`."""
        if len(self._unread) == MOST_UNREAD:
            lost = self._unread.popleft()
            self._missed[lost.project_id] += max(1, lost.count)
        self._unread.append(notice)
        self._changed.set()

    def miss(self, missed: Missed) -> None:
        """Count what was lost on its way here."""
        self._missed.update(missed)
        self._changed.set()


class Notices:
    """Those who listen. For one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._listeners: list[Listening] = []
        self._second = 0
        self._excerpts = 0  # in that second
        self.on_heard: Callable[[bool], None] = lambda _: None
        """Is called when the first one begins to listen, and when the last one ends."""

    @property
    def is_heard(self) -> bool:
        """Whether anyone listens."""
        return bool(self._listeners)

    def listen(self) -> Listening:
        """Begin to listen; leave it when you are done."""
        listening = Listening(self._part_with)
        self._listeners.append(listening)
        if len(self._listeners) == 1:
            self.on_heard(True)  # noqa: FBT003
        return listening

    def _part_with(self, listening: Listening) -> None:
        if listening not in self._listeners:
            return
        self._listeners.remove(listening)
        if not self._listeners:
            self.on_heard(False)  # noqa: FBT003

    def refused(self, request: Request, error: IndelibleError) -> None:
        """Tell that a request was refused as a whole."""
        if self._listeners:
            self._tell(request, error.code, 0, None, None)

    def dropped(self, request: Request, fates: Iterable[Fate]) -> None:
        """Tell which events of a request were dropped: one notice a reason.

        `fates` are those of all its events, in the order in which they were sent.
        """
        if not self._listeners:
            return
        counts: dict[str, int] = {}
        first: dict[str, tuple[int, str | None]] = {}
        for place, (reason, event_id) in enumerate(fates):
            if reason is not None:
                counts[reason] = counts.get(reason, 0) + 1
                first.setdefault(reason, (place, event_id))
        for reason, (place, event_id) in first.items():
            self._tell(request, reason, counts[reason], place, event_id)

    def _tell(
        self, request: Request, reason: str, count: int, place: int | None, event_id: str | None
    ) -> None:
        at_ms, shown = self._clock(), ""
        if request.project_id is not None and self._may_show(at_ms // 1000):
            shown = excerpt(request.sent, place, request.secrets())
        self.tell(Notice(at_ms, request.path, request.project_id, reason, count, event_id, shown))

    def _may_show(self, second: int) -> bool:
        """Whether one more excerpt may be made; count it."""
        if second != self._second:
            self._second, self._excerpts = second, 0
        self._excerpts += 1
        return self._excerpts <= MOST_EXCERPTS_A_SECOND

    def tell(self, notice: Notice) -> None:
        """Tell all who listen."""
        for listening in self._listeners:
            listening.put(notice)

    def miss(self, missed: Missed) -> None:
        """Tell all who listen that notices were lost on their way."""
        if missed:
            for listening in self._listeners:
                listening.miss(missed)


def excerpt(sent: bytes, place: int | None, secrets: Sequence[str] = ()) -> str:
    """The beginning of a body, or of the event at `place` of its list; empty if it is no JSON.

    None of `secrets` stands in it.
    """
    text = _unpacked(sent).lstrip()
    if place is not None:
        text = _event(text, place)
    if not text.startswith((b"{", b"[")):
        return ""
    # A body may be large, so only its beginning is looked at. A character or a secret that is cut
    # at the end of that must not be shown, even if what is masked before moves it forward.
    longest = max((len(secret.encode()) for secret in secrets), default=0)
    looked_at = text[: EXCERPT_BYTES + 4 + longest]
    shown = looked_at.decode("utf-8", "replace")
    for secret in sorted(secrets, key=len, reverse=True):  # one may be the beginning of another
        shown = shown.replace(secret, MASK)
    if len(text) > len(looked_at):
        shown = shown[: len(shown) - longest]
    return _cut(masked(_cut(shown)))


def masked(text: str) -> str:
    """JSON, whole or cut off, without the values of members that hold a secret.

    >>> masked('{"api_key": "ind_pub_1", "properties": {"Password":"x", "url": "/?k=iml_live_2"')
    '{"api_key": "***", "properties": {"Password":"***", "url": "/?k=***"'
    """
    return _KNOWN.sub(MASK, _SECRET.sub(rf'\1"{MASK}"', text))


def _unpacked(sent: bytes) -> bytes:
    if not sent.startswith(_PACKED):
        return sent
    try:
        return zlib.decompressobj(_EITHER_PACKING).decompress(sent, _LOOKED_AT_BYTES)
    except zlib.error:
        return b""


def _event(text: bytes, place: int) -> bytes:
    """The event at this place of a body; the body itself where that is one event, or is long."""
    if len(text) >= _LOOKED_AT_BYTES:
        return text if place == 0 else b""
    try:
        if text.startswith(b"{"):
            members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            events = members.get("batch", members.get("events"))
            if events is None:
                return text
            text = bytes(events)
        return bytes(msgspec.json.decode(text, type=list[msgspec.Raw])[place])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        return b""


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:EXCERPT_BYTES].decode("utf-8", "ignore")
