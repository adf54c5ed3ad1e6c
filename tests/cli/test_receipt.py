"""`indelible receipt` and `indelible policy`: what one keeps, and checks elsewhere."""

import os
from pathlib import Path

import pytest

from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.cli.command import assert_refused, at, call, fine
from tests.cli.conftest import Shop
from tests.world import AS_ADMIN, audit


def test_a_kept_receipt_verifies_under_the_kept_policy(shop: Shop, tmp_path: Path) -> None:
    tx_id, _ = shop.send("order placed", "order paid")
    kept, policy = tmp_path / "order.tlog-proof", tmp_path / "shop.policy"

    said = fine("receipt", tx_id, "--output", str(kept), *shop.here)
    fine("policy", "--log", shop.name, "--output", str(policy), *at(shop.server))

    assert "" == said.out
    assert f"verify {kept} --policy POLICY" in said.err
    found = verify_receipt(kept.read_bytes(), parse_policy(policy.read_text()))
    assert (Verdict.VERIFIED, tx_id) == (found.verdict, found.tx_id)
    check = ("verify", str(kept), "--policy", str(policy))
    assert 0 == fine(*check).code

    content = kept.read_text()
    kept.write_text(content.replace("\nindex 0\n", "\nindex 1\n"))
    assert content != kept.read_text()
    assert 1 == call(*check).code


def test_a_receipt_is_for_its_owner_alone_until_the_owner_says_otherwise(
    shop: Shop, tmp_path: Path
) -> None:
    (tx_id,) = shop.send("order placed")
    kept, shared, policy = (tmp_path / name for name in ("new", "shared", "policy"))
    shared.write_text("an older one")
    shared.chmod(0o664)

    for output in (kept, shared):
        fine("receipt", tx_id, "--output", str(output), *shop.here)
    fine("policy", "--output", str(policy), *at(shop.server))

    modes = [output.stat().st_mode & 0o777 for output in (kept, shared, policy)]
    assert [0o600, 0o664] == modes[:2]
    assert kept.read_text() == shared.read_text()
    assert 0o400 < modes[2]  # it is public: as the umask says


@pytest.mark.parametrize(
    "command",
    [("receipt", "order-1"), ("policy",), ("export",), ("evidence",)],
    ids=lambda command: command[0],
)
def test_a_command_writes_no_file_in_the_place_of_a_folder_or_a_pipe(
    shop: Shop, tmp_path: Path, command: tuple[str, ...]
) -> None:
    shop.send("order placed", uuid="order-1")
    assert 0 == call("receipt", "order-1", *shop.here).code  # it is sealed
    project = () if "policy" == command[0] else ("--project", shop.name)
    output = () if "evidence" == command[0] else ("--output",)
    asked = (*command, *project, *at(shop.server), *output)

    assert_refused(call(*asked, str(tmp_path)), 2, "called_wrongly")
    assert_refused(call(*asked, str(tmp_path / "none" / "file")), 3, "io_failed")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        call(*asked, str(pipe))
        assert pipe.is_fifo()
        if command[0] != "evidence":  # a tar is written only where one can seek
            assert b"" != os.read(reading, 1)
    finally:
        os.close(reading)


def test_a_receipt_goes_to_stdout_or_into_json(shop: Shop, tmp_path: Path) -> None:
    (tx_id,) = shop.send("order placed", uuid="order-1")
    kept = tmp_path / "order.tlog-proof"

    plain = fine("receipt", "order-1", *shop.here).out
    as_json = call("receipt", tx_id, "--json", *shop.here)
    both = call("receipt", tx_id, "--json", "--output", str(kept), *shop.here)

    assert plain.startswith("c2sp.org/tlog-proof@v1\n")
    assert {"index": 0, "tx_id": tx_id, "receipt": plain} == as_json.json == both.json
    assert plain == kept.read_text()
    assert ("", "") == (as_json.err, both.err)


def test_a_policy_goes_to_stdout_or_into_json(shop: Shop) -> None:
    path = f"/ledger/{shop.name}/policy"
    served = shop.server.http.get(path, headers=AS_ADMIN).text

    asked = ("policy", "--log", shop.name)

    assert served == fine(*asked, *at(shop.server)).out
    facts = {"log": shop.name, "policy": served}
    assert facts == call(*asked, "--json", *at(shop.server)).json
    assert served != call("policy", *at(shop.server)).out  # that is the project `default`
    assert_refused(call("policy", "--log", f"{shop.name}-never", *at(shop.server)), 2, "not_found")


def test_an_id_that_two_events_go_by_has_no_one_receipt(shop: Shop) -> None:
    (mine,) = shop.send("order placed", uuid="order-2")
    headers = {**AS_ADMIN, "Idempotency-Key": "order-2"}
    stored = shop.server.http.post(
        "/v1/events", json=audit(), params={"project": shop.name}, headers=headers
    )
    theirs = stored.json()["tx_id"]

    ran = call("receipt", "order-2", *shop.here)

    assert_refused(ran, 2, "called_wrongly")
    assert mine in ran.err
    assert theirs in ran.err
    assert mine != theirs
    assert 0 == call("receipt", theirs, *shop.here).code


def test_an_unknown_id_has_no_receipt(shop: Shop, tmp_path: Path) -> None:
    kept = tmp_path / "none.tlog-proof"

    ran = call("receipt", "order-3", "--output", str(kept), *shop.here)

    assert_refused(ran, 1, "not_found")
    assert not kept.exists()


def test_a_wait_that_cannot_be_met_leaves_no_file(shop: Shop, tmp_path: Path) -> None:
    (tx_id,) = shop.send("order placed")
    kept = tmp_path / "none.tlog-proof"
    into = ("--output", str(kept), *shop.here)

    assert_refused(call("receipt", tx_id, "--wait", "witnessed", *into), 2, "not_witnessed")
    assert_refused(call("receipt", tx_id, "--wait", "soon", *into), 2, "invalid_parameter")
    assert not kept.exists()
