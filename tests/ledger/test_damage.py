"""Bits that flip on disk: every receipt that is handed out verifies, or the answer says tampered.

What the checkpoint's root can give back is rebuilt; what it cannot is named, by the scrub as well,
which finds it though nobody asks.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from indelible.errors import JournalDiffers, NotStarted, SealingStopped, Tampered
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.format.tile import ENTRIES, WIDTH, Tile
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.ledger.audit.test_bit_flips import COLUMNS, flipped
from tests.ledger.sealing import PROJECT, Parts
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    World,
    assert_canonical_error,
    product,
    started,
)

COUNT = 600
WAIT = {"wait": "sealed", "timeout": "20s"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that was stopped, with 600 sealed events."""
    folder = tmp_path_factory.mktemp("made") / "data"
    with started(folder) as server:
        for start in range(0, COUNT, 100):
            events = [product(distinct_id=f"u{n}") for n in range(start, start + 100)]
            answer = server.send({"api_key": TOKEN, "batch": events})
            assert 200 == answer.status_code
        last = answer.json()["events"][-1]["tx_id"]
        receipt = server.http.get(f"/v1/events/{last}/receipt", params=WAIT, headers=AS_APPLICATION)
        assert 200 == receipt.status_code, receipt.text
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


@contextmanager
def journal_of(data: Path) -> Iterator[apsw.Connection]:
    """The journal, for somebody who changes it behind the server's back."""
    with closing(apsw.Connection(str(data / "journal.db"))) as connection:
        connection.set_busy_timeout(5_000)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        yield connection


def tiles_in(data: Path) -> Path:
    return data / "ledger/default/tile"


def flip(path: Path, bit: int) -> None:
    path.write_bytes(flipped(path.read_bytes(), bit))


def lines(server: World) -> list[dict[str, Any]]:
    """All receipts, or what stands in their places."""
    answer = server.http.get("/v1/receipts", headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert list(range(len(found))) == [one["index"] for one in found]
    return found


def policy_of(data: Path) -> Policy:
    return parse_policy((data / "ledger/default/policy").read_text())


def verified(found: list[dict[str, Any]], policy: Policy) -> list[int]:
    """The indexes with a receipt, each of which verifies."""
    with_receipt = [one for one in found if one["receipt"] is not None]
    for one in with_receipt:
        checked = verify_receipt(one["receipt"], policy)
        assert Verdict.VERIFIED is checked.verdict, (one["index"], checked.steps)
    return [one["index"] for one in with_receipt]


# What can be rebuilt


TILES = ("0/000", "0/001", "1/000.p/2", "entries/000", "entries/001", "0/002.p", "entries/002.p")
HOW: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda content: flipped(content, 99),
    "cut short": lambda content: content[:-1],
    "emptied": lambda _: b"",
}


def path_of(data: Path, name: str) -> Path:
    """The newest file there, for a partial tile."""
    path = tiles_in(data) / name
    return max(path.iterdir(), key=lambda one: int(one.name)) if name.endswith(".p") else path


@pytest.mark.parametrize("name", TILES)
def test_a_damaged_tile_is_rebuilt_and_the_receipts_verify(data: Path, name: str) -> None:
    path = path_of(data, name)
    content = path.read_bytes()
    path.write_bytes(flipped(content, 99))

    with started(data) as server:
        assert list(range(COUNT)) == verified(lines(server), policy_of(data))
        served = server.http.get(
            f"/ledger/default/{path.relative_to(data / 'ledger/default')}", headers=AS_APPLICATION
        )

        assert (200, content) == (served.status_code, served.content)
        assert content == path.read_bytes()
        assert "ok" == server.http.get("/healthz").json()["status"]
        assert str(path) in server.output()


@pytest.mark.parametrize("how", HOW)
def test_all_tiles_damaged_at_once_are_rebuilt_from_the_journal(data: Path, how: str) -> None:
    paths = [path_of(data, name) for name in TILES]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(HOW[how](content))

    with started(data) as server:
        assert list(range(COUNT)) == verified(lines(server), policy_of(data))
        until(lambda: contents == [path.read_bytes() for path in paths])


def test_a_tile_that_is_damaged_while_the_server_runs_is_never_served(data: Path) -> None:
    with started(data, INDELIBLE_SCRUB_BYTES_PER_S="1") as server:
        for name in ("tile/0/000", "tile/entries/000", "tile/1/000.p/2"):
            path = data / "ledger/default" / name
            content = path.read_bytes()
            flip(path, 77)
            served = server.http.get(f"/ledger/default/{name}", headers=AS_APPLICATION)
            assert (200, content) == (served.status_code, served.content)
            assert content == path.read_bytes()
        assert 3 == server.count("indelible_tiles_rebuilt_total")


