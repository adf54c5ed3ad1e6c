"""`indelible send`, `where` and `tail`."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from subprocess import Popen
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.command import PROGRAM, assert_refused, begin, call, fine, run, surroundings
from tests.cli.conftest import Shop
from tests.world import TOKEN, product


def test_a_product_event_is_sent_and_found(shop: Shop) -> None:
    sent = fine(
        *("send", "purchase_completed", "--distinct-id", "user_42", "--uuid", "order-1"),
        *("--properties", '{"amount": 1, "nested": {"a": [1]}}'),
        *("--property", "amount=99.99", "--property", "coupon=A=B", "--property", "zip=01234"),
        *shop.here,
    )
    again = call(
        *("send", "purchase_completed", "--distinct-id", "user_42", "--uuid", "order-1"),
        *("--json", *shop.here),
    ).json

    assert ("index 0", "order-1") == (sent.fact("stored"), sent.fact("event id"))
    assert (True, 0, "uuid_conflict") == (again["duplicate"], again["index"], again["reason"])
    shown = fine("where", "order-1", *shop.here)
    by_tx = call("where", sent.fact("transaction"), "--json", *shop.here).json
    (event,) = by_tx["events"]
    assert {
        "amount": 99.99,
        "nested": {"a": [1]},
        "coupon": "A=B",
        "zip": "01234",
    } == event["properties"]
    assert ("purchase_completed", "user_42") == (shown.fact("event"), shown.fact("distinct id"))
    life = {step["step"]: step["at"] for step in event["life"]}
    assert (life["received"], life["stored"]) == (shown.fact("received"), shown.fact("stored"))


def test_where_says_that_an_event_is_nobodys(shop: Shop) -> None:
    (sent,) = shop.send("opened", distinct_id="a" * 32, process_id="a" * 32, sequence=0)
    shown = fine("where", sent, *shop.here)
    assert "nobody's: that of its process" == shown.fact("distinct id")


def test_an_audit_event_is_sent_and_found(shop: Shop) -> None:
    event = ("send", "user.deleted", "--audit", "--idempotency-key", "k-1", *shop.here)
    deleted = (*event, "--payload", '{"n": 1.0}', "--meta", "service=crm")

    sent = fine(*deleted, "--json").json
    again = call(*deleted)

    assert {"ok", "tx_id", "payload_hash", "status", "duplicate", "request_id"} <= sent.keys()
    assert sent["tx_id"] == again.fact("transaction")
    assert again.fact("duplicate")
    (found,) = call("where", "k-1", "--json", *shop.here).json["events"]
    assert '{"n": 1.0}' == found["payload"]
    assert ("user.deleted", "crm") == (found["meta"]["event_name"], found["meta"]["service"])
    assert "k-1" == call("where", "k-1", *shop.here).fact("idempotency key")
    assert_refused(call(*event, "--payload", "other"), 2, "idempotency_conflict")


def test_an_event_that_is_let_go_ends_with_1(shop: Shop) -> None:
    none_left = ("--monthly-limit", "0", "--audit-monthly-limit", "0")
    call("project", "set", shop.name, *none_left, *shop.here[2:])
    product = ("--distinct-id", "d", *shop.here)

    assert_refused(call("send", "e", *product), 1, "quota")
    assert_refused(
        call("send", "e", "--audit", "--payload", "p", *shop.here), 1, "monthly_limit_exceeded"
    )
    assert_refused(call("send", "e" * 201, *product), 2, "name_too_long")


def test_an_unknown_id_ends_with_1_and_says_what_was_looked_at(shop: Shop) -> None:
    ran = run("where", "never-sent", *shop.here)
    machine = call("where", "never-sent", "--json", *shop.here)

    assert_refused(ran, 1, "not_found")
    for looked_at in ("transaction ids", "event ids", "Idempotency-Keys", shop.name):
        assert looked_at in ran.err
    assert (1, {"id": "never-sent", "events": []}) == (machine.code, machine.json)


def test_an_empty_log_says_how_to_send_the_first_event(shop: Shop) -> None:
    for command in ("tail", "--no-follow"), ("tail", "--no-follow", "--json"), ("export",):
        ran = call(*command, *shop.here)
        assert (0, "") == (ran.code, ran.out)
        assert "no events yet" in ran.err
        assert f"send hello --distinct-id me --project {shop.name}" in ran.err


def test_tail_goes_on_where_a_page_is_short_and_is_not_the_last(shop: Shop) -> None:
    shop.send(*(f"e{number}" for number in range(9)), properties={"x": "x" * 900_000})

    shown = call("tail", "--no-follow", "--json", "-n", "7", *shop.here).lines
    of_one = call("tail", "--no-follow", "--json", "--event", "e0", *shop.here).lines

    assert [f"e{number}" for number in range(2, 9)] == [event["event"] for event in shown]
    assert ["e0"] == [event["event"] for event in of_one]


def test_tail_shows_the_last_events_oldest_first(shop: Shop) -> None:
    ids = shop.send("e0", "e1", "e2", properties={"n": 1, "text": "a b"})

    shown = fine("tail", "--no-follow", "-n", "2", *shop.here).out.splitlines()
    documents = call("tail", "--no-follow", "--json", *shop.here).lines

    assert [
        ["1", "product", "e1", ids[1], "n=1", 'text="a', 'b"'],
        ["2", "product", "e2", ids[2], "n=1", 'text="a', 'b"'],
    ] == [[word for place, word in enumerate(line.split()) if place != 1] for line in shown]
    assert documents[1]["received_at"] == shown[0].split()[1]
    assert ids == [event["tx_id"] for event in documents]
    assert "" == call("tail", "--no-follow", "-n", "0", *shop.here).out


@pytest.mark.parametrize(("columns", "has_ids"), [(80, False), (140, True)])
def test_on_a_terminal_the_content_has_room_and_ids_only_if_it_is_wide(
    shop: Shop, columns: int, *, has_ids: bool
) -> None:
    ids = shop.send("e0", "宽字符", properties={"plan": "pro", "text": "宽" * 200})
    ours, theirs = pty.openpty()
    keyboard, another = pty.openpty()  # whose width is nobody's business
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    try:
        done = subprocess.run(
            [*PROGRAM, "tail", "--no-follow", *shop.here],
            env=surroundings(TERM="xterm", COLUMNS=""),
            stdin=another,
            stdout=theirs,
            timeout=60,
            check=False,
        )
        sent = b""
        while sent.count(b"\n") < 3:  # a terminal hands on what it has so far
            sent += os.read(ours, 16_384)
        written = re.sub(r"\x1b\[[0-9;]*m", "", sent.decode())
    finally:
        for end in (ours, theirs, keyboard, another):
            os.close(end)

    assert 0 == done.returncode
    day, *shown = written.splitlines()
    assert day.endswith(" UTC")
    assert 2 == len(shown), shown
    for line, tx_id in zip(shown, ids, strict=True):
        assert has_ids == (tx_id in line)
        assert " plan=pro text=宽宽" in line
        assert columns - 2 < cell_len(line) <= columns
    assert 1 == len({cell_len(line.partition("plan=")[0]) for line in shown})


def test_tail_takes_as_many_pages_as_it_needs(shop: Shop) -> None:
    shop.send(*(f"e{n}" for n in range(500)))

    shown = call("tail", "--no-follow", "--json", "-n", "450", *shop.here)

    assert list(range(50, 500)) == [event["index"] for event in shown.lines]


def test_tail_filters(shop: Shop) -> None:
    shop.send("a", distinct_id="d1")
    shop.send("b", distinct_id="d2")
    call("send", "c", "--audit", "--payload", "p", "--meta", "service=s", *shop.here)

    def found(*filters: str) -> list[int]:
        shown = call("tail", "--no-follow", "--json", *filters, *shop.here)
        return [event["index"] for event in shown.lines]

    assert [2] == found("--kind", "audit")
    assert [0] == found("--event", "a")
    assert [1] == found("--distinct-id", "d2")
    assert [2] == found("--service", "s")
    assert [0, 1, 2] == found()
    nothing = call("tail", "--no-follow", "--event", "z", *shop.here)
    assert ("", "none of the last entries matches\n") == (nothing.out, nothing.err)


def test_what_users_sent_is_shown_without_control_characters_and_colours(shop: Shop) -> None:
    (tx_id,) = shop.send("e\x1b]0;x\x07", properties={"p": "a\nb\x9b31m"})

    (line,) = call("tail", "--no-follow", *shop.here).out.splitlines()

    assert line.isprintable()
    assert "e\\x1b]0;x\\x07" in line
    assert all(line.isprintable() for line in call("where", tx_id, *shop.here).out.splitlines())


def _next(process: "Popen[str]") -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_tail_follows_and_ctrl_c_ends_it_quietly(shop: Shop) -> None:
    shop.send("before")
    with begin("tail", "--json", *shop.here) as process:
        try:
            assert "before" == _next(process)["event"]
            shop.send("after1")
            shop.send("after2", "after3")
            assert [1, 2, 3] == [_next(process)["index"] for _ in range(3)]

            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            assert (0, "", "") == (process.returncode, out, err)
        finally:
            process.kill()


@pytest.mark.clocked
def test_a_pipe_that_nobody_reads_ends_tail_quietly(shop: Shop) -> None:
    shop.send("e")
    with begin("tail", *shop.here) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "product" in process.stdout.readline()
            process.stdout.close()  # no event comes any more: only a look at the pipe can tell
            started = time.monotonic()
            assert 0 == process.wait(60)
            assert time.monotonic() - started < 5
            assert "" == process.stderr.read()
        finally:
            process.kill()


def test_tail_live_shows_what_was_not_taken_with_its_reason(shop: Shop) -> None:
    with begin("tail", "--live", *shop.here) as process:
        assert process.stdout is not None
        found: list[str] = []
        try:
            deadline = time.monotonic() + 60
            while not any("missing_event" in line for line in found):
                assert time.monotonic() < deadline, found
                # Until the stream is open.
                batch = [{**product(name), "api_key": shop.token} for name in ("kept", "")]
                shop.server.send({"api_key": shop.token, "batch": batch})
                found.append(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    line = next(line for line in found if "missing_event" in line)
    assert re.match(r" +-  \S+  drop     missing_event       /api/e  \{", line)
    assert TOKEN not in line
    assert 0 == process.returncode


def test_tail_live_ends_by_itself_where_it_follows_nothing(shop: Shop) -> None:
    shop.send("one", "two")
    wanted = ("tail", "--live", "--no-follow", "--json", *shop.here)
    deadline = time.monotonic() + 60
    while 2 != len(shown := fine(*wanted).lines):
        assert time.monotonic() < deadline

    assert ["one", "two"] == [message["event"]["event"] for message in shown]
    assert ["two"] == [
        message["event"]["event"] for message in fine(*wanted, "--event", "two").lines
    ]


@pytest.mark.parametrize(
    "wrongly",
    [
        ("--result", "drop"),
        ("--live", "--result", "stored"),
        ("--live", "--kind", "gap"),
        ("--kind", "reject"),
        ("--live", "--service", "shop"),
    ],
)
def test_what_the_stream_cannot_choose_by_is_refused(shop: Shop, wrongly: tuple[str, ...]) -> None:
    assert_refused(call("tail", *wrongly, *shop.here), 2, "called_wrongly")
