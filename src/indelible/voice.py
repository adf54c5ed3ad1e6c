"""The log of a running server: one line for its start, its stop, a child's restart, and refusals.

Every line goes to stderr through the root logger, from our loggers and the libraries' alike, as
text or as one JSON object. Three rules keep secrets and payloads out of it:

- A refusal is told by the sentence of its class and the template of its route (`refusals`).
- An exception is told by its type and its place. Its message may quote an event.
- Libraries are heard from `warning` on: below it, httpx writes every address that it asks. Of their
  records only the first line counts, and of those with an exception the exception alone: asyncio
  describes a failed task with its arguments.

Whatever is left is clipped, and characters that are not printable are escaped, so that no one can
write a line of their own. No one waits for a line to be written (`outlet`).
"""

import json
import logging
import sys
import threading
from collections.abc import Mapping
from enum import StrEnum

from indelible.clock import rfc3339
from indelible.fault import place_of
from indelible.outlet import STDERR, STDOUT, Outlet
from indelible.printable import clipped

logger = logging.getLogger("indelible.server")

Value = str | int | float | None


class Format(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """The least important lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# Lines.


class TextLines(logging.Formatter):
    """Time, level, sentence."""

    def format(self, record: logging.LogRecord) -> str:
        source = "" if _is_ours(record) else f"{record.name}: "
        return f"{_time_of(record)} {record.levelname:<8} {source}{_sentence(record)}"


class JsonLines(logging.Formatter):
    """One JSON object: `ts`, `level`, `logger`, `message`, and the fields of the event, if any."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Value] = getattr(record, "fields", {})
        return json.dumps(
            {
                "ts": _time_of(record),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": _sentence(record),
                **{name: _shown(value) for name, value in fields.items()},
            }
        )


class _Lines(logging.Handler):
    """Writes each line by itself, so that those of several processes do not mix."""

    def __init__(self, form: Format) -> None:
        super().__init__()
        self.setFormatter(JsonLines() if form is Format.JSON else TextLines())
        self._outlet = Outlet(self._gap)

    def emit(self, record: logging.LogRecord) -> None:
        self._outlet.write(STDERR, self._line(record))

    def show(self, text: str) -> None:
        """Write to stdout, in order with the log."""
        encoding = sys.stdout.encoding or "utf-8"
        self._outlet.write(STDOUT, f"{text}\n".encode(encoding, "backslashreplace"))

    def drain(self) -> bool:
        return self._outlet.drain()

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")

    def _gap(self, count: int) -> bytes:
        return self._line(
            _record(
                logging.WARNING,
                f"{many(count, 'line')} missing here: the log could not be written",
                {"event": "log_lost", "count": count},
            )
        )


_lines: _Lines | None = None


def configure(form: Format, level: Level) -> None:
    """Send everything that this process logs to stderr in this form. Call it once a process."""
    global _lines
    _lines = handler = _Lines(form)
    least = getattr(logging, level.upper())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))
    logging.getLogger("indelible").setLevel(least)
    logging.captureWarnings(capture=True)
    sys.unraisablehook = lambda fault: _unhandled(fault.exc_value)
    threading.excepthook = lambda fault: _unhandled(fault.exc_value)


def show(text: str) -> None:
    """Write lines to stdout, in order with those of the log, once `configure` was called.

    As the log, they are dropped rather than waited for if no one reads them.
    """
    if _lines is not None:
        _lines.show(text)


def drain() -> bool:
    """Wait for a moment until the log is written; return whether it is.

    Call it before anything else writes to stderr, and before `os._exit`.
    """
    return _lines is None or _lines.drain()


def json_line(level: Level, message: str, **fields: Value) -> str:
    """A line for what happens before there is a log, or after it."""
    return JsonLines().format(_record(getattr(logging, level.upper()), message, fields))


def _record(level: int, message: str, fields: Mapping[str, Value]) -> logging.LogRecord:
    record = logging.LogRecord(logger.name, level, "", 0, "%s", (message,), None)
    record.fields = fields
    return record


def _unhandled(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        logger.error("unhandled", exc_info=error)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "indelible"


def _time_of(record: logging.LogRecord) -> str:
    return rfc3339(int(record.created * 1000))


def _sentence(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    fault = "" if error is None else f"{type(error).__name__} in {place_of(error)}"
    if _is_ours(record):
        return ": ".join(filter(None, (clipped(record.getMessage()), fault)))
    return fault or clipped(record.getMessage().partition("\n")[0])


def _shown(value: Value) -> Value:
    return clipped(value) if isinstance(value, str) else value


# The life of the server.


def tell(level: int, message: str, **fields: Value) -> None:
    """Write a line of the server itself: a sentence for people, and its facts as fields."""
    logger.log(level, "%s", message, extra={"fields": fields})


def started(
    *, version: str, url: str, data_dir: str, projects: int, keys_file: str | None = None
) -> None:
    """Tell that requests are answered now; `keys_file` holds the keys that were made just now."""
    keys = "" if keys_file is None else f"; its first keys are in {keys_file}"
    tell(
        logging.INFO,
        f"Indelible {version} answers at {url}, data folder {data_dir}, "
        f"{many(projects, 'project')}{keys}",
        event="started",
        version=version,
        url=url,
        data_dir=data_dir,
        projects=projects,
        **({} if keys_file is None else {"keys_file": keys_file}),
    )


def witnessing(*, version: str, name: str, url: str, data_dir: str, line: str, logs: int) -> None:
    """Tell that a witness answers now; `line` names it in a policy."""
    tell(
        logging.INFO,
        f"Witness {name} of Indelible {version} answers at {url}, data folder {data_dir}, "
        f"{many(logs, 'log')}",
        event="started",
        version=version,
        witness=name,
        url=url,
        data_dir=data_dir,
        logs=logs,
        policy_line=line,
    )


def stopped(*, why: str, took_s: float, finished: int, cut_off: int) -> None:
    """Tell that nothing is under way any more, and what became of the requests that were."""
    tell(
        logging.INFO if cut_off == 0 else logging.WARNING,
        f"stopped by {why} within {took_s:.1f} s: {many(finished, 'request')} finished, "
        f"{cut_off:,} cut off, all that was acknowledged is stored",
        event="stopped",
        why=why,
        took_s=round(took_s, 3),
        finished=finished,
        cut_off=cut_off,
    )


def restarted(child: str, *, why: str, after_s: float) -> None:
    """Tell that a process ended unasked and was started again, this long after its end."""
    tell(
        logging.WARNING,
        f"{child} ended ({why}) and was started again after {after_s:.1f} s",
        event="restarted",
        child=child,
        why=why,
        after_s=round(after_s, 3),
    )


def many(count: int, noun: str) -> str:
    """A count with its noun.

    >>> many(1, "request"), many(2_000, "request")
    ('1 request', '2,000 requests')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
