"""Who may do what: every route of the running server with every kind of credential.

The routes are those that the application has, hot ones included; what each needs is declared once,
in `indelible.access`.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from litestar.routes import HTTPRoute

from indelible.access import OF_APPLICATIONS, ROUTES, Access, Door, Scope
from indelible.app import House
from indelible.settings import Settings
from tests.world import (
    ADMIN_KEY,
    AS_ADMIN,
    TOKEN,
    ServerProcess,
    assert_canonical_error,
    audit,
    bearer,
    product,
    started,
)

INGEST: Final = ("POST /v1/events", "POST /v1/events/batch")
SUBSETS: Final = [
    frozenset(scopes)
    for size in (1, 2, 3)
    for scopes in itertools.combinations(sorted(OF_APPLICATIONS), size)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with short logs."""
    with started(tmp_path_factory.mktemp("access")) as server:
        yield server


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Access]:
    """What each route of the application needs, by method and path."""
    house = House(Settings(data_dir=tmp_path_factory.mktemp("house")))
    try:
        routes = {
            f"{method} {route.path_format}"
            for route in house.following.api.routes
            if isinstance(route, HTTPRoute)
            for method in route.methods
            if method != "OPTIONS"
        }
        hot = {
            f"{method} {route.path}": route.cross_origin
            for route in house.edge.routes.values()
            for method in route.handlers
        }
    finally:
        house.close()
    tokens: dict[str, Access] = {
        route: Door.TOKEN for route, is_product in hot.items() if is_product
    }
    routes |= hot.keys() - tokens.keys()
    assert routes == ROUTES.keys(), "each route is declared in indelible.access, and no other"
    return {**ROUTES, **tokens}


def new_key(server: ServerProcess, **wanted: Any) -> dict[str, Any]:
    body = {"role": "application", "project": "default", **wanted}
    made = server.http.post("/v1/keys", json=body, headers=AS_ADMIN)
    assert 201 == made.status_code, made.text
    key: dict[str, Any] = made.json()
    return key


@pytest.fixture(scope="module")
def keys(server: ServerProcess) -> dict[frozenset[Scope], str]:
    """A key for each set of scopes that a key can have."""
    narrowed = {scopes: str(new_key(server, scopes=sorted(scopes))["secret"]) for scopes in SUBSETS}
    return {**narrowed, frozenset(Scope): ADMIN_KEY}


@pytest.fixture(scope="module")
def none_of_them(server: ServerProcess) -> list[dict[str, str]]:
    """Headers that open nothing: no key, no such key, one that ended, a token."""
    ended = new_key(server)
    server.http.delete(f"/v1/keys/{ended['key']['id']}", headers=AS_ADMIN)
    token = new_key(server, role="token")
    nobodys = ("iml_live_unknown", ended["secret"], token["secret"], TOKEN)
    return [{}, {"Authorization": f"Basic {ADMIN_KEY}"}, *map(bearer, nobodys)]


def ask(server: ServerProcess, route: str, headers: dict[str, str]) -> httpx.Response:
    """Use a route as far as its door: what is sent besides cannot be read."""
    method, _, path = route.partition(" ")
    path = path.replace("{log_name}", "default").replace("{path}", "checkpoint")
    content = None if method in ("GET", "DELETE") else b"{"
    path = path.replace("{", "").replace("}", "")
    if path == "/api/debug/stream":
        path += "?seconds=0"  # else it would not end
    return server.http.request(method, path, headers=headers, content=content)


def test_every_route_opens_for_the_scope_that_it_declares_and_for_nothing_else(
    server: ServerProcess,
    table: dict[str, Access],
    keys: dict[frozenset[Scope], str],
    none_of_them: list[dict[str, str]],
) -> None:
    server.send(product())
    server.http.get("/v1/events", headers=AS_ADMIN)
    scoped = {route: access for route, access in table.items() if access is not Door.TOKEN}
    for route, access in scoped.items():
        behind: dict[Access, Access] = {Door.LEDGER: Scope.READ, Door.METRICS: Scope.MANAGE}
        needed = behind.get(access, access)
        for headers in none_of_them:
            answer = ask(server, route, headers)
            if isinstance(needed, Scope):
                assert_canonical_error(answer, 401, "invalid_api_key")
            else:
                assert answer.status_code < 400, (route, headers)
        for scopes, secret in keys.items():
            answer = ask(server, route, bearer(secret))
            if isinstance(needed, Scope) and needed not in scopes:
                assert_canonical_error(answer, 403, f"{needed}_scope_missing")
            else:
                assert answer.status_code not in (401, 403), (route, scopes)


def test_product_ingest_takes_a_token_and_no_key(
    server: ServerProcess, table: dict[str, Access], keys: dict[frozenset[Scope], str]
) -> None:
    posts = [r for r, access in table.items() if access is Door.TOKEN and r.startswith("POST")]
    assert posts
    for route in posts:
        path = route.removeprefix("POST ")
        sent = server.http.post(path, json=product(), headers=bearer(ADMIN_KEY))
        assert 200 == sent.status_code, route
        tokenless = {name: value for name, value in product().items() if name != "api_key"}
        answer = server.http.post(path, json=tokenless, headers=bearer(ADMIN_KEY))
        assert_canonical_error(answer, 401, "missing_token")
        for secret in keys.values():
            answer = server.http.post(path, json={**product(), "api_key": secret})
            assert_canonical_error(answer, 401, "unknown_token")


