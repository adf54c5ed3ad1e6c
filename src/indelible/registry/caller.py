"""Who is asking: what a request may do, whatever it proved that with."""

from typing import Final

from msgspec import Struct

from indelible.access import Scope
from indelible.errors import (
    Forbidden,
    ManageScopeMissing,
    QueryScopeMissing,
    ReadScopeMissing,
    WriteScopeMissing,
)
from indelible.registry.values import Key

MISSING: Final[dict[Scope, type[Forbidden]]] = {
    Scope.WRITE: WriteScopeMissing,
    Scope.READ: ReadScopeMissing,
    Scope.QUERY: QueryScopeMissing,
    Scope.MANAGE: ManageScopeMissing,
}
"""The error of a caller without the scope."""


class Caller(Struct, frozen=True, gc=False):  # one for each request: a dataclass costs more
    """What a request may do.

    Attributes:
        scopes: what for.
        projects: in which projects, by id; None for all of them.
        tenant: whose events it may see alone; None for everybody's.
        key: the key that it came with.
    """

    scopes: frozenset[Scope]
    projects: frozenset[int] | None
    tenant: str | None
    key: Key

    @classmethod
    def with_key(cls, key: Key) -> "Caller":
        """Return the caller who has this key."""
        projects = None if key.project is None else frozenset({key.project.id})
        return cls(key.scopes, projects, None, key)

    def require(self, scope: Scope) -> None:
        """
        Raises:
            Forbidden: a subclass whose code names the scope that is missing.
        """
        if scope not in self.scopes:
            raise MISSING[scope]

    def may_enter(self, project_id: int) -> bool:
        """Whether the project is one of the caller's."""
        return self.projects is None or project_id in self.projects
