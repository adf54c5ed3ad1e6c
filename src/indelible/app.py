"""The composition root: builds the parts, wires them, and runs them as one process.

Its PID owns the socket, the lock on the data folder and the journal. When it dies, however it dies,
nothing of ours listens or holds a lock any more.
"""

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from indelible.accounting.accounting import Accounting
from indelible.api.application import make_api
from indelible.clock import now_ms
from indelible.durable import keep_folder
from indelible.edge.asgi import Edge, HotRoute
from indelible.edge.gate import Gate
from indelible.edge.immutablelog import AuditIngest
from indelible.edge.intake import Intake, Limits
from indelible.edge.product import ProductIngest, Route
from indelible.errors import PolicyMalformed, SettingInvalid
from indelible.folder import hold, private
from indelible.journal.commit import Committer
from indelible.journal.database import Database
from indelible.journal.disk import DiskGuard
from indelible.journal.registry import Registry, Role
from indelible.journal.sqlite import KEYS_FILE, SqliteJournal
from indelible.layout import CLI_FILE, JOURNAL_FILE
from indelible.ledger.ledger import Choices, Ledger
from indelible.ledger.policy import Policy, parse_policy
from indelible.ledger.retention import Retention, Rule
from indelible.serving import claimed_port, serve_asgi, until_signalled
from indelible.settings import Settings

logger = logging.getLogger(__name__)

DEFAULT_PROJECT: Final = "default"

PRODUCT_ROUTES: Final = (
    Route("/api/e", crawlers="discard", crawler_status=204),
    # PostHog's clients take a 204 for a failure and send again.
    Route("/batch/", crawlers="mark", crawler_status=200),
    Route("/batch", crawlers="mark", crawler_status=200),
)


@dataclass(slots=True)
class Welcome:
    """What the banner says: where the server is, and the secrets that were made just now."""

    url: str
    data_dir: Path
    token: str
    made: dict[str, str] = field(default_factory=dict)


class House:
    """All parts of one server, over one data folder.

    Raises on building:
        DataFolderInUse: another server has the folder.
        JournalNewer: a later version wrote the journal.
        LogRefused: the parts of a log do not fit together.
        SettingInvalid: the witness policy cannot be read.
    """

    def __init__(self, settings: Settings, *, vfs: str | None = None) -> None:
        self.settings = settings
        keep_folder(settings.data_dir, mode=0o700)
        with ExitStack() as opened:  # what was opened is closed again should the rest fail
            opened.enter_context(hold(settings.data_dir))
            for name in (JOURNAL_FILE, KEYS_FILE):  # SQLite gives its -wal and -shm the same mode
                private(settings.data_dir / name)
            self.database = Database(settings.data_dir / JOURNAL_FILE, vfs=vfs)
            opened.callback(self.database.close)
            self.journal = SqliteJournal(self.database)
            opened.callback(self.journal.close)
            self.registry = Registry(self.journal)
            self.made = self._settle_keys()
            self.ledger = Ledger(
                settings.data_dir,
                journal=self.journal,
                registry=self.registry,
                choices=_choices(settings),
                clock=now_ms,
            )
            opened.callback(self.ledger.close)
            self.accounting = Accounting(
                settings.data_dir, journal=self.journal, projects=self._projects, clock=now_ms
            )
            opened.callback(self.accounting.close)
            self.retention = Retention(self.journal, rules=self._rules, clock=now_ms)
            self._build()
            self._opened = opened.pop_all()

    def _build(self) -> None:
        settings = self.settings
        self.committer = Committer(self.journal, max_waiting_bytes=settings.max_waiting_bytes)
        self.disk = DiskGuard(
            settings.data_dir,
            product_percent=settings.product_min_free_percent,
            audit_percent=settings.audit_min_free_percent,
        )
        self.gate = Gate(self.registry, clock=now_ms, trusted_proxies=settings.trusted_proxies)
        self.edge = Edge(
            self._hot_routes(),
            make_api(
                journal=self.journal,
                registry=self.registry,
                gate=self.gate,
                disk=self.disk,
                ledger=self.ledger,
                accounting=self.accounting,
                clock=now_ms,
            ),
        )

    def start(self) -> None:
        """Start what works behind the answers; call it on the event loop that will serve."""
        self.committer.start()
        self.ledger.start()
        self.accounting.start()
        self.retention.start()

    async def stop(self) -> None:
        """Store, expire, seal and count what is under way, then end the threads."""
        await self.committer.stop()
        await asyncio.to_thread(self.retention.stop)
        await asyncio.to_thread(self.ledger.stop)
        await asyncio.to_thread(self.accounting.stop)

    def _projects(self) -> list[int]:
        return [project.id for project in self.registry.snapshot.projects.values()]

    def _rules(self) -> list[Rule]:
        """The projects that keep their events for a time only."""
        return [
            Rule(project.id, project.retention_days)
            for project in self.registry.snapshot.projects.values()
            if project.retention_days is not None
        ]

    def token(self) -> str:
        """The newest valid token of the project `default`."""
        project = self.registry.project(DEFAULT_PROJECT)
        tokens = [
            key.token
            for key in self.registry.all_keys()
            if key.project == project and key.token and key.is_valid(now_ms())
        ]
        return tokens[-1] if tokens else ""

    def close(self) -> None:
        """Close the journal and let go of the folder."""
        self._opened.close()

    def _hot_routes(self) -> dict[str, HotRoute]:
        settings = self.settings
        intake = Intake(
            gate=self.gate,
            disk=self.disk,
            committer=self.committer,
            limits=Limits(
                max_body_bytes=settings.max_body_bytes,
                max_event_bytes=settings.max_event_bytes,
                max_batch=settings.max_batch,
                max_payload_bytes=settings.max_payload_bytes,
            ),
            confirm=self.ledger.confirm,
            clock=now_ms,
        )
        audit = AuditIngest(intake)
        routes = [
            HotRoute("/v1/events", {"POST": audit.one}, cross_origin=False),
            HotRoute("/v1/events/batch", {"POST": audit.batch}, cross_origin=False),
        ]
        for route in PRODUCT_ROUTES:
            product = ProductIngest(route, intake)
            handlers = {"POST": product, "GET": product}
            routes.append(HotRoute(route.path, handlers, cross_origin=True))
        return {route.path: route for route in routes}

    def _settle_keys(self) -> dict[str, str]:
        """Make the project `default` and its keys on first start; fix those that are given.

        Returns the secrets that were made now, by what they are called.
        """
        settings, registry, made = self.settings, self.registry, {}
        is_first_start = DEFAULT_PROJECT not in registry.snapshot.projects
        if is_first_start:
            registry.create_project(DEFAULT_PROJECT)
        project = registry.project(DEFAULT_PROJECT)
        wanted = (
            ("token", Role.TOKEN, project, settings.token),
            ("API key", Role.APPLICATION, project, settings.api_key),
            ("admin key", Role.ADMIN, None, settings.admin_key),
        )
        for name, role, owner, given in wanted:
            if given is not None:
                registry.fix_key(role, owner, given, log=not is_first_start)
            elif not any((k.role, k.project) == (role, owner) for k in registry.all_keys()):
                made[name] = registry.create_key(role, owner, label="first", log=False).secret
        return made

    def write_cli_file(self, url: str) -> None:
        """Leave the address and an admin key for commands that run on this machine."""
        path = self.settings.data_dir / CLI_FILE
        admin_key = self.settings.admin_key or self.made.get("admin key")
        if admin_key is None:
            with suppress(OSError, ValueError, KeyError):
                admin_key = str(json.loads(path.read_text())["admin_key"])
        if admin_key is None or not self._is_admin(admin_key):
            admin_key = self.registry.create_key(Role.ADMIN, None, label="this machine").secret
        draft = path.with_suffix(".tmp")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps({"host": url, "admin_key": admin_key}))
        draft.replace(path)

    def _is_admin(self, secret: str) -> bool:
        with suppress(Exception):
            return self.gate.admin(f"Bearer {secret}", lambda: None).role is Role.ADMIN
        return False


