"""What we give to others for their tests: the recorder, the fixture, the server in memory."""

import json
import threading
import urllib.request

import pytest

from indelible.client import Indelible
from indelible.testing import InMemoryServer, Recorder
from indelible.testing.server import Refusal
from tests.client.stub import Stub

pytest_plugins = ["pytester"]


def place_order(client: Indelible, amount: int) -> None:
    client.capture("order.created", distinct_id="user_42", properties={"amount": amount})
    client.audit.send_async("order.created", {"amount": amount}, type="success")
    client.audit.send("order.stored", {"amount": amount})


def test_what_was_sent_is_at_hand_at_once() -> None:
    with Recorder() as events:
        place_order(events.client, 99)
        place_order(events.client, 7)

        last = events.assert_captured("order.created", distinct_id="user_42")
        assert 7 == last.properties["amount"]
        events.assert_captured("order.created", amount=99, times=1)
        events.assert_audited("order.created", type="success", payload={"amount": 99})
        events.assert_audited("order.stored", times=2)
        events.assert_nothing_captured("order.deleted")
        events.clear()
        events.assert_nothing_captured()
        events.assert_nothing_audited()


def test_an_assertion_that_fails_shows_what_there_is() -> None:
    with Recorder() as events:
        place_order(events.client, 99)

        with pytest.raises(AssertionError, match=r"no event 'order.paid'.*(?s:.)*amount.*99"):
            events.assert_captured("order.paid")
        with pytest.raises(AssertionError, match="no event"):
            events.assert_captured("order.created", amount=1)
        with pytest.raises(AssertionError, match=r"1 events .* expected exactly 2"):
            events.assert_captured("order.created", times=2)
        with pytest.raises(AssertionError, match="no event"):
            events.assert_audited("order.created", type="error")
        with pytest.raises(AssertionError, match=r"captured:\n.*order\.created"):
            events.assert_nothing_captured()
        with pytest.raises(AssertionError, match="audited"):
            events.assert_nothing_audited("order.stored")


def test_a_recorder_is_strict_so_that_a_misuse_fails_the_test() -> None:
    def broken(event: dict[str, object]) -> None:
        raise LookupError("broken filter")

    with Recorder() as events:
        with pytest.raises(TypeError):
            events.client.capture("e", distinct_id=object())  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            events.client.audit.send_async("", {})
        with pytest.raises(TypeError):
            events.client.identify("u", 5)  # type: ignore[arg-type]
    with Recorder(before_send=broken) as events, pytest.raises(LookupError):
        events.client.capture("e")


def test_the_fixture_is_there_wherever_indelible_is_installed(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        def test_first(indelible_events):
            indelible_events.client.capture("order.created", properties={"amount": 99})
            indelible_events.assert_captured("order.created", amount=99)

        def test_second_begins_with_nothing(indelible_events):
            indelible_events.assert_nothing_captured()

        def test_third(indelible_events):
            indelible_events.client.capture("order.created")
            indelible_events.assert_captured("order.paid")
        """
    )

    # Of the plugins that are installed here, schemathesis takes seconds to import.
    without = [f"-pno:{plugin}" for plugin in ("randomly", "cacheprovider", "schemathesis")]
    outcome = pytester.runpytest_inprocess(*without)

    outcome.assert_outcomes(passed=2, failed=1)
    outcome.stdout.fnmatch_lines(["*no event 'order.paid'*", "*order.created*"])


def test_the_server_in_memory_takes_each_event_once_and_can_be_told_to_fail() -> None:
    with InMemoryServer() as server:
        server.refuse(Refusal(503), Refusal(503, headers={"Retry-After": "0"}))
        client = Indelible(
            server.token, api_key=server.api_key, host=server.url, spool_audit=False, batch_s=0.01
        )
        client.capture("a", uuid="fixed")
        client.capture("a", uuid="fixed")
        client.audit.send_async("order.created", {}, idempotency_key="k1")
        assert client.flush(60)
        receipt = client.audit.send("order.created", {}, idempotency_key="k1")
        client.shutdown(60)

        assert receipt.duplicate
        assert ["a"] == [one.name for one in server.product]
        assert ["order.created"] == [one.name for one in server.wait_for(2) if one.kind == "audit"]
        with pytest.raises(AssertionError, match="2 of 3"):
            server.wait_for(3, timeout_s=0.05)


def test_it_waits_for_events_that_another_thread_sends() -> None:
    with (
        InMemoryServer() as server,
        Indelible(server.token, host=server.url, batch_s=0.02) as client,
    ):

        def send_three() -> None:
            for _ in range(3):
                client.capture("late")

        threading.Timer(0.05, send_three).start()

        assert ["late"] * 3 == [one.name for one in server.wait_for(3, timeout_s=60)]


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/api/e", {}, b"{", 400),
        ("/api/e", {}, b'{"api_key":"wrong","batch":[]}', 401),
        ("/v1/events", {}, b"{}", 401),
        ("/v1/events", {"Authorization": "Bearer iml_test_in-memory-0123456789"}, b"[]", 400),
        ("/nowhere", {"Authorization": "Bearer iml_test_in-memory-0123456789"}, b"{}", 404),
    ],
)
def test_it_refuses_what_a_real_server_refuses(
    path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    with InMemoryServer() as server:
        request = urllib.request.Request(server.url + path, body, headers)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        with caught.value as answer:
            assert status == answer.status
            assert json.load(answer)["ok"] is False
        assert [] == server.received


def test_what_it_heard_of_losses_is_there_too(stub: Stub) -> None:
    with InMemoryServer() as server:
        with Indelible(server.token, host=server.url, before_send=lambda event: None) as client:
            client.capture("never")
            assert client.flush(60)
        assert [{"before_send": 1}] == [one["counts"] for one in server.losses]
        server.clear()
        assert [] == server.losses
