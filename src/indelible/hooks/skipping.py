"""Which paths leave no event: health checks by their usual names, and static files. Pure.

>>> skips = Skips(USUAL)
>>> skips("GET", "/healthz"), skips("GET", "/shop/readyz/"), skips("GET", "/health/db")
(True, True, True)
>>> skips("GET", "/healthzone"), skips("GET", "/live/streams/7"), skips("POST", "/status")
(False, False, False)
"""

from collections.abc import Iterable
from typing import Final

_BELOW: Final = (
    "/health",
    "/healthz",
    "/healthcheck",
    "/healthchecks",
    "/health-check",
    "/health_check",
    "/_health",
    "/-/health",
    "/-/healthy",
    "/-/ready",
    "/-/live",
    "/_ah",  # App Engine's
    "/actuator/health",
    "/api/health",
    "/livez",
    "/readyz",
    "/startupz",
)
_ONLY: Final = (
    "/live",
    "/ready",
    "/alive",
    "/startup",
    "/started",
    "/liveness",
    "/readiness",
    "/status",
    "/up",
    "/ht",  # django-health-check's
    "/ping",
    "/_ping",
    "/heartbeat",
    "/__heartbeat__",
    "/__lbheartbeat__",
    "/elb-status",
    "/lb-status",
)
_ENDINGS: Final = (
    "*/healthz",
    "*/livez",
    "*/readyz",
    "*/startupz",
    "*/healthcheck",
    "*/health-check",
    "*/health_check",
    "*/_health",
    "*/_healthz",
    "*/__health__",
)
_READS: Final = frozenset({"GET", "QUERY", "HEAD", "OPTIONS"})

HEALTH: Final = (*_BELOW, *_ONLY, *_ENDINGS)
"""A health check's usual paths. A write to one of them is none, and leaves its events."""

USUAL: Final = (*HEALTH, "/metrics", "/static", "/favicon.ico")


class Skips:
    """Whether a request leaves no event, by its method and path.

    Args:
        paths: each with all below it; ``*/name`` is any path that ends so. Where they hold all of
            `HEALTH`, those are skipped for reading only, and the ambiguous of them, such as
            ``/live``, without what is below.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        given = frozenset(path.rstrip("/") for path in paths)
        health = given.intersection(HEALTH) if given.issuperset(HEALTH) else frozenset()
        self._always = _Paths(given - health)
        self._reading = _Paths(health, alone=frozenset(_ONLY))

    def __call__(self, method: str, path: str) -> bool:
        path = path.rstrip("/")
        if self._always.hold(path):
            return True
        # Work has a kind where a request has its method; its names are no health check's.
        return method in _READS and self._reading.hold(path.lower())


class _Paths:
    def __init__(self, paths: frozenset[str], *, alone: frozenset[str] = frozenset()) -> None:
        self._paths = paths
        endings = (path for path in paths if path.startswith("*/"))
        self._endings = frozenset(path.removeprefix("*/") for path in endings)
        self._below = tuple(f"{path}/" for path in paths - alone)

    def hold(self, path: str) -> bool:
        return (
            path in self._paths
            or path.startswith(self._below)
            or path.rpartition("/")[2] in self._endings
        )
