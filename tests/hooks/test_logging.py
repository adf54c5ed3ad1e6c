"""The logging handler on the standard library's own loggers."""

import logging
import threading
from collections.abc import Iterator

import pytest

from indelible import Indelible
from indelible.client import context
from indelible.hooks.logging import Handler
from indelible.testing import InMemoryServer, Recorder


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger that passes nothing on, so that pytest's own handlers stay out of it."""
    log = logging.getLogger("shop.payments")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield log
    for handler in list(log.handlers):
        log.removeHandler(handler)


def test_a_record_leaves_its_template_and_never_its_arguments(
    log: logging.Logger, events: Recorder
) -> None:
    log.addHandler(Handler(events.client))
    with context.bound(request_id="req-1", distinct_id="user_42"):
        log.warning("no stock of %s for %s", "sku_1", "user@example.com")

    event = events.assert_captured("log_message", distinct_id="user_42", times=1)
    assert ("WARNING", "shop.payments") == (event.properties["level"], event.properties["logger"])
    assert ("test_logging", "req-1") == (event.properties["module"], event.properties["request_id"])
    assert "no stock of %s for %s" == event.properties["message"]
    assert "sku_1" not in repr(event.body)
    assert "user@example.com" not in repr(event.body)


def test_an_exception_leaves_its_class_only(log: logging.Logger, events: Recorder) -> None:
    log.addHandler(Handler(events.client))
    try:
        int("card 4242")
    except ValueError:
        log.exception("payment failed")

    event = events.assert_captured("log_message", error_type="ValueError", level="ERROR")
    assert "card 4242" not in repr(event.body)


@pytest.mark.parametrize(
    ("level", "type"),
    [
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (logging.WARNING, "warning"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "error"),
    ],
)
def test_as_an_audit_event_it_is_named_by_its_logger(
    log: logging.Logger, events: Recorder, level: int, type: str
) -> None:
    log.addHandler(Handler(events.client, lane="audit"))
    with context.bound(request_id="req-1"):
        log.log(level, "refused %s", "secret")

    event = events.assert_audited("log.shop.payments", type=type, request_id="req-1", times=1)
    assert "refused %s" == event.payload["message"]
    events.assert_nothing_captured()


def test_records_below_the_level_leave_nothing(log: logging.Logger, events: Recorder) -> None:
    log.addHandler(Handler(events.client, level="ERROR"))
    log.warning("not this")
    log.error("this")

    assert ["this"] == [one.properties["message"] for one in events.captured]


@pytest.mark.parametrize(
    "name", ["indelible", "indelible.client", "urllib3.connectionpool", "httpx", "noisy.part"]
)
def test_our_own_loggers_and_those_of_http_clients_are_ignored(events: Recorder, name: str) -> None:
    handler = Handler(events.client, ignore=["noisy"])
    handler.handle(logging.LogRecord(name, logging.ERROR, __file__, 1, "no", (), None))
    handler.handle(logging.LogRecord("noisily", logging.ERROR, __file__, 1, "yes", (), None))

    assert ["yes"] == [one.properties["message"] for one in events.captured]


def test_a_message_that_is_an_object_is_never_rendered(events: Recorder) -> None:
    class Order:
        def __str__(self) -> str:
            raise AssertionError("rendered")

    record = logging.LogRecord("shop", logging.INFO, __file__, 1, Order(), (), None)
    Handler(events.client).handle(record)

    event = events.assert_captured("log_message", times=1)
    assert event.properties["message"].endswith("Order>")


def test_what_capturing_logs_is_not_captured_again(log: logging.Logger) -> None:
    def chatty(event: dict[str, object]) -> dict[str, object]:
        log.error("while sending")
        return event

    # In sync mode the hook runs on the thread that logs, within the handler.
    with Recorder(before_send=chatty) as events:
        log.addHandler(Handler(events.client))
        log.error("once")

        assert ["once"] == [one.properties["message"] for one in events.captured]
        assert {} == events.client.counts().lost


def test_a_handler_without_a_server_raises_nothing_and_keeps_nobody_waiting(
    log: logging.Logger,
) -> None:
    with InMemoryServer() as gone:
        address = gone.url
    client = Indelible("token", host=address, spool=False)
    log.addHandler(Handler(client))

    def tick() -> None:
        for number in range(100):
            log.info("tick %d", number)

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert 400 == client.counts().captured
    client.shutdown(0)


def test_a_lane_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="product or audit"):
        Handler(lane="both")  # type: ignore[arg-type]
