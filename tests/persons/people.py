"""Persons for the stories: what is sent of them, and what the server says."""

import json
from typing import Any
from urllib.parse import quote

import httpx

from tests.world import AS_ADMIN, AS_APPLICATION, TOKEN, World, audit

Json = dict[str, Any]


def seen(who: str, event: str = "seen", /, **more: Any) -> Json:
    """An event of this id."""
    return {"event": event, "distinct_id": who, "properties": {}, **more}


def identify(who: str, anonymous: str | None = None, **properties: Any) -> Json:
    """An `$identify` of this user id, with the anonymous id of before."""
    known = {} if anonymous is None else {"$anon_distinct_id": anonymous}
    return seen(who, "$identify", properties=known, **{"$set": properties} if properties else {})


def send(world: World, *events: Json, token: str = TOKEN) -> list[int]:
    """Send product events; their indexes."""
    answer = world.send({"api_key": token, "batch": list(events)})
    assert 200 == answer.status_code, answer.text
    return [event["index"] for event in answer.json()["events"]]


def act(world: World, actor: str | Json, what: str = "did") -> Json:
    """Send an audit event of this actor; its result."""
    answer = world.send_audit(audit(json.dumps({"actor": actor, "what": what})))
    assert 202 == answer.status_code, answer.text
    result: Json = answer.json()
    return result


def path(who: str, of: str = "") -> str:
    return f"/v1/persons/{quote(who, safe='')}{of}"


def get(world: World, where: str, **more: Any) -> httpx.Response:
    return world.http.get(where, headers=AS_APPLICATION, params=more)


def settled(world: World) -> int:
    """Wait until every event is followed; the length of the log."""
    events: list[Json] = world.http.get(
        "/v1/events", headers=AS_APPLICATION, params={"limit": 1}
    ).json()["events"]
    end = int(events[0]["index"]) + 1 if events else 0
    if end:
        # As of the end of the log: the server waits for the follower.
        get(world, path("nobody"), at=end)
    return end


def person(world: World, who: str, **more: Any) -> Json:
    settled(world)
    answer = get(world, path(who), **more)
    assert 200 == answer.status_code, answer.text
    found: Json = answer.json()
    return found


def ids(found: Json) -> list[str]:
    return [each["distinct_id"] for each in found["ids"]]


def is_known(world: World, who: str, **more: Any) -> bool:
    settled(world)
    return 200 == get(world, path(who), **more).status_code


def change(world: World, what: str, **body: Any) -> httpx.Response:
    return world.http.post(f"/v1/persons/{what}", json=body, headers=AS_ADMIN, timeout=60)


def changed(world: World, what: str, **body: Any) -> Json:
    answer = change(world, what, **body)
    assert 200 == answer.status_code, answer.text
    done: Json = answer.json()
    return done


def ask_erasure(world: World, **body: Any) -> httpx.Response:
    return world.http.post("/v1/erasures", json=body, headers=AS_ADMIN, timeout=120)


def previewed(world: World, **body: Any) -> Json:
    answer = ask_erasure(world, dry_run=True, **body)
    assert 200 == answer.status_code, answer.text
    preview: Json = answer.json()
    return preview


def erased(world: World, **body: Any) -> Json:
    """Erase what a preview shows."""
    answer = ask_erasure(world, confirm=previewed(world, **body)["preview"], **body)
    assert 200 == answer.status_code, answer.text
    certificate: Json = answer.json()
    return certificate


def erased_indexes(world: World) -> list[int]:
    return [event["index"] for event in world.events() if event.get("erased")]
