"""``indelible restore``: put a backup of the journal in place of the one that was lost."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from indelible.cli import options, screen
from indelible.cli.backup import copy
from indelible.cli.failure import ExitCode, Failure
from indelible.cli.invocation import as_typed
from indelible.cli.server import data_folder
from indelible.durable import keep_folder, sync_folder
from indelible.layout import JOURNAL_FILE

_BESIDE: Final = ("-wal", "-shm")
_WORKSPACE: Final = ".restore-"


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible restore /backups/journal-monday.db",
            "indelible restore /backups/journal-monday.db --data /srv/events --new-log",
        )
    )(restore)


def restore(
    backup: Annotated[
        Path, typer.Argument(metavar="BACKUP", help="A file that `indelible backup` made.")
    ],
    new_log: Annotated[
        bool,
        typer.Option(
            "--new-log",
            help="Freeze every log that was signed further than the backup reaches, and open a "
            "successor with a new origin and key.",
        ),
    ] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Put a backup in the place of a data folder's journal.

    No server may run on the folder. What the folder holds besides stays: keys, lock and ledger. A
    backup that has fewer events than a signed checkpoint covers is refused, since going on from it
    would sign a second history; with --new-log that log is frozen at its last checkpoint and a
    successor takes its place. Receipts given out before keep their worth. Erasures that the
    replaced journal knows of are made again. The journal that was there is kept beside it, under
    another name.
    """
    from indelible.clock import now_ms
    from indelible.folder import hold
    from indelible.ledger.restore import prepare, retire_keys

    folder = data_folder(data)
    if not backup.is_file():
        raise Failure(
            "no_journal",
            f"{backup} is not there",
            hint="Name a file that `indelible backup` made.",
            exit_code=ExitCode.CALLED_WRONGLY,
        )
    keep_folder(folder, mode=0o700)
    kept: Path | None = None
    # The folder is of the same file system, so the journal can be renamed into its place.
    with hold(folder), _workspace(folder) as work:
        target, draft = folder / JOURNAL_FILE, work / JOURNAL_FILE
        copy(backup, draft)
        before = target if target.exists() else _put_aside_before(folder)
        done = prepare(draft, folder, new_log=new_log, before=before, clock=now_ms)
        if before == target:
            kept = _put_aside(before)
            # Or the WAL that stays could be taken for the new journal's, and mixed into it.
            sync_folder(folder)
        # power lost here: there is no journal, and the same command takes the one put aside for it
        draft.replace(target)
        sync_folder(folder)
        # power lost here: the frozen logs' keys are still there, and the journal asks for none
        retire_keys(folder, done)
    if done.unread is not None:
        screen.note(
            f"Not all erasures of the journal that was replaced are known ({done.unread}): erase "
            "again what must be gone, and set its legal holds again."
        )
    if as_json:
        screen.emit(
            {
                "journal": str(target),
                "kept": None if kept is None else str(kept),
                "erased_again": done.erased,
                "erasures_unread": done.unread,
                "logs": [
                    {
                        "frozen": one.frozen,
                        "successor": one.successor,
                        "kept": one.kept,
                        "signed": one.signed,
                    }
                    for one in done.successions
                ],
            }
        )
        return ExitCode.FINE
    rows: list[tuple[str, str | list[screen.Part]]] = [("journal", str(target))]
    if kept is not None:
        rows.append(("before", str(kept)))
    for one in done.successions:
        signed = "unknown" if one.signed is None else f"{one.signed:,}"
        rows.append(
            (
                "log",
                f"{one.frozen} is frozen at {signed} events; {one.successor} follows it from the "
                f"{one.kept:,} of the backup",
            )
        )
    if not done.successions:
        rows.append(("logs", "every signed checkpoint fits; they go on as they were"))
    if done.erased:
        rows.append(("erased", f"{done.erased:,} events, once more"))
    rows.append(("next", as_typed("serve", data=data)))
    screen.facts(rows)
    return ExitCode.FINE


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """A folder for the draft; what a restore that was killed has left of its own goes first."""
    for left in folder.glob(f"{_WORKSPACE}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_WORKSPACE, dir=folder) as work:
        yield Path(work)


def _put_aside_before(folder: Path) -> Path | None:
    """The journal that a restore put aside last, when it got no further."""
    kept = folder.glob(f"{JOURNAL_FILE}.before-*")
    return max((one for one in kept if not one.name.endswith(_BESIDE)), default=None)


def _put_aside(journal: Path) -> Path:
    """Keep the replaced journal under a name that says when."""
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = journal.with_name(f"{JOURNAL_FILE}.before-{at}")
    for end in ("", *_BESIDE):
        file = journal.with_name(journal.name + end)
        if file.exists():
            file.rename(kept.with_name(kept.name + end))
    return kept
