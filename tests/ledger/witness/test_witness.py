"""A witness over real HTTP: every row of its table of checks, and what it must never do."""

import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.errors import AlreadyExists, DataFolderInUse, WitnessRefused
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import time_of
from indelible.ledger.format.note import Note, Signer, open_note, parse_note
from indelible.ledger.format.tree import EMPTY_ROOT
from indelible.ledger.witness.request import MOST_BODY_BYTES, request_body
from indelible.ledger.witness.rules import MOST_EVIDENCE, Witness, hash_of
from indelible.ledger.witness.store import (
    DATABASE_FILE,
    KEY_FILE,
    Evidence,
    Reason,
    create,
    read_evidence,
    read_key,
)
from tests.cli.command import Ran, assert_refused, call, run
from tests.ledger.format import worked
from tests.ledger.witness.witnesses import DYING, Book, WitnessProcess, spawn, witness
from tests.world import plain_client

NAME = "witness.example/w1"
DIGITS = "0123456789"
SPARE = [Signer(f"log.example/{n}", bytes([n]) * 32) for n in range(1, 61)]
FOLDER = Path("w")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessProcess]:
    """A witness that knows the worked log and many spare ones."""
    folder = tmp_path_factory.mktemp("witness") / "w"
    keys = [worked.SIGNER.key, *(signer.key for signer in SPARE)]
    with witness(folder, keys, new=NAME) as process:
        yield process


_spare = iter(SPARE)


@pytest.fixture
def log() -> Book:
    """A log that the running witness knows and has seen nothing of."""
    return Book.of(next(_spare), DIGITS)


def cosigned(running: WitnessProcess, log: Book, size: int, answer: httpx.Response) -> int:
    """The time in the answer, which is a cosignature of this checkpoint and no other."""
    assert (200, "text/plain; charset=utf-8") == (
        answer.status_code,
        answer.headers["content-type"],
    ), answer.text
    text = Checkpoint(log.origin, size, log.root(size)).text
    note = open_note(f"{text}\n{answer.text}", [running.key])
    assert text == note.text
    (signature,) = note.signatures
    return time_of(signature)


# The table of checks, row by row


def malformed() -> dict[str, bytes]:
    log = Book.of(Signer(worked.ORIGIN, bytes(range(32))), DIGITS)
    good = log.body(3, 7)
    hashes = good.split("\n")[1:5]
    no_checkpoint = log.signer.sign(f"{worked.ORIGIN}\n")
    return {
        "nothing": b"",
        "no old line": good.partition("\n")[2].encode(),
        "no number": good.replace("old 3", "old x").encode(),
        "a leading zero": good.replace("old 3", "old 03").encode(),
        "a sign": good.replace("old 3", "old +3").encode(),
        "another word": good.replace("old 3", "size 3").encode(),
        "digits that are not ASCII": good.replace("old 3", "old ٣").encode(),
        "an old size that no tree has": good.replace("old 3", f"old {2**63}").encode(),
        "a hash cut short": good.replace(hashes[0], hashes[0][:-4]).encode(),
        "a hash that is no base64": good.replace(hashes[0], "!" * 44).encode(),
        "a hash in another spelling": good.replace(hashes[0], hashes[0][:-1]).encode(),
        "64 hashes": good.replace(hashes[0], "\n".join([hashes[0]] * 61)).encode(),
        "no empty line": good.replace("\n\n", "\n", 1).encode(),
        "carriage returns": good.replace("\n", "\r\n").encode(),
        "no signature": good.rpartition("— ")[0].encode(),
        "no last line feed": good.removesuffix("\n").encode(),
        "no UTF-8": good.encode() + b"\xff",
        "a note that is no checkpoint": request_body(0, [], no_checkpoint).encode(),
        "a size that no tree has": request_body(0, [], log.note(2**63, log.root(1))).encode(),
        "a root cut short": request_body(0, [], log.note(1, bytes(31))).encode(),
    }


@pytest.mark.parametrize("case", malformed())
def test_a_malformed_body_is_answered_400(running: WitnessProcess, case: str) -> None:
    assert 400 == running.add(malformed()[case]).status_code


def test_63_hashes_are_read(running: WitnessProcess, log: Book) -> None:
    answer = running.add(request_body(0, [bytes(32)] * 63, log.note(7)))
    assert 422 == answer.status_code


