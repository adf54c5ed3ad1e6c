"""The signed logs as a part of the server."""

from typing import Final

from indelible.ledger.ledger import Ledger
from indelible.parts import Look, Part, PartHealth, Word, off_the_loop

DEGRADED_LAG_MS: Final = 10_000
FAILING_LAG_MS: Final = 60_000
MOST_ALARMS: Final = 100
"""One cause may raise an alarm for each of thousands of logs; health is asked every few seconds."""


class LedgerHealth(PartHealth):
    """`failure` says why nothing is signed any more; `oldest_unsealed_s` is how long the oldest
    event that no checkpoint covers has been stored, null when there is none. `alarms` are sentences
    about witnesses who saw another history: never ignore one."""

    failure: str | None
    oldest_unsealed_s: float | None
    alarms: list[str]


def few(alarms: list[str], most: int = MOST_ALARMS) -> list[str]:
    """The first alarms, and how many more there are.

    >>> few(["one", "two", "three"], 2), few(["one", "two"], 2)
    (['one', 'two', 'and 1 more alarms'], ['one', 'two'])
    """
    more = len(alarms) - most
    return [*alarms[:most], f"and {more:,} more alarms"] if more > 0 else alarms


def ledger_part(ledger: Ledger) -> Part:
    """The signed logs. Events are stored whatever they do; health is red all the same when nothing
    is signed."""
    unsealed_ms: int | None = None

    def find() -> None:
        nonlocal unsealed_ms
        unsealed_ms = ledger.oldest_unsealed_ms()

    def health() -> LedgerHealth:
        age_ms = unsealed_ms
        failure, alarms = ledger.failure, ledger.alarms()
        word: Word = "ok"
        if failure is not None or alarms or (age_ms or 0) > FAILING_LAG_MS:
            word = "failing"
        elif (age_ms or 0) > DEGRADED_LAG_MS:
            word = "degraded"
        return LedgerHealth(word, failure, None if age_ms is None else age_ms / 1000, few(alarms))

    return Part(
        name="ledger",
        start=ledger.start,
        stop=off_the_loop(ledger.stop),
        health=health,
        form=LedgerHealth,
        looks=[Look("the oldest unsealed event", find, is_dear=True)],
        gives={"ledger": ledger},
    )
