r"""Read JSON one level at a time, in time linear in its length.

Anybody may send a body, so reading one must not cost more than its share. msgspec validates and
skips a value in C without building anything inside it, at about 400 MB/s, but holds the
interpreter's lock meanwhile. So:

- A text of up to `WINDOW` bytes is handed to msgspec whole, unless it has so many members that
  each of them would be dear to build.
- Any other is cut into members or elements here. Each is measured by letting msgspec skip one
  value of a window: it stops at the first byte after the value and names that byte. Only a value
  that is longer than a window (an event that is refused for its size anyway) is measured by its
  brackets, a chunk at a time.

No call into C takes longer than about 5 ms, and between two of them other threads get their turn: a
request needs the lock some ten times on its way, and each time it may have to wait for one call.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from indelible.edge.brackets import (
    CHUNK,
    Text,
    count,
    next_chunk,
    only_brackets,
    outside_strings,
    unmatched,
)
from indelible.edge.surrogates import replace_lone_surrogates
from indelible.errors import BatchTooLarge, EventRefused, InvalidJson
from indelible.event import DropReason

Document = dict[str, msgspec.Raw] | list[msgspec.Raw]
"""A JSON object or list whose members are still the bytes that were sent."""

WINDOW: Final = 1 << 20
"""The most bytes that one call into C looks at."""

MAX_MEMBERS: Final = 1_000
"""How many members a body or an event may have, and how many keys its properties."""

SHORT: Final = 1 << 16
"""A text of this length may be handed to msgspec whatever it holds."""

_MANY: Final = 20_000  # members or elements that are built within 5 ms

_DOCUMENT: Final = msgspec.json.Decoder(Document)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_KEY: Final = msgspec.json.Decoder(str)

# An error so near the end of a window may be the window's: it cuts numbers and escapes in two.
_LONGEST_TOKEN_CUT: Final = 16

_TRAILING: Final = re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)")
_AT_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_BLANKS: Final = b" \t\r\n"
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR: Final = re.compile(rb"[^\s,:\]}]*+")
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

# A whole string, or one bracket outside of any. Possessive, so that a long string costs no memory.
_STRING_OR_BRACKET: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)

_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST = b"{}[]"
_COMMA, _COLON, _QUOTE = b',:"'


class TooManyMembers(Exception):
    """An object has more than `MAX_MEMBERS` members."""


def parse(text: Text, *, most: int) -> tuple[Document, Text]:
    """Read JSON text as an object or a list of raw members; returns the text that was read too.

    A lone surrogate (half a character, as some clients make by cutting text) has no UTF-8 form; its
    escape is replaced by U+FFFD's, of the same length, and the rest stays as it was sent.

    Raises:
        InvalidJson: it is not UTF-8, not JSON, or neither an object nor a list.
        EventRefused: it is nested too deep to be read at all, or has too many members.
        BatchTooLarge: it is a list of more than `most` elements.
    """
    check_utf8(text)
    if len(text) > WINDOW:
        text = replace_lone_surrogates(text)
    try:
        document = _DOCUMENT.decode(text) if len(text) <= SHORT else _document(text, most)
    except RecursionError:
        raise EventRefused(DropReason.TOO_DEEP) from None
    except TooManyMembers:
        raise EventRefused(DropReason.EVENT_TOO_LARGE) from None
    except msgspec.DecodeError as error:
        repaired = replace_lone_surrogates(text)
        if repaired is text:
            raise json_error(error) from None
        return parse(repaired, most=most)
    if isinstance(document, list):
        if len(document) > most:
            raise BatchTooLarge(size=len(document), limit=most)
    elif len(document) > MAX_MEMBERS:
        raise EventRefused(DropReason.EVENT_TOO_LARGE)
    return document, text


def json_error(error: msgspec.DecodeError) -> InvalidJson:
    """What to say of a body that `members` or `elements` could not read."""
    if isinstance(error, msgspec.ValidationError):
        return InvalidJson("The body must be a JSON object or a list")
    return InvalidJson(str(error))  # names the byte, never the content


def check_utf8(text: Text) -> None:
    """
    Raises:
        InvalidJson: it is not UTF-8. Members that are skipped are not checked for this.
    """
    start = 0
    try:
        if len(text) <= WINDOW:
            str(text, "utf-8")
            return
        while start < len(text):
            end = _character_start(text, start + WINDOW)
            str(text[start:end], "utf-8")
            start = end
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not UTF-8 at byte {start + error.start}") from None


def _character_start(text: Text, at: int) -> int:
    """`at`, or up to three bytes before it, so that a character is not cut in two."""
    for start in range(at, at - 4, -1):
        if start >= len(text) or text[start] & 0xC0 != 0x80:
            return start
    return at


def members(text: Text | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of an object; of several with one name, the last.

    Raises:
        msgspec.ValidationError: it is no object.
        msgspec.DecodeError, RecursionError: it cannot be read.
        TooManyMembers.
    """
    view = memoryview(text)
    if len(view) <= SHORT or (len(view) <= WINDOW and count(bytes(view), b":") <= _MANY):
        return short_members(text)
    return dict(_members(view))


