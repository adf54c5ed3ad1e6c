"""``indelible backup``: a copy of the journal, taken while it is written."""

import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure
from indelible.cli.server import data_folder
from indelible.durable import sync_folder
from indelible.errors import AlreadyExists
from indelible.layout import JOURNAL_FILE
from indelible.registry.values import SERVER_NAME

if TYPE_CHECKING:
    from indelible.connections import SqliteError
    from indelible.journal.copying import Progress

_FEW_PAGES: Final = 16_384


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible backup /backups/journal-monday.db",
            "indelible backup /backups/",
            "indelible backup /backups/ --data /srv/events --json",
        )
    )(backup)


def backup(
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DEST",
            help="File to make; in a folder it is named journal-<time>.db.",
        ),
    ],
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Copy the journal, whether a server runs or not.

    The copy is of one moment: every event that was acknowledged before, projects and hashed keys.
    It is checked, synced, and only then gets its name; an existing file is never overwritten.
    Signing keys, cli.json and locks are never copied. Keep it as private as the journal: it holds
    what was sent. To open it, put it as journal.db into an empty data folder.
    """
    source = data_folder(data) / JOURNAL_FILE
    target = _target(destination)
    if not source.is_file():
        raise Failure(
            "no_journal",
            f"{source} is not there",
            hint="Name the data folder with --data.",
            exit_code=ExitCode.BROKEN,
        )
    started = time.monotonic()
    held = copy(source, target, progress=_show_progress)
    held |= {"took_ms": round((time.monotonic() - started) * 1000)}
    if as_json:
        screen.emit(held)
    else:
        _show(held)
    return ExitCode.FINE


def copy(source: Path, target: Path, *, progress: "Progress | None" = None) -> dict[str, Any]:
    """Copy the journal at `source` to `target`; what the copy holds.

    Raises:
        AlreadyExists: `target` is there.
        JournalNewer: a later version wrote the journal.
        Failure: it cannot be read or written, or does not pass the checks. Nothing is left behind.
    """
    from indelible.connections import SqliteError
    from indelible.journal.copying import copy_journal

    if target.exists():
        raise AlreadyExists(f"{target} is there already")
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            copied = copy_journal(source, draft, progress=progress)
        except SqliteError as error:
            raise _damaged(f"{source} cannot be copied: {error}", error) from error
        if copied.complaints:
            raise _damaged(f"{source}: {'; '.join(copied.complaints)}")
        _sync(draft)
        try:
            # A link, unlike a rename, never replaces what another process put there meanwhile.
            os.link(draft, target)
        except FileExistsError:
            raise AlreadyExists(f"{target} is there already") from None
        sync_folder(target.parent)
    finally:
        for leftover in (draft, *(draft.with_name(draft.name + end) for end in _BESIDE)):
            with suppress(FileNotFoundError):
                leftover.unlink()
    return {
        "path": str(target.resolve()),
        "size_bytes": target.stat().st_size,
        "logs": [{"project": log.name, "entries": log.entries} for log in copied.logs],
        "schema_version": copied.schema_version,
        "keys": copied.keys,
    }


_BESIDE: Final = ("-journal", "-wal", "-shm")


def _damaged(message: str, error: "SqliteError | None" = None) -> Failure:
    """A fault of the file is a check that failed; no space or no right to write is not."""
    from indelible.journal.outside import DAMAGED, RIGHTS_HINT

    if error is not None and not isinstance(error, DAMAGED):
        return Failure("io_failed", message, hint=RIGHTS_HINT, exit_code=ExitCode.BROKEN)
    return Failure(
        "journal_damaged",
        message,
        hint="Keep the folder as it is and look closer with `indelible doctor --full`.",
        exit_code=ExitCode.CHECK_FAILED,
    )


def _target(destination: Path) -> Path:
    if destination.is_dir():
        return destination / f"journal-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    if not destination.parent.is_dir():
        raise Failure(
            "io_failed",
            f"There is no folder {destination.parent}",
            hint="Make it first.",
            exit_code=ExitCode.BROKEN,
        )
    return destination


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _show_progress(done: int, pages: int) -> None:
    if pages > _FEW_PAGES and sys.stderr.isatty():
        end = "\n" if done == pages else ""
        print(f"\r{100 * done // pages:3d} % copied", end=end, file=sys.stderr, flush=True)


def _show(held: dict[str, Any]) -> None:
    rows: list[tuple[str, str | list[screen.Part]]] = [
        ("backup", [(held["path"], screen.STRONG)]),
        ("size", screen.size(held["size_bytes"])),
    ]
    for log in held["logs"]:
        entries = log["entries"]
        indexes = f", index 0 to {entries - 1}" if entries else ""
        said = f"{log['project']}: {entries:,} entries{indexes}"
        rows.append(("server" if log["project"] == SERVER_NAME else "project", said))
    rows += [
        ("keys", f"{held['keys']}, hashed"),
        ("checked", [("integrity and contiguous indexes", screen.GOOD)]),
        ("took", f"{held['took_ms'] / 1000:.1f} s"),
    ]
    screen.facts(rows)
