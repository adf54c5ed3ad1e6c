"""Who is asking: the gate, as guards and dependencies of Litestar's routes.

Guards run before anything of the request is read or checked, so a caller without a key learns
nothing of what a route takes. All of them are coroutine functions: the framework calls a plain one
on a thread of the readers, where health and refusals would wait behind every read that hangs.
"""

from typing import Annotated, Any, Final

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter, SkipValidation
from litestar.types import Guard

from indelible.access import ROUTES, Access, Door, Scope
from indelible.api.reading import Reading
from indelible.edge.gate import Gate, has_bearer
from indelible.errors import (
    BodyTooLarge,
    Forbidden,
    IndelibleError,
    InvalidApiKey,
    InvalidJson,
    InvalidParameter,
    IpNotAllowed,
    NotFound,
    UnknownParameter,
    UnsupportedMediaType,
)
from indelible.journal.contract import JournalReader
from indelible.ledger.ledger import Ledger
from indelible.network import Address
from indelible.query.balance import Balance
from indelible.query.erasures import Erasures
from indelible.query.events import Events
from indelible.query.health import Lookout
from indelible.query.persons import PersonQueries
from indelible.query.schema import Schema
from indelible.query.senders import Senders
from indelible.registry.caller import Caller
from indelible.registry.registry import Registry
from indelible.registry.values import Project

IS_PUBLIC: Final = "is_public"
"""Key of a connection's state: set if the answer may be read by pages of any origin."""

Connection = ASGIConnection[Any, Any, Any, Any]
Errors = tuple[type[IndelibleError], ...]

# What these guards refuse with; routes name them in their description.
KEY_REFUSALS: Final[Errors] = (InvalidApiKey, IpNotAllowed, UnknownParameter)
READ_REFUSALS: Final[Errors] = (*KEY_REFUSALS, Forbidden, InvalidParameter, NotFound)
BODY_REFUSALS: Final[Errors] = (
    *KEY_REFUSALS,
    InvalidJson,
    InvalidParameter,
    BodyTooLarge,
    UnsupportedMediaType,
)

# Made by our own dependencies, so there is nothing in them for the framework to validate.
TheProject = NamedDependency[SkipValidation[Project]]
TheRegistry = NamedDependency[SkipValidation[Registry]]
TheEvents = NamedDependency[SkipValidation[Events]]
TheReading = NamedDependency[SkipValidation[Reading]]
TheJournal = NamedDependency[SkipValidation[JournalReader]]
TheLookout = NamedDependency[SkipValidation[Lookout]]
TheGate = NamedDependency[SkipValidation[Gate]]
TheLedger = NamedDependency[SkipValidation[Ledger]]
TheSenders = NamedDependency[SkipValidation[Senders]]
TheBalance = NamedDependency[SkipValidation[Balance]]
TheSchema = NamedDependency[SkipValidation[Schema]]
ThePersons = NamedDependency[SkipValidation[PersonQueries]]
TheErasures = NamedDependency[SkipValidation[Erasures]]
NowMs = NamedDependency[int]

ProjectName = Annotated[
    str | None,
    QueryParameter(
        name="project",
        description="Which project, for an admin key; `default` when left out. `_server` is the "
        "server's own log: admin keys and whatever else belongs to no project.",
    ),
]


def declared_only(gate: Gate, metrics_key: str | None) -> Guard:
    """Lets a request pass that has what `access.ROUTES` declares; its `auth` becomes the caller.

    Where the route decides for itself (`Door.LEDGER`) or is open to anyone, there is none.
    `metrics_key` is the key of `Door.METRICS`, if there is one.
    """

    async def check(connection: Connection, _: BaseRouteHandler) -> None:
        method = _method(connection)
        if method == "OPTIONS":
            return  # says which methods there are, as the description does
        access: Access = ROUTES[f"{method} {connection.scope['path_template']}"]
        if access is Door.METRICS:
            if has_bearer(connection.headers.get("authorization"), metrics_key):
                return
            access = Scope.MANAGE
        if isinstance(access, Scope):
            connection.scope["auth"] = caller_of(connection, gate, access)

    return check


def caller_of(connection: Connection, gate: Gate, scope: Scope) -> Caller:
    """Who sends this request.

    Raises:
        InvalidApiKey, IpNotAllowed; Forbidden: the scope is missing.
    """
    caller = gate.caller(
        connection.headers.get("authorization"), lambda: _address(connection, gate)
    )
    caller.require(scope)
    return caller


async def json_only(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuses a body that is not declared as plain JSON.

    A page of any origin may POST text/plain without asking first; JSON needs a preflight, which
    no route behind this guard answers.

    Raises:
        UnsupportedMediaType.
    """
    if _method(connection) not in ("POST", "PUT", "PATCH"):
        return
    declared = connection.headers.get("content-type", "")
    encoding = connection.headers.get("content-encoding", "identity")
    if declared.partition(";")[0].strip().lower() != "application/json" or encoding != "identity":
        raise UnsupportedMediaType(
            "Management takes uncompressed JSON only", hint="Send Content-Type: application/json."
        )


def project_of(request: Connection, gate: TheGate, project: ProjectName = None) -> Project:
    """The project that the request is about."""
    return gate.project_to_read(request.auth, project)


def _method(connection: Connection) -> str:
    return str(connection.scope.get("method"))


def _address(connection: Connection, gate: Gate) -> Address | None:
    peer = connection.client.host if connection.client else None
    return gate.address(peer, connection.headers.getall("x-forwarded-for", []))
