"""``GET /v1/balance``: captured = stored + dropped + in flight."""

from litestar import get

from indelible.api.guard import READ_REFUSALS, NowMs, TheBalance, TheProject
from indelible.errors import Unavailable
from indelible.query.balance import BalanceView


@get(
    "/v1/balance",
    sync_to_thread=True,
    summary="Balance the books",
    response_description="The balance of each lane.",
    opt={"refusals": (*READ_REFUSALS, Unavailable)},
)
def read_balance(project_of: TheProject, balance: TheBalance, now_ms: NowMs) -> BalanceView:
    """What became of all events of the project: captured = stored + dropped by reason + in flight,
    exactly, for senders that number their events and for the others. `/v1/senders` has the account
    of each process. A second or two behind the log: `next_index` says how far."""
    return balance.of(project_of, at_ms=now_ms)


ROUTES = [read_balance]
