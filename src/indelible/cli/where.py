"""``indelible where``: the life of one event."""

import shlex
from typing import Annotated, Any

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure
from indelible.cli.server import Server, reach
from indelible.cli.shape import Event, client_id_of, name_of, short_content


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible where tx_019a9f3c7e0a7000a1b2c3d4e5f60718", "indelible where order-2026-441"
        )
    )(where)


def where(
    any_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A transaction id, the client's event id, or an Idempotency-Key."
        ),
    ],
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Where is my event? Shows each step of its life, with its time.

    Exit code 1 when no event goes by this id.
    """
    is_person = False
    with reach(data) as server:
        found = server.get("/v1/where", id=any_id, project=project)
        if not found["events"] and not as_json:
            is_person = _is_person(server, any_id, project)
    if as_json:
        screen.emit(found)
    elif found["events"]:
        for number, event in enumerate(found["events"]):
            if number:
                screen.line()
            _show(event)
    if found["events"]:
        return ExitCode.FINE
    if as_json:
        return ExitCode.CHECK_FAILED
    raise unknown(any_id, project, is_person=is_person)


def _is_person(server: Server, any_id: str, project: str | None) -> bool:
    """Whether this is the id of a person; no, if the key may not ask."""
    try:
        return bool(server.get("/v1/persons", id=any_id, project=project).get("persons"))
    except Failure:
        return False


def unknown(any_id: str, project: str | None, *, is_person: bool = False) -> Failure:
    """Nothing goes by this id: what was looked at, and what it may mean."""
    which = f"project {project!r}" if project else "the key's project"
    if is_person:
        option = f" --project {project}" if project else ""
        return Failure(
            "not_found",
            f"No event goes by {any_id!r} in {which}: it is the id of a person",
            hint=f"indelible persons show {shlex.quote(any_id)}{option}",
            exit_code=ExitCode.CHECK_FAILED,
        )
    return Failure(
        "not_found",
        f"No event goes by {any_id!r} in {which}. Looked at: transaction ids, event ids of product "
        "events, Idempotency-Keys of audit events",
        hint="An event that was answered is stored, so this one was not answered, was sent to "
        "another project or server, or has another id; see `indelible tail`.",
        exit_code=ExitCode.CHECK_FAILED,
    )


def _show(event: Event) -> None:
    rows: list[tuple[str, str | list[screen.Part]]] = [
        ("event", [(name_of(event), screen.STRONG)]),
        ("kind", event["kind"]),
        ("index", str(event["index"])),
        ("transaction", event["tx_id"]),
    ]
    own = client_id_of(event)
    if own is not None:
        rows.append(("idempotency key" if event["kind"] == "audit" else "event id", own))
    if event.get("distinct_id") is not None:
        is_nobodys = event["distinct_id"] == event.get("process_id")
        rows.append(
            ("distinct id", "nobody's: that of its process" if is_nobodys else event["distinct_id"])
        )
    if content := short_content(event):
        rows.append(("content", content))
    for step in _life(event):
        said = step["at"] if step.get("person") is None else step["person"]
        rows.append((step["step"], [(said, screen.GOOD)]))
    screen.facts(rows)


def _life(event: Event) -> list[dict[str, Any]]:
    life: list[dict[str, Any]] = event["life"]
    return life
