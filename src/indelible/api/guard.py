"""Who is asking: the gate, as dependencies of Litestar's routes."""

from typing import Annotated, Any

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter, SkipValidation
from litestar.types import Guard

from indelible.edge.gate import Gate
from indelible.journal.database import Database
from indelible.journal.disk import DiskGuard
from indelible.journal.registry import Key, Project, Registry
from indelible.network import Address
from indelible.query.events import Events

Connection = ASGIConnection[Any, Any, Any, Any]

# Made by our own dependencies, so there is nothing in them for the framework to validate.
TheKey = NamedDependency[SkipValidation[Key]]
TheProject = NamedDependency[SkipValidation[Project]]
TheRegistry = NamedDependency[SkipValidation[Registry]]
TheEvents = NamedDependency[SkipValidation[Events]]
TheDatabase = NamedDependency[SkipValidation[Database]]
TheDisk = NamedDependency[SkipValidation[DiskGuard]]
TheGate = NamedDependency[SkipValidation[Gate]]

ProjectName = Annotated[
    str | None,
    QueryParameter(
        name="project",
        description="Which project, for an admin key; `default` when left out.",
        max_length=64,
    ),
]


def key_of(request: Connection, gate: TheGate) -> Key:
    """The application or admin key of the request."""
    return gate.key_of_bearer(request.headers.get("authorization"), lambda: _caller(request, gate))


def admins_only(gate: Gate) -> Guard:
    """Lets a request pass to its route only with an admin key."""

    def check(connection: Connection, _: BaseRouteHandler) -> None:
        headers = connection.headers
        gate.admin(headers.get("authorization"), lambda: _caller(connection, gate))

    return check


def project_of(request: Connection, gate: TheGate, project: ProjectName = None) -> Project:
    """The project that the request is about."""
    return gate.project_of_key(key_of(request, gate), project)


def _caller(connection: Connection, gate: Gate) -> Address | None:
    peer = connection.client.host if connection.client else None
    return gate.caller(peer, connection.headers.getall("x-forwarded-for", []))
