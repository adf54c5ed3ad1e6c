"""`indelible erase`: what is gone, what is only counted, and who is asked first."""

import os
import pty
import subprocess

import pytest

from tests.cli.command import PROGRAM, assert_refused, call, fine, run, surroundings
from tests.cli.conftest import Shop
from tests.world import AS_ADMIN

UNKNOWN = "tx_019a9f3c7e0a7000a1b2c3d4e5f60718"


def erased(shop: Shop) -> list[int]:
    """The indexes of the project's erased events."""
    page = shop.server.http.get(
        "/v1/events", params={"project": shop.name, "limit": 200}, headers=AS_ADMIN
    ).json()
    return sorted(event["index"] for event in page["events"] if event.get("erased"))


def test_events_are_erased_by_their_transaction_ids(shop: Shop) -> None:
    first, _, third = shop.send("a", "b", "c")

    ran = fine("erase", first, third, "--reason", "contract_end", "--yes", *shop.here)

    assert [0, 2] == erased(shop)
    said = [ran.fact(name) for name in ("project", "erased", "erased before", "reason")]
    assert [shop.name, "2", "0", "contract_end"] == said
    assert ran.fact("certificate").startswith("index 3, tx_")
    assert "in no file of the journal any more" == ran.fact("erased bytes")

    again = call("erase", first, third, "--yes", "--json", *shop.here).json
    assert (0, 2, True) == (again["erased"], again["already_erased"], again["swept"])
    assert [0, 2] == erased(shop)


def test_every_event_of_a_distinct_id_is_erased(shop: Shop) -> None:
    shop.send("a", "b", distinct_id="ann")
    shop.send("c", distinct_id="bob")

    certificate = call("erase", "--distinct-id", "ann", "--yes", "--json", *shop.here).json

    assert (2, "request", False) == tuple(
        certificate[name] for name in ("erased", "reason", "dry_run")
    )
    assert [0, 1] == erased(shop)


def test_a_dry_run_only_counts(shop: Shop) -> None:
    (tx_id, _) = shop.send("a", "b", distinct_id="ann")

    by_id = fine("erase", tx_id, UNKNOWN, "--dry-run", *shop.here)
    by_person = call("erase", "--distinct-id", "ann", "--dry-run", "--json", *shop.here).json

    assert ("1", UNKNOWN) == (by_id.fact("would erase"), by_id.fact("unknown"))
    assert "certificate" not in by_id.out
    assert (2, True, []) == tuple(by_person[name] for name in ("erased", "dry_run", "events"))
    assert [] == erased(shop)


def test_without_a_terminal_it_must_be_told_yes(shop: Shop) -> None:
    (tx_id,) = shop.send("a")

    ran = run("erase", tx_id, *shop.here)

    assert_refused(ran, 2, "called_wrongly")
    assert f"1 event of project {shop.name}" in ran.err
    assert [] == erased(shop)


@pytest.mark.parametrize(
    ("answer", "code", "gone"),
    [("yes\n", 0, [0]), ("y\n", 0, [0]), ("n\n", 2, []), ("yess\n", 2, []), ("\n", 2, [])],
)
def test_on_a_terminal_it_asks_and_only_yes_erases(
    shop: Shop, answer: str, code: int, gone: list[int]
) -> None:
    (tx_id,) = shop.send("a")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [*PROGRAM, "erase", tx_id, *shop.here],
            env=surroundings(),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert code == done.returncode, done.stderr
    assert f"This erases 1 event of project {shop.name}, for good." in done.stderr
    assert gone == erased(shop)


def test_where_an_id_is_unknown_nothing_is_erased(shop: Shop) -> None:
    (tx_id,) = shop.send("a")

    assert_refused(call("erase", tx_id, UNKNOWN, "--yes", *shop.here), 2, "not_found")
    assert_refused(run("erase", tx_id, UNKNOWN, *shop.here), 2, "not_found")
    assert [] == erased(shop)
    nobody = call("erase", "--distinct-id", "nobody", "--yes", "--json", *shop.here)
    assert (0, 0, []) == (nobody.code, nobody.json["erased"], nobody.json["events"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "called_wrongly"),
        ((UNKNOWN, "--distinct-id", "ann"), "called_wrongly"),
        (("order-1", "--yes"), "invalid_parameter"),
        (("--distinct-id", "ann", "--reason", "Ann Smith", "--yes"), "invalid_parameter"),
    ],
)
def test_what_to_erase_must_be_said_clearly(
    shop: Shop, arguments: tuple[str, ...], code: str
) -> None:
    shop.send("a", distinct_id="ann")

    assert_refused(call("erase", *arguments, *shop.here), 2, code)
    assert [] == erased(shop)
