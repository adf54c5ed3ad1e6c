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
_IDS_SHOWN: Final = 20


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible erase tx_019a9f3c7e0a7000a1b2c3d4e5f60718",
            "indelible erase --distinct-id user_42 --dry-run",
            "indelible erase --distinct-id user_42 --reason contract_end --yes",
            "indelible erase --person user_42 --actor user_42",
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
    person: Annotated[
        str | None,
        typer.Option(
            "--person",
            metavar="ID",
            help="Every product event of all ids of this person: a person id, or any distinct id.",
        ),
    ] = None,
    actors: Annotated[
        list[str] | None,
        typer.Option(
            "--actor",
            metavar="ID",
            help="The audit events of this actor, and of no other; may be repeated.",
        ),
    ] = None,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="CODE", help="A code for the log: a-z, 0-9, _; names no person."
        ),
    ] = "request",
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm",
            metavar="PREVIEW",
            help="Do not ask: erase what --dry-run showed with this preview, or nothing.",
        ),
    ] = None,
    project: options.Project = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many events it would erase.")
    ] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Erase events for good: payload, record and salts, with an admin key.

    Their place in the log stays, and with it every proof. Backups keep what they hold. Audit events
    are erased only by transaction id or by the actors named: merges of ids never reach them. What
    was shown is erased, or nothing: with --person and --actor always. Exit code 1
    when somebody still reads an older state of the journal, a backup for instance: the server goes
    on trying, and the same command says how it stands.
    """
    wanted = _wanted(tx_ids or [], distinct_id, person, actors or [], reason, project)
    is_by_person = bool(person or actors)
    with reach(data) as server:
        if confirm is not None:
            wanted["confirm"] = confirm
        elif dry_run or not yes or is_by_person:
            preview = _send(server, {**wanted, "dry_run": True})
            if dry_run:
                _show(preview, as_json=as_json)
                return ExitCode.FINE
            if not yes and preview["erased"] and not preview["unknown"]:
                if is_by_person and sys.stdin.isatty():
                    screen.facts_on_stderr(_selected(preview))
                _confirm(preview)
            wanted["confirm"] = preview["preview"]
        certificate = _send(server, wanted)
    _show(certificate, as_json=as_json)
    return ExitCode.FINE if certificate["swept"] else ExitCode.CHECK_FAILED


def _wanted(
    tx_ids: list[str],
    distinct_id: str | None,
    person: str | None,
    actors: list[str],
    reason: str,
    project: str | None,
) -> dict[str, Any]:
    by_person = person is not None or bool(actors)
    if bool(tx_ids) + (distinct_id is not None) + by_person != 1:
        raise called_wrongly(
            "Name what to erase: either transaction ids, or --distinct-id, or --person and --actor",
            hint="indelible erase --person user_42 --dry-run",
        )
    what: dict[str, Any] = {
        "tx_ids": tx_ids or None,
        "distinct_id": distinct_id,
        "person": person,
        "actors": actors or None,
        "project": project,
    }
    named = {name: value for name, value in what.items() if value is not None}
    return {**named, "reason": reason}


def _send(server: Server, wanted: dict[str, Any]) -> dict[str, Any]:
    certificate: dict[str, Any] = server.send(
        "POST", "/v1/erasures", wanted, timeout_s=_LONGEST_WALK_S
    )
    return certificate


def _confirm(preview: dict[str, Any]) -> None:
    """
    Raises:
        Failure: the answer was no, or there is no one to ask.
    """
    count = preview["erased"]
    what = f"{count:,} event{'' if count == 1 else 's'} of project {preview['project']}"
    if not sys.stdin.isatty():
        raise called_wrongly(
            f"This would erase {what}, for good",
            hint="indelible erase … --yes, or --confirm with the preview of --dry-run",
        )
    screen.note(f"This erases {what}, for good. Go on? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise called_wrongly("Nothing was erased", hint="Answer y, or call it with --yes.")


def _show(certificate: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        screen.emit(certificate)
        return
    done = not certificate["dry_run"]
    rows = _selected(certificate)
    if done:
        rows.append(("at", certificate["at"]))
        rows += [
            ("merge undone", f"index {event['index']}, {event['tx_id']}")
            for event in certificate["unmerged"]
        ]
        rows += [
            ("certificate", f"index {event['index']}, {event['tx_id']}")
            for event in certificate["events"]
        ]
        rows.append(("erased bytes", [_GONE if certificate["swept"] else _KEPT]))
    else:
        rows.append(("preview", certificate["preview"]))
    screen.facts(rows)


def _selected(certificate: dict[str, Any]) -> list[screen.Fact]:
    """What was, or would be, erased, and what is left."""
    done = not certificate["dry_run"]
    rows: list[screen.Fact] = [("project", certificate["project"])]
    if certificate["person"] is not None:
        rows.append(("person", certificate["person"]))
        rows.append(("ids", f"{certificate['id_count']:,}"))
        rows += [("", distinct_id) for distinct_id in certificate["ids"][:_IDS_SHOWN]]
        if certificate["id_count"] > _IDS_SHOWN:
            rows.append(("", "… (indelible persons ids shows all)"))
    rows += [
        ("erased" if done else "would erase", f"{certificate['erased']:,}"),
        ("of them", f"{certificate['product']:,} product, {certificate['audit']:,} audit"),
        ("erased before", f"{certificate['already_erased']:,}"),
        ("reason", certificate["reason"]),
    ]
    rows += [("unknown", tx_id) for tx_id in certificate["unknown"]]
    rows += [
        ("left", f"{each['events']:,}: {_LEFT[each['what']]}")
        for each in certificate["left"]
        if each["events"] is not None and each["what"] in _LEFT
    ]
    if certificate["person"] is not None:
        rows.append(("left", "the log's own entries, ids in events of others, backups"))
    return rows


_LEFT: Final = {
    "other_actors": "audit events of its ids; name them with --actor",
    "since_preview": "came after the preview; ask for a new one",
}
