"""What happens now as a part of the server."""

from typing import Final

from indelible.live.live import Live
from indelible.parts import Look, Part, PartHealth

DEGRADED_LAG_MS: Final = 10_000


class LiveHealth(PartHealth):
    """`oldest_waiting_s` is how long the oldest stored event that is not shown yet has been stored,
    null when there is none. `streams` are open; `entries` and `bytes` are what the rings of all
    projects hold. Never `failing`: nothing depends on it."""

    oldest_waiting_s: float | None
    streams: int
    entries: int
    bytes: int


def live_part(live: Live) -> Part:
    """Rings, figures and streams; nothing of them is in a file."""
    waiting_ms: int | None = None

    def find() -> None:
        nonlocal waiting_ms
        waiting_ms = live.oldest_waiting_ms()

    def health() -> LiveHealth:
        age_ms = waiting_ms
        entries, size_bytes = live.rings.held()
        return LiveHealth(
            "degraded" if (age_ms or 0) > DEGRADED_LAG_MS else "ok",
            None if age_ms is None else age_ms / 1000,
            live.streams.count,
            entries,
            size_bytes,
        )

    return Part(
        name="live",
        start=live.start,
        stop=live.stop,
        health=health,
        form=LiveHealth,
        looks=[Look("the oldest event that is not shown", find, is_dear=True)],
        gives={"live": live},
    )
