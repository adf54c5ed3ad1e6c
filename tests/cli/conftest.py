"""Projects for the stories: each makes its own in the shared server, so nobody else's log moves."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cli.command import at
from tests.world import AS_ADMIN, ServerProcess, product


@dataclass(frozen=True)
class Shop:
    """A new project of the shared server, with an empty log."""

    server: ServerProcess
    name: str
    token: str

    @property
    def here(self) -> tuple[str, ...]:
        """The arguments that name it."""
        return "--project", self.name, *at(self.server)

    def send(self, *names: str, **more: Any) -> list[str]:
        """Send product events of these names as one batch; their transaction ids."""
        batch = [product(name, **more) for name in names]
        for event in batch:
            del event["api_key"]
        answer = self.server.send({"api_key": self.token, "batch": batch})
        assert 200 == answer.status_code, answer.text
        return [event["tx_id"] for event in answer.json()["events"]]


@pytest.fixture
def shop(shared: ServerProcess) -> Shop:
    """A project that only this test knows."""
    name = f"cli-{uuid.uuid4().hex[:12]}"
    made = shared.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN)
    return Shop(shared, name, made.json()["token"])
