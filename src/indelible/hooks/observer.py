"""From what a hook saw to the events that are sent. Decided here once, for every framework.

    observer.saw(Request(…))    # as `indelible.hooks.watch` does
    observer.saw(Work(…))       # as `indelible.hooks.run` does

Nothing here raises into the application: a fault of ours is counted and the request goes on.
"""

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, cast

from indelible.client import context as contexts
from indelible.client.capture import AuditCapture, ProductCapture, Stamp
from indelible.client.client import Indelible
from indelible.client.context import Context, clean_id, request_id_of, trace_id_of
from indelible.client.default import default_client
from indelible.client.privacy import pseudonym, sha256_hex
from indelible.hooks.observation import (
    UNMATCHED,
    Failure,
    Observation,
    Request,
    Work,
)
from indelible.hooks.payload import Dialect, clamper, payload_of, type_of
from indelible.hooks.scrub import scrubbed
from indelible.hooks.skipping import USUAL, Skips
from indelible.network import Network, client_address, parse_networks

IpMode = Literal["off", "hash", "hmac", "raw"]
NameStyle = Literal["http", "dotted"]
Header = Callable[[str], str | None]

COOKIE: Final = "vt_anon"
NEVER: Final = frozenset({"HEAD", "OPTIONS"})
SKIPPED: Final = USUAL
"""What `skip` is unless it is given; to add to it: ``skip=(*SKIPPED, "/internal")``."""
WRITES: Final = ("POST", "PUT", "PATCH", "DELETE")
_COOKIES: Final = re.compile(rf"(?:^|;\s*){COOKIE}=([^;]*)")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What the hooks record, and how. Each hook takes these as keyword arguments.

    Attributes:
        product: capture a product event (`http_request`) for each request.
        audit: send an audit event for each request of `audit_methods` that a route took, for each
            job and for each command. Of work that comes as often as anybody sends it (messages,
            tasks, calls) only if this is True, or if the application names the event.
        audit_methods: by default those that write; None means all but HEAD and OPTIONS. A websocket
            counts as a GET.
        error_messages: record the text of what the application raised in audit events, with what
            looks like personal data masked; its type and place are there in any case.
        skip: instead of `SKIPPED`, paths that leave no event, each with all below it; ``*/name`` is
            any path that ends so; of work, its name.
        request_filter: given method and path, or kind and name of work; False skips it.
        extra: given the observation; what it returns is added to the product event.
        sample: share of requests that leave a product event, 0 to 1, or by route template. Audit
            events are never sampled.
        name_style: audit events are named ``http.POST./payments`` or, dotted, ``post.payments``.
        dialect: shape of the audit payload.
        max_payload_bytes: the clamp ladder's limit.
        identify_from_cookie: take the visitor from the cookie `vt_anon`.
        user_agent: record the User-Agent in audit events.
        ip_mode: what audit events say of the client's address: nothing, its digest, a pseudonym
            under the client's `pii_key`, or the address. Default: `hmac` with a key, else `off`.
        trusted_proxies: networks whose X-Forwarded-For is believed.
        install_signal_handlers: flush at SIGTERM.
    """

    product: bool = True
    audit: bool | None = None
    audit_methods: Sequence[str] | None = WRITES
    error_messages: bool = False
    skip: Sequence[str] = SKIPPED
    request_filter: Callable[[str, str], bool] | None = None
    extra: Callable[[Observation], Mapping[str, object]] | None = None
    sample: float | Mapping[str, float] = 1.0
    name_style: NameStyle = "http"
    dialect: Dialect = "nested"
    max_payload_bytes: int = 12_000
    identify_from_cookie: bool = False
    user_agent: bool = False
    ip_mode: IpMode | None = None
    trusted_proxies: str = ""
    install_signal_handlers: bool = True

    @property
    def audits(self) -> bool:
        """Whether anything leaves an audit event."""
        return self.audit is not False


def quietly(
    method: "Callable[Concatenate[Any, P], R]",
) -> "Callable[Concatenate[Any, P], R | None]":
    """A fault of ours is counted; the application never sees it (`strict` clients raise).

    For methods of what has a `client`.
    """

    @functools.wraps(method)
    def guarded(self: Any, *arguments: P.args, **named: P.kwargs) -> R | None:
        try:
            return method(self, *arguments, **named)
        except Exception:
            if self.client.options.strict:
                raise
            self.client._note_failure()
            return None

    return cast("Callable[Concatenate[Any, P], R | None]", guarded)


class Observer:
    """Turns what one hook sees into events of one client.

    Args:
        client: the client to send with; the module's default one, made when it is first needed.
        framework: name and version, such as ``flask 3.1.3``.
        recording: fields of `Recording`.

    Raises:
        TypeError: there is no such field.
    """

    def __init__(
        self, client: Indelible | None = None, *, framework: str, **recording: Any
    ) -> None:
        self.recording = Recording(**recording)
        self.framework = framework
        self._client = client
        self._clamp = clamper(self.recording.max_payload_bytes)
        self._skips = Skips(self.recording.skip)
        self._audited = _methods(self.recording.audit_methods)
        self._proxies: tuple[Network, ...] = parse_networks(self.recording.trusted_proxies)
        if self.recording.install_signal_handlers:
            self._install()

    @property
    def client(self) -> Indelible:
        return self._client if self._client is not None else default_client()

    def _install(self) -> None:
        from indelible.client.lifecycle import install_signal_handlers

        install_signal_handlers()

    # Requests.

    @quietly
    def admit(
        self,
        *,
        method: str,
        path: str,
        header: Header,
        root: str = "",
        around: Context | None = None,
    ) -> Context | None:
        """The context of a request or connection that begins here; None when it leaves no event.

        Args:
            method, path: as received; `path` without the query.
            header: looks up a header by its lower-case name.
            root: the beginning of `path` that the application is served under; a path is skipped
                with it or without.
            around: the context that another hook gave this request: then it is the same one.
        """
        recording = self.recording
        if method in NEVER or not self.wants(method, path):
            return None
        if root and self._skips(method, path.removeprefix(root)):
            return None
        here = around or Context(
            request_id=request_id_of(header("x-request-id")),
            trace_id=contexts.active_trace_id() or trace_id_of(header("traceparent")),
            trail=clean_id(header("x-audit-trail")),
        )
        if recording.identify_from_cookie and here.anonymous_id is None:
            match = _COOKIES.search(header("cookie") or "")
            here.anonymous_id = clean_id(match.group(1)) if match else None
        return here

    @quietly
    def wants(self, method: str, path: str) -> bool:
        """Whether a request leaves an event; for work, by its kind and its name."""
        recording = self.recording
        if not (recording.product or recording.audits):
            return False
        if not self.client.is_enabled or self._skips(method, path):
            return False
        return recording.request_filter is None or recording.request_filter(method, path)

    # Work.

    @quietly
    def saw(self, seen: Observation, *, product: bool = True, audit: bool = True) -> None:
        """Leave the events of one observation, of those kinds that are asked for."""
        if seen.context.ignored or not self.client.is_enabled:
            return
        if product and self.recording.product:
            rate = self._rate(seen)
            if rate >= 1.0 or random.random() < rate:  # noqa: S311 — guards nothing
                self._capture(seen, rate)
        if audit and self.recording.audits and self._is_audited(seen):
            self._audit(seen)

    def _rate(self, seen: Observation) -> float:
        """The share of such observations that leaves a product event."""
        sample = self.recording.sample
        if isinstance(sample, Mapping):
            return sample.get(seen.route if isinstance(seen, Request) else seen.name, 1.0)
        return sample

    def _is_audited(self, seen: Observation) -> bool:
        """Whether it may take room in a log that is kept for ever: not what anybody can provoke."""
        if isinstance(seen, Work) and seen.name == UNMATCHED:
            return False
        if seen.context.event_name:
            return True  # the application named it: a download may be worth an entry, too
        if isinstance(seen, Work):
            if seen.kind == "websocket":
                return self._audits("GET")
            return seen.kind in _DELIBERATE or self.recording.audit is True
        if not self._audits(seen.method) or seen.status == _METHOD_NOT_ALLOWED:
            return False
        if seen.route != UNMATCHED or seen.failure is not None:
            return True
        # No route is known in an application of no framework, or because a middleware has answered:
        # what was done counts, and what went wrong; not what was refused, or was given up.
        done = seen.status is not None and (200 <= seen.status < 300 or seen.status >= 500)
        return done and not seen.aborted

    def _audits(self, method: str) -> bool:
        return self._audited is None or method in self._audited

    def _capture(self, seen: Observation, rate: float) -> None:
        extra = self._extra(seen) or {}
        if rate < 1.0:
            extra["$sample_rate"] = rate
        self.client._capture_observed(functools.partial(_product_event, seen, extra))

    @quietly
    def _extra(self, seen: Observation) -> dict[str, object]:
        """What the application adds; a fault in there costs its additions, not the events."""
        if self.recording.extra is None:
            return {}
        return dict(self.recording.extra(seen))  # noqa: S610 — no Django here

    def _audit(self, seen: Observation) -> None:
        self.client.audit._send_observed(functools.partial(self._audit_event, seen))

    def _audit_event(self, seen: Observation, stamp: Stamp) -> AuditCapture:
        """The audit event of an observation; on the background thread."""
        return AuditCapture(
            stamp,
            self._audit_name(seen),
            functools.partial(self._payload, seen),
            {"type": type_of(seen), **self._meta(seen)},
            clamp=self._clamp,
        )

    def _payload(self, seen: Observation, event_id: str, at_ms: int) -> dict[str, Any]:
        return payload_of(
            self._scrubbed(seen),
            dialect=self.recording.dialect,
            event_id=event_id,
            at_ms=at_ms,
            ip_fields=self._ip_fields(seen),
        )

    def _scrubbed(self, seen: Observation) -> Observation:
        """The observation with a message that may be kept, before anything is cut off it."""
        failure = seen.failure
        if failure is None or not failure.message:
            return seen
        message = scrubbed(self.client.options.redaction().of_text(failure.message))
        return replace(seen, failure=replace(failure, message=message))

    def _audit_name(self, seen: Observation) -> str:
        if seen.context.event_name:
            return seen.context.event_name
        if isinstance(seen, Work):
            return f"{seen.kind}.{seen.name}"
        if self.recording.name_style == "http":
            return f"http.{seen.method}.{seen.route}"
        dotted = ".".join(part for part in seen.route.split("/") if part)
        return f"{seen.method.lower()}.{dotted}".rstrip(".")

    def _meta(self, seen: Observation) -> dict[str, str]:
        meta = dict(seen.context.meta)
        meta["log_level"] = _LOG_LEVELS.get(type_of(seen), "info")
        if isinstance(seen, Request):
            meta["http_method"] = seen.method
            meta["http_route"] = seen.route
            if seen.status is not None:
                meta["http_status"] = str(seen.status)
        if seen.failure is not None:
            meta["error_type"] = seen.failure.type
            if seen.failure.place is not None:
                meta["error_place"] = seen.failure.place
        if isinstance(seen, Request) and seen.client_ip and self._ip_mode() == "raw":
            meta["client_ip"] = seen.client_ip
        ids = {
            "request_id": seen.context.request_id,
            "trace_id": seen.context.trace_id,
            "immutable_trail": seen.context.trail,
        }
        return meta | {name: value for name, value in ids.items() if value}

    def _ip_mode(self) -> IpMode:
        if self.recording.ip_mode is not None:
            return self.recording.ip_mode
        return "hmac" if self.client.options.pii_key else "off"

    def _ip_fields(self, seen: Observation) -> dict[str, str]:
        if not isinstance(seen, Request) or not seen.client_ip:
            return {}
        match self._ip_mode():
            case "off":
                return {}
            case "hash":
                return {"ip_hash": sha256_hex(seen.client_ip)}
            case "hmac":
                key = self.client.options.pii_key
                return {"ip_hash": pseudonym(seen.client_ip, key=key)} if key else {}
            case "raw":
                return {}  # it is in `meta`, where it can be searched for, and in no second place

    def failure_of(self, error: BaseException) -> Failure:
        """What is recorded of `error`: its text only where `error_messages` asks for it."""
        return Failure.of(error, with_message=self.recording.error_messages)

    def client_ip(self, peer: str | None, header: Header) -> str | None:
        """The client's address by the trusted-proxy rule; None where none is recorded."""
        if self._ip_mode() == "off":
            return None
        forwarded = header("x-forwarded-for")
        address = client_address(peer, [forwarded] if forwarded else [], self._proxies)
        return str(address) if address is not None else None


