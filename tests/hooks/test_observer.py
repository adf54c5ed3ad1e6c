"""What the hooks record of a request, as their options say: sampling, addresses, visitors."""

from collections.abc import Mapping
from typing import Any

import pytest

from indelible import pseudonym, sha256_hex
from indelible.hooks.observer import Observer
from indelible.hooks.watch import open_watch
from indelible.testing import Recorder


def request(
    events: Recorder,
    headers: Mapping[str, str] | None = None,
    *,
    route: str = "/orders/{id}",
    method: str = "POST",
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
        watch.began(201)
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
            {"ip": "198.51.100.7"},
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
