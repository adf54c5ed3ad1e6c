"""Every setting of the server: meaning, unit, default, and what changing it costs.

Read once, at start, and handed down as plain values; no other module reads the environment. The
help text of ``indelible serve`` and docs/reference/settings.md are made from this list.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from indelible.errors import SettingInvalid
from indelible.network import Network, parse_networks
from indelible.voice import Format, Level

# Set for clients and commands on the same machine; the server leaves them alone. Not taken from
# `indelible.client.options`, which would load the whole client at each start.
_FOR_CLIENTS: Final = frozenset(
    f"INDELIBLE_{name}"
    for name in (
        "ADMIN_KEY",
        "API_KEY",
        "AUDIT_KEY",
        "ENABLED",
        "ENV",
        "HEADERS",
        "HOST",
        "INSECURE",
        "PII_KEY",
        "SERVICE",
        "SPOOL_DIR",
        "CA_FILE",
        "TOKEN",
    )
)
MOST_EDGES: Final = 64
_HOSTS: Final = ("INDELIBLE_HOST", "VTILT_HOST", "IMTBL_URL")
_SECRET_LENGTH: Final = 16  # 16 characters of a random key are beyond guessing; a word is not


def _secret(text: str) -> str:
    if len(text) < _SECRET_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"needs at least {_SECRET_LENGTH} visible ASCII characters")
    return text


def _token(text: str) -> str:
    if not 1 <= len(text) <= 200 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("needs 1 to 200 visible ASCII characters")
    return text


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number, without a unit") from None


def _positive(text: str) -> int:
    value = _whole(text)
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


def _edges(text: str) -> int:
    value = _whole(text)
    if not 0 <= value <= MOST_EDGES:
        raise ValueError(f"must be from 0 to {MOST_EDGES}")
    return value


def _port(text: str) -> int:
    value = _whole(text)
    if not 0 <= value <= 65535:
        raise ValueError("must be from 0 to 65535")
    return value


class Endpoint(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def _endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("needs an address and a port, such as 127.0.0.1:9464")
    return Endpoint(host, int(port))


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number, without a unit") from None
    if not 0 <= value <= 100:
        raise ValueError("must be from 0 to 100")
    return value


def _choice(choices: type[StrEnum]) -> Callable[[str], StrEnum]:
    def parse(text: str) -> StrEnum:
        if text not in list(choices):
            raise ValueError(f"must be one of {', '.join(choices)}")
        return choices(text)

    return parse


def _origin(text: str) -> str:
    if "://" in text or text.endswith("/") or not text.isprintable() or " " in text or "+" in text:
        raise ValueError("needs an address without scheme, closing slash, space and plus")
    return text


def _setting(
    variable: str, parse: Callable[[str], Any], default: Any, meaning: str, *, secret: bool = False
) -> Any:
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={"variable": variable, "parse": parse, "meaning": meaning, "secret": secret},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator can choose. Unknown or unreadable values refuse to start."""

    data_dir: Path = _setting(
        "INDELIBLE_DATA_DIR", Path, Path("data"), "Folder of the journal and the keys. Back it up."
    )
    listen: str = _setting(
        "INDELIBLE_LISTEN",
        str,
        "127.0.0.1",
        "Address to listen on. 0.0.0.0 opens the server to the network: put TLS in front of it.",
    )
    port: int = _setting(
        "INDELIBLE_PORT", _port, 8765, "Port to listen on; 0 takes one that is free."
    )
    edges: int | None = _setting(
        "INDELIBLE_EDGES",
        _edges,
        None,
        "Processes that accept connections and read requests, beside those that store and follow: "
        "when it is not set, one fewer than there are processor cores. 0 does everything in one "
        "process.",
    )
    server_token: str | None = _setting(
        "INDELIBLE_SERVER_TOKEN",
        _token,
        None,
        "Fixes the project token of the project `default` instead of a random one.",
    )
    server_api_key: str | None = _setting(
        "INDELIBLE_SERVER_API_KEY",
        _secret,
        None,
        "Fixes the application key of the project `default` instead of a random one.",
        secret=True,
    )
    server_admin_key: str | None = _setting(
        "INDELIBLE_SERVER_ADMIN_KEY",
        _secret,
        None,
        "Fixes the admin key instead of a random one.",
        secret=True,
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "INDELIBLE_TRUSTED_PROXIES",
        parse_networks,
        parse_networks("127.0.0.0/8,::1/128"),
        "Networks, separated by commas, whose X-Forwarded-For is believed. Too wide a list lets "
        "callers forge their address.",
    )
    max_body_bytes: int = _setting(
        "INDELIBLE_MAX_BODY_BYTES",
        _positive,
        20 * 1024 * 1024,
        "Longest request body on the wire; unpacked it may be five times as long. More costs "
        "memory for every request under way.",
    )
    max_event_bytes: int = _setting(
        "INDELIBLE_MAX_EVENT_BYTES", _positive, 1024 * 1024, "Longest single product event."
    )
    max_batch: int = _setting(
        "INDELIBLE_MAX_BATCH", _positive, 10_000, "Most product events in one request."
    )
    max_payload_bytes: int = _setting(
        "INDELIBLE_MAX_PAYLOAD_BYTES", _positive, 64 * 1024, "Longest payload of an audit event."
    )
    max_waiting_bytes: int = _setting(
        "INDELIBLE_MAX_WAITING_BYTES",
        _positive,
        64 * 1024 * 1024,
        "Events that may wait in memory for their sync before requests are answered 503.",
    )
    max_receiving_bytes: int = _setting(
        "INDELIBLE_MAX_RECEIVING_BYTES",
        _positive,
        128 * 1024 * 1024,
        "Bytes of all requests under way that may be held in memory, and half as much again for "
        "small ones. Over it, the body that has held most for longest is answered 503.",
    )
    product_min_free_percent: float = _setting(
        "INDELIBLE_PRODUCT_MIN_FREE_PERCENT",
        _percent,
        5.0,
        "Product events are answered 503 when less of the disk is free.",
    )
    audit_min_free_percent: float = _setting(
        "INDELIBLE_AUDIT_MIN_FREE_PERCENT",
        _percent,
        1.0,
        "Audit events are answered 503 when less of the disk is free. Keep it below the other.",
    )

    ledger_origin: str | None = _setting(
        "INDELIBLE_LEDGER_ORIGIN",
        _origin,
        None,
        "Beginning of the names of logs made from now on: the public address of /ledger without "
        "scheme and closing slash, such as events.example.com/ledger. A log keeps its name for "
        "ever. When it is not set, a unique one is made up.",
    )
    seal_interval_ms: int = _setting(
        "INDELIBLE_SEAL_INTERVAL_MS",
        _positive,
        500,
        "Least time between two signed checkpoints of a busy log; the first event after a pause "
        "is sealed at once. Less costs syncs.",
    )
    witness_policy: Path | None = _setting(
        "INDELIBLE_WITNESS_POLICY",
        Path,
        None,
        "File with the `witness`, `group` and `quorum` lines of a policy: who cosigns the "
        "checkpoints of every log. None when it is not set.",
    )
    witness_interval_ms: int = _setting(
        "INDELIBLE_WITNESS_INTERVAL_MS",
        _positive,
        500,
        "Least time between two checkpoints that the witnesses are asked for. Public witnesses "
        "count by the day: give them 60000 or more.",
    )

    metrics_key: str | None = _setting(
        "INDELIBLE_METRICS_KEY",
        _secret,
        None,
        "Key that opens /metrics, sent as `Authorization: Bearer`, and nothing else. An admin key "
        "opens it too.",
        secret=True,
    )
    metrics_listen: Endpoint | None = _setting(
        "INDELIBLE_METRICS_LISTEN",
        _endpoint,
        None,
        "Address and port of a second listener that serves /metrics alone, such as "
        "127.0.0.1:9464. It wants the metrics key if one is set, and no key otherwise: let only "
        "your monitoring reach it.",
    )
    log_format: Format = _setting(
        "INDELIBLE_LOG_FORMAT",
        _choice(Format),
        Format.TEXT,
        "Form of the log on stderr: `text`, or `json` with one object a line.",
    )
    log_level: Level = _setting(
        "INDELIBLE_LOG_LEVEL",
        _choice(Level),
        Level.INFO,
        "Least important lines of the log: `debug`, `info`, `warning` or `error`. Start, stop and "
        "refusals that are the caller's fault are `info`.",
    )

    scrub_bytes_per_s: int = _setting(
        "INDELIBLE_SCRUB_BYTES_PER_S",
        _positive,
        1024 * 1024,
        "How much of the stored events and of the ledger's tiles is compared with what was signed, "
        "on average, in the background. Less finds damage later; more costs disk and processor.",
    )

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
    ) -> "Settings":
        """Read every variable that is set; `overrides` (by field name, None left out) win.

        Raises:
            SettingInvalid: a value cannot be read, or a variable named INDELIBLE_… is no setting;
                the message names the variable. Secret values are not repeated.
        """
        settings = {field.metadata["variable"] for field in dataclasses.fields(cls)}
        for variable in sorted(environ):
            if variable.startswith("INDELIBLE_") and variable not in settings | _FOR_CLIENTS:
                close = get_close_matches(variable, settings, n=1)
                raise SettingInvalid(
                    f"{variable} is not a setting of this version",
                    hint=f"Did you mean {close[0]}? {SettingInvalid.hint}" if close else None,
                )
        renamed = old_key_names(environ).used
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            variable = renamed.get(field.metadata["variable"], field.metadata["variable"])
            if text := environ.get(variable):
                values[field.name] = _parsed(field, variable, text)
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls(**{**values, **given})


