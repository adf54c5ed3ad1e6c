"""The description of the whole surface, as OpenAPI 3.1.

Litestar describes its own routes from their signatures; here its description is put straight and
joined by that of the hot routes. `/docs` and `/openapi.json` show the same document.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute

from indelible import __version__
from indelible.access import OF_APPLICATIONS, ROUTES, Access, Scope
from indelible.api import erasures, ingest, managed, persons
from indelible.api.events import NDJSON, Found
from indelible.api.ledger import Checked, ReceiptLine
from indelible.api.live import EVENT_STREAM, Realtime
from indelible.api.openapi import ERROR, refusals, security_of
from indelible.api.schema import ContractDropped
from indelible.edge.intake import Limits
from indelible.edge.schema import Json, ref
from indelible.errors import IndelibleError
from indelible.event import Kind, Level
from indelible.journal.contract import LARGEST_INDEX
from indelible.quality.contract import Contract
from indelible.query import persons as query_persons
from indelible.query.balance import BalanceView
from indelible.query.events import Page
from indelible.query.schema import ContractView, EventView, SchemaPage
from indelible.query.senders import SenderPage
from indelible.registry.caller import MISSING

JSON: Final = "application/json"

TAGS: Final = {
    "ingest": "Send product events with the public project token, audit events with an API key.",
    "read": "Find events, with an application key of their project or an admin key.",
    "persons": "Who the events are of: ids that belong together, their properties and events.",
    "manage": "Projects, keys and erasures, with an admin key. Each change is an `administration` "
    "or `erasure` event in the log of its project.",
    "server": "How the server is, and what it can do.",
}
_INTRODUCTION: Final = (
    "Product events and audit events in one append-only log per project. An answer with an index "
    "is sent after the event is synced to disk. Every error has the same flat body."
)
_SECURITY: Final[Json] = {
    "applicationKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An application key, `iml_live_…` or `iml_test_…`: writes and reads one "
        "project, unless it is narrowed to some of the scopes `write`, `read` and `query`.",
    },
    "adminKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An admin key, `ind_adm_…`: does everything.",
    },
    "metricsKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "What `INDELIBLE_METRICS_KEY` is set to: reads the metrics.",
    },
}

_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_MOMENT: Final[Json] = {
    "description": "RFC 3339 (write + as %2B), or seconds or milliseconds since 1970; whatever "
    "is read as the `timestamp` of an event.",
    "anyOf": [_TIME, {"type": "number", "minimum": 0, "exclusiveMaximum": 10**20}],
}
_PARAMETERS: Final[Mapping[str, Json]] = {
    "from": _MOMENT,
    "to": _MOMENT,
    "last_seen_from": _MOMENT,
    "filter": {"type": "string", "format": "condition"},
}
"""The schemas of parameters that the framework takes for plain text."""
_LOGGED: Final[Json] = {
    "type": "object",
    "description": "An event as it was sent, with what the log knows of it. A product event has "
    "`event`, `distinct_id`, `uuid` and `properties`; an audit event `payload`, `meta` and "
    "`idempotency_key`; one of another kind `event` and `facts`. Of an erased one only `erased` "
    "and the first four members are left.",
    "required": ["index", "tx_id", "kind", "received_at"],
    "properties": {
        "index": {
            "type": "integer",
            "minimum": 0,
            "description": "Its place in the project's log, from 0 without gaps.",
        },
        "tx_id": {
            "type": "string",
            "pattern": "^tx_[0-9a-f]{32}$",
            "description": "The transaction id, made by the server.",
        },
        "kind": {"enum": [kind.word for kind in Kind]},
        "received_at": _TIME,
        "event": {"type": "string"},
        "distinct_id": {
            "type": "string",
            "description": "The person or visitor. Nobody's event has its `process_id` here, and "
            "`$process_person_profile: false` among its properties: leave it out of a count of "
            "persons.",
        },
        "uuid": {"type": "string"},
        "properties": {"type": "object"},
        "payload": {"type": "string"},
        "meta": {"type": "object", "additionalProperties": {"type": "string"}},
        "idempotency_key": {"type": ["string", "null"]},
        "request": {"type": "object", "description": "What was noted of the request."},
        "facts": {"type": "object"},
        "erased": {"const": True},
    },
}
_EVENT: Final[Json] = {
    "description": "An event of the log, and how far it has come.",
    "allOf": [
        ref("LoggedEvent"),
        {
            "type": "object",
            "required": ["status", "stored_at"],
            "properties": {
                "status": {
                    "enum": ["stored", "accepted", *Level],
                    "description": "How far it has come. `accepted` is the audit wire's word for "
                    "stored.",
                },
                "stored_at": _TIME,
                "person": {
                    "type": "string",
                    "description": "The person id of a product event's person, as known now. Not "
                    "in search results.",
                },
                "life": {
                    "type": "array",
                    "description": "Every step with its time. Not in search results.",
                    "items": ref("Step"),
                },
            },
        },
    ],
}
_STEP: Final[Json] = {
    "type": "object",
    "required": ["step", "at"],
    "properties": {
        "step": {"enum": ["received", "stored", *Level, "resolved"]},
        "at": {"anyOf": [_TIME, {"type": "null"}]},
        "person": {"type": "string", "description": "Of `resolved`: whose event it is now."},
    },
}


_LINES: Final[Json] = {
    "schema": {
        "type": "string",
        "contentMediaType": NDJSON,
        "description": "One LoggedEvent in JSON a line.",
    }
}

_RECEIPT_LINES: Final[Json] = {
    "schema": {
        "type": "string",
        "contentMediaType": NDJSON,
        "contentSchema": ref("ReceiptLine"),
        "description": "One ReceiptLine in JSON a line.",
    }
}
_MESSAGES: Final[Json] = {
    EVENT_STREAM: {
        "schema": {
            "type": "string",
            "description": "Server-sent events. `data` is an object in JSON with `kind`: `event` "
            "has `result` and `event`, a LoggedEvent (in place of its content `cut`, if it is "
            "long); `reject` has `result`, `reason`, `count`, `path`, `uuid` and `excerpt`; "
            "`forwarding` has `index`, `destination` and `state`; `gap` has `missed` and `reason`.",
        }
    }
}
_FILES: Final[Json] = {
    "text/plain": {"schema": {"type": "string"}},
    "application/octet-stream": {},
}

# A transaction id and a key id that no server has; the rest can be sent as it stands.
_EXAMPLES: Final = {
    "tx_id": "tx_019a9f3c7e0a7000a1b2c3d4e5f60718",
    "key_id": "key_0123456789ab",
    "id": "payment-1",
    "filter": 'event = "purchase" and properties.amount >= 100',
    "log_name": "default",
    "path": "checkpoint",
    "name": "web-shop",
    "event": "purchase_completed",
    "person": "user_42",
    "actor": "user_42",
    "process_id": "8d3f1c0b5a2e4f6799b0c1d2e3f4a5b6",
}
_BODIES: Final[dict[str, Json]] = {
    "create_project": {"name": "web-shop", "kind": "live", "monthly_limit": 1_000_000},
    "change_project": {"monthly_limit": 2_000_000, "ledger_access": "public"},
    "create_key": {"role": "application", "project": "default", "label": "billing service"},
    "change_key": {"rate": 200, "burst": 2_000},
    "rotate_key": {"grace_s": 3600},
    "set_contract": {
        "properties": {
            "plan": {"type": "text", "required": True, "values": ["free", "pro"]},
            "cart.total": {"type": "number"},
        }
    },
    "merge_persons": {"ids": ["user_42", "user_43"]},
    "unmerge_person": {"id": "user_42", "ids": ["user_43"]},
    "erase_events": {"distinct_id": "user_42", "reason": "request", "dry_run": True},
}
_STRUCTS: Final = (
    Page,
    Found,
    Checked,
    ReceiptLine,
    SenderPage,
    SchemaPage,
    EventView,
    ContractView,
    Contract,
    ContractDropped,
    BalanceView,
    Realtime,
    managed.Projects,
    managed.NewProject,
    managed.ProjectMade,
    managed.ProjectChange,
    managed.Keys,
    managed.KeyWanted,
    managed.KeyChange,
    managed.KeyMade,
    managed.Rotation,
    query_persons.PersonList,
    query_persons.PersonDetails,
    query_persons.IdList,
    query_persons.MergeList,
    query_persons.History,
    query_persons.Timeline,
    query_persons.MergeDone,
    persons.MergeWanted,
    persons.UnmergeWanted,
    erasures.ErasureWanted,
    erasures.ErasureCertificate,
)


class Description:
    """The OpenAPI document, built when it is first asked for."""

    def __init__(
        self,
        application: Callable[[OpenAPIConfig], Litestar],
        limits: Limits,
        health: type[msgspec.Struct],
    ) -> None:
        self._application = application
        self._limits = limits
        self._health = health

    @cached_property
    def document(self) -> Json:
        paths = ingest.paths(self._limits)
        for path, operations in self._of_framework().items():
            paths.setdefault(path, {}).update(operations)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Indelible",
                "version": __version__,
                "description": _INTRODUCTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": dict(
                    sorted({**ingest.schemas(self._limits), **_schemas(self._health)}.items())
                ),
                "securitySchemes": _SECURITY,
            },
        }

    def _of_framework(self) -> dict[str, Json]:
        """The operations of the framework's routes, put straight."""
        config = OpenAPIConfig(
            title="",
            version="",
            use_handler_docstrings=True,
            operation_id_creator=lambda handler, *_: handler.handler_name,
        )
        application = self._application(config)
        handlers = {
            (route.path_format, str(method)): handler
            for route in application.routes
            if isinstance(route, HTTPRoute)
            for method, (handler, _) in route.route_handler_map.items()
        }
        paths: dict[str, Json] = application.openapi_schema.to_schema()["paths"]
        for path, operations in paths.items():
            for method, operation in operations.items():
                access = ROUTES[f"{method.upper()} {path}"]
                _put_straight(operation, handlers[path, method.upper()].opt, access)
        paths["/v1/export"]["get"]["responses"]["200"]["content"][NDJSON] = _LINES
        paths["/v1/receipts"]["get"]["responses"]["200"]["content"][NDJSON] = _RECEIPT_LINES
        paths["/api/debug/stream"]["get"]["responses"]["200"]["content"] = _MESSAGES
        paths["/ledger/{log_name}/{path}"]["get"]["responses"]["200"]["content"] = _FILES
        paths["/v1/events/{tx_id}"]["get"]["responses"]["200"]["content"][JSON] = {
            "schema": ref("Event")
        }
        for parameter in paths["/v1/persons"]["get"]["parameters"]:
            if parameter["name"] == "filter":
                parameter["schema"] = {"type": "string", "format": "condition-of-person"}
                parameter["example"] = 'properties.plan = "pro"'
        return paths


