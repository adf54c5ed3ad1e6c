"""What ASGI frameworks leave in the scope of a request: the route's template, and their name. Pure.

    FastAPI        scope["fastapi"]["effective_route_context"].path (with include_router's prefix)
    Starlette      scope["route"].path, after the templates of the mounts above it; before 1.0
                   scope["endpoint"], looked for among the routes
    Litestar       scope["path_template"]; its mounts, scope["route_handler"].paths
    Quart          its rule, put into scope["indelible.route"] by `indelible.hooks.quart`

Nothing of a framework is imported: a scope is read for what is there.
"""

from collections.abc import Iterable, MutableMapping
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID

Scope = MutableMapping[str, Any]

ROUTE: Final = "indelible.route"
"""Where a framework's own hook leaves the template, in the scope."""

ERROR: Final = "indelible.error"
"""Where a framework's own hook leaves what it turned into an answer and raised no further."""

_FRAMEWORKS: Final = frozenset({"fastapi", "starlette", "litestar", "quart"})


def framework_of(scope: Scope) -> str | None:
    """Name and version of the framework that ran, such as ``fastapi 0.165.0``; None if unknown."""
    for member in ("litestar_app", "router", "app"):
        for kind in type(scope.get(member)).__mro__:
            name = kind.__module__.partition(".")[0]
            if name in _FRAMEWORKS:
                return f"{name} {version(name)}"
    return None


def user_of(scope: Scope) -> str | None:
    """The id of the user whom Starlette's AuthenticationMiddleware, or one like it, let in.

    That is `identity`: a display name is no id. None where nobody is signed in.
    """
    user = scope.get("user")
    try:
        identity = user.identity if user is not None and user.is_authenticated else None
    except Exception:  # a user of another kind, or one who has no identity
        return None
    return str(identity) if isinstance(identity, str | int | UUID) and identity else None


def route_of(scope: Scope) -> str | None:
    """The template of the route that took the request, mounts included; None when none did."""
    root: str = scope.get("root_path", "")
    told = scope.get(ROUTE) or scope.get("path_template")
    if told and isinstance(told, str):  # empty: a mount of Litestar's
        return root + told
    prefix = _mounts_of(scope, root)
    route = scope.get("route")
    path = getattr(_effective(scope, route), "path", None)
    if isinstance(path, str) and not hasattr(route, "routes"):
        return prefix + path
    return _of_endpoint(scope) or _foreign(scope, prefix)


def _of_endpoint(scope: Scope) -> str | None:
    """The template of the route that leads to the endpoint, where the scope has no route."""
    endpoint = scope.get("endpoint")
    if endpoint is None or scope.get("route") is not None:
        return None
    above: str = scope.get("app_root_path", scope.get("root_path", ""))
    found = _leading_to(endpoint, _routes_of(scope), scope["path"].removeprefix(above))
    return None if found is None else above + found


def _leading_to(endpoint: object, routes: Iterable[Any], path: str) -> str | None:
    for route in routes:
        below = getattr(route, "routes", None)
        if below is None:
            if route.endpoint is endpoint and route.path_regex.match(path):
                return str(route.path)
        elif step := _step(route, path):
            inner = _leading_to(endpoint, below, step[1])
            if inner is not None:
                return step[0] + inner
    return None


def _effective(scope: Scope, route: object) -> object:
    """The route as FastAPI included it, with the prefix; the route itself where that is another.

    The context of an outer application stays in the scope when one mounted below it takes over.
    """
    fastapi = scope.get("fastapi")
    context = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    return context if getattr(context, "original_route", None) is route is not None else route


def _foreign(scope: Scope, prefix: str) -> str | None:
    """``/files/{path}`` where a mount led to an application that has no routes, as static files."""
    handler = scope.get("route_handler")
    if getattr(handler, "is_mount", False):  # Litestar's
        paths = sorted(getattr(handler, "paths", ()), key=len)
        return f"{prefix}{paths[-1].rstrip('/')}/{{path}}" if paths else None
    was_mounted = scope.get("app_root_path", scope.get("root_path")) != scope.get("root_path")
    endpoint = scope.get("endpoint")
    if not was_mounted or endpoint is None or getattr(endpoint, "routes", None):
        return None
    return prefix + "/{path}"


def _mounts_of(scope: Scope, root: str) -> str:
    """`root_path` with the templates of Starlette's mounts instead of what they matched."""
    above: str = scope.get("app_root_path", root)
    if root == above or not root.startswith(above):
        return root
    raw = root[len(above) :]
    found = _templates(_routes_of(scope), raw)
    return above + (_by_values(raw, scope.get("path_params", {})) if found is None else found)


def _routes_of(scope: Scope) -> Iterable[Any]:
    """Those of the outermost application."""
    return getattr(scope.get("router"), "routes", ())


def _templates(routes: Iterable[Any], raw: str) -> str | None:
    """The templates of the mounts that lead to `raw`, joined; None when they cannot be seen."""
    if not raw:
        return ""
    for route in routes:
        below = getattr(route, "routes", None)
        if below is not None and (step := _step(route, raw + "/")):
            inner = _templates(below, step[1].removesuffix("/"))
            if inner is not None:
                return step[0] + inner
    return None


def _step(mount: Any, path: str) -> tuple[str, str] | None:
    """The template of a mount that takes the beginning of `path`, and what is left of it."""
    regex = getattr(mount, "path_regex", None)
    if regex is None:  # a Host: it takes nothing of the path
        return "", path
    match = regex.match(path)
    return (mount.path, path[match.start("path") - 1 :]) if match else None


def _by_values(raw: str, params: dict[str, object]) -> str:
    """`raw` with each segment that is a parameter's value replaced by its name."""
    names = {str(value): f"{{{name}}}" for name, value in params.items()}
    return "/".join(names.get(segment, segment) for segment in raw.split("/"))
