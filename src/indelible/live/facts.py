"""What the figures of now need of a stretch of the log, read at 1 us an event. Pure.

Of a record only the name and the distinct id are read, of a payload only the two members that may
say which page it was, and only if they are in its text. The rest is skipped.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from indelible import leaf
from indelible.event import Kind
from indelible.journal.contract import Rows

MOST_PATH_CHARS: Final = 1_024
"""A longer pathname is counted among those that are not listed."""

_KIND_AT: Final = 1  # in a leaf entry; see indelible.leaf
_TIME: Final = struct.Struct(">8xQ80x")
_PRODUCT: Final = Kind.PRODUCT.value
_ERASURE: Final = Kind.ERASURE.value
# Without the `$`, which may be escaped.
_MARKS: Final = (b"pathname", b"current_url")


class Seen(msgspec.Struct, gc=False):
    """The members of a product event's record that are counted."""

    event: str = ""
    distinct_id: str = ""


class _Page(msgspec.Struct, gc=False):
    pathname: Any = msgspec.field(default=None, name="$pathname")
    current_url: Any = msgspec.field(default=None, name="$current_url")


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """Product events of a run of the log that were received within one tick of the clock.

    `count` includes erased ones, of which nothing else is known. `pages` has one of each event that
    says a page.
    """

    tick: int
    count: int
    names: list[str]
    ids: list[str]
    pages: list[str]


_RECORDS: Final = msgspec.json.Decoder(list[Seen | None])
_RECORD: Final = msgspec.json.Decoder(Seen)
_PAGES: Final = msgspec.json.Decoder(list[_Page])
_PAGE: Final = msgspec.json.Decoder(_Page)


def stretches(rows: Rows, tick_ms: int) -> Iterator[Stretch]:
    """Cut a run of the log, read with payloads, at the ticks of its times of receipt.

    A tick may come more than once, and in any order, as received times do.
    """
    kinds = rows.leaves[_KIND_AT :: leaf.SIZE]
    if _PRODUCT not in kinds:
        return
    records, payloads = _seen(rows.records_json, rows.records), rows.payloads
    ticks = [at_ms // tick_ms for (at_ms,) in _TIME.iter_unpack(rows.leaves)]
    start = 0
    for end in [*_steps(ticks), len(ticks)]:
        tick, count = ticks[start], kinds.count(_PRODUCT, start, end)
        if count:
            run = records[start:end]
            if count < end - start:
                of_run = zip(kinds[start:end], run, strict=True)
                run = [seen for kind, seen in of_run if kind == _PRODUCT]
            known = [seen for seen in run if seen is not None]
            pages = _pages(kinds[start:end], payloads[start:end])
            yield Stretch(
                tick,
                count,
                [seen.event for seen in known],
                [seen.distinct_id for seen in known],
                pages,
            )
        start = end


def erasures(rows: Rows) -> list[bytes]:
    """The payloads of the erasures in a run of the log."""
    kinds = rows.leaves[_KIND_AT :: leaf.SIZE]
    if _ERASURE not in kinds:
        return []
    return [
        payload
        for kind, payload in zip(kinds, rows.payloads, strict=True)
        if kind == _ERASURE and payload is not None
    ]


def seen_of(record: bytes) -> Seen | None:
    """Name and distinct id of one record; None if it cannot be read."""
    return _one(record)


def last_received_ms(rows: Rows) -> int:
    """When the last entry of a run was received."""
    (at_ms,) = _TIME.unpack(rows.leaves[-leaf.SIZE :])
    return int(at_ms)


def path_of_url(url: str) -> str:
    """The path of an address, without query and fragment; empty if it is none.

    >>> path_of_url("https://shop.example/a/b/?q=1#top"), path_of_url("https://shop.example?q")
    ('/a/b/', '/')
    >>> path_of_url("/cart?step=2"), path_of_url("about:blank")
    ('/cart', '')
    """
    _, has_host, rest = url.partition("://")
    if has_host and "?" not in _ and "#" not in _ and "/" not in _:
        ends = [at for mark in "?#" if (at := rest.find(mark)) >= 0]
        rest = rest[: min(ends)] if ends else rest
        at = rest.find("/")
        return rest[at:] if at >= 0 else "/"
    if not url.startswith("/"):
        return ""
    return url.partition("?")[0].partition("#")[0]


def _steps(ticks: Sequence[int]) -> Iterator[int]:
    """The places at which the next tick is another."""
    if ticks[0] == ticks[-1] and len(set(ticks)) == 1:
        return
    for at in range(1, len(ticks)):
        if ticks[at] != ticks[at - 1]:
            yield at


def _seen(text: bytes, records: Sequence[bytes | None]) -> list[Seen | None]:
    try:
        return _RECORDS.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_one(record) for record in records]


def _one(record: bytes | None) -> Seen | None:
    """One record by itself: what was changed from outside is no reason to show nothing."""
    try:
        return None if record is None else _RECORD.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _pages(kinds: bytes, payloads: Sequence[bytes | None]) -> list[str]:
    first, second = _MARKS
    told = [
        payload
        for payload, kind in zip(payloads, kinds, strict=True)
        if payload and (first in payload or second in payload) and kind == _PRODUCT
    ]
    if not told:
        return []
    try:
        found = _PAGES.decode(b"[%b]" % b",".join(told))
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = [page for payload in told if (page := _page(payload)) is not None]
    pages = map(_pathname, found)
    return [page for page in pages if page]


def _page(payload: bytes) -> _Page | None:
    try:
        return _PAGE.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _pathname(page: _Page) -> str:
    if isinstance(page.pathname, str) and page.pathname:
        return page.pathname
    return path_of_url(page.current_url) if isinstance(page.current_url, str) else ""
