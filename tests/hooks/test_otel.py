"""OpenTelemetry's own logger provider, with our exporter behind its processors."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from indelible.hooks.otel import Lane, LogExporter
from indelible.testing import Recorder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def logging(events: Recorder, *, batched: bool = False, lane: Lane = "product") -> Iterator[Logger]:
    """A logger whose records go to our exporter."""
    provider = LoggerProvider(shutdown_on_exit=False)
    processor = BatchLogRecordProcessor if batched else SimpleLogRecordProcessor
    provider.add_log_record_processor(processor(LogExporter(events.client, lane=lane)))
    yield provider.get_logger("shop")
    provider.shutdown()


@pytest.mark.parametrize("batched", [False, True])
def test_a_named_record_is_an_event_with_its_attributes(events: Recorder, batched: bool) -> None:
    span = SpanContext(int(TRACE, 16), 1, is_remote=False, trace_flags=TraceFlags(1))
    with logging(events, batched=batched) as logger:
        logger.emit(
            LogRecord(
                event_name="order_paid",
                timestamp=1_767_323_045_500_000_000,
                attributes={"user.id": "user_42", "amount": 99, "tags": ["a", "b"]},
                body="secret text",
                context=set_span_in_context(NonRecordingSpan(span)),
            )
        )

    event = events.assert_captured("order_paid", distinct_id="user_42", amount=99, times=1)
    assert (["a", "b"], TRACE) == (event.properties["tags"], event.properties["trace_id"])
    assert "2026-01-02T03:04:05.500Z" == event.body["timestamp"]
    assert "secret text" not in repr(event.body)


def test_a_record_without_a_name_leaves_no_event_and_is_no_fault() -> None:
    with Recorder(strict=False) as events:
        with logging(events) as logger:
            logger.emit(LogRecord(body="no stock of sku_1"))

        events.assert_nothing_captured()
        counts = events.client.counts()
        assert (0, 0) == (counts.captured, counts.failures)


@pytest.mark.parametrize(
    ("severity", "type"),
    [
        (None, "info"),
        (SeverityNumber.UNSPECIFIED, "info"),
        (SeverityNumber.DEBUG, "debug"),
        (SeverityNumber.INFO, "info"),
        (SeverityNumber.WARN, "warning"),
        (SeverityNumber.ERROR, "error"),
        (SeverityNumber.FATAL, "error"),
    ],
)
def test_as_an_audit_event_its_type_is_its_severity(
    events: Recorder, severity: SeverityNumber | None, type: str
) -> None:
    with logging(events, lane="audit") as logger:
        logger.emit(
            LogRecord(event_name="order.paid", severity_number=severity, attributes={"amount": 99})
        )

    events.assert_audited("order.paid", type=type, payload={"amount": 99}, times=1)
    events.assert_nothing_captured()


def test_a_lane_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="product or audit"):
        LogExporter(lane="both")  # type: ignore[arg-type]