def _put_straight(operation: Json, opt: Mapping[str, Any], access: Access) -> None:
    """Add to the framework's description of a route what it does not know, and drop its noise."""
    errors = opt.get("refusals", ())
    if isinstance(access, Scope):
        errors = (*errors, MISSING[access])
    answers = {
        status: {name: value for name, value in response.items() if value}
        for status, response in operation["responses"].items()
        if status not in ("400", "500")
    }
    operation["responses"] = {**answers, **refusals((*errors, IndelibleError) if errors else ())}
    operation["security"] = security_of(access)
    operation.pop("deprecated", None)
    for parameter in operation.get("parameters", ()):
        for noise in ("deprecated", "allowEmptyValue", "allowReserved"):
            parameter.pop(noise, None)
        name = parameter["name"]
        parameter["schema"] = _PARAMETERS.get(name) or _sendable(parameter["schema"])
        if example := _EXAMPLES.get(name):
            parameter["example"] = example
    body = operation.get("requestBody")
    if body is not None:
        body["content"][JSON]["example"] = _BODIES[operation["operationId"]]


def _sendable(schema: Json) -> Json:
    """The schema of a parameter without null: a URL carries text only."""
    straight = {name: value for name, value in schema.items() if name != "description"}
    if "oneOf" in straight:
        (only,) = (option for option in straight.pop("oneOf") if option != {"type": "null"})
        straight = {**only, **straight}
    if isinstance(straight.get("type"), list):
        straight["type"] = next(kind for kind in straight["type"] if kind != "null")
        straight["enum"] = [value for value in straight["enum"] if value is not None]
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if name in straight:
            straight[name] = int(straight[name])
    if straight.get("default") == LARGEST_INDEX:
        del straight["default"]
    return straight


