"""Projects and keys over HTTP: made, changed, rotated, revoked, and each time written down."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.edge.wire import stay_within_a_month
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    World,
    assert_canonical_error,
    audit,
    bearer,
    product,
    started,
)


def manage(world: World, method: str, path: str, body: Any = None) -> httpx.Response:
    return world.http.request(method, path, json=body, headers=AS_ADMIN)


def made(answer: httpx.Response) -> dict[str, Any]:
    assert 201 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body


def new_project(world: World, name: str, **more: Any) -> dict[str, Any]:
    return made(manage(world, "POST", "/v1/projects", {"name": name, **more}))


def new_key(world: World, **wanted: Any) -> dict[str, Any]:
    body = {"role": "application", "project": "default", **wanted}
    return made(manage(world, "POST", "/v1/keys", body))


def opens(world: World, secret: str, **headers: str) -> int:
    return world.http.get("/v1/events", headers={**bearer(secret), **headers}).status_code


def administration(world: World, project: str = "default") -> list[dict[str, Any]]:
    """The administration events of a project's log, oldest first."""
    answer = world.http.get(
        "/v1/events",
        params={"project": project, "kind": "administration", "order": "oldest", "limit": 200},
        headers=AS_ADMIN,
    )
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def test_a_new_project_has_an_empty_log_a_token_and_a_key_that_work(shared: World) -> None:
    stay_within_a_month()
    shop = new_project(shared, "shop-1")

    assert 0 == shop["project"]["events"]
    sent = shared.send({**product(), "api_key": shop["token"]})
    audited = shared.http.post("/v1/events", json=audit(), headers=bearer(shop["api_key"]))
    assert [0, 1] == [sent.json()["events"][0]["index"], audited.json()["index"]]
    listed = manage(shared, "GET", "/v1/projects").json()["projects"]
    (project,) = [p for p in listed if p["name"] == "shop-1"]
    assert (2, 1, 1, shop["token"]) == (
        project["events"],
        project["events_this_month"],
        project["audit_events_this_month"],
        project["token"],
    )


def test_a_key_of_one_project_does_not_see_another(shared: World) -> None:
    shop, rival = new_project(shared, "shop-2"), new_project(shared, "rival-2")
    tx_id = shared.send({**product(uuid="mine"), "api_key": shop["token"]}).json()["events"][0][
        "tx_id"
    ]

    for path in ("/v1/events", "/v1/export", "/v1/where?id=mine", f"/v1/events/{tx_id}"):
        answer = shared.http.get(
            path,
            params={**httpx.QueryParams(httpx.URL(path).query), "project": "shop-2"},
            headers=bearer(rival["api_key"]),
        )
        assert_canonical_error(answer, 403, "forbidden")
    headers = bearer(rival["api_key"])
    assert [] == shared.http.get("/v1/where?id=mine", headers=headers).json()["events"]
    assert_canonical_error(
        shared.http.get(f"/v1/events/{tx_id}", headers=headers), 404, "not_found"
    )
    written = shared.http.post("/v1/events?project=shop-2", json=audit(), headers=headers)
    assert_canonical_error(written, 403, "forbidden")


def test_an_admin_key_names_the_project_that_it_means(shared: World) -> None:
    shop = new_project(shared, "shop-3")
    shared.send({**product(event="only_here"), "api_key": shop["token"]})

    answer = shared.http.get("/v1/export?project=shop-3", headers=AS_ADMIN)
    assert ["only_here"] == [json.loads(line)["event"] for line in answer.iter_lines()]
    assert_canonical_error(
        shared.http.get("/v1/export?project=nobody", headers=AS_ADMIN), 404, "not_found"
    )


