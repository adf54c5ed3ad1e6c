"""Options that several commands share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

LOG_FORMAT: Final = "--log-format"
LOG_FORMAT_VARIABLE: Final = "INDELIBLE_LOG_FORMAT"


def _is_named(address: str | None) -> str | None:
    if address == "":  # to the system it means every address of the machine
        raise typer.BadParameter("empty; 0.0.0.0 would listen on every address of this machine")
    return address


Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="ADDRESS", help="Address to listen on.", callback=_is_named),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Data folder of a server on this machine; else INDELIBLE_DATA_DIR, else ./data.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
Project = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="NAME", help="Which project, with an admin key; else `default`."
    ),
]


def logs_json(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether this command line runs a server whose every line is JSON, its last words too.

    It is looked at before it is parsed, since parsing may be what fails.
    """
    if arguments[:1] != ["serve"] and arguments[:2] != ["witness", "serve"]:
        return False
    joined = " ".join(arguments).replace(f"{LOG_FORMAT}=", f"{LOG_FORMAT} ")
    if f"{LOG_FORMAT} " in f"{joined} ":
        return f"{LOG_FORMAT} json " in f"{joined} "
    return environ.get(LOG_FORMAT_VARIABLE) == "json"


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