def test_an_unknown_origin_is_answered_404(running: WitnessProcess) -> None:
    unknown = Book.of(Signer("log.example/unknown", bytes(32)), DIGITS)
    assert 404 == running.add(unknown.body(0, 3)).status_code


def test_the_origin_is_looked_at_before_the_signature(running: WitnessProcess, log: Book) -> None:
    text = Checkpoint("log.example/unknown", 3, log.root(3)).text
    assert 404 == running.add(request_body(0, [], log.signer.sign(text))).status_code


def test_a_checkpoint_that_only_strangers_signed_is_answered_403(
    running: WitnessProcess, log: Book
) -> None:
    text = Checkpoint(log.origin, 3, log.root(3)).text
    stranger = Signer("log.example/stranger", bytes(32))
    namesake = Signer(log.origin, bytes(32))
    for signer in (stranger, namesake):
        assert 403 == running.add(request_body(0, [], signer.sign(text))).status_code


def test_a_wrong_signature_by_the_log_is_answered_403(running: WitnessProcess, log: Book) -> None:
    other = parse_note(log.note(4)).signatures
    note = str(Note(Checkpoint(log.origin, 3, log.root(3)).text, other))
    assert 403 == running.add(request_body(0, [], note)).status_code


def test_the_signature_is_looked_at_before_the_sizes(running: WitnessProcess, log: Book) -> None:
    text = Checkpoint(log.origin, 3, log.root(3)).text
    note = Signer("log.example/stranger", bytes(32)).sign(text)
    assert 403 == running.add(request_body(5, [], note)).status_code


def test_strangers_may_have_signed_beside_the_log(running: WitnessProcess, log: Book) -> None:
    text = Checkpoint(log.origin, 3, log.root(3)).text
    beside = Signer("log.example/stranger", bytes(32)).signature(text)
    note = str(Note(text, (beside, log.signer.signature(text))))
    cosigned(running, log, 3, running.add(request_body(0, [], note)))


def test_an_old_size_above_the_checkpoints_is_answered_400(
    running: WitnessProcess, log: Book
) -> None:
    assert 400 == running.add(request_body(5, [], log.note(3))).status_code


def test_400_for_the_sizes_comes_before_409(running: WitnessProcess, log: Book) -> None:
    assert 200 == running.add(log.body(0, 7)).status_code
    assert 400 == running.add(request_body(5, [], log.note(3))).status_code


def test_another_old_size_than_the_last_is_answered_409_with_the_last(
    running: WitnessProcess, log: Book
) -> None:
    for old, last in ((3, 0), (0, 3), (2, 3), (4, 3)):
        if last == 3 and old == 0:
            assert 200 == running.add(log.body(0, 3)).status_code
        answer = running.add(log.body(old, 7))
        assert (409, "text/x.tlog.size", f"{last}\n") == (
            answer.status_code,
            answer.headers["content-type"],
            answer.text,
        )


def test_409_comes_before_422(running: WitnessProcess, log: Book) -> None:
    assert 200 == running.add(log.body(0, 3)).status_code
    assert 409 == running.add(request_body(2, [bytes(32)], log.note(7))).status_code


def test_an_empty_log_has_the_empty_root_or_is_answered_422(
    running: WitnessProcess, log: Book
) -> None:
    assert 422 == running.add(request_body(0, [], log.note(0, log.root(1)))).status_code
    cosigned(running, log, 0, running.add(request_body(0, [], log.note(0, EMPTY_ROOT))))
    cosigned(running, log, 3, running.add(log.body(0, 3)))


def test_a_first_checkpoint_with_a_proof_is_answered_422(
    running: WitnessProcess, log: Book
) -> None:
    assert 422 == running.add(request_body(0, [bytes(32)], log.note(3))).status_code
    cosigned(running, log, 3, running.add(log.body(0, 3)))


def test_a_wrong_proof_is_answered_422(running: WitnessProcess, log: Book) -> None:
    assert 200 == running.add(log.body(0, 3)).status_code
    proof = log.proof(3, 7)
    for wrong in ([], proof[:-1], [*proof, bytes(32)], proof[::-1], [bytes(32), *proof[1:]]):
        assert 422 == running.add(request_body(3, wrong, log.note(7))).status_code
    cosigned(running, log, 7, running.add(request_body(3, proof, log.note(7))))