def test_keys_of_a_test_project_say_so(shared: World) -> None:
    test = new_project(shared, "trial", kind="test")

    assert test["api_key"].startswith("iml_test_")
    assert new_key(shared, project="trial")["secret"].startswith("iml_test_")
    assert new_key(shared)["secret"].startswith("iml_live_")
    assert new_key(shared, role="admin", project=None)["secret"].startswith("ind_adm_")
    assert new_key(shared, role="token")["secret"].startswith("ind_pub_")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"role": "application"}, 400, "invalid_parameter"),
        ({"role": "admin", "project": "default"}, 400, "invalid_parameter"),
        ({"role": "owner", "project": "default"}, 400, "invalid_parameter"),
        ({"role": "application", "project": "nobody"}, 404, "not_found"),
        ({"role": "admin", "networks": ["everywhere"]}, 400, "invalid_parameter"),
        ({"role": "admin", "networks": ["10.0.0.1/8"]}, 400, "invalid_parameter"),
        ({"role": "admin", "networks": [""]}, 400, "invalid_parameter"),
        ({"role": "admin", "networks": ["10.0.0.1,10.0.0.2"]}, 400, "invalid_parameter"),
        ({"role": "admin", "networks": ["::1"] * 65}, 400, "invalid_parameter"),
        ({"role": "admin", "label": "x" * 201}, 400, "invalid_parameter"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(
    shared: World, body: dict[str, Any], status: int, code: str
) -> None:
    assert_canonical_error(manage(shared, "POST", "/v1/keys", body), status, code)


def test_after_a_rotation_both_keys_are_valid_until_the_grace_is_over(shared: World) -> None:
    old = new_key(shared)

    lasting = made(manage(shared, "POST", f"/v1/keys/{old['key']['id']}/rotate", {"grace_s": 60}))
    assert [200, 200] == [opens(shared, old["secret"]), opens(shared, lasting["secret"])]
    assert old["secret"] != lasting["secret"]

    last = made(manage(shared, "POST", f"/v1/keys/{lasting['key']['id']}/rotate", {"grace_s": 0}))
    assert [401, 200] == [opens(shared, lasting["secret"]), opens(shared, last["secret"])]


def test_a_rotated_key_keeps_its_project_label_and_networks(shared: World) -> None:
    old = new_key(shared, label="billing", networks=["127.0.0.0/8"])["key"]

    new = made(manage(shared, "POST", f"/v1/keys/{old['id']}/rotate", {}))["key"]

    for member in ("project", "role", "label", "networks"):
        assert old[member] == new[member]


def test_a_revoked_key_opens_nothing_and_cannot_be_rotated_or_revoked_again(shared: World) -> None:
    key = new_key(shared)
    path = f"/v1/keys/{key['key']['id']}"

    revoked = manage(shared, "DELETE", path)

    assert (200, False) == (revoked.status_code, revoked.json()["valid"])
    assert 401 == opens(shared, key["secret"])
    assert_canonical_error(manage(shared, "DELETE", path), 404, "not_found")
    assert_canonical_error(manage(shared, "POST", f"{path}/rotate", {}), 404, "not_found")


def test_a_revoked_token_takes_no_more_events(shared: World) -> None:
    token = new_key(shared, role="token")
    body = {**product(), "api_key": token["secret"]}
    assert 200 == shared.send(body).status_code

    manage(shared, "DELETE", f"/v1/keys/{token['key']['id']}")

    assert_canonical_error(shared.send(body), 401, "unknown_token")


def test_a_bound_key_is_valid_from_its_networks_only(shared: World) -> None:
    here = new_key(shared, networks=["127.0.0.1", "2001:db8::/32"])["secret"]
    there = new_key(shared, networks=["203.0.113.0/24"])["secret"]

    assert 200 == opens(shared, here)
    answer = shared.http.get("/v1/events", headers=bearer(there))
    assert_canonical_error(answer, 403, "ip_not_allowed")


@pytest.mark.parametrize(
    ("forwarded_for", "status"),
    [
        ("203.0.113.7", 200),
        ("203.0.113.7, 127.0.0.2", 200),  # the last hop is a trusted proxy too
        ("203.0.113.7, 198.51.100.1", 403),  # written by a stranger left of the last hop
        ("198.51.100.1, 203.0.113.7", 200),
        ("[::ffff:203.0.113.7]:443", 200),
        ("203.0.113.7, garbage", 403),
        ("", 403),
    ],
)
def test_behind_a_trusted_proxy_the_nearest_stranger_is_the_caller(
    shared: World, forwarded_for: str, status: int
) -> None:
    key = new_key(shared, networks=["203.0.113.0/24"])["secret"]

    assert status == opens(shared, key, **{"X-Forwarded-For": forwarded_for})


def test_what_an_untrusted_peer_says_of_the_caller_is_not_believed(tmp_path: Path) -> None:
    with started(tmp_path / "data", INDELIBLE_TRUSTED_PROXIES="192.0.2.0/24") as world:
        key = new_key(world, networks=["203.0.113.0/24"])["secret"]

        assert 403 == opens(world, key, **{"X-Forwarded-For": "203.0.113.7"})


def test_the_limit_and_the_bot_policy_of_a_project_can_be_set_and_taken_away(
    shared: World,
) -> None:
    stay_within_a_month()
    shop = new_project(shared, "shop-4", monthly_limit=1)
    body = {**product(), "api_key": shop["token"]}
    taken = [shared.send(body).json()["accepted"] for _ in range(2)]
    assert [1, 0] == taken

    changed = manage(
        shared, "PATCH", "/v1/projects/shop-4", {"monthly_limit": None, "bot_policy": "mark"}
    )

    assert (None, "mark") == (changed.json()["monthly_limit"], changed.json()["bot_policy"])
    assert 1 == shared.send(body).json()["accepted"]
    (event,) = administration(shared, "shop-4")
    assert ("project.changed", {"monthly_limit": None, "bot_policy": "mark"}) == (
        event["event"],
        event["facts"],
    )


def test_an_empty_change_is_refused(shared: World) -> None:
    before = len(administration(shared))

    refused = manage(shared, "PATCH", "/v1/projects/default", {})

    assert_canonical_error(refused, 400, "invalid_parameter")
    assert before == len(administration(shared))
    missing = manage(shared, "PATCH", "/v1/projects/nobody", {"monthly_limit": 1})
    assert_canonical_error(missing, 404, "not_found")


def test_every_change_of_a_key_is_an_event_in_the_log_of_its_project(shared: World) -> None:
    new_project(shared, "shop-5")
    first = new_key(shared, project="shop-5", label="billing")
    second = made(manage(shared, "POST", f"/v1/keys/{first['key']['id']}/rotate", {}))
    manage(shared, "DELETE", f"/v1/keys/{second['key']['id']}")

    events = administration(shared, "shop-5")

    assert ["key.created", "key.rotated", "key.revoked"] == [event["event"] for event in events]
    assert [first["key"]["id"], second["key"]["id"], second["key"]["id"]] == [
        event["facts"]["key"] for event in events
    ]
    assert first["key"]["id"] == events[1]["facts"]["replaces"]
    assert all("billing" == event["facts"]["label"] for event in events)


def test_no_secret_is_listed_logged_or_printed(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server:
        secrets = {ADMIN_KEY, API_KEY}
        shop = new_project(server, "shop")
        secrets.add(shop["api_key"])
        for role, project in (("application", "shop"), ("admin", None)):
            first = new_key(server, role=role, project=project)
            second = made(manage(server, "POST", f"/v1/keys/{first['key']['id']}/rotate", {}))
            manage(server, "DELETE", f"/v1/keys/{second['key']['id']}")
            secrets |= {first["secret"], second["secret"]}
        for secret in secrets:  # sent where a token belongs, in a path, in a header of another kind
            server.send({**product(), "api_key": secret})
            server.http.get(f"/v1/events/{secret}", headers={"Authorization": secret})
            server.http.get(f"/{secret}?id={secret}")
        shown = "".join(
            (
                manage(server, "GET", "/v1/keys").text,
                manage(server, "GET", "/v1/projects").text,
                server.http.get("/v1/export", headers=AS_APPLICATION).text,
                server.http.get("/v1/export?project=shop", headers=AS_ADMIN).text,
                server.http.get("/metrics", headers=AS_ADMIN).text,
                server.http.get("/healthz").text,
            )
        )
        assert shop["project"]["token"] in shown
        server.stop()
        shown += server.output()

    assert 6 == len(secrets) - 1
    for secret in secrets:
        assert secret not in shown