def test_a_tile_is_rebuilt_from_its_bundle_where_the_journal_is_damaged_too(data: Path) -> None:
    flip(tiles_in(data) / "0/000", 8 * 32 * 7)
    change(data, "leaf", 9, lambda leaf: flipped(leaf, 8 * 90))

    with started(data) as server:
        received = verified(lines(server), policy_of(data))

        assert [n for n in range(COUNT) if n != 9] == received


def test_a_damaged_checkpoint_is_served_from_memory(data: Path) -> None:
    with started(data) as server:
        path = data / "ledger/default/checkpoint"
        note = path.read_bytes()
        for bit in range(0, 8 * len(note), 53):
            path.write_bytes(flipped(note, bit))
            served = server.http.get("/ledger/default/checkpoint", headers=AS_APPLICATION)
            assert note == served.content


# What cannot


def change(data: Path, column: str, index: int, how: Callable[[bytes], object]) -> None:
    with journal_of(data) as journal:
        where = f"FROM event_1 WHERE id & 0xFFFFFFFF = {index}"
        (row,) = journal.execute(f"SELECT id, {column} {where}").fetchall()
        row_id, content = row
        assert isinstance(content, bytes)
        journal.execute(f"UPDATE event_1 SET {column} = ? WHERE id = ?", (how(content), row_id))


DAMAGES: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "a flipped bit in a payload": ("payload", lambda content: flipped(content, 20)),
    "another payload": ("payload", lambda _: b'{"amount":1}'),
    "another payload, as text": ("payload", lambda _: '{"amount":1}'),
    "a payload that is a number": ("payload", lambda _: 7),
    "a payload that is gone": ("payload", lambda _: None),
    "a flipped bit in a record": ("record", lambda content: flipped(content, 20)),
    "a record that is gone": ("record", lambda _: None),
    "a flipped bit in the salts": ("salts", lambda content: flipped(content, 300)),
    "salts that are cut short": ("salts", lambda content: content[:-1]),
    "salts that are gone": ("salts", lambda _: None),
    "another commitment in the leaf": ("leaf", lambda content: flipped(content, 8 * 95)),
    "another kind in the leaf": ("leaf", lambda content: flipped(content, 8 + 6)),
    "another transaction id in the leaf": ("leaf", lambda content: flipped(content, 8 * 20)),
    "a leaf that is text": ("leaf", lambda _: "x" * 96),
}


def test_a_damaged_row_has_no_receipt_and_the_answer_says_where(data: Path) -> None:
    damaged = {7 + 20 * n: name for n, name in enumerate(DAMAGES)}
    tx_ids = {index: stored_tx(data, index) for index in damaged}
    for index, name in damaged.items():
        change(data, DAMAGES[name][0], index, DAMAGES[name][1])
    with journal_of(data) as journal:
        journal.execute("DELETE FROM event_1 WHERE id & 0xFFFFFFFF = 500")

    with started(data) as server:
        found = lines(server)
        received = verified(found, policy_of(data))

        assert {*range(COUNT)} - {*damaged, 500} == {*received}
        for index, name in {**damaged, 500: "a row that is gone"}.items():
            assert "tampered" == found[index]["code"], name
            assert f"index {index}" in found[index]["message"], name
        for index, name in damaged.items():
            for route in ("receipt", "verify"):
                answer = server.http.get(
                    f"/v1/events/{tx_ids[index]}/{route}", headers=AS_APPLICATION
                )
                body = assert_canonical_error(answer, 500, "tampered")
                assert f"index {index}" in body["message"], name
        health = server.http.get("/healthz")
        assert (503, "failing") == (health.status_code, health.json()["ledger"]["status"])
        assert any("index 7 " in alarm for alarm in health.json()["ledger"]["alarms"])
        assert len(damaged) <= server.count("indelible_damaged_places")
        assert 200 == server.send(product()).status_code


def test_a_damaged_row_hides_no_other_event_from_its_receipt(data: Path) -> None:
    with started(data) as server:
        tx_ids = [one["tx_id"] for one in lines(server)]
    middle = COUNT // 2  # where every search by order begins
    change(data, "leaf", middle, lambda leaf: flipped(leaf, 8 * 16))

    with started(data) as server:
        for index in (*range(0, COUNT, 7), middle - 1, middle, middle + 1):
            tx_id = tx_ids[index]
            answer = server.http.get(f"/v1/events/{tx_id}/receipt", headers=AS_APPLICATION)
            if index == middle:
                assert_canonical_error(answer, 500, "tampered")
            else:
                checked = verify_receipt(answer.content, policy_of(data))
                assert (Verdict.VERIFIED, index) == (checked.verdict, checked.index)


