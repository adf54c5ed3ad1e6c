"""The client of those who want no object: ``indelible.capture(…)``.

It is made at the first call, from the environment, or before that by `configure`. Two threads that
call first at the same time get the same one.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from indelible.client import audited as decorators
from indelible.client import lifecycle
from indelible.client.client import Indelible
from indelible.client.context import described
from indelible.client.context import set_anonymous_id as set_anonymous_id
from indelible.client.context import set_distinct_id as set_distinct_id
from indelible.client.encode import IdLike
from indelible.client.hidden import Hidden
from indelible.client.options import ClientOptions, Options

if TYPE_CHECKING:
    from indelible.client.audit import Audit
    from indelible.client.receipt import AuditType

P = ParamSpec("P")
R = TypeVar("R")

_made: list[Indelible] = []
_making = threading.RLock()


def _after_fork() -> None:
    """In a child: a lock of its own, since nobody may be left to release the parent's."""
    global _making
    _making = threading.RLock()


lifecycle.in_each_child(_after_fork)


def default_client() -> Indelible:
    """The one client of this module, made now if there is none yet."""
    if not _made:
        complaints: list[str] = []
        with _making:
            if not _made:
                _made.append(_from_environment(complaints.append))
        # Once it is there, and without the lock: a handler of the application's may capture what is
        # logged, here or on a thread that holds the handler's own lock.
        for complaint in complaints:
            logging.getLogger("indelible").warning("%s", complaint)
    return _made[-1]


def _from_environment(complain: Callable[[str], object]) -> Indelible:
    try:
        options = Options.found(Hidden({}))
    except ValueError as error:
        # A variable that means nothing must not break the first caller: the warning says which.
        complain(f"no events are sent: {error}")
        options = Options(enabled=False)
    return Indelible._of(options, complain=complain)


def configure(token: str | None = None, **options: Unpack[ClientOptions]) -> Indelible:
    """Make the default client with these options; one that was there is shut down.

    Raises:
        InvalidOption: an option means nothing.
    """
    given = Hidden.moved(options, token=token)
    del token
    return configured(given)


def configured(given: Hidden) -> Indelible:
    """`configure`, for callers who hold secrets in no variable of their own."""
    client = Indelible._of(Options.found(given))
    with _making:
        old = list(_made)
        _made[:] = [client]
    for one in old:
        one.shutdown(one.options.exit_s)
    return client


def capture(
    event: str,
    *,
    distinct_id: IdLike | None = None,
    anonymous_id: IdLike | None = None,
    properties: Mapping[str, object] | None = None,
    timestamp: datetime | None = None,
    uuid: IdLike | None = None,
) -> None:
    """`Indelible.capture` of the default client."""
    default_client().capture(
        event,
        distinct_id=distinct_id,
        anonymous_id=anonymous_id,
        properties=properties,
        timestamp=timestamp,
        uuid=uuid,
    )


def identify(
    distinct_id: IdLike,
    properties: Mapping[str, object] | None = None,
    *,
    anonymous_id: IdLike | None = None,
) -> None:
    """`Indelible.identify` of the default client."""
    default_client().identify(distinct_id, properties, anonymous_id=anonymous_id)


def alias(alias: IdLike, *, distinct_id: IdLike | None = None) -> None:
    """`Indelible.alias` of the default client."""
    default_client().alias(alias, distinct_id=distinct_id)


def set(
    properties: Mapping[str, object] | None = None,
    *,
    once: Mapping[str, object] | None = None,
    distinct_id: IdLike | None = None,
) -> None:
    """`Indelible.set` of the default client."""
    default_client().set(properties, once=once, distinct_id=distinct_id)


context = described
"""`Indelible.context`; it makes no client, so that a module may decorate with it."""


def audited(
    event_name: str, payload: Callable[..., object] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`Indelible.audited` of the default client, which is looked up at each call."""
    return decorators.audited(lambda: default_client().audit, event_name, payload)


def flush(timeout_s: float | None = None) -> bool:
    """`Indelible.flush` of the default client; True when there is none."""
    return _made[-1].flush(timeout_s) if _made else True


def shutdown(timeout_s: float = 30.0) -> bool:
    """`Indelible.shutdown` of the default client; True when there is none."""
    return _made[-1].shutdown(timeout_s) if _made else True


def send_event(
    event_name: str,
    payload: Mapping[str, object],
    kind: "AuditType" = "info",
    service: str = "python-service",
    env: str = "production",
) -> dict[str, object]:
    """ImmutableLog's function of this name: one durable audit event, its answer as a dict.

    A `timestamp` (ISO 8601, UTC) is added to the payload.

    Raises:
        AuditFailed: as `Audit.send` does.
    """
    body = {"timestamp": datetime.now(UTC).isoformat(), **payload}
    meta = {"service": service, "env": env, "environment": env}
    receipt = default_client().audit.send(event_name, body, type=kind, meta=meta)
    return {
        "ok": receipt.ok,
        "tx_id": receipt.tx_id,
        "payload_hash": receipt.payload_hash,
        "status": receipt.status,
        "duplicate": receipt.duplicate,
        "request_id": receipt.request_id,
    }


class _DefaultAudit:
    """`indelible.audit`: whatever the default client's audit side is at each call."""

    def __getattr__(self, name: str) -> Any:
        return getattr(default_client().audit, name)

    def __dir__(self) -> list[str]:
        return dir(default_client().audit)

    def __repr__(self) -> str:
        return "<the audit side of the default client>"


audit: "Audit" = _DefaultAudit()  # type: ignore[assignment]
