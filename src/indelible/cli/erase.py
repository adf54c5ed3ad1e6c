"""``indelible erase``: destroy what somebody sent; the log says that it was."""

import sys
from typing import Annotated, Any, Final

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.server import Server, reach

_GONE = ("in no file of the journal any more", screen.GOOD)
_KEPT = (
    "still in the journal's WAL: it is being read, or the disk is full; the server goes on trying",
    screen.BAD,
)


_LONGEST_WALK_S: Final = 3600.0  # a distinct id is looked for in the whole log


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible erase tx_019a9f3c7e0a7000a1b2c3d4e5f60718",
            "indelible erase --distinct-id user_42 --dry-run",
            "indelible erase --distinct-id user_42 --reason contract_end --yes",
        )
    )(erase)


def erase(
    tx_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TX_ID]...", help="Transaction ids of the events, tx_…"),
    ] = None,
    distinct_id: Annotated[
        str | None,
        typer.Option(
            "--distinct-id", metavar="ID", help="Every product event of this distinct id instead."
        ),
    ] = None,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="CODE", help="A code for the log: a-z, 0-9, _; names no person."
        ),
    ] = "request",
    project: options.Project = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many events it would erase.")
    ] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Erase events for good: payload, record and salts, with an admin key.

    Their place in the log stays, and with it every proof. Backups keep what they hold. Exit code 1
    when somebody still reads an older state of the journal, a backup for instance: the server goes
    on trying, and the same command says how it stands.
    """
    wanted = _wanted(tx_ids or [], distinct_id, reason, project)
    with reach(data) as server:
        if dry_run or not yes:
            preview = _send(server, {**wanted, "dry_run": True})
            if dry_run:
                _show(preview, as_json=as_json)
                return ExitCode.FINE
            if preview["erased"] and not preview["unknown"]:
                _confirm(preview["erased"], preview["project"])
        certificate = _send(server, wanted)
    _show(certificate, as_json=as_json)
    return ExitCode.FINE if certificate["swept"] else ExitCode.CHECK_FAILED


def _wanted(
    tx_ids: list[str], distinct_id: str | None, reason: str, project: str | None
) -> dict[str, Any]:
    if bool(tx_ids) == (distinct_id is not None):
        raise called_wrongly(
            "Name what to erase: either transaction ids or --distinct-id",
            hint="indelible erase --distinct-id user_42 --dry-run",
        )
    what = {"tx_ids": tx_ids} if tx_ids else {"distinct_id": distinct_id}
    return {**what, "reason": reason, **({} if project is None else {"project": project})}


def _send(server: Server, wanted: dict[str, Any]) -> dict[str, Any]:
    certificate: dict[str, Any] = server.send(
        "POST", "/v1/erasures", wanted, timeout_s=_LONGEST_WALK_S
    )
    return certificate


def _confirm(count: int, project: str) -> None:
    """
    Raises:
        Failure: the answer was no, or there is nobody to ask.
    """
    what = f"{count:,} event{'' if count == 1 else 's'} of project {project}"
    if not sys.stdin.isatty():
        raise called_wrongly(f"This would erase {what}, for good", hint="indelible erase … --yes")
    screen.note(f"This erases {what}, for good. Type yes to go on: ")
    if sys.stdin.readline().strip() != "yes":
        raise called_wrongly("Nothing was erased", hint="Type yes, or call it with --yes.")


def _show(certificate: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        screen.emit(certificate)
        return
    done = not certificate["dry_run"]
    rows: list[tuple[str, str | list[screen.Part]]] = [
        ("project", certificate["project"]),
        ("erased" if done else "would erase", f"{certificate['erased']:,}"),
        ("erased before", f"{certificate['already_erased']:,}"),
        ("reason", certificate["reason"]),
    ]
    rows += [("unknown", tx_id) for tx_id in certificate["unknown"]]
    if done:
        rows.append(("at", certificate["at"]))
        rows += [
            ("certificate", f"index {event['index']}, {event['tx_id']}")
            for event in certificate["events"]
        ]
        rows.append(("erased bytes", [_GONE if certificate["swept"] else _KEPT]))
    screen.facts(rows)
