"""``indelible tail``: the last events, and those that follow.

It follows the log: nothing is left out, and it can begin anywhere. With ``--live`` it shows what
happens instead, as the debug stream tells it: refusals as well, which are in no log, but no more
than the server remembers, with a gap where that is not enough.
"""

import select
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, Failure, called_wrongly
from indelible.cli.filters import Filter, checked
from indelible.cli.invocation import how_to_send
from indelible.cli.server import Parameter, Server, reach
from indelible.cli.shape import Event, name_of, short_content
from indelible.cli.stream import followed
from indelible.event import Kind
from indelible.printable import plain

_EVERY_S: Final = 0.4
_PAGE: Final = 200
_MOST_BACK: Final = 100_000  # entries: a filter that matches nothing must end some time

_CELLS_WITH_IDS: Final = 120  # of a terminal; else the content has no room

_KINDS: Final = tuple(kind.word for kind in Kind)
_KIND_STYLES: Final = {"product": "cyan", "audit": "magenta"}

_LIVE_KINDS: Final = ("event", "reject", "forwarding")
_RESULTS: Final = ("ok", "warning", "drop", "refused")
_MOST_RECENT: Final = 1_000
_GAPS: Final = {
    "slow": "more came than was read",
    "restarted": "the server was restarted",
    "expired": "the server remembers no more",
    "unknown_id": "the server does not know this place",
    "notices": "refused faster than it can be told",
}

Filters = dict[str, str | None]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible tail",
            "indelible tail -n 100 --no-follow --event purchase_completed",
            "indelible tail --kind audit --json | jq .meta",
            "indelible tail --filter 'event = \"purchase\" and properties.amount >= 100'",
            "indelible tail --live --result drop",
        )
    )(tail)


def tail(
    lines: Annotated[
        int,
        typer.Option(
            "-n", "--lines", metavar="N", min=0, max=10_000, help="How many to begin with."
        ),
    ] = 10,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with events as they are stored.")
    ] = True,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="product, audit, erasure, administration or loss; with --live also event, reject "
            "or forwarding.",
        ),
    ] = None,
    event: Annotated[
        str | None, typer.Option("--event", metavar="NAME", help="Events of this name.")
    ] = None,
    distinct_id: Annotated[
        str | None, typer.Option("--distinct-id", metavar="ID", help="Events of this person.")
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="By meta.type, as of audit events.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="NAME", help="By meta.service.")
    ] = None,
    env: Annotated[str | None, typer.Option("--env", metavar="NAME", help="By meta.env.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="By meta.request_id.")
    ] = None,
    trace_id: Annotated[
        str | None, typer.Option("--trace-id", metavar="ID", help="By meta.trace_id.")
    ] = None,
    trail: Annotated[
        str | None, typer.Option("--trail", metavar="KEY", help="By meta.immutable_trail.")
    ] = None,
    filter_: Filter = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Show what happens, refused requests and dropped events too."),
    ] = False,
    result: Annotated[
        str | None,
        typer.Option(
            "--result", metavar="RESULT", help="With --live: ok, warning, drop or refused."
        ),
    ] = None,
    project: options.Project = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> int:
    """Show the last events, then new ones as they are stored.

    Oldest first. A line has the index, the time of receipt (UTC), the kind, the name, the
    transaction id (not on a terminal of less than 120 columns) and the beginning of the content.
    With --live, what was refused has no index; in place of kind and name are its result and reason.
    Ctrl-C ends it.
    """
    _check("--kind", kind, (*_KINDS, *_LIVE_KINDS) if live else _KINDS)
    _check("--result", result, _RESULTS)
    if result is not None and not live:
        raise called_wrongly("--result needs --live", hint="The log has only what was stored.")
    filters: Filters = {
        "kind": kind,
        "event_name": event,
        "distinct_id": distinct_id,
        "type": type_,
        "service": service,
        "env": env,
        "request_id": request_id,
        "trace_id": trace_id,
        "immutable_trail": trail,
        "filter": checked(filter_),
        "project": project,
    }
    show = _Json() if as_json else Lines()
    if live:
        _check_for_live(filters)
        wanted: dict[str, Parameter] = {
            "kind": kind,
            "result": result,
            "event": event,
            "distinct_id": distinct_id,
            "filter": filters["filter"],
            "project": project,
            "recent": min(lines, _MOST_RECENT),
            "seconds": None if follow else 0,
        }
        return _live(data, wanted, show)
    try:
        with reach(data) as server:
            newest = server.newest_index(project)
            last = _last(server, filters, newest, lines)
            for each in last:
                show(each)
            if not last and lines:
                _say_nothing_there(newest, project, data)
            if follow:
                _follow(server, filters, newest, show)
    except KeyboardInterrupt:
        return ExitCode.FINE
    return ExitCode.FINE


def _check(option: str, given: str | None, known: Sequence[str]) -> None:
    if given is not None and given not in known:
        what = option.removeprefix("--")
        raise called_wrongly(f"{option} {given}: no such {what}", hint=f"one of {', '.join(known)}")


def _check_for_live(filters: Filters) -> None:
    """Refuse what the stream cannot choose by."""
    for name in ("type", "service", "env", "request_id", "trace_id", "immutable_trail"):
        if filters[name] is not None:
            raise called_wrongly(
                f"--live does not choose by {name}", hint=f"--filter 'meta.{name} = \"…\"'"
            )


def _live(data: Path | None, wanted: dict[str, Parameter], show: "_Json | Lines") -> int:
    try:
        with reach(data) as server:
            for message in followed(server, **wanted):
                show.tell(message)
                if _reader_is_gone():
                    raise BrokenPipeError
    except KeyboardInterrupt:
        pass
    return ExitCode.FINE


