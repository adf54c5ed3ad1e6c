"""``indelible send``: one event, from the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.cli.invocation import as_typed
from indelible.cli.server import Server, reach


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible send purchase_completed --distinct-id user_42 --property amount=99.99",
            'indelible send user.deleted --audit --payload \'{"user":"u_7"}\' --meta service=crm',
        )
    )(send)


def send(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.")],
    distinct_id: Annotated[
        str | None, typer.Option("--distinct-id", metavar="ID", help="Whose event it is.")
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="NAME=VALUE",
            help="A property; a value that reads as JSON is taken as JSON. Repeatable.",
        ),
    ] = None,
    all_properties: Annotated[
        str | None,
        typer.Option("--properties", metavar="JSON", help="All properties as a JSON object."),
    ] = None,
    uuid: Annotated[
        str | None,
        typer.Option("--uuid", metavar="ID", help="The event's own id: sent twice, stored once."),
    ] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Send an audit event.")] = False,
    payload: Annotated[
        str | None,
        typer.Option("--payload", metavar="TEXT", help="With --audit: the document to keep."),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta", metavar="NAME=VALUE", help="With --audit: service, env, type, … Repeatable."
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", metavar="KEY", help="With --audit: sent twice, stored once."
        ),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Send one event and say where it is stored.

    A product event unless --audit is given. Exit code 1 when the server let the event go, for
    instance because the month is used up.
    """
    of_product = {
        "--distinct-id": distinct_id,
        "--property": properties,
        "--properties": all_properties,
        "--uuid": uuid,
    }
    of_audit = {"--payload": payload, "--meta": meta, "--idempotency-key": idempotency_key}
    _refuse_others(of_product if audit else of_audit, audit=audit)
    if audit:
        if payload is None:
            raise called_wrongly("An audit event needs --payload", hint=_EXAMPLE_AUDIT)
        body = {"payload": payload, "meta": {**_texts(meta or []), "event_name": event}}
        with reach(data) as server:
            return _send_audit(server, body, idempotency_key, project, as_json=as_json, data=data)
    if distinct_id is None:
        raise called_wrongly("A product event needs --distinct-id", hint=_EXAMPLE)
    product: dict[str, Any] = {
        "event": event,
        "distinct_id": distinct_id,
        "properties": {**_object(all_properties), **_values(properties or [])},
    }
    if uuid is not None:
        product["uuid"] = uuid
    with reach(data) as server:
        return _send_product(server, product, project, as_json=as_json, data=data)


_EXAMPLE = "indelible send hello --distinct-id me"
_EXAMPLE_AUDIT = 'indelible send user.deleted --audit --payload \'{"user":"u_7"}\''


def _send_product(
    server: Server,
    product: dict[str, Any],
    project: str | None,
    *,
    as_json: bool,
    data: Path | None,
) -> int:
    body = {**product, "api_key": server.token(project)}
    answer = server.send("POST", "/api/e", body)
    if answer is None:
        raise Failure(
            "bot",
            "The server takes this command for a crawler and discarded the event",
            hint="Allow it: indelible project set NAME --bot-policy mark",
            exit_code=ExitCode.CHECK_FAILED,
        )
    result = answer["events"][0]
    if result["result"] == "drop":
        from indelible.event import DropReason

        raise Failure(
            result["reason"],
            f"The event was dropped. {DropReason(result['reason']).meaning}",
            hint="See `indelible project list` for limits and policies.",
            exit_code=ExitCode.CHECK_FAILED,
        )
    if as_json:
        screen.emit(result)
        return ExitCode.FINE
    _show(result, ("event id", result["uuid"]), data)
    return ExitCode.FINE


def _send_audit(
    server: Server,
    body: dict[str, Any],
    key: str | None,
    project: str | None,
    *,
    as_json: bool,
    data: Path | None,
) -> int:
    headers = {} if key is None else {"idempotency-key": _header(key)}
    answer = server.send("POST", "/v1/events", body, headers=headers, project=project)
    if as_json:
        screen.emit(answer)
        return ExitCode.FINE
    _show(answer, ("payload hash", answer["payload_hash"] or "unknown: erased since"), data)
    return ExitCode.FINE


def _show(result: dict[str, Any], own: tuple[str, str], data: Path | None) -> None:
    rows: list[tuple[str, str | list[screen.Part]]] = [
        ("stored", [(f"index {result['index']}", screen.GOOD)]),
        ("transaction", result["tx_id"]),
        own,
    ]
    if result.get("duplicate"):
        rows.append(("duplicate", "it was stored before; nothing was added"))
    if result.get("reason"):
        from indelible.event import WarnReason

        meaning = WarnReason(result["reason"]).meaning
        rows.append(("warning", [(result["reason"], screen.UNSURE), f": {meaning}"]))
    rows.append(("look at it", as_typed("where", result["tx_id"], data=data)))
    screen.facts(rows)


def _refuse_others(others: Mapping[str, object], *, audit: bool) -> None:
    given = [name for name, value in others.items() if value]
    if given:
        kind, hint = ("an audit", _EXAMPLE_AUDIT) if audit else ("a product", _EXAMPLE)
        raise called_wrongly(f"{kind.capitalize()} event takes no {given[0]}", hint=hint)


def _object(text: str | None) -> dict[str, Any]:
    import msgspec

    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise called_wrongly(
            f"--properties is no JSON object: {error}", hint="""--properties '{"amount": 99.99}'"""
        ) from None


def _values(pairs: Sequence[str]) -> dict[str, Any]:
    import msgspec

    values: dict[str, Any] = {}
    for name, text in _texts(pairs).items():
        try:
            values[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[name] = text
    return values


def _texts(pairs: Sequence[str]) -> dict[str, str]:
    texts = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise called_wrongly(f"{pair!r} is not NAME=VALUE", hint="--property amount=99.99")
        texts[name] = text
    return texts


def _header(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        raise called_wrongly(
            "An Idempotency-Key has visible ASCII characters only", hint="Use a UUID."
        )
    return key
