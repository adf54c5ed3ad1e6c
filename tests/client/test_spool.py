"""The spool's files: what is read back is what was written, whatever happened to the bytes."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.client import Counts, Indelible
from indelible.client.spool import HEAD, MAX_RECORD_BYTES, Spool, SpoolFile, contents_of, frame
from indelible.errors import AuditNotKept
from indelible.event import LossReason
from indelible.testing import InMemoryServer
from tests.client.program import BEGINNING, LIMIT_S, Program, address, arrived

RECORDS = [b"a", b'{"event":"tick"}', b"b", b'{"event":"tock"}' * 20]


def file_of(records: Iterable[bytes]) -> bytes:
    return HEAD + b"".join(map(frame, records))


ANY_RECORDS = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


@given(ANY_RECORDS)
def test_what_was_written_is_read_back(records: list[bytes]) -> None:
    assert (records, True) == contents_of(file_of(records))


@given(ANY_RECORDS, st.binary(min_size=1, max_size=40))
def test_any_tail_costs_no_record_before_it(records: list[bytes], tail: bytes) -> None:
    read, _ = contents_of(file_of(records) + tail)

    assert records == read[: len(records)]


def test_each_flipped_byte_costs_the_damaged_record_only() -> None:
    data = file_of(RECORDS)
    ends = [len(file_of(RECORDS[: n + 1])) for n in range(len(RECORDS))]
    for place in range(len(HEAD), len(data)):
        hit = sum(end <= place for end in ends)
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= flip
            read = contents_of(bytes(damaged))
            assert (RECORDS[:hit] + RECORDS[hit + 1 :], False) == read, place


def test_a_file_of_an_unknown_kind_is_not_guessed_at() -> None:
    for place in range(len(HEAD)):
        damaged = bytearray(file_of(RECORDS))
        damaged[place] ^= 1
        assert ([], False) == contents_of(bytes(damaged))


def test_a_page_of_zeros_costs_what_was_on_it() -> None:
    first, second = (b'{"n":%d}' % n for n in range(2))
    damaged = HEAD + frame(first) + bytes(4096) + frame(second)

    assert ([first, second], False) == contents_of(damaged)


def test_a_file_that_was_cut_anywhere_keeps_its_whole_records() -> None:
    data = file_of(RECORDS)
    ends = [len(file_of(RECORDS[:n])) for n in range(len(RECORDS) + 1)]
    for length in range(len(data) + 1):
        whole = RECORDS[: sum(end <= length for end in ends[1:])]
        assert (whole, length in ends) == contents_of(data[:length]), length


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(ANY_RECORDS.filter(bool), max_size=6))
def test_the_next_process_reads_each_batch_of_a_dead_one_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    dead = Spool(folder, "first", max_bytes=1 << 20)
    for place, batch in enumerate(batches):
        file = dead.create(at_ms=place)
        file.append(batch, sync=False)
        file.seal()
    dead.abandon()

    heir = Spool(folder, "second", max_bytes=1 << 20)

    read = [heir.read(path) for path in heir.adopt()]
    assert [(batch, True) for batch in batches] == read
    assert [] == heir.adopt()
    heir.close()


def test_what_a_living_process_keeps_is_nobody_elses(tmp_path: Path) -> None:
    living = Spool(tmp_path, "first", max_bytes=1 << 20)
    file = living.create(at_ms=1)
    file.append([b"mine"], sync=True)
    file.seal()

    other = Spool(tmp_path, "second", max_bytes=1 << 20)

    assert [] == other.adopt()
    living.abandon()
    assert [([b"mine"], True)] == [other.read(path) for path in other.adopt()]
    other.close()


def test_of_many_heirs_one_has_each_batch(tmp_path: Path) -> None:
    dead = Spool(tmp_path, "dead", max_bytes=1 << 20)
    for place in range(40):
        file = dead.create(at_ms=place)
        file.append([b"%d" % place], sync=False)
        file.seal()
    dead.abandon()
    heirs = [Spool(tmp_path, f"heir-{n}", max_bytes=1 << 20) for n in range(6)]
    begin = threading.Barrier(len(heirs))
    found: list[bytes] = []

    def inherit(heir: Spool) -> None:
        begin.wait()
        for path in heir.adopt():
            found.extend(heir.read(path).records)

    threads = [threading.Thread(target=inherit, args=(heir,)) for heir in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(b"%d" % place for place in range(40)) == sorted(found)
    for heir in heirs:
        heir.close()


def test_a_file_whose_head_cannot_be_written_leaves_no_file_behind(tmp_path: Path) -> None:
    text = """
import resource, sys
from pathlib import Path
from indelible.client.spool import SpoolFile
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
path = Path(sys.argv[1])
try:
    SpoolFile(path)
except OSError:
    print(path.exists())
"""
    command = [sys.executable, "-W", "error", "-c", text, str(tmp_path / "1-1.batch")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)

    assert ("False\n", "") == (said.stdout, said.stderr)


def test_a_write_that_fails_in_the_middle_leaves_the_records_before_it(tmp_path: Path) -> None:
    text = """
