"""``POST /v1/erasures``: what somebody sent is destroyed, and the log says so."""

from typing import Annotated, Final

import msgspec
from litestar import post
from litestar.params import JSONBody

from indelible.api.guard import BODY_REFUSALS, NowMs, TheEraser, TheRegistry
from indelible.api.managed import Name
from indelible.clock import rfc3339
from indelible.erasure.erase import DEFAULT_REASON, Eraser, Selection
from indelible.errors import InvalidParameter, LegalHold, NotErasable, NotFound, Unavailable
from indelible.event import tx_text

MOST_TX_IDS: Final = 10_000
_MAX_BODY_BYTES: Final = 1024 * 1024  # so many ids take 380 KiB

TxId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^tx_[0-9a-f]{32}(?!\n)$", examples=["tx_019a9f3c7e0a7000a1b2c3d4e5f60718"]
    ),
]
TxIds = Annotated[list[TxId], msgspec.Meta(min_length=1, max_length=MOST_TX_IDS)]
DistinctId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Reason = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}(?!\n)$", examples=["request", "contract_end"])
]


class ErasureWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What to erase: the events with these transaction ids, or every product event of a distinct
    id; exactly one of the two.

    `reason` is a code that stands in the log for ever: no names. With `dry_run` nothing is erased.
    Without a `project` it is `default`.
    """

    project: Name | None = None
    tx_ids: TxIds | None = None
    distinct_id: DistinctId | None = None
    reason: Reason = DEFAULT_REASON
    dry_run: bool = False


class ErasureEvent(msgspec.Struct):
    """An event of kind `erasure`: it says which indexes were erased, and has a receipt."""

    index: int
    tx_id: str


class ErasureCertificate(msgspec.Struct):
    """What was erased; after a dry run, what would be.

    `events` are the log's own word for it: the receipt of each proves it. `already_erased` counts
    those named that had lost their content before. `unknown` lists, after a dry run, the
    transaction ids that the project does not have. `swept` false: a long read, such as a backup
    under way, or a full disk keeps erased bytes in a file of the journal; the server goes on
    trying, and asking again says how it stands.
    """

    project: str
    at: str
    reason: str
    dry_run: bool
    erased: int
    already_erased: int
    unknown: list[str]
    events: list[ErasureEvent]
    swept: bool


@post(
    "/v1/erasures",
    sync_to_thread=True,
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    summary="Erase events",
    response_description="The certificate.",
    opt={"refusals": (*BODY_REFUSALS, NotFound, NotErasable, LegalHold, Unavailable)},
)
def erase_events(
    registry: TheRegistry, eraser: TheEraser, now_ms: NowMs, data: JSONBody[ErasureWanted]
) -> ErasureCertificate:
    """Destroys payload, record and salts of product and audit events, for good. Index, transaction
    id, kind and time stay, and with them every proof; a late resend is still a duplicate. Where a
    transaction id is unknown nothing is erased. Ids that an event only mentions are not followed.
    """
    project = registry.snapshot.project(data.project or "default")
    if project.legal_hold:  # before the log is walked; the journal looks again, in the transaction
        raise LegalHold.of(project.name)
    selection = _select(eraser, project.id, data)
    if data.dry_run:
        return ErasureCertificate(
            project=project.name,
            at=rfc3339(now_ms),
            reason=data.reason,
            dry_run=True,
            erased=len(selection.indexes) - selection.already,
            already_erased=selection.already,
            unknown=list(selection.unknown),
            events=[],
            swept=True,
        )
    done = eraser.erase(selection, reason=data.reason)
    return ErasureCertificate(
        project=project.name,
        at=rfc3339(done.at_ms),
        reason=done.reason,
        dry_run=False,
        erased=done.erased,
        already_erased=done.already,
        unknown=[],
        events=[ErasureEvent(entry.index, tx_text(entry.tx)) for entry in done.entries],
        swept=done.swept,
    )


ROUTES = [erase_events]


def _select(eraser: Eraser, project_id: int, wanted: ErasureWanted) -> Selection:
    """
    Raises:
        InvalidParameter: neither or both of tx_ids and distinct_id are named.
        NotErasable.
    """
    match wanted:
        case ErasureWanted(tx_ids=list(tx_ids), distinct_id=None):
            return eraser.with_tx_ids(project_id, tx_ids)
        case ErasureWanted(tx_ids=None, distinct_id=str(distinct_id)):
            return eraser.with_distinct_id(project_id, distinct_id)
        case _:
            raise InvalidParameter("Name what to erase: either tx_ids or distinct_id")
