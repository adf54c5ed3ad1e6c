"""The debug stream as a command reads it: server-sent events, resumed where they broke off.

The server may be hostile (see `server`): a message has a maximum length, and so has a line.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from indelible.cli import screen
from indelible.cli.failure import ExitCode, Failure
from indelible.cli.server import Parameter, Server

PATH: Final = "/api/debug/stream"
MOST_BLOCK_BYTES: Final = 1024 * 1024
"""Of one message; the server's own are far shorter."""
_AGAIN_S: Final = 1.0


class Block(NamedTuple):
    """One message of the stream: the place behind it, and its JSON; either may be empty."""

    id: str
    data: bytes


def followed(server: Server, **parameters: Parameter) -> Iterator[dict[str, Any]]:
    """Messages as they come, for as long as the caller wants them.

    A connection that breaks off is opened again, and goes on where it was: what cannot be sent any
    more comes as a gap. Only the first failure to connect is raised.
    """
    place, is_away, has_been_there = "", False, False
    while True:
        try:
            headers = {"last-event-id": place} if place else {}
            with server.stream(PATH, headers, **parameters) as pieces:
                has_been_there = True
                for block in blocks(server, pieces):
                    if is_away:
                        screen.note((f"{server.access.url} answers again", screen.GOOD))
                        is_away = False
                    place = block.id or place
                    if block.data:
                        yield _decoded(server, block.data)
            if parameters.get("seconds") is not None:
                return
        except Failure as failure:
            if failure.exit_code is not ExitCode.BROKEN or not has_been_there:
                raise
            if not is_away:
                screen.note((f"{failure.code}: {failure.message}; waiting for it", screen.UNSURE))
            is_away = True
        time.sleep(_AGAIN_S)
        # What is there already was asked for at the first time only.
        parameters["recent"] = None


def blocks(server: Server, pieces: Iterable[bytes]) -> Iterator[Block]:
    """The blocks of an event stream. Comments, and fields that are of no use here, are skipped."""
    text = b""
    for piece in pieces:
        text += piece.replace(b"\r\n", b"\n")
        *whole, text = text.split(b"\n\n")
        for block in whole:
            yield _block(block)
        if len(text) > MOST_BLOCK_BYTES:
            raise server.bad_answer(f"sent a message of more than {MOST_BLOCK_BYTES:,} bytes")


def _block(block: bytes) -> Block:
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    place = fields.get(b"id", b"").decode("ascii", "ignore")
    return Block(place, fields.get(b"data", b""))


def _decoded(server: Server, data: bytes) -> dict[str, Any]:
    import msgspec

    try:
        message = msgspec.json.decode(data, type=dict[str, Any])
        assert isinstance(message["kind"], str)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, AssertionError):
        raise server.bad_answer("sent a message that cannot be read") from None
    return message