import resource, sys
from pathlib import Path
from indelible.client.spool import SpoolFile, contents_of
path = Path(sys.argv[1])
file = SpoolFile(path)
file.append([b"kept"], sync=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    file.append([b"x" * 50, b"y" * 50], sync=True)
except OSError:
    file.append([b"after"], sync=True)
print(contents_of(path.read_bytes()).records)
"""
    command = [sys.executable, "-c", text, str(tmp_path / "1-1.batch")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)

    assert "[b'kept', b'after']\n" == said.stdout


# Through the client.


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as running:
        yield running


def test_a_full_disk_costs_no_event_while_the_server_takes_them(
    server: InMemoryServer, tmp_path: Path
) -> None:
    text = f"""{BEGINNING}
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for place in range(500):
    client.audit.send_async("row.read", {{"place": place}})
print(client.flush(60), client.audit.counts())
"""
    with Program(text, tmp_path, **address(server)) as program:
        code, said = program.end()

    assert 0 == code, said
    assert {"row.read": 500} == arrived(server)
    assert said.startswith("True ")
    assert "delivered=500" in said
    assert "lost={}" in said
    assert "events wait in memory only" in said
    assert "unspooled=0," not in said
    assert [] == list((tmp_path / "spool" / "audit").iterdir())


def test_with_neither_disk_nor_server_send_says_so_and_counts(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("no folder")
    client = Indelible(
        api_key="k", host="http://127.0.0.1:9", spool_dir=tmp_path / "in the way", total_s=0.5
    )
    with pytest.raises(AuditNotKept):
        client.audit.send("order.created", {})
    client.shutdown(0.1)

    assert {LossReason.SPOOL_FAILED: 1} == client.audit.counts().lost


def test_an_event_that_is_too_long_to_be_read_back_is_not_called_safe(tmp_path: Path) -> None:
    with Indelible(
        api_key="k", host="http://127.0.0.1:9", spool_dir=tmp_path, total_s=0.5
    ) as client:
        with pytest.raises(AuditNotKept):
            client.audit.send("film.uploaded", "x" * (MAX_RECORD_BYTES + 1))
        assert client.audit.send("film.described", "x").is_spooled

        assert {LossReason.SPOOL_FAILED: 1} == client.audit.counts().lost
        assert 1 == client.audit.counts().waiting
        assert 1 == len(list(tmp_path.rglob("*.batch")))
        client.shutdown(0.1)


def test_a_spool_that_this_user_may_not_write_costs_no_event(
    server: InMemoryServer, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not")
    text = f"""{BEGINNING}
os.seteuid(65534)
assert client.flush(1)
for place in range(100):
    client.audit.send_async("row.read", {{"place": place}})
print(client.flush(60), client.audit.counts().lost)
"""
    (tmp_path / "spool").mkdir(mode=0o700)
    with Program(text, tmp_path, **address(server)) as program:
        code, said = program.end()

    assert 0 == code, said
    assert said.startswith("True {}\n")
    assert {"row.read": 100} == arrived(server)


def test_a_spool_that_is_full_is_said_once_and_nothing_is_lost_yet(
    server: InMemoryServer, tmp_path: Path
) -> None:
    said: list[str] = []
    client = Indelible(
        api_key=server.api_key,
        host=server.url,
        spool_dir=tmp_path,
        spool_bytes=2_000,
        on_error=said.append,
    )
    for place in range(50):
        client.audit.send_async("row.read", {"place": place})
    assert client.flush(60)
    counts: Counts = client.audit.counts()
    client.shutdown()

    assert (50, 50, {}) == (counts.captured, counts.delivered, counts.lost)
    assert any("the spool is full" in one for one in said)


def test_a_damaged_record_costs_itself_and_its_file_is_kept(
    server: InMemoryServer, tmp_path: Path
) -> None:
    folder = tmp_path / "audit"
    dead = Spool(folder, "dead", max_bytes=1 << 20)
    for batch in range(2):
        file = dead.create(at_ms=batch + 1)
        file.append([_record(f"{batch}-{place}") for place in range(4)], sync=True)
        file.seal()
        if batch == 0:
            _damage(file)
    dead.abandon()

    said: list[str] = []
    client = Indelible(
        api_key=server.api_key, host=server.url, spool_dir=tmp_path, on_error=said.append
    )
    assert client.flush(60)
    client.shutdown()

    keys = [event.body["idempotency_key"] for event in server.audit]
    assert ["0-0", "0-1", "0-3", "1-0", "1-1", "1-2", "1-3"] == keys
    assert [folder / "refused"] == list(folder.iterdir())
    (kept,) = (folder / "refused").iterdir()
    assert [f"audit: a file of the spool is damaged; kept in {kept}"] == said
    assert ([_record("0-0"), _record("0-1"), _record("0-3")], False) == contents_of(
        kept.read_bytes()
    )


def test_two_processes_on_one_spool_deliver_each_event_once(
    server: InMemoryServer, tmp_path: Path
) -> None:
    text = f"""{BEGINNING}
for place in range(300):
    client.audit.send_async(sys.argv[1], {{"place": place}})
    if place % 50 == 0:
        client.flush(60)
"""
    shared = {"INDELIBLE_SPOOL_DIR": str(tmp_path / "shared")}
    with (
        Program(text, tmp_path / "a", "first", **address(server), **shared) as first,
        Program(text, tmp_path / "b", "second", **address(server), **shared) as second,
    ):
        assert (0, "") == first.end()
        assert (0, "") == second.end()

    assert {"first": 300, "second": 300} == arrived(server)
    assert [] == list((tmp_path / "shared" / "audit").iterdir())


def _record(key: str) -> bytes:
    body = {"payload": "{}", "meta": {"event_name": "row.read"}, "idempotency_key": key}
    return json.dumps(body).encode()


def _damage(file: SpoolFile) -> None:
    """Flip a bit in the third of its records."""
    data = bytearray(file.path.read_bytes())
    data[len(HEAD) + 2 * len(frame(_record("0-0"))) + 20] ^= 1
    file.path.write_bytes(data)


def test_the_folders_of_the_dead_do_not_stay(server: InMemoryServer, tmp_path: Path) -> None:
    Spool(tmp_path / "audit", "dead", max_bytes=1 << 20).abandon()

    client = Indelible(api_key=server.api_key, host=server.url, spool_dir=tmp_path)
    assert client.flush(60)
    client.shutdown()

    assert [] == list((tmp_path / "audit").iterdir())
