"""The description of the surface: `/openapi.json`, and the page at `/docs`."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.routes import HTTPRoute

from indelible import metrics
from indelible.access import ROUTES, Door, Scope
from indelible.app import House
from indelible.event import DropReason, WarnReason
from indelible.settings import Settings
from tests.world import ADMIN_KEY, API_KEY, AS_ADMIN, TOKEN, ServerProcess, product, started

METHODS = ("get", "post", "put", "patch", "delete")
KEYED = ("/v1/", "/ledger/", "/metrics", "/api/debug/", "/api/analytics/")


@pytest.fixture(scope="module")
def document(shared: ServerProcess) -> dict[str, Any]:
    answer = shared.http.get("/openapi.json")
    assert 200 == answer.status_code
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture(scope="module")
def page(shared: ServerProcess) -> httpx.Response:
    return shared.http.get("/docs")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_is_described_and_every_described_route_is_there(
    document: dict[str, Any], tmp_path: Path
) -> None:
    house = House(Settings(data_dir=tmp_path))
    try:
        framework = house.following.api
        there = {
            (method.lower(), route.path)
            for route in house.edge._routes.values()
            for method in route.handlers
        }
        there |= {
            (str(method).lower(), route.path_format)
            for route in framework.routes
            if isinstance(route, HTTPRoute)
            for method in route.methods
            if str(method) != "OPTIONS"
        }
    finally:
        house.close()

    assert there == {(method, path) for method, path, _ in operations(document)}


def test_every_operation_says_what_it_does_and_who_may_call_it(document: dict[str, Any]) -> None:
    assert "3.1.0" == document["openapi"]
    names = set()
    for method, path, operation in operations(document):
        assert method in METHODS
        for field in ("summary", "description", "operationId"):
            assert operation[field], (method, path, field)
        names.add(operation["operationId"])
        for parameter in operation.get("parameters", ()):
            assert "schema" in parameter or "content" in parameter
        allowed = {name for requirement in operation["security"] for name in requirement}
        if operation["tags"] == ["manage"]:
            assert {"adminKey"} == allowed
        elif operation["tags"] in (["read"], ["persons"]) or path.startswith("/v1/events"):
            assert {"applicationKey", "adminKey"} == allowed
        elif path == "/metrics":
            assert {"metricsKey", "adminKey"} == allowed
        else:
            assert not allowed, path
        access = ROUTES.get(f"{method.upper()} {path}", Door.TOKEN)
        behind = {Door.LEDGER: Scope.READ, Door.METRICS: Scope.MANAGE}
        needed = access if isinstance(access, Scope) else behind.get(access)
        for requirement in operation["security"]:
            for name, scopes in requirement.items():
                assert ([] if name == "metricsKey" else [needed]) == scopes
        assert bool(allowed) == ("401" in operation["responses"] and path.startswith(KEYED))
    assert len(names) == len(list(operations(document)))


def test_every_error_answer_is_the_one_error_body_with_its_codes(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status < "400" or path == "/healthz":
                continue
            body = answer["content"]["application/json"]
            assert {"$ref": "#/components/schemas/Error"} == body["schema"]["allOf"][0]
            codes = body["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert codes == [example["value"]["code"] for example in body["examples"].values()]
            waits = {"overloaded", "unavailable", "rate_limited", "too_many_streams"} & set(codes)
            assert bool(waits) == ("Retry-After" in answer.get("headers", {})), (method, path)


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))

    assert used == set(document["components"]["schemas"])


class Page(HTMLParser):
    """What the page holds: ids, links, tags, and the text of its examples."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.examples: list[str] = []
        self._in_pre = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_pre = self._in_pre or tag == "pre"
        if tag == "pre":
            self.examples.append("")
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_pre = self._in_pre and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_pre:
            self.examples[-1] += data


def read(answer: httpx.Response) -> Page:
    page = Page()
    page.feed(answer.text)
    return page


