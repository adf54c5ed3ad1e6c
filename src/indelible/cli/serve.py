"""``indelible serve``."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from indelible.cli import options
from indelible.cli.failure import ExitCode, Failure
from indelible.layout import JOURNAL_FILE

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
        epilog=options.examples("indelible serve", "indelible serve --data /srv/events --port 80"),
    )(serve)


def serve(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Folder of the journal and the keys."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="ADDRESS", help="Address to listen on.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 takes a free one."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run the server until it is told to stop.

    The first start makes the data folder, the project `default` and its keys, and shows the keys
    once. SIGTERM and Ctrl-C end it when everything under way is answered.
    """
    from indelible.settings import Settings, old_key_names

    overrides = {"data_dir": data, "listen": listen, "port": port}
    settings = Settings.from_environ(os.environ, overrides)
    for warning in old_key_names(os.environ).warnings:
        logger.warning(warning)

    import apsw

    from indelible.app import serve as serve_forever
    from indelible.cli.journal_file import DAMAGED, RIGHTS_HINT

    try:
        serve_forever(settings, announce=lambda welcome: _announce(welcome, as_json=as_json))
    except apsw.Error as error:
        is_damaged = isinstance(error, DAMAGED)
        look = f"Look closer with `indelible doctor --data {settings.data_dir}`."
        raise Failure(
            "journal_damaged" if is_damaged else "io_failed",
            f"{settings.data_dir / JOURNAL_FILE} cannot be opened: {error}",
            hint=look if is_damaged else RIGHTS_HINT,
            exit_code=ExitCode.BROKEN,
        ) from error


def _announce(welcome: "Welcome", *, as_json: bool) -> None:
    from indelible.cli import screen
    from indelible.cli.banner import banner

    if as_json:
        screen.emit(
            {
                "url": welcome.url,
                "data_dir": str(welcome.data_dir.resolve()),
                "token": welcome.token,
                "made": welcome.made,
            }
        )
    else:
        print(banner(welcome), flush=True)