def test_a_fork_with_its_own_right_proof_is_answered_422(
    running: WitnessProcess, log: Book
) -> None:
    assert 200 == running.add(log.body(0, 5)).status_code
    fork = Book.of(log.signer, "0123x56789")
    assert 422 == running.add(fork.body(5, 8)).status_code
    assert "5\n" == running.add(fork.body(3, 8)).text


def test_another_root_for_the_last_size_is_answered_422(running: WitnessProcess, log: Book) -> None:
    assert 200 == running.add(log.body(0, 5)).status_code
    assert 422 == running.add(Book.of(log.signer, "0123x").body(5, 5)).status_code
    assert 422 == running.add(request_body(5, [bytes(32)], log.note(5))).status_code


def test_what_continues_the_last_checkpoint_is_cosigned(running: WitnessProcess, log: Book) -> None:
    before = int(time.time())
    sizes = (1, 1, 2, 3, 3, 7, 8, 10)
    for old, size in pairwise((0, *sizes)):
        at_s = cosigned(running, log, size, running.add(log.body(old, size)))
        assert before <= at_s <= time.time()


def test_a_log_may_have_two_keys_during_a_rotation(tmp_path: Path) -> None:
    old, new = Signer("log.example/x", b"1" * 32), Signer("log.example/x", b"2" * 32)
    with witness(tmp_path / "w", [old.key, new.key], new=NAME) as process:
        cosigned(process, Book.of(old, DIGITS), 3, process.add(Book.of(old, DIGITS).body(0, 3)))
        cosigned(process, Book.of(new, DIGITS), 7, process.add(Book.of(new, DIGITS).body(3, 7)))
        assert 422 == process.add(Book.of(new, "x" * 9).body(7, 9)).status_code


def test_the_worked_cosignature_is_given_to_the_byte(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    create(folder, worked.COSIGNER.key.name)
    replace_key(folder)
    mine = Witness(folder, [worked.SIGNER.key], worked.COSIGNER, lambda: 1_700_000_000_999)
    try:
        answer = mine.add_checkpoint(f"old 0\n\n{worked.NOTE}".encode())
        assert (200, worked.WITNESS_LINE) == (answer.status, answer.body)
        assert worked.COSIGNED == mine.latest(hash_of(worked.ORIGIN))
    finally:
        mine.close()


def replace_key(folder: Path) -> None:
    """Give a new witness the worked key; nothing but a test has any business doing so."""
    import apsw

    (folder / KEY_FILE).write_text(worked.COSIGNER.text)
    database = apsw.Connection(str(folder / DATABASE_FILE))
    database.execute("UPDATE witness SET vkey = ?", (worked.WITNESS_VKEY,))
    database.close()


# Its other paths


def test_the_newest_cosigned_note_can_be_read(running: WitnessProcess, log: Book) -> None:
    path = f"/{hash_of(log.origin)}/checkpoint"
    assert 404 == running.http.get(path).status_code
    for old, size in ((0, 3), (3, 7)):
        line = running.add(log.body(old, size)).text
        answer = running.http.get(path)
        assert (200, log.note(size) + line) == (answer.status_code, answer.text)
        assert "text/plain; charset=utf-8" == answer.headers["content-type"]
        assert 2 == len(open_note(answer.text, [log.signer.key, running.key]).signatures)


def test_the_path_of_the_worked_origin_is_its_hash(running: WitnessProcess) -> None:
    wanted = "40afa5574e20287116a2acb7914d66edf3734240a5cf038be6f2d134b92fa328"
    answer = running.add(f"old 0\n\n{worked.NOTE}")
    assert 200 == answer.status_code
    assert worked.NOTE + answer.text == running.http.get(f"/{wanted}/checkpoint").text


def test_a_stranger_beside_the_log_is_not_in_what_is_published(
    running: WitnessProcess, log: Book
) -> None:
    text = Checkpoint(log.origin, 3, log.root(3)).text
    beside = Signer("log.example/stranger", bytes(32)).signature(text)
    note = str(Note(text, (beside, log.signer.signature(text))))
    line = running.add(request_body(0, [], note)).text
    assert log.note(3) + line == running.http.get(f"/{hash_of(log.origin)}/checkpoint").text


def test_any_prefix_is_taken(running: WitnessProcess, log: Book) -> None:
    answer = running.http.post("/a/b/add-checkpoint", content=log.body(0, 3))
    cosigned(running, log, 3, answer)
    assert 200 == running.http.get(f"/a/b/{hash_of(log.origin)}/checkpoint").status_code


def test_it_says_in_one_line_who_it_is(running: WitnessProcess) -> None:
    for path in ("/", "/healthz"):
        answer = running.http.get(path)
        assert (200, f"witness {NAME}: ok\n") == (answer.status_code, answer.text)
    assert 200 == running.http.head("/healthz").status_code


def test_other_paths_and_methods_are_refused(running: WitnessProcess) -> None:
    for path in ("/nothing", f"/{'0' * 63}/checkpoint", f"/{'A' * 64}/checkpoint", "/sign-subtree"):
        assert 404 == running.http.get(path).status_code
    answer = running.http.get("/add-checkpoint")
    assert (405, "POST") == (answer.status_code, answer.headers["allow"])
    answer = running.http.post("/healthz", content=b"")
    assert (405, "GET, HEAD") == (answer.status_code, answer.headers["allow"])


def test_a_body_over_the_limit_is_answered_413(running: WitnessProcess, log: Book) -> None:
    long = b"x" * (MOST_BODY_BYTES + 1)
    assert 413 == running.add(long).status_code
    assert 400 == running.add(long[1:]).status_code
    answer = running.http.post("/add-checkpoint", content=iter([long, b"x" * 9]))  # no length
    assert 413 == answer.status_code
    cosigned(running, log, 3, running.add(log.body(0, 3)))


# What it refuses is kept


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Witness]:
    """A witness in this process, that knows the spare logs."""
    create(tmp_path / FOLDER, NAME)
    mine = open_at(tmp_path / FOLDER)
    yield mine
    mine.close()


