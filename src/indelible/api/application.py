"""The Litestar application: every route that is not hot, with what the routes are given."""

from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig

from indelible import __version__
from indelible.api import describe, events, health, manage
from indelible.api.errors import answer_error
from indelible.api.guard import admins_only, project_of
from indelible.clock import Clock
from indelible.edge.gate import Gate
from indelible.journal.disk import DiskGuard
from indelible.journal.registry import Registry
from indelible.journal.sqlite import SqliteJournal
from indelible.query.events import Events


def make_api(
    *, journal: SqliteJournal, registry: Registry, gate: Gate, disk: DiskGuard, clock: Clock
) -> Litestar:
    """Build the application over parts that are already open."""

    def given(value: Any) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    return Litestar(
        route_handlers=[
            Router("/", route_handlers=manage.ROUTES, guards=[admins_only(gate)]),
            *events.ROUTES,
            *health.ROUTES,
            *describe.ROUTES,
        ],
        dependencies={
            "gate": given(gate),
            "registry": given(registry),
            "database": given(journal.database),
            "disk": given(disk),
            "events": given(Events(journal)),
            "now_ms": Provide(clock, sync_to_thread=False),
            "project_of": Provide(project_of, sync_to_thread=False),
        },
        exception_handlers={Exception: answer_error},
        # Served by `describe`, which adds the hot routes.
        openapi_config=OpenAPIConfig(
            title="Indelible", version=__version__, path="/_litestar", render_plugins=[]
        ),
        debug=False,
        logging_config=None,
    )
