"""OpenTelemetry's events, which are log records with a name, as events here.

    provider.add_log_record_processor(SimpleLogRecordProcessor(LogExporter(client)))

An event keeps its name, its time, its attributes and its trace, and belongs to the person whom the
attribute `user.id` names. Records without a name are log text that was rendered already: they leave
no event, and neither does any record's body. Exporting only queues, so the simple processor keeps
nobody waiting.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from indelible.client.client import Indelible, prepare
from indelible.client.default import default_client
from indelible.client.receipt import AuditType
from indelible.hooks.observer import quietly

Lane = Literal["product", "audit"]

USER_ID: Final = "user.id"
_TYPES: Final[Sequence[tuple[int, AuditType]]] = ((17, "error"), (13, "warning"), (9, "info"))
"""The least severity number of each type, by OpenTelemetry's table."""


class LogExporter(LogRecordExporter):
    """Makes an event of each named log record.

    Args:
        client: the client to send with; the default one if None.
        lane: `product`, or `audit`, whose events have the attributes as their payload.

    Raises:
        ValueError: there is no such lane.
    """

    def __init__(self, client: Indelible | None = None, *, lane: Lane = "product") -> None:
        if lane not in ("product", "audit"):
            raise ValueError(f"lane must be product or audit, not {lane!r}")
        self._client = client
        prepare()
        self._lane = lane

    @property
    def client(self) -> Indelible:
        return self._client if self._client is not None else default_client()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Queue the events; a fault of ours is counted, and the batch is taken all the same."""
        for readable in batch:
            self._send(readable.log_record)
        return LogRecordExportResult.SUCCESS

    @quietly
    def _send(self, record: Any) -> None:
        if not record.event_name:
            return
        attributes: Mapping[str, object] = record.attributes or {}
        trace = {"trace_id": f"{record.trace_id:032x}"} if record.trace_id else {}
        if self._lane == "audit":
            self.client.audit.send_async(
                record.event_name, dict(attributes), type=_type_of(record), meta=trace
            )
            return
        user_id = attributes.get(USER_ID)
        at_ns = record.timestamp or record.observed_timestamp
        self.client.capture(
            record.event_name,
            distinct_id=None if user_id is None else str(user_id),
            properties={**attributes, **trace},
            timestamp=datetime.fromtimestamp(at_ns / 1e9, UTC) if at_ns else None,
        )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether everything was delivered in time."""
        return self.client.flush(timeout_millis / 1_000)

    def shutdown(self) -> None:
        """Deliver what is queued, within the client's `exit_s`; the client goes on for others."""
        self.client.flush(self.client.options.exit_s)


def _type_of(record: Any) -> AuditType:
    """The type of the audit event; a record that says nothing of its severity is an `info`."""
    number = record.severity_number.value if record.severity_number is not None else 0
    return next((word for least, word in _TYPES if (number or 9) >= least), "debug")
