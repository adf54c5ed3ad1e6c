"""The persons as a part of the server."""

from typing import Final

from indelible.identity.identity import Identity
from indelible.parts import Look, Part, PartHealth, off_the_loop

DEGRADED_LAG_MS: Final = 10_000


class IdentityHealth(PartHealth):
    """`failure` says why persons are not kept any more; `behind` is how many stored entries no
    person has yet, and `oldest_behind_s` how long the oldest of them has been stored, null if there
    is none. Never `failing`: persons are made again from the log."""

    failure: str | None
    behind: int | None
    oldest_behind_s: float | None


def identity_part(identity: Identity) -> Part:
    """The persons; their file is closed by who opened it."""
    behind: int | None = None
    oldest_ms: int | None = None

    def find() -> None:
        nonlocal behind, oldest_ms
        behind, oldest_ms = identity.behind()

    def health() -> IdentityHealth:
        failure = identity.failure
        is_behind = failure is not None or (oldest_ms or 0) > DEGRADED_LAG_MS
        age_s = None if oldest_ms is None else oldest_ms / 1000
        return IdentityHealth("degraded" if is_behind else "ok", failure, behind, age_s)

    return Part(
        name="identity",
        start=identity.start,
        stop=off_the_loop(identity.stop),
        health=health,
        form=IdentityHealth,
        looks=[Look("the oldest entry that no person has", find, is_dear=True)],
    )
