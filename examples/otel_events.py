"""Send OpenTelemetry's events, which are log records with a name.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/otel_events.py

Leaves: order_paid
"""

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from indelible import Indelible
from indelible.hooks.otel import LogExporter

client = Indelible()
provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(LogExporter(client)))

logger = provider.get_logger("shop")
logger.emit(LogRecord(event_name="order_paid", attributes={"user.id": "user_42", "amount": 99}))
logger.emit(LogRecord(body="text without a name leaves no event"))

provider.shutdown()
client.shutdown()
