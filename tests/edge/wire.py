"""What the stories of the edge are built from: packed bodies, own projects, reading back."""

import base64
import gzip
import json
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from tests.world import AS_ADMIN, AS_APPLICATION, World

FORM = {"content-type": "application/x-www-form-urlencoded"}
PLAIN = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}


def fresh() -> str:
    """An id that no other story uses."""
    return str(uuid.uuid4())


def encoded(body: Any) -> bytes:
    """`body` as JSON text."""
    return json.dumps(body).encode()


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def form(data: bytes) -> bytes:
    """`data` as the one field of a form, percent-encoded."""
    return b"data=" + quote(data, safe="").encode()


def zlib_deflated(data: bytes) -> bytes:
    """Deflate as RFC 9110 means it: in zlib's wrapper."""
    return zlib.compress(data)


def raw_deflated(data: bytes) -> bytes:
    """Deflate as some clients send it: the bare stream."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def nested(depth: int) -> Any:
    """A value of `depth` lists within each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@dataclass(frozen=True)
class Tenant:
    """A project made for one story, on a server that others use too."""

    world: World
    name: str
    token: str
    api_key: str

    @property
    def as_application(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def event(self, **more: Any) -> dict[str, Any]:
        """A product event for this project."""
        return {"api_key": self.token, "event": "viewed", "distinct_id": "d1", **more}

    def send(self, route: str = "/api/e", **more: Any) -> httpx.Response:
        return self.world.http.post(route, json=self.event(**more))

    def send_audit(self, body: Any, key: str | None = None) -> httpx.Response:
        headers = {**self.as_application, **({"Idempotency-Key": key} if key else {})}
        return self.world.http.post("/v1/events", json=body, headers=headers)

    def log(self) -> list[dict[str, Any]]:
        """What it stored, without the facts of its own management."""
        return [e for e in self.world.events(self.as_application) if e["kind"] != "administration"]


def tenant(world: World, **rules: Any) -> Tenant:
    """Make a project; `rules` are `monthly_limit`, `audit_monthly_limit` and `bot_policy`."""
    if {"monthly_limit", "audit_monthly_limit"} & rules.keys():
        stay_within_a_month()
    name = f"t-{uuid.uuid4().hex[:12]}"
    answer = world.http.post("/v1/projects", json={"name": name, **rules}, headers=AS_ADMIN)
    assert 201 == answer.status_code, answer.text
    made = answer.json()
    return Tenant(world, name, made["token"], made["api_key"])


def stored(world: World, tx_id: str) -> dict[str, Any]:
    """An event of the project `default`, read back by its transaction id."""
    answer = world.http.get(f"/v1/events/{tx_id}", headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text
    event: dict[str, Any] = answer.json()
    return event


def known_as(world: World, any_id: str) -> list[dict[str, Any]]:
    """The events of the project `default` that go by this id."""
    answer = world.http.get("/v1/where", params={"id": any_id}, headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def first(answer: httpx.Response) -> dict[str, Any]:
    """The result of the first event of a product answer; the request was answered 200."""
    assert 200 == answer.status_code, answer.text
    result: dict[str, Any] = answer.json()["events"][0]
    return result


def stay_within_a_month() -> None:
    """Wait until the month lasts half a minute more: with the next one counting begins anew."""
    while (now := datetime.now(UTC)).month != (now + timedelta(seconds=30)).month:
        time.sleep(0.1)


def eventually(holds: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Wait until `holds`."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def urlencoded(**fields: str) -> bytes:
    """A form as browsers write it: a space is a plus sign."""
    return urlencode(fields).encode()
