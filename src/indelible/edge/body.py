"""From the bytes on the wire to JSON text: unpack, layer by layer, within one budget.

Clients mislabel what they send, so bytes are believed before headers: gzip is known by its magic
number whatever Content-Type and Content-Encoding say, and a form or base64 text by its looks.
"""

import base64
import binascii
import re
import zlib
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from indelible.errors import (
    BodyTooLarge,
    EventRefused,
    InvalidEncoding,
    InvalidJson,
    UnsupportedMediaType,
)
from indelible.event import DropReason

UNPACKED_FACTOR: Final = 5
"""Unpacked, a body may be this many times the limit on the wire."""

MAX_DEPTH: Final = 32
"""How deep an event's objects and lists may be nested."""

_LAYERS: Final = 3
_BASE64_LAYERS: Final = 2
_GZIP_MEMBERS: Final = 100
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-\s]++=*+\s*+")
_ENCODINGS: Final = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_COMPRESSIONS: Final = frozenset({"", "gzip", "gzip-js", "base64"})

# A whole string, or one bracket outside of any. Possessive, so that a long string costs no memory.
_STRING_OR_BRACKET: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)

# An escape sequence of a JSON string: a surrogate pair, a surrogate, or anything else.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

_DOCUMENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw])

Document = dict[str, msgspec.Raw] | list[msgspec.Raw]
"""A JSON object or list whose members are still the bytes that were sent."""


class Packing(NamedTuple):
    """What the request says of its body."""

    content_type: str = ""
    content_encoding: str = ""
    compression: str = ""


@lru_cache(maxsize=256)
def check_packing(packing: Packing, content_types: frozenset[str]) -> None:
    """
    Raises:
        UnsupportedMediaType: the content type is none of `content_types`, or the encoding is not
            read here.
        InvalidEncoding: the `compression` parameter is not known.
    """
    kind = packing.content_type.partition(";")[0].strip().lower()
    if kind and kind not in content_types and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"Content-Type {kind} is not read here")
    if packing.content_encoding.strip().lower() not in _ENCODINGS:
        raise UnsupportedMediaType(f"Content-Encoding {packing.content_encoding} is not read here")
    if packing.compression not in _COMPRESSIONS:
        raise InvalidEncoding(
            f"compression={packing.compression} is not read here",
            hint="Use gzip, gzip-js or base64.",
        )


def unpack(body: bytes, packing: Packing, *, limit_bytes: int) -> bytes:
    """The JSON text inside `body`; `limit_bytes` is the limit on the wire.

    Raises:
        InvalidEncoding: a layer is damaged, or there are more than three.
        BodyTooLarge: the layers together unpack to more than five times the limit.
    """
    budget = limit_bytes * UNPACKED_FACTOR
    inflate = packing.content_encoding.strip().lower() == "deflate"
    base64_layers = 0
    for _ in range(_LAYERS + 1):
        if body[:1] in (b"{", b"["):
            return body
        if body.startswith(_GZIP_MAGIC):
            body = _decompress(body, zlib.MAX_WBITS | 16, budget)
        elif inflate:
            inflate = False
            # RFC 9110 says zlib format; some clients send the raw stream.
            is_zlib = body[:1] == b"\x78"
            body = _decompress(body, zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS, budget)
        elif (form := _form_data(body, packing)) is not None:
            body = form
        elif _looks_like_base64(body) and base64_layers < _BASE64_LAYERS:
            base64_layers += 1
            body = _from_base64(body)
        else:
            return body.removeprefix(_UTF8_BOM).strip()
        budget -= len(body)
        if budget < 0:
            raise BodyTooLarge(limit_bytes=limit_bytes * UNPACKED_FACTOR, unpacked=True)
        body = body.strip() if body[:1].isspace() else body
    raise InvalidEncoding("The body is packed in more than three layers")


