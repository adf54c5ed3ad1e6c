"""Signed logs: ordered with their project, identified, opened; frozen when another succeeds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from indelible.registry.values import LogRow, LogState

if TYPE_CHECKING:
    from indelible.registry.registry import Registry

SUCCEEDED: Final = "log.succeeded"


class SignedLogs:
    """The signed logs of a registry."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry

    def all(self, state: LogState | None = None) -> list[LogRow]:
        """Return the signed log of every project, and the frozen ones, by name; or those in one
        state."""
        logs = self._registry.snapshot.logs
        return [logs[name] for name in sorted(logs) if state in (None, logs[name].state)]

    def identify(self, name: str, *, origin: str, vkey: str) -> None:
        """Give a new log its origin and its key, which sign nothing before `open`."""
        with self._registry.turn():
            log = self._registry.snapshot.logs[name]
            if log.state == "new":
                self._registry.change_untold(changed=[replace(log, origin=origin, vkey=vkey)])

    def open(self, name: str) -> None:
        """Let the log sign from now on; it is never made again."""
        with self._registry.turn():
            log = self._registry.snapshot.logs[name]
            if log.state == "new":
                self._registry.change_untold(changed=[replace(log, state="open")])

    def succeed(self, name: str, successor: str, facts: Mapping[str, object]) -> None:
        """Freeze a log and order its successor; `facts` become the event `log.succeeded`."""
        with self._registry.turn() as snapshot:
            old = snapshot.logs[name]
            self._registry.change(
                SUCCEEDED,
                facts,
                log=old.id,
                added=[replace(old, name=successor, origin=None, vkey=None, state="new")],
                changed=[replace(old, state="frozen")],
            )
