"""The description of the whole surface: ``/openapi.json`` and the page at ``/docs``."""

from typing import Any

from litestar import Request, get


@get("/openapi.json", sync_to_thread=False, include_in_schema=False)
def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """OpenAPI 3.1 of every route, the hot ones included."""
    return request.app.openapi_schema.to_schema()


ROUTES = [openapi]
