"""Persons: listed, looked at, merged and taken apart."""

from typing import Annotated, Final

import msgspec
from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter

from indelible.api.events import condition_of
from indelible.api.guard import (
    BODY_REFUSALS,
    READ_REFUSALS,
    ThePersons,
    TheProject,
    TheRegistry,
)
from indelible.api.managed import Name
from indelible.api.paths import id_of
from indelible.errors import (
    InvalidCondition,
    InvalidCursor,
    InvalidParameter,
    NotFound,
    NotMergeable,
    NotUnmergeable,
    Unavailable,
)
from indelible.identity.decisions import MAX_MERGED, MAX_TAKEN_OUT
from indelible.journal.contract import LARGEST_INDEX
from indelible.moment import parse_time_ms
from indelible.query.persons import (
    DEFAULT_LIMIT,
    MAX_IDS,
    MAX_LIMIT,
    Choice,
    History,
    IdList,
    MergeDone,
    MergeList,
    PersonDetails,
    PersonList,
    Timeline,
)

_MAX_BODY_BYTES: Final = 1024 * 1024  # a thousand ids of 200 characters

_REFUSALS: Final = (*READ_REFUSALS, Unavailable)
_OF_PAGES: Final = (*_REFUSALS, InvalidCursor)

Who = Annotated[
    str,
    PathParameter(
        description="A person id, `per_…`, or any distinct id of the person, percent-encoded: a "
        "slash is %2F.",
    ),
]
At = Annotated[
    int | None,
    QueryParameter(
        description="As known at this index: the fold of the entries below it, without what has "
        "been erased since. Not past the end of the log.",
        gt=-1,
        le=LARGEST_INDEX,
    ),
]
Limit = Annotated[int, QueryParameter(description="Most of a page.", ge=1, le=MAX_LIMIT)]
Cursor = Annotated[
    str | None, QueryParameter(description="`next` of the page before.", max_length=200)
]
PersonFilter = Annotated[
    str | None,
    QueryParameter(
        name="filter",
        description='A condition on the person, such as `properties.plan = "pro"`: its facts are '
        "`properties`, `distinct_id` (of its principal) and `received_at` (when it was last seen).",
    ),
]
DistinctId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class MergeWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Persons that are to become one, each by its person id or any of its distinct ids. Without a
    `project` it is `default`."""

    ids: Annotated[list[DistinctId], msgspec.Meta(min_length=2, max_length=MAX_MERGED)]
    project: Name | None = None


class UnmergeWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A person that is to be taken apart, by its person id or any of its distinct ids: every id by
    itself; or only `ids` leave it; or the merge at the index `merge` is undone."""

    id: DistinctId
    ids: (
        Annotated[list[DistinctId], msgspec.Meta(min_length=1, max_length=MAX_TAKEN_OUT)] | None
    ) = None
    merge: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_INDEX)] | None = None
    project: Name | None = None