def open_at(folder: Path, *, most_evidence: int = MOST_EVIDENCE) -> Witness:
    keys = [worked.SIGNER.key, *(signer.key for signer in SPARE)]
    cosigner = read_key(folder)
    return Witness(folder, keys, cosigner, lambda: 1_700_000_000_000, most_evidence=most_evidence)


def ask(mine: Witness, body: str) -> int:
    return mine.add_checkpoint(body.encode()).status


def test_what_contradicts_the_last_checkpoint_is_kept_with_it(
    here: Witness, tmp_path: Path
) -> None:
    log = Book.of(SPARE[0], DIGITS)
    fork = Book.of(SPARE[0], "01234xxxxx")
    assert 422 == ask(here, log_with_empty_root(log))
    assert 200 == ask(here, log.body(0, 7))
    seen = here.latest(hash_of(log.origin))
    assert 422 == ask(here, fork.body(7, 9))
    assert 409 == ask(here, fork.body(3, 7))  # two roots for the size 7, whatever the old size

    found, left_out = read_evidence(tmp_path / FOLDER)

    at_ms = 1_700_000_000_000
    assert [
        Evidence(at_ms, log.origin, Reason.EMPTY_ROOT, log_with_empty_root(log), None),
        Evidence(at_ms, log.origin, Reason.NOT_CONSISTENT, fork.body(7, 9), seen),
        Evidence(at_ms, log.origin, Reason.OTHER_ROOT, fork.body(3, 7), seen),
    ] == found
    assert [(0, None), (9, 7), (7, 7)] == [(one.size, one.seen_size) for one in found]
    assert 0 == left_out


def log_with_empty_root(log: Book) -> str:
    return request_body(0, [], log.note(0, bytes(32)))


def test_what_is_no_evidence_is_not_kept(here: Witness, tmp_path: Path) -> None:
    log = Book.of(SPARE[0], DIGITS)
    text = Checkpoint(log.origin, 7, bytes(32)).text
    unsigned = request_body(5, [], Signer("log.example/stranger", bytes(32)).sign(text))
    answers = [
        ask(here, log.body(0, 5)),
        ask(here, unsigned),
        ask(here, request_body(9, [], log.note(7))),
        ask(here, log.body(0, 7)),  # the log had forgotten what was cosigned
        ask(here, log.body(0, 3)),  # came late
        ask(here, log.body(2, 5)),
    ]
    assert [200, 403, 400, 409, 409, 409] == answers
    assert ([], 0) == read_evidence(tmp_path / FOLDER)


