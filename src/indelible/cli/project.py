"""``indelible project``: create, list and set."""

import re
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.server import reach

_LARGEST_DIGITS: Final = 16
_NAME: Final = re.compile("[a-z0-9][a-z0-9_-]{0,63}")


class ProjectKind(StrEnum):
    """Keys of a test project begin with iml_test_."""

    LIVE = "live"
    TEST = "test"


class Policy(StrEnum):
    """What becomes of crawlers' events; `none` leaves each route its own default."""

    DISCARD = "discard"
    MARK = "mark"
    OFF = "off"
    NONE = "none"


class Access(StrEnum):
    """Who may read the files of the signed log: whoever has a key of the project, or anyone."""

    KEY = "key"
    PUBLIC = "public"


class Hold(StrEnum):
    """Whether nothing of the project is erased."""

    ON = "on"
    OFF = "off"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The project's name.")]
Limit = Annotated[
    str | None,
    typer.Option(
        "--monthly-limit",
        metavar="N|none",
        help="Most product events in a calendar month (UTC).",
    ),
]
AuditLimit = Annotated[
    str | None,
    typer.Option(
        "--audit-monthly-limit",
        metavar="N|none",
        help="Most audit events in a calendar month (UTC), counted apart.",
    ),
]
Bots = Annotated[
    Policy | None,
    typer.Option(
        "--bot-policy",
        metavar="discard|mark|off|none",
        help="What becomes of crawlers' events; none leaves it to the route.",
    ),
]

