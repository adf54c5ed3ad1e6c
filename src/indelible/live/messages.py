"""Messages of the debug stream: from the entries of a ring to the lines of an event stream.

    id: 3f9a1c05-1840-1822      which run of the server, the sequence number, the log's next index
    event: reject
    data: {"kind":"reject","at":"…","result":"drop","reason":"missing_event",…}

`data` is always one line. The id names the place behind its message. Its last part lets a client go
on after the server was restarted, when the sequence has begun again: the log has not.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

import msgspec

from indelible.clock import rfc3339
from indelible.event import Kind, tx_text
from indelible.journal.contract import Entry, JournalReader
from indelible.journal.pieces import pieces
from indelible.live.facts import seen_of
from indelible.live.ring import Item, Run, Told
from indelible.query.facts import View, view

SHOWN_BYTES: Final = 8 * 1024
"""Record and payload of an event that is shown whole; of a longer one the beginning is shown."""
EXCERPT_BYTES: Final = 2 * 1024
PIECE_MESSAGES: Final = 250
"""Most messages that are made at a time."""
PIECE_BYTES: Final = 1024 * 1024
"""Most bytes of stored events that are read for them; a larger one is read by itself."""

_ENCODE: Final = msgspec.json.Encoder().encode
_PLACE: Final = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})-([0-9]{1,13})", re.ASCII)
_LINE_ENDS: Final = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\x85\u2028\u2029")
_FEW: Final = 8  # are read without being measured


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a client is in the stream of one project.

    >>> Place("3f9a1c05", 1840, 1822).text(), Place.read("3f9a1c05-1840-1822")
    ('3f9a1c05-1840-1822', Place(epoch='3f9a1c05', seq=1840, index=1822))
    >>> Place.read("-1") is None, Place.read("3f9a1c05-1840-1822\\n") is None
    (True, True)
    """

    epoch: str
    seq: int
    index: int

    @classmethod
    def read(cls, text: str) -> "Self | None":
        """The place that a text names; None if it is no such text."""
        found = _PLACE.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))

    def text(self) -> str:
        """As it is sent."""
        return f"{self.epoch}-{self.seq}-{self.index}"


class Message(NamedTuple):
    """One message, and the facts by which it is chosen.

    It stands at the sequence numbers [seq, end). `entry` is the stored event that it shows, or is
    about; None if there is none. `log_kind` is that of the event; empty if there is none.
    """

    seq: int
    end: int
    kind: str
    log_kind: str
    result: str
    event: str | None
    distinct_id: str | None
    entry: Entry | None
    data: bytes


def messages(journal: JournalReader, project_id: int, items: Iterable[Item]) -> list[Message]:
    """The first messages of `items`: at most `PIECE_MESSAGES`, and of `PIECE_BYTES` stored."""
    made: list[Message] = []
    read_bytes = 0
    for item in items:
        if isinstance(item, Told):
            made.append(_told(journal, project_id, item))
        else:
            for entries in _read(journal, project_id, item, PIECE_MESSAGES - len(made)):
                for entry in entries:
                    made.append(_shown(item.seq + entry.index - item.index, entry))
                    read_bytes += len(entry.payload or b"") + len(entry.record or b"")
                if read_bytes >= PIECE_BYTES:
                    return made
        if len(made) >= PIECE_MESSAGES:
            break
    return made


def block(message: Message, place: Place) -> bytes:
    """The lines of one message."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        place.text().encode(),
        message.kind.encode(),
        message.data,
    )


def gap_block(data: bytes, place: Place) -> bytes:
    """The lines of a gap that only one client has."""
    return b"id: %b\nevent: gap\ndata: %b\n\n" % (place.text().encode(), data)


def _read(
    journal: JournalReader, project_id: int, run: Run, most: int
) -> Iterator[Sequence[Entry]]:
    end = run.index + min(run.count, most)
    if end - run.index <= _FEW:
        yield journal.read(project_id, run.index, end)
        return
    for first, behind in pieces(journal, project_id, run.index, end, most_bytes=PIECE_BYTES):
        yield journal.read(project_id, first, behind)


def _shown(seq: int, entry: Entry) -> Message:
    record, payload = entry.record, entry.payload
    kind = entry.leaf.kind.word
    if record is None or payload is None or len(record) + len(payload) <= SHOWN_BYTES:
        shown: View = view(entry)
        request = shown.get("request")
        warned = isinstance(request, dict) and request.get("warnings")
    else:
        shown, warned = _beginning(entry, record, payload), None
    result = "warning" if warned else "ok"
    data = _ENCODE({"kind": "event", "result": result, "event": shown})
    name, distinct_id = shown.get("event"), shown.get("distinct_id")
    if entry.leaf.kind is Kind.AUDIT:
        name = (shown.get("meta") or {}).get("event_name")
    return Message(seq, seq + 1, "event", kind, result, name, distinct_id, entry, _one_line(data))


def _beginning(entry: Entry, record: bytes, payload: bytes) -> View:
    """An event too long to be shown whole: `cut` has its size and how its payload begins."""
    seen = seen_of(record)
    shown: dict[str, Any] = {
        "index": entry.index,
        "tx_id": tx_text(entry.leaf.tx),
        "kind": entry.leaf.kind.word,
        "received_at": rfc3339(entry.leaf.received_at_ms),
    }
    if seen is not None and entry.leaf.kind is Kind.PRODUCT:
        shown |= {"event": seen.event, "distinct_id": seen.distinct_id}
    begins = payload[:EXCERPT_BYTES].decode("utf-8", "ignore")
    shown["cut"] = {"bytes": len(record) + len(payload), "begins": begins}
    return shown


def _told(journal: JournalReader, project_id: int, told: Told) -> Message:
    name, distinct_id, entry = told.event, told.distinct_id, None
    if told.index >= 0:
        for entry in journal.read(project_id, told.index, told.index + 1):
            seen = None if entry.record is None else seen_of(entry.record)
            if seen is not None:
                name, distinct_id = seen.event, seen.distinct_id
    kind = "" if entry is None else entry.leaf.kind.word
    data = _one_line(told.body)
    return Message(told.seq, told.end, told.kind, kind, told.result, name, distinct_id, entry, data)


def _one_line(data: bytes) -> bytes:
    # Payloads keep the white space they were sent with. A line break can stand only between tokens
    # of JSON, never inside a string, so a space says the same.
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    if not data.isascii():
        # No line ends of an event stream; but many clients split text as if they were.
        for mark, escape in _LINE_ENDS:
            data = data.replace(mark, escape)
    return data