# What an erasure may name, by the type of each member: these together, and none of the others.
_NAMED_BY: Final = {
    "tx_ids": "array",
    "distinct_id": "string",
    "person": "string",
    "actors": "array",
}
_SELECTIONS: Final = (("tx_ids",), ("distinct_id",), ("person",), ("actors",), ("person", "actors"))
_CONFIRMED: Final[tuple[Json, ...]] = (
    {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}},
    {"required": ["confirm"], "properties": {"confirm": {"type": "string"}}},
)


def _selections() -> Iterator[Json]:
    """What one erasure may name; a person or actors in a dry run, or confirmed."""
    for names in _SELECTIONS:
        members: Json = {
            name: {"type": kind if name in names else "null"} for name, kind in _NAMED_BY.items()
        }
        needs_confirm = "person" in names or "actors" in names
        for more in _CONFIRMED if needs_confirm else ({"required": [], "properties": {}},):
            yield {
                "required": [*names, *more["required"]],
                "properties": {**members, **more["properties"]},
            }


def _schemas(health: type[msgspec.Struct]) -> dict[str, Json]:
    """The schemas of the framework's routes, by name, made from their structs.

    Where a rule spans two members, or a member is an event, what a struct cannot say is added.
    """
    _, schemas = msgspec.json.schema_components(
        (*_STRUCTS, health), ref_template=ref("{name}")["$ref"]
    )
    for page in ("Page", "Found", "Timeline"):
        schemas[page]["properties"]["events"]["items"] = ref("Event")
    for change in ("ProjectChange", "KeyChange"):
        schemas[change]["minProperties"] = 1
    with_rate = {"required": ["rate"], "properties": {"rate": {"type": "number"}}}
    schemas["KeyChange"]["dependentSchemas"] = {"burst": with_rate}
    schemas["KeyWanted"]["dependentSchemas"] = {
        "burst": {"anyOf": [{"properties": {"burst": {"type": "null"}}}, with_rate]}
    }
    schemas["KeyWanted"]["oneOf"] = [
        {
            "properties": {
                "role": {"const": "admin"},
                "project": {"type": "null"},
                "origins": {"maxItems": 0},
                "scopes": {"type": "null"},
            }
        },
        {
            "required": ["project"],
            "properties": {
                "role": {"const": "application"},
                "project": {"type": "string"},
                "origins": {"maxItems": 0},
                "scopes": {"items": {"enum": sorted(OF_APPLICATIONS)}},
            },
        },
        {
            "required": ["project"],
            "properties": {
                "role": {"const": "token"},
                "project": {"type": "string"},
                "scopes": {"type": "null"},
            },
        },
    ]
    schemas["ErasureWanted"]["anyOf"] = list(_selections())
    return {**schemas, "LoggedEvent": _LOGGED, "Event": _EVENT, "Step": _STEP, "Error": ERROR}
