"""``indelible persons``: who the events are of, and what joined their ids."""

from itertools import islice
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.filters import Filter, checked
from indelible.cli.server import Parameter, Server, reach
from indelible.cli.tail import Lines
from indelible.cli.times import moment_ms

_PAGE: Final = 200
_IDS_A_PAGE: Final = 1_000
_IDS_SHOWN: Final = 10
_VALUE_CHARS: Final = 60

Who = Annotated[
    str, typer.Argument(metavar="ID", help="A person id, per_…, or any distinct id of the person.")
]
At = Annotated[
    int | None,
    typer.Option(
        "--at", metavar="INDEX", min=0, help="As known at this index of the log; else now."
    ),
]
Count = Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many at most.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        rich_markup_mode=None, help="Persons: ids that belong together, and their properties."
    )
    for name, command, *examples in (
        (
            "list",
            list_persons,
            "indelible persons list",
            "indelible persons list --filter 'properties.plan = \"pro\"' --since 7d",
        ),
        (
            "show",
            show,
            "indelible persons show user_42",
            "indelible persons show user_42 --at 1000",
        ),
        ("ids", ids, "indelible persons ids user_42"),
        ("timeline", timeline, "indelible persons timeline user_42 -n 20"),
        ("history", history, "indelible persons history user_42"),
        ("merge", merge, "indelible persons merge user_42 user_43"),
        (
            "unmerge",
            unmerge,
            "indelible persons unmerge user_42 --id user_43",
            "indelible persons unmerge user_42 --merge 17",
        ),
    ):
        group.command(name, epilog=options.examples(*examples))(command)
    app.add_typer(group, name="persons")


def list_persons(
    filter_: Filter = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Last seen since: 30m, 1h, 7d ago, or a time in UTC."
        ),
    ] = None,
    count: Count = 20,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """List persons, last seen first.

    A filter tests their properties, distinct_id (that of the principal, by which the person is
    named) and received_at, when they were last seen. With --json a person a line.
    """
    wanted: dict[str, Parameter] = {
        "filter": checked(filter_),
        "last_seen_from": None if since is None else moment_ms("--since", since),
        "project": project,
    }
    with reach(data) as server:
        listed = server.pages("/v1/persons", "persons", limit=min(count + 1, _PAGE), **wanted)
        found = list(islice(listed, count + 1))
    for person in found[:count] if as_json else ():
        screen.emit(person)
    if found and not as_json:
        screen.table(
            ("LAST SEEN", "EVENTS", "IDS", "PERSON"),
            [
                (
                    person["last_seen"],
                    str(person["events"]),
                    str(person["id_count"]),
                    person["distinct_id"],
                )
                for person in found[:count]
            ],
        )
    if len(found) > count:
        screen.note((f"there are more; -n {2 * count} shows twice as many", screen.DIM))
    if not found:
        is_narrowed = filter_ is not None or since is not None
        screen.note(
            "no person matches"
            if is_narrowed
            else "no persons yet: send an event with a distinct_id"
        )
    return ExitCode.FINE


