"""Every option of the client, in one list, and where its value comes from.

An argument outweighs `INDELIBLE_…`, which outweighs the names of the two services whose clients
this one replaces, so that a service that was configured for them needs no change.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from indelible.client.privacy import Redaction, sha256_hex

Mode = Literal["thread", "sync"]
Overflow = Literal["newest", "oldest"]
WireEvent = dict[str, Any]

ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "token": ("INDELIBLE_TOKEN", "VTILT_TOKEN", "VTILT_TRACKER_TOKEN"),
    "api_key": ("INDELIBLE_API_KEY", "INDELIBLE_AUDIT_KEY", "IMTBL_API_KEY"),
    "host": ("INDELIBLE_HOST", "VTILT_HOST", "IMTBL_URL"),
    "service": ("INDELIBLE_SERVICE", "IMTBL_SERVICE_NAME"),
    "env": ("INDELIBLE_ENV", "IMTBL_ENV"),
    "headers": ("INDELIBLE_HEADERS", "IMTBL_HEADERS"),
    "ca_file": ("INDELIBLE_CA_FILE",),
    "enabled": ("INDELIBLE_ENABLED",),
    "insecure": ("INDELIBLE_INSECURE",),
    "pii_key": ("INDELIBLE_PII_KEY",),
    "spool_dir": ("INDELIBLE_SPOOL_DIR",),
}
"""The variables that an option is read from, first one first. No other variable is read."""

_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_NO_NAME: Final = re.compile(rb"""[\x00-\x20\x7f"%<>\\^`{|}]""")
LONGEST_S: Final = 1e6
"""The longest wait, about 11 days: no socket waits longer, and none waits for infinity."""

_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


