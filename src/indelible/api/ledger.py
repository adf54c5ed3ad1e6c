"""The ledger over HTTP: receipts, their checks, and the files of C2SP tlog-tiles."""

from collections.abc import Iterator
from typing import Annotated, Final

import anyio.to_thread
import msgspec
from litestar import Response, get
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from indelible.access import Scope
from indelible.api.events import NDJSON
from indelible.api.guard import (
    IS_PUBLIC,
    READ_REFUSALS,
    Connection,
    TheEvents,
    TheGate,
    TheJournal,
    TheLedger,
    TheProject,
    TheReading,
    TheRegistry,
    caller_of,
)
from indelible.edge.waiting import LONGEST_WAIT_S, Wish, wish_of
from indelible.errors import (
    InvalidApiKey,
    IpNotAllowed,
    NotFound,
    NotSealed,
    NotWitnessed,
    ReadScopeMissing,
    Tampered,
)
from indelible.event import tx_bytes, tx_text
from indelible.journal.contract import LARGEST_INDEX, Entry, JournalReader
from indelible.journal.pieces import pieces
from indelible.ledger.format.layout import NOTES
from indelible.ledger.format.verify import verify_receipt
from indelible.ledger.ledger import Ledger
from indelible.ledger.stored import entries
from indelible.query.events import PIECE_BYTES, Events
from indelible.registry.values import SERVER_ID, Project

TEXT: Final = "text/plain"  # sent with `; charset=utf-8` behind it
BYTES: Final = "application/octet-stream"

# A tile never changes; a note is replaced within seconds.
_FOR_EVER: Final = "max-age=31536000, immutable"
_BRIEFLY: Final = "max-age=2"

_RECEIPTS_AT_ONCE: Final = 100

_OPT: Final = {"refusals": (InvalidApiKey, ReadScopeMissing, IpNotAllowed, NotFound, Tampered)}

LogName = Annotated[str, PathParameter(description="The log: its project's name.")]
FilePath = Annotated[
    str,
    PathParameter(
        description="`checkpoint`, `witnessed`, `policy`, or the path of a tile or bundle."
    ),
]
TxId = Annotated[str, PathParameter(description="The event's transaction id, `tx_…`.")]
Wait = Annotated[
    str | None,
    QueryParameter(
        description="Wait until the event is `sealed` or `witnessed`.",
        schema_extra={"enum": ["sealed", "witnessed"]},
    ),
]
Timeout = Annotated[
    str | None,
    QueryParameter(
        description=f"How long to wait: `500ms`, `2s`; {LONGEST_WAIT_S:g} s at the most.",
        pattern=r"^[0-9]{1,5}(\.[0-9]{1,3})?(ms|s)?$",
    ),
]


class CheckView(msgspec.Struct):
    """One check of a receipt: its name, how it went, and what it compared."""

    name: str
    outcome: str
    sentence: str


class Checked(msgspec.Struct):
    """What the checks of a receipt say: `verified`, `tampered` or `unverifiable`."""

    verdict: str
    origin: str | None
    index: int | None
    size: int | None
    checks: list[CheckView]


class ReceiptLine(msgspec.Struct, omit_defaults=True):
    """A receipt in a bulk answer; `code` and `message` stand where there can be none, since the
    event or the log's tiles are not what was signed."""

    index: int
    tx_id: str | None
    receipt: str | None
    code: str | None = None
    message: str | None = None


@get(
    "/v1/events/{tx_id:str}/receipt",
    summary="Get a receipt",
    media_type=TEXT,
    response_description="The portable proof, `.tlog-proof`, with the opening.",
    opt={"refusals": (*READ_REFUSALS, NotSealed, NotWitnessed, Tampered)},
)
async def receipt(
    project_of: TheProject,
    events: TheEvents,
    ledger: TheLedger,
    tx_id: TxId,
    wait: Wait = None,
    timeout: Timeout = None,
) -> Response[str]:
    """The event's receipt, to keep: whoever has it and the log's policy checks it offline.

    The opening in it shows the payload and cannot be recalled. An event that was erased has a
    receipt of its leaf alone.
    """
    wish = wish_of(wait, timeout)
    text = await _receipt(project_of, events, ledger, tx_id, wish)
    headers = {"content-disposition": f'attachment; filename="{tx_id}.tlog-proof"'}
    return Response(text, media_type=TEXT, headers=headers)


@get(
    "/v1/events/{tx_id:str}/verify",
    summary="Check an event",
    response_description="Each check with what it compared.",
    opt={"refusals": (*READ_REFUSALS, NotSealed, NotWitnessed, Tampered)},
)
async def verify(
    project_of: TheProject,
    events: TheEvents,
    ledger: TheLedger,
    tx_id: TxId,
    wait: Wait = None,
    timeout: Timeout = None,
) -> Checked:
    """Makes the event's receipt and checks it as `indelible verify` does, under the policy that the
    log itself proposes. A server can claim anything of itself: check receipts elsewhere."""
    wish = wish_of(wait, timeout)
    text = await _receipt(project_of, events, ledger, tx_id, wish)
    log = ledger.logs.of_project(project_of.id)
    assert log is not None
    found = verify_receipt(text, ledger.logs.policy_of(log))
    return Checked(
        verdict=found.verdict,
        origin=found.origin,
        index=found.index,
        size=found.size,
        checks=[CheckView(step.name, step.outcome, step.sentence) for step in found.steps],
    )


