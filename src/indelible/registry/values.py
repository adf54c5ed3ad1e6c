"""The registry's vocabulary: projects, keys with their rates, and signed logs."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from indelible.access import EVERY_SCOPE, OF_APPLICATIONS, Scope
from indelible.event import LogId
from indelible.network import Address, Network, contains

ProjectKind = Literal["live", "test"]
BotPolicy = Literal["discard", "mark", "off"]
LogState = Literal["new", "open", "frozen"]
LedgerAccess = Literal["key", "public"]

BURST_S: Final = 10
"""A burst that nobody chose is what the rate gives in this many seconds."""
DEFAULT_GRACE_MS: Final = 24 * 60 * 60 * 1000

SERVER_ID: Final = 0
"""Owns the server's own log. Projects have ids from 1 on."""
SERVER_NAME: Final = "_server"
"""No project can have this name: theirs begin with a letter or digit."""


class Role(StrEnum):
    """What a key is for. A token writes product events; an application key writes and reads one
    project; an admin key does everything."""

    TOKEN = "token"  # noqa: S105 — a role, not a secret
    APPLICATION = "application"
    ADMIN = "admin"

    @property
    def scopes(self) -> frozenset[Scope]:
        """What a key of this role may do unless it is narrowed."""
        match self:
            case Role.TOKEN:
                return frozenset({Scope.WRITE})
            case Role.APPLICATION:
                return OF_APPLICATIONS
            case Role.ADMIN:
                return EVERY_SCOPE


@dataclass(frozen=True, slots=True)
class Project:
    """One project: a separate log, and its rules.

    `bot_policy` None leaves each route its own default. `monthly_limit` is for product events,
    `audit_monthly_limit` for audit events; None is no limit.
    `ledger_access` says who may read the files of its signed log: any key holder, or anyone.
    After `retention_days` product and audit events are erased; None keeps them. On `legal_hold`
    nothing is erased, on request or by age.
    """

    id: int
    name: str
    kind: ProjectKind
    monthly_limit: int | None
    bot_policy: BotPolicy | None
    created_at_ms: int
    ledger_access: LedgerAccess
    retention_days: int | None
    audit_monthly_limit: int | None
    legal_hold: bool = False

    @property
    def log(self) -> LogId:
        """The log that its events join."""
        return LogId(self.id)


@dataclass(frozen=True, slots=True)
class LogRow:
    """A signed log. `origin` and `vkey` are set together, before it signs anything.

    In state `new` it was ordered with its project, and has signed nothing; in state `open` its key
    and its last checkpoint must be there; `frozen` ones are the predecessors of a log that was
    opened after a restore.
    """

    name: str
    project_id: int
    origin: str | None
    vkey: str | None
    state: LogState
    shard: int = 0

    @property
    def id(self) -> LogId:
        """Whose log it is; a frozen one has that of its successor."""
        return LogId(self.project_id, self.shard)


@dataclass(frozen=True, slots=True)
class Rate:
    """How many events a second a key may send, and how many at once after a pause."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the server remembers it; `project` is None if it opens the whole server.

    `origins` are those of the pages that may use a token, empty for any; see `indelible.origin`.
    """

    id: str
    project: Project | None
    role: Role
    digest: bytes
    token: str | None
    prefix: str
    label: str
    networks: tuple[Network, ...]
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    fixed: bool
    rate: Rate | None
    origins: tuple[str, ...]
    scopes: frozenset[Scope]

    def is_valid(self, at_ms: int) -> bool:
        """Whether it is neither revoked nor past the end of its rotation."""
        return self.revoked_at_ms is None and (
            self.expires_at_ms is None or at_ms < self.expires_at_ms
        )

    def allows(self, address: Address | None) -> bool:
        """Whether the key may be used from `address`; an unknown one only without a list."""
        if not self.networks:
            return True
        return address is not None and contains(self.networks, address)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its secret: the only time that it is shown."""

    key: Key
    secret: str


Row = Project | Key | LogRow
"""What a snapshot consists of."""


def digest_of(secret: str) -> bytes:
    """Return what is kept of a key: its SHA-256."""
    return hashlib.sha256(secret.encode()).digest()