def _methods(given: Sequence[str] | None) -> frozenset[str] | None:
    if given is None:
        return None
    return frozenset(one.upper() for one in ((given,) if isinstance(given, str) else given))


_METHOD_NOT_ALLOWED: Final = 405
_DELIBERATE: Final = frozenset({"job", "command"})
"""Kinds of work that somebody who runs the application planned or typed."""
_EVENT_NAMES: Final = {
    "task": "task_run",
    "message": "message_consumed",
    "job": "job_run",
    "rpc": "rpc_call",
    "command": "command_run",
    "websocket": "websocket_session",
}
_LOG_LEVELS: Final = {"error": "error", "warning": "warn", "debug": "debug"}


def _product_event(seen: Observation, extra: Mapping[str, object], stamp: Stamp) -> ProductCapture:
    """The product event of an observation; on the background thread."""
    here = seen.context
    properties = {**here.properties, **_properties(seen), **extra}
    if here.anonymous_id and here.distinct_id and here.anonymous_id != here.distinct_id:
        properties.setdefault("$device_id", here.anonymous_id)
    name = "http_request" if isinstance(seen, Request) else _EVENT_NAMES[seen.kind]
    return ProductCapture(stamp, name, here.distinct_id or here.anonymous_id, properties)


def _properties(seen: Observation) -> dict[str, object]:
    """What a product event says: names and numbers of few values, nothing of anybody's content."""
    if isinstance(seen, Request):
        properties: dict[str, object] = {
            "method": seen.method,
            "route": seen.route,
            "status": seen.status,
            "duration_ms": _milliseconds(seen.duration_s),
        }
        known = {
            "first_byte_ms": _milliseconds(seen.first_byte_s),
            "request_bytes": seen.request_bytes,
            "response_bytes": seen.response_bytes,
        }
        properties |= {name: value for name, value in known.items() if value is not None}
        if seen.aborted:
            properties["aborted"] = True
    else:
        properties = {"name": seen.name, "outcome": seen.outcome, **seen.details}
        if seen.duration_s is not None:
            properties["duration_ms"] = _milliseconds(seen.duration_s)
    properties["framework"] = seen.framework
    if seen.context.request_id:
        properties["request_id"] = seen.context.request_id
    if seen.context.trace_id:
        properties["trace_id"] = seen.context.trace_id
    if seen.context.event_name:
        properties["event_name"] = seen.context.event_name
    if seen.failure is not None:
        properties["error_type"] = seen.failure.type
        if seen.failure.place is not None:
            properties["error_place"] = seen.failure.place
    return properties


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 3)