def how_to_log(environ: Mapping[str, str]) -> tuple[Format, Level]:
    """Read `log_format` and `log_level` alone, for a witness: it has no other of these settings.

    Raises:
        SettingInvalid.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        variable = field.metadata["variable"]
        if field.name in ("log_format", "log_level"):
            text = environ.get(variable)
            found[field.name] = _parsed(field, variable, text) if text else field.default
    return found["log_format"], found["log_level"]


def _parsed(field: "dataclasses.Field[Any]", variable: str, text: str) -> Any:
    try:
        return field.metadata["parse"](text)
    except ValueError as error:
        # pathlib and ipaddress put the value into their own text, _secret never does
        shown = "" if field.metadata["secret"] else f"={text}"
        raise SettingInvalid(f"{variable}{shown}: {error}") from error


@dataclass(frozen=True, slots=True)
class OldKeyNames:
    """What became of INDELIBLE_TOKEN, INDELIBLE_API_KEY and INDELIBLE_ADMIN_KEY in `environ`.

    They were the names of the server's fixed keys, and are the names that clients and commands
    read. This version still takes them for the server's where nothing else can be meant; the next
    one does not.

    Attributes:
        used: the old name that fixes a key of this server, by the new one.
        ignored: the same for old names that fix nothing, since a client's key may be meant.
    """

    used: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """At most two sentences for the operator; they name variables, never values."""
        said = []
        if self.used:
            said.append(
                f"{_listed(self.used.values())} fixed keys of this server for the last time: "
                f"the next version reads {_listed(self.used)}"
            )
        if self.ignored:
            said.append(
                f"{_listed(self.ignored.values())} may be a client's and fixed no key of this "
                f"server: {_listed(self.ignored)} would"
            )
        return said


def old_key_names(environ: Mapping[str, str]) -> OldKeyNames:
    """Decide whether the old names of the keys are the server's in this environment.

    They are if an admin key is among them and no host is named. No client reads an admin key, and
    commands read one only next to a host. A token or an application key alone can always be a
    client's: its host may be written in its code. If one new name is set, whoever set it knows
    them, so the old ones are a client's and nothing needs to be said.
    """
    names = ("TOKEN", "API_KEY", "ADMIN_KEY")
    old = {f"INDELIBLE_SERVER_{name}": f"INDELIBLE_{name}" for name in names}
    if any(environ.get(variable) for variable in old):
        return OldKeyNames()
    given = {new: variable for new, variable in old.items() if environ.get(variable)}
    names_a_host = any(environ.get(variable) for variable in _HOSTS)
    if "INDELIBLE_SERVER_ADMIN_KEY" in given and not names_a_host:
        return OldKeyNames(used=given)
    return OldKeyNames(ignored=given)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