class InvalidOption(ValueError):
    """An option has a value that means nothing; the message names it. Raised at construction only:
    a client that was made never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a client was told. Sizes are in bytes, times in seconds.

    Attributes:
        token: Project token, for product events. Without one they are counted and let go.
        api_key: Application key, for audit events. Without one they are counted and let go. Never
            in a browser.
        host: Address of the server, such as ``https://events.example.com``; no default. Plain HTTP
            is for this machine only. It may have a path, as behind a proxy.
        audit_host: Where audit events go, if not to `host`.
        service: Written into `meta` of every audit event.
        env: Written into `meta` of every audit event, as `env` and `environment`.
        headers: Sent with every request, as a proxy may demand.
        ca_file: A file, or a folder, of the authorities whose certificates are trusted, in PEM, in
            place of the system's. Without it `SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE`
            and `CURL_CA_BUNDLE` count, in this order.
        enabled: When False nothing is done and nothing is sent; calls only count.
        mode: `thread` (one background thread a lane, begun with the first event) or `sync`, where
            a call returns when its event was delivered or a delivery was tried once.
        strict: Raise in the caller what would be counted otherwise: wrong arguments, and in `sync`
            mode a `before_send` that fails. For tests.
        insecure: Allow plain HTTP to a host that is not this machine.
        max_queued: Most events that wait in memory, per lane.
        max_queued_bytes: Most bytes that wait in memory, per lane; kept to within a half.
        overflow: Which events are let go when that is reached: the `newest` or the `oldest`.
        batch_events: A batch leaves when it has so many events.
        batch_bytes: A batch leaves before it would be longer than this.
        batch_s: A batch leaves when its first event is so old.
        max_event_bytes: A longer product event is sent as a stub: name, size and digest.
        max_payload_bytes: The same for the payload of a queued audit event. `audit.send` leaves it
            to the server, which says so.
        connect_s: Longest wait for a connection.
        total_s: Longest wait for a whole exchange, however slowly bytes arrive.
        retry_base_s: The first retry waits between 0 and this, each further one up to twice as
            long as the one before. A server that says Retry-After is obeyed.
        retry_cap_s: The longest that a retry waits of its own accord.
        max_age_s: How long an event that cannot be delivered is tried. When it is not set: an hour
            in memory, a day for product events on disk, for ever for audit events on disk.
        breaker_failures: After so many failures in a row the server is taken to be down.
        breaker_probe_s: A server that is taken to be down is asked once in this time.
        exit_s: Longest wait for delivery when the process ends or is told to.
        spool: Keep product events on disk until they are delivered.
        spool_audit: Keep audit events on disk until they are delivered.
        spool_dir: Where. Without it, a folder of this host and key below the user's folder for
            state, so that nothing spooled for one project is ever sent to another. With it,
            whoever is given the same folder sends what is in it.
        spool_bytes: Most that the spool may hold, all processes together.
        redact_names: Names whose values are masked, beside those that always are.
        redact_patterns: Regular expressions of what is masked in any text.
        before_send: Given each product event as it will be sent; returns it, changed or not, or
            None to let it go. Runs on the background thread. If it raises, the event is let go:
            a filter that failed must not leak.
        on_error: Told, on the background thread, what was refused or failed, in words.
        on_drop: Told, on the background thread, the reason and number of events let go.
        pii_key: Key of the pseudonyms that the middleware makes of client addresses.
    """

    token: str | None = None
    api_key: str | None = None
    host: str | None = None
    audit_host: str | None = None
    service: str | None = None
    env: str | None = None
    headers: Mapping[str, str] | None = None
    ca_file: str | Path | None = None
    enabled: bool = True
    mode: Mode = "thread"
    strict: bool = False
    insecure: bool = False
    max_queued: int = 10_000
    max_queued_bytes: int = 32 << 20
    overflow: Overflow = "newest"
    batch_events: int = 100
    batch_bytes: int = 1 << 20
    batch_s: float = 1.0
    max_event_bytes: int = 1 << 20
    max_payload_bytes: int = 64 << 10
    connect_s: float = 2.0
    total_s: float = 5.0
    retry_base_s: float = 0.5
    retry_cap_s: float = 30.0
    max_age_s: float | None = None
    breaker_failures: int = 5
    breaker_probe_s: float = 30.0
    exit_s: float = 2.0
    spool: bool = False
    spool_audit: bool = True
    spool_dir: str | Path | None = None
    spool_bytes: int = 256 << 20
    redact_names: tuple[str, ...] = ()
    redact_patterns: tuple[str, ...] = ()
    before_send: Callable[[WireEvent], WireEvent | None] | None = None
    on_error: Callable[[str], None] | None = None
    on_drop: Callable[[str, int], None] | None = None
    pii_key: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("mode", get_args(Mode)), ("overflow", get_args(Overflow))):
            if getattr(self, name) not in known:
                raise InvalidOption(f"{name} must be one of {', '.join(known)}")
        for name in ("max_queued", "max_queued_bytes", "batch_events", "batch_bytes"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{name} must be at least 1")
        for name in ("batch_s", "retry_base_s", "retry_cap_s", "exit_s"):
            if not 0 <= getattr(self, name) <= LONGEST_S:
                raise InvalidOption(f"{name} must be from 0 to {LONGEST_S:,.0f} seconds")
        for name in ("connect_s", "total_s"):
            if not 0 < getattr(self, name) <= LONGEST_S:
                raise InvalidOption(f"{name} must be above 0, up to {LONGEST_S:,.0f} seconds")
        for name in ("host", "audit_host"):
            host = getattr(self, name)
            what_is_wrong = None if host is None else _wrong_in_address(host)
            if what_is_wrong is not None:
                raise InvalidOption(f"{name} {what_is_wrong}")
        for name in ("token", "api_key"):
            # A line feed at the end of a file of secrets is the usual cause.
            if not _fits_a_header(getattr(self, name) or ""):
                raise InvalidOption(f"{name} must be visible ASCII, without blanks or line feeds")
        for name, value in (self.headers or {}).items():
            if not _fits_a_header(name) or not _fits_a_header(value.replace(" ", "")):
                raise InvalidOption(f"headers: {name!r} has a character that no header may have")
        try:
            self.redaction()
        except re.error as error:
            raise InvalidOption(f"redact_patterns: {error}") from None

    @classmethod
    def read(cls, environment: Mapping[str, str], **arguments: Any) -> "Options":
        """The options from `arguments`, and from `environment` where an argument is missing.

        An argument that is None counts as missing.

        Raises:
            InvalidOption: an argument or a variable has a value that means nothing.
        """
        unknown = arguments.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise InvalidOption(f"no such option: {', '.join(sorted(unknown))}")
        values = {name: value for name, value in arguments.items() if value is not None}
        for name, variables in ENVIRONMENT.items():
            found = next((v for v in variables if environment.get(v)), None)
            if name not in values and found is not None:
                values[name] = _read_variable(name, found, environment[found])
        if "audit_host" not in values and "host" not in arguments:
            # A service that was a client of both had an address for each.
            audit_host = environment.get("IMTBL_URL")
            if audit_host and not environment.get("INDELIBLE_HOST"):
                values["audit_host"] = audit_host
        for name in ("host", "audit_host"):
            if isinstance(values.get(name), str):
                values[name] = values[name].strip()  # as a variable is
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidOption(str(error)) from None

    def redaction(self) -> Redaction:
        return Redaction.of(self.redact_names, self.redact_patterns)

    def spool_folder(self, lane: str, host: str, secret: str) -> Path:
        """Where a lane's spool is.

        Raises:
            RuntimeError: no folder is set and this user has no home.
        """
        if self.spool_dir is not None:
            return Path(self.spool_dir) / lane
        state = os.environ.get("XDG_STATE_HOME")
        base = Path(state) if state else Path.home() / ".local" / "state"
        owner = sha256_hex(f"{host}\n{secret}")[:16]
        return base / "indelible" / "spool" / f"{owner}-{lane}"

    def why_not(self, host: str | None, secret: str | None, *, secret_name: str) -> str | None:
        """Why a lane cannot send, as a sentence with the cure; None when it can."""
        if not secret:
            variable = ENVIRONMENT[secret_name][0]
            return f"no {secret_name}: set {variable} or pass {secret_name}=…"
        if not host:
            return f"no host: set {ENVIRONMENT['host'][0]} or pass host=…"
        parts = urlsplit(host)
        if parts.scheme == "http" and not self.insecure and not _is_loopback(parts.hostname):
            return (
                f"{host} would carry events and keys in the clear: use https://, or allow it with "
                f"insecure=True or {ENVIRONMENT['insecure'][0]}=1"
            )
        return None


def _wrong_in_address(host: object) -> str | None:
    """Why nothing could ever be sent to this address; None where something could.

    A path in it is a prefix of every path that is asked for.
    """
    if not isinstance(host, str):
        return f"must be text, not {type(host).__name__}"
    given = "" if "@" in host else f": {host!r}"  # a password is never shown
    if _BLANK.search(host):  # `urlsplit` passes over some of them in silence
        return f"has a blank or a line feed in it{given}"
    try:
        parts = urlsplit(host)
        name, port = parts.hostname, parts.port
    except ValueError:
        return f"has a port that is no number up to 65535, or half an IPv6 address{given}"
    if "@" in parts.netloc:
        return "has a user or a password, which nobody would send: use headers={'Authorization': …}"
    if parts.scheme not in ("http", "https"):
        return f"must be an http:// or https:// address{given}"
    if not name or port == 0 or not _is_name(name, in_brackets="[" in parts.netloc):
        return f"names no server that there could be{given}"
    if parts.query or parts.fragment:
        return f"has a query or a fragment, which nobody would send{given}"
    if not _fits_a_header(parts.path):
        return f"has a path that must be written in ASCII, with %XX for what is not{given}"
    return None


def _is_name(name: str, *, in_brackets: bool) -> bool:
    """Whether a name can be looked up: an address of IPv6, or labels of 1 to 63 characters."""
    try:
        if in_brackets:
            return ip_address(name).version == 6
        return not _NO_NAME.search(name.encode("idna"))
    except ValueError:
        return False


def _fits_a_header(text: str) -> bool:
    return all("!" <= char <= "~" for char in text)


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_variable(name: str, variable: str, text: str) -> object:
    if name in ("enabled", "insecure"):
        lower = text.strip().lower()
        if lower in _YES | _NO:
            return lower in _YES
        raise InvalidOption(f"{variable} must be 1 or 0, not {text!r}")
    if name == "headers":
        return _read_headers(variable, text)
    return text.strip()


def _read_headers(variable: str, text: str) -> dict[str, str]:
    """Headers as ``Name=value,Name=value``."""
    headers = {}
    for pair in text.split(","):
        name, equals, value = pair.strip().partition("=")
        if not name or not equals:
            raise InvalidOption(f"{variable} must be written as Name=value,Name=value")
        headers[name.strip()] = value.strip()
    return headers
