"""Every option of the client, in one list, and where its value comes from.

An argument outweighs `INDELIBLE_…`, which outweighs the names of the two services whose clients
this one replaces, so that a service that was configured for them needs no change.
"""

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack, get_args
from urllib.parse import urlsplit

from indelible.client.hidden import MASK, Hidden
from indelible.client.privacy import Redaction, sha256_hex
from indelible.client.validity import (
    QUOTED,
    expected,
    fits_a_header,
    is_quoted,
    nearest,
    no_such,
    wrong_in_api_key,
    wrong_in_token,
)

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

_HIDDEN: Final = frozenset({"token", "api_key", "pii_key", "headers"})
SOURCES: Final = "*"
"""Among what was given: which variable an option is from, by its name."""
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_NO_NAME: Final = re.compile(rb"""[\x00-\x20\x7f"%<>\\^`{|}]""")
LONGEST_S: Final = 1e6
"""The longest wait, about 11 days: no socket waits longer, and none waits for infinity."""

_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


class InvalidOption(ValueError):
    """An option has a value that means nothing; the message names it. Raised at construction only:
    a client that was made never raises."""


class ClientOptions(TypedDict, total=False):
    """`Options` but the token, as keyword arguments: for a function that passes them on.

        def client_for(team: str, **options: Unpack[ClientOptions]) -> Indelible:
            return Indelible(token_of(team), **options)

    None counts as not given.
    """

    api_key: str | None
    host: str | None
    audit_host: str | None
    service: str | None
    env: str | None
    headers: Mapping[str, str] | None
    ca_file: str | Path | None
    enabled: bool | None
    mode: Mode | None
    strict: bool | None
    insecure: bool | None
    max_queued: int | None
    max_queued_bytes: int | None
    overflow: Overflow | None
    batch_events: int | None
    batch_bytes: int | None
    batch_s: float | None
    max_event_bytes: int | None
    max_payload_bytes: int | None
    connect_s: float | None
    total_s: float | None
    retry_base_s: float | None
    retry_cap_s: float | None
    max_age_s: float | None
    breaker_failures: int | None
    breaker_probe_s: float | None
    exit_s: float | None
    spool: bool | None
    spool_audit: bool | None
    spool_dir: str | Path | None
    spool_bytes: int | None
    redact_names: Collection[str] | None
    redact_patterns: Collection[str] | None
    before_send: Callable[[WireEvent], WireEvent | None] | None
    on_error: Callable[[str], None] | None
    on_drop: Callable[[str, int], None] | None
    pii_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False)
