"""``indelible serve``."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from indelible.cli import options
from indelible.cli.failure import ExitCode, Failure
from indelible.cli.output import written
from indelible.layout import FIRST_KEYS_FILE, JOURNAL_FILE
from indelible.voice import Format, Level

if TYPE_CHECKING:
    from indelible.app import Welcome

logger = logging.getLogger(__name__)


class _Serve(TyperCommand):
    """Its help ends with every setting, read from the list itself when it is asked for."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from indelible.settings import Settings

        super().format_epilog(ctx, formatter)
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(
                [_setting(field) for field in Settings.__dataclass_fields__.values()]
            )


def _setting(field: Any) -> tuple[str, str]:
    return field.metadata["variable"], f"{field.metadata['meaning']} {default_of(field)}".strip()


def default_of(field: Any) -> str:
    """The default of a setting as its help shows it; empty when there is none."""
    if field.default is None:
        return ""
    shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"[default: {shown}]"


def register(app: typer.Typer) -> None:
    app.command(
        cls=_Serve,
        epilog=options.examples(
            "indelible serve",
            "indelible serve --data /srv/events --port 80 --log-format json",
        ),
    )(serve)


def serve(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Folder of the journal and the keys."),
    ] = None,
    listen: options.Listen = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 takes a free one."
        ),
    ] = None,
    log_format: Annotated[
        Format | None, typer.Option(options.LOG_FORMAT, help="Form of the log on stderr.")
    ] = None,
    log_level: Annotated[
        Level | None, typer.Option("--log-level", help="Least important lines of the log.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run the server until it is told to stop.

    The first start makes the data folder, the project `default` and its keys, and shows the keys
    once: on a terminal or with --json; else they are left in DATA/first-keys.json, since what is
    printed elsewhere ends in somebody's log. SIGTERM and Ctrl-C end it when everything under way is
    answered. With --log-format json every line is a JSON object, and only --json writes to stdout.
    """
    from indelible import voice
    from indelible.settings import Settings, old_key_names

    overrides = {
        "data_dir": data,
        "listen": listen,
        "port": port,
        "log_format": log_format,
        "log_level": log_level,
    }
    settings = Settings.from_environ(os.environ, overrides)
    voice.configure(settings.log_format, settings.log_level)
    for warning in old_key_names(os.environ).warnings:
        logger.warning(warning)

    from indelible.app import serve as serve_forever
    from indelible.connections import SqliteError
    from indelible.journal.outside import DAMAGED, RIGHTS_HINT

    try:
        farewell = serve_forever(
            settings,
            announce=lambda welcome: _announce(welcome, settings.log_format, as_json=as_json),
        )
    except SqliteError as error:
        is_damaged = isinstance(error, DAMAGED)
        look = f"Look closer with `indelible doctor --data {settings.data_dir}`."
        raise Failure(
            "journal_damaged" if is_damaged else "io_failed",
            f"{settings.data_dir / JOURNAL_FILE} cannot be opened: {error}",
            hint=look if is_damaged else RIGHTS_HINT,
            exit_code=ExitCode.BROKEN,
        ) from error
    voice.stopped(
        why=farewell.why,
        took_s=farewell.took_s,
        finished=farewell.ending.finished,
        cut_off=farewell.ending.cut_off,
    )


def _announce(welcome: "Welcome", log_format: Format, *, as_json: bool) -> None:
    from indelible import __version__, voice
    from indelible.cli import screen
    from indelible.cli.banner import banner

    keys_file = None
    if welcome.made and not as_json and (log_format is Format.JSON or not screen.on_terminal()):
        keys_file = _leave_keys(welcome)
    voice.started(
        version=__version__,
        url=welcome.url,
        data_dir=str(welcome.data_dir.resolve()),
        projects=welcome.projects,
        keys_file=None if keys_file is None else str(keys_file),
    )
    if as_json:
        facts = {
            "url": welcome.url,
            "data_dir": str(welcome.data_dir.resolve()),
            "token": welcome.token,
            "made": welcome.made,
        }
        voice.show(screen.document(facts))
    elif log_format is Format.TEXT:
        voice.show(banner(welcome, keys_file=keys_file))


def _leave_keys(welcome: "Welcome") -> Path:
    """Write the keys made just now to a file that only the owner of the folder can read."""
    path = welcome.data_dir.resolve() / FIRST_KEYS_FILE
    with written(path) as file:
        file.write(json.dumps(welcome.made, indent=2).encode() + b"\n")
    return path
