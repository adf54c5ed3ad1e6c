"""A project of its own on a server that others use too: an empty log, without a second to start."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.world import AS_ADMIN, World, bearer, plain_client

_numbers = itertools.count()


class Log:
    """One project's log, through the front door: `http` carries its application key."""

    def __init__(self, url: str, project: str, token: str, api_key: str) -> None:
        self.project = project
        self.token = token
        self.http = plain_client(url, headers=bearer(api_key))

    def send(self, body: dict[str, Any]) -> httpx.Response:
        """POST a product body with this project's token."""
        return self.http.post("/api/e", json={**body, "api_key": self.token})

    def send_audit(self, body: Any, key: str | None = None) -> httpx.Response:
        """POST an audit body; `key` is the Idempotency-Key."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post("/v1/events", json=body, headers=headers)

    def export(self, **parameters: int) -> list[dict[str, Any]]:
        """The export's lines. Only a line feed ends one: payloads may hold U+2028 and the like."""
        answer = self.http.get("/v1/export", params=parameters)
        assert 200 == answer.status_code, answer.text
        assert "application/x-ndjson" == answer.headers["content-type"]
        lines = answer.content.split(b"\n")
        assert b"" == lines.pop()
        return [json.loads(line) for line in lines]


@contextlib.contextmanager
def new_log(world: World) -> Iterator[Log]:
    """A project of its own on `world`, for the time of a `with`."""
    name = f"log-{next(_numbers)}"
    answer = world.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN)
    assert 201 == answer.status_code, answer.text
    made = answer.json()
    log = Log(world.url, name, made["token"], made["api_key"])
    try:
        yield log
    finally:
        log.http.close()
