"""Management, for admin keys: projects and keys. Each change is an event of the project's log."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, get_args

import msgspec
from litestar import delete, get, patch, post
from litestar.params import JSONBody, PathParameter

from indelible.access import Scope
from indelible.api.guard import (
    BODY_REFUSALS,
    KEY_REFUSALS,
    NowMs,
    TheJournal,
    TheLedger,
    TheRegistry,
)
from indelible.clock import rfc3339
from indelible.errors import AlreadyExists, InvalidParameter, NotFound, Unavailable
from indelible.event import Lane
from indelible.journal.contract import JournalReader
from indelible.network import Network, parse_networks
from indelible.origin import MAX_CHARS, parse_origin
from indelible.registry.keys import Unset
from indelible.registry.registry import Registry
from indelible.registry.values import (
    BURST_S,
    DEFAULT_GRACE_MS,
    BotPolicy,
    Key,
    LedgerAccess,
    NewKey,
    Project,
    ProjectKind,
    Rate,
    Role,
)

# (?!\\n): in Python a `$` alone would also let a line break at the end pass.
Name = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(?!\n)$", examples=["web-shop"])
]
Limit = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
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
KeyId = Annotated[str, PathParameter(description="The key's id, `key_…`; not its secret.")]
ProjectPath = Annotated[str, PathParameter(description="The project's name.")]
_MAX_GRACE_S: Final = 366 * 24 * 60 * 60


class ProjectView(msgspec.Struct):
    """A project; `token` is the newest valid one.

    `events_this_month` are product events, which `monthly_limit` counts; audit events have a count
    and a limit apart.
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
    created_at: str


class Projects(msgspec.Struct):
    projects: list[ProjectView]


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
    keys: list[KeyView]


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


@get(
    "/v1/projects",
    sync_to_thread=True,
    summary="List projects",
    response_description="Every project.",
    opt={"refusals": KEY_REFUSALS},
)
def list_projects(registry: TheRegistry, journal: TheJournal, now_ms: NowMs) -> Projects:
    """Every project, with its token and how much of its month is used."""
    projects = sorted(registry.snapshot.projects.values(), key=lambda p: p.id)
    return Projects([_project(p, registry, journal, now_ms) for p in projects])


@post(
    "/v1/projects",
    sync_to_thread=True,
    summary="Create a project",
    response_description="The project and its secrets.",
    opt={"refusals": (*BODY_REFUSALS, AlreadyExists, Unavailable)},
)
def create_project(
    registry: TheRegistry,
    journal: TheJournal,
    ledger: TheLedger,
    now_ms: NowMs,
    data: JSONBody[NewProject],
) -> ProjectMade:
    """Makes a project with an empty, signed log, a token and an application key."""
    if data.name not in registry.snapshot.projects and not ledger.logs.is_vacant(data.name):
        raise AlreadyExists(
            f"Parts of an older log {data.name!r} are in the data folder",
            hint="Choose another name, or take its key and its folder in ledger/ away.",
        )
    project = registry.projects.create(
        data.name,
        kind=data.kind,
        monthly_limit=data.monthly_limit,
        audit_monthly_limit=data.audit_monthly_limit,
        bot_policy=data.bot_policy,
        retention_days=data.retention_days,
    )
    ledger.settle()
    token = registry.keys.create(Role.TOKEN, project, label="first", log=False)
    api_key = registry.keys.create(Role.APPLICATION, project, label="first", log=False)
    return ProjectMade(_project(project, registry, journal, now_ms), token.secret, api_key.secret)


@patch(
    "/v1/projects/{name:str}",
    sync_to_thread=True,
    summary="Change a project",
    response_description="The project, changed.",
    opt={"refusals": (*BODY_REFUSALS, NotFound, Unavailable)},
)
def change_project(
    registry: TheRegistry,
    journal: TheJournal,
    now_ms: NowMs,
    name: ProjectPath,
    data: JSONBody[ProjectChange],
) -> ProjectView:
    """Changes a monthly limit, the bot policy or who may read the signed log's files, from the
    next request on; the retention, within the hour."""
    changes = {
        field: value
        for field in ProjectChange.__struct_fields__
        if (value := getattr(data, field)) is not msgspec.UNSET
    }
    if not changes:
        raise InvalidParameter(f"Name what to change: {', '.join(ProjectChange.__struct_fields__)}")
    return _project(registry.projects.change(name, changes), registry, journal, now_ms)


@get(
    "/v1/keys",
    sync_to_thread=True,
    summary="List keys",
    response_description="Every key.",
    opt={"refusals": KEY_REFUSALS},
)
def list_keys(registry: TheRegistry, now_ms: NowMs) -> Keys:
    """Every key that was ever made, oldest first; no secrets."""
    return Keys([_key(key, now_ms) for key in registry.keys.all()])


@post(
    "/v1/keys",
    sync_to_thread=True,
    summary="Create a key",
    response_description="The key and its secret.",
    opt={"refusals": (*BODY_REFUSALS, NotFound, Unavailable)},
)
def create_key(registry: TheRegistry, now_ms: NowMs, data: JSONBody[KeyWanted]) -> KeyMade:
    """Makes a key and shows its secret, this once."""
    networks = list(_networks(data.networks))
    project = None if data.project is None else registry.snapshot.project(data.project)
    made = registry.keys.create(
        Role(data.role),
        project,
        label=data.label,
        networks=networks,
        rate=_rate(data.rate, data.burst),
        origins=_origins(data.origins),
        scopes=None if data.scopes is None else frozenset(map(Scope, data.scopes)),
    )
    return _made(made, now_ms)


