"""Requests and answers of the hot path, over plain ASGI: no framework in between."""

import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from indelible.errors import BodyTooLarge, IndelibleError
from indelible.network import Address

if TYPE_CHECKING:
    from indelible.edge.gate import Gate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Final = "application/json"

# What is left of a body would stand before the next request, so the connection ends with such an
# answer. A client that is not told sends its next request into it (RFC 9112 section 9.6).
CLOSE: Final = (b"connection", b"close")


def request_id_of(header: Callable[[str], str | None]) -> str:
    """The caller's Request-Id when it is usable, else one made here; `header` looks one up."""
    given = header("request-id") or header("x-request-id") or ""
    usable = 1 <= len(given) <= 255 and given.isascii() and given.isprintable()
    return given if usable else str(uuid.uuid4())


def may_leave_a_rest(scope: Scope) -> bool:
    """Whether what is not read of this request would stand before the next one: it announces a
    body (RFC 9112 section 6), and not in a stream of its own as in HTTP/2."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    return has_body and scope["http_version"] != "2"


def closing(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """`receive` and `send` of a request that may leave a rest: an answer that begins before the
    body was read to its end has `CLOSE`."""
    is_read = False

    async def received() -> Message:
        nonlocal is_read
        message = await receive()
        is_read = not message.get("more_body", False)
        return message

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and not is_read:
            message["headers"] = [*message["headers"], CLOSE]
        await send(message)

    return received, sent


class Request:
    """One HTTP request, read as far as it is asked for."""

    __slots__ = ("_headers", "_is_read", "_query", "_receive", "_request_id", "_scope", "method")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._is_read = False
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._query: dict[str, str] | None = None
        self._request_id: str | None = None
        self.method: str = scope["method"]

    def header(self, name: bytes) -> str:
        """The header's value, empty when absent; `name` in lower case."""
        value = self._headers.get(name)
        return "" if value is None else value.decode("latin-1")

    def has(self, name: bytes) -> bool:
        """Whether the header was sent, even if empty."""
        return name in self._headers

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated one, the last."""
        if self._query is None:
            text = self._scope["query_string"]
            self._query = (
                dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}
            )
        return self._query

    @property
    def request_id(self) -> str:
        """The caller's Request-Id, else one made here."""
        if self._request_id is None:
            self._request_id = request_id_of(lambda name: self.header(name.encode()))
        return self._request_id

    def caller(self, gate: "Gate") -> Address | None:
        """Who sent it, as far as the trusted proxies tell."""
        peer = self._scope.get("client")
        forwarded = [
            v.decode("latin-1") for k, v in self._scope["headers"] if k == b"x-forwarded-for"
        ]
        return gate.caller(peer[0] if peer else None, forwarded)

    def page(self) -> str | None:
        """The origin of the page that sent it; None when it was sent by no page.

        Browsers send Origin with every POST and with every request of a script to another origin.
        An <img> has none, but a Referer as a rule; that it is a page's shows in Sec-Fetch-Site,
        which no script can take away. A page that hides where it is has an origin that no list has.
        """
        if self.has(b"origin"):
            return self.header(b"origin")
        if not self.has(b"sec-fetch-site"):
            return None
        return "/".join(self.header(b"referer").split("/", 3)[:3])

    @property
    def leaves_a_rest(self) -> bool:
        """Whether its body was not read to its end, and stands before the next request."""
        return not self._is_read and may_leave_a_rest(self._scope)

    async def body(self, limit_bytes: int) -> bytes:
        """The body, as sent.

        Raises:
            BodyTooLarge: it is over the limit, by its Content-Length or by what arrived.
        """
        declared = self._headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes, unpacked=False)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await self._receive()
                part = message.get("body", b"")
                size += len(part)
                if size > limit_bytes:
                    break
                parts.append(part)
            else:
                body = b"".join(parts)
            if size > limit_bytes:
                raise BodyTooLarge(limit_bytes=limit_bytes, unpacked=False)
        self._is_read = True
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes, unpacked=False)
        return body


class Answer:
    """One HTTP answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.headers = list(headers)
        if status != 204:
            self.headers.append((b"content-type", content_type.encode()))
            self.headers.append((b"content-length", b"%d" % len(body)))

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def refuse(error: IndelibleError, request: Request, **more: object) -> Answer:
    """The one flat error body, with Retry-After where trying again helps."""
    body = {**error.body(request_id=request.request_id), **more}
    headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Answer(error.http_status, msgspec.json.encode(body), headers=headers)
