"""``indelible schema`` and ``contract``: what events look like, and what they should look like."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure
from indelible.cli.server import Server, reach
from indelible.untrusted import read_file

MOST_CONTRACT_BYTES: Final = 64 * 1024
_PAGE: Final = 500
_SHAPES: Final = 3
_CONTRACT: Final = "/v1/schema/contract"


class EventKind(StrEnum):
    """Which events."""

    PRODUCT = "product"
    AUDIT = "audit"


Event = Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.")]
Kind = Annotated[
    EventKind, typer.Option("--kind", metavar="product|audit", help="Which of the two it is.")
]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible schema",
            "indelible schema purchase_completed",
            "indelible schema order.created --kind audit --json | jq .properties",
        )
    )(schema)
    group = typer.Typer(
        rich_markup_mode=None, help="What an event should have: marks what does not fit."
    )
    group.command(
        "set",
        epilog=options.examples(
            "indelible contract set purchase_completed contract.json",
            "jq .contract old.json | indelible contract set purchase_completed -",
        ),
    )(set_contract)
    group.command("show", epilog=options.examples("indelible contract show purchase_completed"))(
        show_contract
    )
    group.command("drop", epilog=options.examples("indelible contract drop purchase_completed"))(
        drop_contract
    )
    app.add_typer(group, name="contract")


def schema(
    event: Annotated[
        str | None, typer.Argument(metavar="[EVENT]", help="The event's name; else all events.")
    ] = None,
    kind: Annotated[
        EventKind | None,
        typer.Option(
            "--kind",
            metavar="product|audit",
            help="Only these; of one event, which of the two it is: product when left out.",
        ),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """What do events look like? Shows their names, or the properties of one.

    Learned from the log. Values are never shown, only their shapes: x for letters, 9 for digits.
    With --json an event a line, or one event with all that is known of it.
    """
    with reach(data) as server:
        if event is not None:
            found = server.get(
                "/v1/schema/event", event=event, kind=_word(kind) or "product", project=project
            )
            _show_event(found, as_json=as_json)
        else:
            _list(server, _word(kind), project, as_json=as_json)
    return ExitCode.FINE


def set_contract(
    event: Event,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The contract as JSON; - reads it from stdin.")
    ],
    kind: Kind = EventKind.PRODUCT,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Hold the events of this name to a contract from now on, with an admin key.

    Nothing is refused: what does not fit is counted. The log keeps the contract for ever.
    """
    contract = _contract_of(file)
    with reach(data) as server:
        held = server.send(
            "PUT", _CONTRACT, contract, event=event, kind=kind.value, project=project
        )
    _show_contract(held, as_json=as_json)
    return ExitCode.FINE


