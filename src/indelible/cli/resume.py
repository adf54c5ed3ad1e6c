"""``indelible resume``: look at logs that are not signed any further, and go on."""

from typing import TYPE_CHECKING, Annotated

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.invocation import as_typed
from indelible.cli.server import data_folder

if TYPE_CHECKING:
    from indelible.ledger.resume import Halted


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible resume",
            "indelible resume shop --new-log",
            "indelible resume shop --same-log --data /srv/events",
        )
    )(resume)


def resume(
    project: Annotated[
        str | None,
        typer.Argument(metavar="PROJECT", help="Go on with the log of this project."),
    ] = None,
    new_log: Annotated[
        bool,
        typer.Option(
            "--new-log",
            help="Freeze the log and open a successor with a new origin and key, which holds all "
            "events of the project.",
        ),
    ] = False,
    same_log: Annotated[
        bool,
        typer.Option(
            "--same-log",
            help="Sign the same log again. With the witnesses that refused it still in the policy "
            "it is stopped again at once.",
        ),
    ] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Show the logs that are not signed any further, and go on with one.

    A log is halted when so many of its witnesses have seen another history that the quorum of its
    policy is out of reach. Its events are stored meanwhile. Without PROJECT nothing is changed, and
    a server may be running: exit code 1 when a log is halted. To go on, stop the server first.
    """
    from indelible.clock import now_ms
    from indelible.folder import hold
    from indelible.ledger.resume import halted_logs, resume_new, resume_same

    folder = data_folder(data)
    if project is None:
        if new_log or same_log:
            raise called_wrongly("No project was named", hint="indelible resume shop --new-log")
        return _show(halted_logs(folder), as_json=as_json)
    if new_log == same_log:
        raise called_wrongly(
            "Exactly one of --new-log and --same-log says how to go on",
            hint=f"indelible resume {project} --new-log",
        )
    with hold(folder):
        if new_log:
            done = resume_new(folder, project, clock=now_ms)
            size = done.signed or 0
            how = f"{done.frozen} is frozen at {size:,} events; {done.successor} follows it"
            result = {"log": done.successor, "frozen": done.frozen, "signed": done.signed}
        else:
            halted = resume_same(folder, project, clock=now_ms)
            how = f"{halted.log} goes on from {halted.halt.size:,} events"
            result = {"log": halted.log, "frozen": None, "signed": halted.halt.size}
    if as_json:
        screen.emit(result)
        return ExitCode.FINE
    screen.facts([("log", how), ("next", as_typed("serve", data=data))])
    return ExitCode.FINE


def _show(halted: "list[Halted]", *, as_json: bool) -> int:
    from indelible.clock import rfc3339

    if as_json:
        screen.emit(
            {
                "halted": [
                    {
                        "project": one.project,
                        "log": one.log,
                        "origin": one.halt.origin,
                        "at": rfc3339(one.halt.at_ms),
                        "signed": one.halt.size,
                        "witnesses": one.halt.reason.split("\n"),
                    }
                    for one in halted
                ]
            }
        )
    for one in halted if not as_json else ():
        screen.facts(
            [
                ("project", [(one.project, screen.STRONG)]),
                ("log", one.halt.origin),
                ("halted", f"{rfc3339(one.halt.at_ms)}, at {one.halt.size:,} events"),
                *(("witness", said) for said in one.halt.reason.split("\n")),
            ]
        )
    if not halted and not as_json:
        screen.note("No log is halted.")
    return ExitCode.CHECK_FAILED if halted else ExitCode.FINE
