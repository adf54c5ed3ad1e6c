"""``indelible receipt`` and ``indelible policy``: what one keeps to check an event later."""

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.invocation import as_typed
from indelible.cli.output import written
from indelible.cli.server import reach
from indelible.cli.where import unknown
from indelible.printable import plain

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file, else to stdout."),
]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible receipt hello-1 --output hello-1.tlog-proof",
            "indelible receipt tx_019a9f3c7e0a7000a1b2c3d4e5f60718 --wait witnessed",
        )
    )(receipt)
    app.command(
        epilog=options.examples("indelible policy > default.policy", "indelible policy --log shop")
    )(policy)


def receipt(
    any_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A transaction id, the client's event id, or an Idempotency-Key."
        ),
    ],
    wait: Annotated[
        str,
        typer.Option(
            "--wait", metavar="sealed|witnessed", help="Wait up to 10 s until the event is that."
        ),
    ] = "sealed",
    output: Output = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Fetch the receipt of an event, to keep.

    The file proves the event offline, without this server. It shows the event's payload to whoever
    holds it, and cannot be recalled: a new file is for its owner alone. Check it with `indelible
    verify`, or with any other tool that reads C2SP proofs.
    """
    with reach(data) as server:
        events = server.get("/v1/where", id=any_id, project=project)["events"]
        if not events:
            raise unknown(any_id, project)
        if len(events) > 1:
            ids = ", ".join(event["tx_id"] for event in events)
            raise called_wrongly(
                f"{len(events)} events go by {any_id!r}: {ids}",
                hint=f"indelible receipt {events[0]['tx_id']}",
            )
        path = f"/v1/events/{events[0]['tx_id']}/receipt"
        parameters = {"wait": wait, "timeout": "10s", "project": project}
        text = server.answer("GET", path, parameters).text
    facts = {"index": events[0]["index"], "tx_id": events[0]["tx_id"], "receipt": text}
    _write(text, output, facts if as_json else None)
    if output is not None and not as_json:
        screen.note(
            "Check it with: ",
            as_typed("verify", str(output), "--policy", "POLICY"),
            "   (the log's policy, once: ",
            as_typed("policy", "--output", "POLICY", data=data),
            ")",
        )
    return ExitCode.FINE


def policy(
    output: Output = None,
    log: Annotated[
        str,
        typer.Option("--log", metavar="NAME", help="Its project, or a successor such as shop.2."),
    ] = "default",
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Fetch the policy of a log, to keep.

    It is what the log says of its own key and witnesses, for `verify` and `audit`. Fetch it once,
    compare the key with somebody who has it already, and keep it: a policy that is fetched anew
    each time believes whoever answers.
    """
    with reach(data) as server:
        text = server.answer("GET", f"/ledger/{quote(log, safe='')}/policy").text
    _write(text, output, {"log": log, "policy": text} if as_json else None, mode=0o666)
    return ExitCode.FINE


def _write(
    text: str, output: Path | None, facts: dict[str, Any] | None, *, mode: int = 0o600
) -> None:
    """Put the text where it was asked for; `facts`, if any, go to stdout as JSON."""
    if output is not None:
        with written(output, mode=mode, keeps_mode=True) as file:
            file.write(text.encode())
    if facts is not None:
        screen.emit(facts)
    elif output is None:
        # Lines of text, whatever answered: nothing in them is for the terminal to act on.
        lines = text.split("\n")
        sys.stdout.write("\n".join(map(plain, lines)) if screen.on_terminal() else text)
