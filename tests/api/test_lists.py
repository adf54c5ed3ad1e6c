"""The lists of management come in pages: nothing twice, nothing left out, none of them large."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indelible.api.listing import MOST_LISTED_BYTES
from tests.cli.command import at, call
from tests.world import AS_ADMIN, World, assert_canonical_error, started

LISTS = {"/v1/projects": "projects", "/v1/keys": "keys"}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Seven projects, and some keys that have ended."""
    with started(tmp_path_factory.mktemp("lists") / "data") as world:
        for number in range(6):
            make(world, "/v1/projects", {"name": f"p{number}"})
        for _ in range(3):
            key = make(world, "/v1/keys", {"role": "token", "project": "p0"})["key"]
            world.http.delete(f"/v1/keys/{key['id']}", headers=AS_ADMIN).raise_for_status()
        yield world


def make(world: World, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = world.http.post(path, json=body, headers=AS_ADMIN)
    assert 201 == answer.status_code, answer.text
    made: dict[str, Any] = answer.json()
    return made


def page(world: World, path: str, **parameters: Any) -> dict[str, Any]:
    answer = world.http.get(path, params=parameters, headers=AS_ADMIN)
    assert 200 == answer.status_code, answer.text
    found: dict[str, Any] = answer.json()
    return found


def walk(world: World, path: str, limit: int) -> Iterator[list[Any]]:
    """Every page of a list."""
    more: dict[str, str] = {}
    while True:
        found = page(world, path, limit=limit, **more)
        yield found[LISTS[path]]
        if found["next"] is None:
            return
        more = {"cursor": found["next"]}


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [1, 2, 7, 1_000])
def test_pages_of_any_length_are_the_list(stocked: World, path: str, limit: int) -> None:
    pages = list(walk(stocked, path, limit))

    assert page(stocked, path)[LISTS[path]] == [one for some in pages for one in some]
    assert {limit} >= {len(some) for some in pages[:-1]}
    assert 1 <= len(pages[-1]) <= limit


@pytest.mark.parametrize("path", LISTS)
def test_what_is_made_during_a_walk_comes_at_its_end(stocked: World, path: str) -> None:
    walked = walk(stocked, path, 3)
    first = next(walked)
    if path == "/v1/projects":
        newest = make(stocked, path, {"name": "late"})["project"]["name"]
    else:
        newest = make(stocked, path, {"role": "admin"})["key"]["id"]
    rest = [one for some in walked for one in some]

    assert newest in rest[-1].values()
    assert page(stocked, path)[LISTS[path]] == first + rest


def test_a_project_is_shown_with_its_newest_valid_token(stocked: World) -> None:
    tokens = {one["name"]: one["token"] for one in page(stocked, "/v1/projects")["projects"]}
    keys = page(stocked, "/v1/keys")["keys"]

    for name, token in tokens.items():
        valid = [k["token"] for k in keys if k["valid"] and k["token"] and k["project"] == name]
        assert valid[-1] == token


@given(st.text(max_size=60))
@example("")
@example(base64.urlsafe_b64encode(b"keys.1.key_0").decode())
@example(base64.urlsafe_b64encode("projects.\u0661.".encode()).decode())
def test_no_other_text_is_a_cursor(stocked: World, text: str) -> None:
    answer = stocked.http.get("/v1/projects", params={"cursor": text}, headers=AS_ADMIN)

    assert_canonical_error(answer, 400, "invalid_cursor")


def test_a_cursor_is_of_its_own_list_and_a_limit_has_bounds(stocked: World) -> None:
    cursor = page(stocked, "/v1/projects", limit=1)["next"]

    other = stocked.http.get("/v1/keys", params={"cursor": cursor}, headers=AS_ADMIN)
    assert_canonical_error(other, 400, "invalid_cursor")
    for limit in ("0", "1001", "many"):
        answer = stocked.http.get("/v1/keys", params={"limit": limit}, headers=AS_ADMIN)
        assert_canonical_error(answer, 400, "invalid_parameter")


def test_a_page_is_bounded_in_bytes_and_the_command_lists_them_all(tmp_path: Path) -> None:
    origins = [f"https://{'a' * 60}.{'b' * 60}.{n}.example" for n in range(64)]
    size = sum(map(len, origins))
    count = 2 * MOST_LISTED_BYTES // size + 2
    with started(tmp_path / "data") as world:
        wanted = {"role": "token", "project": "default", "origins": origins}
        made = [make(world, "/v1/keys", wanted)["key"]["id"] for _ in range(count)]
        pages = list(walk(world, "/v1/keys", 1_000))
        listed = call("keys", "list", "--json", *at(world)).json["keys"]

    assert 3 == len(pages)
    assert max(len(json.dumps(some)) for some in pages) < 1.5 * MOST_LISTED_BYTES
    assert made == [key["id"] for key in listed if len(key["origins"]) == 64]
