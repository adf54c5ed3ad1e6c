"""The Litestar application: every route that is not hot, with what the routes are given."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler, Message, Scope

from indelible.api import (
    balance,
    docs,
    erasures,
    events,
    ingest,
    live,
    manage,
    persons,
    schema,
    senders,
)
from indelible.api import ledger as ledger_routes
from indelible.api.describe import Description
from indelible.api.errors import MAX_BODY_BYTES, answering
from indelible.api.guard import IS_PUBLIC, declared_only, json_only, project_of
from indelible.api.health import health_routes
from indelible.api.parameters import Parameters
from indelible.api.reading import Reading
from indelible.clock import Clock
from indelible.edge.gate import Gate
from indelible.edge.intake import Limits
from indelible.parts import Part
from indelible.refusals import Refusals


def make_api(
    parts: Sequence[Part],
    *,
    gate: Gate,
    health: type[msgspec.Struct],
    limits: Limits,
    refusals: Refusals,
    metrics_key: str | None,
    clock: Clock,
) -> Litestar:
    """Build the application over parts that are already open.

    `health` is the type of their health. `metrics_key` opens /metrics, as an admin key does; None
    where there is none.
    """
    gifts = {name: gift for part in parts for name, gift in part.gives.items()}

    def given(value: Any) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    def build(openapi_config: OpenAPIConfig | None) -> Litestar:
        return Litestar(
            route_handlers=_routes(gate, health, metrics_key),
            dependencies={
                **{name: given(gift) for name, gift in gifts.items()},
                "gate": given(gate),
                "reading": given(Reading()),
                "description": given(description),
                "now_ms": Provide(clock, sync_to_thread=False),
                "project_of": Provide(project_of, sync_to_thread=False),
            },
            exception_handlers={Exception: answering(refusals)},
            before_send=[_put_allow, _open_public_ledger],
            request_max_body_size=MAX_BODY_BYTES,
            openapi_config=openapi_config,
            debug=False,
            logging_config=None,
        )

    # The framework describes an application only if it may add pages of its own to it, so the one
    # that is described is another than the one that is served.
    description = Description(build, limits, health)
    return build(None)


def _routes(
    gate: Gate, health: type[msgspec.Struct], metrics_key: str | None
) -> list[ControllerRouterHandler]:
    declared, parameters = declared_only(gate, metrics_key), Parameters()
    return [
        Router(
            "/",
            route_handlers=[
                *events.ROUTES,
                *senders.ROUTES,
                *live.ROUTES,
                *balance.ROUTES,
                *schema.ROUTES,
                *ledger_routes.ROUTES,
            ],
            guards=[declared, parameters],
            tags=["read"],
        ),
        Router("/", route_handlers=persons.ROUTES, guards=[declared, parameters], tags=["persons"]),
        Router("/", route_handlers=ledger_routes.OPEN_ROUTES, guards=[declared], tags=["read"]),
        Router(
            "/",
            route_handlers=[*manage.ROUTES, *erasures.ROUTES, *persons.CHANGES],
            guards=[declared, parameters, json_only],
            tags=["manage"],
        ),
        Router(
            "/", route_handlers=schema.CONTRACT_ROUTES, guards=[declared, parameters, json_only]
        ),
        Router(
            "/",
            route_handlers=[*health_routes(health), *docs.ROUTES],
            guards=[declared],
            tags=["server"],
        ),
    ]


async def _put_allow(message: Message, scope: Scope) -> None:
    """Where Allow is sent, let it name every method of the path.

    The framework's own answer to OPTIONS leaves out those of a path's second handler, and it knows
    nothing of hot routes.
    """
    if message["type"] != "http.response.start":
        return
    message["headers"] = [
        (name, _allow(value, scope) if name == b"allow" else value)
        for name, value in message["headers"]
    ]


def _allow(known: bytes, scope: Scope) -> bytes:
    hot = ingest.METHODS.get(scope["path"])
    if hot is None:
        path, methods = scope.get("path_template"), {m.strip() for m in known.decode().split(",")}
    else:  # the route of one event matches the path of a batch too, and has no such event
        path, methods = scope["path"], {"OPTIONS", *hot}
    for route in scope["litestar_app"].routes:
        if isinstance(route, HTTPRoute) and route.path_format == path:
            methods.update(map(str, route.methods))
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods)).encode()


async def _open_public_ledger(message: Message, scope: Scope) -> None:
    """Let pages of any origin read a public log, 404 answers included."""
    if message["type"] == "http.response.start" and scope["state"].get(IS_PUBLIC):
        message["headers"] = [*message["headers"], (b"access-control-allow-origin", b"*")]
