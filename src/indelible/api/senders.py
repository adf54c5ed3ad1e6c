"""``GET /v1/senders``: whether all that was captured has arrived."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from indelible.api.guard import READ_REFUSALS, TheProject, TheSenders
from indelible.errors import InvalidCursor, Unavailable
from indelible.query.senders import DEFAULT_LIMIT, MAX_LIMIT, Filter, SenderPage


@get(
    "/v1/senders",
    sync_to_thread=True,
    summary="Is anything missing?",
    response_description="One page of accounts, and the cursor of the next.",
    opt={"refusals": (*READ_REFUSALS, InvalidCursor, Unavailable)},
)
def list_senders(
    project_of: TheProject,
    senders: TheSenders,
    process_id: Annotated[
        str | None,
        QueryParameter(
            description="Only the accounts of this process: 32 lower-case hex digits.",
            pattern="^[0-9a-f]{32}$",
        ),
    ] = None,
    missing: Annotated[  # noqa: FBT002 — the framework passes it by name
        bool, QueryParameter(description="Only accounts that miss events.")
    ] = False,
    limit: Annotated[
        int, QueryParameter(description="Most accounts of a page.", ge=1, le=MAX_LIMIT)
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, QueryParameter(description="`next` of the page before.", max_length=200)
    ] = None,
) -> SenderPage:
    """An account for each process and lane, of those that number their events: what it captured,
    what is stored, what it reports as lost, and what is missing. Newest first, by when the server
    last heard of the process. A second or two behind the log; `/healthz` shows how far."""
    which = Filter(process_id, missing)
    return senders.page(project_of, which, limit=limit, cursor=cursor)


ROUTES = [list_senders]
