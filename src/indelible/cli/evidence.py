"""``indelible evidence``: a log in one file, for somebody who trusts nobody here."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from indelible.cli import options, screen
from indelible.cli.audit import logs_lying
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.output import written
from indelible.cli.server import data_folder
from indelible.layout import LEDGER_FOLDER

if TYPE_CHECKING:
    from indelible.ledger.audit.evidence import Packed

_DEFAULT: Final = "default"


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible evidence shop.tar --project shop",
            "indelible evidence default.tar --data /srv/events --json",
        )
    )(evidence)


def evidence(
    output: Annotated[
        Path, typer.Argument(metavar="OUT.tar", help="File to make; it is there once it is whole.")
    ],
    project: Annotated[
        str,
        typer.Option("--project", metavar="NAME", help="Which log: a project's, or NAME.2 …"),
    ] = _DEFAULT,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Pack a log with all that a stranger needs to check it: one tar.

    Its tiles, its checkpoints, its public key, a README, and a checker in Go that uses nothing of
    ours. No payload is in it. Needs the log's files alone, whether a server runs or not; the same
    checkpoint gives the same bytes. An existing file is replaced when the new one is complete.
    """
    log = _folder(data_folder(data), project)
    packed = _write(log, output)
    if as_json:
        screen.emit(
            {
                "output": str(output),
                "size_bytes": output.stat().st_size,
                "origin": packed.origin,
                "events": packed.size,
                "root": base64.b64encode(packed.root).decode(),
                "vkey": packed.vkey,
                "witnessed": packed.witnessed,
            }
        )
        return ExitCode.FINE
    screen.facts(
        [
            ("file", [(str(output), screen.STRONG)]),
            ("size", screen.size(output.stat().st_size)),
            ("log", packed.origin),
            ("events", f"{packed.size:,}"),
            ("tiles", f"{packed.tiles:,}"),
            ("key", packed.vkey),
            ("check", "unpack it and read README.txt"),
        ]
    )
    return ExitCode.FINE


def _folder(data: Path, project: str) -> Path:
    """The files of a log.

    Raises:
        Failure: there is no log of this name.
        FileRefused: it is a link.
    """
    ledger = data / LEDGER_FOLDER
    names = sorted(logs_lying(data))
    if project not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise called_wrongly(
            f"{ledger} has no log {project!r}; {known}",
            hint="Name the log with --project and the data folder with --data.",
        )
    return ledger / project


def _write(log: Path, output: Path) -> "Packed":
    from indelible.ledger.audit.evidence import pack
    from indelible.ledger.tilestore import FolderTiles

    # For its owner alone: a log that is not public shows when how much was sent.
    with written(output) as file:
        return pack(FolderTiles(log), log.name, file)
