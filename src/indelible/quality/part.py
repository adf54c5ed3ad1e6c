"""The schemas as a part of the server."""

from typing import Final

from indelible.parts import Look, Part, PartHealth, off_the_loop
from indelible.quality.learning import Learning

DEGRADED_LAG: Final = 1_000_000


class QualityHealth(PartHealth):
    """`failure` says why nothing is learned any more; `unlearned` is how many stored entries the
    schemas do not know yet. Never `failing`: schemas are made anew from the log."""

    failure: str | None
    unlearned: int


def quality_part(learning: Learning) -> Part:
    """The schemas; their file is closed by who opened it."""
    unlearned = 0

    def find() -> None:
        nonlocal unlearned
        unlearned = learning.lag()

    def health() -> QualityHealth:
        failure = learning.schemas.failure
        is_behind = failure is not None or unlearned > DEGRADED_LAG
        return QualityHealth("degraded" if is_behind else "ok", failure, unlearned)

    return Part(
        name="quality",
        start=learning.start,
        stop=off_the_loop(learning.stop),
        health=health,
        form=QualityHealth,
        looks=[Look("how much is not learned", find, is_dear=True)],
    )
