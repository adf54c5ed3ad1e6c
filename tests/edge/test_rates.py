"""A public token starves no one: rates, origins, and a monthly limit for audit events alone."""

import gzip
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import Indelible
from indelible.edge.rates import Rates
from indelible.event import Lane
from indelible.origin import allows, parse_origin
from indelible.registry.values import Key, Project, Rate, Role
from tests.edge.test_lost import report
from tests.edge.wire import Tenant, stay_within_a_month, tenant
from tests.world import (
    AS_ADMIN,
    TOKEN,
    World,
    assert_canonical_error,
    audit,
    product,
    started,
)

AS_OUR_CLIENT = {"X-Indelible-Attempt": "1"}
SLOW = 0.001  # events a second: while a story is told, nothing is added


@dataclass(frozen=True)
class Limited:
    """A project made for one story, with limits on its token or key."""

    world: World
    tenant: Tenant
    name: str
    secret: str
    id: str

    def send(self, *names: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """POST a batch of product events of these names."""
        batch = [{"event": name, "distinct_id": "d"} for name in names]
        body = {"api_key": self.secret, "batch": batch, **more}
        return self.world.http.post("/api/e", json=body, headers=headers)

    def send_audit(self, *payloads: str, headers: dict[str, str] | None = None) -> Any:
        """POST audit events; one alone to the route of one."""
        path = "/v1/events" if len(payloads) == 1 else "/v1/events/batch"
        events = [audit(payload) for payload in payloads]
        body = events[0] if len(payloads) == 1 else {"events": events}
        given = {"Authorization": f"Bearer {self.secret}", **(headers or {})}
        return self.world.http.post(path, json=body, headers=given)

    def stored(self) -> list[str]:
        """What its log has of what was sent: names of product events, payloads of audit events."""
        return [event.get("payload") or event["event"] for event in self.tenant.log()]


def limited(world: World, role: str = "token", **limits: Any) -> Limited:
    """A new project with a key of `role` that has these limits."""
    project = tenant(world)
    wanted = {"role": role, "project": project.name, **limits}
    answer = world.http.post("/v1/keys", json=wanted, headers=AS_ADMIN)
    assert 201 == answer.status_code, answer.text
    made = answer.json()
    return Limited(world, project, project.name, made["secret"], made["key"]["id"])


def results(answer: httpx.Response) -> list[tuple[str, str | None]]:
    """What became of each product event, and why."""
    assert 200 == answer.status_code, answer.text
    return [(event["result"], event.get("reason")) for event in answer.json()["events"]]


OK, DROPPED = ("ok", None), ("drop", "rate_limited")


# Rates: the bucket


def a_key(rate: Rate) -> tuple[Key, Project]:
    project = Project(1, "p", "live", None, None, 0, "key", None, None)
    role = Role.TOKEN
    scopes = role.scopes
    key = Key("key_1", project, role, b"", None, "", "", (), 0, None, None, False, rate, (), scopes)
    return key, project


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 80)), min_size=1, max_size=40),
)
def test_no_more_than_the_burst_and_the_rate_passes_and_no_less(
    per_s: int, burst: int, story: list[tuple[int, int]]
) -> None:
    now_ms, level_ms = 0, burst * 1_000  # the bucket in thousandths of an event, so exactly
    rates = Rates(monotonic=lambda: now_ms / 1_000)
    key, project = a_key(Rate(per_s, burst))
    passed = 0
    for pause_ms, wanted in story:
        now_ms += pause_ms
        level_ms = min(burst * 1_000, level_ms + pause_ms * per_s)
        taken = rates.take(key, project, Lane.PRODUCT, wanted)
        # Where the bucket holds a whole number to the letter, floats may see one less for now.
        assert taken in {min(wanted, (level_ms - 1) // 1_000), min(wanted, level_ms // 1_000)}
        level_ms -= taken * 1_000
        passed += taken
        assert passed <= burst + now_ms * per_s / 1_000 + 1e-6


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 1), st.integers(1, 80)),
        min_size=1,
        max_size=40,
    ),
)
def test_of_two_processes_that_tell_each_other_no_more_than_a_burst_passes_in_addition(
    per_s: int, burst: int, story: list[tuple[int, int, int]]
) -> None:
    now_ms = passed = 0
    both = [Rates(monotonic=lambda: now_ms / 1_000) for _ in range(2)]
    key, project = a_key(Rate(per_s, burst))
    for rates in both:
        rates.take(key, project, Lane.PRODUCT, 0)  # known to both
    for pause_ms, place, wanted in story:
        now_ms += pause_ms
        passed += both[place].take(key, project, Lane.PRODUCT, wanted)
        both[1 - place].charge(both[place].spent())

        assert passed <= 2 * burst + now_ms * per_s / 1_000 + 1e-6


