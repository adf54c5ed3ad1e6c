"""The log's side: asking two real witnesses, and servers that are none."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from indelible.errors import TileMissing
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.note import Signature, Signer, Verifier, open_note, parse_note
from indelible.ledger.format.policy import Policy, Witness
from indelible.ledger.format.tree import Hashes, Subtree
from indelible.ledger.witness.cosigners import (
    MOST_ANSWER_BYTES,
    Alarm,
    Asked,
    Cosigners,
    Discord,
    State,
)
from indelible.ledger.witness.store import DATABASE_FILE, create
from indelible.metrics import REGISTRY
from tests.ledger.witness.witnesses import (
    Book,
    WitnessProcess,
    dripping,
    looks_like,
    policy_of,
    stranger,
    witness,
)

DIGITS = "0123456789abcdef"
SPARE = [Signer(f"log.example/{n}", bytes([n]) * 32) for n in range(1, 91)]
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[WitnessProcess]]:
    """Two witnesses that know many logs."""
    keys = [signer.key for signer in SPARE]
    with contextlib.ExitStack() as running:
        yield [
            running.enter_context(
                witness(tmp_path_factory.mktemp(name) / "w", keys, new=f"witness.example/{name}")
            )
            for name in ("w1", "w2")
        ]


_spare = iter(SPARE)


@pytest.fixture
def log() -> Book:
    """A log that both witnesses know and have seen nothing of."""
    return Book.of(next(_spare), DIGITS)


@pytest.fixture
def members(two: list[WitnessProcess]) -> list[Witness]:
    return [process.as_member(f"m{number}") for number, process in enumerate(two, start=1)]


@contextlib.contextmanager
def asking(policy: Policy, *, timeout_s: float = 5.0) -> Iterator[Cosigners]:
    cosigners = Cosigners(policy, timeout_s=timeout_s, clock=lambda: NOW_MS)
    try:
        yield cosigners
    finally:
        cosigners.close()


def ask(cosigners: Cosigners, log: Book, size: int) -> Asked:
    return cosigners.ask(log.note(size), Hashes(log.leaves[:size]))


def states(asked: Asked) -> list[State]:
    return [answer.state for answer in asked.answers]


def counted(name: str, state: State) -> float:
    labels = {"witness": name, "answer": state.value}
    return REGISTRY.get_sample_value("indelible_witness_answers_total", labels) or 0.0


def fork_of(log: Book, at: int) -> Book:
    return Book.of(log.signer, DIGITS[:at] + "?" * (len(DIGITS) - at))


def test_all_witnesses_cosign_a_log_that_grows(members: list[Witness], log: Book) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        for size in (0, 1, 3, 3, 8, 16):
            asked = ask(cosigners, log, size)
            assert ([State.COSIGNED] * 2, True) == (states(asked), asked.is_met), asked
            assert asked.note.startswith(log.note(size))
            keys: list[Verifier] = [log.signer.key, *(one.key for one in members)]
            names = [log.origin, *(one.key.name for one in members)]
            assert names == [one.name for one in open_note(asked.note, keys).signatures]
        assert [] == cosigners.alarms()


@pytest.mark.parametrize("size", [1, 3, 16])
def test_another_root_of_the_very_size_is_a_fork_though_the_answer_is_409(
    log: Book, size: int
) -> None:
    """As the specification has it: a witness of the same size and another root says 409."""
    with (
        looks_like(lambda _: (409, f"{size}\n")) as url,
        asking(policy_of([stranger("w", url)], 1)) as cosigners,
    ):
        asked = ask(cosigners, log, size)

        assert [State.ALARM] == states(asked)
        (alarm,) = cosigners.alarms()
        assert (Discord.FORKED, size, size) == (alarm.discord, alarm.ours, alarm.theirs)
        assert cosigners.is_out_of_reach(log.origin)
        assert not cosigners.is_out_of_reach("log.example/other")


def test_a_size_that_was_signed_and_shown_to_a_witness_by_somebody_else_is_no_alarm(
    log: Book,
) -> None:
    with (
        looks_like(lambda _: (409, "9\n")) as url,
        asking(policy_of([stranger("w", url)], 1)) as cosigners,
    ):
        asked = cosigners.ask(log.note(5), Hashes(log.leaves[:5]), signed=lambda: 9)

        assert [State.REFUSED] == states(asked)
        assert [] == cosigners.alarms()


def test_after_a_restart_the_size_is_asked_for_and_the_proof_made_from_it(
    members: list[Witness], log: Book
) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        ask(cosigners, log, 5)
    for size in (5, 11):  # equal to what they have, and larger
        with asking(policy_of(members, 2)) as cosigners:
            asked = ask(cosigners, log, size)
            assert ([State.COSIGNED] * 2, True) == (states(asked), asked.is_met), asked


def test_the_size_that_was_confirmed_is_remembered(log: Book) -> None:
    """Two requests at first, and one for each checkpoint after that."""
    cosigner = Cosigner("witness.example/x", b"\x05" * 32)
    seen: list[int] = []

    def answer(body: str) -> tuple[int, str]:
        head, _, note = body.partition("\n\n")
        old = int(head.split("\n")[0].removeprefix("old "))
        seen.append(old)
        if len(seen) == 1:
            return 409, "3\n"
        return 200, cosigner.cosign(parse_note(note).text, 1).line

    with (
        looks_like(answer) as url,
        asking(policy_of([Witness("m", cosigner.key, url)], 1)) as cosigners,
    ):
        for size in (5, 7, 7, 9):
            assert [State.COSIGNED] == states(ask(cosigners, log, size))
    assert [0, 3, 5, 7, 7] == seen


def test_the_proof_is_made_from_the_size_that_each_witness_has(
    two: list[WitnessProcess], members: list[Witness], log: Book
) -> None:
    two[0].add(log.body(0, 3))
    two[1].add(log.body(0, 10))
    with asking(policy_of(members, 2)) as cosigners:
        assert [State.COSIGNED] * 2 == states(ask(cosigners, log, 12))


def test_one_that_is_down_does_not_hold_the_quorum_up(members: list[Witness], log: Book) -> None:
    down = stranger("down", "http://127.0.0.1:9")
    before = counted("down", State.UNREACHABLE)
    with asking(policy_of([members[0], down, members[1]], 2)) as cosigners:
        asked = ask(cosigners, log, 3)
    assert [State.COSIGNED, State.UNREACHABLE, State.COSIGNED] == states(asked)
    assert asked.is_met
    assert before + 1 == counted("down", State.UNREACHABLE)


def test_without_enough_witnesses_the_quorum_is_not_met(members: list[Witness], log: Book) -> None:
    down = stranger("down", "http://127.0.0.1:9")
    with asking(policy_of([members[0], down], 2)) as cosigners:
        asked = ask(cosigners, log, 3)
    assert ([State.COSIGNED, State.UNREACHABLE], False) == (states(asked), asked.is_met)
    assert 2 == len(parse_note(asked.note).signatures)  # what came is there all the same


def test_one_without_an_address_is_not_asked(members: list[Witness], log: Book) -> None:
    nowhere = Witness("nowhere", Cosigner.generate("witness.example/x").key, None)
    with asking(policy_of([members[0], nowhere], 1)) as cosigners:
        asked = ask(cosigners, log, 3)
    assert ([State.COSIGNED, State.UNREACHABLE], True) == (states(asked), asked.is_met)


def test_an_address_that_is_none_is_a_failure_of_that_witness(
    members: list[Witness], log: Book
) -> None:
    addresses = ("nonsense", "http://", "http://[", "ftp://127.0.0.1", "\x80")
    strangers = [stranger(f"x{n}", address) for n, address in enumerate(addresses)]
    with asking(policy_of([members[0], *strangers], 1)) as cosigners:
        asked = ask(cosigners, log, 3)
    assert [State.COSIGNED] + [State.UNREACHABLE] * len(addresses) == states(asked)
    assert asked.is_met


def stall(_: str) -> tuple[int, str]:
    """Longer than anybody here waits."""
    time.sleep(2.5)
    return 500, ""


@pytest.mark.clocked
def test_one_that_stalls_or_drips_costs_no_more_than_the_time(
    members: list[Witness], log: Book
) -> None:
    with looks_like(stall) as stalled, dripping() as slow:
        others = [stranger("stalls", stalled), stranger("drips", slow)]
        with asking(policy_of([*members, *others], 2), timeout_s=1.0) as cosigners:
            begun = time.monotonic()
            asked = ask(cosigners, log, 3)
            took_s = time.monotonic() - begun
    assert [State.COSIGNED] * 2 + [State.UNREACHABLE] * 2 == states(asked)
    assert asked.is_met
    assert 1.0 <= took_s < 2.0
    assert "no answer within 1 s" == asked.answers[2].detail


@pytest.mark.clocked
def test_asking_for_many_logs_at_once_takes_one_wait_only(
    members: list[Witness], log: Book
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    books = [log, *(Book.of(next(_spare), DIGITS) for _ in range(4))]
    with looks_like(stall) as stalled:
        policy = policy_of([*members, stranger("stalls", stalled)], 2)
        with asking(policy, timeout_s=1.0) as cosigners, ThreadPoolExecutor(5) as threads:
            begun = time.monotonic()
            found = list(threads.map(lambda book: ask(cosigners, book, 3), books))
            took_s = time.monotonic() - begun
    assert all(asked.is_met for asked in found)
    assert took_s < 2.5


GARBAGE = {
    "nothing": "",
    "a page": "<html>hello</html>\n",
    "no last line feed": "— witness.example/x AAAA",
    "a line that is too short": "— witness.example/x AAAA\n",
    "an empty line within": "x\n\n— witness.example/x AAAAAAAAAAAA\n",
}


def test_garbage_is_a_failure_of_that_witness(members: list[Witness], log: Book) -> None:
    answers = list(GARBAGE.values())
    with looks_like(lambda _: (200, answers[0])) as url:
        policy = policy_of([members[0], stranger("x", url)], 1)
        with asking(policy) as cosigners:
            while answers:
                asked = ask(cosigners, log, 3)
                assert State.COSIGNED is asked.answers[0].state
                assert asked.answers[1].state in (State.WRONG, State.UNREACHABLE), answers[0]
                assert 2 == len(parse_note(asked.note).signatures)
                answers.pop(0)


def lines_of(make: Callable[[str], str]) -> Callable[[str], tuple[int, str]]:
    """A server that cosigns each checkpoint in its own way."""
    return lambda body: (200, make(parse_note(body.partition("\n\n")[2]).text))


def test_a_wrong_cosignature_counts_as_none(members: list[Witness], log: Book) -> None:
    cosigner = Cosigner("witness.example/x", b"\x05" * 32)
    before = counted("x", State.WRONG)
    other_text = Checkpoint(log.origin, 3, bytes(32)).text
    with looks_like(lines_of(lambda _: cosigner.cosign(other_text, 1).line)) as url:
        policy = policy_of([members[0], Witness("x", cosigner.key, url)], 2)
        with asking(policy) as cosigners:
            asked = ask(cosigners, log, 3)
    assert ([State.COSIGNED, State.WRONG], False) == (states(asked), asked.is_met)
    assert before + 1 == counted("x", State.WRONG)


def test_no_more_of_an_answer_is_read_than_a_witness_has_to_say(log: Book) -> None:
    cosigner = Cosigner("witness.example/x", b"\x05" * 32)
    sizes = [MOST_ANSWER_BYTES // 2, MOST_ANSWER_BYTES]

    def padded(text: str) -> str:
        beside = Signature("stranger", bytes(4), bytes(sizes[0]))  # a third longer in base64
        return beside.line + cosigner.cosign(text, 1).line

    with looks_like(lines_of(padded)) as url:
        policy = policy_of([Witness("x", cosigner.key, url)], 1)
        with asking(policy) as cosigners:
            assert [State.COSIGNED] == states(ask(cosigners, log, 3))
            sizes.pop(0)
            assert [State.UNREACHABLE] == states(ask(cosigners, log, 3))


def test_another_checkpoint_before_the_lines_is_not_believed(log: Book) -> None:
    """The cosignature of another text that the answer tries to put into the note."""
    cosigner = Cosigner("witness.example/x", b"\x05" * 32)

    def swap(text: str) -> str:
        return "more\n\n" + cosigner.cosign(text + "\nmore\n", 1).line

    with (
        looks_like(lines_of(swap)) as url,
        asking(policy_of([Witness("x", cosigner.key, url)], 1)) as cosigners,
    ):
        asked = ask(cosigners, log, 3)
    assert ([State.WRONG], log.note(3)) == (states(asked), asked.note)


def test_cosignatures_by_unknown_keys_are_ignored(log: Book) -> None:
    known, unknown = (Cosigner("witness.example/x", bytes([n]) * 32) for n in (5, 6))

    def both(text: str) -> str:
        return unknown.cosign(text, 1).line + known.cosign(text, 2).line

    with looks_like(lines_of(both)) as url:
        with asking(policy_of([Witness("x", known.key, url)], 1)) as cosigners:
            asked = ask(cosigners, log, 3)
        assert [State.COSIGNED] == states(asked)
        line = known.cosign(Checkpoint(log.origin, 3, log.root(3)).text, 2).line
        assert log.note(3) + line == asked.note
        with asking(policy_of([stranger("x", url)], 1)) as cosigners:
            assert [State.WRONG] == states(ask(cosigners, log, 3))


REFUSALS = [
    *((status, "") for status in (302, 400, 403, 404, 409, 413, 422, 500, 503)),
    (409, "x\n"),
    (409, "2\n"),  # again and again
]


def test_a_refusal_is_told_with_its_status(log: Book) -> None:
    answers = list(REFUSALS)
    with (
        looks_like(lambda _: answers[0]) as url,
        asking(policy_of([stranger("x", url)], 1)) as cosigners,
    ):
        while answers:
            asked = ask(cosigners, log, 3)
            assert ([State.REFUSED], False) == (states(asked), asked.is_met)
            assert asked.answers[0].detail.startswith(f"status {answers[0][0]}")
            assert [] == cosigners.alarms()
            answers.pop(0)


def test_a_log_that_the_witness_does_not_know_is_refused(members: list[Witness]) -> None:
    unknown = Book.of(Signer("log.example/unknown", bytes(32)), DIGITS)
    with asking(policy_of(members, 2)) as cosigners:
        asked = ask(cosigners, unknown, 3)
    assert [State.REFUSED] * 2 == states(asked)
    assert asked.answers[0].detail.startswith("status 404")


# Alarms


def test_a_log_that_lost_its_end_is_refused_and_the_alarm_names_it(
    members: list[Witness], log: Book, caplog: pytest.LogCaptureFixture
) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        ask(cosigners, log, 9)
    with asking(policy_of(members, 2)) as cosigners, caplog.at_level(logging.ERROR):
        asked = ask(cosigners, log, 4)
        assert ([State.ALARM] * 2, False) == (states(asked), asked.is_met)
        alarms = sorted(cosigners.alarms(), key=lambda alarm: alarm.witness)
        assert [
            Alarm(NOW_MS, Discord.LARGER, name, log.origin, 4, 9) for name in ("m1", "m2")
        ] == alarms
        # It is not asked again, even once the log has grown past what the witness has.
        assert [State.ALARM] * 2 == states(ask(cosigners, log, 12))
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert sorted(alarm.sentence for alarm in alarms) == sorted(errors)  # once for each
    for word in ("m1", log.origin, "9 events", "4 are signed here"):
        assert word in alarms[0].sentence


@pytest.mark.parametrize("at", [1, 4, 7])
@pytest.mark.parametrize("size", [8, 13])
def test_a_forked_log_is_refused_and_the_alarm_names_it(
    members: list[Witness], log: Book, at: int, size: int
) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        ask(cosigners, log, 8)
    with asking(policy_of(members, 2)) as cosigners:
        asked = ask(cosigners, fork_of(log, at), size)
        assert ([State.ALARM] * 2, False) == (states(asked), asked.is_met)
        assert fork_of(log, at).note(size) == asked.note
        assert {("m1", Discord.FORKED, 8, size), ("m2", Discord.FORKED, 8, size)} == {
            (one.witness, one.discord, one.theirs, one.ours) for one in cosigners.alarms()
        }
        assert log.origin in cosigners.alarms()[0].sentence


def test_a_log_that_forks_while_it_runs_is_refused_too(members: list[Witness], log: Book) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        assert ask(cosigners, log, 8).is_met
        assert [State.ALARM] * 2 == states(ask(cosigners, fork_of(log, 7), 12))
        assert [Discord.FORKED] * 2 == [alarm.discord for alarm in cosigners.alarms()]


def test_an_alarm_about_one_log_and_witness_stops_no_other(
    two: list[WitnessProcess], members: list[Witness], log: Book
) -> None:
    two[0].add(fork_of(log, 0).body(0, 5))
    other = Book.of(next(_spare), DIGITS)
    with asking(policy_of(members, 1)) as cosigners:
        asked = ask(cosigners, log, 7)
        assert ([State.ALARM, State.COSIGNED], True) == (states(asked), asked.is_met)
        assert [State.COSIGNED] * 2 == states(ask(cosigners, other, 3))
        assert [State.ALARM, State.COSIGNED] == states(ask(cosigners, log, 9))


def test_a_proof_that_is_wrong_by_our_own_check_is_no_alarm(
    members: list[Witness], log: Book
) -> None:
    """Our tiles are damaged: that is not what the witness has to be blamed for, nor the log."""
    with asking(policy_of(members, 2)) as cosigners:
        ask(cosigners, log, 5)
        asked = cosigners.ask(log.note(9), Hashes([*log.leaves[:8], bytes(32)]))
        assert [State.REFUSED] * 2 == states(asked)
        assert [] == cosigners.alarms()
        assert [State.COSIGNED] * 2 == states(ask(cosigners, log, 10))


class Gone:
    """A tree whose tiles are not there."""

    def read(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        raise TileMissing(f"none of {len(subtrees)}")


def test_tiles_that_are_missing_here_are_told_of_and_harm_nothing(
    members: list[Witness], log: Book
) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        ask(cosigners, log, 5)
        with pytest.raises(TileMissing):
            cosigners.ask(log.note(9), Gone())
        assert [State.COSIGNED] * 2 == states(ask(cosigners, log, 9))


def test_an_older_note_that_comes_late_is_no_alarm(members: list[Witness], log: Book) -> None:
    with asking(policy_of(members, 2)) as cosigners:
        ask(cosigners, log, 9)
        asked = ask(cosigners, log, 4)
        assert ([State.REFUSED] * 2, []) == (states(asked), cosigners.alarms())
        assert [State.COSIGNED] * 2 == states(ask(cosigners, log, 12))


def test_a_witness_that_lost_its_memory_is_told_of(
    tmp_path: Path, log: Book, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "w"
    create(folder, "witness.example/w3")
    old = (folder / DATABASE_FILE).read_bytes()
    with contextlib.ExitStack() as stack:
        with witness(folder, [log.signer.key]) as process:
            first = process.as_member("m3")
            port = int(process.url.rpartition(":")[2])
            cosigners = stack.enter_context(asking(policy_of([first], 1)))
            assert ask(cosigners, log, 5).is_met
        (folder / DATABASE_FILE).write_bytes(old)  # restored from a backup, against all advice
        again = ["--port", str(port)]
        with witness(folder, [log.signer.key], more=again), caplog.at_level(logging.WARNING):
            ask(cosigners, log, 7)
    assert any("it has lost its memory" in one.getMessage() for one in caplog.records)


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(
    log: Book, caplog: pytest.LogCaptureFixture
) -> None:
    cosigner = Cosigner("witness.example/x", b"\x05" * 32)
    well: list[bool] = []

    def moody(body: str) -> tuple[int, str]:
        return lines_of(lambda text: cosigner.cosign(text, 1).line)(body) if well else (500, "\x1b")

    with looks_like(moody) as url, caplog.at_level(logging.WARNING):
        policy = policy_of([Witness("x", cosigner.key, url)], 1)
        with asking(policy) as cosigners:
            for size in (1, 2, 3):
                ask(cosigners, log, size)
            well.append(True)
            for size in (4, 5):
                ask(cosigners, log, size)
    mine = [one.getMessage() for one in caplog.records if one.name.endswith("cosigners")]
    assert [
        f"witness x: refused for {log.origin}: status 500: '\\x1b'",
        f"witness x: cosigns {log.origin} again",
    ] == mine


@pytest.mark.clocked
def test_two_witnesses_answer_well_within_a_second(members: list[Witness], log: Book) -> None:
    with asking(policy_of(members, 2), timeout_s=1.0) as cosigners:
        ask(cosigners, log, 1)
        begun = time.monotonic()
        asked = ask(cosigners, log, 2)
        assert asked.is_met
        assert time.monotonic() - begun < 1.0
