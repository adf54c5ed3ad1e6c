"""What is kept although it is not quite right: empty arrays of PHP, times in any form, and the
events of servers whose User-Agent is on a list of crawlers."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.moment import parse_time_ms
from tests.edge.test_fuzz import VALUES
from tests.edge.wire import Tenant, first, fresh, known_as, stored, tenant
from tests.world import (
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    assert_canonical_error,
    product,
    started,
)

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.fixture(scope="module")
def own(shared: ServerProcess) -> Tenant:
    """A project with a short log, so that reading all of it is cheap."""
    return tenant(shared)


def send_raw(project: Tenant, members: str, **more: Any) -> httpx.Response:
    """Send an event with `members`, JSON text, as they stand."""
    event = json.dumps(project.event(**more))
    return project.world.send(None, content=f"{event[:-1]}, {members}}}".encode())


def shown_everywhere(project: Tenant, tx_id: str) -> Iterator[dict[str, Any]]:
    """The event as each way of reading shows it."""

    def get(path: str, **params: str) -> Any:
        return project.world.http.get(path, params=params, headers=project.as_application).json()

    yield get(f"/v1/events/{tx_id}")
    yield get("/v1/where", id=tx_id)["events"][0]
    yield get("/v1/events", kind="product")["events"][0]
    yield project.log()[-1]


# PHP has one array, and writes an empty object as []


@pytest.mark.parametrize("sent", ["[]", "[ ]", "[\n]", "null", "{}"])
def test_an_empty_array_is_an_empty_object_where_properties_belong(own: Tenant, sent: str) -> None:
    result = first(send_raw(own, f'"properties":{sent}'))

    assert "ok" == result["result"]
    for event in shown_everywhere(own, result["tx_id"]):
        assert {} == event["properties"]


@pytest.mark.parametrize(("member", "empty"), [("$set", {}), ("$set_once", {}), ("$unset", [])])
@pytest.mark.parametrize("sent", ["[]", "{}", "[ ]", "{ }"])
def test_an_empty_array_is_an_empty_object_where_changes_of_a_person_belong(
    own: Tenant, member: str, empty: object, sent: str
) -> None:
    result = first(send_raw(own, f'"{member}":{sent}'))

    assert "ok" == result["result"]
    for event in shown_everywhere(own, result["tx_id"]):
        assert empty == event[member]


def test_the_payload_of_an_event_is_still_what_was_sent_to_the_byte(own: Tenant) -> None:
    uuid = fresh()
    assert "ok" == first(send_raw(own, '"properties":[ ]', uuid=uuid))["result"]

    again = first(send_raw(own, '"properties":[ ]', uuid=uuid))
    other = first(send_raw(own, '"properties":{}', uuid=uuid))

    assert ("ok", True) == (again["result"], again["duplicate"])
    assert ("warning", "uuid_conflict") == (other["result"], other["reason"])


def test_php_arrays_are_read_in_a_batch_and_in_every_event_of_it(shared: ServerProcess) -> None:
    event = {"event": "viewed", "distinct_id": "d1", "properties": [], "$set": [], "$set_once": []}

    answer = shared.send({"api_key": TOKEN, "batch": [event, event]}).json()

    assert ["ok", "ok"] == [result["result"] for result in answer["events"]]


def test_an_empty_array_has_no_distinct_id_to_give(shared: ServerProcess) -> None:
    event = {"api_key": TOKEN, "event": "viewed", "properties": []}

    assert_canonical_error(shared.send(event), 400, "missing_distinct_id")


def test_an_empty_array_as_meta_is_no_meta_alone_and_in_a_batch(shared: ServerProcess) -> None:
    one = shared.send_audit({"payload": "p", "meta": []})
    batch = shared.http.post(
        "/v1/events/batch",
        content=b'{"events":[{"payload":"p","meta":[]},{"payload":"p","meta":[ \n]}]}',
        headers=AS_APPLICATION,
    )

    assert 202 == one.status_code, one.text
    for receipt in (one.json(), *batch.json()["results"]):
        assert {"type": "info"} == stored(shared, receipt["tx_id"])["meta"]


# Timestamps

TEN_FIFTEEN = [
    "2025-09-17t10:15:30z",
    "2025-09-17T10:14:60Z",
    "2025-09-17 10:15:30 UTC",
    "2025-09-17T12:15:30+02:00[Europe/Paris]",
    "2025-09-17T12:15:30,5+0200",
    "2025-09-17T10:15:30.123456789Z",
    "Wed, 17 Sep 2025 10:15:30 GMT",
    "Wednesday, 17-Sep-25 10:15:30 GMT",
    "Wed Sep 17 10:15:30 2025",
    "Wed, 17 Sep 2025 12:15:30 +0200",
    "Wed Sep 17 2025 12:15:30 GMT+0200 (Mitteleuropäische Sommerzeit)",
    "1758104130",
    "1758104130.5",
    1758104130,
    1758104130123,
    1758104130123456,
    1758104130123456789,
    1758104130.123,
    -1,
    "1950-01-01T00:00:00Z",
]


@pytest.mark.parametrize("sent", TEN_FIFTEEN)
def test_a_timestamp_is_read_in_many_forms_and_stored_as_sent(
    shared: ServerProcess, sent: object
) -> None:
    result = first(shared.send(product(timestamp=sent)))

    assert ("ok", None) == (result["result"], result.get("reason"))
    assert sent == stored(shared, result["tx_id"])["timestamp"]


@pytest.mark.parametrize(
    "sent",
    [
        *("soon", "", "17/09/2025", "2025-09-17 10:15:30 CST", "0000-00-00 00:00:00", "x" * 10_000),
        *("99999-01-01T00:00:00Z", "+275760-09-13T00:00:00.000Z", "2025-02-30", "²"),
        *(True, False, [], {}, {"at": 1}, [1758104130], 10**30, -(10**30), 1e300),
    ],
)
def test_a_timestamp_that_cannot_be_read_costs_a_warning_and_not_the_event(
    shared: ServerProcess, own: Tenant, sent: object
) -> None:
    warned = shared.count("indelible_events_warned_total", reason="unreadable_timestamp")

    result = first(own.send(timestamp=sent))

    assert ("warning", "unreadable_timestamp") == (result["result"], result["reason"])
    assert warned + 1 == shared.count(
        "indelible_events_warned_total", reason="unreadable_timestamp"
    )
    for event in shown_everywhere(own, result["tx_id"]):
        assert sent == event["timestamp"]
        assert ["unreadable_timestamp"] == event["request"]["warnings"]


@pytest.mark.parametrize("sent", ["1e999", "-1e999", "1" * 400 + ".0", '{"a": [1e999]}'])
def test_a_timestamp_that_no_reader_can_hold_is_kept_as_its_text(own: Tenant, sent: str) -> None:
    result = first(send_raw(own, f'"timestamp":{sent}'))

    assert ("warning", "unreadable_timestamp") == (result["result"], result["reason"])
    for event in shown_everywhere(own, result["tx_id"]):
        assert sent == event["timestamp"]


@given(st.lists(VALUES.filter(lambda value: value is not None), min_size=1, max_size=20))
@settings(max_examples=25)
def test_no_timestamp_costs_an_event_and_what_cannot_be_read_is_kept(
    own: Tenant, sent: list[Any]
) -> None:
    batch = [own.event(timestamp=value) for value in sent]
    answer = own.world.http.post("/api/e", json={"batch": batch}).json()

    events = own.log()[-len(sent) :]
    assert sent == [event["timestamp"] for event in events]
    for value, result, event in zip(sent, answer["events"], events, strict=True):
        assert result["result"] in ("ok", "warning")
        assert ("unreadable_timestamp" == result.get("reason")) == (parse_time_ms(value) is None)
        noticed = [result["reason"]] if "reason" in result else []
        assert noticed == event["request"].get("warnings", [])


@pytest.mark.parametrize("sent", [None, "absent"])
def test_without_a_timestamp_there_is_nothing_to_warn_of(
    shared: ServerProcess, sent: str | None
) -> None:
    event = product(timestamp=sent) if sent is None else product()

    result = first(shared.send(event))

    assert "ok" == result["result"]
    assert "timestamp" not in stored(shared, result["tx_id"])


def test_a_time_that_is_far_ahead_is_noticed_in_every_form(shared: ServerProcess) -> None:
    ahead = datetime.now(UTC) + timedelta(days=2)
    at_ms = int(ahead.timestamp() * 1000)
    for sent in (
        ahead.isoformat(),
        format_datetime(ahead, usegmt=True),
        f"{ahead:%Y-%m-%d %H:%M:%S UTC}",
        *(at_ms / 1000, at_ms, at_ms * 1000, at_ms * 1_000_000, str(at_ms)),
    ):
        result = first(shared.send(product(timestamp=sent)))
        assert ("warning", "future_timestamp") == (result["result"], result["reason"]), sent


def test_a_search_reads_the_times_that_an_event_may_have(world: ServerProcess) -> None:
    first(world.send(product()))
    (before, after) = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    for write in (
        datetime.isoformat,
        lambda at: format_datetime(at, usegmt=True),
        lambda at: f"{at:%Y-%m-%d %H:%M:%S UTC}",
        lambda at: f"{at:%Y%m%dT%H%M%Sz}",
        lambda at: str(at.timestamp()),
        lambda at: str(int(at.timestamp() * 1_000_000)),
    ):
        params = {"kind": "product", "from": write(before), "to": write(after)}
        found = world.http.get("/v1/events", params=params, headers=AS_APPLICATION)
        assert 1 == len(found.json()["events"]), params
        params = {"kind": "product", "from": write(after)}
        found = world.http.get("/v1/events", params=params, headers=AS_APPLICATION)
        assert [] == found.json()["events"], params


@pytest.mark.parametrize(
    "text", ["soon", "", "2025-09-17T10:15:30 02:00", "1e30", "17/09/2025", "-1", " -1.5"]
)
def test_a_search_refuses_what_is_no_moment(shared: ServerProcess, text: str) -> None:
    for name in ("from", "to"):
        answer = shared.http.get("/v1/events", params={name: text}, headers=AS_APPLICATION)
        assert_canonical_error(answer, 400, "invalid_parameter")


# Servers whose User-Agent is on the list of crawlers

SENDERS = [
    "WordPress/6.8.2; https://shop.example",
    "WordPress/6.8.2; https://speedy.example/googlebot",
    "WooCommerce/8.1.1 Hookshot (WordPress/6.3.1)",
    "Mozilla/5.0 (compatible; Google-Apps-Script; beanserver; +https://script.google.com; id: UA)",
    "Mozilla/5.0 (compatible; Google-Apps-Script)",
    "Mozilla/5.0 (compatible; GoogleDocs; apps-spreadsheets; +http://docs.google.com)",
    "AppEngine-Google; (+http://code.google.com/appengine; appid: s~shop)",
    "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
    "Google-Cloud-Scheduler",
    "Zapier",
    "Make/production",
    "Integromat/production",
    "n8n",
    "IFTTT/1.0 (https://ifttt.com/support)",
    "Retool/2.0 (+https://docs.tryretool.com/docs/apis)",
    "azure-logic-apps/1.0 (workflow 8a7; version 085) microsoft-flow/1.0",
    "Amazon/EventBridge/ApiDestinations",
    "Cloudflare-Workers",
    "Mozilla/5.0 (compatible; Cloudflare-Stream-Webhook; +https://www.cloudflare.com/)",
    "SFDC-Callout/61.0",
    "Shopify-Captain-Hook",
    "Drupal/10.2.3 (+https://www.drupal.org/) GuzzleHttp/7",
    "MoodleBot/1.0 (+https://moodle.example)",
    "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client)",
    "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    "PayPal/AUHR-214.0-51787073PayPal IPN ( https://www.paypal.com/ipn )",
    "Svix-Webhooks/1.65.0 (sender-9YMgn; +https://www.svix.com/http-sender/)",
    "Zendesk Webhook",
    "MailChimp.com WebHook Delivery",
    "SendGrid Event API",
    "TwilioProxy/1.1",
    "sentry/23.1 (https://sentry.io)",
    "Slackbot 1.0 (+https://api.slack.com/robots)",
    "Stape/1.0.0",
    "EasyCron/1.0 (https://www.easycron.com/)",
    "Mozilla/4.0 (compatible; cron-job.org; http://cron-job.org/abuse/)",
    "Mozilla/3.0 (compatible; Indy Library)",
]
PEOPLE = [
    f"{CHROME} Code/1.115.0 Chrome/142.0.7444.265 Electron/39.8.5 Safari/537.36",
    f"{CHROME} Notion/3.9.0 Chrome/124.0.6367.243 Electron/30.1.2 Safari/537.36",
    f"{CHROME} Slack/4.38.125 Chrome/124.0 Electron/30.0.9 Safari/537.36 Sonic Slack_SSB/4.38.125",
    "Mozilla/5.0 (Linux; Android 15; CPH2557 Build/AP3A.240617.008) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 16; Pixel 10; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Version/4.0 Chrome/146.0 Mobile Safari/537.36 MetaIAB Facebook",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Viber/22.5",
]
FROM_A_PAGE = [
    {"origin": "https://shop.example"},
    {"origin": "null"},
    {"referer": "https://shop.example/"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-dest": "image"},
    {"sec-ch-ua": '"Chromium";v="142"'},
]
FROM_A_SERVER: list[dict[str, str]] = [
    {},
    {"accept": "*/*", "accept-language": "*", "sec-fetch-mode": "cors"},  # Node.js' own fetch
    {"accept-language": "en-GB", "accept-encoding": "gzip", "x-forwarded-for": "10.0.0.1"},
]


def send_as(
    project: Tenant, agent: str, headers: dict[str, str], route: str = "/api/e"
) -> httpx.Response:
    return project.world.http.post(
        route, json=project.event(), headers={**headers, "user-agent": agent}
    )


@pytest.fixture(scope="module")
def strict(shared: ServerProcess) -> Tenant:
    """A project that discards what crawlers send."""
    return tenant(shared, bot_policy="discard")


@pytest.mark.parametrize("agent", [*SENDERS, *PEOPLE])
def test_servers_and_people_are_no_crawlers_whatever_headers_they_send(
    strict: Tenant, agent: str
) -> None:
    for headers in (FROM_A_SERVER[0], FROM_A_PAGE[0]):
        for route in ("/api/e", "/batch/"):
            assert "ok" == first(send_as(strict, agent, headers, route))["result"]


@pytest.mark.parametrize("headers", FROM_A_SERVER)
def test_what_has_no_header_of_a_browser_is_marked_at_most(
    strict: Tenant, headers: dict[str, str]
) -> None:
    for route in ("/api/e", "/batch/", "/batch"):
        result = first(send_as(strict, GOOGLEBOT, headers, route))
        assert ("warning", "bot") == (result["result"], result["reason"])
        event = strict.log()[result["index"] - strict.log()[0]["index"]]
        assert (["bot"], True) == (event["request"]["warnings"], event["request"]["$bot"])


@pytest.mark.parametrize("headers", FROM_A_PAGE)
def test_what_a_crawlers_browser_sends_is_discarded_as_documented(
    shared: ServerProcess, strict: Tenant, headers: dict[str, str]
) -> None:
    stored_before = len(strict.log())
    dropped = shared.count("indelible_events_dropped_total", lane="product", reason="bot")

    for project in (strict, tenant(shared)):
        answer = send_as(project, GOOGLEBOT, headers)
        assert (204, b"") == (answer.status_code, answer.content)

    assert stored_before == len(strict.log())
    assert dropped + 2 == shared.count(
        "indelible_events_dropped_total", lane="product", reason="bot"
    )


def test_of_a_user_agent_512_characters_are_looked_at(strict: Tenant) -> None:
    """The list has 1,456 expressions; 64 KB of a User-Agent would hold everybody for a second."""
    within, behind = ("x" * length + "Googlebot/2.1" for length in (512 - 13, 512 - 9))

    assert 204 == send_as(strict, within, FROM_A_PAGE[0]).status_code
    assert "ok" == first(send_as(strict, behind, FROM_A_PAGE[0]))["result"]


def test_an_image_that_a_page_of_a_crawler_loads_is_discarded(shared: ServerProcess) -> None:
    event = json.dumps(product(uuid=(uuid := fresh())))

    answer = shared.http.get(
        "/api/e",
        params={"data": event, "img": "1"},
        headers={"user-agent": GOOGLEBOT, "referer": "https://shop.example/"},
    )

    assert (204, []) == (answer.status_code, known_as(shared, uuid))


def test_with_the_policy_off_a_servers_event_is_not_even_marked(shared: ServerProcess) -> None:
    project = tenant(shared, bot_policy="off")

    for headers in (*FROM_A_SERVER, *FROM_A_PAGE):
        assert "ok" == first(send_as(project, GOOGLEBOT, headers))["result"]


# What the description says of it


def test_the_description_has_the_limits_that_the_server_runs_with(tmp_path: Path) -> None:
    limits = {
        "INDELIBLE_MAX_BATCH": "77",
        "INDELIBLE_MAX_PAYLOAD_BYTES": "3000",
        "INDELIBLE_MAX_EVENT_BYTES": "40000",
        "INDELIBLE_MAX_BODY_BYTES": "500000",
    }
    with started(tmp_path / "data", **limits) as server:
        document = server.http.get("/openapi.json").json()
        page = server.http.get("/docs").text
        schemas = document["components"]["schemas"]
        payload = schemas["AuditEvent"]["properties"]["payload"]
        event = {"event": "e", "distinct_id": "d"}

        assert 77 == schemas["ProductEvents"]["maxItems"]
        over = server.send({"api_key": TOKEN, "batch": [event] * 78})
        assert_canonical_error(over, 413, "batch_too_large")

        assert (3000, True) == (payload["maxLength"], "3,000 bytes" in payload["description"])
        assert 202 == server.send_audit({"payload": "p" * 3000}).status_code
        over = server.send_audit({"payload": "p" * 3001})
        assert_canonical_error(over, 413, "payload_too_large")

        assert "40,000 bytes" in schemas["ProductEvent"]["description"]
        for path in ("/api/e", "/batch/", "/batch", "/v1/events", "/v1/events/batch"):
            assert "500,000 bytes" in document["paths"][path]["post"]["description"]
        for text in ("77 items", "3,000 bytes", "40,000 bytes", "500,000 bytes"):
            assert text in page


def test_captured_is_described_as_it_is_read(shared: ServerProcess) -> None:
    report = shared.http.get("/openapi.json").json()["components"]["schemas"]["LossReport"]
    described = report["properties"]["captured"]

    def answer_to(captured: object) -> object:
        lost = {
            "uuid": fresh(),
            "process_id": "0" * 32,
            "counts": {"queue_full": 1},
            "captured": captured,
        }
        answer = shared.send({"api_key": TOKEN, "batch": [product()], "lost": lost})
        return answer.json().get("lost_warning")

    assert ("integer", "captured" in report["required"]) == (described["type"], False)
    for taken in (described["minimum"], 7, described["maximum"]):
        assert None is answer_to(taken)
    for refused in (described["minimum"] - 1, described["maximum"] + 1, 1.5, "7", None):
        assert "malformed" == answer_to(refused)


def test_the_description_says_that_an_empty_list_will_do(shared: ServerProcess) -> None:
    page = shared.http.get("/docs").text

    for text in ("object (≤ 1,000 members) or null or list (empty)", "or object (empty)"):
        assert text in page
    refusals = shared.http.get("/openapi.json").json()["paths"]["/api/e"]["post"]["responses"]
    assert "invalid_timestamp" not in json.dumps(refusals)


def test_the_times_that_the_description_has_as_examples_are_read(shared: ServerProcess) -> None:
    schemas = shared.http.get("/openapi.json").json()["components"]["schemas"]
    examples = schemas["ProductEvent"]["properties"]["timestamp"]["examples"]

    assert 5 == len(examples)
    for example in examples:
        assert 1_758_104_130 == (parse_time_ms(example) or 0) // 1000
        assert "ok" == first(shared.send(product(timestamp=example)))["result"]


# Ids


UUID = "019a9f3c-7e0a-7000-a1b2-c3d4e5f60718"


@pytest.mark.parametrize(
    "other",
    [
        UUID.upper(),
        f"{{{UUID}}}",
        f"urn:uuid:{UUID}",
        UUID.replace("-", ""),
        f" {UUID}",
        f"{UUID}\n",
    ],
)
def test_a_uuid_is_a_text_and_in_another_notation_another_one(
    shared: ServerProcess, other: str
) -> None:
    project = tenant(shared)
    one = first(project.send(uuid=UUID))
    another = first(project.send(uuid=other))

    assert ("ok", "ok") == (one["result"], another["result"])
    assert one["index"] != another["index"]
    for sent, result in ((UUID, one), (other, another)):
        again = first(project.send(uuid=sent))
        assert (True, result["index"], sent) == (again["duplicate"], again["index"], again["uuid"])
        answer = shared.http.get(
            "/v1/where", params={"id": sent}, headers=project.as_application
        ).json()
        assert [result["index"]] == [event["index"] for event in answer["events"]]


def test_a_number_as_uuid_is_its_digits_as_they_were_sent(shared: ServerProcess) -> None:
    project = tenant(shared)

    def send(uuid: str) -> dict[str, Any]:
        text = f'{{"api_key":"{project.token}","event":"e","distinct_id":"d","uuid":{uuid}}}'
        return first(shared.send(None, content=text.encode()))

    seven = send("7")["index"]
    assert (seven, True) == (send('"7"')["index"], send('"7"')["duplicate"])
    assert seven != send("7.0")["index"]
