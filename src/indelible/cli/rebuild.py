"""``indelible rebuild``: make a derived file again from the journal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.cli.invocation import as_typed
from indelible.cli.server import data_folder
from indelible.layout import JOURNAL_FILE


class Made(NamedTuple):
    """What was made: the file, how many entries it is made of, and what it holds."""

    file: Path
    entries: int
    holds: dict[str, int]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible rebuild persons", "indelible rebuild persons --data /srv/events"
        )
    )(rebuild)


def rebuild(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="Which file: persons.")],
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Make a derived file again, from the journal.

    No server may run on the folder. Nothing is lost: such a file holds only what follows from the
    journal, and a server makes it again by itself if it is gone. This command does it at once, with
    a progress bar. A server that starts after an interrupted rebuild goes on where it stopped.
    """
    from indelible.folder import hold

    if what not in _MAKERS:
        raise called_wrongly(
            f"There is no derived file {what!r}", hint=f"Name one of: {', '.join(_MAKERS)}."
        )
    folder = data_folder(data)
    if not (folder / JOURNAL_FILE).is_file():
        raise Failure(
            "no_journal",
            f"{folder} has no journal",
            hint="Name the data folder of a server with --data.",
            exit_code=ExitCode.CALLED_WRONGLY,
        )
    with hold(folder), _progress(what, shown=not as_json) as advance:
        made = _MAKERS[what](folder, advance)
    if as_json:
        screen.emit({"file": str(made.file), "entries": made.entries, **made.holds})
        return ExitCode.FINE
    screen.facts(
        [
            ("file", str(made.file)),
            ("made of", f"{made.entries:,} entries of the log"),
            *((name, f"{count:,}") for name, count in made.holds.items()),
            ("next", as_typed("serve", data=data)),
        ]
    )
    return ExitCode.FINE


def _persons(folder: Path, advance: Callable[[int, int], None]) -> Made:
    from indelible.clock import now_ms
    from indelible.derived import remove
    from indelible.identity.identity import Identity
    from indelible.identity.persons import PERSONS_FILE
    from indelible.journal.reader import open_reader

    journal = open_reader(folder / JOURNAL_FILE)
    try:
        ends = journal.next_indexes(journal.projects())
        total = sum(ends.values())
        remove(folder / PERSONS_FILE)
        identity = Identity(folder, journal=journal, projects=lambda: list(ends), clock=now_ms)
        try:
            taken = 0
            for project_id, end in ends.items():
                for start in range(0, end, _STEP):
                    behind = min(start + _STEP, end)
                    identity.handle(project_id, start, behind)
                    taken += behind - start
                    advance(taken, total)
            holds = identity.persons.totals()
        finally:
            identity.close()
    finally:
        journal.close()
    return Made(folder / PERSONS_FILE, total, holds)


_STEP: Final = 50_000
_MAKERS: Final = {"persons": _persons}
"""The derived files that can be made again, by the name of what they hold."""


@contextmanager
def _progress(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"making {what} again", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
