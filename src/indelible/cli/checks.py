"""What ``indelible doctor`` looks at, one check after the other.

A check never raises: what stops it is what it found.
"""

import fcntl
import importlib.metadata
import os
import platform
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from indelible.cli.failure import Failure, of_error
from indelible.cli.invocation import as_typed
from indelible.cli.journal_rows import JournalFile
from indelible.cli.screen import size
from indelible.cli.server import Access, Server, find
from indelible.clock import monotonic_s, now_ms, rfc3339
from indelible.connections import SQLITE_VERSION, SqliteError
from indelible.errors import IndelibleError, JournalUnreadable
from indelible.event import Lane
from indelible.folder import LOCK_NAME
from indelible.journal import outside
from indelible.journal.database import SCHEMA_VERSION
from indelible.journal.disk import DiskGuard
from indelible.journal.outside import Log
from indelible.layout import CLI_FILE, JOURNAL_FILE
from indelible.ledger.audit.checks.alone import damages
from indelible.moment import parse_time_ms
from indelible.settings import Settings
from indelible.voice import many

State = Literal["ok", "failed", "cannot check"]

EVENT_NAME: Final = "$doctor"
DISTINCT_ID: Final = "indelible-doctor"
SAMPLE: Final = 1_000

_LIBRARIES: Final = ("apsw", "httpx", "litestar", "msgspec", "uvloop")
_STORED_WITHIN_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.05
_CLOCK_TOLERANCE_MS: Final = 2_000
_SHOWN: Final = 5
_KEEP: Final = "Keep the folder as it is, and compare it with your last backup."


class Check(msgspec.Struct):
    """What one check found; `hint` says what to do."""

    name: str
    state: State
    detail: str
    hint: str | None = None