def test_a_key_without_a_rate_has_no_bucket() -> None:
    rates = Rates()
    key, project = a_key(Rate(1, 1))
    for _ in range(3):
        unlimited = Key(**{**fields(key), "rate": None})
        assert 10_000 == rates.take(unlimited, project, Lane.PRODUCT, 10_000)
    assert {} == rates._buckets


def fields(key: Key) -> dict[str, Any]:
    return {name: getattr(key, name) for name in Key.__slots__}


# Rates: product events


def test_a_batch_over_the_rate_is_taken_in_part_and_each_event_is_told(shared: World) -> None:
    page = limited(shared, rate=SLOW, burst=3)

    answer = page.send("a", "b", "c", "d", "e")

    assert [OK, OK, OK, DROPPED, DROPPED] == results(answer)
    assert (3, 2) == (answer.json()["accepted"], answer.json()["rejected"])
    assert "retry-after" not in answer.headers
    assert ["a", "b", "c"] == page.stored()


def test_a_client_that_takes_429_for_final_gets_200_however_often_it_sends(shared: World) -> None:
    page = limited(shared, rate=SLOW, burst=1)
    page.send("a")

    for path in ("/api/e", "/batch/"):
        answer = shared.http.post(
            path,
            content=gzip.compress(json.dumps(product(api_key=page.secret)).encode()),
            headers={"Content-Type": "text/plain"},
        )
        assert [DROPPED] == results(answer)
    assert 2 == shared.count(
        "indelible_events_rate_limited_total", lane="product", project=page.name
    )


def test_a_rate_that_is_reached_shows_in_the_metrics(world: World) -> None:
    page = limited(world, rate=SLOW, burst=2)
    page.send("a", "b", "c", "d", "e")

    assert 3 == world.count("indelible_events_dropped_total", reason="rate_limited")
    assert 3 == world.count("indelible_events_rate_limited_total", project=page.name)
    assert 5 == world.count("indelible_events_received_total", lane="product")


def test_events_that_are_dropped_for_what_they_are_cost_nothing(shared: World) -> None:
    page = limited(shared, rate=SLOW, burst=2)

    answer = page.send("", "a", "", "b", "c")

    missing = ("drop", "missing_event")
    assert [missing, OK, missing, OK, DROPPED] == results(answer)
    other = limited(shared, rate=SLOW, burst=2)
    assert_canonical_error(other.send("", ""), 400, "missing_event")
    assert [missing, OK] == results(other.send("", "a"))
    assert [OK, DROPPED] == results(other.send("b", "c"))


def test_our_own_client_is_told_to_send_the_rest_again(shared: World) -> None:
    page = limited(shared, rate=SLOW, burst=2)

    answer = page.send("a", "b", "c", headers=AS_OUR_CLIENT)

    assert [OK, OK, ("retry", "rate_limited")] == results(answer)
    assert (2, 1) == (answer.json()["accepted"], answer.json()["rejected"])
    refused = page.send("c", headers=AS_OUR_CLIENT)
    assert_canonical_error(refused, 429, "rate_limited")
    assert 990 <= int(refused.headers["retry-after"]) <= 1_000
    assert ["a", "b"] == page.stored()
    change(page, rate=1_000)
    time.sleep(0.05)
    assert [OK] == results(page.send("c", headers=AS_OUR_CLIENT))


def test_a_wait_is_named_that_is_long_enough(shared: World) -> None:
    page = limited(shared, rate=0.5, burst=1)
    page.send("a")
    refused = page.send("b", headers=AS_OUR_CLIENT)

    time.sleep(int(refused.headers["retry-after"]))

    assert [OK] == results(page.send("b", headers=AS_OUR_CLIENT))


