"""A witness over HTTP, as C2SP tlog-witness 1.0.0 has it.

    POST <prefix>/add-checkpoint                             a request
    GET  <prefix>/<hex SHA-256 of the origin>/checkpoint     the newest cosigned note
    GET  / and /healthz                                      one line: who this is, and how it is

Any prefix is taken, so that a proxy need not cut it off. Anybody may ask: what a witness says is
public, and it says nothing but what a log has signed.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from indelible.errors import BodyIncomplete, IndelibleError, WitnessUnwritable
from indelible.ledger.witness.request import MOST_BODY_BYTES
from indelible.ledger.witness.rules import Answer, Refused, Witness, refusal
from indelible.refusals import Refusals
from indelible.serving import (
    Ending,
    Signalled,
    lifespan,
    plain_refusal,
    serve_asgi,
    until_signalled,
)
from indelible.serving.exchange import Headers, Scope
from indelible.serving.patience import CloseReason

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ADD: Final = "/add-checkpoint"
_LATEST: Final = re.compile(r"(?:/[^/]*)*?/([0-9a-f]{64})/checkpoint", re.ASCII)
_HEALTH: Final = ("/", "/healthz")
_READ: Final = ("GET", "HEAD")


class WitnessApp:
    """The ASGI application."""

    def __init__(self, witness: Witness, refusals: Refusals) -> None:
        self._witness = witness
        self._refusals = refusals

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        route = _route(scope["path"])
        try:
            answer, allow = await self._answer(scope, receive)
        except WitnessUnwritable as error:
            self._refusals.refused(error, route)
            answer, allow = Answer(error.http_status, f"{error.message}\n"), ""
        except BodyIncomplete as error:  # the server has told of it
            answer, allow = Answer(error.http_status, f"{error.message}\n"), ""
        except Exception as error:  # the request's one door: no fault of ours may go unanswered
            self._refusals.failed(error, route)
            answer, allow = Answer(500, "something broke inside the witness\n"), ""
        if answer.refused is not None:
            self._refusals.refused_as(answer.refused, answer.refused.sentence, route)
        content = answer.body.encode()
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(content)),
        ]
        if allow:
            headers.append((b"allow", allow.encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[Answer, str]:
        """The answer, and the methods that the path takes if this was none of them."""
        path, method = scope["path"], scope["method"]
        latest = _LATEST.fullmatch(path)
        if path.endswith(_ADD):
            if method != "POST":
                return refusal(405, Refused.METHOD_NOT_ALLOWED), "POST"
            return await self._add(receive), ""
        if latest is None and path not in _HEALTH:
            return refusal(404, Refused.NOT_FOUND), ""
        if method not in _READ:
            return refusal(405, Refused.METHOD_NOT_ALLOWED), ", ".join(_READ)
        return await self._latest(latest[1]) if latest else self._health(), ""

    async def _add(self, receive: Receive) -> Answer:
        body = await _read(receive)
        if body is None:
            return refusal(413, Refused.TOO_LARGE)
        return await asyncio.to_thread(self._witness.add_checkpoint, body)

    async def _latest(self, origin_hash: str) -> Answer:
        note = await asyncio.to_thread(self._witness.latest, origin_hash)
        if note is None:
            return Answer(404, "nothing was cosigned for this origin\n", refused=Refused.NOT_FOUND)
        return Answer(200, note)

    def _health(self) -> Answer:
        failure = self._witness.failure
        if failure is not None:
            return Answer(503, f"witness {self._witness.name}: stopped: {failure}\n")
        return Answer(200, f"witness {self._witness.name}: ok\n")


async def run(
    witness: Witness,
    *,
    on: socket.socket,
    announce: Callable[[str], None],
) -> tuple[Signalled, Ending]:
    """Serve until SIGINT or SIGTERM, then finish the requests under way; return how it ended.

    `announce` is called with the address.
    """
    refusals, stop = Refusals(), until_signalled()

    def refuse(error: IndelibleError, scope: Scope | None) -> tuple[int, Headers, bytes]:
        refusals.refused(error, None if scope is None else _route(scope["path"]))
        return plain_refusal(error, scope)

    def closed(reason: CloseReason) -> None:
        if reason.is_unanswered:
            refusals.closed(reason, reason.meaning)

    try:
        ending = await serve_asgi(
            WitnessApp(witness, refusals),
            on=on,
            announce=announce,
            stop=stop,
            refusal=refuse,
            closed=closed,
        )
    finally:
        refusals.close()
    return stop, ending


def _route(path: str) -> str | None:
    """The template of a path, for the log; None if nothing is there."""
    if path.endswith(_ADD):
        return _ADD
    if _LATEST.fullmatch(path):
        return "/{origin_hash}/checkpoint"
    return path if path in _HEALTH else None


async def _read(receive: Receive) -> bytes | None:
    """Return the body, or None if it is over the limit.

    Raises:
        BodyIncomplete: it was cut off.
    """
    body, goes_on = b"", True
    while goes_on and len(body) <= MOST_BODY_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyIncomplete
        body, goes_on = body + message["body"], message["more_body"]
    return body if len(body) <= MOST_BODY_BYTES else None
