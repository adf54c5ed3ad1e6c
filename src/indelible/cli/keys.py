"""``indelible keys``: list, create, rotate and revoke."""

import re
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.server import reach
from indelible.cli.times import seconds

_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?", re.ASCII)


class KeyRole(StrEnum):
    """What a key is for."""

    TOKEN = "token"  # noqa: S105 — a role, not a secret
    APPLICATION = "application"
    ADMIN = "admin"


class KeyScope(StrEnum):
    """What an application key may do."""

    WRITE = "write"
    READ = "read"
    QUERY = "query"


KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="From `indelible keys list`.")]
RateOption = Annotated[
    str | None,
    typer.Option("--rate", metavar="N|none", help="Most events a second that it may send."),
]
BurstOption = Annotated[
    int | None,
    typer.Option(
        "--burst",
        metavar="N",
        min=1,
        help="Most events at once after a pause; ten seconds of the rate when left out.",
    ),
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        metavar="ORIGIN|any",
        help="Pages that may use the token: https://shop.example, https://*.shop.example. "
        "Repeatable.",
    ),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(rich_markup_mode=None, help="Keys and project tokens; needs an admin key.")
    group.command("list", epilog=options.examples("indelible keys list"))(list_keys)
    group.command(
        "create",
        epilog=options.examples(
            "indelible keys create application --label shop",
            "indelible keys create application --scope write",
            "indelible keys create application --network 10.0.0.0/8 --network 192.0.2.7",
            "indelible keys create token --rate 200 --origin https://*.shop.example",
            "indelible keys create admin --label ops",
        ),
    )(create_key)
    group.command(
        "set",
        epilog=options.examples(
            "indelible keys set key_1f2e3d4c5b6a --rate 200 --burst 5000",
            "indelible keys set key_1f2e3d4c5b6a --origin https://shop.example",
            "indelible keys set key_1f2e3d4c5b6a --rate none --origin any",
        ),
    )(set_key)
    group.command(
        "rotate",
        epilog=options.examples(
            "indelible keys rotate key_1f2e3d4c5b6a",
            "indelible keys rotate key_1f2e3d4c5b6a --grace 7d",
        ),
    )(rotate_key)
    group.command("revoke", epilog=options.examples("indelible keys revoke key_1f2e3d4c5b6a"))(
        revoke_key
    )
    app.add_typer(group, name="keys")


