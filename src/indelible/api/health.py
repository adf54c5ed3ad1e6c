"""Health and metrics."""

from litestar import Response, get
from litestar.openapi import ResponseSpec

from indelible import __version__, metrics
from indelible.api.guard import TheAccounting, TheDisk, TheJournal, TheLedger
from indelible.query.health import Health, look

_FAILING = ResponseSpec(
    Health, generate_examples=False, description="Nothing is stored, or nothing is signed."
)


@get(
    "/healthz",
    sync_to_thread=False,
    summary="Health",
    response_description="Events are stored, of one lane at least.",
    responses={503: _FAILING},
)
def healthz(
    journal: TheJournal, disk: TheDisk, ledger: TheLedger, accounting: TheAccounting
) -> Response[Health]:
    """503 when nothing is stored or nothing is signed, else 200; the body names the part."""
    health = look(journal, disk, ledger, accounting, version=__version__)
    return Response(health, status_code=503 if health.status == "failing" else 200)


@get(
    "/metrics",
    sync_to_thread=False,
    summary="Metrics",
    response_description="Each counter, with its help text.",
    media_type="text/plain",
)
def prometheus() -> Response[bytes]:
    """Every counter, in the Prometheus text format."""
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")


ROUTES = [healthz, prometheus]
