"""A fresh application in each framework, some visitors, and all that was recorded of them."""

import json

import pytest

from indelible.testing import Received, Recorder
from tests.hooks.billing import FRAMEWORKS, TOKEN, USER, Framework
from tests.hooks.contract import Browser, requests
from tests.hooks.shop import CARD
from tests.world import plain_client

VISITS = (
    ("GET", "/products/7", None),
    ("POST", "/billing/invoices/9", TOKEN),
    ("GET", "/healthz", None),
    ("GET", "/wp-login.php", None),
    ("POST", "/xmlrpc.php", None),
    ("POST", "/pay", TOKEN),
)

# What a person would write down who stood at the door.
EXPECTED = """
product  GET /products/{id} 200                   nobody
product  POST /billing/invoices/{id} 200          user 42
audit    http.POST./billing/invoices/{id} success user 42
product  GET <unmatched> 404                      nobody
product  POST <unmatched> 404                     nobody
product  POST /pay 500 RuntimeError               user 42
audit    http.POST./pay error RuntimeError        user 42
"""


def line(one: Received) -> str:
    """An event in one line: what happened, and whose it is."""
    if one.kind == "product":
        said = one.properties
        words = [said["method"], said["route"], said["status"], said.get("error_type")]
        who = one.person
    else:
        words = [one.name, one.meta["type"], one.meta.get("error_type")]
        who = one.payload.get("actor")
    what = " ".join(str(word) for word in words if word)
    return f"{one.kind:8} {what:40} {'nobody' if who is None else f'user {who}'}"


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_what_was_recorded_is_what_a_person_would_expect(framework: Framework) -> None:
    with (
        Recorder(mode="thread") as events,
        framework.served(events.client) as url,
        plain_client(url, transport=Browser(verify=False)) as browser,
    ):
        for method, path, token in VISITS:
            headers = {} if token is None else {"Authorization": token}
            browser.request(method, path, headers=headers)
        requests(events, 5)
        assert events.client.flush(10)
        recorded = list(events.server.received)

    lines = [line(one) for one in recorded]
    print(framework, *lines, sep="\n")  # noqa: T201 — to be looked at, with `pytest -s`
    expected = EXPECTED.replace("{id}", framework.parameter).strip().splitlines()
    assert sorted(" ".join(one.split()) for one in expected) == sorted(
        " ".join(one.split()) for one in lines
    )
    everything = json.dumps([one.body for one in recorded])
    for never in (CARD, CARD.replace(" ", ""), "1111 1111", "php", "healthz", TOKEN, "Ann Example"):
        assert never not in everything
    # No id is said twice of a request: neither in both parts of an audit event, nor as two.
    for one in recorded:
        if one.kind == "audit":
            assert USER not in one.meta.values()
    named = {one.properties["framework"].split()[0] for one in recorded if one.kind == "product"}
    assert {framework.name} == named
