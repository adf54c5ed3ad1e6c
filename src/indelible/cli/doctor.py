"""``indelible doctor``: is everything as it should be?"""

import os
from collections.abc import Iterable
from typing import Annotated, Any, Final, Protocol

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.server import data_folder

_CODES: Final = {
    "ok": ExitCode.FINE,
    "failed": ExitCode.CHECK_FAILED,
    "cannot check": ExitCode.BROKEN,
}
_STATES: Final = {True: "ok", False: "failed", None: "cannot check"}


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible doctor",
            "indelible doctor --full --data /srv/events",
            "indelible doctor --no-send --json",
            "indelible doctor --client",
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
    client: Annotated[
        bool,
        typer.Option(
            "--client",
            help="Look from an application's side instead: send an event as its client would, with "
            "INDELIBLE_HOST, INDELIBLE_TOKEN and INDELIBLE_API_KEY, and follow it to its receipt. "
            "Needs no data folder.",
        ),
    ] = False,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Look at this machine, the data folder and the server; or, with --client, at the way to it.

    One line a check. The event that it sends is named `$doctor`, has the distinct id
    `indelible-doctor`, and counts like any other; the audit event of --client is named
    `indelible.doctor`. Exit code 1 when a check failed, 3 when none did and one could not be made.
    """
    if client:
        if full or not send or project is not None or data is not None:
            raise called_wrongly(
                "--client looks at no data folder, and always sends",
                hint="Leave --full, --no-send, --project and --data out.",
            )
        return _show(_hops(), as_json=as_json)
    from indelible.cli.checks import Examination

    examination = Examination(
        folder=data_folder(data), data=data, project=project, full=full, environ=os.environ
    )
    return _show(examination.checks(send=send), as_json=as_json)


class _Found(Protocol):
    """What a check found."""

    name: str
    state: Any
    detail: str
    hint: str | None


def _hops() -> Iterable[_Found]:
    """The client's way, hop by hop."""
    import msgspec

    from indelible.client.doctor import examine
    from indelible.client.options import InvalidOption, Options

    class HopFound(msgspec.Struct):
        lane: str
        name: str
        state: str
        ms: float
        detail: str
        hint: str | None

    try:
        chosen = Options.read(os.environ)
    except InvalidOption as error:
        raise called_wrongly(str(error), hint="Correct the variable, or remove it.") from None
    for hop in examine(chosen):
        yield HopFound(hop.lane, hop.name, _STATES[hop.ok], hop.ms, hop.detail, hop.cure)


def _show(checks: Iterable[_Found], *, as_json: bool) -> int:
    """A line for each check as it is made; the exit code of the worst."""
    found = []
    for check in checks:
        found.append(check)
        if not as_json:
            style = {"ok": screen.GOOD, "failed": screen.BAD}.get(check.state, screen.UNSURE)
            lane = getattr(check, "lane", "")
            name = f"{lane} {check.name}".strip()
            width = 18 if lane else 11
            screen.line((f"{check.state:<12}", style), f"  {name:<{width}}  ", check.detail)
            if check.hint:
                screen.line(" " * (width + 16), (f"try: {check.hint}", screen.DIM))
    states = {check.state for check in found}
    worst = next((state for state in ("failed", "cannot check") if state in states), "ok")
    if as_json:
        screen.emit({"state": worst, "checks": found})
    return _CODES[worst]
