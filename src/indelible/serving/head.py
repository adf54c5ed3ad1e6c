"""Reading the head of an HTTP/1 request. Pure: bytes in, a `Head` out, or the error to answer with.

Strict, because a message that two parsers read differently is how requests are smuggled (RFC 9112
section 11.2): every line ends with CRLF, no folded lines, no space before a colon, no control
characters, one Host, and at most one of Content-Length and Transfer-Encoding, given once.

>>> head = parse(b"POST /api/e?wait=sealed HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 2\\r\\n")
>>> head.method, head.path, head.query, head.length, head.is_persistent
('POST', b'/api/e', b'wait=sealed', 2, True)
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Final

from indelible.errors import (
    ExpectationFailed,
    HeadTooLarge,
    HttpVersionUnsupported,
    IndelibleError,
    RequestMalformed,
    TargetTooLong,
    UnknownTransferCoding,
)

MOST_HEAD_BYTES: Final = 64 * 1024
MOST_FIELDS: Final = 100
_SHORT_HEAD_BYTES: Final = 1024  # those that are remembered take half a megabyte at most

# RFC 9110 section 5.6.2. Possessive, so that a head that does not match is refused in linear time.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Some clients send UTF-8 and characters like `{` unescaped in a query, but never `#` or a space.
_TARGET: Final = rb'[!"$-~\x80-\xff]++'
_LINE: Final = rb"%b:[\t -~\x80-\xff]*+\r\n" % _TOKEN
_HEAD: Final = re.compile(rb"(%b) (%b) HTTP/1\.([01])\r\n((?:%b)*+)" % (_TOKEN, _TARGET, _LINE))
_FIELD: Final = re.compile(rb"([^:]++):([^\r]*+)\r\n")
_FIELDS: Final = re.compile(rb"(?:%b)*+" % _LINE)
_VERSION: Final = re.compile(rb"[^ \r\n]++ [^ \r\n]++ HTTP/([0-9])\.([0-9])\r\n")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*+)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(rb"[0-9A-Za-z._~%!$&'()*+,;=:\[\]-]*+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_ONCE: Final = (b"host", b"content-length", b"transfer-encoding")

CHUNKED: Final = -1
"""The `length` of a chunked body."""


class Head:
    """The head of one request.

    Attributes:
        headers: Every field, in order, names in lower case.
        fields: The last value of each name.
        length: The length of the body, or `CHUNKED`.
    """

    __slots__ = (
        "expects_continue",
        "fields",
        "headers",
        "is_persistent",
        "length",
        "method",
        "minor",
        "path",
        "query",
        "target",
    )

    def __init__(self, method: str, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.path, _, self.query = target.partition(b"?")
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[bytes, bytes] = {}
        self.length = 0
        self.is_persistent = True
        self.expects_continue = False


def parse(block: bytes) -> Head:
    """Parse the request line and the fields, each with its CRLF, without the final empty line.

    A client's heads are often equal to the byte, so one value may be returned for many: nobody may
    change it.

    Raises:
        RequestMalformed, HeadTooLarge, UnknownTransferCoding, HttpVersionUnsupported,
        ExpectationFailed.
    """
    return _parse_again(block) if len(block) <= _SHORT_HEAD_BYTES else _parse(block)


def _parse(block: bytes) -> Head:
    match = _HEAD.fullmatch(block)
    if match is None:
        raise _fault(block)
    method, target, minor, lines = match.groups()
    head = Head(method.decode(), target, 1 if minor == b"1" else 0)
    headers = [(name.lower(), value.strip(b" \t")) for name, value in _FIELD.findall(lines)]
    fields = dict(headers)
    if len(headers) > MOST_FIELDS:
        raise HeadTooLarge(f"The request has more than {MOST_FIELDS} header fields")
    if len(fields) != len(headers):
        _check_repeated(headers)
    head.headers, head.fields = headers, fields
    if not target.startswith(b"/"):
        _find_path(head)
    host = fields.get(b"host")
    if host is None:
        if head.minor:
            raise RequestMalformed("The request has no Host")
    elif _AUTHORITY.fullmatch(host) is None:
        raise RequestMalformed("Host is no host name")
    if b"transfer-encoding" in fields:
        head.length = _check_coding(head)
    elif (declared := fields.get(b"content-length")) is not None:
        if _LENGTH.fullmatch(declared) is None:
            raise RequestMalformed("Content-Length is no number")
        head.length = int(declared)
    if b"connection" in fields or not head.minor:
        head.is_persistent = _is_persistent(head)
    if b"expect" in fields:
        head.expects_continue = _expects_continue(head)
    return head


_parse_again: Final = lru_cache(maxsize=512)(_parse)


def check_unfinished(data: bytes | bytearray, checked: int = 0) -> int:
    """Check the complete lines of an incomplete head, so that nonsense is refused at once.

    Every line is checked once: pass the return value as `checked` the next time.

    Raises:
        TargetTooLong, HeadTooLarge, RequestMalformed, HttpVersionUnsupported.
    """
    if len(data) > MOST_HEAD_BYTES:
        raise HeadTooLarge() if b"\r\n" in data[:MOST_HEAD_BYTES] else TargetTooLong()
    end = data.rfind(b"\n", checked) + 1
    if not end:
        return checked
    if (_FIELDS if checked else _HEAD).fullmatch(data, checked, end) is None:
        raise _fault(data)
    return end


def are_fields(lines: bytes) -> bool:
    """Whether `lines` are well-formed fields, as in a trailer."""
    return _FIELDS.fullmatch(lines) is not None


def _fault(block: bytes | bytearray) -> IndelibleError:
    version = _VERSION.match(block)
    if version is not None and version[1] != b"1":
        return HttpVersionUnsupported()
    return RequestMalformed()


def _check_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    counts = Counter(name for name, _ in headers)
    for name in _ONCE:
        if counts[name] > 1:
            raise RequestMalformed(f"{name.decode().title()} is given more than once")


def _find_path(head: Head) -> None:
    """Extract the path of an absolute-form target; its host replaces Host (RFC 9112 3.2.2)."""
    absolute = _ABSOLUTE.match(head.target)
    if absolute is not None:
        path, _, head.query = head.target[absolute.end() :].partition(b"?")
        head.path = path or b"/"
        if b"host" in head.fields:
            head.fields[b"host"] = absolute[1]
            head.headers = [
                (name, absolute[1] if name == b"host" else value) for name, value in head.headers
            ]
    elif head.target != b"*" or head.method != "OPTIONS":
        raise RequestMalformed("The request target is no path")


def _check_coding(head: Head) -> int:
    if b"content-length" in head.fields:
        raise RequestMalformed("Content-Length and Transfer-Encoding exclude each other")
    if not head.minor:
        raise RequestMalformed("HTTP/1.0 has no Transfer-Encoding")
    codings = [word.strip(b" \t").lower() for word in head.fields[b"transfer-encoding"].split(b",")]
    if codings == [b"chunked"]:
        return CHUNKED
    if set(codings) <= {b"chunked", b""}:
        raise RequestMalformed("Transfer-Encoding is not well-formed")
    raise UnknownTransferCoding


def _is_persistent(head: Head) -> bool:
    words = {
        word.strip(b" \t").lower()
        for name, value in head.headers
        if name == b"connection"
        for word in value.split(b",")
    }
    return b"close" not in words and (head.minor == 1 or b"keep-alive" in words)


def _expects_continue(head: Head) -> bool:
    if head.fields[b"expect"].lower() != b"100-continue":
        raise ExpectationFailed
    return head.minor == 1
