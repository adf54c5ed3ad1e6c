"""A dialect that nobody speaks, written as the next one will be: rows of name, id and properties.

{"key": token, "rows": [["viewed", "user_1", {"page": 1}], …]}
"""

from typing import Any

import msgspec

from indelible.edge.arrival import Dropped, ProductEvent
from indelible.edge.brackets import Text
from indelible.edge.dialect import Call, Dialect, Path, Reading, Settled
from indelible.edge.http import Answer, Request
from indelible.edge.intake import Limits
from indelible.edge.lost import LostWarning
from indelible.edge.results import answer_product
from indelible.edge.schema import READ_REFUSALS, Operation, Schema, answer, ref
from indelible.errors import InvalidJson
from indelible.event import DropReason, Lane
from indelible.record import Origin, Product


class _Body(msgspec.Struct):
    key: str
    rows: list[tuple[Any, Any, msgspec.Raw]]


def read(text: Text, call: Call) -> Reading:
    try:
        body = msgspec.json.decode(text, type=_Body)
    except msgspec.DecodeError:
        raise InvalidJson from None
    origin = Origin(route=call.path.path)
    events = (_event(name, who, raw, origin) for name, who, raw in body.rows)
    return Reading(origin, events, len(body.rows), tokens=[body.key])


def _event(name: Any, who: Any, raw: msgspec.Raw, origin: Origin) -> ProductEvent | Dropped:
    if not isinstance(name, str) or not isinstance(who, str):
        return Dropped(DropReason.INVALID_EVENT)
    record = Product(distinct_id=who, event=name, request=origin)
    size = len(memoryview(raw))
    return ProductEvent(
        payload=bytes(raw), name=name, distinct_id=who, record=record, size_bytes=size, depth=1
    )


def tokens(reading: Reading, request: Request) -> list[str]:
    return list(reading.tokens)


def answer_rows(call: Call, settled: Settled, lost_warning: LostWarning | None) -> Answer:
    whole = answer_product(call, settled, lost_warning)
    taken = sum(not isinstance(one, Dropped) for one in settled)
    return Answer(200, b"%d rows" % taken, "text/plain") if whole.status == 200 else whole


def schema(limits: Limits) -> Schema:
    operation = Operation(
        summary="Send rows",
        description="Stores rows.",
        operation_id="send_rows",
        parameters=[],
        body={"application/json": {"schema": ref("Rows")}},
        answers={"200": answer("How many were stored.", {"type": "string"}, "text/plain")},
        refusals=READ_REFUSALS,
    )
    return Schema({"/rows": {"post": operation}}, {"Rows": {"type": "object"}})


DIALECT = Dialect(Lane.PRODUCT, (Path("/rows"),), read, tokens, answer_rows, schema)
