"""An event as a row of CSV."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.query.table import COLUMNS, cells, encode
from tests.query.log import Log
from tests.world import audit, product

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
EVENTS = st.fixed_dictionaries(
    {"index": st.integers(0), "kind": st.just("product")},
    optional={
        "event": TEXTS,
        "payload": TEXTS,
        "timestamp": TEXTS | st.integers() | st.none(),
        "properties": st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=3),
        "unknown": TEXTS,
    },
)
STARTS_A_FORMULA = tuple("=+-@\t\r\n")


def read(rows: bytes) -> list[list[str]]:
    """What a stranger's reader makes of the bytes."""
    return list(csv.reader(io.StringIO(rows.decode(), newline="")))


def row(event: dict[str, Any]) -> dict[str, str]:
    (shown,) = read(encode(cells(json.dumps(event).encode())))
    return dict(zip(COLUMNS, shown, strict=True))


@given(EVENTS)
def test_a_row_reads_back_and_no_text_in_it_is_a_formula(event: dict[str, Any]) -> None:
    shown = row(event)

    for name in ("event", "payload"):
        sent = event.get(name, "")
        assert not shown[name].startswith(STARTS_A_FORMULA)
        assert shown[name] in (sent, f"'{sent}")
        assert (shown[name] == sent) is not sent.startswith((*STARTS_A_FORMULA, *"＝＋－＠"))  # noqa: RUF001
    assert event.get("properties", {}) == json.loads(shown["properties"] or "{}")
    assert str(event["index"]) == shown["index"]
    if not isinstance(event.get("timestamp"), str):
        assert shown["timestamp"] in ("", str(event.get("timestamp")))


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    shown = row({"index": 0, "event": text, "meta": {"event_name": text}, "payload": text})
    assert [f"'{text}"] * 2 == [shown["event"], shown["payload"]]
    shown = row({"index": 0, "meta": {"event_name": text}})
    assert f"'{text}" == shown["event"]


def test_the_columns_stay_as_they_are() -> None:
    # Public: scripts count on them. New ones go to the end.
    assert [
        *("index", "received_at", "kind", "event", "tx_id", "distinct_id", "uuid", "timestamp"),
        *("properties", "$set", "$set_once", "$unset", "process_id", "sequence"),
        *("idempotency_key", "payload", "meta", "facts", "request", "$extra", "erased"),
    ] == list(COLUMNS)


def test_every_member_of_a_stored_event_has_its_column(log: Log) -> None:
    log.send(product(uuid="u", timestamp=1, process_id="a" * 32, sequence=0, more=1))
    log.send({**product(), "$set": {"a": 1}, "$set_once": {"b": 1}, "$unset": ["c"]})
    log.send_audit(audit(trace_id="t"), key="k")

    for line in log.export():
        assert line.keys() <= set(COLUMNS)