def test_a_key_of_another_project_opens_no_route_of_this_one(
    server: ServerProcess, table: dict[str, Access]
) -> None:
    rival = server.http.post("/v1/projects", json={"name": "rival"}, headers=AS_ADMIN).json()
    headers = bearer(rival["api_key"])
    for route, access in table.items():
        if access in OF_APPLICATIONS:
            method, _, path = route.partition(" ")
            needed = {
                "/v1/where": "id",
                "/v1/schema/event": "event",
                "/v1/schema/contract": "event",
            }
            params = {"project": "default", **({needed[path]: "x"} if path in needed else {})}
            path = path.replace("{", "").replace("}", "")
            answer = server.http.request(method, path, params=params, headers=headers)
            assert_canonical_error(answer, 403, "forbidden")
    answer = server.http.get("/ledger/default/checkpoint", headers=headers)
    assert_canonical_error(answer, 404, "not_found")


def test_a_public_ledger_opens_for_anyone(
    server: ServerProcess, none_of_them: list[dict[str, str]]
) -> None:
    server.http.post("/v1/projects", json={"name": "glass"}, headers=AS_ADMIN)
    change = {"ledger_access": "public"}
    server.http.patch("/v1/projects/glass", json=change, headers=AS_ADMIN)
    for headers in none_of_them:
        answer = server.http.get("/ledger/glass/checkpoint", headers=headers)
        assert 200 == answer.status_code, headers


# Narrowed keys


def test_a_key_that_only_writes_can_write_and_learns_nothing(server: ServerProcess) -> None:
    made = new_key(server, scopes=["write"])
    headers = bearer(made["secret"])

    stored = server.http.post("/v1/events", json=audit(), headers=headers)

    assert ["write"] == made["key"]["scopes"]
    assert 202 == stored.status_code
    tx_id = stored.json()["tx_id"]
    for path in (f"/v1/events/{tx_id}", f"/v1/where?id={tx_id}", "/ledger/default/checkpoint"):
        answer = server.http.get(path, headers=headers)
        body = assert_canonical_error(answer, 403, "read_scope_missing")
        assert "`read`" in body["message"]


def test_a_key_has_write_read_and_query_unless_it_is_narrowed(server: ServerProcess) -> None:
    assert ["write", "read", "query"] == new_key(server)["key"]["scopes"]
    assert ["write"] == new_key(server, role="token")["key"]["scopes"]
    admin = new_key(server, role="admin", project=None)["key"]
    assert ["write", "read", "query", "manage"] == admin["scopes"]


def test_a_rotated_key_stays_as_narrow_as_it_was(server: ServerProcess) -> None:
    old = new_key(server, scopes=["read", "query", "read"])["key"]
    path = f"/v1/keys/{old['id']}/rotate"

    new = server.http.post(path, json={}, headers=AS_ADMIN).json()["key"]

    assert ["read", "query"] == old["scopes"] == new["scopes"]


def test_what_a_key_may_do_is_listed_and_in_the_log(server: ServerProcess) -> None:
    key = new_key(server, scopes=["query"])["key"]

    listed = server.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]
    params = {"kind": "administration", "limit": "1"}
    (event,) = server.http.get("/v1/events", params=params, headers=AS_ADMIN).json()["events"]

    assert [["query"]] == [one["scopes"] for one in listed if one["id"] == key["id"]]
    assert (key["id"], ["query"]) == (event["facts"]["key"], event["facts"]["scopes"])


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"scopes": []}, "invalid_parameter"),
        ({"scopes": ["all"]}, "invalid_parameter"),
        ({"scopes": ["WRITE"]}, "invalid_parameter"),
        ({"scopes": "write"}, "invalid_parameter"),
        ({"scopes": [None]}, "invalid_parameter"),
        ({"scopes": ["write"] * 5}, "invalid_parameter"),
        ({"scopes": ["manage"]}, "invalid_parameter"),
        ({"scopes": ["read", "manage"]}, "invalid_parameter"),
        ({"role": "token", "scopes": ["write"]}, "invalid_parameter"),
        ({"role": "admin", "project": None, "scopes": ["read"]}, "invalid_parameter"),
        ({"scope": "write"}, "unknown_parameter"),
    ],
)
def test_scopes_that_a_key_cannot_have_are_refused(
    server: ServerProcess, wanted: dict[str, Any], code: str
) -> None:
    body = {"role": "application", "project": "default", **wanted}
    answer = server.http.post("/v1/keys", json=body, headers=AS_ADMIN)
    assert_canonical_error(answer, 400, code)


def test_keys_and_scopes_are_there_after_a_restart(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        narrow = new_key(server, scopes=["read"])["secret"]
        server.stop()
    with started(tmp_path) as server:
        assert 200 == server.http.get("/v1/events", headers=bearer(narrow)).status_code
        answer = server.http.post("/v1/events", json=audit(), headers=bearer(narrow))
        assert_canonical_error(answer, 403, "write_scope_missing")