async def _receipt(
    project: Project, events: Events, ledger: Ledger, tx_id: str, wish: Wish | None
) -> str:
    entry = await anyio.to_thread.run_sync(_entry, project, events, ledger, tx_id)
    level = None if wish is None else wish.level
    if wish is not None:
        await ledger.wait(project.id, entry.index, wish.level, timeout_s=wish.timeout_s)
    return await anyio.to_thread.run_sync(lambda: ledger.receipts.of(entry, level=level))


def _entry(project: Project, events: Events, ledger: Ledger, tx_id: str) -> Entry:
    """
    Raises:
        NotFound: the project has no such event.
        Tampered: it has, and its row is not what was signed.
    """
    try:
        return events.entry(project, tx_id)
    except (NotFound, Tampered):
        # One damaged row can hide another from a search by order.
        tx = tx_bytes(tx_id)
        entry = None if tx is None else ledger.receipts.find(project.id, tx)
        if entry is None:
            raise
        return entry


@get(
    "/v1/receipts",
    summary="Get receipts in bulk",
    media_type=NDJSON,
    response_description="The receipts, one a line.",
    opt={"refusals": READ_REFUSALS},
)
async def receipts(
    project_of: TheProject,
    journal: TheJournal,
    ledger: TheLedger,
    reading: TheReading,
    start: Annotated[int, QueryParameter(description="First index.", gt=-1, le=LARGEST_INDEX)] = 0,
    end: Annotated[
        int,
        QueryParameter(
            description="Index to stop before; the end of what is sealed when left out.",
            gt=-1,
            le=LARGEST_INDEX,
        ),
    ] = LARGEST_INDEX,
) -> Stream:
    """The receipts of a range of events, as NDJSON, in log order. It ends with the last event that
    was sealed when it began."""

    lines = _receipt_lines(project_of.id, journal, ledger, start, end)
    return Stream(reading.pieces(project_of.id, lines), media_type=NDJSON)


def _receipt_lines(
    project_id: int, journal: JournalReader, ledger: Ledger, start: int, end: int
) -> Iterator[bytes]:
    end = min(end, ledger.sealed_size(project_id))
    behind = start
    for first, behind in pieces(journal, project_id, start, end, most_bytes=PIECE_BYTES):
        yield _receipts_between(project_id, journal, ledger, first, behind)
    # Rows that are gone have no size.
    for first in range(behind, end, _RECEIPTS_AT_ONCE):
        last = min(first + _RECEIPTS_AT_ONCE, end)
        yield _receipts_between(project_id, journal, ledger, first, last)


def _receipts_between(
    project_id: int, journal: JournalReader, ledger: Ledger, start: int, end: int
) -> bytes:
    found = entries(journal, project_id, start, end)
    lines = [_receipt_line(index, entry, ledger) for index, entry in enumerate(found, start)]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _receipt_line(index: int, entry: Entry | Tampered, ledger: Ledger) -> ReceiptLine:
    """The line of one event; one that is damaged holds up none of the others."""
    if isinstance(entry, Tampered):
        return ReceiptLine(index, None, None, entry.code, entry.message)
    tx_id = tx_text(entry.leaf.tx)
    try:
        return ReceiptLine(index, tx_id, ledger.receipts.of(entry))
    except Tampered as error:
        return ReceiptLine(index, tx_id, None, error.code, error.message)


@get(
    "/ledger/{log_name:str}/{path:path}",
    sync_to_thread=True,
    media_type=BYTES,
    summary="Read a log's files",
    response_description="The file, as it lies on disk.",
    opt=_OPT,
)
def read_file(
    request: Connection,
    gate: TheGate,
    registry: TheRegistry,
    ledger: TheLedger,
    log_name: LogName,
    path: FilePath,
) -> Response[bytes]:
    """The log's files in the form of C2SP tlog-tiles, for anyone when the project's ledger is
    public, else with a key of the project; those of the server's own log, `_server`, with an
    admin key. `checkpoint` is the newest signed one, `witnessed` the
    newest that met the quorum, `policy` what the log says of its key and its witnesses."""
    log = ledger.logs.named(log_name)
    project = None if log is None else registry.snapshot.project_by_id(log.project_id)
    if project is None or project.ledger_access != "public":
        is_servers = project is not None and project.id == SERVER_ID
        caller = caller_of(request, gate, Scope.MANAGE if is_servers else Scope.READ)
        if project is None or not caller.may_enter(project.id):
            raise NotFound("There is no such log")
    else:
        request.scope["state"][IS_PUBLIC] = True
    assert log is not None
    name = path.removeprefix("/")
    return _file(ledger.files.read(log, name), name)


def _file(content: bytes, path: str) -> Response[bytes]:
    if path in NOTES:
        return Response(content, media_type=TEXT, headers={"cache-control": _BRIEFLY})
    return Response(content, media_type=BYTES, headers={"cache-control": _FOR_EVER})


ROUTES = [receipt, verify, receipts]
OPEN_ROUTES = [read_file]
