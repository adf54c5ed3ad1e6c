"""The realtime figures as anyone would count them over the export of a log."""

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from indelible.moment import parse_time_ms

MINUTE_MS = 60_000


def pathname(properties: dict[str, Any]) -> str:
    """`$pathname`, else the path of `$current_url`."""
    named = properties.get("$pathname")
    if isinstance(named, str) and named:
        return named
    url = properties.get("$current_url")
    if not isinstance(url, str):
        return ""
    if url.startswith("/"):
        return url.partition("?")[0].partition("#")[0]
    return (urlsplit(url).path or "/") if "://" in url else ""


def top(names: list[str], member: str) -> list[dict[str, Any]]:
    """The ten names that came most often, ties by name."""
    ranked = sorted(Counter(names).items(), key=lambda each: (-each[1], each[0]))
    return [{member: name, "count": count} for name, count in ranked[:10]]


def figures(events: list[dict[str, Any]], as_of: int) -> dict[str, Any]:
    """What `/api/analytics/realtime` says of these events of an export, as of this moment."""
    products = [
        (parse_time_ms(event["received_at"]), event)
        for event in events
        if event["kind"] == "product"
    ]

    def since(window_ms: int) -> list[dict[str, Any]]:
        return [e for at, e in products if at is not None and as_of - window_ms <= at < as_of]

    half_an_hour, active = since(30 * MINUTE_MS), since(5 * MINUTE_MS)
    running = as_of // MINUTE_MS
    minutes = Counter(at // MINUTE_MS for at, _ in products if at is not None and at < as_of)
    known = [event for event in half_an_hour if "event" in event]
    pages = [page for event in known if (page := pathname(event["properties"]))]
    return {
        "active_users": len({event["distinct_id"] for event in active if "event" in event}),
        "events_per_minute": [
            {"minute": minute * MINUTE_MS, "count": minutes[minute]}
            for minute in range(running - 29, running + 1)
        ],
        "top_events": top([event["event"] for event in known], "name"),
        "top_pages": top(pages, "path"),
    }
