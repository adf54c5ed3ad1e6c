"""`Indelible`: the client that an application holds.

Every call but the durable ones returns at once, does no I/O and never raises: a fault in analytics
must not become a fault in the caller. What cannot be delivered is counted by reason.
"""

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, Unpack

from indelible import __version__
from indelible.client import context as contexts
from indelible.client import lifecycle
from indelible.client.audited import audited
from indelible.client.capture import Observed, ProductCapture, Stamp
from indelible.client.encode import IdLike, WrongType, blame
from indelible.client.hidden import Hidden, Secret
from indelible.client.joins import Joins
from indelible.client.options import ClientOptions, Options
from indelible.client.tally import Counts, Numbers
from indelible.client.timing import REAL_TIME, Time
from indelible.event import Lane, LossReason

if TYPE_CHECKING:
    from indelible.client.audit import Audit, AuditLane
    from indelible.client.doctor import Diagnosis
    from indelible.client.outbox import Outbox
    from indelible.client.wire import Wire

_LIBRARY: Final = ("indelible-python", __version__)
_ITEM_BYTES: Final = 64
_OBSERVED_BYTES: Final = 1_024  # of an event that is described later, about

P = ParamSpec("P")
R = TypeVar("R")


def prepare() -> None:
    """Load all that a client needs, for a hook whose client is made by the first event."""
    from indelible.client import audit, outbox, worker  # noqa: F401


