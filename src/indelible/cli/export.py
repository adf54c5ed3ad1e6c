"""``indelible export``: the log, or what a filter finds in it, as NDJSON or CSV.

The whole log comes in one stream. Where only some events are asked for, the indexes say nothing of
what is missing, and a server that finds nothing for a while sends nothing. So those come by ranges
of indexes, a stream each, which ends well or is an error.
"""

import errno
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO, Annotated, Any, Final
from urllib.parse import quote

import typer

from indelible.cli import options, screen
from indelible.cli.failure import INTERRUPTED, ExitCode, called_wrongly
from indelible.cli.filters import Filter, checked
from indelible.cli.invocation import how_to_send
from indelible.cli.output import written
from indelible.cli.server import MOST_ANSWER_BYTES, Parameter, Server, reach
from indelible.cli.times import moment_ms

_RANGE: Final = 200_000
"""Indexes that are searched by one request: some seconds, where nothing is found."""
_IDS_A_PAGE: Final = 1_000


class Format(StrEnum):
    """How the events are written."""

    NDJSON = "ndjson"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible export | gzip > events.ndjson.gz",
            "indelible export --output events.ndjson --start 1000 --end 2000",
            "indelible export --person user_42 --output user_42.ndjson",
            "indelible export --since 7d --filter 'event = \"purchase\"' --format csv -o week.csv",
        )
    )(export)


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
    filter_: Filter = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Received since: 30m, 1h, 7d ago, or a time in UTC."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Received before this time, written alike."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", metavar="FORMAT", help="ndjson or csv.")
    ] = Format.NDJSON,
    start: Annotated[int, typer.Option("--start", metavar="INDEX", min=0, help="First index.")] = 0,
    end: Annotated[
        int | None,
        typer.Option("--end", metavar="INDEX", min=0, help="Index to stop before."),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            "--person",
            metavar="ID",
            help="The person itself, on the first line, and its product events alone.",
        ),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(
            "--actor",
            metavar="ID",
            help="The audit events of this actor alone; with --person, these too.",
        ),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Write the log as NDJSON or CSV, an event a line.

    In log order, each event as it was sent, up to the last one that was stored when it began. With
    --person the first line, of kind `person`, has the properties and all ids. A
    stream that breaks off is an error, never a shorter export. A file named by --output is replaced
    when the new one is complete and synced. Ctrl-C ends with 130 and says how far it came.
    """
    if end is not None and end < start:
        raise called_wrongly(
            f"--end {end} is before --start {start}", hint="indelible export --help"
        )
    wanted: dict[str, Parameter] = {
        "filter": checked(filter_),
        "from": None if since is None else moment_ms("--since", since),
        "to": None if until is None else moment_ms("--until", until),
        "person": person,
        "actor": actor,
    }
    with reach(data) as server:
        there = server.newest_index(project) + 1
        first = None if person is None else _person(server, person, project)
        copy = _Copy(server, {**wanted, "project": project}, start, format_, first)
        try:
            if output is None:
                _run(copy, sys.stdout.buffer, end, there)
                sys.stdout.buffer.flush()
            else:
                # For its owner alone: what people sent is nobody else's business until the owner
                # says so.
                with written(output) as file:
                    _run(copy, file, end, there)
        except KeyboardInterrupt:
            came = f"interrupted before index {copy.position}, after {copy.events} events"
            screen.note(
                f"{came}; go on with --start {copy.position}"
                if output is None
                else f"{came}; nothing was written to {output}"
            )
            return INTERRUPTED
    if copy.events == 0:
        _say_nothing_there(copy, there, project, data)
    if output is not None:
        _say(copy, output, as_json=as_json)
    return ExitCode.FINE


class _Copy:
    """An export under way.

    Attributes:
        start: the first index asked for.
        position: everything before this index has been looked at.
        events, size_bytes: what has been written.
    """

    def __init__(
        self,
        server: Server,
        wanted: dict[str, Parameter],
        start: int,
        format_: Format,
        first: bytes | None = None,
    ) -> None:
        self._server = server
        self._wanted = wanted
        self._format = format_
        self._first = first
        self.start = self.position = start
        self.events = self.size_bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether every event is asked for."""
        return all(value is None for name, value in self._wanted.items() if name != "project")

    def begin(self, into: IO[bytes]) -> None:
        """Write what stands in front of the first event."""
        if self._format is Format.CSV:
            from indelible.query.table import COLUMNS, encode

            self._write(into, encode(COLUMNS))
        if self._first is not None:
            self._write(into, self._formatted(self._first))

    def whole(self, into: IO[bytes], end: int | None, least: int) -> None:
        """Copy every event, whose indexes leave no gap, at least up to the index `least`."""
        for index, line in self._lines(end):
            if index != self.position:
                raise self._server.bad_answer(f"did not send index {self.position}")
            self._write_event(into, line, index)
        if self.position < least:
            raise self._server.bad_answer(f"broke off before index {self.position} of {least}")

    def found(self, into: IO[bytes], end: int) -> None:
        """Copy the events that are found before the index `end`."""
        while self.position < end:
            behind = min(self.position + _RANGE, end)
            for index, line in self._lines(behind):
                if not self.position <= index < behind:
                    raise self._server.bad_answer(f"sent index {index} out of its place")
                self._write_event(into, line, index)
            self.position = behind

    def _lines(self, end: int | None) -> Iterator[tuple[int, bytes]]:
        bounds: dict[str, Parameter] = {"start": self.position, "end": end}
        with self._server.stream("/v1/export", **bounds, **self._wanted) as pieces:
            for line in _whole_lines(pieces):
                index = _index(line)
                if index is None:
                    raise self._server.bad_answer("sent a line that is no event")
                yield index, line

    def _write_event(self, into: IO[bytes], line: bytes, index: int) -> None:
        self._write(into, self._formatted(line))
        self.position = index + 1
        self.events += 1

    def _formatted(self, line: bytes) -> bytes:
        if self._format is Format.NDJSON:
            return line
        import msgspec

        from indelible.query.table import cells, encode

        try:
            return encode(cells(line))
        except msgspec.DecodeError:
            raise self._server.bad_answer("sent a line that is no event") from None

    def _write(self, into: IO[bytes], line: bytes) -> None:
        into.write(line)
        self.size_bytes += len(line)