def show(
    who: Who,
    at: At = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Show a person: its properties, its ids, and what joined them.

    The id in bold names the person. A fact has the index of the event that it is: `unmerge --merge`
    takes it. What was refused is shown with the reason.
    """
    with reach(data) as server:
        person = server.get(_path(who), at=at, project=project)
    if as_json:
        screen.emit(person)
    else:
        _show(person)
    return ExitCode.FINE


def ids(
    who: Who,
    at: At = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """List all ids of a person.

    The one that names the person first, then in the order in which they were seen. With --json an
    id a line.
    """
    with reach(data) as server:
        listed = server.pages(f"{_path(who)}/ids", "ids", limit=_IDS_A_PAGE, at=at, project=project)
        if as_json:
            for each in listed:
                screen.emit(each)
            return ExitCode.FINE
        found = list(listed)
    screen.table(
        ("LAST SEEN", "EVENTS", "ROLE", "ID"),
        [
            (each["last_seen"], str(each["events"]), each["role"], each["distinct_id"])
            for each in found
        ],
    )
    return ExitCode.FINE


def timeline(
    who: Who,
    count: Count = 20,
    at: At = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Show the last events of a person, oldest first.

    The product events of all its ids, and the audit events whose actor is one of them.
    """
    with reach(data) as server:
        listed = server.pages(
            f"{_path(who)}/timeline", "events", limit=min(count, _PAGE), at=at, project=project
        )
        found = list(islice(listed, count))[::-1]
    if as_json:
        for event in found:
            screen.emit(event)
        return ExitCode.FINE
    write = Lines()
    for event in found:
        write(event)
    if not found:
        screen.note("no events are left of this person")
    return ExitCode.FINE


def history(
    who: Who,
    count: Count = 20,
    at: At = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Show what was written of a person's properties, oldest first.

    One line for each property that an event wrote: the index of the event, its time of receipt
    (UTC), the id, and what became of the property.
    """
    with reach(data) as server:
        listed = server.pages(
            f"{_path(who)}/history", "writes", limit=min(count, _PAGE), at=at, project=project
        )
        found = list(islice(listed, count))[::-1]
    if as_json:
        for write in found:
            screen.emit(write)
        return ExitCode.FINE
    rows = [
        (str(write["index"]), write["at"], write["distinct_id"], said)
        for write in found
        for said in _writes(write)
    ]
    if rows:
        screen.table(("INDEX", "AT", "ID", "WRITES"), rows)
    else:
        screen.note("nothing was written of this person's properties")
    return ExitCode.FINE


def merge(
    who: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...", help="Two persons or more, each by its person id or a distinct id."
        ),
    ],
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Make persons one, with an admin key.

    Also two identified ones, which no event can. Nothing is rewritten: `unmerge` undoes it.
    """
    if len(who) < 2:
        raise called_wrongly(
            "Name two persons or more", hint="indelible persons merge user_42 user_43"
        )
    return _change("merge", {"ids": who}, project, data, as_json=as_json)


def unmerge(
    who: Who,
    taken_out: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Only this id leaves the person; may be repeated."),
    ] = None,
    merge_index: Annotated[
        int | None,
        typer.Option(
            "--merge",
            metavar="INDEX",
            min=0,
            help="Undo the merge at this index alone, as if it had never been.",
        ),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Take a person apart, with an admin key: every id by itself, or some ids, or one merge.

    No event joins again what was taken apart; `merge` does.
    """
    if taken_out and merge_index is not None:
        raise called_wrongly(
            "Name either --id or --merge, or neither for the whole person",
            hint=f"indelible persons show {who}",
        )
    body: dict[str, Any] = {"id": who}
    if taken_out:
        body["ids"] = taken_out
    if merge_index is not None:
        body["merge"] = merge_index
    return _change("unmerge", body, project, data, as_json=as_json)


def _change(
    what: str,
    body: dict[str, Any],
    project: str | None,
    data: options.Data,
    *,
    as_json: bool,
) -> int:
    with reach(data) as server:
        done = _send(server, what, {**body, **({} if project is None else {"project": project})})
    if as_json:
        screen.emit(done)
        return ExitCode.FINE
    rows: list[screen.Fact] = [
        ("event", f"index {done['event']['index']}, {done['event']['tx_id']}")
    ]
    for person in done["persons"]:
        others = [each["distinct_id"] for each in person["ids"][1 : _IDS_SHOWN + 1]]
        more = " …" if person["id_count"] > len(others) + 1 else ""
        rows.append(
            (
                "person",
                [
                    (person["distinct_id"], screen.STRONG),
                    *([f"  with {', '.join(others)}{more}"] if others else []),
                ],
            )
        )
    if not done["folded"]:
        rows.append(("persons", [("not up to date yet; `persons show` shows them", screen.UNSURE)]))
    screen.facts(rows)
    return ExitCode.FINE


def _send(server: Server, what: str, body: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = server.send("POST", f"/v1/persons/{what}", body, timeout_s=60.0)
    return done


def _show(person: dict[str, Any]) -> None:
    rows: list[screen.Fact] = [
        ("person", person["person_id"]),
        ("as of", f"index {person['as_of']:,}"),
        ("identified", "yes" if person["identified"] else "no"),
        ("events", f"{person['events']:,}"),
        ("first seen", person["first_seen"]),
        ("last seen", person["last_seen"]),
        ("ids", f"{person['id_count']:,}"),
    ]
    for number, each in enumerate(person["ids"][:_IDS_SHOWN]):
        style = screen.STRONG if number == 0 else ""
        rows.append(("", [(each["distinct_id"], style), (f"  {each['role']}", screen.DIM)]))
    if person["id_count"] > _IDS_SHOWN:
        rows.append(("", [("… (indelible persons ids shows all)", screen.DIM)]))
    rows.append(("properties", f"{len(person['properties']):,}"))
    rows += [("", f"{name} = {_value(value)}") for name, value in person["properties"].items()]
    if person["properties_left_out"]:
        rows.append(("left out", f"{person['properties_left_out']:,} writes or values: too many"))
    rows += [("fact", _fact(fact)) for fact in person["merges"]]
    if person["more_merges"]:
        rows.append(("", [("… (GET /v1/persons/{id}/merges has all)", screen.DIM)]))
    screen.facts(rows)


def _fact(fact: dict[str, Any]) -> list[screen.Part]:
    """One merge fact: its index, what it is, of which ids, and what became of it."""
    sides = [_side(side) for side in (fact["one"], fact["other"]) if side is not None]
    style = {"accepted": screen.GOOD, "refused": screen.BAD}.get(fact["state"], screen.DIM)
    state = fact["state"]
    if fact["reason"] is not None:
        state += f": {fact['reason']}"
    if fact["void_since"] is not None:
        state += f" since index {fact['void_since']}"
    times = f" ({fact['times']} times)" if fact["times"] > 1 else ""
    return [
        f"{fact['index']}  {fact['kind']}  {' + '.join(sides)}{times}  ",
        (state, style),
    ]


def _side(side: dict[str, Any]) -> str:
    return str(side["distinct_id"] or side["person_id"] or "?")


def _writes(write: dict[str, Any]) -> list[str]:
    said = [f"{name} = {_value(value)}" for name, value in write["$set"].items()]
    said += [f"{name} = {_value(value)} if unset" for name, value in write["$set_once"].items()]
    return said + [f"{name} removed" for name in write["$unset"]]


def _value(value: object) -> str:
    text = screen.document(value)
    return text if len(text) <= _VALUE_CHARS else f"{text[:_VALUE_CHARS]}…"


def _path(who: str) -> str:
    """The path of a person. `.` and `..` would be taken out of it on the way."""
    if who in (".", ".."):
        raise called_wrongly(
            f"{who!r} cannot be asked for by its distinct id",
            hint="Name the person by its person id: indelible persons list",
        )
    return f"/v1/persons/{quote(who, safe='')}"
