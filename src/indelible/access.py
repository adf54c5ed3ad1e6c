"""Who may do what: every route, and what a caller must have to use it.

This is the one declaration. The guards of the API and the gate of ingest look routes up here, the
description of the API and docs/reference/access.md are made from it, and a test sends every kind of
credential to every route of the running server. A route that is not listed answers nobody.

Paths of product ingest belong to dialects and all take a project token; they are not listed.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """What a key may do.

    `write` audit events, `read` events, receipts and the signed log, `query` what is computed from
    them, `manage` projects, keys and erasures.
    """

    WRITE = "write"
    READ = "read"
    QUERY = "query"
    MANAGE = "manage"


class Door(StrEnum):
    """A route that no scope opens.

    `open` for anyone; `token` with a project token; `ledger` for anyone if the project's ledger is
    public, else with `read`; `metrics` with the metrics key, else with `manage`.
    """

    OPEN = "open"
    TOKEN = "token"  # noqa: S105 — a door, not a secret
    LEDGER = "ledger"
    METRICS = "metrics"


Access = Scope | Door

EVERY_SCOPE: Final = frozenset(Scope)
OF_APPLICATIONS: Final = frozenset({Scope.WRITE, Scope.READ, Scope.QUERY})
"""What an application key has unless it is narrowed, and the most that it can have."""

ROUTES: Final[Mapping[str, Access]] = {
    "POST /v1/events": Scope.WRITE,
    "POST /v1/events/batch": Scope.WRITE,
    "GET /v1/events": Scope.READ,
    "GET /v1/events/{tx_id}": Scope.READ,
    "GET /v1/events/{tx_id}/receipt": Scope.READ,
    "GET /v1/events/{tx_id}/verify": Scope.READ,
    "GET /v1/where": Scope.READ,
    "GET /v1/export": Scope.READ,
    "GET /v1/receipts": Scope.READ,
    "GET /v1/senders": Scope.READ,
    "GET /v1/balance": Scope.QUERY,
    "GET /v1/schema": Scope.QUERY,
    "GET /v1/schema/event": Scope.QUERY,
    "GET /v1/schema/contract": Scope.QUERY,
    "PUT /v1/schema/contract": Scope.MANAGE,
    "DELETE /v1/schema/contract": Scope.MANAGE,
    "GET /api/analytics/realtime": Scope.QUERY,
    "GET /api/debug/stream": Scope.QUERY,
    "GET /v1/persons": Scope.QUERY,
    "GET /v1/persons/{person}": Scope.QUERY,
    "GET /v1/persons/{person}/ids": Scope.QUERY,
    "GET /v1/persons/{person}/merges": Scope.QUERY,
    "GET /v1/persons/{person}/history": Scope.QUERY,
    "GET /v1/persons/{person}/timeline": Scope.QUERY,
    "POST /v1/persons/merge": Scope.MANAGE,
    "POST /v1/persons/unmerge": Scope.MANAGE,
    "GET /ledger/{log_name}/{path}": Door.LEDGER,
    "GET /v1/projects": Scope.MANAGE,
    "POST /v1/projects": Scope.MANAGE,
    "PATCH /v1/projects/{name}": Scope.MANAGE,
    "GET /v1/keys": Scope.MANAGE,
    "POST /v1/keys": Scope.MANAGE,
    "PATCH /v1/keys/{key_id}": Scope.MANAGE,
    "POST /v1/keys/{key_id}/rotate": Scope.MANAGE,
    "DELETE /v1/keys/{key_id}": Scope.MANAGE,
    "POST /v1/erasures": Scope.MANAGE,
    "GET /healthz": Door.OPEN,
    "GET /metrics": Door.METRICS,
    "GET /": Door.OPEN,
    "GET /docs": Door.OPEN,
    "GET /openapi.json": Door.OPEN,
}
"""Method and path of each route, by the template of its path."""
