"""From the bytes on the wire to JSON text: unpack, layer by layer, within one budget.

Clients mislabel what they send, so bytes are believed before headers: gzip is known by its magic
number whatever Content-Type and Content-Encoding say, and a form or base64 text by its looks.

Anybody may send a body, so every step is linear in its length and works on a piece at a time: a
piece is a few milliseconds of work, after which other threads get their turn.
"""

import binascii
import re
import string
import zlib
from functools import lru_cache
from typing import Final, NamedTuple

from indelible.edge.brackets import Text
from indelible.errors import BodyTooLarge, InvalidEncoding, UnsupportedMediaType

UNPACKED_FACTOR: Final = 5
"""Unpacked, a body may be this many times the limit on the wire."""

FREE_BYTES: Final = 4 << 20
"""A body may unpack to this much however little was sent: 10,000 times the same event, as whoever
tries the server out sends them, compresses to a 250th."""

MOST_RATIO: Final = 100
"""Beyond `FREE_BYTES` it may unpack to this many times what was sent. Batches of events compress to
a tenth or a thirtieth; a thousandth, gzip's most, is made to cost much for little."""

SMALL_BYTES: Final = 1 << 15
"""A body of up to this many bytes, once unpacked, is read on the event loop: at worst 20 ms."""

_LAYERS: Final = 3
_BASE64_LAYERS: Final = 2
_GZIP_MEMBERS: Final = 100
_MOST_FIELDS: Final = 100
_PIECE: Final = 1 << 20
_SMALL_PIECE: Final = 1 << 14
_GZIP_BITS: Final = zlib.MAX_WBITS | 16
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r\n\v\f"
_BASE64_BYTES: Final = string.ascii_letters.encode() + string.digits.encode() + b"+/-_" + _BLANKS
_PADDING: Final = b"=" + _BLANKS
_SHORTEST_BASE64: Final = 4
_SCALAR: Final = re.compile(rb"null|true|false|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LONGEST_SCALAR: Final = 64
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_ ", b"+/+")
_PERCENT: Final = ord("%")
_STRAY_PERCENT: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
_AS_QUOTED_PRINTABLE: Final = bytes.maketrans(b"%", b"=")

# A charset in the place of a coding is a common slip, and says nothing that is not so.
_CODINGS: Final = frozenset({"", "identity", "utf-8", "utf8", "gzip", "x-gzip", "deflate"})
_COMPRESSIONS: Final = frozenset({"", "gzip", "gzip-js", "base64"})


class Packing(NamedTuple):
    """What the request says of its body."""

    content_type: str = ""
    content_encoding: str = ""
    compression: str = ""


@lru_cache(maxsize=256)
def checked_packing(
    content_type: str, content_encoding: str, compression: str, content_types: frozenset[str]
) -> Packing:
    """What the request says of its body, if all of that is read here.

    Raises:
        UnsupportedMediaType: the content type is none of `content_types`, or one of the encodings
            is not read here.
        InvalidEncoding: the `compression` parameter is not known.
    """
    packing = Packing(content_type, content_encoding, compression)
    kind = packing.content_type.partition(";")[0].strip().lower()
    if kind and kind not in content_types and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"Content-Type {kind} is not read here")
    if not _CODINGS.issuperset(_codings(packing)):
        raise UnsupportedMediaType(f"Content-Encoding {packing.content_encoding} is not read here")
    if packing.compression not in _COMPRESSIONS:
        raise InvalidEncoding(
            f"compression={packing.compression} is not read here",
            hint="Use gzip, gzip-js or base64.",
        )
    return packing


def unpack(body: bytes, packing: Packing, *, limit_bytes: int) -> Text:
    """The JSON text inside `body`; `limit_bytes` is the limit on the wire.

    Raises:
        InvalidEncoding: a layer is damaged, or there are more than three.
        BodyTooLarge: the layers together unpack to more than five times the limit, or to more than
            `FREE_BYTES` and `MOST_RATIO` times what was sent.
    """
    return _unpack(body, packing, budget_bytes=_budget(body, limit_bytes))


