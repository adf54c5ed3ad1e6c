"""Reading: ``GET /v1/events``, one event, where an id is, and the export of a whole log."""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from litestar import Response, get
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from indelible.access import Scope
from indelible.api.guard import (
    READ_REFUSALS,
    Connection,
    TheEvents,
    ThePersons,
    TheProject,
    TheReading,
)
from indelible.condition import MAX_BYTES, Condition, read
from indelible.errors import InvalidCondition, InvalidCursor, QueryScopeMissing, Unavailable
from indelible.event import Kind
from indelible.journal.contract import LARGEST_INDEX
from indelible.query.events import DEFAULT_LIMIT, MAX_LIMIT, Page
from indelible.query.facts import View
from indelible.query.search import Order, Search

NDJSON: Final = "application/x-ndjson"
_TEXT: Final[dict[str, Any]] = {"max_length": 1_024}

KindName = Literal["any", "product", "audit", "erasure", "administration", "loss"]
assert ("any", *(kind.word for kind in Kind)) == get_args(KindName)


TheFilter = Annotated[
    str | None,
    QueryParameter(
        name="filter",
        description='A condition, such as `event = "purchase" and properties.amount >= 100`, in '
        f"its text or its JSON form; at most {MAX_BYTES:,} bytes. See "
        "docs/reference/conditions.md.",
    ),
]
ReceivedFrom = Annotated[
    str | None,
    QueryParameter(
        name="from",
        description="Received at this time or later: RFC 3339, or a number of seconds or "
        "milliseconds since 1970.",
        **_TEXT,
    ),
]
ReceivedTo = Annotated[
    str | None, QueryParameter(name="to", description="Received before this time.", **_TEXT)
]


class Found(msgspec.Struct):
    """The events that go by an id; empty when nothing is known by it."""

    id: str
    events: list[View]


@get(
    "/v1/events",
    summary="Search events",
    response_description="One page, and the cursor of the next.",
    opt={"refusals": (*READ_REFUSALS, InvalidCondition, InvalidCursor)},
)
async def search_events(
    project_of: TheProject,
    events: TheEvents,
    reading: TheReading,
    kind: Annotated[KindName, QueryParameter(description="What sort of event.")] = "any",
    type_: Annotated[
        str | None, QueryParameter(name="type", description="`meta.type`.", **_TEXT)
    ] = None,
    event_name: Annotated[
        str | None,
        QueryParameter(description="The name of a product event, or `meta.event_name`.", **_TEXT),
    ] = None,
    service: Annotated[str | None, QueryParameter(description="`meta.service`.", **_TEXT)] = None,
    env: Annotated[
        str | None, QueryParameter(description="`meta.env` or `meta.environment`.", **_TEXT)
    ] = None,
    request_id: Annotated[
        str | None, QueryParameter(description="`meta.request_id`.", **_TEXT)
    ] = None,
    trace_id: Annotated[str | None, QueryParameter(description="`meta.trace_id`.", **_TEXT)] = None,
    immutable_trail: Annotated[
        str | None, QueryParameter(description="`meta.immutable_trail`.", **_TEXT)
    ] = None,
    distinct_id: Annotated[
        str | None, QueryParameter(description="Of product events.", **_TEXT)
    ] = None,
    filter_: TheFilter = None,
    received_from: ReceivedFrom = None,
    received_to: ReceivedTo = None,
    order: Annotated[Order, QueryParameter(description="Which come first.")] = "newest",
    limit: Annotated[
        int, QueryParameter(description="Most events of a page.", ge=1, le=MAX_LIMIT)
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, QueryParameter(description="`next` of the page before.", max_length=200)
    ] = None,
    after: Annotated[
        int,
        QueryParameter(description="Only events behind this index.", ge=-1, lt=LARGEST_INDEX),
    ] = -1,
) -> Response[Page]:
    """Walks the log. What a request looks at is bounded in entries and in bytes: a page may be
    short, even empty, and still have a `next`. Pages are stable while events are added."""
    search = Search(
        kind=None if kind == "any" else kind,
        type=type_,
        event_name=event_name,
        service=service,
        env=env,
        request_id=request_id,
        trace_id=trace_id,
        immutable_trail=immutable_trail,
        distinct_id=distinct_id,
        received_from=received_from,
        received_to=received_to,
        filter=condition_of(filter_),
    )

    def page() -> bytes:
        return events.search(
            project_of, search, order=order, limit=limit, cursor=cursor, after=after
        ).encode()

    encoded: Any = await reading.made(
        project_of.id, page
    )  # a Page, as far as a caller of the route can tell
    return Response(encoded, media_type="application/json")


