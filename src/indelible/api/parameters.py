"""Query parameters and body members that a route does not have are refused by name.

Ignoring one is dangerous: a misspelt filter finds everything, and what is found may be erased next.
Which parameters a route has is read from the signatures that the framework itself reads, so there
is no list to keep.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import BaseRoute, HTTPRoute

from indelible.edge.http import parameters_of
from indelible.errors import InvalidParameter, UnknownParameter

_LONGEST_NAME: Final = 64  # of a name that is repeated in a message; ours are far shorter

Known = Mapping[tuple[str, str], frozenset[str]]
"""The names of every route's query parameters, by path and method."""


class Parameters:
    """A guard that lets pass what names only parameters of its route, and each of them once."""

    def __init__(self) -> None:
        self._known: Known | None = None

    async def __call__(
        self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
    ) -> None:
        """
        Raises:
            UnknownParameter; InvalidParameter: one is given more than once.
        """
        scope = connection.scope
        query = scope["query_string"]
        method = str(scope.get("method"))
        if not query or method == "OPTIONS":
            return
        if self._known is None:
            self._known = _parameters_of(scope["litestar_app"].routes)
        known = self._known[scope["path_template"], "GET" if method == "HEAD" else method]
        pairs = parameters_of(query)
        given = Counter(name for name, _ in pairs)
        for name, times in given.items():
            if name not in known:
                raise UnknownParameter(
                    f"This route has no parameter {quoted(name)}", hint=advice(name, known)
                )
            if times > 1:
                raise InvalidParameter(f"`{name}` is given {times} times", hint="Give it once.")


def _parameters_of(routes: Iterable[BaseRoute]) -> Known:
    return {
        (route.path_format, str(method)): frozenset(
            parameter.field_alias for parameter in model.expected_query_params
        )
        for route in routes
        if isinstance(route, HTTPRoute)
        for method, (_, model) in route.route_handler_map.items()
    }


def quoted(name: str) -> str:
    """A name that a caller made up, fit to stand in a message."""
    shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return f"`{''.join(c if c.isprintable() else '�' for c in shown)}`"


def advice(name: str, known: Collection[str]) -> str:
    """The known names closest to `name` first, then all of them."""
    if not known:
        return "It has none at all: leave it out."
    close = [f"`{match}`" for match in get_close_matches(name[:_LONGEST_NAME], known)]
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}Known here: {', '.join(sorted(known))}."