def test_our_own_client_delivers_everything_in_the_end(shared: World) -> None:
    page = limited(shared, rate=100, burst=20)
    client = Indelible(
        host=shared.url,
        token=page.secret,
        batch_events=50,
        retry_base_s=0.05,
        retry_cap_s=0.2,
        breaker_failures=1_000,
    )
    for number in range(120):
        client.capture("counted", distinct_id="d", properties={"n": number})
    assert client.flush(timeout_s=30)
    client.shutdown()

    assert not any(client.counts().lost.values())
    numbers = [event["properties"]["n"] for event in page.tenant.log()]
    assert list(range(120)) == sorted(numbers)


def test_a_report_of_losses_costs_as_an_event_does_and_is_never_dropped(shared: World) -> None:
    page = limited(shared, rate=SLOW, burst=3)

    both = page.send("a", "b", "c", lost=report())
    refused = page.send("d", lost=report())

    assert [OK, OK, ("retry", "rate_limited")] == results(both)
    assert_canonical_error(refused, 429, "rate_limited")
    assert Counter({"a": 1, "b": 1, "loss": 1}) == Counter(page.stored())


def test_every_token_has_a_bucket_of_its_own(shared: World) -> None:
    one, other = (limited(shared, rate=SLOW, burst=1) for _ in range(2))

    assert [OK, DROPPED] == results(one.send("a", "b"))
    assert [OK, DROPPED] == results(other.send("a", "b"))
    assert [OK] * 9 == results(shared.http.post("/api/e", json=whole(one.tenant, 9)))


def whole(project: Tenant, count: int) -> dict[str, Any]:
    """A batch with the project's first token, which has no rate."""
    return {"api_key": project.token, "batch": [{"event": "e", "distinct_id": "d"}] * count}


# Rates: audit events


def test_an_audit_event_over_the_rate_is_503_for_those_who_drop_on_429(shared: World) -> None:
    service = limited(shared, "application", rate=SLOW, burst=1)
    assert 202 == service.send_audit("a").status_code

    assert_canonical_error(service.send_audit("b"), 503, "rate_limited")
    refused = service.send_audit("b", headers=AS_OUR_CLIENT)
    assert_canonical_error(refused, 429, "rate_limited")
    assert 990 <= int(refused.headers["retry-after"]) <= 1_000
    assert_canonical_error(service.send_audit("b", "c"), 503, "rate_limited")
    assert ["a"] == service.stored()


def test_an_audit_batch_over_the_rate_is_taken_in_part(shared: World) -> None:
    service = limited(shared, "application", rate=SLOW, burst=2)

    answer = service.send_audit("a", "b", "c")

    assert 202 == answer.status_code
    codes = [result.get("code") for result in answer.json()["results"]]
    assert [None, None, "rate_limited"] == codes
    assert (2, 1) == (answer.json()["accepted"], answer.json()["rejected"])
    assert ["a", "b"] == service.stored()


# Rates and origins: set, shown, kept


def test_a_rate_is_changed_from_the_next_request_on_and_taken_away(shared: World) -> None:
    page = limited(shared, rate=SLOW, burst=1)
    assert [OK, DROPPED] == results(page.send("a", "b"))

    change(page, rate=1_000)
    time.sleep(0.05)
    assert [OK] * 20 == results(page.send(*"bcdefghijklmnopqrstu"))
    change(page, rate=None)
    assert [OK] * 2_000 == results(page.send(*["x"] * 2_000))


def change(key: Limited, **changes: Any) -> dict[str, Any]:
    answer = key.world.http.patch(f"/v1/keys/{key.id}", json=changes, headers=AS_ADMIN)
    assert 200 == answer.status_code, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


def test_limits_are_shown_logged_and_kept_by_a_rotation(shared: World) -> None:
    page = limited(
        shared, rate=7, burst=9, origins=["HTTPS://Shop.Example:443", "http://a.example"]
    )
    wanted = {"rate": 7, "burst": 9, "origins": ["https://shop.example", "http://a.example"]}

    rotated = shared.http.post(f"/v1/keys/{page.id}/rotate", json={}, headers=AS_ADMIN).json()
    changed = change(page, rate=20, origins=[])
    keys = shared.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]

    later = {"rate": 20, "burst": 200, "origins": []}
    listed = {key["id"]: {name: key[name] for name in wanted} for key in keys}
    assert wanted == listed[rotated["key"]["id"]]
    assert later == listed[page.id] == {name: changed[name] for name in wanted}
    log = shared.http.get("/v1/export", headers=page.tenant.as_application).text.splitlines()
    logged = [
        (event["event"], {name: event["facts"][name] for name in wanted})
        for event in map(json.loads, log)
        if event["kind"] == "administration"
    ]
    assert [("key.created", wanted), ("key.rotated", wanted), ("key.changed", later)] == logged


