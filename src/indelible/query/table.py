"""An event as a row of a table. Pure: one line of an export in, cells out.

Every row has the same columns in the same order. New ones are added at the end, never in between.
Text is as it was sent; an object or a list is its JSON. A member that an event doesn't have is an
empty cell.

A spreadsheet takes a cell that begins with one of `= + - @`, a tab or a line break for a formula,
and formulas can call programs and addresses. Such text gets an apostrophe in front, which
spreadsheets read as "this is text". Numbers are left as they are.
"""

import csv
import io
from collections.abc import Sequence
from typing import Final

import msgspec

COLUMNS: Final = (
    *("index", "received_at", "kind", "event", "tx_id", "distinct_id", "uuid", "timestamp"),
    *("properties", "$set", "$set_once", "$unset", "process_id", "sequence"),
    *("idempotency_key", "payload", "meta", "facts", "request", "$extra", "erased"),
)

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_LINE: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_META: Final = msgspec.json.Decoder(dict[str, str])


def cells(line: bytes) -> list[str]:
    """The row of an event, from its line of an export.

    `event` is the event's name, of an audit event `meta.event_name`.

    Raises:
        msgspec.DecodeError: the line is no JSON object.
    """
    members = _LINE.decode(line)
    row = [_cell(members.get(name)) for name in COLUMNS]
    if "event" not in members and "meta" in members:
        row[COLUMNS.index("event")] = _safe(_META.decode(members["meta"]).get("event_name", ""))
    return row


def encode(row: Sequence[str]) -> bytes:
    r"""A row as a line of CSV (RFC 4180), in UTF-8.

    >>> encode(["1", 'say "hi", twice', "a\nb"])
    b'1,"say ""hi"", twice","a\nb"\r\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().encode()


def _cell(member: msgspec.Raw | None) -> str:
    if member is None:
        return ""
    raw = bytes(member)
    if raw.startswith(b'"'):
        return _safe(_TEXT.decode(raw))
    return "" if raw == b"null" else raw.decode()


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
