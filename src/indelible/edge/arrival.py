"""What the steps of the edge hand to each other."""

from collections.abc import Mapping

from msgspec import Struct

from indelible.event import WarnReason
from indelible.registry.values import BotPolicy, Key, Project


class Arrival(Struct, frozen=True, gc=False):
    """What is true of every event of one request.

    `key` is the token that it came with. `bot_policy` is the project's, or the route's default;
    `is_bot` what the User-Agent says, and `is_browser` what the other headers say.
    """

    project: Project
    key: Key
    route: str
    received_at_ms: int
    is_bot: bool
    is_browser: bool
    bot_policy: BotPolicy
    max_event_bytes: int


class Sighting(Struct, frozen=True, gc=False):
    """One product event as it was read, whatever dialect it came in.

    Attributes:
        size_bytes: length of the event's JSON as sent.
        depth: how deep its objects and lists are nested, the event itself counted.
        name, distinct_id: None where missing or of the wrong type.
        client_id: the event id that the client sent, if any.
        properties: the bytes of the properties value as sent; ``{}`` when there was none.
        property_count: how many keys it has.
        timestamp: the client's own time, as sent; None when absent.
        rest: the members of the record besides the above, by name.
        warnings: what was noticed so far.
    """

    size_bytes: int
    depth: int
    name: str | None
    distinct_id: str | None
    client_id: str | None
    properties: bytes
    property_count: int
    timestamp: object
    rest: Mapping[str, object]
    warnings: tuple[WarnReason, ...] = ()
