"""``indelible schema``, ``contract`` and ``balance``."""

import json
import uuid
from pathlib import Path

from tests.cli.command import assert_refused, at, fine, run
from tests.cli.conftest import Shop
from tests.edge.wire import eventually
from tests.world import ADMIN_KEY, bearer, product

CONTRACT = {"properties": {"amount": {"type": "number"}, "plan": {"required": True}}}


def learned(shop: Shop, next_index: int) -> None:
    """Wait until so much of the log is learned and counted."""

    def reached() -> bool:
        get, params, headers = shop.server.http.get, {"project": shop.name}, bearer(ADMIN_KEY)
        answers = [get(f"/v1/{of}", params=params, headers=headers) for of in ("schema", "balance")]
        return all(answer.json()["next_index"] >= next_index for answer in answers)

    eventually(reached)


def test_a_project_without_events_says_how_to_send_one(shop: Shop) -> None:
    for command in ("schema", "balance"):
        ran = fine(command, *shop.here)
        assert ("", True) == (ran.out, "indelible send" in ran.err)
    assert "" == fine("schema", "--json", *shop.here).out


def test_events_are_a_line_each_the_most_frequent_first(shop: Shop) -> None:
    shop.send("a", "b", "b", "evil\x1b[31m\nname")
    learned(shop, 4)

    header, *lines = fine("schema", *shop.here).out.splitlines()
    assert ["COUNT", "KIND", "EVENT", "PROPERTIES", "UNFIT", "LAST", "SEEN"] == header.split()
    assert ["2 product b", "1 product a"] == [" ".join(line.split()[:3]) for line in lines[:2]]
    assert (3, True) == (len(lines), "evil\\x1b[31m\\nname" in lines[2])
    assert 3 == len(fine("schema", "--json", *shop.here).lines)
    assert "" == fine("schema", "--kind", "audit", *shop.here).out


def test_an_event_is_shown_with_its_properties_within_eighty_columns(shop: Shop) -> None:
    shop.send("e", properties={"amount": 99.5, "mail": "jane@example.com", "on": True})
    learned(shop, 1)

    shown = fine("schema", "e", *shop.here)
    assert ("e (product)", "1") == (shown.fact("event"), shown.fact("looked into"))
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["100", "%", "mail", "text", "a***@***", "(16-31)"] in lines
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    assert "jane" not in shown.out
    assert 3 == len(fine("schema", "e", "--json", *shop.here).json["properties"])
    assert_refused(run("schema", "f", *shop.here), 2, "not_found")


def test_a_contract_is_set_from_a_file_shown_and_dropped(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(CONTRACT))
    shown = fine("contract", "set", "e", str(file), *shop.here)
    assert ("e (product)", "0 of 0") == (shown.fact("contract of"), shown.fact("does not fit"))
    shop.send("e", "e")
    learned(shop, 3)

    shown = fine("contract", "show", "e", *shop.here)
    assert "2 of 2" == shown.fact("does not fit")
    (rule,) = (line for line in shown.out.splitlines() if " required " in line)
    assert ["2", "required", "plan"] == rule.split()[:3]
    assert "2 of 2" in fine("schema", *shop.here).out
    assert CONTRACT == fine("contract", "show", "e", "--json", *shop.here).json["contract"]

    assert "none" == fine("contract", "drop", "e", *shop.here).fact("contract")
    assert_refused(run("contract", "show", "e", *shop.here), 2, "not_found")


def test_a_contract_that_is_none_is_called_wrongly(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    for text, code in (
        ("{", "called_wrongly"),
        ('{"properties": {"a b": {}}}', "invalid_parameter"),
    ):
        file.write_text(text)
        ran = run("contract", "set", "e", str(file), *shop.here)
        assert (2, True) == (ran.code, ran.err.startswith(f"{code}:")), ran.err
    missing = run("contract", "set", "e", str(tmp_path / "none.json"), *shop.here)
    assert (3, "") == (missing.code, missing.out)


def test_the_balance_has_a_line_for_each_lane_and_sort_of_sender(shop: Shop) -> None:
    process = uuid.uuid4().hex
    numbered = {"distinct_id": "d", "process_id": process}
    batch = [
        {"event": "e", "sequence": 0, **numbered},
        {"event": "", "sequence": 1, **numbered},
        {"event": "e", "sequence": 2, **numbered},
        product("e"),
    ]
    del batch[-1]["api_key"]
    report = {"uuid": str(uuid.uuid4()), "process_id": process, "counts": {"exit": 2}}
    shop.server.send({"api_key": shop.token, "batch": batch, "lost": report})
    shop.server.send({"api_key": shop.token, "event": "", "distinct_id": "d"})
    learned(shop, 4)

    ran = fine("balance", *shop.here)
    _, mine, others = (line.split() for line in ran.out.splitlines())
    assert ["product", "numbered", "4", "2", "2", "0", "exit=2"] == mine
    assert ["product", "others", "2", "1", "1", "0", "missing_event=1"] == others
    assert "the server dropped missing_event=1 of numbered events" in ran.err
    assert shop.name == fine("balance", "--json", *shop.here).json["project"]


def test_of_an_unknown_project_there_is_no_balance(shop: Shop) -> None:
    assert_refused(run("balance", "--project", "nobodys", *at(shop.server)), 2, "not_found")
