"""Health and metrics."""

from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec

from indelible import __version__, metrics
from indelible.api.guard import TheLookout
from indelible.api.scraping import CONTENT_TYPE, PATH
from indelible.errors import InvalidApiKey, IpNotAllowed, ManageScopeMissing


@get(
    PATH,
    sync_to_thread=False,
    opt={"refusals": (InvalidApiKey, ManageScopeMissing, IpNotAllowed)},
    summary="Metrics",
    response_description="Each counter, with its help text.",
    media_type="text/plain",
)
def prometheus() -> Response[bytes]:
    """Every counter, in the Prometheus text format."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE)


def health_routes(form: type[msgspec.Struct]) -> list[HTTPRouteHandler]:
    """The routes, with `form` as the type of what /healthz answers: the parts make it."""

    async def healthz(lookout: TheLookout) -> Response[Any]:
        """503 when nothing is stored or nothing is signed, else 200; the body names the part.
        Answered from memory, however the disk is."""
        await lookout.fresh()
        health = lookout.health(version=__version__)
        return Response(health, status_code=503 if health.status == "failing" else 200)

    healthz.__annotations__["return"] = Response[form]  # type: ignore[valid-type]
    failing = ResponseSpec(
        form,
        generate_examples=False,
        description="Nothing is stored, nothing is signed, or the disk does not answer.",
    )
    described = get(
        "/healthz",
        summary="Health",
        response_description="Events are stored, of one lane at least.",
        responses={503: failing},
    )(healthz)
    return [described, prometheus]
