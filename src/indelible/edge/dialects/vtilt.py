"""vTilt's dialect, ``/api/e``. PostHog's v0 bodies are the same shapes.

    {"api_key", "event", "distinct_id", "properties"}     one event
    {"api_key", "batch": [...], "sent_at"?, "lost"?, …}   a batch; `token` will do for `api_key`
    [...]                                                 a batch; the token in each event

Optional in an event: `uuid`, `timestamp`, `$set`, `$set_once`, `$unset`, `process_id`, `sequence`.
Unknown members are kept in the record under `$extra`, and so are the last two where they are not
what they should be. PHP writes an empty object as an empty list: in `properties`, `$set` and
`$set_once` it is read as one, and stored as sent. Reading never fails for one bad event: it becomes
a `Dropped`.

`read` finds the tokens and cuts the body into events; each of them is decoded only after the gate
has opened (`vtilt_event`), and only if it is not too long.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from indelible.edge.brackets import Text
from indelible.edge.dialect import Call, Dialect, Path, Reading
from indelible.edge.dialects.vtilt_event import look_into
from indelible.edge.dialects.vtilt_schema import schema
from indelible.edge.dialects.vtilt_unread import (
    ANY,
    Sent,
    Unread,
    Usual,
    cut_out,
    size_of,
    take_tokens,
    take_tokens_of_usual,
)
from indelible.edge.http import Request
from indelible.edge.lost import read_lost
from indelible.edge.results import answer_product
from indelible.edge.shallow import SHORT, Document, check_utf8, elements, parse
from indelible.errors import BatchTooLarge, EventRefused, InvalidJson
from indelible.event import DropReason, Lane
from indelible.record import Origin

# None of the members that describe a request is as long.
_LONGEST_FIELD_BYTES: Final = 256

_BATCH_FIELDS: Final = ("sent_at", "historical_migration")
_QUERY_TOKENS: Final = ("api_key", "token")

# How the name of a property `token` can begin, written as it is or with escapes.
_TOKEN: Final = b'"token"'
_ESCAPED: Final = b"\\u00"


class _Usual(Usual, gc=False, forbid_unknown_fields=True):
    """A body as it usually is: one event, or a batch and what describes it."""

    batch: list[msgspec.Raw] | UnsetType = UNSET
    sent_at: msgspec.Raw | UnsetType = UNSET
    historical_migration: msgspec.Raw | UnsetType = UNSET
    lost: msgspec.Raw | UnsetType = UNSET


_USUAL: Final = msgspec.json.Decoder(_Usual)


def read(text: Text, call: Call) -> Reading:
    """Read a body as far as the gate needs it.

    Raises:
        InvalidJson, EventRefused, BatchTooLarge.
    """
    if len(text) <= SHORT:
        check_utf8(text)
        try:
            return _read_usual(_USUAL.decode(text), text, call)
        except (msgspec.DecodeError, RecursionError):
            pass
    document, text = parse(text, most=call.limits.max_batch)
    try:
        return _read(document, text, call)
    except RecursionError:  # some calls further down than `parse`, which could just read it
        raise EventRefused(DropReason.TOO_DEEP) from None


def _read_usual(body: _Usual, text: Text, call: Call) -> Reading:
    """
    Raises:
        msgspec.DecodeError: it is not usual.
        BatchTooLarge.
    """
    events = body.batch
    if events is UNSET and not (body.sent_at is body.historical_migration is body.lost is UNSET):
        raise msgspec.DecodeError  # an event that has members of a batch
    reading = Reading(origin=_origin_of(call.path.path))
    inner_tokens = reading.inner_tokens if _may_have_inner_token(text) else None
    if events is UNSET:
        take_tokens_of_usual(body, reading.tokens, inner_tokens)
        return _with(reading, [body], [text], call)
    take_tokens_of_usual(body, reading.tokens, None)
    if len(events) > call.limits.max_batch:
        raise BatchTooLarge(size=len(events), limit=call.limits.max_batch)
    _note(
        reading, {name: raw for name in _BATCH_FIELDS if (raw := getattr(body, name)) is not UNSET}
    )
    reading.lost = read_lost(None if body.lost is UNSET else body.lost)
    return _with(reading, cut_out(events, reading.tokens, inner_tokens), events, call)


def _read(document: Document, text: Text, call: Call) -> Reading:
    reading = Reading(origin=_origin_of(call.path.path))
    # Of a long text, each event is looked at by itself.
    is_searched = len(text) > SHORT or _may_have_inner_token(text)
    inner_tokens = reading.inner_tokens if is_searched else None
    if isinstance(document, list):
        return _with(reading, cut_out(document, reading.tokens, inner_tokens), document, call)
    if "batch" not in document:
        take_tokens(document, reading.tokens, inner_tokens)
        return _with(reading, [Sent(document)], [text], call)
    take_tokens(document, reading.tokens, None)
    _note(reading, document)
    try:
        events = elements(document["batch"], most=call.limits.max_batch)
    except msgspec.ValidationError:
        raise InvalidJson("`batch` must be a list of events") from None
    reading.lost = read_lost(document.get("lost"))
    return _with(reading, cut_out(events, reading.tokens, inner_tokens), events, call)


def _with(
    reading: Reading,
    unread: Sequence[Unread],
    texts: Sequence[Text | msgspec.Raw],
    call: Call,
) -> Reading:
    """Give the reading its events, each with its text."""
    limit_bytes = call.limits.max_event_bytes
    reading.count = len(unread)
    reading.events = look_into(unread, texts, limit_bytes, reading.origin)
    return reading


def _note(reading: Reading, document: Mapping[str, msgspec.Raw]) -> None:
    """Note what a body says of its batch."""
    noted = {
        name: document[name]
        for name in _BATCH_FIELDS
        if name in document and _is_plain(document[name])
    }
    if noted:
        reading.origin = replace(reading.origin, **noted)
        reading.sent_at = ANY.decode(noted["sent_at"]) if "sent_at" in noted else None


def _may_have_inner_token(text: Text) -> bool:
    """Whether an event may have a property `token`."""
    return _TOKEN in text or _ESCAPED in text


@lru_cache(maxsize=64)
def _origin_of(route: str) -> Origin:
    return Origin(route=route)


def _is_plain(raw: msgspec.Raw) -> bool:
    """Whether it is a value short enough to be noted with each event of the request."""
    if size_of(raw) > _LONGEST_FIELD_BYTES:
        return False
    try:
        return not isinstance(ANY.decode(raw), dict | list)
    except msgspec.DecodeError:
        return False


def tokens(reading: Reading, request: Request) -> list[str]:
    """The tokens that decide, in the order of their places: body and events, query, properties."""
    query = request.query
    found = [*reading.tokens, *(query[name] for name in _QUERY_TOKENS if name in query)]
    return found or list(reading.inner_tokens)


_PATHS: Final = (Path("/api/e", ("POST", "GET"), crawlers="discard"),)
_ANSWER: Final = partial(answer_product, crawler_status=204)
DIALECT: Final = Dialect(Lane.PRODUCT, _PATHS, read, tokens, _ANSWER, schema)
