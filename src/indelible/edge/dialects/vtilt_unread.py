"""Events of vTilt's dialect before the gate has opened: cut out of a body, with their tokens.

Nearly every event has nothing but the members of `Usual`, and these of the usual types. One typed
decode reads such an event, which costs half of taking it apart into its members (`Sent`). Nothing
in an event's properties is decoded here but a token.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from indelible.edge.arrival import Dropped
from indelible.edge.shallow import SHORT, WINDOW, TooManyMembers, members
from indelible.event import DropReason

ANY: Final = msgspec.json.Decoder()

LONGEST_TOKEN_BYTES: Final = 1_024
"""No token is as long. A longer id is not repeated where an event is refused for its size."""

NO_PROPERTIES: Final = b"{}"

_TOKEN_FIELDS: Final = frozenset({"api_key", "token", "$token"})
_NONE: Final = msgspec.Raw(b"null")


class Usual(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An event as it usually is. A member that is null says as much as one that is absent."""

    event: str | None = None
    distinct_id: str | None = None
    properties: msgspec.Raw = msgspec.Raw(NO_PROPERTIES)
    uuid: str | None = None
    timestamp: str | None = None
    process_id: msgspec.Raw | UnsetType = UNSET
    sequence: msgspec.Raw | UnsetType = UNSET
    api_key: str | None = None
    token: str | None = None
    dollar_token: str | None = msgspec.field(default=None, name="$token")


class Sent(msgspec.Struct, gc=False):
    """Any other event: its members, without its tokens."""

    fields: dict[str, msgspec.Raw]


Unread = Usual | Sent | Dropped
"""An event that was cut out of a body and not yet looked into."""


class _Inner(msgspec.Struct, gc=False):
    """What is looked for in properties before they are decoded; msgspec skips the rest."""

    token: msgspec.Raw = _NONE


_INNER: Final = msgspec.json.Decoder(_Inner)
_USUAL: Final = msgspec.json.Decoder(Usual)


def cut_out(
    events: list[msgspec.Raw], tokens: list[str], inner_tokens: list[str] | None
) -> list[Unread]:
    """Read each event of a batch as far as the gate needs it, and find its tokens.

    Those of properties go to `inner_tokens`, if that is given. Events of one body look alike, so
    after one that is not usual no other is tried as such.
    """
    unread: list[Unread] = []
    is_usual = True
    for raw in events:
        if is_usual and len(memoryview(raw)) <= SHORT:
            try:
                usual = _USUAL.decode(raw)
            except msgspec.DecodeError:
                is_usual = False
            else:
                take_tokens_of_usual(usual, tokens, inner_tokens)
                unread.append(usual)
                continue
        try:
            fields = members(raw)
        except msgspec.DecodeError:
            unread.append(Dropped(DropReason.INVALID_EVENT))
        except TooManyMembers:
            unread.append(Dropped(DropReason.EVENT_TOO_LARGE))
        else:
            take_tokens(fields, tokens, inner_tokens)
            unread.append(Sent(fields))
    return unread


def take_tokens_of_usual(usual: Usual, tokens: list[str], inner_tokens: list[str] | None) -> None:
    """As `take_tokens`."""
    if usual.api_key is not None:
        tokens.append(usual.api_key)
    if usual.token is not None:
        tokens.append(usual.token)
    if usual.dollar_token is not None:
        tokens.append(usual.dollar_token)
    if inner_tokens is not None:
        _take_inner_token(usual.properties, inner_tokens)


def take_tokens(
    fields: dict[str, msgspec.Raw], tokens: list[str], inner_tokens: list[str] | None
) -> None:
    """Move the tokens out of the members of an event or a body."""
    if inner_tokens is not None and (properties := fields.get("properties")) is not None:
        _take_inner_token(properties, inner_tokens)
    if _TOKEN_FIELDS.isdisjoint(fields):
        return
    for name in _TOKEN_FIELDS:
        raw = fields.pop(name, None)
        if raw is not None:
            # Of another type or empty, it names no project; it is still a token that was sent.
            view = memoryview(raw)
            sent = bytes(view if len(view) <= SHORT else view[:LONGEST_TOKEN_BYTES])
            try:
                value = ANY.decode(sent)
            except msgspec.DecodeError:  # cut off, or a number that is none
                value = sent
            if value is not None:
                tokens.append(value if isinstance(value, str) else sent.decode(errors="replace"))


def _take_inner_token(properties: msgspec.Raw, inner_tokens: list[str]) -> None:
    if size_of(properties) > WINDOW:
        return
    try:
        token = _INNER.decode(properties).token
        if token is not _NONE and size_of(token) <= LONGEST_TOKEN_BYTES:
            value = ANY.decode(token)
            if isinstance(value, str):
                inner_tokens.append(value)
    except msgspec.DecodeError:
        pass  # no object, or the token is none


def size_of(raw: msgspec.Raw) -> int:
    """How many bytes of JSON it is."""
    return len(memoryview(raw))