def test_limits_of_a_fixed_token_outlast_a_restart(tmp_path: Path) -> None:
    limits = {"rate": SLOW, "burst": 1, "origins": ["https://shop.example"]}
    with started(tmp_path) as server:
        keys = server.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]
        (token,) = [key["id"] for key in keys if key["role"] == "token"]
        answer = server.http.patch(f"/v1/keys/{token}", json=limits, headers=AS_ADMIN)
        assert 200 == answer.status_code
    with started(tmp_path) as server:
        batch = {"api_key": TOKEN, "batch": [{"event": "e", "distinct_id": "d"}] * 2}
        assert [OK, DROPPED] == results(server.send(batch))
        evil = server.send(batch, headers={"Origin": "https://evil.example"})
        assert_canonical_error(evil, 403, "origin_not_allowed")


@pytest.mark.parametrize(
    "limits",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": 0.0001},
        {"rate": 10**7},
        {"burst": 5},
        {"rate": None, "burst": 5},
        {"rate": 5, "burst": 0},
        {"origins": ["shop.example"]},
        {"origins": ["https://shop.example/path"]},
        {"origins": ["https://shop.example,https://evil.example"]},
        {"origins": ["*"]},
        {"origins": [""]},
        {"origins": ["null"]},
        {"origins": ["https://a.*.example"]},
        {"origins": ["https://user@shop.example"]},
        {"origins": ["https://shop.example"] * 65},
        {"origins": "https://shop.example"},
        {},
    ],
)
def test_a_limit_that_means_nothing_is_refused(shared: World, limits: dict[str, Any]) -> None:
    page = limited(shared)
    answer = shared.http.patch(f"/v1/keys/{page.id}", json=limits, headers=AS_ADMIN)
    assert_canonical_error(answer, 400, "invalid_parameter")
    if limits:
        made = {"role": "token", "project": page.name, **limits}
        answer = shared.http.post("/v1/keys", json=made, headers=AS_ADMIN)
        assert_canonical_error(answer, 400, "invalid_parameter")


def test_only_a_token_has_origins(shared: World) -> None:
    for role, more in (("application", {"project": "default"}), ("admin", {})):
        wanted = {"role": role, "origins": ["https://shop.example"], **more}
        answer = shared.http.post("/v1/keys", json=wanted, headers=AS_ADMIN)
        assert_canonical_error(answer, 400, "invalid_parameter")
    service = limited(shared, "application")
    answer = shared.http.patch(
        f"/v1/keys/{service.id}", json={"origins": ["https://shop.example"]}, headers=AS_ADMIN
    )
    assert_canonical_error(answer, 400, "invalid_parameter")


def test_a_key_that_has_ended_is_not_changed(shared: World) -> None:
    page = limited(shared)
    shared.http.delete(f"/v1/keys/{page.id}", headers=AS_ADMIN)

    answer = shared.http.patch(f"/v1/keys/{page.id}", json={"rate": 5}, headers=AS_ADMIN)

    assert_canonical_error(answer, 404, "not_found")


# Origins

