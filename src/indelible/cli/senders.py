"""``indelible senders``: whether all that was captured has arrived."""

from typing import Annotated, Any, Final

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode
from indelible.cli.server import Server, reach

_PAGE: Final = 200

Page = dict[str, Any]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible senders",
            "indelible senders --missing",
            "indelible senders --process 8d3f1c0b5a2e4f6799b0c1d2e3f4a5b6 --json | jq .gaps",
        )
    )(senders)


def senders(
    missing: Annotated[
        bool, typer.Option("--missing", help="Only processes that miss events.")
    ] = False,
    process: Annotated[
        str | None, typer.Option("--process", metavar="ID", help="Only this process.")
    ] = None,
    lines: Annotated[
        int,
        typer.Option("-n", "--lines", metavar="N", min=1, max=100_000, help="How many at most."),
    ] = 50,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Is anything missing? Shows what each sending process captured, and what became of it.

    A line for each process and lane, the last heard of first: captured = stored + lost + missing.
    What is missing is under way, in a spool, or gone. With --json an account a line, with its gaps.
    """
    with reach(data) as server:
        page = _first(server, lines, missing=missing, process_id=process, project=project)
    if as_json:
        for sender in page["senders"]:
            screen.emit(sender)
    elif page["senders"]:
        screen.table(
            ("LAST SEEN", "LANE", "PROCESS", "CAPTURED", "STORED", "LOST", "MISSING", "REASONS"),
            [_row(sender) for sender in page["senders"]],
        )
    if page["next"] is not None:
        screen.note((f"there are more; -n {2 * lines} shows twice as many", screen.DIM))
    if not page["senders"]:
        screen.note("no process misses events" if missing else "no process numbers its events")
    for rest in page["unlisted"]:
        _note(rest)
    return ExitCode.FINE


def _first(
    server: Server, count: int, *, missing: bool, process_id: str | None, project: str | None
) -> Page:
    """The first `count` accounts of the list, as one page."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page: Page = server.get(
            "/v1/senders",
            missing="true" if missing else None,
            process_id=process_id,
            project=project,
            limit=min(count - len(found), _PAGE),
            cursor=cursor,
        )
        found += page["senders"]
        cursor = page["next"]
        if cursor is None or len(found) >= count:
            return {**page, "senders": found}


def _row(sender: dict[str, Any]) -> tuple[str, ...]:
    lost = sender["lost"]
    return (
        sender["last_seen"],
        sender["lane"],
        sender["process_id"],
        str(sender["captured"]),
        str(sender["stored"]),
        str(sum(lost.values())),
        str(sender["missing"]),
        " ".join(f"{reason}={count}" for reason, count in lost.items()),
    )


def _note(rest: dict[str, Any]) -> None:
    """What stands in no line, on stderr."""
    if rest["processes"]:
        screen.note(
            (
                f"{rest['lane']}: {rest['processes']} processes not heard of for 30 days missed "
                f"{rest['missing']} of {rest['captured']} events",
                screen.DIM,
            )
        )
    if rest["erased"]:
        screen.note(
            (
                f"{rest['lane']}: {rest['erased']} events had been erased before they were "
                "counted; what is missing may be these",
                screen.DIM,
            )
        )