def serve(settings: Settings, *, announce: Callable[[Welcome], None]) -> None:
    """Run a server until SIGINT or SIGTERM, then answer what is under way and close.

    `announce` is called once, when the first request would be answered.

    Raises:
        AddressInUse, DataFolderInUse, JournalNewer.
    """
    house = House(settings)
    try:
        with claimed_port(settings.listen, settings.port) as port:
            uvloop.run(_until_signalled(house, port, announce))
    finally:
        house.close()


async def _until_signalled(house: House, port: int, announce: Callable[[Welcome], None]) -> None:
    await run(house, port, announce=announce, stop=until_signalled())


async def run(
    house: House, port: int, *, announce: Callable[[Welcome], None], stop: asyncio.Event
) -> None:
    """Serve on `port` until `stop` is set, then answer what is under way.

    `announce` is called once, when the first request would be answered.
    """

    def answering(url: str) -> None:
        house.write_cli_file(url)
        announce(Welcome(url, house.settings.data_dir, house.token(), house.made))

    house.start()
    # All that was made up to here lives as long as the process: the collector need not look at it.
    gc.collect()
    gc.freeze()
    try:
        await serve_asgi(
            house.edge, listen=house.settings.listen, port=port, announce=answering, stop=stop
        )
    finally:
        await house.stop()


def _choices(settings: Settings) -> Choices:
    """
    Raises:
        SettingInvalid: the file of the witness policy cannot be read; the message names its line.
    """
    policy = Policy()
    if settings.witness_policy is not None:
        try:
            policy = parse_policy(settings.witness_policy.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, PolicyMalformed) as error:
            place = f"INDELIBLE_WITNESS_POLICY={settings.witness_policy}"
            raise SettingInvalid(f"{place}: {error}") from error
    return Choices(
        origin=settings.ledger_origin,
        seal_interval_ms=settings.seal_interval_ms,
        witness_interval_ms=settings.witness_interval_ms,
        witnesses=policy,
    )
