"""Projects and keys as management shows and takes them: the JSON of its requests and answers."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from indelible.access import Scope
from indelible.clock import rfc3339
from indelible.event import Lane
from indelible.journal.contract import JournalReader
from indelible.origin import MAX_CHARS
from indelible.registry.registry import Registry
from indelible.registry.values import (
    DEFAULT_GRACE_MS,
    BotPolicy,
    Key,
    LedgerAccess,
    NewKey,
    Project,
    ProjectKind,
)

# (?!\\n): in Python a `$` alone would also let a line break at the end pass.
Name = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(?!\n)$", examples=["web-shop"])
]
Limit = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
# The framework would read a bool from 1 and "true" too, so the handler looks at what it is.
Flag = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "boolean"})]
Label = Annotated[str, msgspec.Meta(max_length=200)]
NetworkText = Annotated[
    str,
    msgspec.Meta(
        max_length=64, extra_json_schema={"format": "ip-network", "examples": ["203.0.113.0/24"]}
    ),
]
PerSecond = Annotated[float, msgspec.Meta(ge=0.001, le=1_000_000)]
Burst = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
OriginText = Annotated[
    str,
    msgspec.Meta(
        max_length=MAX_CHARS,
        extra_json_schema={"format": "web-origin", "examples": ["https://shop.example"]},
    ),
]
ScopeName = Literal["write", "read", "query", "manage"]
assert tuple(Scope) == get_args(ScopeName)
ScopeNames = Annotated[list[ScopeName], msgspec.Meta(min_length=1, max_length=4)]
OriginTexts = Annotated[list[OriginText], msgspec.Meta(max_length=64)]
_MAX_GRACE_S: Final = 366 * 24 * 60 * 60


class ProjectView(msgspec.Struct):
    """A project; `token` is the newest valid one.

    `events_this_month` are product events, which `monthly_limit` counts; audit events have a count
    and a limit apart. On `legal_hold` nothing is erased, neither on request nor by age.
    """

    name: str
    kind: ProjectKind
    token: str | None
    monthly_limit: int | None
    events_this_month: int
    audit_monthly_limit: int | None
    audit_events_this_month: int
    events: int
    bot_policy: BotPolicy | None
    ledger_access: LedgerAccess
    retention_days: int | None
    legal_hold: bool
    created_at: str


class Projects(msgspec.Struct):
    """One page of projects; `next` is the cursor of the following one, null at the end."""

    projects: list[ProjectView]
    next: str | None


class NewProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project to be made; it gets a token and an application key at once.

    With `retention_days` its product and audit events are erased after so many days.
    """

    name: Name
    kind: ProjectKind = "live"
    monthly_limit: Limit | None = None
    audit_monthly_limit: Limit | None = None
    bot_policy: BotPolicy | None = None
    retention_days: Days | None = None


class ProjectMade(msgspec.Struct):
    """The new project; `api_key` is shown this once."""

    project: ProjectView
    token: str
    api_key: str


class ProjectChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change; what is left out stays. null takes a limit, the policy or the retention
    away; it brings back nothing that has been erased."""

    monthly_limit: Limit | msgspec.UnsetType | None = msgspec.UNSET
    audit_monthly_limit: Limit | msgspec.UnsetType | None = msgspec.UNSET
    bot_policy: BotPolicy | msgspec.UnsetType | None = msgspec.UNSET
    ledger_access: LedgerAccess | msgspec.UnsetType = msgspec.UNSET
    retention_days: Days | msgspec.UnsetType | None = msgspec.UNSET
    legal_hold: Flag = msgspec.UNSET


class KeyView(msgspec.Struct):
    """A key, without its secret; a project token is no secret and is shown.

    `rate` is how many events a second it may send, `burst` how many at once after a pause; `scopes`
    what it may do.
    """

    id: str
    project: str | None
    role: str
    prefix: str
    token: str | None
    label: str
    networks: list[str]
    rate: float | None
    burst: int | None
    origins: list[str]
    scopes: list[ScopeName]
    valid: bool
    fixed: bool
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class Keys(msgspec.Struct):
    """One page of keys; `next` is the cursor of the following one, null at the end."""

    keys: list[KeyView]
    next: str | None


class KeyWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A key to be made.

    A token or application key needs a `project`, an admin key has none. With `networks` the key is
    valid from those addresses only, with `origins` a token for the pages of those only. `rate` is
    how many events a second it may send; `burst`, which takes a `rate`, how many at once. `scopes`
    narrows an application key, which has `write`, `read` and `query` without.
    """

    role: Literal["token", "application", "admin"]
    project: Name | None = None
    label: Label = ""
    networks: Annotated[list[NetworkText], msgspec.Meta(max_length=64)] = []
    rate: PerSecond | None = None
    burst: Burst | None = None
    origins: OriginTexts = []
    scopes: ScopeNames | None = None


class KeyChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change; what is left out stays. A `rate` of null takes the rate away, an empty list
    the origins. `burst` comes with a `rate`; left out, it is what the rate gives in ten seconds."""

    rate: PerSecond | msgspec.UnsetType | None = msgspec.UNSET
    burst: Burst | msgspec.UnsetType = msgspec.UNSET
    origins: OriginTexts | msgspec.UnsetType = msgspec.UNSET


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """How long the old key stays valid beside the new one, in seconds."""

    grace_s: Annotated[int, msgspec.Meta(ge=0, le=_MAX_GRACE_S)] = DEFAULT_GRACE_MS // 1000


class KeyMade(msgspec.Struct):
    """The new key; `secret` is shown this once."""

    key: KeyView
    secret: str


def project_view(
    project: Project, registry: Registry, journal: JournalReader, now_ms: int
) -> ProjectView:
    """Show one project."""
    (view,) = project_views([project], registry, journal, now_ms)
    return view


def project_views(
    projects: Sequence[Project], registry: Registry, journal: JournalReader, now_ms: int
) -> list[ProjectView]:
    """Show these projects; all tokens of the server are looked through once."""
    ids = [project.id for project in projects]
    newest: dict[int, tuple[int, str, str]] = dict.fromkeys(ids, (-1, "", ""))
    for token, key in registry.snapshot.tokens.items():
        if key.project is not None and key.project.id in newest and key.is_valid(now_ms):
            one = key.created_at_ms, key.id, token
            newest[key.project.id] = max(newest[key.project.id], one)
    ends = journal.next_indexes(ids)
    return [
        ProjectView(
            name=project.name,
            kind=project.kind,
            token=newest[project.id][2] or None,
            monthly_limit=project.monthly_limit,
            events_this_month=registry.events_this_month(project, Lane.PRODUCT),
            audit_monthly_limit=project.audit_monthly_limit,
            audit_events_this_month=registry.events_this_month(project, Lane.AUDIT),
            events=ends[project.id],
            bot_policy=project.bot_policy,
            ledger_access=project.ledger_access,
            retention_days=project.retention_days,
            legal_hold=project.legal_hold,
            created_at=rfc3339(project.created_at_ms),
        )
        for project in projects
    ]


def key_view(key: Key, now_ms: int) -> KeyView:
    return KeyView(
        id=key.id,
        project=key.project.name if key.project else None,
        role=key.role,
        prefix=key.prefix,
        token=key.token,
        label=key.label,
        networks=[str(network) for network in key.networks],
        rate=None if key.rate is None else key.rate.per_s,
        burst=None if key.rate is None else key.rate.burst,
        origins=list(key.origins),
        scopes=[scope.value for scope in Scope if scope in key.scopes],
        valid=key.is_valid(now_ms),
        fixed=key.fixed,
        created_at=rfc3339(key.created_at_ms),
        expires_at=None if key.expires_at_ms is None else rfc3339(key.expires_at_ms),
        revoked_at=None if key.revoked_at_ms is None else rfc3339(key.revoked_at_ms),
    )


def made_view(made: NewKey, now_ms: int) -> KeyMade:
    return KeyMade(key_view(made.key, now_ms), made.secret)


def own_bytes(key: Key) -> int:
    """About how many bytes of a key its maker chose: a label, networks, origins."""
    return len(key.label) + sum(len(str(one)) for one in (*key.networks, *key.origins))