def short_members(text: Text | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """As `members`, of a text that is known to be short."""
    fields = _FIELDS.decode(text)
    if len(fields) > MAX_MEMBERS:
        raise TooManyMembers
    return fields


def elements(text: Text | msgspec.Raw, *, most: int) -> list[msgspec.Raw]:
    """The elements of a list.

    Raises:
        msgspec.ValidationError: it is no list.
        msgspec.DecodeError, RecursionError: it cannot be read.
        BatchTooLarge: there are more than `most`.
    """
    view = memoryview(text)
    if len(view) <= SHORT or (len(view) <= WINDOW and count(bytes(view), b",") <= _MANY):
        found = _LIST.decode(text)
        if len(found) > most:
            raise BatchTooLarge(size=len(found), limit=most)
        return found
    return list(_elements(view, most))


def _document(text: Text, most: int) -> Document:
    view = memoryview(text)
    first = _byte(view, _after_space(view, 0))
    if first == _OPEN_OBJECT:
        return members(text)
    if first == _OPEN_LIST:
        return elements(text, most=most)
    raise msgspec.ValidationError("Expected `{` or `[`")


def _members(view: memoryview) -> Iterator[tuple[str, msgspec.Raw]]:
    at = _opened(view, _OPEN_OBJECT)
    if _byte(view, at) == _CLOSE_OBJECT:
        _check_ended(view, at + 1)
        return
    for _ in range(MAX_MEMBERS):
        after = _value_end(view, at)
        key = memoryview(_raw(view, at, after))
        if len(key) > WINDOW:
            raise TooManyMembers  # a key of that length stands for more than a thousand
        name = _KEY.decode(key)
        if _byte(view, after) != _COLON:
            raise _malformed("expected ':'", after)
        at = _after_space(view, after + 1)
        after = _value_end(view, at)
        yield name, _raw(view, at, after)
        if _is_last(view, after, _CLOSE_OBJECT):
            return
        at = _after_space(view, after + 1)
    raise TooManyMembers


def _elements(view: memoryview, most: int) -> Iterator[msgspec.Raw]:
    at = _opened(view, _OPEN_LIST)
    if _byte(view, at) == _CLOSE_LIST:
        _check_ended(view, at + 1)
        return
    for _ in range(most):
        after = _value_end(view, at)
        yield _raw(view, at, after)
        if _is_last(view, after, _CLOSE_LIST):
            return
        at = _after_space(view, after + 1)
    raise BatchTooLarge(size=None, limit=most)


def _byte(view: memoryview, at: int) -> int:
    return view[at] if at < len(view) else -1


def _opened(view: memoryview, bracket: int) -> int:
    at = _after_space(view, 0)
    if _byte(view, at) != bracket:
        raise msgspec.ValidationError(f"Expected `{chr(bracket)}`")
    return _after_space(view, at + 1)


def _is_last(view: memoryview, at: int, closing: int) -> bool:
    """Whether what was opened ends at `at`, and the text with it; else the next member follows."""
    found = _byte(view, at)
    if found == closing:
        _check_ended(view, at + 1)
        return True
    if found != _COMMA:
        raise _malformed(f"expected ',' or '{chr(closing)}'", at)
    return False


def _check_ended(view: memoryview, at: int) -> None:
    at = _after_space(view, at)
    if at < len(view):
        raise _malformed("trailing characters", at)


def _raw(view: memoryview, start: int, end: int) -> msgspec.Raw:
    while view[end - 1] in _BLANKS:
        tail = bytes(view[max(start, end - WINDOW) : end])
        end -= len(tail) - len(tail.rstrip(_BLANKS))
    return msgspec.Raw(view[start:end])


def _after_space(view: memoryview, at: int) -> int:
    if at < len(view) and view[at] > 0x20:
        return at
    while (found := _SPACE.match(view, at, at + WINDOW)) and found.end() > at:
        at = found.end()
    return at


def _value_end(view: memoryview, start: int) -> int:
    """Where the text goes on after the value that begins at `start`, and the space after it.

    Raises:
        msgspec.DecodeError, RecursionError.
    """
    window = view[start : start + WINDOW]
    is_cut = start + len(window) < len(view)
    try:
        _RAW.decode(window)
    except msgspec.DecodeError as error:
        message = str(error)
        if found := _TRAILING.fullmatch(message):
            return start + int(found[1]) - 1
        place = _AT_BYTE.search(message)
        at = len(window) if place is None else int(place[1])
        if not is_cut or at < len(window) - _LONGEST_TOKEN_CUT:
            raise msgspec.DecodeError(_AT_BYTE.sub(f"(byte {start + at})", message)) from None
    if not is_cut:
        return len(view)
    return _after_space(view, _far_end(view, start))


def _far_end(view: memoryview, start: int) -> int:
    """The end of a value that is longer than a window, found without validating it."""
    first = view[start]
    if first == _QUOTE:
        return _far_end_of_string(view, start + 1)
    if first not in (_OPEN_OBJECT, _OPEN_LIST):
        at = start
        while (found := _SCALAR.match(view, at, at + WINDOW)) and found.end() > at:
            at = found.end()
        return at
    depth, in_string, at = 1, False, start + 1
    while at < len(view):
        chunk = next_chunk(view, at)
        outside, ends_in_string = outside_strings(chunk, in_string=in_string)
        closed, opened = unmatched(only_brackets(outside))
        if closed >= depth:
            return at + _closing(chunk, depth, in_string=in_string)
        depth, in_string, at = depth - closed + opened, ends_in_string, at + len(chunk)
    raise msgspec.DecodeError("Input data was truncated")


def _far_end_of_string(view: memoryview, at: int) -> int:
    while (found := _IN_STRING.match(view, at, at + CHUNK)) and found.end() > at:
        at = found.end()
    if _byte(view, at) != _QUOTE:
        raise msgspec.DecodeError("Input data was truncated")
    return at + 1


def _closing(chunk: bytes, depth: int, *, in_string: bool) -> int:
    """Where the bracket that closes `depth` levels stands in `chunk`, counted from behind it."""
    start = _far_end_of_string(memoryview(chunk), 0) if in_string else 0
    for match in _STRING_OR_BRACKET.finditer(chunk, start):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return match.end()
    raise AssertionError("the brackets were counted before")


def _malformed(what: str, at: int) -> msgspec.DecodeError:
    return msgspec.DecodeError(f"JSON is malformed: {what} (byte {at + 1})")
