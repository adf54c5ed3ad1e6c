"""Paths that name a person by a distinct id, which may have any character in it.

The framework decodes a path before it finds the route, so the slash of an id would part it. Below
`/v1/persons/` it is given the path as it came; the handlers decode the id, once, with `id_of`.

An id that is called like a route, `merge` or `unmerge`, is found as well. `.` and `..` cannot be in
a path: clients take them out before they send it, however they are written. Such a person is found
by its person id, or by ``GET /v1/persons?id=``.
"""

from typing import Final
from urllib.parse import unquote_to_bytes

from indelible.edge.asgi import Framework
from indelible.edge.http import Receive, Scope, Send
from indelible.errors import InvalidParameter

_BELOW: Final = "/v1/persons/"
_ALSO_ROUTES: Final = {"merge": "%6Derge", "unmerge": "%75nmerge"}


class PathsAsSent:
    """Wraps the framework, and gives it the paths of persons undecoded."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_BELOW):
            raw = "/" + scope["raw_path"].decode("utf-8", "replace").lstrip("/")
            if raw.startswith(_BELOW):  # else something of the prefix is encoded: as any other path
                rest = raw.removeprefix(_BELOW)
                if scope["method"] == "GET":
                    rest = _ALSO_ROUTES.get(rest, rest)
                scope = {**scope, "path": _BELOW + rest}
        await self._framework(scope, receive, send)


def id_of(segment: str) -> str:
    """Decode the segment of a path that is an id.

    Raises:
        InvalidParameter: it is not UTF-8.
    """
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise InvalidParameter("The id in the path is not UTF-8") from None
