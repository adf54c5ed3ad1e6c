"""``indelible witness``: run a witness for other people's logs, and look at what it refused."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.clock import now_ms, rfc3339
from indelible.printable import plain
from indelible.voice import Format, Level

if TYPE_CHECKING:
    from indelible.ledger.format.note import LogKey
    from indelible.ledger.format.policy import Witness as Line
    from indelible.ledger.witness.store import Evidence

_DEFAULT_LISTEN = "127.0.0.1"
_DEFAULT_PORT = 8766
_DISK_HINT = "Check the free space and the rights of the folder, then start it again."

Folder = Annotated[
    Path,
    typer.Option(
        "--data", metavar="FOLDER", help="Folder of the witness: its key and its database."
    ),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        rich_markup_mode=None, help="Cosign the checkpoints of logs, if they continue each other."
    )
    group.command(
        "serve",
        epilog=options.examples(
            "indelible witness serve --data w1 --new w.example/w1 --policy shop.policy",
            "indelible witness serve --data w1 --log log.example/shop+2dd4226a+AQOhB7/…",
            "indelible witness serve --data w1 --policy shop.policy --log-format json",
        ),
    )(serve)
    group.command(
        "evidence",
        epilog=options.examples(
            "indelible witness evidence --data w1", "indelible witness evidence --data w1 --json"
        ),
    )(evidence)
    app.add_typer(group, name="witness")


def serve(
    data: Folder,
    new: Annotated[
        str | None,
        typer.Option(
            "--new",
            metavar="NAME",
            help="Make a new witness with a key of this name first, such as witness.example/w1.",
        ),
    ] = None,
    logs: Annotated[
        list[str] | None,
        typer.Option("--log", metavar="VKEY", help="Key of a log to cosign. Repeatable."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="Policy file whose `log` lines name logs to cosign."
        ),
    ] = None,
    listen: options.Listen = _DEFAULT_LISTEN,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 takes a free one."
        ),
    ] = _DEFAULT_PORT,
    log_format: Annotated[
        Format | None, typer.Option(options.LOG_FORMAT, help="Form of the log on stderr.")
    ] = None,
    log_level: Annotated[
        Level | None, typer.Option("--log-level", help="Least important lines of the log.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run a witness until it is told to stop, and show the line that names it in a policy.

    It cosigns a checkpoint only if it continues the last one that it cosigned, so its folder is its
    word: never copy it, never bring it back from a backup. A witness that has lost its database or
    its key is retired, and a new one is made in a new folder. With --log-format json every line is
    a JSON object, the first one has the policy line, and only --json writes to stdout.
    """
    keys = _log_keys(logs or [], policy)

    import uvloop

    from indelible import voice
    from indelible.clock import monotonic_s
    from indelible.ledger.format.policy import Witness as Line
    from indelible.ledger.witness.http import run
    from indelible.ledger.witness.rules import Witness
    from indelible.ledger.witness.store import read_key
    from indelible.serving import listening
    from indelible.settings import how_to_log

    form, level = how_to_log(os.environ)
    form, level = log_format or form, log_level or level
    with listening(
        listen or _DEFAULT_LISTEN, port
    ) as on:  # first: a start that fails makes no witness
        if new is not None:
            _make(data, new)
        cosigner = read_key(data)
        with _readable(data):
            witness = Witness(data, keys, cosigner, now_ms)
        voice.configure(form, level)

        def announce(url: str) -> None:
            line = Line(cosigner.key.name, cosigner.key, url)
            _announce(line, keys, data, form, as_json=as_json)

        try:
            signalled, ending = uvloop.run(run(witness, on=on, announce=announce))
        finally:
            witness.close()
    voice.stopped(
        why=signalled.by,
        took_s=monotonic_s() - signalled.at_s,
        finished=ending.finished,
        cut_off=ending.cut_off,
    )


def _make(folder: Path, name: str) -> None:
    from indelible.errors import KeyMalformed
    from indelible.ledger.witness.store import create

    try:
        with _readable(folder):
            create(folder, name)
    except KeyMalformed as error:
        raise called_wrongly(error.message, hint="--new witness.example/w1") from None


def evidence(data: Folder, as_json: options.Json = False) -> int:
    """List the requests that a log had signed and that this witness refused, oldest first.

    With --json each one is there whole, beside what the witness had cosigned by then: two signed
    notes that anybody can compare. Works while the witness runs.
    """
    from indelible.ledger.witness.store import read_evidence

    with _readable(data):
        found, left_out = read_evidence(data)
    if as_json:
        screen.emit({"evidence": [_whole(one) for one in found], "left_out": left_out})
        return ExitCode.FINE
    screen.table(
        ("AT", "ORIGIN", "REASON", "SIZE", "COSIGNED"),
        [
            (
                rfc3339(one.at_ms),
                one.origin,
                one.reason.value,
                str(one.size),
                "nothing" if one.seen_size is None else str(one.seen_size),
            )
            for one in found
        ],
    )
    if left_out:
        screen.note((f"{left_out} more were counted and not kept", screen.DIM))
    return ExitCode.FINE


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """
    Raises:
        Failure: the disk does not let the database be used; the witness itself may be sound.
    """
    from indelible.connections import SqliteError

    try:
        yield
    except SqliteError as error:
        message = f"The database of the witness in {folder} cannot be used: {error}"
        raise Failure("io_failed", message, hint=_DISK_HINT, exit_code=ExitCode.BROKEN) from error


def _log_keys(vkeys: list[str], policy: Path | None) -> "list[LogKey]":
    from indelible.cli.verify import read_policy
    from indelible.errors import KeyMalformed
    from indelible.ledger.format.note import LogKey

    try:
        keys = [LogKey.parse(vkey) for vkey in vkeys]
    except KeyMalformed as error:
        raise called_wrongly(
            error.message, hint="A log serves its key at /ledger/<log>/policy."
        ) from None
    if policy is not None:
        keys += [log.key for log in read_policy(policy).logs]
    if not keys:
        raise called_wrongly(
            "A witness needs to know the key of a log",
            hint="Name one with --log VKEY, or a policy that has `log` lines with --policy FILE.",
        )
    return keys


def _announce(
    line: "Line", keys: "list[LogKey]", data: Path, log_format: Format, *, as_json: bool
) -> None:
    from indelible import __version__, voice
    from indelible.ledger.format.policy import Policy

    text = Policy(witnesses=(line,)).text.splitlines()[0]
    voice.witnessing(
        version=__version__,
        name=line.name,
        url=str(line.url),
        data_dir=str(data.resolve()),
        line=text,
        logs=len({key.name for key in keys}),
    )
    if as_json:
        facts = {
            "url": line.url,
            "name": line.name,
            "vkey": line.key.text,
            "policy_line": text,
            "logs": [key.name for key in keys],
        }
        voice.show(screen.document(facts))
    elif log_format is Format.TEXT:
        shown = [f"witness  {line.name}", f"address  {line.url}"]
        shown += [f"cosigns  {plain(key.name)}" for key in keys]
        voice.show("\n".join([*shown, "The line for a policy:", text]))


def _whole(one: "Evidence") -> dict[str, Any]:
    return {
        "at": rfc3339(one.at_ms),
        "origin": one.origin,
        "reason": one.reason.value,
        "size": one.size,
        "cosigned_size": one.seen_size,
        "request": one.body,
        "cosigned": one.seen,
    }