class Indelible:
    """Sends product events and audit events to one server.

    Threads, processes and the interpreter's end are its own business: one background thread a
    lane, begun with the first event; a forked child begins anew and sends nothing of its parent's;
    at exit what is queued is delivered for up to two seconds and the rest stays in the spool.

    Args:
        token: project token, for product events.
        options: any of `Options`: ``api_key``, for audit events; ``host``, the address of the
            server; and so on.

    Raises:
        InvalidOption: an argument or a variable of the environment means nothing. Nothing else
            ever raises: without token, key or host, events are counted and let go, and one warning
            says so.
    """

    audit: "Audit"

    def __init__(self, token: str | None = None, **options: Unpack[ClientOptions]) -> None:
        given = Hidden.moved(options, token=token)
        del token
        self._set_up(Options.found(given), REAL_TIME, None)

    @classmethod
    def _of(
        cls,
        options: Options,
        *,
        time: Time = REAL_TIME,
        complain: Callable[[str], object] | None = None,
    ) -> Self:
        """Make a client of options that were read already; `complain` is told what is missing."""
        client = cls.__new__(cls)
        client._set_up(options, time, complain)
        return client

    def _set_up(
        self, options: Options, time: Time, complain: Callable[[str], object] | None
    ) -> None:
        # All that a client needs is loaded here: not by the import of its class, which need not
        # lead to a client, and not by the first event, which must not wait.
        from indelible.client.audit import Audit
        from indelible.client.notices import logger

        self.options = options
        self._time = time
        self._disabled = Numbers()
        self._closed = False
        self._lanes: list[lifecycle.Lane] = []
        self._begin(complain or logger.warning)
        self.audit = Audit(options, self._audit_lane, time=time)
        address = str(options.host or options.audit_host) if self._lanes else ""
        lifecycle.watch(self, address, self._lanes)

    def _begin(self, complain: Callable[[str], object] | None) -> None:
        """Make what belongs to this process, and say what is missing for it."""
        from indelible.client.audit import AuditLane
        from indelible.client.wire import AuditWire, ProductWire

        options = self.options
        process_id = Stamp(self._time.wall_ns(), 0, os.urandom(10)).uuid.replace("-", "")
        product = audit = audit_wire = None
        if options.enabled:
            redaction = options.redaction()
            if self._can_send(options.host, "token", "product", complain):
                wire = ProductWire(
                    token=Secret.of(json.dumps(options.token)),
                    process_id=process_id,
                    redaction=redaction,
                    max_event_bytes=options.max_event_bytes,
                    library=_LIBRARY,
                    before_send=options.before_send,
                )
                product = self._outbox(wire, str(options.host), "token", process_id, complain)
            host = options.audit_host or options.host
            if self._can_send(host, "api_key", "audit", complain):
                audit_wire = AuditWire(
                    api_key=str(options.api_key),
                    process_id=process_id,
                    redaction=redaction,
                    max_payload_bytes=options.max_payload_bytes,
                    service=options.service,
                    env=options.env,
                )
                audit = self._outbox(audit_wire, str(host), "api_key", process_id, complain)
        self._joins = Joins(self._time)
        self._pid = os.getpid()
        self._process_id = process_id
        self._product = product
        self._audit = None if audit is None or audit_wire is None else AuditLane(audit, audit_wire)
        self._lanes[:] = self._made_here()

    def _outboxes(self) -> "list[Outbox]":
        """Those of this process, product first."""
        self._notice_fork()
        return self._made_here()

    def _made_here(self) -> "list[Outbox]":
        """Those made last, in this process or in the one it was forked from."""
        audit = self._audit.outbox if self._audit is not None else None
        return [outbox for outbox in (self._product, audit) if outbox is not None]

    def _audit_lane(self) -> "AuditLane | None":
        self._notice_fork()
        return self._audit

    def _notice_fork(self) -> None:
        """Begin anew in a child of a fork that no hook was told of, as one in C may be."""
        if self._pid != os.getpid():
            self._after_fork()

    def _can_send(
        self,
        host: str | None,
        secret_name: str,
        lane: str,
        complain: Callable[[str], object] | None,
    ) -> bool:
        options = self.options
        why_not = options.why_not(host, secret_name=secret_name)
        # An application that sends one kind only need not hear of the other, and one that sends
        # none hears of it once.
        is_wanted = bool(options.token if lane == "product" else options.api_key)
        has_neither = not options.token and not options.api_key
        if why_not and complain and (is_wanted or (lane == "product" and has_neither)):
            complain(f"{lane} events are not sent: {why_not}")
        return why_not is None

    def _outbox(
        self,
        wire: "Wire",
        host: str,
        secret_name: str,
        process_id: str,
        complain: Callable[[str], object] | None,
    ) -> "Outbox":
        from indelible.client.outbox import Outbox

        spooled = self.options.spool_audit if wire.lane == Lane.AUDIT else self.options.spool
        folder = None
        if spooled:
            try:
                folder = self.options.spool_folder(wire.lane.value, host, secret_name)
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
        distinct_id: IdLike | None = None,
        anonymous_id: IdLike | None = None,
        properties: Mapping[str, object] | None = None,
        timestamp: datetime | None = None,
        uuid: IdLike | None = None,
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
                raise WrongType("event", event, "text")  # noqa: TRY301 — the door below counts it
            here = contexts.current()
            if here is None:
                own = dict(properties) if properties else {}
            else:
                own = {**here.of_product_events(), **(properties or {})}
                distinct_id = contexts.first_id(distinct_id, here.distinct_id)
                anonymous_id = contexts.first_id(anonymous_id, here.anonymous_id)
            who = contexts.first_id(distinct_id, anonymous_id)
            if anonymous_id is not None and anonymous_id is not who:
                own.setdefault("$device_id", anonymous_id)  # unless it turns out to be the same
            when = None if timestamp is None else _rfc3339(timestamp)
            size = _estimate(own)
            # Nothing below may raise: from here on the event has a number.
            outbox.put(ProductCapture(outbox.stamp(), event, who, own, uuid, when), size)
            if self.options.mode == "sync" or outbox.is_ending:
                outbox.flush(self.options.total_s)
                outbox.raise_fault()
        except Exception as error:
            if self.options.strict:
                raise
            self._misused(error, event=event, properties=properties, timestamp=timestamp)

    def _capture_observed(self, expand: Callable[[Stamp], ProductCapture]) -> None:
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

    def _misused(self, error: Exception, **arguments: object) -> None:
        """Count a call whose arguments mean nothing; it has a number like any other."""
        if self._product is None:
            self._disabled.draw()
            return
        self._product.stamp()
        self._product.lose(LossReason.ENCODE_FAILED, why=blame(error, arguments))

    def identify(
        self,
        distinct_id: IdLike,
        properties: Mapping[str, object] | None = None,
        *,
        anonymous_id: IdLike | None = None,
    ) -> None:
        """Say who the visitor is, and write properties of the person; never blocks or raises.

        Inside a request the rest of its events belong to this person too. With an anonymous id
        (given, or the context's) the server joins both. Without properties nothing is sent unless
        there are ids to join, and the same two are joined once an hour at most; to say whose a
        request is, `set_distinct_id` is enough.
        """
        here = contexts.current()
        if here is not None:
            anonymous_id = contexts.first_id(anonymous_id, here.anonymous_id)
            here.distinct_id = distinct_id
        try:
            own: dict[str, object] = {"$set": dict(properties or {})}
        except Exception as error:
            if self.options.strict:
                raise
            self._misused(error, properties=properties)
            return
        if anonymous_id is not None:
            own["$anon_distinct_id"] = anonymous_id  # unless it turns out to be the same
        if own["$set"] or self._joins.is_due(anonymous_id, distinct_id):
            self.capture("$identify", distinct_id=distinct_id, properties=own)

    # Of the current context, whichever client sends its events.
    set_distinct_id = staticmethod(contexts.set_distinct_id)
    set_anonymous_id = staticmethod(contexts.set_anonymous_id)

    def alias(self, alias: IdLike, *, distinct_id: IdLike | None = None) -> None:
        """Fold the id `alias` into a person; never blocks or raises."""
        self.capture("$create_alias", distinct_id=distinct_id, properties={"alias": alias})

    def set(
        self,
        properties: Mapping[str, object] | None = None,
        *,
        once: Mapping[str, object] | None = None,
        distinct_id: IdLike | None = None,
    ) -> None:
        """Write properties of a person: `properties` always, `once` only where there is none."""
        own: dict[str, object] = {}
        try:
            if properties:
                own["$set"] = dict(properties)
            if once:
                own["$set_once"] = dict(once)
        except Exception as error:
            if self.options.strict:
                raise
            self._misused(error, properties=properties, once=once)
            return
        self.capture("$set", distinct_id=distinct_id, properties=own)

    # Context.

    context = staticmethod(contexts.described)

    def audited(
        self, event_name: str, payload: Callable[..., object] | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A decorator: an audit event when the body of each call has ended; see
        `indelible.client.audited`."""
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
        self.audit._close()
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

    def _at_exit(self, spent_s: float) -> None:
        """Deliver for the rest of `exit_s`, then write what is left to the spool.

        What is captured after this is delivered by the thread that captures it.
        """
        started = self._time.monotonic() - spent_s
        for lane in self._outboxes():
            lane.end(self._left_of_exit_s(started))
        self.audit._at_exit(self._left_of_exit_s(started))

    def _at_signal(self, spent_s: float) -> None:
        """The same for a process that may go on: the worker goes on too."""
        started = self._time.monotonic() - spent_s
        for lane in self._outboxes():
            lane.save(self._left_of_exit_s(started))
        self.audit._at_exit(0)  # perhaps the signal interrupted one of these calls: it cannot go on

    def _left_of_exit_s(self, started: float) -> float:
        return max(0.05, self.options.exit_s - (self._time.monotonic() - started))

    def _after_fork(self) -> None:
        """In a child: begin anew. What the parent queued is the parent's to send."""
        for lane in self._made_here():
            lane.abandon()
        self.audit._after_fork()
        self._disabled = Numbers()
        self._pid = os.getpid()
        if not self._closed:
            self._begin(None)

    # Accounts.

    def _note_failure(self) -> None:
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
    if not isinstance(moment, datetime):
        raise WrongType("timestamp", moment, "a datetime")
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _estimate(properties: Mapping[str, object]) -> int:
    """About how many bytes the properties will have as JSON, without looking deep."""
    size = 256
    for value in properties.values():
        kind: Any = type(value)  # `__class__` would wake a lazy object
        if kind is str or kind is bytes:
            size += len(value) + 16  # type: ignore[arg-type]
        elif kind is dict or kind is list:
            size += _ITEM_BYTES * len(value)  # type: ignore[arg-type]
        else:
            size += 24
    return size