def show_contract(
    event: Event,
    kind: Kind = EventKind.PRODUCT,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Show the contract of an event, and by rule how many events do not fit it."""
    with reach(data) as server:
        held = server.get(_CONTRACT, event=event, kind=kind.value, project=project)
    _show_contract(held, as_json=as_json)
    return ExitCode.FINE


def drop_contract(
    event: Event,
    kind: Kind = EventKind.PRODUCT,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Hold the events of this name to no contract any more, with an admin key."""
    with reach(data) as server:
        dropped = server.send("DELETE", _CONTRACT, event=event, kind=kind.value, project=project)
    if as_json:
        screen.emit(dropped)
    else:
        screen.facts([("event", dropped["event"]), ("contract", "none")])
    return ExitCode.FINE


def _word(kind: EventKind | None) -> str | None:
    return None if kind is None else kind.value


def _contract_of(file: Path) -> Any:
    import msgspec

    if str(file) == "-":
        content = sys.stdin.buffer.read(MOST_CONTRACT_BYTES)
    else:
        content = read_file(file, most_bytes=MOST_CONTRACT_BYTES)
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(
            "called_wrongly",
            f"{file} is no JSON: {error}",
            hint='Write {"properties": {"plan": {"type": "text", "required": true}}}.',
            exit_code=ExitCode.CALLED_WRONGLY,
        ) from None


def _list(server: Server, kind: str | None, project: str | None, *, as_json: bool) -> None:
    events: list[Any] = []
    cursor: str | None = None
    while True:
        page = server.get("/v1/schema", kind=kind, project=project, limit=_PAGE, cursor=cursor)
        events += page["events"]
        cursor = page["next"]
        if cursor is None:
            break
    if as_json:
        for one in events:
            screen.emit(one)
    elif events:
        ordered = sorted(events, key=lambda one: (-one["count"], one["kind"], one["event"]))
        screen.table(
            ("COUNT", "KIND", "EVENT", "PROPERTIES", "UNFIT", "LAST SEEN"),
            [_row(one) for one in ordered],
        )
    else:
        screen.note("no event yet; send one: indelible send purchase_completed")
    for lane in page["lanes"]:
        if lane["left_out"]:
            screen.note(
                f"{lane['kind']}: {lane['left_out']} more events have names beyond the first "
                f"{lane['events']}; they are counted, not listed"
            )
        if lane["erased"]:
            screen.note((f"{lane['kind']}: {lane['erased']} events were erased before", screen.DIM))


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    checked = event["checked"]
    return (
        str(event["count"]),
        event["kind"],
        event["event"],
        str(event["properties"]),
        "-" if checked is None else f"{event['unfit']} of {checked}",
        event["last_seen"] or "never",
    )


def _show_event(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        screen.emit(event)
        return
    screen.facts(
        [
            ("event", f"{event['event']} ({event['kind']})"),
            ("count", str(event["count"])),
            ("looked into", str(event["looked_into"])),
            ("first seen", _seen(event["first_seen"])),
            ("last seen", _seen(event["last_seen"])),
            *_if_any("too large", event["too_large"], "longer than 32 KiB, counted only"),
            *_if_any("cut", event["cut"], "deeper or with more values than are looked at"),
            *_if_any("left out", event["left_out"], "properties for which there was no room"),
        ]
    )
    if event["properties"]:
        screen.line()
        screen.table(
            ("SHARE", "PROPERTY", "TYPES", "LOOKS LIKE"),
            [_property(one) for one in event["properties"]],
        )
    if event["contract"] is not None:
        screen.line()
        _show_contract(event["contract"], as_json=False)


def _if_any(name: str, count: int, meaning: str) -> list[tuple[str, str | list[screen.Part]]]:
    return [(name, f"{count} ({meaning})")] if count else []


def _property(known: dict[str, Any]) -> tuple[str, ...]:
    shapes = [one["shape"] for one in known["shapes"]]
    more = " …" if len(shapes) > _SHAPES or known["other_shapes"] else ""
    return (
        f"{100 * known['share']:.0f} %",
        known["path"],
        " ".join(known["types"]),
        ", ".join(shapes[:_SHAPES]) + more,
    )


def _show_contract(held: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        screen.emit(held)
        return
    fits: screen.Part = (f"{held['unfit']} of {held['checked']}", screen.BAD)
    if not held["unfit"]:
        fits = (fits[0], screen.GOOD)
    since = held["since"]
    screen.facts(
        [
            ("contract of", f"{held['event']} ({held['kind']})"),
            ("since", "stored, in force within seconds" if since is None else _seen(since)),
            ("extra", "allowed" if held["contract"].get("extra", True) else "does not fit"),
            ("does not fit", [fits]),
        ]
    )
    screen.line()
    screen.table(
        ("PROPERTY", "TYPE", "SHOULD BE"),
        [(path, *_rule(rule)) for path, rule in held["contract"]["properties"].items()],
    )
    if held["rules"]:
        screen.line()
        screen.table(
            ("COUNT", "RULE", "PROPERTY", "LAST SEEN", "NEWEST"),
            [
                (
                    str(one["count"]),
                    one["rule"],
                    one["property"],
                    one["last_seen"]["at"],
                    one["tx_ids"][-1],
                )
                for one in held["rules"]
            ],
        )


def _rule(rule: dict[str, Any]) -> tuple[str, str]:
    """What a contract asks of a property: its types, and the rest."""
    types = rule.get("type") or "any"
    asked = ["there"] if rule.get("required") else []
    if values := rule.get("values"):
        asked.append(f"one of {', '.join(map(screen.document, values))}")
    return types if isinstance(types, str) else " ".join(types), ", ".join(asked)


def _seen(at: dict[str, Any] | None) -> str:
    return "never" if at is None else f"{at['at']} (index {at['index']})"
