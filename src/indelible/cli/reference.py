"""docs/reference/commands.md, made from the commands themselves. Pure: an app in, text out."""

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from indelible.cli.failure import CODES


def reference(app: typer.Typer) -> str:
    """The whole page, in Markdown."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    lines = ["# Commands", "", "<!-- Made from the code: `make docs`. -->", "", _prose(root.help)]
    for name, command in _leaves(root, "indelible"):
        lines += ["", *_section(name, command)]
    lines += [
        "",
        "## Codes of the command line",
        "",
        "Besides the codes of [errors.md](errors.md), which servers answer:",
        "",
        "| code | meaning |",
        "| --- | --- |",
        *(f"| `{code}` | {meaning} |" for code, meaning in CODES.items()),
    ]
    return "\n".join(lines) + "\n"


def _leaves(group: TyperGroup, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([name, *(str(a.metavar) for a in arguments), "[OPTIONS]"])
    lines = [f"## `{name}`", "", f"    {usage}", "", _prose(command.help)]
    rows = [(f"`{a.metavar}`", a.help) for a in arguments]
    rows += [(_option(o), o.help + _default(o)) for o in options]
    lines += ["", "| argument, option | meaning |", "| --- | --- |"]
    lines += [f"| {left.replace('|', '&#124;')} | {right} |" for left, right in rows]
    if command.epilog:
        shown = re.sub(r"^\x08\nExamples:\n", "", command.epilog)
        lines += ["", "```sh", *(line.strip() for line in shown.splitlines()), "```"]
    return lines


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return f"`{names}`" if option.is_flag else f"`{names} {option.metavar}`"


def _default(option: Any) -> str:
    value = getattr(option.default, "value", option.default)
    if option.is_flag or value in (None, "", (), []):
        return ""
    return f" Default: {value}."


def _prose(help_text: str | None) -> str:
    return (help_text or "").replace("\f", "").strip()
