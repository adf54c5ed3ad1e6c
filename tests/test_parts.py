"""A part is a function in its own room and a line in the list: the rest comes from the list."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible import app
from indelible.parts import Part, PartHealth
from tests.world import World, inside


class BellHealth(PartHealth):
    """`rung` is how often the bell was rung."""

    rung: int


def bell_part(said: list[str]) -> Part:
    """What another room would add."""

    async def stop() -> None:
        said.append("stop")

    return Part(
        name="bell",
        start=lambda: said.append("start"),
        stop=stop,
        close=lambda: said.append("close"),
        health=lambda: BellHealth("degraded", len(said)),
        form=BellHealth,
        gives={"bell": said},
    )


def test_a_part_in_the_list_is_run_and_is_part_of_health_and_of_its_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    listed = app.House._list_parts
    monkeypatch.setattr(
        app.House, "_list_parts", lambda house, *given: [*listed(house, *given), bell_part(said)]
    )

    with inside(tmp_path) as world:
        assert ["start"] == said
        assert {"status": "degraded", "rung": 1} == health_of(world)["bell"]
        assert "degraded" == health_of(world)["status"]
        schema = described(world)["Health"]
        assert "bell" in schema["required"]
        assert "BellHealth" in json.dumps(schema["properties"]["bell"])

    assert ["start", "stop", "close"] == said


def test_two_parts_cannot_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = app.House._list_parts
    monkeypatch.setattr(
        app.House,
        "_list_parts",
        lambda house, *given: [*listed(house, *given), Part(name="journal")],
    )

    with pytest.raises(ValueError, match="journal"), inside(tmp_path):
        pass


def health_of(world: World) -> dict[str, Any]:
    answer: httpx.Response = world.http.get("/healthz")
    assert 200 == answer.status_code
    body: dict[str, Any] = answer.json()
    return body


def described(world: World) -> dict[str, Any]:
    schemas: dict[str, Any] = world.http.get("/openapi.json").json()["components"]["schemas"]
    return schemas
