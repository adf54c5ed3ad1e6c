"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