def test_one_signed_checkpoint_is_kept_once_whatever_surrounds_it(
    here: Witness, tmp_path: Path
) -> None:
    log = Book.of(SPARE[0], DIGITS)
    ask(here, log.body(0, 5))
    text = Checkpoint(log.origin, 7, log.root(7)).text
    for n in range(5):
        beside = Signer(f"log.example/stranger{n}", bytes(32)).signature(text)
        note = str(Note(text, (beside, log.signer.signature(text))))
        assert 422 == ask(here, request_body(5, [bytes([n]) * 32], note))
    found, _ = read_evidence(tmp_path / FOLDER)
    assert [request_body(5, [bytes(32)], log.note(7))] == [one.body for one in found]


def test_evidence_is_bounded_and_the_rest_is_counted(tmp_path: Path) -> None:
    log = Book.of(SPARE[0], DIGITS)
    create(tmp_path / FOLDER, NAME)
    small = open_at(tmp_path / FOLDER, most_evidence=4)
    ask(small, log.body(0, 5))
    for n in range(7):
        fake = log.note(6, n.to_bytes(32, "big"))
        assert 422 == ask(small, request_body(5, [bytes(32)], fake))
    assert 422 == ask(small, request_body(5, [], log.note(5, bytes(32))))
    small.close()

    found, left_out = read_evidence(tmp_path / FOLDER)

    assert (4 + 1, 3) == (len(found), left_out)
    assert Reason.OTHER_ROOT is found[-1].reason  # one reason cannot use up another's room


def test_the_command_lists_the_evidence_while_the_witness_runs(tmp_path: Path) -> None:
    log = Book.of(SPARE[0], DIGITS)
    fork = Book.of(SPARE[0], "x" * 10)
    with witness(tmp_path / "w", [log.signer.key], new=NAME) as process:
        process.add(log.body(0, 5))
        process.add(fork.body(5, 5))
        shown = call("witness", "evidence", "--data", str(tmp_path / "w"))
        (row,) = shown.out.splitlines()[1:]
        assert [log.origin, "other_root", "5", "5"] == row.split()[1:]
        whole = call("witness", "evidence", "--data", str(tmp_path / "w"), "--json").json
        (one,) = whole["evidence"]
        notes = [one["request"].partition("\n\n")[2], one["cosigned"]]
        roots = {Checkpoint.parse(open_note(note, [log.signer.key]).text).root for note in notes}
        assert {log.root(5), fork.root(5)} == roots  # both signed by the log: it forked


# Its birth, and its end


def serve(folder: Path, *more: str) -> Ran:
    """A witness that is not expected to start."""
    arguments = ("--data", str(folder), "--port", "0", "--log", worked.LOG_VKEY, *more)
    return call("witness", "serve", *arguments)


def test_a_witness_is_made_only_by_an_explicit_order(tmp_path: Path) -> None:
    assert_refused(serve(tmp_path / "w"), 3, "witness_missing")
    assert not (tmp_path / "w").exists()
    with witness(tmp_path / "w", [worked.SIGNER.key], new=NAME) as first:
        vkey = first.key
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "w").iterdir()}
        assert {0o600} == set(modes.values()), modes
    assert_refused(serve(tmp_path / "w", "--new", NAME), 2, "already_exists")
    with witness(tmp_path / "w", [worked.SIGNER.key]) as again:
        assert vkey == again.key


def test_the_line_that_it_shows_belongs_in_a_policy(tmp_path: Path) -> None:
    from indelible.ledger.format.policy import parse_policy

    with witness(tmp_path / "w", [worked.SIGNER.key], new=NAME) as process:
        policy = parse_policy(f"{process.policy_line}\nquorum {NAME}\n")
        assert (process.as_member(NAME),) == policy.witnesses


