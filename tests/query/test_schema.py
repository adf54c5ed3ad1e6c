"""What traffic looks like, and what does not fit its contract, through the front door."""

import base64
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.edge.wire import eventually
from tests.world import (
    ADMIN_KEY,
    AS_ADMIN,
    ServerProcess,
    World,
    assert_canonical_error,
    bearer,
    inside,
)

CONTRACT = {
    "properties": {
        "plan": {"type": "text", "required": True, "values": ["free", "pro"]},
        "amount": {"type": ["number", "null"]},
    },
    "extra": False,
}


@dataclass
class Shop:
    """A new project of a server, with an empty log."""

    server: World
    name: str
    token: str
    api_key: str

    def send(self, name: str, properties: dict[str, Any] | None = None, **more: Any) -> str:
        event = {"event": name, "distinct_id": "d", "properties": properties or {}, **more}
        answer = self.server.send({"api_key": self.token, **event})
        assert 200 == answer.status_code, answer.text
        return str(answer.json()["events"][0]["tx_id"])

    def audit(self, payload: str, **meta: str) -> None:
        body = {"payload": payload, "meta": meta}
        answer = self.server.http.post("/v1/events", json=body, headers=bearer(self.api_key))
        assert 202 == answer.status_code, answer.text

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = bearer(more.pop("key", ADMIN_KEY))
        params = {"project": self.name, **more.pop("params", {})}
        return self.server.http.request(method, path, params=params, headers=headers, **more)

    def get(self, path: str = "/v1/schema", **params: Any) -> dict[str, Any]:
        """The answer, once all that is stored is learned."""
        page = self.ask("GET", "/v1/events", params={"limit": 1}).json()["events"]
        stored = page[0]["index"] + 1 if page else 0
        eventually(lambda: self.ask("GET", "/v1/schema").json()["next_index"] >= stored)
        answer = self.ask("GET", path, params=params)
        assert 200 == answer.status_code, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def agree(self, contract: Any, event: str = "e", **params: str) -> httpx.Response:
        return self.ask(
            "PUT", "/v1/schema/contract", params={"event": event, **params}, json=contract
        )


def new_shop(server: World) -> Shop:
    name = f"schema-{uuid.uuid4().hex[:12]}"
    made = server.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN).json()
    return Shop(server, name, made["token"], made["api_key"])


@pytest.fixture
def shop(shared: ServerProcess) -> Shop:
    return new_shop(shared)


def test_a_project_without_events_has_an_empty_schema(shop: Shop) -> None:
    assert ([], None, 0) == tuple(shop.get()[name] for name in ("events", "next", "next_index"))


def test_events_are_listed_by_kind_and_name_page_by_page(shop: Shop) -> None:
    for name in ("b", "a", "c", "a"):
        shop.send(name)
    shop.audit("{}", event_name="order.created", type="info")
    shop.audit("{}", type="warning")
    everything = shop.get()
    assert [
        ("audit", "order.created", 1),
        ("audit", "warning", 1),
        ("product", "a", 2),
        ("product", "b", 1),
        ("product", "c", 1),
    ] == [(one["kind"], one["event"], one["count"]) for one in everything["events"]]
    assert [("product", 3, 0), ("audit", 2, 0)] == sorted(
        ((one["kind"], one["events"], one["left_out"]) for one in everything["lanes"]),
        reverse=True,
    )

    found, cursor = [], None
    while True:
        page = shop.ask("GET", "/v1/schema", params={"limit": 2, "cursor": cursor or ""}).json()
        if cursor is None:
            page = shop.get(limit=2)
        found += page["events"]
        cursor = page["next"]
        if cursor is None:
            break
    assert everything["events"] == found
    assert ["audit"] * 2 == [one["kind"] for one in shop.get(kind="audit")["events"]]


