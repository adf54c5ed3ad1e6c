"""Log records of chosen loggers as events.

    logging.getLogger("shop.payments").addHandler(Handler(client, level=logging.WARNING))

An event has the logger's name, the level, the place in the code, the class of what was raised, and
the message's *template*: for ``log.warning("no stock of %s", sku)`` that is ``no stock of %s``. The
arguments and the text made of them stay out, and so do the exception's message and the traceback.
A text that the caller made itself, as an f-string does, is its own template.

Emitting only queues: it does no I/O and raises nothing.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Final, Literal

from indelible.client.client import Indelible, prepare
from indelible.client.default import default_client
from indelible.client.receipt import AuditType

Lane = Literal["product", "audit"]

IGNORED: Final = (
    "indelible",
    *("aiohttp.client", "http.client", "httpcore", "httpx", "requests", "urllib3"),
)
"""Our own, and those of HTTP clients: an event about sending an event would never end."""

EVENT: Final = "log_message"
MAX_CHARS: Final = 1_000


class Handler(logging.Handler):
    """Makes an event of each record: `log_message`, or ``log.<logger>`` as an audit event.

    Args:
        client: the client to send with; the default one if None.
        level: of the records that leave an event.
        lane: `product` or `audit`.
        ignore: loggers whose records leave none, each with all below it, beside `IGNORED`.

    Raises:
        ValueError: there is no such lane.
    """

    def __init__(
        self,
        client: Indelible | None = None,
        level: int | str = logging.NOTSET,
        *,
        lane: Lane = "product",
        ignore: Sequence[str] = (),
    ) -> None:
        super().__init__(level)
        if lane not in ("product", "audit"):
            raise ValueError(f"lane must be product or audit, not {lane!r}")
        self._client = client
        prepare()
        self._lane = lane
        self._ignored = (*IGNORED, *ignore)
        self._here = threading.local()

    @property
    def client(self) -> Indelible:
        return self._client if self._client is not None else default_client()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's event; a fault of ours is counted and raises nothing."""
        if getattr(self._here, "is_emitting", False) or self._is_ignored(record.name):
            return
        # What capturing logs, on this thread, must not be captured.
        self._here.is_emitting = True
        try:
            self._send(record)
        except Exception:
            if self.client.options.strict:
                raise
            self.client._note_failure()
        finally:
            self._here.is_emitting = False

    def _is_ignored(self, name: str) -> bool:
        return any(name == one or name.startswith(one + ".") for one in self._ignored)

    def _send(self, record: logging.LogRecord) -> None:
        fields = _fields(record)
        if self._lane == "product":
            self.client.capture(EVENT, properties=fields)
            return
        self.client.audit.send_async(f"log.{record.name}", fields, type=_type_of(record))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    kind = type(record.msg)
    template = (
        record.msg if isinstance(record.msg, str) else f"<{kind.__module__}.{kind.__qualname__}>"
    )
    fields: dict[str, object] = {
        "logger": record.name,
        "level": record.levelname,
        "message": template[:MAX_CHARS],
        "module": record.module,
        "function": record.funcName,
        "line": record.lineno,
    }
    if record.exc_info and record.exc_info[0] is not None:
        fields["error_type"] = record.exc_info[0].__name__
    return fields


def _type_of(record: logging.LogRecord) -> AuditType:
    """The type of the audit event."""
    if record.levelno >= logging.WARNING:
        return "error" if record.levelno >= logging.ERROR else "warning"
    return "info" if record.levelno >= logging.INFO else "debug"
