"""``indelible export``: the log as NDJSON."""

import errno
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.cli.invocation import how_to_send
from indelible.cli.output import written
from indelible.cli.server import MOST_ANSWER_BYTES, Server, reach


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible export | gzip > events.ndjson.gz",
            "indelible export --output events.ndjson --start 1000 --end 2000",
        )
    )(export)


class Run(NamedTuple):
    """What was exported: indexes from `start` to before `end`."""

    start: int
    end: int
    size_bytes: int


def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file, which is there only once it is whole; else to stdout.",
        ),
    ] = None,
    start: Annotated[int, typer.Option("--start", metavar="INDEX", min=0, help="First index.")] = 0,
    end: Annotated[
        int | None,
        typer.Option("--end", metavar="INDEX", min=0, help="Index to stop before."),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Write the log as NDJSON, one event a line.

    In log order, each event as it was sent, up to the last one that was stored when it began. Every
    index is checked to be there: a stream that breaks off is an error, never a shorter export. A
    file named by --output is replaced when the new one is complete and synced.
    """
    if end is not None and end < start:
        raise called_wrongly(
            f"--end {end} is before --start {start}", hint="indelible export --help"
        )
    with reach(data) as server:
        there = server.newest_index(project) + 1
        least = there if end is None else min(end, there)
        if output is None:
            run = _copy(server, sys.stdout.buffer, start, end, least, project)
            sys.stdout.buffer.flush()
        else:
            run = _to_file(server, output, start, end, least, project)
    if run.start == run.end:
        screen.note(
            f"no events from index {start} on; the log has {there}"
            if there
            else how_to_send(project=project, data=data)
        )
    if output is not None:
        _say(run, output, as_json=as_json)
    return ExitCode.FINE


def _say(run: Run, output: Path, *, as_json: bool) -> None:
    events = run.end - run.start
    if as_json:
        screen.emit(
            {
                "output": str(output),
                "events": events,
                "start": run.start,
                "end": run.end,
                "size_bytes": run.size_bytes,
            }
        )
        return
    indexes = f"   (index {run.start} to {run.end - 1})" if events else ""
    screen.facts(
        [
            ("file", str(output)),
            ("events", f"{events}{indexes}"),
            ("size", screen.size(run.size_bytes)),
        ]
    )


def _to_file(
    server: Server, output: Path, start: int, end: int | None, least: int, project: str | None
) -> Run:
    # For its owner alone: what people sent is nobody else's business until the owner says so.
    with written(output) as file:
        return _copy(server, file, start, end, least, project)


def _copy(
    server: Server,
    into: IO[bytes],
    start: int,
    end: int | None,
    least: int,
    project: str | None,
) -> Run:
    """Copy the stream, whole lines at a time; it must reach at least the index `least`."""
    from indelible.journal.contract import LARGEST_INDEX

    if start > LARGEST_INDEX:
        return Run(start, start, 0)
    if end is not None:
        end = min(end, LARGEST_INDEX)
    following, size = start, 0
    with server.stream("/v1/export", start=start, end=end, project=project) as pieces:
        for line in _lines(pieces):
            if _index(line) != following:
                raise server.bad_answer(f"did not send index {following}")
            into.write(line)
            following, size = following + 1, size + len(line)
    if following < least:
        raise server.bad_answer(f"broke off before index {following} of {least}")
    return Run(start, following, size)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines; one that is cut short at the end is left out."""
    rest: list[bytes] = []
    size = 0
    for piece in pieces:
        *lines, last = piece.split(b"\n")
        for line in lines:
            yield b"".join((*rest, line, b"\n"))
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > MOST_ANSWER_BYTES:
            raise OSError(errno.EMSGSIZE, f"A line is longer than {MOST_ANSWER_BYTES:,} bytes")


def _index(line: bytes) -> int | None:
    import msgspec

    try:
        return int(_line_decoder().decode(line).index)
    except msgspec.DecodeError:
        return None


@cache
def _line_decoder() -> Any:
    """Reads an event's index and passes over the rest of its line."""
    import msgspec

    return msgspec.json.Decoder(msgspec.defstruct("Line", [("index", int)]))
