"""``indelible doctor``: is everything as it should be?"""

import os
from typing import Annotated

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode
from indelible.cli.server import data_folder


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible doctor",
            "indelible doctor --full --data /srv/events",
            "indelible doctor --no-send --json",
        )
    )(doctor)


def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Re-compute every leaf, not a sample; reads it all.")
    ] = False,
    send: Annotated[
        bool,
        typer.Option("--send/--no-send", help="Send an event and wait until `where` has it."),
    ] = True,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Look at this machine, the data folder and the server.

    One line a check. The event that it sends is named `$doctor`, has the distinct id
    `indelible-doctor`, and counts like any other. Exit code 1 when a check failed, 3 when none did
    and one could not be made.
    """
    from indelible.cli.checks import Examination

    examination = Examination(
        folder=data_folder(data), data=data, project=project, full=full, environ=os.environ
    )
    states: list[str] = []
    found = []
    for check in examination.checks(send=send):
        states.append(check.state)
        found.append(check)
        if not as_json:
            style = {"ok": screen.GOOD, "failed": screen.BAD}.get(check.state, screen.UNSURE)
            screen.line((f"{check.state:<12}", style), f"  {check.name:<11}  ", check.detail)
            if check.hint:
                screen.line(" " * 27, (f"try: {check.hint}", screen.DIM))
    worst = next((s for s in ("failed", "cannot check") if s in states), "ok")
    if as_json:
        screen.emit({"state": worst, "checks": found})
    return {
        "ok": ExitCode.FINE,
        "failed": ExitCode.CHECK_FAILED,
        "cannot check": ExitCode.BROKEN,
    }[worst]