@get(
    "/v1/events/{tx_id:str}",
    sync_to_thread=True,
    summary="Read one event",
    response_description="The event, with its life.",
    opt={"refusals": READ_REFUSALS},
)
def read_event(
    project_of: TheProject,
    events: TheEvents,
    people: ThePersons,
    tx_id: Annotated[str, PathParameter(description="The event's transaction id, `tx_…`.")],
) -> View:
    """One event as it was sent, with every step of its life and the time of each."""
    return people.resolved(project_of, events.one(project_of, tx_id))


@get(
    "/v1/where",
    sync_to_thread=True,
    summary="Where is my event?",
    response_description="The events that go by the id; none when it is unknown.",
    opt={"refusals": READ_REFUSALS},
)
def where(
    project_of: TheProject,
    events: TheEvents,
    people: ThePersons,
    id_: Annotated[
        str,
        QueryParameter(
            name="id",
            description="A transaction id, the client's event id, or an Idempotency-Key.",
            min_length=1,
            max_length=512,
        ),
    ],
) -> Found:
    """Looks an id up in both lanes; `events` is empty when nothing is known by it."""
    found = events.where(project_of, id_)
    return Found(id_, [people.resolved(project_of, event) for event in found])


@get(
    "/v1/export",
    summary="Export the log",
    media_type=NDJSON,
    response_description="The events, one a line.",
    opt={"refusals": (*READ_REFUSALS, InvalidCondition, QueryScopeMissing, Unavailable)},
)
async def export(
    request: Connection,
    project_of: TheProject,
    events: TheEvents,
    people: ThePersons,
    reading: TheReading,
    filter_: TheFilter = None,
    received_from: ReceivedFrom = None,
    received_to: ReceivedTo = None,
    person: Annotated[
        str | None,
        QueryParameter(
            description="Only the product events of this person, by its person id or any distinct "
            "id; takes the scope `query`.",
            min_length=1,
            max_length=200,
        ),
    ] = None,
    actor: Annotated[
        str | None,
        QueryParameter(
            description="Only the audit events with this actor; with `person`, these too. Takes "
            "the scope `query`.",
            min_length=1,
            max_length=200,
        ),
    ] = None,
    start: Annotated[int, QueryParameter(description="First index.", gt=-1, le=LARGEST_INDEX)] = 0,
    end: Annotated[
        int,
        QueryParameter(
            description="Index to stop before; the end of the log when left out.",
            gt=-1,
            le=LARGEST_INDEX,
        ),
    ] = LARGEST_INDEX,
) -> Stream:
    """The log as NDJSON, one event a line in log order, streamed. It ends with the last event that
    was there when it began. While nothing matches, nothing is sent: where something in front ends
    silent answers, ask for ranges of indexes one by one."""

    search = Search(
        received_from=received_from, received_to=received_to, filter=condition_of(filter_)
    )
    only: list[int] | None = None
    if person is not None or actor is not None:
        request.auth.require(Scope.QUERY)
        only = await reading.made(project_of.id, lambda: people.indexes(project_of, person, actor))
    lines = events.export(project_of, search, start=start, end=end, only=only)
    return Stream(reading.pieces(project_of.id, lines), media_type=NDJSON)


def condition_of(given: str | None) -> Condition | None:
    """Read a filter.

    Raises:
        InvalidCondition.
    """
    return None if given is None else read(given)


ROUTES = [search_events, read_event, where, export]