def stored_tx(data: Path, index: int) -> str:
    """The transaction id of an event, from its bundle: the row is to be damaged."""
    bundle = (tiles_in(data) / f"entries/00{index // WIDTH}").read_bytes()
    return "tx_" + bundle[index % WIDTH * 98 + 2 :][16:32].hex()


def test_an_erased_event_keeps_its_receipt(data: Path) -> None:
    with started(data) as server:
        tx_id = lines(server)[7]["tx_id"]
        body = {"project": "default", "tx_ids": [tx_id], "reason": "asked_for"}
        answer = server.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
        assert 200 == answer.status_code, answer.text
        received = verified(lines(server), policy_of(data))
        assert list(range(COUNT)) == received[:COUNT]
        assert "ok" == server.http.get("/healthz").json()["status"]


# The scrub


def test_the_scrub_finds_damage_that_nobody_asks_for_and_takes_it_back(data: Path) -> None:
    change(data, "payload", 301, lambda content: flipped(content, 3))
    with started(data) as server:
        until(lambda: alarms(server) != [])
        (alarm,) = alarms(server)
        assert "the payload of the event with index 301" in alarm
        assert "the payload of the event with index 301" in server.output()

    with started(data, INDELIBLE_SCRUB_BYTES_PER_S="1") as server:
        assert [alarm] == alarms(server)  # a restart does not make it well

    change(data, "payload", 301, lambda content: flipped(content, 3))
    with started(data) as server:
        until(lambda: alarms(server) == [])
        assert 200 == server.http.get("/healthz").status_code


def test_the_scrub_rebuilds_what_nobody_asks_for(data: Path) -> None:
    path = tiles_in(data) / "0/001"
    content = path.read_bytes()
    flip(path, 4_000)
    with started(data):
        until(lambda: content == path.read_bytes())


def test_the_scrub_reads_no_faster_than_it_may(data: Path) -> None:
    with started(data, INDELIBLE_SCRUB_BYTES_PER_S="20000") as server:
        time.sleep(2.0)
        assert 0 < server.count("indelible_scrubbed_bytes_total") < 250_000


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """The parts of a server that runs for days, without its threads."""
    parts = Parts(tmp_path / "data")
    parts.store(5)
    parts.seal()
    parts.store(5)
    parts.seal()
    yield parts
    parts.close()


def scrubbed(parts: Parts) -> list[str]:
    """What one pass of the scrub leaves as damaged."""
    assert sum(parts.ledger.scrub.steps()) > 0
    return parts.ledger.damages.sentences()


def test_the_scrub_puts_a_damaged_checkpoint_right(parts: Parts) -> None:
    note = parts.note()
    for damaged in (note[:-5], "", "rubbish", note.replace("\n10\n", "\n11\n")):
        (parts.log.tiles.folder / CHECKPOINT).write_text(damaged)
        assert [] == scrubbed(parts)
        assert note == parts.note()


def test_the_scrub_puts_the_narrower_tiles_of_earlier_checkpoints_right(parts: Parts) -> None:
    paths = [parts.log.tiles.folder / Tile(level, 0, 5).path for level in (0, ENTRIES)]
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        flip(path, 11)
    assert [] == scrubbed(parts)
    assert contents == [path.read_bytes() for path in paths]


def test_a_pass_that_begins_in_the_middle_of_a_log_looks_at_all_of_it(tmp_path: Path) -> None:
    with closing(Parts(tmp_path / "data")) as parts:
        parts.store(WIDTH + 4)
        parts.seal()
        path = parts.log.tiles.folder / Tile(0, 0).path
        content = path.read_bytes()
        flip(path, 11)
        parts.ledger.damages.move(parts.log.name, 1)
        assert [] == scrubbed(parts)
        assert content == path.read_bytes()


@pytest.mark.parametrize("name", [CHECKPOINT, WITNESSED])
@pytest.mark.parametrize("size", [5, 10, 11])
def test_the_scrub_names_a_note_of_another_history_whatever_its_size(
    parts: Parts, name: str, size: int
) -> None:
    signer = parts.log.signer
    assert signer is not None
    note = parts.note()
    forged = signer.sign(Checkpoint(parts.log.origin, size, bytes(32)).text)
    parts.log.tiles.publish(name, forged)

    (sentence,) = scrubbed(parts)

    assert sentence.startswith(f"{name} of {parts.log.origin}")
    assert sentence in parts.ledger.alarms()
    assert forged == parts.log.tiles.published(name)  # evidence is left where it is
    parts.log.tiles.publish(name, note)
    assert [] == scrubbed(parts)


