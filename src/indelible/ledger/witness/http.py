"""A witness over HTTP, as C2SP tlog-witness 1.0.0 has it.

    POST <prefix>/add-checkpoint                             a request
    GET  <prefix>/<hex SHA-256 of the origin>/checkpoint     the newest cosigned note
    GET  / and /healthz                                      one line: who this is, and how it is

Any prefix is taken, so that a proxy need not cut it off. Anybody may ask: what a witness says is
public, and it says nothing but what a log has signed.
"""

import asyncio
import logging
import re
import socket
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from indelible.errors import BodyIncomplete, WitnessUnwritable
from indelible.ledger.witness.request import MOST_BODY_BYTES
from indelible.ledger.witness.rules import Answer, Witness
from indelible.serving import Patience, lifespan, serve_asgi, until_signalled

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ADD: Final = "/add-checkpoint"
_LATEST: Final = re.compile(r"(?:/[^/]*)*?/([0-9a-f]{64})/checkpoint", re.ASCII)
_READ: Final = ("GET", "HEAD")


class WitnessApp:
    """The ASGI application."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        try:
            answer, allow = await self._answer(scope, receive)
        except Exception as error:  # the request's one door: no fault of ours may go unanswered
            where = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("%s in %s", type(error).__name__, where.name)  # noqa: TRY400 — the place only
            answer, allow = Answer(500, "something broke inside the witness\n"), ""
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
                return Answer(405, "POST a checkpoint here\n"), "POST"
            try:
                return await self._add(receive), ""
            except BodyIncomplete as error:
                return Answer(error.http_status, f"{error.message}\n"), ""
        if latest is None and path not in ("/", "/healthz"):
            return Answer(404, "there is nothing here\n"), ""
        if method not in _READ:
            return Answer(405, "this is to be read\n"), ", ".join(_READ)
        return await self._latest(latest[1]) if latest else self._health(), ""

    async def _add(self, receive: Receive) -> Answer:
        body = await _read(receive)
        if body is None:
            return Answer(413, f"a request has at most {MOST_BODY_BYTES:,} bytes\n")
        try:
            return await asyncio.to_thread(self._witness.add_checkpoint, body)
        except WitnessUnwritable as error:
            return Answer(503, f"{error.message}\n")

    async def _latest(self, origin_hash: str) -> Answer:
        note = await asyncio.to_thread(self._witness.latest, origin_hash)
        if note is None:
            return Answer(404, "nothing was cosigned for this origin\n")
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
    stop: asyncio.Event | None = None,
    patience: Patience = Patience(),  # noqa: B008 — frozen
) -> None:
    """Serve until `stop` is set, then finish the requests under way.

    `announce` is called with the address. Without `stop`, SIGINT and SIGTERM end it.
    """
    await serve_asgi(
        WitnessApp(witness),
        on=on,
        announce=announce,
        stop=stop or until_signalled(),
        patience=patience,
    )


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