def list_keys(
    every: Annotated[
        bool, typer.Option("--all", help="Those that are not valid any more, too.")
    ] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """List keys, oldest first, without their secrets.

    A project token is no secret and is shown whole.
    """
    with reach(data) as server:
        keys = list(server.pages("/v1/keys", "keys"))
    shown = [key for key in keys if every or key["valid"]]
    if as_json:
        screen.emit({"keys": shown})
        return ExitCode.FINE
    screen.table(
        ("ID", "ROLE", "PROJECT", "KEY", "SCOPES", "STATE", "FROM", "RATE", "LABEL"),
        [
            (
                key["id"],
                key["role"],
                key["project"] or "(all)",
                key["token"] or f"{key['prefix']}…",
                "all" if "manage" in key["scopes"] else ",".join(key["scopes"]),
                _state(key),
                ",".join([*key["networks"], *key["origins"]]) or "anywhere",
                _rate_of(key),
                key["label"],
            )
            for key in shown
        ],
    )
    if ended := len(keys) - len(shown):
        screen.note((f"{ended} more not valid any more; --all shows them", screen.DIM))
    return ExitCode.FINE


def create_key(
    role: Annotated[
        KeyRole,
        typer.Argument(
            metavar="ROLE",
            help="token (public, writes product events), application (writes and reads one "
            "project) or admin (everything).",
        ),
    ],
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="What it is for.")] = "",
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--network", metavar="CIDR", help="Valid only from this address or network. Repeatable."
        ),
    ] = None,
    rate: RateOption = None,
    burst: BurstOption = None,
    origins: Origins = None,
    scopes: Annotated[
        list[KeyScope] | None,
        typer.Option(
            "--scope",
            metavar="write|read|query",
            help="What an application key may do; all three when left out. Repeatable.",
        ),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Make a key and show its secret, this once."""
    wanted: dict[str, Any] = {
        "role": role.value,
        "label": label,
        "networks": networks or [],
        **_limits(rate, burst, origins),
    }
    if scopes is not None:
        if role is not KeyRole.APPLICATION:
            raise called_wrongly(
                "Only an application key has scopes to choose",
                hint="indelible keys create application --scope write",
            )
        wanted["scopes"] = [scope.value for scope in scopes]
    if role is not KeyRole.ADMIN:
        wanted["project"] = project or "default"
    elif project is not None:
        raise called_wrongly(
            "An admin key opens every project", hint="indelible keys create admin --label ops"
        )
    with reach(data) as server:
        made = server.send("POST", "/v1/keys", wanted)
    _show_made(made, as_json=as_json)
    return ExitCode.FINE


def set_key(
    key_id: KeyId,
    rate: RateOption = None,
    burst: BurstOption = None,
    origins: Origins = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Change the rate or the origins of a key, from the next request on.

    The origins named take the place of those before.
    """
    changes = _limits(rate, burst, origins)
    if not changes:
        raise called_wrongly(
            "Nothing to change was named", hint=f"indelible keys set {key_id} --rate 200"
        )
    with reach(data) as server:
        key = server.send("PATCH", f"/v1/keys/{quote(key_id, safe='')}", changes)
    if as_json:
        screen.emit(key)
        return ExitCode.FINE
    screen.facts(
        [
            ("key", key["id"]),
            ("role", key["role"]),
            ("rate", _rate_of(key)),
            ("origins", ", ".join(key["origins"]) or "any"),
        ]
    )
    return ExitCode.FINE


def rotate_key(
    key_id: KeyId,
    grace: Annotated[
        str,
        typer.Option(
            "--grace",
            metavar="TIME",
            help="How long the old key stays valid beside the new one: 30s, 15m, 24h, 7d.",
        ),
    ] = "24h",
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Make a successor with the same rights.

    Its secret is shown this once; the old key stays valid for a while.
    """
    path = f"/v1/keys/{quote(key_id, safe='')}/rotate"
    grace_s = seconds("--grace", grace)
    with reach(data) as server:
        made = server.send("POST", path, {"grace_s": grace_s})
    _show_made(made, as_json=as_json, replaced=f"{key_id}, valid for {grace} more")
    return ExitCode.FINE


def revoke_key(key_id: KeyId, data: options.Data = None, as_json: options.Json = False) -> int:
    """End a key at once."""
    with reach(data) as server:
        key = server.send("DELETE", f"/v1/keys/{quote(key_id, safe='')}")
    if as_json:
        screen.emit(key)
    else:
        screen.facts(
            [("key", key["id"]), ("state", [(_state(key), screen.UNSURE)]), ("label", key["label"])]
        )
    return ExitCode.FINE


def _show_made(made: dict[str, Any], *, as_json: bool, replaced: str | None = None) -> None:
    if as_json:
        screen.emit(made)
        return
    key = made["key"]
    rows: list[tuple[str, str | list[screen.Part]]] = [
        ("key", key["id"]),
        ("role", key["role"]),
        ("project", key["project"] or "(all)"),
        ("scopes", ", ".join(key["scopes"])),
        ("secret", [(made["secret"], screen.STRONG)]),
    ]
    if key["networks"]:
        rows.append(("valid from", ", ".join(key["networks"])))
    if key["rate"]:
        rows.append(("rate", _rate_of(key)))
    if key["origins"]:
        rows.append(("origins", ", ".join(key["origins"])))
    if replaced:
        rows.append(("replaces", replaced))
    screen.facts(rows)
    if key["token"] is None:
        screen.note("Keep the secret now: it is stored hashed and never shown again.")


def _limits(rate: str | None, burst: int | None, origins: list[str] | None) -> dict[str, Any]:
    """What was named of a key's limits, as the server takes it."""
    limits: dict[str, Any] = {}
    if rate is not None:
        if rate != "none" and not _NUMBER.fullmatch(rate):
            raise called_wrongly(f"--rate {rate}: neither a number nor none", hint="--rate 200")
        limits["rate"] = None if rate == "none" else float(rate)
    if burst is not None:
        limits["burst"] = burst
    if origins is not None:
        limits["origins"] = [] if origins == ["any"] else origins
    return limits


def _rate_of(key: dict[str, Any]) -> str:
    if key["rate"] is None:
        return "none"
    per_s = f"{key['rate']:,.3f}".rstrip("0").rstrip(".")
    return f"{per_s}/s, {key['burst']:,} at once"


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return f"revoked {_short(key['revoked_at'])}"
    if key["expires_at"]:
        word = "until" if key["valid"] else "ended"
        return f"{word} {_short(key['expires_at'])}"
    return "valid, fixed" if key["fixed"] else "valid"


def _short(at: str) -> str:
    return f"{at[:10]} {at[11:16]}Z"
