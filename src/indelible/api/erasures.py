"""``POST /v1/erasures``: what somebody sent is destroyed, and the log says so."""

from typing import Annotated, Final

import msgspec
from litestar import post
from litestar.params import JSONBody

from indelible.api.guard import BODY_REFUSALS, NowMs, TheErasures, TheRegistry
from indelible.api.managed import Name
from indelible.clock import rfc3339
from indelible.erasure.erase import DEFAULT_REASON
from indelible.errors import (
    ConfirmMissing,
    InvalidParameter,
    LegalHold,
    NotErasable,
    NotFound,
    PreviewChanged,
    Unavailable,
)
from indelible.event import tx_text
from indelible.query.erasures import Done, Found, Left, Wanted
from indelible.registry.values import Project

MOST_TX_IDS: Final = 10_000
MOST_ACTORS: Final = 1_000
MOST_IDS_SHOWN: Final = 1_000
"""Most ids of a person that an answer shows; `id_count` counts all of them."""
_MAX_BODY_BYTES: Final = 1024 * 1024  # so many ids take 380 KiB

TxId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^tx_[0-9a-f]{32}(?!\n)$", examples=["tx_019a9f3c7e0a7000a1b2c3d4e5f60718"]
    ),
]
TxIds = Annotated[list[TxId], msgspec.Meta(min_length=1, max_length=MOST_TX_IDS)]
DistinctId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Actors = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=200)]],
    msgspec.Meta(min_length=1, max_length=MOST_ACTORS),
]
Reason = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}(?!\n)$", examples=["request", "contract_end"])
]
Preview = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,13}-[0-9a-f]{64}(?!\n)$")]


class ErasureWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What to erase: the events with these transaction ids; or every product event of a distinct
    id; or a person, actors, or both.

    `person` is a person id or any distinct id of the person: every product event of all its ids.
    `actors` are the audit events whose payload names one of these as its `actor`: only those named,
    never through merges, which anyone with the public token can make. `reason` is a code that
    stands in the log for ever: no names. With `dry_run` nothing is erased, and the answer has the
    `preview`. An erasure by person or actor needs it as `confirm`; another may have it. Without a
    `project` it is `default`.
    """

    project: Name | None = None
    tx_ids: TxIds | None = None
    distinct_id: DistinctId | None = None
    person: DistinctId | None = None
    actors: Actors | None = None
    reason: Reason = DEFAULT_REASON
    dry_run: bool = False
    confirm: Preview | None = None


class ErasureEvent(msgspec.Struct):
    """An entry of the log that the erasure added, and has a receipt."""

    index: int
    tx_id: str


class ErasureCertificate(msgspec.Struct):
    """What was erased; after a dry run, what would be.

    `product` and `audit` count the events that were selected and had their content. `events` are
    the log's own word for it, of kind `erasure`: the receipt of each proves it. `already_erased`
    counts those named that had lost their content before. `unknown` lists, after a dry run, the
    transaction ids that the project does not have.

    Of a person: `person` is its id, `ids` its distinct ids, the first 1,000 of `id_count`; they are
    in this answer only, not in the log. `unmerged` are the entries that undo its merges on request,
    so that the erased ids begin new persons if they come again. `left` says what the erasure
    leaves, and why. `preview` is the hash over what the answer shows: what a later call confirms.

    `swept` false: a long read, such as a backup under way, or a full disk keeps erased bytes in a
    file of the journal, or the persons are behind; the server goes on trying, and asking again says
    how it stands.
    """

    project: str
    at: str
    reason: str
    dry_run: bool
    erased: int
    product: int
    audit: int
    already_erased: int
    unknown: list[str]
    person: str | None
    ids: list[str]
    id_count: int
    events: list[ErasureEvent]
    unmerged: list[ErasureEvent]
    left: list[Left]
    preview: str
    swept: bool


@post(
    "/v1/erasures",
    sync_to_thread=True,
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    summary="Erase events",
    response_description="The certificate.",
    opt={
        "refusals": (
            *BODY_REFUSALS,
            ConfirmMissing,
            NotFound,
            NotErasable,
            LegalHold,
            PreviewChanged,
            Unavailable,
        )
    },
)
def erase_events(
    registry: TheRegistry, erasures: TheErasures, now_ms: NowMs, data: JSONBody[ErasureWanted]
) -> ErasureCertificate:
    """Destroys payload, record and salts of product and audit events, for good. Index, transaction
    id, kind and time stay, and with them every proof; a late resend is still a duplicate. Where a
    transaction id is unknown nothing is erased. Ids that an event only mentions are not followed.
    """
    project = registry.snapshot.project(data.project or "default")
    wanted = _wanted(data)
    if data.dry_run:
        found = erasures.preview(project, wanted)
        return _certificate(project, data, found, None, rfc3339(now_ms))
    done = erasures.erase(project, wanted, confirm=data.confirm)
    return _certificate(project, data, done.found, done, rfc3339(done.certificate.at_ms))


ROUTES = [erase_events]


def _certificate(
    project: Project, data: ErasureWanted, found: Found, done: Done | None, at: str
) -> ErasureCertificate:
    selection = found.selection
    certificate = None if done is None else done.certificate
    return ErasureCertificate(
        project=project.name,
        at=at,
        reason=data.reason,
        dry_run=certificate is None,
        erased=len(selection.due) if certificate is None else certificate.erased,
        product=len(selection.due) - selection.audit,
        audit=selection.audit,
        already_erased=selection.already if certificate is None else certificate.already,
        unknown=list(selection.unknown),
        person=found.person,
        ids=list(found.ids[:MOST_IDS_SHOWN]),
        id_count=len(found.ids),
        events=[]
        if certificate is None
        else [ErasureEvent(entry.index, tx_text(entry.tx)) for entry in certificate.entries],
        unmerged=[]
        if done is None
        else [ErasureEvent(told.at, tx_text(told.tx)) for told in done.unmerged],
        left=list(found.left),
        preview=found.preview,
        swept=True if done is None else done.swept,
    )


def _wanted(data: ErasureWanted) -> Wanted:
    """
    Raises:
        InvalidParameter: it names nothing, or things that do not go together.
    """
    by_person = data.person is not None or data.actors is not None
    if (data.tx_ids is not None) + (data.distinct_id is not None) + by_person != 1:
        raise InvalidParameter(
            "Name what to erase: either tx_ids, or distinct_id, or person and actors"
        )
    return Wanted(
        tx_ids=data.tx_ids or (),
        distinct_id=data.distinct_id,
        person=data.person,
        actors=data.actors or (),
        reason=data.reason,
    )
