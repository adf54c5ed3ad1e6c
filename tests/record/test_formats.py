"""docs/reference/formats.md is enough: a stranger checks an event with it and nothing else."""

import ast
import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from indelible import leaf, record
from indelible.event import Kind, tx_text
from indelible.ledger.format.note import LogKey
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.tree import leaf_hash, root_of
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.record import example

PAGE = (Path(__file__).parents[2] / "docs/reference/formats.md").read_text()
STRANGERS_TOOLS = {"base64", "hashlib", "hmac", "json"}


def block(language: str) -> str:
    """The one block of the page in this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def check() -> Callable[[str], tuple[str, int, str | None, str | None]]:
    """The checker that the page prints, as a stranger would copy it."""
    room: dict[str, Any] = {}
    exec(block("python"), room)
    return room["check"]  # type: ignore[no-any-return]


def changed_once(receipt: str) -> Iterator[str]:
    """The receipt with one character of its opening, path or root changed."""
    for number, line in enumerate(receipt.split("\n")):
        word = line.rpartition(" ")[2]
        if line.startswith(("c2sp", "—")) or not word:
            continue
        other = line[: -len(word)] + ("1" if word[0] != "1" else "2") + word[1:]
        yield "\n".join(
            other if at == number else kept for at, kept in enumerate(receipt.split("\n"))
        )


def test_a_stranger_checks_a_payload_against_its_leaf_from_the_page_alone(
    check: Callable[[str], tuple[str, int, str | None, str | None]],
) -> None:
    imported = {
        name.name
        for node in ast.walk(ast.parse(block("python")))
        if isinstance(node, ast.Import)
        for name in node.names
    }

    origin, index, payload, stored = check(block("text"))

    assert imported == STRANGERS_TOOLS
    assert ("log.example/indelible", 1) == (origin, index)
    assert '{"order":"ord_1","total":"€ 99"}' == payload
    assert stored is not None
    assert '"event_name":"payment.created"' in stored


def test_the_strangers_check_notices_a_change_of_any_line(
    check: Callable[[str], tuple[str, int, str | None, str | None]],
) -> None:
    receipt = block("text")
    believed = check(receipt)
    for changed in changed_once(receipt):
        try:
            said = check(changed)
        except (AssertionError, ValueError, KeyError):
            continue
        assert said != believed, changed
        assert said[0] != believed[0], "only the origin is for the signature to prove"


def test_the_values_of_the_page_are_those_that_the_code_makes() -> None:
    opened = example.opening(example.INDEX)
    held = leaf.decode(opened.leaf_entry)
    hashes = [leaf_hash(example.opening(index).leaf_entry) for index in range(3)]
    root = root_of(hashes)
    assert opened.payload is not None
    assert opened.record is not None
    worked = [
        ("payload", f"`{opened.payload.decode()}`"),
        ("payload salt", f"`{example.PAYLOAD_SALT.hex()}`"),
        ("commitment to the payload", f"`{held.payload_commitment.hex()}`"),
        ("record", f"`{opened.record.decode()}`"),
        ("record salt", f"`{example.RECORD_SALT.hex()}`"),
        ("commitment to the record", f"`{held.record_commitment.hex()}`"),
        ("kind, time of receipt", f"{held.kind.value} (audit), {held.received_at_ms}"),
        ("transaction id", f"`{tx_text(held.tx)}`"),
        ("leaf", f"`{opened.leaf_entry.hex()}`"),
        ("hash of the leaf", f"`{hashes[1].hex()}`"),
        ("path", ", ".join(f"`{one.hex()}`" for one in example.proof().hashes)),
        ("root of 3 entries", f"`{root.hex()}`, in base64 `{base64.b64encode(root).decode()}`"),
    ]

    assert example.proof().text == block("text")
    assert worked == re.findall(
        rf"^\| ({'|'.join(name for name, _ in worked)}) \| (.*) \|$", PAGE, re.MULTILINE
    )
    assert f"`{example.SIGNER.key.text}`" in PAGE


def test_the_receipt_of_the_page_verifies_under_the_key_of_the_page() -> None:
    (vkey,) = re.findall(r"signed with the key `(.*?)`", PAGE)
    LogKey.parse(vkey)

    found = verify_receipt(block("text"), parse_policy(f"log {vkey}\nquorum none\n"))

    assert Verdict.VERIFIED == found.verdict


def test_the_page_names_every_member_of_every_record() -> None:
    parts = re.split(
        r"^\*\*(Product|Audit|Loss|Erasure|Administration|`request`)", PAGE, flags=re.M
    )
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    forms = [*(getattr(record, kind.word.capitalize()) for kind in Kind), record.Origin]
    for form in forms:
        text = sections["`request`" if form is record.Origin else form.__name__]
        names = [field.encode_name for field in structs.fields(form)]
        assert [] == [name for name in names if f"`{name}`" not in text], form
