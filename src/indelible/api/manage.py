"""Management, for admin keys: projects and keys. Each change is an event of the project's log."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from litestar import delete, get, patch, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from indelible.access import Scope
from indelible.api.guard import (
    BODY_REFUSALS,
    KEY_REFUSALS,
    NowMs,
    TheJournal,
    TheLedger,
    TheRegistry,
)
from indelible.api.listing import MOST_LISTED, Place, page_of
from indelible.api.managed import (
    KeyChange,
    KeyMade,
    Keys,
    KeyView,
    KeyWanted,
    NewProject,
    ProjectChange,
    ProjectMade,
    Projects,
    ProjectView,
    Rotation,
    key_view,
    made_view,
    own_bytes,
    project_view,
    project_views,
)
from indelible.errors import (
    AlreadyExists,
    InvalidCursor,
    InvalidParameter,
    NotFound,
    Unavailable,
)
from indelible.network import Network, parse_networks
from indelible.origin import parse_origin
from indelible.registry.keys import Unset
from indelible.registry.values import BURST_S, Rate, Role

KeyId = Annotated[str, PathParameter(description="The key's id, `key_…`; not its secret.")]
ProjectPath = Annotated[str, PathParameter(description="The project's name.")]
ListLimit = Annotated[int, QueryParameter(description="Most of a page.", ge=1, le=MOST_LISTED)]
ListCursor = Annotated[
    str | None, QueryParameter(description="`next` of the page before.", max_length=200)
]


@get(
    "/v1/projects",
    sync_to_thread=True,
    summary="List projects",
    response_description="One page of projects, and the cursor of the next.",
    opt={"refusals": (*KEY_REFUSALS, InvalidCursor, InvalidParameter)},
)
def list_projects(
    registry: TheRegistry,
    journal: TheJournal,
    now_ms: NowMs,
    limit: ListLimit = MOST_LISTED,
    cursor: ListCursor = None,
) -> Projects:
    """Every project, oldest first, with its token and how much of its month is used."""
    projects = sorted(registry.snapshot.projects.values(), key=lambda project: project.id)
    found, following = page_of(
        projects,
        lambda project: Place(project.id),
        lambda _: 0,
        name="projects",
        limit=limit,
        cursor=cursor,
    )
    return Projects(project_views(found, registry, journal, now_ms), following)


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
    return ProjectMade(
        project_view(project, registry, journal, now_ms), token.secret, api_key.secret
    )


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
    next request on; the retention, within the hour. On `legal_hold` nothing of the project is
    erased from the answer on."""
    changes = {
        field: value
        for field in ProjectChange.__struct_fields__
        if (value := getattr(data, field)) is not msgspec.UNSET
    }
    if not isinstance(changes.get("legal_hold", False), bool):
        raise InvalidParameter("Cannot be read: legal_hold", hint="Send true or false.")
    if not changes:
        raise InvalidParameter(f"Name what to change: {', '.join(ProjectChange.__struct_fields__)}")
    return project_view(registry.projects.change(name, changes), registry, journal, now_ms)


@get(
    "/v1/keys",
    sync_to_thread=True,
    summary="List keys",
    response_description="One page of keys, and the cursor of the next.",
    opt={"refusals": (*KEY_REFUSALS, InvalidCursor, InvalidParameter)},
)
def list_keys(
    registry: TheRegistry,
    now_ms: NowMs,
    limit: ListLimit = MOST_LISTED,
    cursor: ListCursor = None,
) -> Keys:
    """Every key that was ever made, oldest first; no secrets. A page may be short and still have
    `next`."""
    found, following = page_of(
        registry.keys.all(),
        lambda key: Place(key.created_at_ms, key.id),
        own_bytes,
        name="keys",
        limit=limit,
        cursor=cursor,
    )
    return Keys([key_view(key, now_ms) for key in found], following)


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
    return made_view(made, now_ms)


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
    return key_view(registry.keys.change(key_id, rate=rate, origins=origins), now_ms)


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
    return made_view(registry.keys.rotate(key_id, grace_ms=data.grace_s * 1000), now_ms)


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
    return key_view(registry.keys.revoke(key_id), now_ms)


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
