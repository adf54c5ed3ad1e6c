"""``indelible attack``: forge a copy of a log in every known way, and see who notices."""

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indelible.cli import options, screen
from indelible.cli.audit import logs_lying, targets_of
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.errors import NotAttackable
from indelible.layout import JOURNAL_FILE, LEDGER_FOLDER
from indelible.ledger.audit.memory import Memory
from indelible.ledger.audit.whole import Audit, audit_log

if TYPE_CHECKING:
    from indelible.journal.project_rows import StoredLog
    from indelible.ledger.audit.attack import Attempt

_HEADER = ("forgery", "audit alone", "+ saved head", "+ receipt", "+ witnesses")


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples("indelible attack ./data", "indelible attack ./data --json")
    )(attack)


def attack(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A data folder; only a copy of it is forged.")
    ],
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="NAME", help="Whose log; else the first that is signed."),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Forge a log in every known way, on a copy, and show which check notices.

    The forger is the operator, with the log's own key: what it signs anew looks whole to whoever
    sees the log for the first time. That is what saved heads, receipts and witnesses are for. Each
    forgery is audited three times, so a large log takes long.

    Exit code 0 when all was noticed by those who must, 1 when something was not, 3 when the log has
    too few events or is not sound to begin with.
    """
    log = _log_of(folder, project)
    # What the witness logs of the forgeries that it refuses stands in the table.
    logging.getLogger("indelible").addHandler(logging.NullHandler())
    from indelible.ledger.audit.attack import attack as forge
    from indelible.ledger.audit.forgeable import Copy

    with tempfile.TemporaryDirectory(prefix="indelible-attack-") as workspace:
        copy = Copy.of(folder, Path(workspace, "copy"), log=log.name, project_id=log.project_id)

        def audit(there: Path, memory: Memory | None) -> Audit:
            (target,) = (
                one
                for one in targets_of(there, project=log.name, policy=None, memory=memory)
                if one.name == log.name
            )
            return audit_log(target.source, target.known)

        attempts = forge(copy, Path(workspace), audit)
    missed = [one for one in attempts if one.missed]
    if as_json:
        screen.raw(json.dumps(_body(log.name, attempts)).encode())
    else:
        _show(log.name, attempts)
    return ExitCode.CHECK_FAILED if missed else ExitCode.FINE


def _log_of(folder: Path, project: str | None) -> "StoredLog":
    from indelible.journal.project_rows import logs_of

    journal = folder / JOURNAL_FILE
    if not journal.exists() or not (folder / LEDGER_FOLDER).is_dir():
        raise called_wrongly(
            f"{folder} is no data folder", hint="Name the folder of `indelible serve --data`."
        )
    logs_lying(folder)  # which refuses links
    for log in logs_of(journal):
        if log.state == "open" and project in (None, log.project, log.name):
            return log
    if project is None:
        raise NotAttackable(f"{folder} has no log that was signed")
    raise called_wrongly(
        f"{folder} has no log of a project {project!r}", hint="See `indelible project list`."
    )


def _show(name: str, attempts: "list[Attempt]") -> None:
    from indelible.ledger.audit.forgeries import COLUMNS

    screen.line(f"log {name}, copied; every forgery on a fresh copy of it")
    screen.line()
    screen.table(
        _HEADER,
        [[one.forgery, *(_cell(one, column) for column in COLUMNS)] for one in attempts],
    )
    screen.line()
    for one in attempts:
        screen.line((f"{one.forgery}: ", screen.DIM), one.said or "nobody said anything")
    missed = [one for one in attempts if one.missed]
    screen.line()
    if missed:
        names = ", ".join(one.forgery for one in missed)
        screen.line((f"not noticed by all who must: {names}", screen.BAD))
    else:
        screen.line((f"{len(attempts)} forgeries, each noticed by all who can", screen.GOOD))


def _cell(attempt: "Attempt", column: str) -> str:
    if column in attempt.noticed:
        return "noticed"
    return "MISSED" if column in attempt.must else "invisible"


def _body(name: str, attempts: "list[Attempt]") -> dict[str, Any]:
    return {
        "log": name,
        "forgeries": [
            {key: sorted(value) if isinstance(value, frozenset) else value for key, value in one}
            for one in (
                {**asdict(attempt), "missed": attempt.missed}.items() for attempt in attempts
            )
        ],
    }
