"""``indelible spool``: what clients on this machine keep on disk, and what no server took."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.client import aside

Folder = Annotated[
    Path | None,
    typer.Option(
        "--spool",
        metavar="FOLDER",
        help="Folder of the spools; else INDELIBLE_SPOOL_DIR, else this user's own.",
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Names as `indelible spool list` shows them; else all."),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        rich_markup_mode=None, help="What clients here keep on disk, and what no server took."
    )
    group.command(
        "list",
        epilog=options.examples(
            "indelible spool list", "indelible spool list --spool /var/lib/shop/spool --json"
        ),
    )(list_spool)
    group.command("resend", epilog=options.examples("indelible spool resend"))(resend)
    group.command("drop", epilog=options.examples("indelible spool drop --yes"))(drop)
    app.add_typer(group, name="spool")


def list_spool(folder: Folder = None, as_json: options.Json = False) -> int:
    """Show what waits to be sent, and what was refused.

    What waits is sent by the next process that uses the spool. What a server refused is not:
    `resend` gives it back once the cause is gone, such as a key that was revoked.
    """
    base, spools = _spools(folder)
    if as_json:
        document = {"folder": str(base), "spools": [_body(state) for state in spools]}
        screen.raw(json.dumps(document).encode())
        return ExitCode.FINE
    if not spools:
        screen.line(f"no spool in {base}: nothing waits, and nothing was refused")
    for place, state in enumerate(spools):
        if place:
            screen.line()
        _show(state)
    return ExitCode.FINE


def resend(files: Files = None, folder: Folder = None, as_json: options.Json = False) -> int:
    """Give refused events back to the spool, to be sent again.

    A client that uses the spool takes them within half a minute, or as soon as one starts. Events
    that a server has already are stored once. Damaged files stay: all that can be read of them
    was sent.
    """
    _, spools = _spools(folder)
    chosen = _chosen(spools, files)
    events = count = 0
    for state, refused in chosen:
        whole = [file for file in refused if not file.damaged]
        if whole:
            events += aside.resend(state, whole)
            count += len(whole)
    return _done("resent", "to be sent again", count, events, as_json=as_json)


def drop(
    files: Files = None,
    folder: Folder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> int:
    """Delete refused events for good; what waits is not touched."""
    _, spools = _spools(folder)
    chosen = [file for _, refused in _chosen(spools, files) for file in refused]
    events = sum(file.events for file in chosen)
    if chosen and not yes:
        _confirm(events, len(chosen))
    aside.drop(chosen)
    return _done("dropped", "deleted", len(chosen), events, as_json=as_json)


def _spools(folder: Path | None) -> tuple[Path, list[aside.State]]:
    try:
        base = folder or aside.default_folder()
    except RuntimeError:
        raise Failure(
            "io_failed",
            "This user has no home, so no spool",
            hint="Name the folder with --spool.",
            exit_code=ExitCode.BROKEN,
        ) from None
    if folder is not None and not folder.is_dir():
        raise called_wrongly(f"{folder} is no folder", hint="indelible spool list")
    return base, aside.spools_in(base)


def _chosen(
    spools: list[aside.State], names: list[str] | None
) -> list[tuple[aside.State, list[aside.Refused]]]:
    """The files of these names, or all, with the spool of each.

    Raises:
        Failure: there is no file of a name.
    """
    known = {file.name for state in spools for file in state.refused}
    for name in names or []:
        if name not in known:
            raise called_wrongly(f"No refused file is named {name!r}", hint="indelible spool list")
    return [
        (state, [file for file in state.refused if not names or file.name in names])
        for state in spools
    ]


def _show(state: aside.State) -> None:
    waiting = f"{_counted(state.waiting_files, 'file')}, {screen.size(state.waiting_bytes)}"
    events = sum(file.events for file in state.refused)
    size = screen.size(sum(file.size_bytes for file in state.refused))
    refused = f"{_counted(events, 'event')} in {_counted(len(state.refused), 'file')}, {size}"
    screen.facts(
        [
            ("spool", str(state.folder)),
            ("waiting", waiting if state.waiting_files else "nothing"),
            ("refused", refused if state.refused else "nothing"),
        ]
    )
    for file in state.refused:
        names = ", ".join(f"{name} ({count})" for name, count in file.names.most_common(3))
        more = len(file.names) - 3
        damaged = " (damaged)" if file.damaged else ""
        screen.line(
            f"  {_time(file.at_ms)}  {names or 'no event that can be read'}",
            f" and {more} more" if more > 0 else "",
            damaged,
        )
        screen.line((f"    {file.name}", screen.DIM))


def _body(state: aside.State) -> dict[str, Any]:
    return {
        "folder": str(state.folder),
        "waiting": {"files": state.waiting_files, "bytes": state.waiting_bytes},
        "refused": [
            {
                "file": file.name,
                "captured_at": _time(file.at_ms),
                "events": file.events,
                "bytes": file.size_bytes,
                "names": dict(file.names),
                "damaged": file.damaged,
            }
            for file in state.refused
        ],
    }


def _done(word: str, what: str, files: int, events: int, *, as_json: bool) -> int:
    if as_json:
        screen.raw(json.dumps({word: {"files": files, "events": events}}).encode())
    elif not files:
        screen.line(f"nothing {what}")
    else:
        screen.line(f"{_counted(events, 'event')} in {_counted(files, 'file')} {what}")
    return ExitCode.FINE


def _confirm(events: int, files: int) -> None:
    """
    Raises:
        Failure: the answer was no, or this is no interactive session.
    """
    what = f"{_counted(events, 'event')} in {_counted(files, 'file')}"
    if not sys.stdin.isatty():
        raise called_wrongly(
            f"This would delete {what}, for good", hint="indelible spool drop --yes"
        )
    screen.note(f"This deletes {what}, for good. Type yes to go on: ")
    if sys.stdin.readline().strip() != "yes":
        raise called_wrongly("Nothing was deleted", hint="Type yes, or call it with --yes.")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _time(at_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError):  # a name that somebody made up
        return "at no known time"