def test_an_event_is_shown_with_its_properties_and_no_value(shop: Shop) -> None:
    secret = "jane.doe@example.com"
    shop.send("e", {"mail": secret, "plan": "pro", "n": 7}, **{"$set": {"city": "Valparaiso"}})
    shop.send("e", {"plan": None, secret: 1})

    event = shop.get("/v1/schema/event", event="e")

    assert ("e", "product", 2) == (event["event"], event["kind"], event["count"])
    assert ([0, 1], 2) == (
        [event["first_seen"]["index"], event["last_seen"]["index"]],
        event["looked_into"],
    )
    found = {one["path"]: one for one in event["properties"]}
    assert {"mail", "plan", "n", "$set.city", '"{a***@***}"'} == found.keys()
    assert (1.0, {"null": 1, "text": 1}) == (found["plan"]["share"], found["plan"]["types"])
    assert (0.5, [{"shape": "1..10", "count": 1}]) == (found["n"]["share"], found["n"]["shapes"])
    text = str(event)
    assert not any(value in text for value in ("jane", "example", "Valp", "pro'"))


def test_an_audit_event_is_found_by_its_name_and_by_the_one_that_is_shown(shop: Shop) -> None:
    shop.audit('{"id": 1}', event_name="order 4411234", type="info", service="shop")

    (listed,) = shop.get()["events"]
    for name in ("order 4411234", listed["event"]):
        event = shop.get("/v1/schema/event", event=name, kind="audit")
        assert "{x 9}" == event["event"]
        paths = {one["path"] for one in event["properties"]}
        assert {"payload.id", "meta.service", "meta.type"} == paths


