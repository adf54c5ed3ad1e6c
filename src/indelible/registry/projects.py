"""Projects: made and changed, never removed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from indelible.errors import AlreadyExists
from indelible.registry.values import (
    SERVER_ID,
    SERVER_NAME,
    BotPolicy,
    LogRow,
    Project,
    ProjectKind,
)

if TYPE_CHECKING:
    from indelible.registry.registry import Registry

_RULES: Final = frozenset(
    {
        "monthly_limit",
        "audit_monthly_limit",
        "bot_policy",
        "ledger_access",
        "retention_days",
        "legal_hold",
    }
)


class Projects:
    """The projects of a registry."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry

    def create(
        self,
        name: str,
        *,
        kind: ProjectKind = "live",
        monthly_limit: int | None = None,
        audit_monthly_limit: int | None = None,
        bot_policy: BotPolicy | None = None,
        retention_days: int | None = None,
    ) -> Project:
        """Make a project with an empty log. Its keys are made by `Keys.create`.

        Raises:
            AlreadyExists: the name is taken.
        """
        with self._registry.turn() as snapshot:
            if name in snapshot.projects:
                raise AlreadyExists(f"There is a project {name!r} already")
            project = Project(
                id=max((one.id for one in snapshot.projects.values()), default=0) + 1,
                name=name,
                kind=kind,
                monthly_limit=monthly_limit,
                bot_policy=bot_policy,
                created_at_ms=self._registry.clock(),
                ledger_access="key",
                retention_days=retention_days,
                audit_monthly_limit=audit_monthly_limit,
            )
            log = LogRow(name, project.id, origin=None, vkey=None, state="new")
            self._registry.change_untold(added=[project, log])
        return project

    def make_server(self) -> None:
        """Make the owner of the server's own log, if there is none: older journals have none."""
        with self._registry.turn() as snapshot:
            if snapshot.server is not None:
                return
            now = self._registry.clock()
            server = Project(SERVER_ID, SERVER_NAME, "live", None, None, now, "key", None, None)
            log = LogRow(SERVER_NAME, SERVER_ID, origin=None, vkey=None, state="new")
            self._registry.change_untold(added=[server, log])

    def change(self, name: str, changes: Mapping[str, Any]) -> Project:
        """Set rules of the project, as `changes` names them: `monthly_limit`,
        `audit_monthly_limit`, `bot_policy`, `ledger_access`, `retention_days`,
        `legal_hold`.

        Raises:
            NotFound: there is no such project.
        """
        assert changes.keys() <= _RULES
        with self._registry.turn() as snapshot:
            project = replace(snapshot.project(name), **changes)
            self._registry.change(
                "project.changed", dict(changes), log=project.log, changed=[project]
            )
        return project
