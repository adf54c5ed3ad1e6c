"""``indelible audit``: compute a whole log again."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.cli.verify import PolicyFile, read_policy
from indelible.layout import JOURNAL_FILE, LEDGER_FOLDER, LOCK_FILE
from indelible.ledger.audit.checks.computed import Progress
from indelible.ledger.audit.findings import Gravity
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Memory
from indelible.ledger.audit.sources import FolderSource, Source, UrlSource
from indelible.ledger.audit.whole import Audit, audit_log
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.verify import Verdict
from indelible.printable import clipped, plain
from indelible.untrusted import FileRefused, is_link
from indelible.voice import many

_MOST_SHOWN: Final = 50
_MOST_NAMED: Final = 5
_LONGEST_S: Final = 3_600.0  # of an address: the one who answers there may take as long as he likes
_EXIT: Final = {
    Verdict.VERIFIED: ExitCode.FINE,
    Verdict.TAMPERED: ExitCode.CHECK_FAILED,
    Verdict.UNVERIFIABLE: ExitCode.BROKEN,
}
_STYLES: Final = {Gravity.TAMPERED: screen.BAD, Gravity.CANNOT: screen.UNSURE}
_WORDS: Final = {  # the worst first
    Verdict.TAMPERED: "tampered",
    Verdict.UNVERIFIABLE: "cannot be checked",
    Verdict.VERIFIED: "verified",
}
_VERDICT_STYLES: Final = {
    Verdict.VERIFIED: screen.GOOD,
    Verdict.TAMPERED: screen.BAD,
    Verdict.UNVERIFIABLE: screen.UNSURE,
}


@dataclass(frozen=True, slots=True)
class Target:
    """One log to audit, and what is known of it."""

    name: str
    source: Source
    known: Known


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible audit ./data",
            "indelible audit https://events.example/ledger/default --policy shop.policy",
            "indelible audit ./evidence-default/log --json",
        )
    )(audit)


def audit(
    where: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL",
            help="A data folder (its logs, with the journal), one log's folder, or its address.",
        ),
    ],
    policy: PolicyFile = None,
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="NAME", help="Of a data folder: only this project."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FOLDER",
            help="Where this auditor remembers what it saw; else below XDG_STATE_HOME, or below "
            "LOCALAPPDATA on Windows.",
        ),
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.1,
            help="Stop after this time: what was not compared by then cannot be checked. "
            "Of an address 3,600 s; of a folder no limit.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Compute a whole log again, and compare it with all that speaks of it.

    Bundles, tiles, checkpoint, witnesses, the journal's payloads where it is there, and the last
    head that this auditor saw. A server may go on writing meanwhile. A log served only to entitled
    readers is read with INDELIBLE_API_KEY. The key goes to the address that you name, unless
    INDELIBLE_HOST names another server, and to no other: no redirect is followed. Below a folder
    only regular files are read, through no link.

    Exit code 0 when all is well, 1 when something was tampered with, 3 when something cannot be
    checked: a file is missing, cut short, or of an unknown version.
    """
    believed = None if policy is None else read_policy(policy)
    memory = Memory(state if state is not None else _state_folder())
    if timeout_s is None and _is_address(where):
        timeout_s = _LONGEST_S
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    targets = _targets(where, project, believed, memory, deadline)
    found = []
    for target in targets:
        with _progress(target.name, shown=not as_json) as progress:
            result = audit_log(
                target.source,
                target.known,
                processes=os.cpu_count() or 1,
                progress=progress,
                deadline=deadline,
            )
        found.append(result)
        if not as_json and (len(targets) == 1 or not _is_empty(result)):
            _show(target.name, result)
            if len(targets) > 1:
                screen.line()
    if as_json:
        bodies = [_body(result) for result in found]
        screen.raw(json.dumps({"verdict": _worst(found).value, "logs": bodies}).encode())
    elif len(targets) > 1:
        _sum_up([target.name for target in targets], found)
    return _EXIT[_worst(found)]


def _worst(found: list[Audit]) -> Verdict:
    verdicts = {result.verdict for result in found}
    for verdict in (Verdict.TAMPERED, Verdict.UNVERIFIABLE):
        if verdict in verdicts:
            return verdict
    return Verdict.VERIFIED