@get(
    "/v1/persons",
    sync_to_thread=True,
    summary="List persons",
    response_description="One page of persons, and the cursor of the next.",
    opt={"refusals": (*_OF_PAGES, InvalidCondition)},
)
def list_persons(
    project_of: TheProject,
    people: ThePersons,
    id_: Annotated[
        str | None,
        QueryParameter(
            name="id",
            description="Only the person with this person id or distinct id.",
            min_length=1,
            max_length=200,
        ),
    ] = None,
    filter_: PersonFilter = None,
    last_seen_from: Annotated[
        str | None,
        QueryParameter(
            description="Last seen at this time or later: RFC 3339, or a number of seconds or "
            "milliseconds since 1970.",
            max_length=1_024,
        ),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> PersonList:
    """The persons of a project, last seen first. A page looks at 1,000 persons at most: it may be
    short, even empty, and still have a `next`."""
    choice = Choice(condition_of(filter_), _time(last_seen_from), id_)
    return people.page(project_of, choice, limit=limit, cursor=cursor)


@get(
    "/v1/persons/{person:str}",
    sync_to_thread=True,
    summary="Read one person",
    response_description="The person.",
    opt={"refusals": _REFUSALS},
)
def read_person(
    project_of: TheProject, people: ThePersons, person: Who, at: At = None
) -> PersonDetails:
    """A person with its properties, its ids, and the newest facts that joined or parted them."""
    return people.one(project_of, id_of(person), at=at)


@get(
    "/v1/persons/{person:str}/ids",
    sync_to_thread=True,
    summary="List the ids of a person",
    response_description="One page of ids, and the cursor of the next.",
    opt={"refusals": _OF_PAGES},
)
def list_ids(
    project_of: TheProject,
    people: ThePersons,
    person: Who,
    at: At = None,
    limit: Annotated[int, QueryParameter(description="Most of a page.", ge=1, le=MAX_IDS)] = (
        DEFAULT_LIMIT
    ),
    cursor: Cursor = None,
) -> IdList:
    """Every id of a person, the principal first, then in the order in which they were seen."""
    return people.ids(project_of, id_of(person), at=at, limit=limit, cursor=cursor)


@get(
    "/v1/persons/{person:str}/merges",
    sync_to_thread=True,
    summary="List the merge facts of a person",
    response_description="One page of facts, and the cursor of the next.",
    opt={"refusals": _OF_PAGES},
)
def list_merges(
    project_of: TheProject,
    people: ThePersons,
    person: Who,
    at: At = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> MergeList:
    """Every fact of the log that joined, would have joined, or parted ids of the person, newest
    first: what was refused, and why, too."""
    return people.merges(project_of, id_of(person), at=at, limit=limit, cursor=cursor)


@get(
    "/v1/persons/{person:str}/history",
    sync_to_thread=True,
    summary="Read the history of a person's properties",
    response_description="One page of writes, and the cursor of the next.",
    opt={"refusals": _OF_PAGES},
)
def read_history(
    project_of: TheProject,
    people: ThePersons,
    person: Who,
    at: At = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> History:
    """What each event wrote of the person's properties, newest first, as it was sent."""
    return people.history(project_of, id_of(person), at=at, limit=limit, cursor=cursor)


@get(
    "/v1/persons/{person:str}/timeline",
    sync_to_thread=True,
    summary="Read the events of a person",
    response_description="One page of events, and the cursor of the next.",
    opt={"refusals": _OF_PAGES},
)
def read_timeline(
    project_of: TheProject,
    people: ThePersons,
    person: Who,
    at: At = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Timeline:
    """The product events of all ids of the person, and the audit events whose `actor` is one of
    them, newest first."""
    return people.timeline(project_of, id_of(person), at=at, limit=limit, cursor=cursor)


_LATER: Final = {
    202: ResponseSpec(
        MergeDone,
        generate_examples=False,
        description="The event is stored; the persons are not up to date yet.",
    )
}


@post(
    "/v1/persons/merge",
    sync_to_thread=True,
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    summary="Merge persons",
    response_description="The person that they are now.",
    responses=_LATER,
    opt={"refusals": (*BODY_REFUSALS, NotFound, NotMergeable, Unavailable)},
)
def merge_persons(
    registry: TheRegistry, people: ThePersons, data: JSONBody[MergeWanted]
) -> Response[MergeDone]:
    """Makes persons one, also two identified ones, which no event can. An `administration` event of
    the log says so, with keys of the ids and no id. It can be undone."""
    project = registry.snapshot.project(data.project or "default")
    return _answer(people.merge(project, data.ids))


@post(
    "/v1/persons/unmerge",
    sync_to_thread=True,
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    summary="Take a person apart",
    response_description="The persons that there are now.",
    responses=_LATER,
    opt={"refusals": (*BODY_REFUSALS, NotFound, NotUnmergeable, Unavailable)},
)
def unmerge_person(
    registry: TheRegistry, people: ThePersons, data: JSONBody[UnmergeWanted]
) -> Response[MergeDone]:
    """Takes a person apart: every id by itself, or only the ids named leave it, or one merge is
    undone as if it had never been. No event joins what was taken apart again; a merge does. An
    `administration` event of the log says so, with keys of the ids and no id."""
    if data.ids is not None and data.merge is not None:
        raise InvalidParameter("Name either ids or merge, or neither for the whole person")
    project = registry.snapshot.project(data.project or "default")
    return _answer(people.unmerge(project, data.id, taken_out=data.ids, merge=data.merge))


ROUTES = [list_persons, read_person, list_ids, list_merges, read_history, read_timeline]
CHANGES = [merge_persons, unmerge_person]


def _answer(done: MergeDone) -> Response[MergeDone]:
    return Response(done, status_code=200 if done.folded else 202)


def _time(text: str | None) -> int | None:
    """
    Raises:
        InvalidParameter.
    """
    if text is None:
        return None
    at_ms = parse_time_ms(text)
    if at_ms is None or at_ms < 0:
        raise InvalidParameter(
            "`last_seen_from` is no moment that can be read",
            hint="Send RFC 3339 text, or seconds or milliseconds since 1970; write + as %2B.",
        )
    return at_ms