Retention = Annotated[
    str | None,
    typer.Option(
        "--retention-days",
        metavar="N|none",
        help="Erase product and audit events after so many days, for good.",
    ),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(rich_markup_mode=None, help="Projects, each a log; needs an admin key.")
    group.command(
        "create",
        epilog=options.examples(
            "indelible project create shop", "indelible project create trial --kind test"
        ),
    )(create_project)
    group.command("list", epilog=options.examples("indelible project list"))(list_projects)
    group.command(
        "set",
        epilog=options.examples(
            "indelible project set shop --monthly-limit 1000000",
            "indelible project set shop --monthly-limit none --bot-policy mark",
            "indelible project set shop --retention-days 365 --ledger public",
            "indelible project set shop --legal-hold on",
        ),
    )(set_project)
    app.add_typer(group, name="project")


def create_project(
    name: Name,
    kind: Annotated[
        ProjectKind, typer.Option("--kind", metavar="live|test", help="What it is for.")
    ] = ProjectKind.LIVE,
    monthly_limit: Limit = None,
    audit_monthly_limit: AuditLimit = None,
    bot_policy: Bots = None,
    retention_days: Retention = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Make a project with a log, a token and an application key of its own.

    The key is shown this once.
    """
    if not _NAME.fullmatch(name):
        raise called_wrongly(
            f"{name!r} is no project name: it has 1 to 64 of a-z, 0-9, _ and -, a letter or digit "
            "first",
            hint="indelible project create shop",
        )
    wanted = {
        "name": name,
        "kind": kind.value,
        **_changes(monthly_limit, audit_monthly_limit, bot_policy, retention_days),
    }
    with reach(data) as server:
        made = server.send("POST", "/v1/projects", wanted)
    if as_json:
        screen.emit(made)
        return ExitCode.FINE
    screen.facts(
        [
            ("project", [(made["project"]["name"], screen.STRONG)]),
            ("kind", made["project"]["kind"]),
            ("token", f"{made['token']}   (public: belongs in pages and apps)"),
            ("API key", [(made["api_key"], screen.STRONG)]),
        ]
    )
    screen.note("Keep the API key now: it is stored hashed and never shown again.")
    return ExitCode.FINE


def list_projects(data: options.Data = None, as_json: options.Json = False) -> int:
    """List projects, with their tokens.

    PRODUCT and AUDIT are the events of this calendar month (UTC), of the limit if there is one.
    Of a project on legal hold nothing is erased, whatever its retention.
    """
    with reach(data) as server:
        projects = list(server.pages("/v1/projects", "projects"))
    if as_json:
        screen.emit({"projects": projects})
        return ExitCode.FINE
    screen.table(
        ("PROJECT", "KIND", "EVENTS", "PRODUCT", "AUDIT", "BOTS", "KEPT", "TOKEN"),
        [
            (
                project["name"],
                project["kind"],
                f"{project['events']:,}",
                _month(project, ""),
                _month(project, "audit_"),
                project["bot_policy"] or "by route",
                "legal hold" if project["legal_hold"] else _retention(project),
                project["token"] or "(none)",
            )
            for project in projects
        ],
    )
    return ExitCode.FINE


def set_project(
    name: Name,
    monthly_limit: Limit = None,
    audit_monthly_limit: AuditLimit = None,
    bot_policy: Bots = None,
    retention_days: Retention = None,
    ledger: Annotated[
        Access | None,
        typer.Option(
            "--ledger",
            metavar="key|public",
            help="Who may read the signed log's files at /ledger/NAME/.",
        ),
    ] = None,
    legal_hold: Annotated[
        Hold | None,
        typer.Option(
            "--legal-hold",
            metavar="on|off",
            help="While it is on, nothing is erased: neither on request nor by retention.",
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Change the rules of a project.

    Its monthly limits and its bot policy count from the next event on. What a retention has erased
    never comes back.
    """
    changes = _changes(monthly_limit, audit_monthly_limit, bot_policy, retention_days)
    if ledger is not None:
        changes["ledger_access"] = ledger.value
    if legal_hold is not None:
        changes["legal_hold"] = legal_hold is Hold.ON
    if not changes:
        raise called_wrongly(
            "Nothing to change was named", hint=f"indelible project set {name} --monthly-limit none"
        )
    with reach(data) as server:
        project = server.send("PATCH", f"/v1/projects/{quote(name, safe='')}", changes)
    if as_json:
        screen.emit(project)
        return ExitCode.FINE
    screen.facts(
        [
            ("project", project["name"]),
            ("monthly limit", _limit(project["monthly_limit"])),
            ("this month", f"{project['events_this_month']:,}"),
            ("audit limit", _limit(project["audit_monthly_limit"])),
            ("audit this month", f"{project['audit_events_this_month']:,}"),
            ("bot policy", project["bot_policy"] or "by route"),
            ("retention", _retention(project)),
            ("legal hold", "on: nothing is erased" if project["legal_hold"] else "off"),
            ("ledger", "anyone" if project["ledger_access"] == "public" else "with a key"),
        ]
    )
    return ExitCode.FINE


def _changes(
    monthly_limit: str | None,
    audit_monthly_limit: str | None,
    bot_policy: Policy | None,
    retention_days: str | None,
) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if monthly_limit is not None:
        changes["monthly_limit"] = _number("--monthly-limit", monthly_limit)
    if audit_monthly_limit is not None:
        changes["audit_monthly_limit"] = _number("--audit-monthly-limit", audit_monthly_limit)
    if retention_days is not None:
        changes["retention_days"] = _number("--retention-days", retention_days)
    if bot_policy is not None:
        changes["bot_policy"] = None if bot_policy is Policy.NONE else bot_policy.value
    return changes


def _number(option: str, text: str) -> int | None:
    if text == "none":
        return None
    plain = text.replace(",", "").replace("_", "")
    if not plain.isascii() or not plain.isdigit() or len(plain) > _LARGEST_DIGITS:
        raise called_wrongly(f"{option} {text}: neither a number nor none", hint=f"{option} 365")
    return int(plain)


def _limit(limit: int | None) -> str:
    return "none" if limit is None else f"{limit:,}"


def _month(project: dict[str, Any], lane: str) -> str:
    """How many events of a lane the month has, and its limit."""
    used, limit = project[f"{lane}events_this_month"], project[f"{lane}monthly_limit"]
    return f"{used:,}" if limit is None else f"{used:,} of {limit:,}"


def _retention(project: dict[str, Any]) -> str:
    days = project["retention_days"]
    return "for ever" if days is None else f"{days:,} days"
