"""Every setting of the server: meaning, unit, default, and what changing it costs.

Read once, at start, and handed down as plain values; no other module reads the environment. The
help text of ``indelible serve`` and docs/reference/settings.md are made from this list.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from indelible.errors import SettingInvalid
from indelible.network import Network, parse_networks

# Set for clients and commands on the same machine; the server leaves them alone. Not taken from
# `indelible.client.options`, which would load the whole client at each start.
_FOR_CLIENTS: Final = frozenset(
    f"INDELIBLE_{name}"
    for name in (
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
    )
)
MOST_EDGES: Final = 64
_SECRET_LENGTH: Final = 16  # 16 characters of a random key are beyond guessing; a word is not


def _secret(text: str) -> str:
    if len(text) < _SECRET_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"needs at least {_SECRET_LENGTH} visible ASCII characters")
    return text


def _token(text: str) -> str:
    if not 1 <= len(text) <= 200 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("needs 1 to 200 visible ASCII characters")
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


def _edges(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MOST_EDGES:
        raise ValueError(f"must be from 0 to {MOST_EDGES}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError("must be from 0 to 65535")
    return value


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise ValueError("must be from 0 to 100")
    return value


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
        "Processes that accept connections and read requests, beside the one that stores: when it "
        "is not set, one fewer than there are processor cores. 0 does everything in one process.",
    )
    token: str | None = _setting(
        "INDELIBLE_TOKEN",
        _token,
        None,
        "Fixes the project token of the project `default` instead of a random one.",
    )
    api_key: str | None = _setting(
        "INDELIBLE_API_KEY",
        _secret,
        None,
        "Fixes the application key of the project `default` instead of a random one.",
        secret=True,
    )
    admin_key: str | None = _setting(
        "INDELIBLE_ADMIN_KEY",
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
        known = {field.metadata["variable"] for field in dataclasses.fields(cls)} | _FOR_CLIENTS
        for variable in sorted(environ):
            if variable.startswith("INDELIBLE_") and variable not in known:
                raise SettingInvalid(f"{variable} is not a setting of this version")
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            text = environ.get(field.metadata["variable"])
            if not text:
                continue
            try:
                values[field.name] = field.metadata["parse"](text)
            except ValueError as error:
                # pathlib and ipaddress put the value into their own text, _secret never does
                shown = "" if field.metadata["secret"] else f"={text}"
                raise SettingInvalid(f"{field.metadata['variable']}{shown}: {error}") from error
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls(**{**values, **given})