def test_the_page_loads_nothing_and_runs_nothing(page: httpx.Response) -> None:
    found = read(page)

    assert "text/html; charset=utf-8" == page.headers["content-type"]
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not found.tags & {"script", "img", "iframe", "link", "form", "object"}
    assert not {name for name in found.attributes if name.startswith("on") or name == "style"}
    assert all(link.startswith(("#", "/openapi.json")) for link in found.links)


def test_the_pages_own_style_is_the_one_that_its_policy_lets_in(page: httpx.Response) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


def test_every_link_of_the_page_leads_somewhere(page: httpx.Response) -> None:
    found = read(page)

    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_the_page_names_every_operation_code_reason_and_counter(
    page: httpx.Response, document: dict[str, Any], shared: ServerProcess
) -> None:
    for _, path, operation in operations(document):
        assert path in page.text
        for answer in operation["responses"].values():
            for example in (
                answer.get("content", {}).get("application/json", {}).get("examples", {})
            ):
                assert example in page.text
    for reason in (*DropReason, *WarnReason):
        assert f"<code>{reason.value}</code>" in page.text
    names = re.findall(
        r"^# HELP (\S+)", shared.http.get("/metrics", headers=AS_ADMIN).text, re.MULTILINE
    )
    assert len(names) >= len(list(metrics.REGISTRY.collect()))
    for name in names:
        if not name.endswith("_created"):
            assert f"<code>{name}</code>" in page.text


def test_a_forged_host_header_does_not_reach_the_page(shared: ServerProcess) -> None:
    answer = shared.http.get("/docs", headers={"Host": "a'$(touch)'"})

    assert 200 == answer.status_code
    assert "touch" not in answer.text
    assert "curl http://127.0.0.1:8765/api/e" in answer.text


def test_the_front_door_leads_to_the_page(shared: ServerProcess) -> None:
    answer = shared.http.get("/")

    assert (303, "/docs") == (answer.status_code, answer.headers["location"])


def test_every_example_of_the_page_works_as_it_is_printed(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server:
        sent = server.send(product(uuid="payment-1")).json()["events"][0]
        server.send(product(distinct_id="user_43"))  # whom the examples merge and take apart

        def new_key() -> str:
            wanted = {"role": "application", "project": "default"}
            made = server.http.post("/v1/keys", json=wanted, headers=AS_ADMIN)
            return str(made.json()["key"]["id"])

        def agree() -> None:
            params = {"event": "purchase_completed"}
            contract: dict[str, Any] = {"properties": {"amount": {}}}
            answer = server.http.put(
                "/v1/schema/contract", params=params, json=contract, headers=AS_ADMIN
            )
            assert answer.json()["since"], answer.text

        known = {
            "PROJECT_TOKEN": TOKEN,
            "APPLICATION_KEY": API_KEY,
            "ADMIN_KEY": ADMIN_KEY,
            "tx_019a9f3c7e0a7000a1b2c3d4e5f60718": sent["tx_id"],
            "key_0123456789ab": new_key(),
        }
        agree()
        examples = read(server.http.get("/docs")).examples
        assert len(list(operations(server.http.get("/openapi.json").json()))) == len(examples)
        for example in examples:
            text = example
            for name, value in known.items():
                text = text.replace(name, value)
            text = text.replace("/api/debug/stream", "/api/debug/stream?seconds=0")  # else no end
            answer = run_curl(server.http, text)
            assert answer.status_code in (200, 201, 202, 303), (example, answer.text)
            if "/v1/keys/" in example:  # whatever became of it, the next example needs a valid one
                known["key_0123456789ab"] = new_key()
            if "/v1/schema/contract" in example:
                agree()


def run_curl(http: httpx.Client, command: str) -> httpx.Response:
    """Send what the curl command would send."""
    words = shlex.split(command.replace("\\\n", " "))
    assert "curl" == words.pop(0)
    method, url, data = None, "", None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    while words:
        word = words.pop(0)
        match word:
            case "-G":
                method = "GET"
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                data = words.pop(0)
            case "--data-urlencode":
                name, _, value = words.pop(0).partition("=")
                query[name] = value
            case _:
                url = word
    method = method or ("GET" if data is None else "POST")
    return http.request(method, url, headers=headers, content=data, params=query or None)
