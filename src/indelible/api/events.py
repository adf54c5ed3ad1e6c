"""Reading: ``GET /v1/events``, one event, where an id is, and the export of a whole log."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio.to_thread
import msgspec
from litestar import get
from litestar.params import QueryParameter
from litestar.response import Stream

from indelible.api.guard import TheEvents, TheProject
from indelible.event import Kind
from indelible.query.events import DEFAULT_LIMIT, MAX_LIMIT, Page, Search, View

_INDEX_LIMIT = 2**40
_TEXT = {"max_length": 1_024}

KindName = Literal["product", "audit", "erasure", "administration", "loss"]
assert {kind.word for kind in Kind} == set(KindName.__args__)  # type: ignore[attr-defined]


class Found(msgspec.Struct):
    """The events that go by an id; empty when nothing is known by it."""

    id: str
    events: list[View]


@get("/v1/events", sync_to_thread=True, tags=["read"], summary="Search events")
def search_events(
    project_of: TheProject,
    events: TheEvents,
    kind: KindName | None = None,
    type_: Annotated[str | None, QueryParameter(name="type", **_TEXT)] = None,
    event_name: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    service: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    env: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    request_id: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    trace_id: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    immutable_trail: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    distinct_id: Annotated[str | None, QueryParameter(**_TEXT)] = None,
    stored_from: Annotated[
        str | None,
        QueryParameter(name="from", description="Stored at this time or later.", **_TEXT),
    ] = None,
    stored_to: Annotated[
        str | None, QueryParameter(name="to", description="Stored before this time.", **_TEXT)
    ] = None,
    order: Literal["newest", "oldest"] = "newest",
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, QueryParameter(description="`next` of the page before.", max_length=200)
    ] = None,
    after: Annotated[
        int | None,
        QueryParameter(
            description="Begin behind this index; with order=oldest.", ge=-1, lt=_INDEX_LIMIT
        ),
    ] = None,
) -> Page:
    """Walks the log, a bounded number of entries a request: a page may be short, even empty, and
    still have a `next`. Pages are stable while events are added."""
    search = Search(
        kind=kind,
        type=type_,
        event_name=event_name,
        service=service,
        env=env,
        request_id=request_id,
        trace_id=trace_id,
        immutable_trail=immutable_trail,
        distinct_id=distinct_id,
        stored_from=stored_from,
        stored_to=stored_to,
    )
    return events.search(project_of, search, order=order, limit=limit, cursor=cursor, after=after)


@get("/v1/events/{tx_id:str}", sync_to_thread=True, tags=["read"], summary="One event")
def read_event(project_of: TheProject, events: TheEvents, tx_id: str) -> dict[str, Any]:
    """One event as it was sent, with every step of its life and the time of each."""
    return events.one(project_of, tx_id)


@get("/v1/where", sync_to_thread=True, tags=["read"], summary="Where is my event?")
def where(
    project_of: TheProject,
    events: TheEvents,
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
    return Found(id_, events.where(project_of, id_))


@get("/v1/export", tags=["read"], summary="Export the log", media_type="application/x-ndjson")
async def export(
    project_of: TheProject,
    events: TheEvents,
    start: Annotated[int, QueryParameter(description="First index.", ge=0, lt=_INDEX_LIMIT)] = 0,
    end: Annotated[
        int | None, QueryParameter(description="Index to stop before.", ge=0, lt=_INDEX_LIMIT)
    ] = None,
) -> Stream:
    """The log as NDJSON, one event a line in log order, streamed."""

    async def pieces() -> AsyncIterator[bytes]:
        export = events.export(project_of, start=start, end=end)
        while (piece := await anyio.to_thread.run_sync(next, export, b"")) != b"":
            yield piece

    return Stream(pieces(), media_type="application/x-ndjson")


ROUTES = [search_events, read_event, where, export]
