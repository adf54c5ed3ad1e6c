"""What happens now: ``GET /api/debug/stream`` and ``GET /api/analytics/realtime``."""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from litestar import get
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter, SkipValidation
from litestar.response import Stream

from indelible.api.events import TheFilter
from indelible.api.guard import READ_REFUSALS, TheProject
from indelible.condition import read
from indelible.errors import InvalidCondition, Stopping, TooManyStreams
from indelible.live.choice import Choice, KindWord, ResultWord, Wish
from indelible.live.live import Live
from indelible.live.streams import MOST_RECENT

EVENT_STREAM: Final = "text/event-stream"
MOST_SECONDS: Final = 24 * 60 * 60
"""A stream ends after this time at the latest; its client connects again, and goes on."""
_TEXT: Final[dict[str, Any]] = {"max_length": 1_024}

TheLive = NamedDependency[SkipValidation[Live]]
CountPersons = Callable[[int, list[str]], int]
"""How many persons these distinct ids of a project are."""
ThePersonsOf = NamedDependency[SkipValidation[CountPersons]]


class Minute(msgspec.Struct):
    """The events of one minute of the clock (UTC), which begins at `minute`, ms since 1970."""

    minute: int
    count: int


class Named(msgspec.Struct):
    """An event name, and how often it came."""

    name: str
    count: int


class Paged(msgspec.Struct):
    """A pathname, and how many events came from it."""

    path: str
    count: int


class NotListed(msgspec.Struct):
    """What found no room in the lists: events by name, events by pathname, distinct ids (of each
    half second). All 0 unless a project sends tens of thousands of different ones."""

    events: int
    pages: int
    ids: int


class Realtime(msgspec.Struct):
    """What happens now, in windows of received time that end at `as_of` and do not contain it.

    `active_users` are distinct ids of the last five minutes, `active_persons` the persons that they
    are, null while they are too many to be joined. Of the last 30 minutes: the events of each
    minute, the last being the one that is running; the ten names and the ten pathnames that came
    most often, ties by name. `late` events of the window were stored after an answer had been given
    for their time. `complete_from` is null, or the time from which on the windows are complete,
    after a restart.
    """

    as_of: int
    active_users: int
    active_persons: int | None
    events_per_minute: list[Minute]
    top_events: list[Named]
    top_pages: list[Paged]
    late: int
    complete_from: int | None
    unlisted: NotListed


@get(
    "/api/analytics/realtime",
    sync_to_thread=True,
    summary="What happens now, in figures",
    response_description="The windows of the realtime page.",
    opt={"refusals": READ_REFUSALS},
)
def realtime(project_of: TheProject, live: TheLive, count_persons: ThePersonsOf) -> Realtime:
    """Active users of five minutes, events a minute, top events and top pages of 30 minutes, of
    product events. `as_of` is less than a second ago unless the server is behind. It does not wait
    for any event store."""
    now = live.figures(project_of.id)
    found = now.figures
    persons = None
    if found.id_texts is not None:
        persons = count_persons(project_of.id, found.id_texts)
    return Realtime(
        as_of=found.as_of_ms,
        active_users=found.ids,
        active_persons=persons,
        events_per_minute=[Minute(minute, count) for minute, count in found.minutes],
        top_events=[Named(each.name, each.count) for each in found.names],
        top_pages=[Paged(each.name, each.count) for each in found.pages],
        late=found.late,
        complete_from=now.complete_from_ms,
        unlisted=NotListed(*found.unlisted),
    )


@get(
    "/api/debug/stream",
    summary="Watch events and refusals as they happen",
    media_type=EVENT_STREAM,
    response_description="Messages, as server-sent events.",
    response_headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    opt={"refusals": (*READ_REFUSALS, InvalidCondition, TooManyStreams, Stopping)},
)
async def debug_stream(
    project_of: TheProject,
    live: TheLive,
    filter_: TheFilter = None,
    kind: Annotated[
        KindWord | None,
        QueryParameter(description="What sort of message, or of stored event."),
    ] = None,
    result: Annotated[
        ResultWord | None,
        QueryParameter(
            description="`ok` or `warning`: stored. `drop`: an event that was not taken. "
            "`refused`: a whole request."
        ),
    ] = None,
    event: Annotated[
        str | None, QueryParameter(description="The name of an event.", **_TEXT)
    ] = None,
    distinct_id: Annotated[
        str | None, QueryParameter(description="Of product events.", **_TEXT)
    ] = None,
    recent: Annotated[
        int,
        QueryParameter(
            description="Begin with this many messages that are there already; a stream that is "
            "resumed begins where it ended.",
            ge=0,
            le=MOST_RECENT,
        ),
    ] = 0,
    seconds: Annotated[
        int,
        QueryParameter(
            description="End the stream after this time; 0: when all is sent that is there.",
            ge=0,
            le=MOST_SECONDS,
        ),
    ] = MOST_SECONDS,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(name="Last-Event-ID", description="The last `id` that was received."),
    ] = None,
) -> Stream:
    """Server-sent events: `event` (stored), `reject` (not taken, with its reason), `forwarding`
    (what became of an event at a destination) and `gap` (some were left out: `missed` says how
    many, null if nobody knows). `data` is one line of JSON with the same `kind`. Goes on until one
    side ends it; a comment every 15 s shows that it is there. See docs/how-to/live.md."""
    condition = None if filter_ is None else read(filter_)
    choice = Choice(Wish(kind, result, event, distinct_id, condition))
    stream = await live.streams.open(
        project_of.id, choice, last_event_id=last_event_id, recent=recent, seconds=seconds
    )
    return Stream(
        stream.lines(), media_type=EVENT_STREAM, background=BackgroundTask(_close, stream.close)
    )


async def _close(close: Callable[[], None]) -> None:
    close()


ROUTES = [realtime, debug_stream]