LISTED = ["https://shop.example", "https://*.pages.example", "http://localhost:3000"]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Origin": "https://shop.example"}, True),
        ({"Origin": "https://a.pages.example"}, True),
        ({"Origin": "https://a.b.pages.example"}, True),
        ({"Origin": "http://localhost:3000"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://shop.example"}, False),
        ({"Origin": "https://shop.example:8443"}, False),
        ({"Origin": "https://pages.example"}, False),
        ({"Origin": "https://evilpages.example"}, False),
        ({"Origin": "https://evil.example/.pages.example"}, False),
        ({"Origin": "https://shop.example.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        # An <img> has no Origin, but the browser says that it is a page's.
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://shop.example/cart?a=1"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        # What is no page could claim anything.
        ({}, True),
        ({"Referer": "https://evil.example/"}, True),
    ],
)
def test_a_token_with_origins_serves_the_pages_of_those_alone(
    shared: World, headers: dict[str, str], allowed: bool
) -> None:
    page = limited(shared, origins=LISTED)

    sent = page.send("a", headers=headers)
    pixel = shared.http.get(
        "/api/e",
        params={"data": json.dumps(product(api_key=page.secret)), "img": "1"},
        headers=headers,
    )

    for answer in (sent, pixel):
        if allowed:
            assert 200 == answer.status_code
        else:
            assert_canonical_error(answer, 403, "origin_not_allowed")
    assert (2 if allowed else 0) == len(page.tenant.log())
    if headers.get("Origin"):  # the page may read why
        assert headers["Origin"] == sent.headers["access-control-allow-origin"]


def test_the_preflight_of_a_page_that_is_not_listed_is_answered_so_that_it_can_read_why(
    shared: World,
) -> None:
    answer = shared.http.options(
        "/api/e",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )

    assert (204, "https://evil.example") == (
        answer.status_code,
        answer.headers["access-control-allow-origin"],
    )


LABEL = st.text("abcxyz019-", min_size=1, max_size=8).filter(lambda text: text[-1] != "-")


@given(st.sampled_from(["https", "http", "capacitor"]), st.lists(LABEL, min_size=1, max_size=4))
def test_an_origin_is_read_as_browsers_write_it_whatever_its_case(
    scheme: str, labels: list[str]
) -> None:
    origin = f"{scheme}://{'.'.join(labels)}"

    assert origin == parse_origin(origin.upper()) == parse_origin(f"{origin}/")
    assert allows((origin,), origin.upper())
    assert not allows((origin,), f"{origin}:8443")
    below = f"{scheme}://*.{'.'.join(labels)}"
    assert allows((below,), f"{scheme}://sub.{'.'.join(labels)}")
    assert not allows((below,), origin)


def test_a_name_of_another_script_is_compared_as_browsers_send_it() -> None:
    assert "https://xn--mnchen-3ya.example" == parse_origin("https://münchen.example")


# The monthly limits


def test_a_token_that_uses_up_its_month_leaves_audit_events_their_own(shared: World) -> None:
    project = tenant(shared, monthly_limit=5, audit_monthly_limit=2)
    answer = shared.http.post("/api/e", json=whole(project, 50))
    assert 5 == answer.json()["accepted"]

    codes = [project.send_audit(audit(), f"k{n}").status_code for n in range(3)]

    assert [202, 202, 429] == codes
    projects = shared.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]
    (shown,) = [each for each in projects if each["name"] == project.name]
    assert (5, 5, 2, 2) == (
        shown["monthly_limit"],
        shown["events_this_month"],
        shown["audit_monthly_limit"],
        shown["audit_events_this_month"],
    )


TO_SCHEMA_2 = """
UPDATE project SET monthly_limit = 3;
ALTER TABLE project DROP COLUMN audit_monthly_limit;
ALTER TABLE access_key DROP COLUMN rate;
ALTER TABLE access_key DROP COLUMN burst;
ALTER TABLE access_key DROP COLUMN origins;
ALTER TABLE access_key DROP COLUMN scopes;
ALTER TABLE log DROP COLUMN shard;
ALTER TABLE project DROP COLUMN legal_hold;
CREATE TABLE old (project_id INTEGER, month TEXT, events INTEGER, PRIMARY KEY (project_id, month));
INSERT INTO old SELECT project_id, month, sum(events) FROM usage GROUP BY 1, 2;
DROP TABLE usage;
ALTER TABLE old RENAME TO usage;
PRAGMA user_version = 2;
"""


def test_a_limit_of_both_lanes_becomes_one_of_each(tmp_path: Path) -> None:
    stay_within_a_month()
    with started(tmp_path) as server:
        server.send(product())
        server.send_audit(audit(), "k1")
        server.stop()
    connection = apsw.Connection(str(tmp_path / "journal.db"))
    connection.execute(TO_SCHEMA_2)
    connection.close()

    with started(tmp_path) as server:
        # What was stored this month counts as product events, as both lanes did before.
        assert ["ok", "drop"] == [results(server.send(product()))[0][0] for _ in range(2)]
        sent = [server.send_audit(audit(), f"k{n}").status_code for n in range(1, 6)]
        assert [202, 202, 202, 202, 429] == sent  # the first of them is a duplicate