def _last(server: Server, filters: Filters, newest: int, count: int) -> list[Event]:
    """The last `count` matching events up to the index `newest`, oldest first."""
    found: list[Event] = []
    cursor: str | None = None
    position = newest + 1
    # A page may be short, or empty, and not be the last: only `next` says that there is no more.
    while len(found) < count and 0 < position and newest - position < _MOST_BACK:
        page = server.get("/v1/events", limit=min(count, _PAGE), cursor=cursor, **filters)
        # What was stored since is left to `_follow`.
        found += [event for event in page["events"] if event["index"] <= newest]
        cursor, position = page["next"], page["position"]
        if cursor is None:
            break
    return found[:count][::-1]


def _follow(server: Server, filters: Filters, after: int, show: "_Json | Lines") -> None:
    """Show what comes behind the index `after`, until nobody reads any more."""
    for page in _pages(server, filters, after):
        for event in page["events"]:
            show(event)
        if _reader_is_gone():
            raise BrokenPipeError


def _pages(server: Server, filters: Filters, after: int) -> Iterator[dict[str, Any]]:
    is_away = False
    while True:
        try:
            page = server.get("/v1/events", order="oldest", after=after, limit=_PAGE, **filters)
        except Failure as failure:
            if failure.exit_code is not ExitCode.BROKEN:
                raise
            # A restart is no reason to end: the log goes on where it was.
            if not is_away:
                screen.note((f"{failure.code}: {failure.message}; waiting for it", screen.UNSURE))
            is_away = True
            time.sleep(1.0)
            continue
        if is_away:
            screen.note((f"{server.access.url} answers again", screen.GOOD))
        is_away = False
        yield page
        after = max(after, page["position"] - 1)
        if page["next"] is None:
            time.sleep(_EVERY_S)


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe that nobody reads: else only the next event would tell."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    return any(what & select.POLLERR for _, what in watch.poll(0))


def _say_nothing_there(newest: int, project: str | None, data: Path | None) -> None:
    if newest < 0:
        screen.note(how_to_send(project=project, data=data))
    else:
        screen.note("none of the last entries matches")


class _Json:
    """An event as it was answered, a line each."""

    def __call__(self, event: Event) -> None:
        screen.emit(event)

    def tell(self, message: Event) -> None:
        screen.emit(message)


class Lines:
    """An event a line.

    On a terminal the time is short and the day stands above its events, and a narrow one has no
    room for ids; into a pipe every line has the whole of both, so that lines can be taken apart.
    """

    def __init__(self) -> None:
        self._on_terminal = screen.on_terminal()
        self._day = ""

    def __call__(self, event: Event) -> None:
        kind = event["kind"]
        content = short_content(event)
        if isinstance(cut := event.get("cut"), dict):
            content = f"({cut.get('bytes')} bytes) {cut.get('begins')}"
        self._show(
            str(event["index"]),
            event["received_at"],
            (kind, _KIND_STYLES.get(kind, screen.UNSURE)),
            name_of(event),
            content,
            tx_id=event["tx_id"],
        )

    def tell(self, message: Event) -> None:
        """Show a message of the stream."""
        match message["kind"]:
            case "event":
                self(message["event"])
            case "gap":
                missed, why = message.get("missed"), str(message.get("reason"))
                left_out = "some were" if missed is None else f"{missed:,} {_were(missed)}"
                screen.line((f"     -  {left_out} left out ({_GAPS.get(why, why)})", screen.BAD))
                sys.stdout.flush()
            case "reject":
                count, path = message.get("count"), message.get("path")
                times = f"{count:,} times, " if isinstance(count, int) and count > 1 else ""
                content = f"{times}{path}  {message.get('excerpt')}"
                result = (str(message.get("result")), screen.BAD)
                self._show("-", str(message["at"]), result, str(message.get("reason")), content)
            case kind:
                content = f"{message.get('destination', '')} of {message.get('index', '')}"
                state = str(message.get("state", ""))
                self._show("-", str(message["at"]), (kind, screen.UNSURE), state, content)

    def _show(
        self,
        index: str,
        at: str,
        styled_kind: tuple[str, str],
        name: str,
        content: str,
        *,
        tx_id: str = "",
    ) -> None:
        from rich.cells import cell_len, set_cell_size

        cells = screen.terminal_width()
        if self._on_terminal:
            if at[:10] != self._day:
                self._day = at[:10]
                screen.line((f"{self._day} UTC", screen.DIM))
            at = at[11:19]
        kind, style = styled_kind
        head = f"{index:>6}  {at}  "
        # A long kind takes its room from the name, so that what follows stays below each other.
        name = _filled(plain(name), 18 - max(len(kind) - 7, 0))
        head_cells = len(head) + max(len(kind), 7) + 2 + cell_len(name) + 2
        room = cells - head_cells
        if cells < _CELLS_WITH_IDS:
            tx_id = ""
        if tx_id:
            room -= len(tx_id) + 2
        content = plain(content)
        if cell_len(content) > room:
            content = f"{set_cell_size(content, room - 1).rstrip()}…" if room > 8 else ""
        screen.line(
            (head, screen.DIM),
            (f"{kind:<7}", style),
            "  ",
            (name, screen.STRONG),
            f"  {tx_id}" if tx_id else "",
            "  " if content else "",
            (content, screen.DIM),
        )
        sys.stdout.flush()


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _filled(text: str, cells: int) -> str:
    """`text` with spaces behind it, `cells` wide on a terminal; no shorter than it is."""
    from rich.cells import cell_len

    return text + " " * max(cells - cell_len(text), 0)