class Examination:
    """All checks of one data folder and its server."""

    def __init__(
        self,
        *,
        folder: Path,
        data: Path | None,
        project: str | None,
        full: bool,
        environ: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._data = data
        self._project = project
        self._full = full
        self._environ = environ
        self._lock_held: bool | None = None
        self._logs: list[Log] = []
        self._health: dict[str, Any] | None = None

    def checks(self, *, send: bool) -> Iterator[Check]:
        """Every check, as it is made."""
        steps: list[tuple[str, Callable[[], Check]]] = [
            ("python", self._python),
            ("settings", self._settings),
            ("folder", self._data_folder),
            ("lock", self._lock),
            ("journal", self._journal),
            ("schema", self._schema),
            ("integrity", self._integrity),
            ("indexes", self._indexes),
            ("leaves", self._leaves),
            ("disk", self._disk),
            ("server", self._server),
            ("clock", self._clock),
        ]
        if send:
            steps.append(("event", self._event))
        for name, step in steps:
            yield self._made(name, step)

    def _made(self, name: str, step: Callable[[], Check]) -> Check:
        try:
            return step()
        except (SqliteError, JournalUnreadable) as error:
            cause = error.__cause__ or error
            detail = f"{type(cause).__name__}: {cause}"
            if isinstance(cause, SqliteError) and not isinstance(cause, outside.DAMAGED):
                return Check(name, "cannot check", detail, outside.RIGHTS_HINT)
            return Check(name, "failed", detail, _KEEP)
        except (Failure, IndelibleError) as error:
            failure = error if isinstance(error, Failure) else of_error(error)
            detail = f"{failure.code}: {failure.message}"
            return Check(name, "failed", detail, failure.hint)
        except OSError as error:
            return Check(
                name, "failed", f"{error.filename or ''} {error.strerror or error}".strip()
            )

    # This machine

    def _python(self) -> Check:
        versions, missing = [], []
        for library in _LIBRARIES:
            try:
                versions.append(f"{library} {importlib.metadata.version(library)}")
            except importlib.metadata.PackageNotFoundError:
                missing.append(library)
        if missing:
            hint = 'pip install "indelible[server]"'
            return Check("python", "failed", f"not installed: {', '.join(missing)}", hint)
        detail = f"{platform.python_version()}, SQLite {SQLITE_VERSION}, "
        return Check("python", "ok", detail + ", ".join(versions))

    def _settings(self) -> Check:
        Settings.from_environ(self._environ)
        given = sum(1 for name in self._environ if name.startswith("INDELIBLE_"))
        return Check("settings", "ok", f"{given} set in the environment, all of them readable")

    # The data folder

    def _data_folder(self) -> Check:
        if not self._folder.is_dir():
            return self._no_folder("folder")
        open_to_others = [
            f"{path} ({stat.S_IMODE(path.stat().st_mode):04o})"
            for path in (self._folder, self._folder / CLI_FILE)
            if path.exists() and path.stat().st_mode & 0o077
        ]
        if open_to_others:
            hint = f"chmod 700 {self._folder}; chmod 600 {self._folder / CLI_FILE}"
            detail = f"others may look into {', '.join(open_to_others)}"
            return Check("folder", "failed", detail, hint)
        return Check("folder", "ok", f"{self._folder.resolve()}, mode 0700")

    def _lock(self) -> Check:
        path = self._folder / LOCK_NAME
        if not path.is_file():  # a pipe would be waited for
            self._lock_held = False
            return Check("lock", "ok", "free: no server has run on this folder")
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock_held = True
                return Check("lock", "ok", f"held by process {file.read().strip() or 'unknown'}")
        self._lock_held = False
        return Check("lock", "ok", "free: no server runs on this folder")

    @cached_property
    def _connection(self) -> outside.Opened | None:
        path = self._folder / JOURNAL_FILE
        return outside.open_to_read(path) if os.path.lexists(path) else None

    def _journal(self) -> Check:
        if self._connection is None:
            return self._no_folder("journal")
        # Not those beside it that `indelible restore` has replaced.
        names = (JOURNAL_FILE, f"{JOURNAL_FILE}-wal")
        files = [self._folder / name for name in names if (self._folder / name).exists()]
        held = size(sum(file.stat().st_size for file in files))
        return Check("journal", "ok", f"opens; {held} in {' and '.join(f.name for f in files)}")

    def _schema(self) -> Check:
        if self._connection is None:
            return self._no_folder("schema")
        version = outside.schema_version(self._connection)
        if version == SCHEMA_VERSION:
            return Check("schema", "ok", f"version {version}")
        hint = "Install the version of Indelible that wrote it, or a later one."
        return Check("schema", "failed", f"version {version}; this reads {SCHEMA_VERSION}", hint)

    def _integrity(self) -> Check:
        if self._connection is None:
            return self._no_folder("integrity")
        complaints = outside.integrity(self._connection, full=self._full)
        if complaints:
            return Check("integrity", "failed", "; ".join(complaints), _KEEP)
        if not self._full:
            return Check("integrity", "ok", "pages and rows are sound")
        if repeated := outside.repeated_keys(self._connection):
            detail = f"{repeated:,} unique keys stand in more than one row"
            return Check("integrity", "failed", detail, _KEEP)
        return Check("integrity", "ok", "pages, rows and indexes agree; no event is stored twice")

    def _indexes(self) -> Check:
        if self._connection is None:
            return self._no_folder("indexes")
        self._logs = outside.logs(self._connection)
        faults = [log.fault for log in self._logs if log.fault]
        if faults:
            return Check("indexes", "failed", "; ".join(faults), _KEEP)
        held = [f"{log.name} {log.entries:,}" for log in self._logs if log.entries]
        empty = len(self._logs) - len(held)
        if empty:
            held.append(f"{many(empty, 'log')} without entries")
        return Check("indexes", "ok", f"contiguous from 0: {', '.join(held)}")

    def _leaves(self) -> Check:
        if self._connection is None:
            return self._no_folder("leaves")
        wrong: list[str] = []
        looked = there = 0
        for log in self._logs:
            last = -1 if log.last_index is None else log.last_index
            indexes = range(last + 1) if self._full else outside.sample(log, SAMPLE)
            there += log.entries
            rows = JournalFile(self._folder / JOURNAL_FILE, log.project_id)
            for index, what in damages(rows, indexes):
                looked += 1
                if what is not None:
                    wrong.append(f"project {log.name}, index {index}: {what}")
        if wrong:
            more = f"; and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
            return Check("leaves", "failed", "; ".join(wrong[:_SHOWN]) + more, _KEEP)
        if looked == there:
            return Check("leaves", "ok", f"all {there:,} re-computed, all equal")
        detail = f"{looked:,} of {there:,} re-computed, all equal; --full does the rest"
        return Check("leaves", "ok", detail)

    def _disk(self) -> Check:
        if not self._folder.is_dir():
            return self._no_folder("disk")
        health = self._ask_health()
        if health is not None and self._lock_held:
            floors = {
                Lane.PRODUCT: health["disk"]["product_min_free_percent"],
                Lane.AUDIT: health["disk"]["audit_min_free_percent"],
            }
        else:
            settings = Settings.from_environ(self._environ)
            floors = {
                Lane.PRODUCT: settings.product_min_free_percent,
                Lane.AUDIT: settings.audit_min_free_percent,
            }
        disk = DiskGuard(
            self._folder, product_percent=floors[Lane.PRODUCT], audit_percent=floors[Lane.AUDIT]
        )
        detail = f"{disk.free_percent:.1f} % free; " + ", ".join(
            f"{lane} stops below {floor:g} %" for lane, floor in floors.items()
        )
        if all(disk.takes(lane) for lane in Lane):
            return Check("disk", "ok", detail)
        return Check("disk", "failed", detail, "Make room; events are taken again at once.")

    # The server

    @cached_property
    def _access(self) -> Access:
        return find(self._data, self._environ)

    def _ask_health(self) -> dict[str, Any] | None:
        """What /healthz says, asked once; None when nothing answers."""
        if self._health is None:
            try:
                with Server(self._access) as server:
                    answer = server.answer("GET", "/healthz", may_fail=True)
                    health = msgspec.json.decode(answer.content, type=dict[str, Any])
            except (Failure, IndelibleError, msgspec.DecodeError):
                return None
            self._health = health if {"status", "disk", "journal"} <= health.keys() else None
        return self._health

    @property
    def _expected_to_run(self) -> bool:
        return bool(self._lock_held) or (
            bool(self._environ.get("INDELIBLE_HOST")) and self._data is None
        )

    def _server(self) -> Check:
        health = self._ask_health()
        if health is None:
            if self._expected_to_run:
                with Server(self._access) as server:
                    server.answer("GET", "/healthz", may_fail=True)
                raise server.bad_answer("does not answer /healthz in Indelible's words")
            return Check("server", "cannot check", "no server runs", "Start one: " + self._start())
        detail = f"{self._access.url}, version {health['version']}: {health['status']}"
        if health["status"] == "ok":
            return Check("server", "ok", detail)
        parts = [
            f"{name}: {part.get('failure') or part['status']}"
            for name, part in health.items()
            if isinstance(part, dict) and part.get("status", "ok") != "ok"
        ]
        return Check("server", "failed", "; ".join([detail, *parts]), "See /healthz.")

    def _clock(self) -> Check:
        now = now_ms()
        newest = None
        if self._connection is not None:
            newest = outside.newest_stored_ms(self._connection)
        if newest is None:
            return Check("clock", "ok", rfc3339(now))
        if newest - now > _CLOCK_TOLERANCE_MS:
            detail = f"{rfc3339(now)} is {(newest - now) / 1000:.0f} s before the newest entry"
            return Check("clock", "failed", detail, "Set the clock; let NTP keep it.")
        ago = max(now - newest, 0) / 1000
        return Check("clock", "ok", f"{rfc3339(now)}, {ago:,.0f} s after the newest entry")

    def _event(self) -> Check:
        if self._ask_health() is None and not self._expected_to_run:
            return Check("event", "cannot check", "no server runs", "Start one: " + self._start())
        with Server(self._access) as server:
            own_id = str(uuid.uuid4())
            body = {
                "api_key": server.token(self._project),
                "event": EVENT_NAME,
                "distinct_id": DISTINCT_ID,
                "uuid": own_id,
                "properties": {"$doctor": True},
            }
            started, sent_ms = monotonic_s(), now_ms()
            answer = server.send("POST", "/api/e", body)
            result = answer["events"][0] if answer else {"result": "drop", "reason": "bot"}
            if result["result"] == "drop":
                return Check("event", "failed", f"it was dropped: {result['reason']}")
            life = self._followed(server, own_id)
        took_ms = (monotonic_s() - started) * 1000
        if life is None:
            detail = f"answered as stored, and `where {own_id}` does not know it"
            return Check("event", "failed", detail, _KEEP)
        ahead_ms = (parse_time_ms(life["received_at"]) or 0) - sent_ms
        if abs(ahead_ms) > _CLOCK_TOLERANCE_MS + took_ms:
            detail = f"stored, but the server's clock is {ahead_ms / 1000:+.0f} s from this one"
            return Check("event", "failed", detail, "Set both clocks; let NTP keep them.")
        return Check(
            "event", "ok", f"{own_id} stored as index {life['index']}, seen in {took_ms:.0f} ms"
        )

    def _followed(self, server: Server, own_id: str) -> dict[str, Any] | None:
        """The event, once its life says stored."""
        deadline = monotonic_s() + _STORED_WITHIN_S
        while monotonic_s() < deadline:
            found = server.get("/v1/where", id=own_id, project=self._project)["events"]
            for event in found:
                if any(step["step"] == "stored" for step in event["life"]):
                    return dict(event)
            time.sleep(_LOOK_EVERY_S)
        return None

    def _no_folder(self, name: str) -> Check:
        what = self._folder / JOURNAL_FILE if self._folder.is_dir() else self._folder
        hint = "Name the data folder with --data, or start a server: " + self._start()
        return Check(name, "cannot check", f"{what} is not there", hint)

    def _start(self) -> str:
        return as_typed("serve", data=self._data)
