"""Requests and answers of the hot path, over plain ASGI: no framework in between."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from indelible.errors import BodyIncomplete, BodyTooLarge, IndelibleError, InvalidParameter
from indelible.network import Address
from indelible.serving.exchange import Exchange

if TYPE_CHECKING:
    from indelible.edge.gate import Gate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Final = "application/json"
MOST_PARAMETERS: Final = 500
_AS_JSON: Final = (b"content-type", JSON.encode())


def request_id_of(header: Callable[[str], str | None]) -> str:
    """The caller's Request-Id when it is usable, else one made here; `header` looks one up."""
    given = header("request-id") or header("x-request-id") or ""
    usable = 1 <= len(given) <= 255 and given.isascii() and given.isprintable()
    return given if usable else str(uuid.uuid4())


def parameters_of(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query string in their order.

    Raises:
        InvalidParameter: there are more than `MOST_PARAMETERS`. Each costs microseconds of the
            event loop, and 13,000 fit into a request line.
    """
    if query.count(b"&") >= MOST_PARAMETERS:
        raise InvalidParameter(f"The request has more than {MOST_PARAMETERS} query parameters")
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


class Request:
    """One HTTP request, read as far as it is asked for.

    Attributes:
        method, path: what was asked for.
        sent: its body as it came, once that has been read.
        project_id: the project that it is for, once the gate has opened.
        secrets: finds what must not be shown of it, once the gate has opened.
    """

    __slots__ = (
        *("_fields", "_goes_on", "_headers", "_peer", "_query", "_query_string", "_receive"),
        *("_request_id", "method", "path", "project_id", "secrets", "sent"),
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        fields = scope["headers"]
        query, peer = scope["query_string"], scope.get("client")
        self._begin(scope["method"], scope.get("path", ""), query, fields, dict(fields), peer)
        self._receive = receive

    @classmethod
    def whole(cls, exchange: Exchange) -> "Request":
        """A request that has arrived whole, at a path without escapes."""
        head, request = exchange.head, cls.__new__(cls)
        path = head.path.decode()
        request._begin(head.method, path, head.query, head.headers, head.fields, exchange.peer)
        request.sent = exchange.body
        return request

    def _begin(
        self,
        method: str,
        path: str,
        query_string: bytes,
        fields: Sequence[tuple[bytes, bytes]],
        headers: Mapping[bytes, bytes],
        peer: tuple[str, int] | None,
    ) -> None:
        self.method = method
        self.path = path
        self.sent = b""
        self.project_id: int | None = None
        self.secrets: Callable[[], list[str]] = list
        self._query_string = query_string
        self._query: dict[str, str] | None = None
        self._fields = fields
        self._headers = headers
        self._peer = peer
        self._request_id: str | None = None
        self._goes_on = False

    def header(self, name: bytes) -> str:
        """The header's value, empty when absent; `name` in lower case."""
        value = self._headers.get(name)
        return "" if value is None else value.decode("latin-1")

    @property
    def is_ambiguous(self) -> bool:
        """Whether it has two Authorization headers: another parser might pick the other one."""
        if len(self._headers) == len(self._fields):
            return False
        return [name for name, _ in self._fields].count(b"authorization") > 1

    def has(self, name: bytes) -> bool:
        """Whether the header was sent, even if empty."""
        return name in self._headers

    def joined(self, name: bytes) -> str:
        """The value of a header that is a list, of all its fields (RFC 9110 section 5.3)."""
        if len(self._headers) == len(self._fields):
            return self.header(name)
        values = [value for field, value in self._fields if field == name]
        return b", ".join(values).decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated one, the last.

        Raises:
            InvalidParameter: there are more than `MOST_PARAMETERS`.
        """
        if self._query is None:
            text = self._query_string
            self._query = dict(parameters_of(text)) if text else {}
        return self._query

    @property
    def request_id(self) -> str:
        """The caller's Request-Id, else one made here."""
        if self._request_id is None:
            self._request_id = request_id_of(lambda name: self.header(name.encode()))
        return self._request_id

    def address(self, gate: "Gate") -> Address | None:
        """Where it comes from, as far as the trusted proxies tell."""
        peer = self._peer
        forwarded = [v.decode("latin-1") for k, v in self._fields if k == b"x-forwarded-for"]
        return gate.address(peer[0] if peer else None, forwarded)

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

    async def body(self, limit_bytes: int) -> bytes:
        """The body, as sent.

        Raises:
            BodyTooLarge: it is over the limit, by its Content-Length or by what arrived.
            BodyIncomplete: it was cut off.
        """
        declared = self._headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes, unpacked=False)
        body = await self._piece()
        if self._goes_on:
            parts, size = [body], len(body)
            while self._goes_on and size <= limit_bytes:
                part = await self._piece()
                size += len(part)
                parts.append(part)
            body = b"".join(parts)
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes, unpacked=False)
        self.sent = body
        return body

    async def _piece(self) -> bytes:
        """Return the next piece of the body; only the last may be small (`serving.exchange`)."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise BodyIncomplete
        self._goes_on = message["more_body"]
        part: bytes = message["body"]
        return part


class Answer:
    """One HTTP answer.

    Attributes:
        refusal: the error that it carries, if it takes nothing of what was sent.
    """

    __slots__ = ("body", "headers", "refusal", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.refusal: IndelibleError | None = None
        self.headers = list(headers)
        if status != 204:
            kind = _AS_JSON if content_type is JSON else (b"content-type", content_type.encode())
            self.headers += (kind, (b"content-length", b"%d" % len(body)))

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
    answer = Answer(error.http_status, msgspec.json.encode(body), headers=headers)
    answer.refusal = error
    return answer