def unpack_small(body: bytes, packing: Packing, *, limit_bytes: int) -> Text | None:
    """As `unpack`, but None once it is clear that the text has more than `SMALL_BYTES`."""
    if len(body) > SMALL_BYTES:
        return None
    if body.startswith((b"{", b"[")):
        return body
    budget_bytes = _budget(body, limit_bytes)
    try:
        text = _unpack(body, packing, budget_bytes=min(budget_bytes, _LAYERS * SMALL_BYTES))
    except BodyTooLarge:
        if budget_bytes <= _LAYERS * SMALL_BYTES:
            raise
        return None
    return text if len(text) <= SMALL_BYTES else None


def _budget(body: bytes, limit_bytes: int) -> int:
    return min(limit_bytes * UNPACKED_FACTOR, max(FREE_BYTES, len(body) * MOST_RATIO))


def _unpack(body: bytes, packing: Packing, *, budget_bytes: int) -> Text:
    text: Text = body
    left = budget_bytes
    deflated = _codings(packing).count("deflate") if packing.content_encoding else 0
    base64_layers = 0
    for _ in range(_LAYERS + 1):
        start = _start(text)
        if text.startswith((b"{", b"["), start):
            return _bare(text, start)
        if text.startswith(_GZIP_MAGIC, start):
            text = _decompress(memoryview(text)[start:], _GZIP_BITS, left, budget_bytes)
        elif deflated:
            deflated -= 1
            text = _inflate(text, left, budget_bytes)
        elif _is_scalar(text := _bare(text, start)):
            return text
        elif (form := _form_data(text, packing)) is not None:
            text = form
        elif base64_layers < _BASE64_LAYERS and _looks_like_base64(text):
            base64_layers += 1
            text = _from_base64(text)
        else:
            return text
        left -= len(text)
        if left < 0:
            raise BodyTooLarge(limit_bytes=budget_bytes, unpacked=True)
    raise InvalidEncoding("The body is packed in more than three layers")


def _codings(packing: Packing) -> list[str]:
    return [coding.strip().lower() for coding in packing.content_encoding.split(",")]


def _start(text: Text) -> int:
    """Where the text begins: behind blanks and a byte order mark."""
    start = _after_blanks(text, 0)
    if text.startswith(_UTF8_BOM, start):
        start = _after_blanks(text, start + len(_UTF8_BOM))
    return start


def _after_blanks(text: Text, start: int) -> int:
    while text[start : start + 1].isspace():
        piece = text[start : start + _PIECE]
        start += len(piece) - len(piece.lstrip())
    return start


def _bare(text: Text, start: int) -> Text:
    """`text` from `start` on, without the blanks at its end."""
    end = _before(text, _BLANKS)
    return text if (start, end) == (0, len(text)) else text[start:end]


def _before(text: Text, trailing: bytes) -> int:
    """Where the bytes `trailing` begin that `text` ends with."""
    end = len(text)
    while end and text[end - 1] in trailing:
        piece = text[max(0, end - _PIECE) : end]
        end -= len(piece) - len(piece.rstrip(trailing))
    return end


def _is_scalar(text: Text) -> bool:
    """Whether it is `null` or the like, which looks like base64 and is none."""
    return len(text) <= _LONGEST_SCALAR and _SCALAR.fullmatch(text) is not None


def _inflate(text: Text, left: int, budget_bytes: int) -> Text:
    # RFC 9110 says zlib format; some clients send the raw stream, which may begin like the other.
    head = int.from_bytes(text[:2], "big")
    if len(text) >= 2 and text[0] & 0x0F == zlib.DEFLATED and text[0] < 0x80 and head % 31 == 0:
        try:
            return _decompress(text, zlib.MAX_WBITS, left, budget_bytes)
        except InvalidEncoding:
            pass
    return _decompress(text, -zlib.MAX_WBITS, left, budget_bytes)