def parse(text: bytes) -> tuple[Document, bytes]:
    """Read JSON text as an object or a list of raw members; returns the text that was read too.

    A lone surrogate (half a character, as some clients make by cutting text) has no UTF-8 form; its
    escape is replaced by U+FFFD's, of the same length, and the rest stays as it was sent.

    Raises:
        InvalidJson: it is not UTF-8, not JSON, or neither an object nor a list.
        EventRefused: it is nested too deep to be read at all.
    """
    try:
        str(text, "utf-8")  # raw members are not checked for this when they are skipped
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not UTF-8 at byte {error.start}") from None
    try:
        return _DOCUMENT.decode(text), text
    except RecursionError:
        raise EventRefused(DropReason.TOO_DEEP) from None
    except msgspec.DecodeError as error:
        repaired = replace_lone_surrogates(text)
        if repaired == text:
            raise _json_error(error) from None
    try:
        return _DOCUMENT.decode(repaired), repaired
    except msgspec.DecodeError as error:
        raise _json_error(error) from None


def replace_lone_surrogates(text: bytes) -> bytes:
    r"""JSON text with each escaped lone surrogate replaced by U+FFFD.

    >>> replace_lone_surrogates(rb'"\ud83d\ude00 \ud83d \\ud83d"')
    b'"\\ud83d\\ude00 \\ufffd \\\\ud83d"'
    """
    return _ESCAPE.sub(lambda m: b"\\ufffd" if m[1] else m[0], text)


def nesting(text: bytes) -> int:
    r"""How deep objects and lists are nested in JSON text.

    Where there are too few brackets to be deeper than the limit, their count is returned: it is
    never below the true depth, and costs a hundredth of looking.

    >>> nesting(b'[' * 40 + b']' * 40), nesting(b'["' + b'[' * 40 + b'"]')
    (40, 1)
    """
    brackets = text.count(b"{") + text.count(b"[")
    if brackets <= MAX_DEPTH:
        return brackets
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"}", b"]"):
            depth -= 1
    return deepest


def _json_error(error: msgspec.DecodeError) -> InvalidJson:
    if isinstance(error, msgspec.ValidationError):
        return InvalidJson("The body must be a JSON object or a list")
    return InvalidJson(str(error))  # names the byte, never the content


def _decompress(body: bytes, wbits: int, budget: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        if len(parts) == _GZIP_MEMBERS:  # each costs a copy of what is behind it
            raise InvalidEncoding(f"The gzip stream has more than {_GZIP_MEMBERS} members")
        stream = zlib.decompressobj(wbits)
        try:
            part = stream.decompress(body, budget - size + 1)
        except zlib.error as error:
            raise InvalidEncoding(f"The compressed body is damaged: {error}") from None
        size += len(part)
        if size > budget:
            raise BodyTooLarge(limit_bytes=budget, unpacked=True)
        if not stream.eof:
            raise InvalidEncoding("The compressed body is cut short")
        parts.append(part)
        body = stream.unused_data if wbits > zlib.MAX_WBITS else b""  # gzip may have members
    return b"".join(parts)


def _form_data(body: bytes, packing: Packing) -> bytes | None:
    is_form = "x-www-form-urlencoded" in packing.content_type.lower()
    if not body.startswith(b"data=") and not (is_form and b"data=" in body):
        return None
    try:
        fields = parse_qs(body.decode("ascii"), encoding="latin-1", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise InvalidEncoding("The form cannot be read") from None
    data = fields.get("data")
    # A plus sign of unquoted base64 has become a space; in JSON text a space is as good.
    return data[0].encode("latin-1") if data else None


def _looks_like_base64(body: bytes) -> bool:
    return len(body) >= 4 and _BASE64.fullmatch(body) is not None


def _from_base64(body: bytes) -> bytes:
    text = re.sub(rb"[\r\n\t]", b"", body.strip()).replace(b" ", b"+")
    text = text.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise InvalidEncoding("The base64 text is damaged") from None
