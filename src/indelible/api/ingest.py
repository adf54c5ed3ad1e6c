"""The hot ingest routes, described: they are outside the framework, which describes the rest.

Each dialect describes itself; here the descriptions become operations of the document.
"""

from collections.abc import Iterator
from typing import Final

from indelible.access import ROUTES, Access, Door
from indelible.api.openapi import refusals, security_of
from indelible.edge.dialects import DIALECTS
from indelible.edge.intake import Limits
from indelible.edge.schema import LOSS_REPORT, Json, Operation, Schema

METHODS: Final[dict[str, tuple[str, ...]]] = {
    path.path: path.methods for dialect in DIALECTS for path in dialect.paths
}
"""What the hot routes add to the methods of paths that the framework knows."""


def schemas(limits: Limits) -> dict[str, Json]:
    """The schemas that the hot routes refer to, by name, with the limits of this server."""
    found: dict[str, Json] = {"LossReport": LOSS_REPORT}
    for schema in _described(limits):
        found.update(schema.components)
    return found


def paths(limits: Limits) -> dict[str, Json]:
    """The operations of the hot routes, by path and method, with the limits of this server."""
    return {
        path: {
            method: _operation(one, limits, ROUTES.get(f"{method.upper()} {path}", Door.TOKEN))
            for method, one in operations.items()
        }
        for schema in _described(limits)
        for path, operations in schema.operations.items()
    }


def _described(limits: Limits) -> Iterator[Schema]:
    return (dialect.schema(limits) for dialect in DIALECTS)


def _operation(one: Operation, limits: Limits, access: Access) -> Json:
    operation: Json = {
        "tags": ["ingest"],
        "summary": one.summary,
        "description": one.description,
        "operationId": one.operation_id,
        "security": security_of(access),
        "parameters": one.parameters,
        "responses": {**one.answers, **refusals(one.refusals)},
    }
    if one.body is not None:
        operation["requestBody"] = {"required": True, "content": one.body}
        operation["description"] += (
            f" The body has at most {limits.max_body_bytes:,} bytes on the wire."
        )
    return operation
