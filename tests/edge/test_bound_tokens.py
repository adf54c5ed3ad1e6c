"""A project token that is bound to addresses: refused from every other one, at every door."""

import uuid

import httpx
import pytest

from tests.world import AS_ADMIN, World, assert_canonical_error, product

INSIDE, OUTSIDE = "203.0.113.9", "198.51.100.1"


@pytest.fixture
def token(shared: World) -> str:
    """Of a new project, bound to 203.0.113.0/24."""
    name = f"bound-{uuid.uuid4().hex[:12]}"
    made = shared.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN)
    assert made.is_success, made.text
    wanted = {"role": "token", "project": name, "networks": ["203.0.113.0/24"]}
    key = shared.http.post("/v1/keys", json=wanted, headers=AS_ADMIN)
    assert key.is_success, key.text
    return str(key.json()["secret"])


DOORS = ("an event", "a batch", "in the address", "as a form", "losses")


def send(server: World, door: str, token: str, *forwarded_for: str) -> httpx.Response:
    """One request with this token by one of the ways in; the peer is a trusted proxy."""
    headers = [("X-Forwarded-For", hops) for hops in forwarded_for]
    event = product(uuid=uuid.uuid4().hex) | {"api_key": token}
    bare = {name: value for name, value in event.items() if name != "api_key"}
    match door:
        case "an event":
            return server.http.post("/api/e", json=event, headers=headers)
        case "a batch":
            two = {"api_key": token, "batch": [bare, bare | {"uuid": uuid.uuid4().hex}]}
            return server.http.post("/api/e", json=two, headers=headers)
        case "in the address":
            return server.http.post("/api/e", json=bare, params={"token": token}, headers=headers)
        case "as a form":
            form = {"data": httpx.Request("POST", "http://x", json=event).content.decode()}
            return server.http.post("/api/e", data=form, headers=headers)
        case _:
            report = {
                "uuid": str(uuid.uuid4()),
                "process_id": uuid.uuid4().hex,
                "counts": {"queue_full": 1},
            }
            body: dict[str, object] = {"api_key": token, "batch": [], "lost": report}
            return server.http.post("/api/e", json=body, headers=headers)


@pytest.mark.parametrize("door", DOORS)
def test_a_token_bound_to_addresses_is_refused_from_others(
    shared: World, token: str, door: str
) -> None:
    allowed: list[tuple[str, ...]] = [(INSIDE,), (f"{OUTSIDE}, {INSIDE}",), (OUTSIDE, INSIDE)]
    for chain in allowed:
        answer = send(shared, door, token, *chain)
        assert 200 == answer.status_code, answer.text
    for chain in ((), (OUTSIDE,), (f"{INSIDE}, {OUTSIDE}",), (INSIDE, OUTSIDE), ("junk",)):
        assert_canonical_error(send(shared, door, token, *chain), 403, "ip_not_allowed")
