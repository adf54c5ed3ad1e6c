"""A client whose events are at hand the moment they were captured."""

from typing import Any, Self, Unpack

from indelible.client.client import Indelible
from indelible.client.options import ClientOptions
from indelible.testing.server import InMemoryServer, Received


class Recorder:
    """A client that sends to a server in memory, each event at once.

    It is strict: a call that would be counted as lost in production raises here.

    Attributes:
        client: give this to the application.
        server: where its events arrive.
    """

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        self.server = InMemoryServer().start()
        usual: ClientOptions = {
            "api_key": self.server.api_key,
            "host": self.server.url,
            "mode": "sync",
            "strict": True,
            "spool_audit": False,
        }
        usual.update(options)
        self.client = Indelible(self.server.token, **usual)

    @property
    def captured(self) -> list[Received]:
        """The product events so far."""
        self.client.flush(5)
        return self.server.product

    @property
    def audited(self) -> list[Received]:
        """The audit events so far."""
        self.client.flush(5)
        return self.server.audit

    def assert_captured(
        self,
        event: str,
        *,
        distinct_id: str | None = None,
        times: int | None = None,
        **properties: Any,
    ) -> Received:
        """There is a product event of this name with at least these properties; returns the last.

        Args:
            event, distinct_id: its name and person.
            times: exactly so many match.
            properties: members that it must have.

        Raises:
            AssertionError: there is none, or another number; the message shows what there is.
        """
        found = [
            one
            for one in self.captured
            if one.name == event
            and (distinct_id is None or one.distinct_id == distinct_id)
            and _has(one.properties, properties)
        ]
        wanted = {**properties, **({"distinct_id": distinct_id} if distinct_id else {})}
        return _the_last(found, times, event, wanted, self.captured)

    def assert_audited(
        self, event_name: str, *, times: int | None = None, payload: Any = None, **meta: str
    ) -> Received:
        """There is an audit event of this name with at least this meta; returns the last.

        `payload` is compared with the decoded payload, where it is given.

        Raises:
            AssertionError: there is none, or another number; the message shows what there is.
        """
        found = [
            one
            for one in self.audited
            if one.name == event_name
            and _has(one.meta, meta)
            and (payload is None or one.payload == payload)
        ]
        return _the_last(found, times, event_name, meta, self.audited)

    def assert_nothing_captured(self, event: str | None = None) -> None:
        """There is no product event, or none of this name."""
        found = [one for one in self.captured if event in (None, one.name)]
        assert not found, f"captured:\n{_shown(found)}"

    def assert_nothing_audited(self, event_name: str | None = None) -> None:
        """There is no audit event, or none of this name."""
        found = [one for one in self.audited if event_name in (None, one.name)]
        assert not found, f"audited:\n{_shown(found)}"

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.client.flush(5)
        self.server.clear()

    def close(self) -> None:
        self.client.shutdown(1)
        self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _has(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(name in there and there[name] == value for name, value in wanted.items())


def _the_last(
    found: list[Received],
    times: int | None,
    name: str,
    wanted: dict[str, Any],
    all_of_them: list[Received],
) -> Received:
    if found and times in (None, len(found)):
        return found[-1]
    how_many = "no event" if not found else f"{len(found)} events"
    expected = "at least one" if times is None else f"exactly {times}"
    raise AssertionError(
        f"{how_many} {name!r} with {wanted}; expected {expected}. Recorded:\n{_shown(all_of_them)}"
    )


def _shown(events: list[Received]) -> str:
    if not events:
        return "  nothing"
    return "\n".join(
        f"  {one.name} {one.properties or one.meta} {one.payload or ''}".rstrip() for one in events
    )
