"""`Indelible`: the client that an application holds.

Every call but the durable ones returns at once, does no I/O and never raises: a fault in analytics
must not become a fault in the caller. What cannot be delivered is counted by reason.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from indelible import __version__
from indelible.client import context as contexts
from indelible.client import lifecycle
from indelible.client.audit import Audit, AuditLane
from indelible.client.audited import audited
from indelible.client.notices import logger
from indelible.client.options import Options
from indelible.client.outbox import Outbox
from indelible.client.tally import Counts, Numbers
from indelible.client.timing import REAL_TIME, Time
from indelible.client.wire import AuditWire, Observed, ProductCapture, ProductWire, Stamp, Wire
from indelible.event import Lane, LossReason

if TYPE_CHECKING:
    from indelible.client.doctor import Diagnosis

_LIBRARY: Final = ("indelible-python", __version__)
_ITEM_BYTES: Final = 64
_OBSERVED_BYTES: Final = 1_024  # of an event that is described later, about

P = ParamSpec("P")
R = TypeVar("R")


class Indelible:
    """Sends product events and audit events to one server.

    Threads, processes and the interpreter's end are its own business: one background thread a
    lane, begun with the first event; a forked child begins anew and sends nothing of its parent's;
    at exit what is queued is delivered for up to two seconds and the rest stays in the spool.

    Args:
        token: project token, for product events.
        api_key: application key, for audit events; never in a browser.
        host: address of the server.
        options: any of `Options`.

    Raises:
        InvalidOption: an argument or a variable of the environment means nothing. Nothing else
            ever raises: without token, key or host, events are counted and let go, and one warning
            says so.
    """

    audit: Audit

    def __init__(
        self,
        token: str | None = None,
        *,
        api_key: str | None = None,
        host: str | None = None,
        _time: Time = REAL_TIME,
        _environment: Mapping[str, str] = os.environ,
        _complain: Callable[[str], object] = logger.warning,
        **options: Any,
    ) -> None:
        self.options = Options.read(
            _environment, token=token, api_key=api_key, host=host, **options
        )
        self._time = _time
        self._disabled = Numbers()
        self._closed = False
        self._lanes: list[lifecycle.Lane] = []
        self._begin(_complain)
        self.audit = Audit(self.options, self._audit_lane, time=self._time)
        address = str(self.options.host or self.options.audit_host) if self._lanes else ""
        lifecycle.watch(self, address, self._lanes)

    def _begin(self, complain: Callable[[str], object] | None) -> None:
        """Make what belongs to this process, and say what is missing for it."""
        options = self.options
        process_id = Stamp(self._time.wall_ns(), 0, os.urandom(10)).uuid.replace("-", "")
        product = audit = audit_wire = None
        if options.enabled:
            redaction = options.redaction()
            if self._can_send(options.host, options.token, "token", "product", complain):
                wire = ProductWire(
                    token=str(options.token),
                    process_id=process_id,
                    redaction=redaction,
                    max_event_bytes=options.max_event_bytes,
                    library=_LIBRARY,
                    before_send=options.before_send,
                )
                product = self._outbox(
                    wire, str(options.host), str(options.token), process_id, complain
                )
            host = options.audit_host or options.host
            if self._can_send(host, options.api_key, "api_key", "audit", complain):
                audit_wire = AuditWire(
                    api_key=str(options.api_key),
                    process_id=process_id,
                    redaction=redaction,
                    max_payload_bytes=options.max_payload_bytes,
                    service=options.service,
                    env=options.env,
                )
                audit = self._outbox(
                    audit_wire, str(host), str(options.api_key), process_id, complain
                )
        self._pid = os.getpid()
        self._process_id = process_id
        self._product = product
        self._audit = None if audit is None or audit_wire is None else AuditLane(audit, audit_wire)
        self._lanes[:] = self._made_here()

    def _outboxes(self) -> list[Outbox]:
        """Those of this process, product first."""
        self._notice_fork()
        return self._made_here()

    def _made_here(self) -> list[Outbox]:
        """Those made last, in this process or in the one it was forked from."""
        audit = self._audit.outbox if self._audit is not None else None
        return [outbox for outbox in (self._product, audit) if outbox is not None]

    def _audit_lane(self) -> AuditLane | None:
        self._notice_fork()
        return self._audit

    def _notice_fork(self) -> None:
        """Begin anew in a child of a fork that no hook was told of, as one in C may be."""
        if self._pid != os.getpid():
            self.after_fork()

    def _can_send(
        self,
        host: str | None,
        secret: str | None,
        name: str,
        lane: str,
        complain: Callable[[str], object] | None,
    ) -> bool:
        why_not = self.options.why_not(host, secret, secret_name=name)
        other = self.options.api_key if name == "token" else self.options.token
        # An application that sends one kind only need not hear of the other, and one that sends
        # none hears of it once.
        if why_not and complain and (secret or (lane == "product" and not other)):
            complain(f"{lane} events are not sent: {why_not}")
        return why_not is None

    def _outbox(
        self,
        wire: Wire,
        host: str,
        secret: str,
        process_id: str,
        complain: Callable[[str], object] | None,
    ) -> Outbox:
        spooled = self.options.spool_audit if wire.lane == Lane.AUDIT else self.options.spool
        folder = None
        if spooled:
            try:
                folder = self.options.spool_folder(wire.lane.value, host, secret)
            except RuntimeError:
                if complain:
                    complain("no spool: this user has no home; set INDELIBLE_SPOOL_DIR")
        return Outbox(
            wire,
            self.options,
            host=host,
            process_id=process_id,
            version=__version__,
            time=self._time,
            spool_folder=folder,
        )

    # Product events.

    def capture(
        self,
        event: str,
        *,
        distinct_id: str | None = None,
        anonymous_id: str | None = None,
        properties: Mapping[str, object] | None = None,
        timestamp: datetime | None = None,
        uuid: str | None = None,
    ) -> None:
        """Queue one product event and return at once; never raises.

        Args:
            event: its name, 1 to 200 characters: ``purchase_completed``.
            distinct_id: the person it belongs to; the current context's where none is given, else
                its `anonymous_id`, else the event belongs to nobody.
            anonymous_id: the visitor before the person was known.
            properties: any values; what JSON has no form for is given one. They are read on
                another thread a moment later, so nested lists and dicts must not be changed.
            timestamp: when it happened, if not now.
            uuid: its id, if it has one already; sent again, it is stored once.
        """
        if self._product is None:
            self._disabled.draw()
            return
        self._notice_fork()
        outbox = self._product
        try:
            if not isinstance(event, str) or not event:
                raise TypeError("event must be text")  # noqa: TRY301 — the door below counts it
            here = contexts.current()
            if here is None:
                own = dict(properties) if properties else {}
            else:
                own = {**here.of_product_events(), **(properties or {})}
                distinct_id = distinct_id or here.distinct_id
                anonymous_id = anonymous_id or here.anonymous_id
            if anonymous_id and distinct_id and anonymous_id != distinct_id:
                own.setdefault("$device_id", anonymous_id)
            when = None if timestamp is None else _rfc3339(timestamp)
            size = _estimate(own)
            who = distinct_id or anonymous_id
            # Nothing below may raise: from here on the event has a number.
            outbox.put(ProductCapture(outbox.stamp(), event, who, own, uuid, when), size)
            if self.options.mode == "sync" or outbox.is_ending:
                outbox.flush(self.options.total_s)
                outbox.raise_fault()
        except Exception:
            if self.options.strict:
                raise
            self._misused()

    def capture_observed(self, expand: Callable[[Stamp], ProductCapture]) -> None:
        """`capture` for the hooks: the event is described on the background thread."""
        if self._product is None:
            self._disabled.draw()
            return
        self._notice_fork()
        outbox = self._product
        outbox.put(Observed(outbox.stamp(), expand), _OBSERVED_BYTES)
        if self.options.mode == "sync" or outbox.is_ending:
            outbox.flush(self.options.total_s)
            outbox.raise_fault()

    def _misused(self) -> None:
        """Count a call whose arguments mean nothing; it has a number like any other."""
        if self._product is None:
            self._disabled.draw()
            return
        self._product.stamp()
        self._product.lose(LossReason.ENCODE_FAILED)

    def identify(
        self,
        distinct_id: str,
        properties: Mapping[str, object] | None = None,
        *,
        anonymous_id: str | None = None,
    ) -> None:
        """Say who the visitor is, and write properties of the person; never blocks or raises.

        Inside a request the rest of its events belong to this person too. With an anonymous id
        (given, or the context's) the server joins both; without one only properties are written.
        """
        here = contexts.current()
        if here is not None:
            anonymous_id = anonymous_id or here.anonymous_id
            here.distinct_id = distinct_id
        try:
            own: dict[str, object] = {"$set": dict(properties or {})}
        except Exception:
            if self.options.strict:
                raise
            self._misused()
            return
        if anonymous_id and anonymous_id != distinct_id:
            own["$anon_distinct_id"] = anonymous_id
        self.capture("$identify", distinct_id=distinct_id, properties=own)

    def alias(self, alias: str, *, distinct_id: str | None = None) -> None:
        """Fold the id `alias` into a person; never blocks or raises."""
        self.capture("$create_alias", distinct_id=distinct_id, properties={"alias": alias})

    def set(
        self,
        properties: Mapping[str, object] | None = None,
        *,
        once: Mapping[str, object] | None = None,
        distinct_id: str | None = None,
    ) -> None:
        """Write properties of a person: `properties` always, `once` only where there is none."""
        own: dict[str, object] = {}
        try:
            if properties:
                own["$set"] = dict(properties)
            if once:
                own["$set_once"] = dict(once)
        except Exception:
            if self.options.strict:
                raise
            self._misused()
            return
        self.capture("$set", distinct_id=distinct_id, properties=own)

    # Context.

    @contextmanager
    def context(
        self,
        *,
        distinct_id: str | None = None,
        anonymous_id: str | None = None,
        properties: Mapping[str, object] | None = None,
        meta: Mapping[str, str] | None = None,
        trail: str | None = None,
    ) -> Iterator[contexts.Context]:
        """Run a block in which events have these unless they say otherwise."""
        inner = contexts.inherited()
        inner.distinct_id = distinct_id or inner.distinct_id
        inner.anonymous_id = anonymous_id or inner.anonymous_id
        inner.properties.update(properties or {})
        inner.meta.update(meta or {})
        inner.trail = trail or inner.trail
        with contexts.bound(inner):
            yield inner

    def audited(
        self, event_name: str, payload: Callable[..., object] | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A decorator: an audit event for each call; see `indelible.client.audited`."""
        return audited(lambda: self.audit, event_name, payload)

    # Ends.

    def flush(self, timeout_s: float | None = None) -> bool:
        """Deliver what is queued now; whether every event of it has been settled in time.

        May be called any number of times, from any thread. Returns False after `timeout_s`; then
        delivery goes on in the background. Never raises.
        """
        started = self._time.monotonic()
        done = True
        for lane in self._outboxes():
            left = None
            if timeout_s is not None:
                left = max(0.0, timeout_s - (self._time.monotonic() - started))
            done = lane.flush(left) and done
        return done

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Flush, then stop; later calls are counted and do nothing. Whether all was delivered.

        What could not be delivered in time stays in the spool for the next process, or is counted
        as lost where there is none.
        """
        if self._closed:
            return True
        self._closed = True
        lifecycle.unwatch(self)
        started = self._time.monotonic()
        done = True
        for lane in self._outboxes():
            left = max(0.0, timeout_s - (self._time.monotonic() - started))
            done = lane.close(left) and done
        self.audit.close()
        return done

    def install_signal_handlers(self) -> bool:
        """Flush for up to two seconds at SIGTERM, before whatever else handles it.

        The middleware does this by itself. Returns False outside the main thread, where Python
        allows no handler to be set.
        """
        return lifecycle.install_signal_handlers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def at_exit(self, spent_s: float) -> None:
        """Deliver for the rest of `exit_s`, then write what is left to the spool.

        What is captured after this is delivered by the thread that captures it.
        """
        started = self._time.monotonic() - spent_s
        for lane in self._outboxes():
            lane.end(self._left_of_exit_s(started))
        self.audit.at_exit(self._left_of_exit_s(started))

    def at_signal(self, spent_s: float) -> None:
        """The same for a process that may go on: the worker goes on too."""
        started = self._time.monotonic() - spent_s
        for lane in self._outboxes():
            lane.save(self._left_of_exit_s(started))
        self.audit.at_exit(0)  # perhaps the signal interrupted one of these calls: it cannot go on

    def _left_of_exit_s(self, started: float) -> float:
        return max(0.05, self.options.exit_s - (self._time.monotonic() - started))

    def after_fork(self) -> None:
        """In a child: begin anew. What the parent queued is the parent's to send."""
        for lane in self._made_here():
            lane.abandon()
        self.audit.after_fork()
        self._disabled = Numbers()
        self._pid = os.getpid()
        if not self._closed:
            self._begin(None)

    # Accounts.

    def note_failure(self) -> None:
        """Count a fault of a hook that the application was spared."""
        for outbox in self._outboxes()[:1]:
            outbox.note_failure()

    def doctor(self) -> "Diagnosis":
        """Send a marked event in each lane and follow it to its receipt; takes seconds.

        Prints well: ``print(client.doctor())``. Does not raise; see `indelible.client.doctor`.
        """
        from indelible.client.doctor import Diagnosis, examine  # seldom called, so seldom loaded

        return Diagnosis(tuple(examine(self.options)))

    @property
    def is_enabled(self) -> bool:
        """Whether anything that is captured can be sent."""
        return bool(self._outboxes())

    @property
    def process_id(self) -> str:
        """Names this run of this process; every event carries it."""
        return self._process_id

    def counts(self) -> Counts:
        """What became of this process's product events; `audit.counts()` has the others.

        captured = delivered + waiting + the sum of lost.
        """
        if self._product is not None:
            return self._product.counts()
        let_go = self._disabled.drawn
        return Counts(let_go, 0, 0, {LossReason.DISABLED: let_go} if let_go else {})


def _rfc3339(moment: datetime) -> str:
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _estimate(properties: Mapping[str, object]) -> int:
    """About how many bytes the properties will have as JSON, without looking deep."""
    size = 256
    for value in properties.values():
        if value.__class__ is str or value.__class__ is bytes:
            size += len(value) + 16
        elif value.__class__ is dict or value.__class__ is list:
            size += _ITEM_BYTES * len(value)
        else:
            size += 24
    return size
