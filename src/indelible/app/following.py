"""What follows the log and answers for it: registry, signed logs, accounts, retention, the API.

In a server of several processes this is the reader: it sees the journal's files, and has the writer
make its changes.
"""

from contextlib import ExitStack, suppress
from typing import NamedTuple

from litestar import Litestar

from indelible.access import Scope
from indelible.accounting.accounting import Accounting
from indelible.accounting.part import accounting_part
from indelible.api.application import make_api
from indelible.api.deadline import Deadline, use_own_threads
from indelible.api.paths import PathsAsSent
from indelible.app.admitting import gate_of, limits_of
from indelible.clock import Clock, Steadiness
from indelible.drops import DropsOf
from indelible.edge.notice import Notices
from indelible.erasure.erase import Eraser
from indelible.erasure.part import retention_part
from indelible.erasure.retention import Retention, Rule
from indelible.identity.identity import Identity
from indelible.identity.part import identity_part
from indelible.journal.contract import ErasableJournal
from indelible.ledger.ledger import Ledger
from indelible.ledger.part import ledger_part
from indelible.live.live import Live
from indelible.live.part import live_part
from indelible.parts import Part
from indelible.quality.learning import Learning
from indelible.quality.part import quality_part
from indelible.query.balance import Balance
from indelible.query.erasures import Erasures, Turns
from indelible.query.events import Events
from indelible.query.health import Lookout
from indelible.query.persons import PersonQueries
from indelible.query.schema import Schema
from indelible.query.senders import Senders
from indelible.refusals import Refusals
from indelible.registry.registry import Registry
from indelible.registry.store import Store
from indelible.settings import Settings
from indelible.start import (
    DEFAULT_PROJECT,
    choices_of,
    refuse_taken_keys,
    settle_keys,
    write_cli_file,
)


class Start(NamedTuple):
    """What a start came to: the token to show, how many projects there are, and the secrets that
    were made just now, by what they are called."""

    token: str
    projects: int
    made: dict[str, str]


class Following:
    """Everything that follows the journal of one data folder.

    Args:
        journal: closed by whoever opened it.
        store: of the registry.
        notices: tells what the edge refuses and drops.
        steadiness: of the clock; somebody looks at it each second.
        drops_of: what edges have dropped of a project.

    Raises on building:
        LogRefused: the parts of a log do not fit together.
        AlreadyExists: a secret that was given is in use as another key.
    """

    def __init__(
        self,
        settings: Settings,
        journal: ErasableJournal,
        store: Store,
        *,
        refusals: Refusals,
        notices: Notices,
        steadiness: Steadiness,
        drops_of: DropsOf,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.refusals = refusals
        self.clock = clock
        self.registry = Registry(store, clock=clock)
        # A refused start must not change anything, so every check precedes the first write.
        refuse_taken_keys(settings, self.registry)
        with ExitStack() as opened:  # what was opened is closed again should the rest fail
            self.ledger = Ledger(
                settings.data_dir,
                journal=journal,
                registry=self.registry,
                choices=choices_of(settings),
                clock=clock,
            )
            opened.callback(self.ledger.close)
            self.made = settle_keys(settings, self.registry)
            self.ledger.settle()
            self.accounting = Accounting(
                settings.data_dir,
                journal=journal,
                projects=self._projects,
                clock=clock,
                in_doubt=steadiness.in_doubt,
            )
            opened.callback(self.accounting.close)
            self.learning = Learning(settings.data_dir, journal=journal, projects=self._projects)
            opened.callback(self.learning.close)
            self.identity = Identity(
                settings.data_dir, journal=journal, projects=self._projects, clock=clock
            )
            opened.callback(self.identity.close)
            self.retention = Retention(
                settings.data_dir,
                journal,
                rules=self._rules,
                clock=clock,
                in_doubt=steadiness.in_doubt,
            )
            opened.callback(self.retention.close)
            self._opened = opened.pop_all()
        self.live = Live(journal, projects=self._logs, notices=notices, clock=clock)
        self.gate = gate_of(settings, self.registry, clock)
        self.retention_part = retention_part(self.retention)
        self.ledger_part = ledger_part(self.ledger)
        self.accounting_part = accounting_part(self.accounting)
        self.quality_part = quality_part(self.learning)
        self.live_part = live_part(self.live)
        self.identity_part = identity_part(self.identity)
        persons = self.identity.persons
        events, turns = Events(journal, self.ledger), Turns(journal, persons)
        self.reading_part = Part(
            name="reading",
            gives={
                "journal": journal,
                "registry": self.registry,
                "balance": Balance(self.accounting, drops_of),
                "schema": Schema(self.learning),
                "events": events,
                "people": PersonQueries(journal, events, persons, self.registry, turns),
                "senders": Senders(self.accounting.accounts),
                "persons": persons,
                "count_persons": persons.count,
                "erasures": Erasures(
                    journal, Eraser(journal, clock=clock), persons, self.registry, turns
                ),
            },
        )
        self.api: Litestar
        self.answers: Deadline

    def answer_with(self, lookout: Lookout) -> None:
        """Make the API over the parts that `lookout` watches."""
        use_own_threads()
        self.api = make_api(
            lookout.parts,
            gate=self.gate,
            health=lookout.form,
            limits=limits_of(self.settings),
            refusals=self.refusals,
            metrics_key=self.settings.metrics_key,
            clock=self.clock,
        )
        self.answers = Deadline(PathsAsSent(self.api), self.refusals)

    def start(self) -> Start:
        """What there is to say of this start."""
        return Start(self._token(), len(self.registry.snapshot.projects), self.made)

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def write_cli_file(self, url: str) -> None:
        """Leave the address and an admin key for commands that run on this machine."""
        made = self.made.get("admin key")
        write_cli_file(self.settings, self.registry, url, made=made, is_admin=self._is_admin)

    def _projects(self) -> list[int]:
        return [project.id for project in self.registry.snapshot.projects.values()]

    def _logs(self) -> list[int]:
        """The logs of all projects, and the server's own."""
        server = self.registry.snapshot.server
        return [*self._projects(), *([] if server is None else [server.id])]

    def _rules(self) -> list[Rule]:
        """The projects that keep their events for a time only."""
        return [
            Rule(project.id, project.retention_days)
            for project in self.registry.snapshot.projects.values()
            if project.retention_days is not None and not project.legal_hold
        ]

    def _token(self) -> str:
        """The newest valid token of the project `default`."""
        project = self.registry.snapshot.project(DEFAULT_PROJECT)
        tokens = [
            key.token
            for key in self.registry.keys.all()
            if key.project == project and key.token and key.is_valid(self.clock())
        ]
        return tokens[-1] if tokens else ""

    def _is_admin(self, secret: str) -> bool:
        with suppress(Exception):
            return Scope.MANAGE in self.gate.caller(f"Bearer {secret}", lambda: None).scopes
        return False