def test_the_scrub_holds_every_row_to_its_leaf_and_every_leaf_to_the_tree(tmp_path: Path) -> None:
    flips = Flips(tmp_path)
    for index in flips.rows(9_973):
        # A leaf of the last bundle keeps a server from starting.
        with suppress(JournalDiffers), closing(Parts(flips.folder)) as parts:
            (sentence,) = scrubbed(parts)
            assert f"index {index}" in sentence
    with closing(Parts(flips.folder)) as parts:
        assert [] == scrubbed(parts)


def alarms(server: World) -> list[str]:
    return list(server.http.get("/healthz").json()["ledger"]["alarms"])


def until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


# Every bit


EVENTS = WIDTH + 4
SAMPLED = (0, 1, 100, WIDTH - 1, WIDTH, EVENTS - 1)


class Flips:
    """A small log of two tiles, opened again after each flip as a server's start does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        parts = Parts(self.folder)
        parts.store(WIDTH - 6)
        parts.seal()
        parts.store(10)
        parts.seal()
        self.policy = parts.ledger.logs.policy_of(parts.log)
        parts.close()
        self.came_of: Counter[str] = Counter()

    @property
    def log(self) -> Path:
        return self.folder / "ledger" / PROJECT

    def files(self, step: int) -> Iterator[None]:
        """Flip every `step`th bit of every tile and bundle; stops while it is flipped."""
        at = 0
        for path in sorted(self.log.glob("tile/**/*")):
            if path.is_dir():
                continue
            content = path.read_bytes()
            for bit in range(at, 8 * len(content), step):
                path.write_bytes(flipped(content, bit))
                yield
                path.write_bytes(content)
            at = (at - 8 * len(content)) % step

    def rows(self, step: int) -> Iterator[int]:
        """Flip every `step`th bit of every stored column; the index, while it is flipped."""
        at = 0
        for column in COLUMNS:
            with journal_of(self.folder) as journal:
                rows: list[Any] = journal.execute(f"SELECT id, {column} FROM event_1").fetchall()
            for row_id, content in rows:
                for bit in range(at, 8 * len(content), step):
                    self.put(column, row_id, flipped(content, bit))
                    yield row_id & 0xFFFF
                    self.put(column, row_id, content)
                at = (at - 8 * len(content)) % step

    def put(self, column: str, row_id: int, content: bytes) -> None:
        with journal_of(self.folder) as journal:
            journal.execute(f"UPDATE event_1 SET {column} = ? WHERE id = ?", (content, row_id))

    def look(self, asked: Iterable[int]) -> None:
        """Ask for receipts as a server would be asked; each must verify, or be refused."""
        try:
            parts = Parts(self.folder)
        except (NotStarted, SealingStopped) as error:
            self.came_of[f"refused to start: {error.code}"] += 1
            return
        with closing(parts):
            refused = 0
            for index in asked:
                try:
                    (entry,) = parts.journal.read(parts.project_id, index, index + 1)
                    receipt = parts.ledger.receipts.of(entry)
                except Tampered:
                    refused += 1
                    continue
                checked = verify_receipt(receipt, self.policy)
                assert Verdict.VERIFIED is checked.verdict, (index, checked.steps)
            assert refused <= 1
            self.came_of["one refused" if refused else "all verified"] += 1


def flip_all(folder: Path, step: int, capsys: pytest.CaptureFixture[str]) -> None:
    flips = Flips(folder)
    flips.look(range(EVENTS))
    assert {"all verified": 1} == flips.came_of
    for _ in flips.files(step):
        flips.look(SAMPLED)
    assert {"all verified"} == set(flips.came_of)
    for index in flips.rows(step):
        flips.look({*SAMPLED, index})
    said = ", ".join(f"{count:,} {word}" for word, count in sorted(flips.came_of.items()))
    with capsys.disabled():  # the figure is part of what is shown
        print(f"\n{flips.came_of.total():,} flipped bits: {said}")  # noqa: T201 — see above


@pytest.mark.timeout(300)
def test_every_receipt_verifies_or_is_refused_whichever_bit_flips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_all(tmp_path, 7_001, capsys)


@pytest.mark.slow(minutes=5)
@pytest.mark.timeout(1_200)
def test_every_receipt_verifies_or_is_refused_whichever_of_many_bits_flips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_all(tmp_path, 499, capsys)
