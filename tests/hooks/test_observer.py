"""What the hooks record of a request, as their options say: sampling, addresses, visitors."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import pseudonym, sha256_hex
from indelible.hooks.observer import SKIPPED, Observer
from indelible.hooks.run import Run
from indelible.hooks.scrub import scrubbed
from indelible.hooks.watch import Watch, open_watch
from indelible.testing import Recorder


def request(
    events: Recorder,
    headers: Mapping[str, str] | None = None,
    *,
    route: str | None = "/orders/{id}",
    method: str = "POST",
    status: int = 201,
    error: Exception | None = None,
    peer: str | None = None,
    times: int = 1,
    **recording: Any,
) -> None:
    """Requests of one route, as a hook sees them."""
    observer = Observer(events.client, framework="test", install_signal_handlers=False, **recording)
    for _ in range(times):
        watch = open_watch(
            observer,
            method=method,
            path="/orders/7",
            header=(headers or {}).get,
            read=lambda _: route,
            peer=peer,
        )
        assert watch is not None
        if error is not None:
            watch.failed(error)
        else:
            watch.began(status)
            watch.finished()
        watch.close()


def test_a_sampled_event_says_its_rate_so_that_it_can_be_weighted(events: Recorder) -> None:
    request(events, times=300, audit=False, sample={"/orders/{id}": 0.5})
    request(events, times=5, audit=False, sample={"/other": 0.0})

    sampled = [one for one in events.captured if "$sample_rate" in one.properties]
    assert 0 < len(sampled) < 300
    assert {0.5} == {one.properties["$sample_rate"] for one in sampled}
    assert 5 == len(events.captured) - len(sampled)


def test_audit_events_are_never_sampled(events: Recorder) -> None:
    request(events, times=20, sample=0.0)
    assert (0, 20) == (len(events.captured), len(events.audited))


FORWARDED = {"x-forwarded-for": "198.51.100.7, 10.0.0.2"}


@pytest.mark.parametrize(
    ("options", "recording", "context", "meta"),
    [
        ({}, {}, None, None),
        ({"pii_key": "k"}, {}, {"ip_hash": pseudonym("10.0.0.1", key="k")}, None),
        (
            {"pii_key": "k"},
            {"trusted_proxies": "10.0.0.0/8"},
            {"ip_hash": pseudonym("198.51.100.7", key="k")},
            None,
        ),
        ({}, {"ip_mode": "hash"}, {"ip_hash": sha256_hex("10.0.0.1")}, None),
        ({"pii_key": "k"}, {"ip_mode": "off"}, None, None),
        ({}, {"ip_mode": "hmac"}, None, None),
        (
            {},
            {"ip_mode": "raw", "trusted_proxies": "10.0.0.0/8"},
            None,
            "198.51.100.7",
        ),
    ],
    ids=["default", "key", "behind proxies", "hash", "off", "hmac without a key", "raw"],
)
def test_an_address_is_recorded_as_far_as_it_was_asked_for(
    options: dict[str, Any],
    recording: dict[str, Any],
    context: dict[str, str] | None,
    meta: str | None,
) -> None:
    with Recorder(**options) as events:
        request(events, FORWARDED, peer="10.0.0.1", **recording)
        (audit,) = events.audited
        assert context == audit.payload.get("context")
        assert meta == audit.meta.get("client_ip")
        assert "198.51.100.7" not in str(events.captured[0].properties)


def test_a_visitor_is_taken_from_the_cookie_only_if_asked(events: Recorder) -> None:
    cookie = {"cookie": "a=1; vt_anon=visitor-9; b=2"}
    request(events, cookie)
    request(events, cookie, identify_from_cookie=True)
    assert [False, True] == ["visitor-9" == one.distinct_id for one in events.captured]


def test_only_the_methods_that_were_asked_for_are_audited(events: Recorder) -> None:
    request(events, method="GET", audit_methods=["POST"])
    request(events, method="POST", audit_methods=["POST"])
    assert ["http.POST./orders/{id}"] == [one.name for one in events.audited]
    assert 2 == len(events.captured)


@pytest.mark.parametrize(
    ("method", "route", "status", "is_audited"),
    [
        ("POST", "/orders", 201, True),
        ("PUT", "/orders", 403, True),
        ("PATCH", "/orders", 500, True),
        ("DELETE", "/orders", 404, True),  # the order is not there; the route is
        ("GET", "/orders", 200, False),
        ("BREW", "/orders", 200, False),
        ("POST", "/orders", 405, False),
        ("POST", None, 404, False),
        ("POST", None, 401, False),  # a middleware has refused it, whatever it was
        ("POST", None, 307, False),
        ("POST", None, 200, True),  # an application of no framework did something
        ("POST", None, 502, True),
    ],
)
def test_the_audit_log_takes_what_writes_and_not_what_anybody_can_provoke(
    events: Recorder, method: str, route: str | None, status: int, is_audited: bool
) -> None:
    request(events, method=method, route=route, status=status)
    assert (1, is_audited) == (len(events.captured), len(events.audited))


@pytest.mark.parametrize("kind", ["job", "command", "message", "task", "rpc", "websocket"])
@pytest.mark.parametrize("asked", [None, True, False])
def test_work_that_anybody_can_send_is_audited_only_where_that_is_asked_for(
    events: Recorder, kind: str, asked: bool | None
) -> None:
    observer = Observer(events.client, framework="test", install_signal_handlers=False, audit=asked)
    for outcome, name in (("success", None), ("error", None), ("success", "order.shipped")):
        run = Run(observer, kind=kind, name="orders")
        run.context.event_name = name
        run.end(outcome)

    planned = [f"{kind}.orders"] * 2 if kind in ("job", "command") else []
    told = {None: planned, True: [f"{kind}.orders"] * 2, False: []}[asked]
    if kind == "websocket":
        told = []  # goes by `audit_methods`, as the GET that it began as
    named = [] if asked is False else ["order.shipped"]
    assert told + named == [one.name for one in events.audited]
    assert 3 == len(events.captured)


HEALTH_CHECKS = [
    "/healthz",
    "/livez",
    "/readyz",
    "/ready",
    "/live",
    "/health",
    "/health/",
    "/health/db",
    "/health/live",
    "/_health",
    "/healthcheck",
    "/health-check",
    "/health_check",
    "/startupz",
    "/liveness",
    "/readiness",
    "/ping",
    "/status",
    "/up",
    "/api/healthz",
    "/v1/shop/readyz",
    "/actuator/health",
    "/actuator/health/liveness",
    "/-/healthy",
    "/-/ready",
    "/_ah/health",
    "/__heartbeat__",
    "/__lbheartbeat__",
    "/heartbeat",
    "/HealthZ",
    "/ht/",
    "/alive",
]


@pytest.mark.parametrize("path", HEALTH_CHECKS)
def test_a_health_check_by_any_usual_name_leaves_no_event(events: Recorder, path: str) -> None:
    assert opened(events, "GET", path) is None
    assert opened(events, "POST", path) is not None  # which is none


@pytest.mark.parametrize(
    "path", ["/healthzone", "/live/streams/7", "/status/7", "/patients/7/health", "/", "/pinger"]
)
def test_what_only_sounds_like_a_health_check_is_recorded(events: Recorder, path: str) -> None:
    assert opened(events, "GET", path) is not None


def test_paths_can_be_added_to_the_usual_ones_or_put_in_their_place(events: Recorder) -> None:
    more = (*SKIPPED, "/internal", "*/robots.txt")
    for path in ("/healthz", "/internal/7", "/de/robots.txt"):
        assert opened(events, "GET", path, skip=more) is None
    assert opened(events, "POST", "/internal", skip=more) is None
    assert opened(events, "GET", "/healthz", skip=["/internal"]) is not None
    assert opened(events, "POST", "/health", skip=["/health"]) is None  # asked for as it stands


def opened(events: Recorder, method: str, path: str, **recording: Any) -> Watch | None:
    """What a hook opens for a request, dismissed at once."""
    observer = Observer(events.client, framework="test", install_signal_handlers=False, **recording)
    watch = open_watch(
        observer, method=method, path=path, header=lambda _: None, read=lambda _: None
    )
    if watch is not None:
        watch.dismiss()
    return watch


def test_a_count_of_persons_counts_no_process(events: Recorder) -> None:
    """Two processes with a visitor each, and many requests of nobody."""
    with Recorder() as other:
        for process in (events, other):
            request(process, times=3)
            visitor = {"cookie": f"vt_anon=visitor-{id(process)}"}
            request(process, visitor, identify_from_cookie=True)
        everything = [*events.captured, *other.captured]
    assert 2 == len({one.person for one in everything} - {None})
    for one in everything:
        is_nobodys = one.properties.get("$process_person_profile") is False
        assert is_nobodys == (one.distinct_id == one.body["process_id"])


separators = st.sampled_from(["", " ", "-"])
words = st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=20)


@given(
    digits=st.text("0123456789", min_size=13, max_size=19),
    separator=separators,
    before=words,
    after=words,
)
def test_no_number_as_long_as_a_cards_stays_in_the_text_of_an_exception(
    digits: str, separator: str, before: str, after: str
) -> None:
    groups = [digits[at : at + 4] for at in range(0, len(digits), 4)]
    number = separator.join(groups)
    assert number not in scrubbed(f"{before} {number} {after}")


@pytest.mark.parametrize(
    "secret",
    [
        "ann@example.com",
        "192.0.2.7",
        "DE89 3704 0044 0532 0130 00",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl",
        "9f86d081884c7d659a2feaa0c55ad015",
        "+49 (0)30 1234-5678",
    ],
)
def test_what_identifies_somebody_is_masked_in_the_text_of_an_exception(secret: str) -> None:
    assert "for [redacted] failed" == scrubbed(f"for {secret} failed")[-21:]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("password=hunter2, user=7", "password=[redacted], user=7"),
        ("{'api_key': 'abc-def'}", "{'api_key': '[redacted]'}"),
        ("division by zero", "division by zero"),
        ("no column total_2026 in table 7", "no column total_2026 in table 7"),
    ],
)
def test_the_rest_of_the_text_stays(text: str, kept: str) -> None:
    assert kept == scrubbed(text)


def test_an_exception_whose_text_fails_is_recorded_all_the_same(events: Recorder) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise LookupError

    request(events, error=Odd(), error_messages=True)
    (audit,) = events.audited
    assert ("Odd", {"exception": "Odd", "retryable": True}) == (
        audit.meta["error_type"],
        audit.payload["error"],
    )


def test_the_text_of_an_exception_is_not_even_made_unless_it_is_asked_for(events: Recorder) -> None:
    class Dear(Exception):
        def __str__(self) -> str:
            pytest.fail("asked for its text")

    request(events, error=Dear())
    assert "Dear" == events.audited[0].meta["error_type"]