def _person(server: Server, who: str, project: str | None) -> bytes:
    """The line of a person: who it is, its properties, and all of its ids."""
    import msgspec

    path = f"/v1/persons/{quote(who, safe='')}"
    person = server.get(path, project=project)
    ids = list(server.pages(f"{path}/ids", "ids", limit=_IDS_A_PAGE, project=project))
    shown = {**person, "kind": "person", "ids": ids}
    return msgspec.json.encode({name: shown[name] for name in ("kind", *person)}) + b"\n"


def _run(copy: _Copy, into: IO[bytes], end: int | None, there: int) -> None:
    from indelible.journal.contract import LARGEST_INDEX

    copy.begin(into)
    if copy.start > LARGEST_INDEX:
        return
    if copy.is_whole:
        bound = None if end is None else min(end, LARGEST_INDEX)
        copy.whole(into, bound, there if end is None else min(end, there))
    else:
        copy.found(into, there if end is None else min(end, there))


def _say_nothing_there(copy: _Copy, there: int, project: str | None, data: Path | None) -> None:
    if not there:
        screen.note(how_to_send(project=project, data=data))
    elif copy.start < there and not copy.is_whole:
        screen.note("no event matches")
    else:
        screen.note(f"no events from index {copy.start} on; the log has {there}")


def _say(copy: _Copy, output: Path, *, as_json: bool) -> None:
    if as_json:
        screen.emit(
            {
                "output": str(output),
                "events": copy.events,
                "start": copy.start,
                "end": copy.position,
                "size_bytes": copy.size_bytes,
            }
        )
        return
    searched = "" if copy.is_whole else "found in "
    indexes = f"   ({searched}index {copy.start} to {copy.position - 1})"
    screen.facts(
        [
            ("file", str(output)),
            ("events", f"{copy.events}{indexes if copy.position > copy.start else ''}"),
            ("size", screen.size(copy.size_bytes)),
        ]
    )


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
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
