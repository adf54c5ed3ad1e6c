"""``indelible balance``: captured = stored + dropped + in flight."""

from typing import Any

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode
from indelible.cli.server import reach


def register(app: typer.Typer) -> None:
    app.command(epilog=options.examples("indelible balance", "indelible balance --json"))(balance)


def balance(
    project: options.Project = None, data: options.Data = None, as_json: options.Json = False
) -> int:
    """Where is everything? Shows captured = stored + dropped + in flight, which adds up exactly.

    Of senders that number their events, since the log began; `indelible senders` shows each. Of
    all others, what reached the server; what it drops is counted since it was started.
    """
    with reach(data) as server:
        found = server.get("/v1/balance", project=project)
    if as_json:
        screen.emit(found)
        return ExitCode.FINE
    rows = [
        _row(lane["lane"], who, lane[who])
        for lane in found["lanes"]
        for who in ("numbered", "others")
        if lane[who]["captured"]
    ]
    if not rows:
        screen.note("no event yet; send one: indelible send purchase_completed")
        return ExitCode.FINE
    screen.table(("LANE", "SENDERS", "CAPTURED", "STORED", "DROPPED", "IN FLIGHT", "REASONS"), rows)
    for lane in found["lanes"]:
        if dropped := lane["dropped_numbered"]:
            screen.note(
                f"{lane['lane']}: the server dropped {_reasons(dropped)} of numbered events; they "
                "are in flight until their sender reports them"
            )
        if erased := lane["erased_uncounted"]:
            screen.note(
                f"{lane['lane']}: {erased} events had been erased before they were counted; they "
                "are with the others, whoever sent them"
            )
    screen.note((f"what others sent and was dropped: since {found['dropped_since']}", screen.DIM))
    return ExitCode.FINE


def _row(lane: str, who: str, line: dict[str, Any]) -> tuple[str, ...]:
    return (
        lane,
        who,
        str(line["captured"]),
        str(line["stored"]),
        str(sum(line["dropped"].values())),
        str(line["in_flight"]),
        _reasons(line["dropped"]),
    )


def _reasons(dropped: dict[str, int]) -> str:
    return " ".join(f"{reason}={count}" for reason, count in dropped.items())