# What is audited


def _is_address(where: str) -> bool:
    return where.startswith(("https://", "http://"))


def _targets(
    where: str,
    project: str | None,
    policy: Policy | None,
    memory: Memory,
    deadline: float | None,
) -> list[Target]:
    if _is_address(where):
        if project is not None:
            raise called_wrongly(
                "--project is for a data folder", hint="The address of a log names its project."
            )
        source = UrlSource(where, _key_for(where), deadline=deadline)
        return [Target(where, source, Known(policy=policy, memory=memory))]
    folder = Path(where)
    if not where or not folder.is_dir():  # "" would be the current folder
        raise called_wrongly(
            f"{where or 'An empty name'} is no folder",
            hint="Name a data folder, a log's folder, or an https:// URL.",
        )
    if (folder / JOURNAL_FILE).exists() or (folder / LEDGER_FOLDER).is_dir():
        return targets_of(folder, project=project, policy=policy, memory=memory)
    if project is not None:
        raise called_wrongly("--project is for a data folder", hint=f"{where} has no journal.")
    return [Target(where, FolderSource(folder), Known(policy=policy, memory=memory))]


def _key_for(address: str) -> str | None:
    """The key of the environment, unless INDELIBLE_HOST says that it is another server's."""
    host = os.environ.get("INDELIBLE_HOST")
    if host and _origin(host if "://" in host else f"http://{host}") != _origin(address):
        return None
    return os.environ.get("INDELIBLE_API_KEY")


def _origin(address: str) -> tuple[str, str | None, int | None] | None:
    try:
        parts = urlsplit(address)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None


def targets_of(
    folder: Path, *, project: str | None, policy: Policy | None, memory: Memory | None
) -> list[Target]:
    """The logs of a data folder, each with its journal and its lock.

    Raises:
        Failure: the folder has no log, no project of this name, or has lost its journal.
        JournalUnreadable.
    """
    lying = logs_lying(folder)
    found: list[Target] = []
    if (folder / JOURNAL_FILE).exists():
        found += _of_journal(folder, project, policy, memory)
    elif (folder / LOCK_FILE).exists():
        raise Failure(
            "no_journal",
            f"{folder / JOURNAL_FILE} is not there, and {LOCK_FILE} is",
            hint="Bring the journal back; without it, audit a log's own folder below "
            f"{folder / LEDGER_FOLDER}.",
            exit_code=ExitCode.BROKEN,
        )
    named = {target.name for target in found}
    if project is None or not found:
        for name in sorted(lying - named):
            if project in (None, name):
                known = Known(policy=policy, memory=memory)
                found.append(Target(name, FolderSource(folder, f"{LEDGER_FOLDER}/{name}"), known))
    if not found:
        what = "log" if project is None else f"log of a project {project!r}"
        raise called_wrongly(f"{folder} has no {what}", hint="See `indelible project list`.")
    return found


def logs_lying(folder: Path) -> set[str]:
    """The names of the logs whose files a data folder has.

    Raises:
        FileRefused: its ledger, or a log there, is a link: it would lead out of the folder.
    """
    ledger = folder / LEDGER_FOLDER
    for path in (ledger, *(ledger.iterdir() if ledger.is_dir() else ())):
        if is_link(path):
            raise FileRefused("it is a link, and none is followed here", path)
    return {path.name for path in ledger.iterdir() if path.is_dir()} if ledger.is_dir() else set()