class Options:
    """What a client was told. Sizes are in bytes, times in seconds.

    Its `repr` shows neither keys nor the values of headers.

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
        connect_s: Longest wait for a connection, over all addresses of a name; and again for the
            handshake of TLS.
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

    def __init__(self, *, token: str | None = None, **options: Unpack[ClientOptions]) -> None:
        """Take the options as they are given; `read` looks into the environment as well.

        Raises:
            InvalidOption: there is no such option, or a value means nothing.
        """
        given = Hidden.moved(options, token=token)
        del token
        self._fill(given)
        problem = self._problem(given)
        if problem is not None:
            raise InvalidOption(problem)

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str],
        *,
        token: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> "Options":
        """The options that are given, and those of `environment` where one is missing.

        An argument that is None counts as missing.

        Raises:
            InvalidOption: an argument or a variable has a value that means nothing.
        """
        given = Hidden.moved(options, token=token)
        del token
        surroundings = Hidden({name: environment.get(name) for name in _VARIABLES})
        del environment
        return cls.found(given, surroundings)

    @classmethod
    def found(cls, given: Hidden, surroundings: Hidden | None = None) -> "Options":
        """`read`, for those who hold secrets in no variable of their own; the process's own
        environment by default.

        Nothing that is called from here raises: a crash reporter sees the frame that did.
        """
        if surroundings is None:
            surroundings = _read_environment()
        made = cls.__new__(cls)
        problem = _complete(given, surroundings)
        made._fill(given)
        problem = problem or made._problem(given)
        if problem is not None:
            raise InvalidOption(problem)
        return made

    def _fill(self, given: Hidden) -> None:
        for field in fields(self):
            value = given.get(field.name)
            if field.default == () and isinstance(value, list | set | frozenset):
                value = tuple(value)
            object.__setattr__(self, field.name, field.default if value is None else value)

    def _problem(self, given: Hidden) -> str | None:
        """What is wrong with the options, in words that hold no secret; None if nothing is."""
        unknown = given.names - {field.name for field in fields(self)} - {SOURCES}
        if unknown:
            return no_such(unknown, [field.name for field in fields(self)])
        for find in (self._wrong_type, self._wrong_number, self._wrong_text, self._wrong_pattern):
            problem = find()
            if problem is not None:
                name, what_is_wrong = problem
                variable = (given.get(SOURCES) or {}).get(name)
                return f"{name} {what_is_wrong}" + (f" (from {variable})" if variable else "")
        return None

    def _wrong_type(self) -> tuple[str, str] | None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            kind, fits = expected(field.name, field.default)
            if not fits(value):
                return field.name, f"must be {kind}, not {type(value).__name__}"
        return None

    def _wrong_number(self) -> tuple[str, str] | None:
        for name in ("max_queued", "max_queued_bytes", "batch_events", "batch_bytes"):
            if getattr(self, name) < 1:
                return name, "must be at least 1"
        for name in ("batch_s", "retry_base_s", "retry_cap_s", "exit_s"):
            if not 0 <= getattr(self, name) <= LONGEST_S:
                return name, f"must be from 0 to {LONGEST_S:,.0f} seconds"
        for name in ("connect_s", "total_s"):
            if not 0 < getattr(self, name) <= LONGEST_S:
                return name, f"must be above 0, up to {LONGEST_S:,.0f} seconds"
        return None

    def _wrong_text(self) -> tuple[str, str] | None:
        for name, known in (("mode", get_args(Mode)), ("overflow", get_args(Overflow))):
            if getattr(self, name) not in known:
                return (
                    name,
                    f"must be one of {', '.join(known)}{nearest(getattr(self, name), known)}",
                )
        for name in ("token", "api_key", "host", "audit_host"):
            value = getattr(self, name)
            what_is_wrong = None if value is None else _CHECKS[name](value)
            if what_is_wrong is not None:
                return name, what_is_wrong
        for name, value in (self.headers or {}).items():
            if not fits_a_header(name) or not fits_a_header(value.replace(" ", "")):
                return "headers", f"has a character in {name!r} that no header may have"
        return None

    def _wrong_pattern(self) -> tuple[str, str] | None:
        try:
            self.redaction()
        except re.error as error:
            return "redact_patterns", f"has one that cannot be read: {error}"
        return None

    def __repr__(self) -> str:
        shown = []
        for field in fields(self):
            value = getattr(self, field.name, field.default)
            if value is not field.default and value != field.default:
                shown.append(f"{field.name}={_shown(field.name, value)}")
        return f"Options({', '.join(shown)})"

    def redaction(self) -> Redaction:
        return Redaction.of(self.redact_names, self.redact_patterns)

    def spool_folder(self, lane: str, host: str, secret_name: str) -> Path:
        """Where a lane's spool is; `secret_name` is the option whose value it belongs to.

        Raises:
            RuntimeError: no folder is set and this user has no home.
        """
        if self.spool_dir is not None:
            return Path(self.spool_dir) / lane
        state = os.environ.get("XDG_STATE_HOME")
        base = Path(state) if state else Path.home() / ".local" / "state"
        owner = sha256_hex(f"{host}\n{getattr(self, secret_name)}")[:16]
        return base / "indelible" / "spool" / f"{owner}-{lane}"

    def why_not(self, host: str | None, *, secret_name: str) -> str | None:
        """Why a lane cannot send, as a sentence with the cure; None when it can."""
        if not getattr(self, secret_name):
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


def _wrong_in_address(host: str) -> str | None:
    """Why nothing could ever be sent to this address; None where something could.

    A path in it is a prefix of every path that is asked for.
    """
    if is_quoted(host):
        return QUOTED
    given = "" if "@" in host else f": {_harmless(host)!r}"  # a password is never shown
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
    if not fits_a_header(parts.path):
        return f"has a path that must be written in ASCII, with %XX for what is not{given}"
    return None


def _is_name(name: str, *, in_brackets: bool) -> bool:
    """Whether a name can be looked up: an address of IPv6, or labels of 1 to 63 characters."""
    from ipaddress import ip_address  # for a client, not for the import of its class

    try:
        if in_brackets:
            return ip_address(name).version == 6
        return not _NO_NAME.search(name.encode("idna"))
    except ValueError:
        return False


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


# What the environment says.


_VARIABLES: Final = tuple(name for variables in ENVIRONMENT.values() for name in variables)


def _read_environment() -> Hidden:
    """Copy the variables that an option is read from, and no other."""
    # No variable may name `os.environ` itself: a frame that holds it shows every secret there is.
    return Hidden({name: os.environ.get(name) for name in _VARIABLES})


def _complete(given: Hidden, surroundings: Hidden) -> str | None:
    """Add what the environment says where nothing was given; what is wrong with it, if anything."""
    sources = {}
    is_host_given = "host" in given.names
    for name, variables in ENVIRONMENT.items():
        found = next((v for v in variables if surroundings.get(v)), None)
        if name in given.names or found is None:
            continue
        problem = _read_variable(name, found, given, surroundings)
        if problem is not None:
            return problem
        sources[name] = found
    if "audit_host" not in given.names and not is_host_given:
        # A service that was a client of both had an address for each.
        audit_host = surroundings.get("IMTBL_URL")
        if audit_host and not surroundings.get("INDELIBLE_HOST"):
            given.put("audit_host", audit_host.strip())
            sources["audit_host"] = "IMTBL_URL"
    for name in ("host", "audit_host"):
        if isinstance(given.get(name), str):
            given.put(name, given.get(name).strip())  # as a variable is
    given.put(SOURCES, sources)
    return None


def _read_variable(name: str, variable: str, given: Hidden, surroundings: Hidden) -> str | None:
    """Put what a variable says among the options; what is wrong with it, if anything."""
    text = surroundings.get(variable).strip()
    if is_quoted(text):
        return f"{variable} {QUOTED}"
    if name in ("enabled", "insecure"):
        if text.lower() not in _YES | _NO:
            return f"{variable} must be 1 or 0, not {_harmless(text)!r}"
        given.put(name, text.lower() in _YES)
    elif name == "headers":
        pairs = [pair.strip().partition("=") for pair in text.split(",")]
        if not all(key and equals for key, equals, _ in pairs):
            return f"{variable} must be written as Name=value,Name=value"
        given.put(name, {key.strip(): value.strip() for key, _, value in pairs})
    else:
        given.put(name, text)
    return None


def _harmless(text: str) -> object:
    """What was found in a wrong place, such as a key where the address belongs."""
    return Redaction().of_text(text)


def _shown(name: str, value: Any) -> str:
    if name == "headers" and isinstance(value, Mapping):
        return repr(dict.fromkeys(value, MASK))
    if name in _HIDDEN or (isinstance(value, str) and "@" in value):
        return repr(MASK)
    return repr(_harmless(value) if isinstance(value, str) else value)


_CHECKS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "token": wrong_in_token,
    "api_key": wrong_in_api_key,
    "host": _wrong_in_address,
    "audit_host": _wrong_in_address,
}
