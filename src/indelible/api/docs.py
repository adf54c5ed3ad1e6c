"""The pages about the server itself: ``/openapi.json``, ``/docs``, and ``/``, which leads there.

`/docs` is rendered here, from the same document. It loads nothing, runs nothing, and reads well
without a style.
"""

import base64
import hashlib
import re
from importlib import resources
from typing import Any, Final

import msgspec
from jinja2 import Environment, PackageLoader
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Redirect
from markupsafe import Markup, escape

from indelible import metrics
from indelible.api.describe import Description
from indelible.api.openapi import codes_of
from indelible.edge.lost import LostWarning
from indelible.edge.schema import Json
from indelible.errors import EventRefused, IndelibleError, Tampered, catalogue
from indelible.event import DropReason, LossReason, WarnReason

TheDescription = NamedDependency[SkipValidation[Description]]

_STYLE: Final = resources.files(__package__).joinpath("templates/docs.css").read_text("utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_CODE: Final = re.compile(r"`([^`]+)`")


@get(
    "/",
    sync_to_thread=False,
    status_code=303,
    summary="Front door",
    response_description="Leads to /docs.",
)
def front_door() -> Redirect:
    """Leads to `/docs`."""
    return Redirect("/docs", status_code=303)


@get(
    "/openapi.json",
    sync_to_thread=True,
    summary="This description",
    response_description="An OpenAPI 3.1 document.",
)
def openapi(description: TheDescription) -> dict[str, Any]:
    """OpenAPI 3.1 of every route, the hot ones included."""
    return description.document


@get(
    "/docs",
    sync_to_thread=True,
    media_type="text/html",
    summary="This description, to read",
    response_description="A page that needs no script.",
)
def docs(request: Request[Any, Any, Any], description: TheDescription) -> Response[str]:
    """The same description as a page."""
    host = request.headers.get("host", "")
    server = f"http://{host if _HOST.fullmatch(host) else '127.0.0.1:8765'}"
    return Response(
        render(description.document, server=server), media_type="text/html", headers=_HEADERS
    )


ROUTES = [front_door, openapi, docs]


def render(document: Json, *, server: str) -> str:
    """The page; `server` is where its examples are sent to."""
    template = _environment(document).get_template("docs.html")
    return template.render(
        document=document,
        style=Markup(_STYLE),  # noqa: S704 — our own file
        groups=_groups(document),
        curl=lambda path, method, operation: _curl(server, path, method, operation),
        errors=_errors(),
        error_codes={code for code, *_ in _errors()},
        drops=[(reason.value, reason.meaning) for reason in DropReason],
        warnings=[(reason.value, reason.meaning) for reason in WarnReason],
        losses=[(reason.value, reason.meaning) for reason in LossReason],
        lost_warnings=[(reason.value, reason.meaning) for reason in LostWarning],
        counters=[(m.name, m.documentation, m.type) for m in metrics.REGISTRY.collect()],
    )


def _environment(document: Json) -> Environment:
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("indelible.api"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        prose=_prose,
        kind=_kind,
        members=lambda schema: _members(document["components"]["schemas"], schema),
        codes=_codes,
        anchor=lambda name: re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower(),
    )
    return environment


def _groups(document: Json) -> list[tuple[Json, list[tuple[str, str, Json]]]]:
    """The operations under their tags, in the order of the tags."""
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return [
        (tag, [entry for entry in operations if tag["name"] in entry[2]["tags"]])
        for tag in document["tags"]
    ]


def _errors() -> list[tuple[str, int, str, str]]:
    """Every error that an answer can carry: code, status, meaning, hint. Reasons of events not."""
    errors: dict[str, tuple[str, int, str, str]] = {}
    for error in catalogue():
        if not issubclass(error, EventRefused) and _is_answered(error):
            for code, meaning, hint in codes_of(error):
                errors.setdefault(code, (code, error.http_status, meaning, hint))
    return sorted(errors.values(), key=lambda row: (row[1], row[0]))


def _is_answered(error: type[IndelibleError]) -> bool:
    """Whether it is an answer's, and not one that keeps the server or a command from starting."""
    return error in (IndelibleError, Tampered) or error.http_status != 500


def _prose(text: str) -> Markup:
    """Text with its `code` marked up."""
    marked: str = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(marked)  # noqa: S704 — escaped above


def _codes(answer: Json) -> list[tuple[str, str]]:
    """The error codes of an answer, each with its meaning."""
    body = answer.get("content", {}).get("application/json", {})
    return [(code, example["summary"]) for code, example in body.get("examples", {}).items()]


def _kind(schema: Json) -> Markup:
    """What a schema allows, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{}">{}</a>').format(name.lower(), name)
    for choice in ("anyOf", "oneOf"):
        if choice in schema and "type" not in schema:
            return Markup(" or ").join(dict.fromkeys(map(_kind, schema[choice])))
    if "allOf" in schema:
        return Markup(" and ").join(_kind(part) for part in schema["allOf"] if "$ref" in part)
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return Markup(" | ").join(map(_literal, schema["enum"]))
    kinds = schema.get("type", "anything")
    if isinstance(kinds, list):
        return Markup(" or ").join(_kind({**schema, "type": kind}) for kind in kinds)
    return Markup("{}{}").format(_plain(schema, kinds), _limits(schema, kinds))


def _literal(value: object) -> Markup:
    return Markup("<code>{}</code>").format(msgspec.json.encode(value).decode())


def _plain(schema: Json, kind: str) -> Markup:
    if kind == "array":
        of = schema.get("contains") or schema.get("items") or {}
        return Markup("list of {}").format(_kind(of)) if of else Markup("list")
    more = schema.get("additionalProperties")
    if kind == "object" and isinstance(more, dict) and more and "properties" not in schema:
        return Markup("object of {}").format(_kind(more))
    if "contentSchema" in schema:
        return Markup("{} as JSON text").format(_kind(schema["contentSchema"]))
    return Markup("{}").format(schema.get("format", kind))


def _limits(schema: Json, kind: str) -> str:
    """The bounds of a value, in brackets."""
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", -2) + 1)
    highest = schema.get("maximum", schema.get("exclusiveMaximum"))
    match kind:
        case "string":
            low, high, what = schema.get("minLength"), schema.get("maxLength"), "characters"
        case "array":
            low, high, what = schema.get("minItems"), schema.get("maxItems"), "items"
        case "object":
            low, high, what = schema.get("minProperties"), schema.get("maxProperties"), "members"
        case "integer" | "number":
            low, high, what = (None if lowest == -1 and highest is None else lowest), highest, ""
        case _:
            return ""
    match low, high:
        case None | 0, None:
            text = "≥ 0" if low == 0 and not what else ""
        case None | 0, 0 if what:
            text = "empty"
        case None | 0, _:
            text = f"≤ {high:,} {what}"
        case _, None:
            text = f"≥ {low:,} {what}"
        case _:
            text = f"{low:,} to {high:,} {what}"
    return f" ({text.strip()})" if text else ""


def _members(schemas: dict[str, Json], schema: Json) -> list[tuple[str, Json, bool]]:
    """The members of an object: name, schema, whether it must be there."""
    if "$ref" in schema:
        return _members(schemas, schemas[schema["$ref"].rpartition("/")[2]])
    required = schema.get("required", ())
    found = [
        (name, member, name in required) for name, member in schema.get("properties", {}).items()
    ]
    for part in schema.get("allOf", ()):
        found += _members(schemas, part)
    return found


def _curl(server: str, path: str, method: str, operation: Json) -> str:
    """A command that sends the operation's example."""
    url = server + path
    query: list[str] = []
    for parameter in operation.get("parameters", ()):
        if not parameter.get("required"):
            continue
        if parameter["in"] == "path":
            url = url.replace("{" + parameter["name"] + "}", parameter["example"])
        elif "content" in parameter:
            example = parameter["content"]["application/json"]["example"]
            query.append(f"{parameter['name']}={msgspec.json.encode(example).decode()}")
        else:
            query.append(f"{parameter['name']}={parameter['example']}")
    lines = [f"curl {url}"]
    if method == "get" and query:
        lines[0] = f"curl -G {url}"
        lines += [f"--data-urlencode '{part}'" for part in query]
    elif method not in ("get", "post"):
        asked = f"?{'&'.join(query)}" if query else ""  # our own examples: nothing to be quoted
        lines[0] = f"curl -X {method.upper()} {url}{asked}"
    security = [name for requirement in operation["security"] for name in requirement]
    if security:
        key = "APPLICATION_KEY" if "applicationKey" in security else "ADMIN_KEY"
        lines.append(f"-H 'Authorization: Bearer {key}'")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        example = body.get("example") or next(iter(body["examples"].values()))["value"]
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d '{msgspec.json.encode(example).decode()}'")
    return " \\\n  ".join(lines)
