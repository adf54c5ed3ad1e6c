"""``indelible senders``."""

import uuid

from tests.cli.command import fine, run
from tests.cli.conftest import Shop
from tests.edge.wire import eventually
from tests.world import ADMIN_KEY, bearer


def send(shop: Shop, process_id: str, *numbers: int, **lost: int) -> None:
    batch = [
        {"event": "e", "distinct_id": "d", "process_id": process_id, "sequence": number}
        for number in numbers
    ]
    report = {"uuid": str(uuid.uuid4()), "process_id": process_id, "counts": lost}
    body = {"api_key": shop.token, "batch": batch, **({"lost": report} if lost else {})}
    assert 200 == shop.server.send(body).status_code

    def is_counted() -> bool:
        parameters = {"project": shop.name, "process_id": process_id}
        answer = shop.server.http.get(
            "/v1/senders", params=parameters, headers=bearer(ADMIN_KEY)
        ).json()
        return [len(numbers)] == [one["stored"] for one in answer["senders"]]

    eventually(is_counted)


def test_a_process_is_a_line_and_those_that_miss_nothing_can_be_left_out(shop: Shop) -> None:
    whole, holey = uuid.uuid4().hex, uuid.uuid4().hex
    send(shop, whole, 0, 1, queue_full=3)
    send(shop, holey, 0, 4)

    header, newest, other = fine("senders", *shop.here).out.splitlines()
    assert ["LANE", "PROCESS", "CAPTURED", "STORED", "LOST", "MISSING"] == header.split()[2:-1]
    assert ["product", holey, "5", "2", "0", "3"] == newest.split()[1:]
    assert ["product", whole, "5", "2", "3", "0", "queue_full=3"] == other.split()[1:]

    _, only = fine("senders", "--missing", *shop.here).out.splitlines()
    assert holey in only
    (account,) = fine("senders", "--process", holey, "--json", *shop.here).lines
    assert ([[1, 4]], 3) == (account["gaps"], account["missing"])

    some = fine("senders", "-n", "1", *shop.here)
    assert (2, True) == (len(some.out.splitlines()), "there are more" in some.err)


def test_a_project_without_numbered_events_says_so(shop: Shop) -> None:
    shop.send("e")

    ran = fine("senders", *shop.here)

    assert ("", "no process numbers its events\n") == (ran.out, ran.err)


def test_a_process_id_that_is_none_is_called_wrongly(shop: Shop) -> None:
    ran = run("senders", "--process", "8d3f", *shop.here)

    assert 2 == ran.code
    assert "invalid_parameter" in ran.err


def test_a_report_is_shown_by_tail_and_found_by_where(shop: Shop) -> None:
    process_id = uuid.uuid4().hex
    send(shop, process_id, 0, exit=2)
    tail = ("tail", "--no-follow", "--kind", "loss", *shop.here)

    (line,) = fine(*tail).out.splitlines()
    assert f"process_id={process_id}" in line
    (entry,) = fine(*tail, "--json").lines
    shown = fine("where", entry["uuid"], *shop.here)

    assert ("loss", entry["uuid"]) == (shown.fact("kind"), shown.fact("event id"))