def test_the_logs_may_come_from_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy"
    file.write_text(f"log {worked.LOG_VKEY}\nquorum none\n")
    arguments = ["--policy", str(file)]
    with witness(tmp_path / "w", [], new=NAME, more=arguments) as process:
        assert 200 == process.add(f"old 0\n\n{worked.NOTE}").status_code


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--log", "nonsense"),
        ("--log", worked.WITNESS_VKEY),
        ("--log", worked.LOG_VKEY, "--new", "a b"),
        ("--policy", "no-such-file"),
    ],
)
def test_called_wrongly_it_makes_nothing(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    given = wrong if "--new" in wrong else (*wrong, "--new", NAME)
    ran = call("witness", "serve", "--data", "w", "--port", "0", *given, cwd=tmp_path)
    assert_refused(ran, 2, "called_wrongly")
    assert [] == list(tmp_path.iterdir())


def made(folder: Path, size: int = 3) -> Book:
    """A witness in `folder` that has cosigned a log at this size, and is closed."""
    create(folder, NAME)
    log = Book.of(worked.SIGNER, DIGITS)
    mine = open_at(folder)
    assert 200 == ask(mine, log.body(0, size))
    mine.close()
    return log


def lose_database(folder: Path) -> None:
    (folder / DATABASE_FILE).unlink()


def empty_database(folder: Path) -> None:
    (folder / DATABASE_FILE).write_bytes(b"")


def garble_database(folder: Path) -> None:
    (folder / DATABASE_FILE).write_bytes(b"x" * 8192)


def lose_key(folder: Path) -> None:
    (folder / KEY_FILE).unlink()


def garble_key(folder: Path) -> None:
    (folder / KEY_FILE).write_text("x\n")


def swap_database(folder: Path) -> None:
    create(folder.with_name("other"), NAME)
    shutil.copy(folder.with_name("other") / DATABASE_FILE, folder / DATABASE_FILE)


@pytest.mark.parametrize(
    "lose",
    [lose_database, empty_database, garble_database, lose_key, garble_key, swap_database],
)
def test_a_witness_that_lost_a_part_is_retired(tmp_path: Path, lose: object) -> None:
    folder = tmp_path / "w"
    made(folder)
    assert callable(lose)
    lose(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(WitnessRefused):
        open_at(folder)
    with pytest.raises(AlreadyExists):
        create(folder, NAME)

    del before["serve.lock"]
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_the_command_says_what_to_do_with_a_witness_that_lost_its_database(tmp_path: Path) -> None:
    made(tmp_path / "w")
    lose_database(tmp_path / "w")
    refused = serve(tmp_path / "w")
    assert_refused(refused, 3, "witness_refused")
    assert "Retire this witness" in refused.err
    assert not (tmp_path / "w" / DATABASE_FILE).exists()


def small_files() -> None:
    """Let this process write no file beyond 10 kB: the disk is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


def test_a_full_disk_at_the_start_retires_no_witness(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    arguments = ("--data", str(folder), "--port", "0", "--log", worked.LOG_VKEY)

    unmade = run("witness", "serve", *arguments, "--new", NAME, beforehand=small_files)
    assert_refused(unmade, 3, "io_failed")
    with witness(folder, [worked.SIGNER.key], new=NAME) as process:
        assert 200 == process.add(f"old 0\n\n{worked.NOTE}").status_code
    refused = run("witness", "serve", *arguments, beforehand=small_files)
    assert_refused(refused, 3, "io_failed")
    assert "free space" in refused.err
    with witness(folder, [worked.SIGNER.key]) as process:
        assert "3\n" == process.add(f"old 0\n\n{worked.NOTE}").text


def test_two_processes_never_serve_one_folder(tmp_path: Path) -> None:
    with witness(tmp_path / "w", [worked.SIGNER.key], new=NAME) as first:
        assert_refused(serve(tmp_path / "w"), 3, "data_folder_in_use")
        with pytest.raises(DataFolderInUse):
            open_at(tmp_path / "w")
        assert 200 == first.add(f"old 0\n\n{worked.NOTE}").status_code
    with witness(tmp_path / "w", [worked.SIGNER.key]) as second:  # the kernel has let go of it
        assert "3\n" == second.add(f"old 0\n\n{worked.NOTE}").text


def test_what_was_stored_and_not_yet_said_is_remembered(tmp_path: Path) -> None:
    log = Book.of(worked.SIGNER, DIGITS)
    dying = spawn(tmp_path / "w", [log.signer.key], new=NAME, program=DYING)
    with pytest.raises(httpx.TransportError):
        dying.add(log.body(0, 3))
    dying.kill()
    with witness(tmp_path / "w", [log.signer.key]) as process:
        fork = Book.of(worked.SIGNER, "x" * 10)
        assert "3\n" == process.add(fork.body(0, 5)).text
        assert 422 == process.add(fork.body(3, 5)).status_code
        cosigned(process, log, 3, process.add(log.body(3, 3)))


# What it must never do

HISTORIES = ("01234567", "0123xxxx", "01234yyy", "zzzzzzzz")
BOOKS = [Book.of(worked.SIGNER, entries) for entries in HISTORIES]
ENTRIES_OF = {
    (size, book.root(size)): entries[:size]
    for book, entries in zip(BOOKS, HISTORIES, strict=True)
    for size in range(len(entries) + 1)
}

Request = tuple[Book, int, int | None, Book | None]
requests: st.SearchStrategy[Request] = st.tuples(
    st.sampled_from(BOOKS),
    st.integers(0, 8),  # the size to be cosigned
    st.one_of(st.none(), st.integers(0, 8)),  # the old size; None: what the witness says
    st.one_of(st.none(), st.sampled_from(BOOKS)),  # whose proof; None: of the same log
)


def assert_one_history(words: list[tuple[int, bytes]]) -> None:
    """Whatever was cosigned, in this order, is one log that only grew."""
    for (size, root), (next_size, next_root) in pairwise(words):
        assert size <= next_size
        assert ENTRIES_OF[size, root] == ENTRIES_OF[next_size, next_root][:size]


def request_of(
    book: Book, size: int, old: int | None, other: Book | None, last: int
) -> tuple[str, tuple[int, bytes]]:
    claimed = last if old is None else old
    start = min(claimed, size)
    body = request_body(claimed, (other or book).proof(start, size), book.note(size))
    return body, (size, book.root(size))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=st.lists(st.one_of(requests, requests, st.just("crash")), max_size=25))
def test_no_sequence_of_requests_makes_it_cosign_two_histories(story: list[Request | str]) -> None:
    with tempfile.TemporaryDirectory() as parent:
        number = 0
        words: list[tuple[int, bytes]] = []
        folder = Path(parent, "w0")
        create(folder, NAME)
        mine = open_at(folder)
        for step in story:
            if step == "crash":
                # The files as kill -9 would leave them: the log beside the database is not empty.
                number += 1
                before, folder = folder, Path(parent, f"w{number}")
                shutil.copytree(before, folder)
                mine.close()
                mine = open_at(folder)
                continue
            assert not isinstance(step, str)
            last = words[-1][0] if words else 0
            body, word = request_of(*step, last)
            if ask(mine, body) == 200:
                words.append(word)
        mine.close()
        assert_one_history(words)


@pytest.mark.crash
def test_killed_under_load_it_keeps_its_word(tmp_path: Path) -> None:
    """Honest and forked requests from several threads at once, through kills -9."""
    words: list[tuple[int, bytes]] = []
    folder = tmp_path / "w"
    create(folder, NAME)
    last = 0
    for _ in range(3):
        process = spawn(folder, [worked.SIGNER.key])
        heard = hammer(process, last)
        last = max([last, *(size for size, _ in heard)])
        words += heard
    assert words
    # Answers overtake each other between threads, so they are put in order by size.
    assert_one_history(sorted(words, key=lambda word: word[0]))
    stored = open_at(folder)
    newest = stored.latest(hash_of(worked.ORIGIN))
    stored.close()
    assert newest is not None
    checkpoint = Checkpoint.parse(parse_note(newest).text)
    assert_one_history([*sorted(words), (checkpoint.size, checkpoint.root)])


def hammer(process: WitnessProcess, last: int) -> list[tuple[int, bytes]]:
    """Ask from three threads until the witness is killed; what it cosigned."""
    words: list[tuple[int, bytes]] = []

    def one(number: int) -> None:
        known = last
        with plain_client(process.url) as line:
            for turn in range(10_000):
                book = BOOKS[(number + turn) % len(BOOKS)]
                size = min(known + turn % 2, 8)
                try:
                    answer = line.post("/add-checkpoint", content=book.body(known, size))
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    words.append((size, book.root(size)))
                    known = size
                elif answer.status_code == 409:
                    known = int(answer.text)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(words) < 100:
        assert time.monotonic() < deadline, "too little was cosigned"
        time.sleep(0.001)
    process.kill()
    for thread in threads:
        thread.join()
    return words