@patch(
    "/v1/keys/{key_id:str}",
    sync_to_thread=True,
    summary="Change a key",
    response_description="The key, changed.",
    opt={"refusals": (*BODY_REFUSALS, NotFound, Unavailable)},
)
def change_key(
    registry: TheRegistry, now_ms: NowMs, key_id: KeyId, data: JSONBody[KeyChange]
) -> KeyView:
    """Changes the rate or the origins of a key, from the next request on; its secret stays."""
    if data == KeyChange():
        raise InvalidParameter(f"Name what to change: {', '.join(KeyChange.__struct_fields__)}")
    burst = None if isinstance(data.burst, Unset) else data.burst
    rate: Rate | Unset | None = msgspec.UNSET
    if not isinstance(data.rate, Unset):
        rate = _rate(data.rate, burst)
    elif burst is not None:
        raise _lonely_burst()
    origins = data.origins
    if not isinstance(origins, Unset):
        origins = _origins(origins)
    return _key(registry.keys.change(key_id, rate=rate, origins=origins), now_ms)


@post(
    "/v1/keys/{key_id:str}/rotate",
    sync_to_thread=True,
    summary="Rotate a key",
    response_description="The new key and its secret.",
    opt={"refusals": (*BODY_REFUSALS, NotFound, Unavailable)},
)
def rotate_key(
    registry: TheRegistry, now_ms: NowMs, key_id: KeyId, data: JSONBody[Rotation]
) -> KeyMade:
    """Makes a successor with the same rights; both are valid until the grace time is over. A key
    that is fixed by the server's environment cannot be rotated."""
    return _made(registry.keys.rotate(key_id, grace_ms=data.grace_s * 1000), now_ms)


@delete(
    "/v1/keys/{key_id:str}",
    sync_to_thread=True,
    status_code=200,
    summary="Revoke a key",
    response_description="The key, ended.",
    opt={"refusals": (*KEY_REFUSALS, NotFound, Unavailable)},
)
def revoke_key(registry: TheRegistry, now_ms: NowMs, key_id: KeyId) -> KeyView:
    """Ends a key at once. One that is fixed by the server's environment comes back when the server
    is started again with it."""
    return _key(registry.keys.revoke(key_id), now_ms)


ROUTES = [
    list_projects,
    create_project,
    change_project,
    list_keys,
    create_key,
    change_key,
    rotate_key,
    revoke_key,
]


def _networks(texts: Sequence[str]) -> Iterator[Network]:
    """
    Raises:
        InvalidParameter: one of them is no network, or more than one, or nothing at all: left out,
            it would leave a key open that was meant to be bound.
    """
    for text in texts:
        try:
            (network,) = parse_networks(text)
        except ValueError:
            raise InvalidParameter(
                f"networks: {text!r} is not one network",
                hint="Write 203.0.113.0/24, or an address.",
            ) from None
        yield network


def _origins(texts: Sequence[str]) -> list[str]:
    """
    Raises:
        InvalidParameter: one of them is no origin.
    """
    origins = []
    for text in texts:
        try:
            origins.append(parse_origin(text))
        except ValueError:
            raise InvalidParameter(
                f"origins: {text!r} is not an origin",
                hint="Write https://shop.example, or https://*.shop.example; no path.",
            ) from None
    return list(dict.fromkeys(origins))


def _rate(per_s: float | None, burst: int | None) -> Rate | None:
    """
    Raises:
        InvalidParameter: there is a burst and no rate.
    """
    if per_s is None:
        if burst is not None:
            raise _lonely_burst()
        return None
    return Rate(per_s, max(1, round(per_s * BURST_S)) if burst is None else burst)


def _lonely_burst() -> InvalidParameter:
    return InvalidParameter("burst is given without a rate", hint="Give both.")


def _project(
    project: Project, registry: Registry, journal: JournalReader, now_ms: int
) -> ProjectView:
    theirs = [
        (key.created_at_ms, key.id, token)
        for token, key in registry.snapshot.tokens.items()
        if key.project is not None and key.project.id == project.id and key.is_valid(now_ms)
    ]
    return ProjectView(
        name=project.name,
        kind=project.kind,
        token=max(theirs)[2] if theirs else None,
        monthly_limit=project.monthly_limit,
        events_this_month=registry.events_this_month(project, Lane.PRODUCT),
        audit_monthly_limit=project.audit_monthly_limit,
        audit_events_this_month=registry.events_this_month(project, Lane.AUDIT),
        events=journal.next_index(project.id),
        bot_policy=project.bot_policy,
        ledger_access=project.ledger_access,
        retention_days=project.retention_days,
        created_at=rfc3339(project.created_at_ms),
    )


def _key(key: Key, now_ms: int) -> KeyView:
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


def _made(made: NewKey, now_ms: int) -> KeyMade:
    return KeyMade(_key(made.key, now_ms), made.secret)