def _decompress(text: Text | memoryview, wbits: int, left: int, budget_bytes: int) -> Text:
    has_members = wbits == _GZIP_BITS
    view = memoryview(text)
    unpacked = bytearray()  # grows in place: joined parts would need the memory twice
    at = members = 0
    while at < len(view) and (has_members or not members):
        if members == _GZIP_MEMBERS:
            raise InvalidEncoding(f"The gzip stream has more than {_GZIP_MEMBERS} members")
        members += 1
        stream = zlib.decompressobj(wbits)
        waiting: bytes | memoryview = b""
        while not stream.eof:
            if not waiting:
                waiting = view[at : at + _SMALL_PIECE]
                at += len(waiting)
            try:
                part = stream.decompress(waiting, min(_PIECE, left + 1 - len(unpacked)))
            except zlib.error as error:
                raise InvalidEncoding(f"The compressed body is damaged: {error}") from None
            if not waiting and not part:
                raise InvalidEncoding("The compressed body is cut short")
            unpacked += part
            if len(unpacked) > left:
                raise BodyTooLarge(limit_bytes=budget_bytes, unpacked=True)
            waiting = stream.unconsumed_tail
        at -= len(stream.unused_data)
    return unpacked


def _form_data(body: Text, packing: Packing) -> Text | None:
    """The field `data` of a form; None where there is none that holds something."""
    is_form = "x-www-form-urlencoded" in packing.content_type.lower()
    if not body.startswith(b"data=") and not (is_form and b"data=" in body):
        return None
    fields = body.split(b"&", _MOST_FIELDS)
    if len(fields) > _MOST_FIELDS:
        raise InvalidEncoding("The form cannot be read")
    for field in fields:
        if field.startswith(b"data=") and len(field) > len(b"data="):
            return _from_percents(field[len(b"data=") :])
    return None


def _from_percents(field: Text) -> Text:
    text = bytearray()
    start = 0
    while start < len(field):
        end = start + _SMALL_PIECE
        if end < len(field):  # an escape is not cut in two
            end -= 1 if field[end - 1] == _PERCENT else 2 if field[end - 2] == _PERCENT else 0
        # A plus sign of unquoted base64 becomes a space; in JSON text a space is as good.
        text += _unquoted(field[start:end].replace(b"+", b" "))
        start = end
    return text


def _unquoted(piece: Text) -> bytes:
    r"""Percent-decode; a percent sign before anything but two hex digits stands for itself.

    `urllib.parse.unquote_to_bytes` takes a microsecond for each escape. Quoted-printable is the
    same with another sign, and its decoder is in C.

    >>> _unquoted(b"%7B=%3d%%37B%\n")
    b'{==%7B%\n'
    """
    if not any(end in piece for end in (b"%\n", b"%\r")):  # what that decoder joins lines by
        quoted = piece.replace(b"=", b"%3D").translate(_AS_QUOTED_PRINTABLE)
        text = binascii.a2b_qp(quoted)
        if len(text) == len(quoted) - 2 * quoted.count(b"="):
            return text
    return _unquoted(_STRAY_PERCENT.sub(b"%25", piece))


def _looks_like_base64(text: Text) -> bool:
    end = _before(text, _PADDING)
    return (
        len(text) >= _SHORTEST_BASE64
        and end > 0
        and all(
            not text[start : min(end, start + _PIECE)].translate(None, _BASE64_BYTES)
            for start in range(0, end, _PIECE)
        )
    )


def _from_base64(text: Text) -> Text:
    end = _before(text, _PADDING)
    data, carried = bytearray(), b""
    try:
        for start in range(0, end, _PIECE):
            piece = text[start : min(end, start + _PIECE)].translate(_FROM_URL_SAFE, b"\r\n\t")
            carried += piece
            whole = len(carried) // 4 * 4
            data += binascii.a2b_base64(carried[:whole], strict_mode=True)
            carried = carried[whole:]
        data += binascii.a2b_base64(carried + b"=" * (-len(carried) % 4), strict_mode=True)
    except binascii.Error:
        raise InvalidEncoding("The base64 text is damaged") from None
    return data
