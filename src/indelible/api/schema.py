"""``/v1/schema``: what traffic looks like, and the contracts that it is held to.

An event is named by a parameter, not by a part of the path: its name may have any characters, and
a slash of a path that is written as %2F does not survive every proxy.
"""

from typing import Annotated, Final, Literal

import msgspec
from litestar import delete, get, put
from litestar.params import JSONBody, QueryParameter, RawBody

from indelible.api.guard import (
    BODY_REFUSALS,
    READ_REFUSALS,
    TheJournal,
    TheProject,
    TheRegistry,
    TheSchema,
)
from indelible.errors import Forbidden, InvalidCursor, InvalidParameter, NotFound, Unavailable
from indelible.event import Kind
from indelible.quality.book import MAX_CONTRACTS
from indelible.quality.contract import Contract, usable
from indelible.quality.learning import CONTRACT_DROPPED, CONTRACT_SET
from indelible.quality.shape import name_of
from indelible.query.schema import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    ContractView,
    EventView,
    SchemaPage,
)
from indelible.registry.values import SERVER_ID, Project

_IN_FORCE_WITHIN_S: Final = 3.0
"""How long a change of a contract waits for what learns from the log."""

KindName = Literal["product", "audit"]
AnyKindName = Literal["any", "product", "audit"]
EventName = Annotated[
    str,
    QueryParameter(name="event", description="The event's name.", min_length=1, max_length=1_024),
]
TheKind = Annotated[
    KindName, QueryParameter(name="kind", description="Whether it is a product or audit event.")
]


class ContractDropped(msgspec.Struct):
    """The event that has no contract any more."""

    event: str
    kind: str


@get(
    "/v1/schema",
    sync_to_thread=True,
    summary="List events",
    response_description="One page of events, and the cursor of the next.",
    opt={"refusals": (*READ_REFUSALS, InvalidCursor, Unavailable)},
)
def list_schema(
    project_of: TheProject,
    schema: TheSchema,
    kind: Annotated[
        AnyKindName, QueryParameter(description="Only product or only audit events.")
    ] = "any",
    limit: Annotated[
        int, QueryParameter(description="Most events of a page.", ge=1, le=MAX_LIMIT)
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, QueryParameter(description="`next` of the page before.", max_length=8_192)
    ] = None,
) -> SchemaPage:
    """The names of all events, with how many there were. An audit event goes by its
    `meta.event_name`, or its `meta.type` if it has none. A name that looks like a value is shown by
    its shape, in braces. A second or two behind the log: `next_index` says how far."""
    return schema.page(
        project_of, kind=None if kind == "any" else _kind(kind), limit=limit, cursor=cursor
    )


@get(
    "/v1/schema/event",
    sync_to_thread=True,
    summary="Read the schema of an event",
    response_description="The event, its properties and its contract.",
    opt={"refusals": (*READ_REFUSALS, Unavailable)},
)
def read_event_schema(
    project_of: TheProject, schema: TheSchema, event: EventName, kind: TheKind = "product"
) -> EventView:
    """The properties of an event, as learned from those that were looked into: types, share, first
    and last seen, and the shapes of their values. No value is kept."""
    return schema.event(project_of, _kind(kind), event)


@get(
    "/v1/schema/contract",
    tags=["read"],
    sync_to_thread=True,
    summary="Read a contract",
    response_description="The contract, and what does not fit it.",
    opt={"refusals": (*READ_REFUSALS, Unavailable)},
)
def read_contract(
    project_of: TheProject, schema: TheSchema, event: EventName, kind: TheKind = "product"
) -> ContractView:
    """The contract of an event, and by rule how many events do not fit it."""
    return schema.contract(project_of, _kind(kind), event)


@put(
    "/v1/schema/contract",
    tags=["manage"],
    sync_to_thread=True,
    status_code=200,
    summary="Set a contract",
    response_description="The contract, in force.",
    opt={"refusals": (*BODY_REFUSALS, NotFound, Forbidden, Unavailable)},
)
def set_contract(
    registry: TheRegistry,
    journal: TheJournal,
    schema: TheSchema,
    project_of: TheProject,
    event: EventName,
    data: JSONBody[Contract],  # noqa: ARG001 — described, and refused where it is none
    body: RawBody,
    kind: TheKind = "product",
) -> ContractView:
    """Holds the events of this name to a contract from now on, in place of the one before. Nothing
    is refused: what does not fit is counted. The change is an event of the project's log, and so
    it has a receipt; as such it cannot be erased, so name no person's data in it."""
    _refuse_server(project_of)
    contract = usable(_strictly(body))
    which, name = _kind(kind), name_of(event)
    try:
        schema.contract(project_of, which, name)
    except NotFound:
        if schema.contracts(project_of) >= MAX_CONTRACTS:
            raise InvalidParameter(
                f"The project has {MAX_CONTRACTS} contracts, the most it can have",
                hint="Drop one that is of no use: indelible contract drop EVENT.",
            ) from None
    facts = {"kind": kind, "event": name, "contract": msgspec.to_builtins(contract)}
    registry.change(CONTRACT_SET, facts, log=project_of.log)
    if schema.is_learned(
        project_of, journal.next_index(project_of.id), timeout_s=_IN_FORCE_WITHIN_S
    ):
        return schema.contract(project_of, which, name)
    return ContractView(name, kind, contract, None, 0, 0, [], 0)


@delete(
    "/v1/schema/contract",
    tags=["manage"],
    sync_to_thread=True,
    status_code=200,
    summary="Drop a contract",
    response_description="The event that had it.",
    opt={"refusals": (*READ_REFUSALS, Unavailable)},
)
def drop_contract(
    registry: TheRegistry,
    journal: TheJournal,
    schema: TheSchema,
    project_of: TheProject,
    event: EventName,
    kind: TheKind = "product",
) -> ContractDropped:
    """Holds the events of this name to no contract any more. The change is an event of the
    project's log."""
    which, name = _kind(kind), name_of(event)
    schema.contract(project_of, which, name)
    registry.change(CONTRACT_DROPPED, {"kind": kind, "event": name}, log=project_of.log)
    schema.is_learned(project_of, journal.next_index(project_of.id), timeout_s=_IN_FORCE_WITHIN_S)
    return ContractDropped(name, kind)


ROUTES = [list_schema, read_event_schema]
CONTRACT_ROUTES = [read_contract, set_contract, drop_contract]


def _strictly(body: bytes) -> Contract:
    """The contract with its values as they were sent: the framework takes 0 for false.

    Raises:
        InvalidParameter.
    """
    try:
        return msgspec.json.decode(body, type=Contract)
    except msgspec.ValidationError as error:
        raise InvalidParameter(str(error)) from None


def _kind(name: KindName) -> Kind:
    return Kind[name.upper()]


def _refuse_server(project: Project) -> None:
    """
    Raises:
        InvalidParameter: nobody sends events to the server's own log.
    """
    if project.id == SERVER_ID:
        raise InvalidParameter("The server's own log has no events to hold to a contract")