def test_an_event_that_is_not_known_is_404_and_the_hint_says_what_may_be_meant(shop: Shop) -> None:
    shop.send("purchase")
    shop.audit("{}", event_name="order.created")
    shop.get()

    def hint(**params: str) -> str:
        answer = shop.ask("GET", "/v1/schema/event", params=params)
        return str(assert_canonical_error(answer, 404, "not_found")["hint"])

    assert "Did you mean 'purchase'?" in hint(event="purchas")
    assert "add kind=audit" in hint(event="order.created")
    assert "add kind=product" in hint(event="purchase", kind="audit")
    answer = shop.ask("GET", "/v1/schema/contract", params={"event": "purchase"})
    assert_canonical_error(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/v1/schema", {"event": "e"}, "unknown_parameter"),
        ("/v1/schema", {"kind": "loss"}, "invalid_parameter"),
        ("/v1/schema", {"kind": "null"}, "invalid_parameter"),
        ("/v1/schema", {"limit": 0}, "invalid_parameter"),
        ("/v1/schema", {"cursor": "nonsense"}, "invalid_cursor"),
        ("/v1/schema", {"cursor": base64.b64encode(b"0 product \xff").decode()}, "invalid_cursor"),
        ("/v1/schema/event", {}, "invalid_parameter"),
        ("/v1/schema/event", {"event": ""}, "invalid_parameter"),
        ("/v1/schema/event", {"event": "e", "nmae": "x"}, "unknown_parameter"),
        ("/v1/schema/contract", {"event": "e", "kind": "x"}, "invalid_parameter"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused_by_name(
    shop: Shop, path: str, params: dict[str, Any], code: str
) -> None:
    assert_canonical_error(shop.ask("GET", path, params=params), 400, code)


def test_a_contract_marks_what_does_not_fit_and_refuses_nothing(shop: Shop) -> None:
    shop.send("e", {"plan": 1})
    answer = shop.agree(CONTRACT)
    assert (200, CONTRACT) == (answer.status_code, answer.json()["contract"])
    assert (1, 0, 0) == (
        answer.json()["since"]["index"],
        answer.json()["checked"],
        answer.json()["unfit"],
    )
    shop.send("e", {"plan": "pro", "amount": 5, "$lib": "web"})
    late = shop.send("e", {"plan": "gold", "coupon": "X"})
    shop.send("e", {"amount": "5"})

    contract = shop.get("/v1/schema/event", event="e")["contract"]
    assert (3, 2) == (contract["checked"], contract["unfit"])
    assert {
        ("values", "plan", 1),
        ("extra", "coupon", 1),
        ("required", "plan", 1),
        ("type", "amount", 1),
    } == {(one["rule"], one["property"], one["count"]) for one in contract["rules"]}
    (values,) = (one for one in contract["rules"] if one["rule"] == "values")
    assert [late] == values["tx_ids"]
    (listed,) = shop.get()["events"]
    assert (4, 3, 2) == (listed["count"], listed["checked"], listed["unfit"])


def test_each_change_of_a_contract_is_an_event_of_the_log_with_a_version(shop: Shop) -> None:
    first = shop.agree(CONTRACT).json()["since"]["index"]
    second = shop.agree({"properties": {"plan": {}}}).json()["since"]["index"]
    dropped = shop.ask("DELETE", "/v1/schema/contract", params={"event": "e"})
    assert (200, {"event": "e", "kind": "product"}) == (dropped.status_code, dropped.json())

    assert (0, 1) == (first, second)
    changes = shop.ask("GET", "/v1/events", params={"kind": "administration"}).json()["events"]
    assert ["contract.dropped", "contract.set", "contract.set"] == [e["event"] for e in changes]
    assert {"kind": "product", "event": "e", "contract": CONTRACT} == changes[-1]["facts"]
    again = shop.ask("DELETE", "/v1/schema/contract", params={"event": "e"})
    assert_canonical_error(again, 404, "not_found")


@pytest.mark.parametrize(
    ("contract", "code"),
    [
        ({}, "invalid_parameter"),
        ({"properties": {}}, "invalid_parameter"),
        ({"properties": {"a b": {}}}, "invalid_parameter"),
        ({"properties": {"a": {"type": "string"}}}, "invalid_parameter"),
        ({"properties": {"a": {"type": []}}}, "invalid_parameter"),
        ({"properties": {"a": {"values": []}}}, "invalid_parameter"),
        ({"properties": {"a": {"values": [None]}}}, "invalid_parameter"),
        ({"properties": {"a": {"requird": True}}}, "unknown_parameter"),
        ({"properties": {"a": {}}, "extras": True}, "unknown_parameter"),
        ({"properties": {"a": {}}, "extra": 0}, "invalid_parameter"),
        ({"properties": {"a": {"required": "true"}}}, "invalid_parameter"),
        ({"properties": {f"a{n}": {} for n in range(201)}}, "invalid_parameter"),
        ({"properties": {"a": {"values": ["v" * 201]}}}, "invalid_parameter"),
        (
            {"properties": {f"a{n}": {"values": ["v" * 190]} for n in range(99)}},
            "invalid_parameter",
        ),
        ([], "invalid_parameter"),
    ],
)
def test_a_contract_that_cannot_do_what_it_says_is_refused(
    shop: Shop, contract: Any, code: str
) -> None:
    assert_canonical_error(shop.agree(contract), 400, code)
    assert 0 == len(shop.ask("GET", "/v1/events").json()["events"])


def test_contracts_are_the_admins_and_the_schema_is_for_those_who_query(shop: Shop) -> None:
    params = {"event": "e"}
    for method in ("PUT", "DELETE"):
        answer = shop.ask(
            method, "/v1/schema/contract", params=params, json=CONTRACT, key=shop.api_key
        )
        assert_canonical_error(answer, 403, "manage_scope_missing")
    assert 200 == shop.ask("GET", "/v1/schema", key=shop.api_key).status_code
    server = {"event": "e", "project": "_server"}
    answer = shop.ask("PUT", "/v1/schema/contract", params=server, json=CONTRACT)
    assert_canonical_error(answer, 400, "invalid_parameter")


def test_a_schema_is_the_same_after_a_restart_and_after_its_file_is_gone(tmp_path: Path) -> None:
    def schema(world: World, shop: Shop) -> Any:
        again = Shop(world, shop.name, shop.token, shop.api_key)
        return again.get(), again.get("/v1/schema/event", event="e")

    with inside(tmp_path) as world:
        shop = new_shop(world)
        shop.send("e", {"plan": "pro", "list": [1, "x"]})
        shop.agree(CONTRACT)
        shop.send("e", {"plan": "gold"})
        before = schema(world, shop)
    with inside(tmp_path) as world:
        assert before == schema(world, shop)
    for file in tmp_path.glob("schema.db*"):
        file.unlink()
    with inside(tmp_path) as world:
        assert before == schema(world, shop)