def _of_journal(
    folder: Path, project: str | None, policy: Policy | None, memory: Memory | None
) -> Iterator[Target]:
    try:
        from indelible.cli.journal_rows import JournalFile, head_of
        from indelible.journal.project_rows import logs_of
    except ModuleNotFoundError as missing:
        raise Failure(
            "server_not_installed",
            f"Reading a journal needs {missing.name}, which is not here",
            hint='pip install "indelible[server]", or audit a log\'s folder below ledger/ alone.',
            exit_code=ExitCode.BROKEN,
        ) from None
    journal, lock = folder / JOURNAL_FILE, folder / LOCK_FILE
    for log in logs_of(journal):
        if project not in (None, log.project, log.name):
            continue
        # A frozen log is the predecessor of one that was opened after a restore: the journal of
        # today is not the one that it was made from.
        frozen = log.state == "frozen"
        yield Target(
            log.name,
            FolderSource(folder, f"{LEDGER_FOLDER}/{log.name}"),
            Known(
                policy=policy,
                journal=None if frozen else JournalFile(journal, log.project_id),
                lock=(
                    None
                    if log.origin is None
                    else partial(head_of, lock, log.origin, may_be_missing=log.state != "open")
                ),
                vkey=log.vkey,
                memory=memory,
                may_be_new=log.state == "new",
            ),
        )


def _state_folder() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    base = Path(home) if home else Path.home() / ".local" / "state"
    return base / "indelible" / "audit"


# What is shown


@contextmanager
def _progress(name: str, *, shown: bool) -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"auditing {plain(name)}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(name: str, result: Audit) -> None:
    rows: list[tuple[str, str | list[screen.Part]]] = [("log", name)]
    if result.origin is not None:
        rows.append(("origin", result.origin))
    if result.believed is not None:
        rows.append(("believed", result.believed))
    rows.append(("events", _events(result)))
    rows.append(("tiles", f"{result.tiles:,} read"))
    if result.root is not None:
        rows.append(("root", f"{result.root.hex()} at {many(result.size, 'event')}"))
    rows += [("note", note) for note in result.notes]
    rows.append(("verdict", [(_words(result), _VERDICT_STYLES[result.verdict])]))
    screen.facts(rows)
    for finding in result.findings[:_MOST_SHOWN]:
        # What a check found in a file of its own name is not said twice.
        place = "" if finding.place in ("", finding.check) else f"{finding.place}: "
        screen.line(
            (f"{finding.gravity}  ", _STYLES[finding.gravity]),
            (f"{finding.check}: ", screen.DIM),
            (place, screen.STRONG),
            clipped(finding.sentence),
        )
    more = len(result.findings) - _MOST_SHOWN
    if more > 0:
        screen.line(f"and {more:,} more findings; --json lists up to 1,000 of them")


def _sum_up(names: list[str], found: list[Audit]) -> None:
    """Name the logs of each verdict, the worst first; the last line is the verdict of all."""
    worst = _worst(found)
    by_words: dict[str, list[str]] = {word: [] for word in (*_WORDS.values(), "empty")}
    for name, result in zip(names, found, strict=True):
        by_words["empty" if _is_empty(result) else _WORDS[result.verdict]].append(name)
    screen.facts(
        [
            *((word, _named(those)) for word, those in by_words.items() if those),
            ("all logs", [(_WORDS[worst], _VERDICT_STYLES[worst])]),
        ]
    )


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join([*names[:_MOST_NAMED], *([f"{more:,} more"] if more > 0 else [])])


def _is_empty(result: Audit) -> bool:
    """Whether nothing was stored in the log, and nothing is wrong with it."""
    is_fine = result.verdict is Verdict.VERIFIED and not result.notes
    return is_fine and result.size == result.unsealed == result.events == 0


def _events(result: Audit) -> str:
    journal = "with the journal" if result.with_journal else "without a journal"
    parts = [f"{result.events:,} compared, {journal}"]
    if result.unsealed:
        parts.append(f"{result.unsealed:,} not sealed yet")
    if result.erased:
        parts.append(f"{result.erased:,} erased")
    return "; ".join(parts)


def _words(result: Audit) -> str:
    if result.verdict is not Verdict.VERIFIED:
        return f"{_WORDS[result.verdict]}: {many(len(result.findings), 'finding')}"
    if result.root is None:
        return "nothing is sealed yet, and nothing is wrong"
    if result.size == 0:
        return "verified: an empty log, signed as such"
    return "verified"


def _body(result: Audit) -> dict[str, Any]:
    body = asdict(result)
    body["root"] = None if result.root is None else result.root.hex()
    body["verdict"] = result.verdict.value
    body["findings"] = [
        {**asdict(finding), "gravity": finding.gravity.value} for finding in result.findings
    ]
    return body
