"""The accounts of losses as a part of the server."""

from typing import Final

from indelible.accounting.accounting import Accounting
from indelible.parts import Look, Part, PartHealth, off_the_loop

DEGRADED_LAG_MS: Final = 10_000


class AccountingHealth(PartHealth):
    """`failure` says why nothing is counted any more; `oldest_uncounted_s` is how long the oldest
    event that is in no account has been stored, null when there is none. Never `failing`: accounts
    are made anew from the log."""

    failure: str | None
    oldest_uncounted_s: float | None


def accounting_part(accounting: Accounting) -> Part:
    """The accounts; their file is closed by who opened it."""
    uncounted_ms: int | None = None

    def find() -> None:
        nonlocal uncounted_ms
        uncounted_ms = accounting.oldest_uncounted_ms()

    def health() -> AccountingHealth:
        age_ms, failure = uncounted_ms, accounting.accounts.failure
        is_behind = failure is not None or (age_ms or 0) > DEGRADED_LAG_MS
        age_s = None if age_ms is None else age_ms / 1000
        return AccountingHealth("degraded" if is_behind else "ok", failure, age_s)

    return Part(
        name="accounting",
        start=accounting.start,
        stop=off_the_loop(accounting.stop),
        health=health,
        form=AccountingHealth,
        looks=[Look("the oldest uncounted event", find, is_dear=True)],
    )
