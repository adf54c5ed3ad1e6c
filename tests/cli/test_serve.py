"""`indelible serve`: what it says, and what it says when it cannot."""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.cli.command import PROGRAM, assert_refused, at, begin, call, run, surroundings
from tests.world import ServerProcess, a_free_port


@contextlib.contextmanager
def serving(cwd: Path, *arguments: str) -> Iterator[list[str]]:
    """A server on `cwd`/data and the lines of its banner."""
    process = begin("serve", "--port", str(a_free_port()), *arguments, cwd=cwd)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines = [process.stdout.readline().rstrip("\n")]
        while not lines[-1].endswith(" tail") and "--json" not in arguments:
            assert process.poll() is None, process.stderr.read()
            lines.append(process.stdout.readline().rstrip("\n"))
        yield lines
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
        process.stderr.close()


def test_the_lines_of_the_banner_work_as_printed(tmp_path: Path) -> None:
    with serving(tmp_path) as banner:
        start = banner.index("Send an event:") + 1
        curl = shlex.split(" ".join(line.rstrip("\\") for line in banner[start : start + 2]))
        sent = httpx.post(
            curl[1], headers=dict([curl[3].split(": ")]), content=curl[5], trust_env=False
        )
        where, tail = [line.strip() for line in banner[banner.index("Then look at it:") + 1 :]]

        def typed(line: str) -> str:
            done = subprocess.run(
                line,
                shell=True,
                cwd=tmp_path,
                env=surroundings(),
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert 0 == done.returncode, done.stderr
            return done.stdout

        assert (200, 0) == (sent.status_code, sent.json()["events"][0]["index"])
        assert "hello" in typed(where)
        assert "hello" in typed(f"{tail} --no-follow")


def on_a_terminal(cwd: Path) -> str:
    """All that a server writes on a terminal from its start to its end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", str(a_free_port())],
        env=surroundings(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said, is_told = b"", False
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while more := os.read(ours, 1 << 16):
            said += more
            if b" tail" in said and not is_told:
                is_told = True
                process.terminate()
    os.close(ours)
    assert 0 == process.wait(60), said
    return said.decode()


def test_on_a_terminal_the_keys_are_shown_at_the_first_start_only(tmp_path: Path) -> None:
    first, second = on_a_terminal(tmp_path), on_a_terminal(tmp_path)

    (key,) = re.findall(r"^API key +(iml_live_\S+)", first, re.MULTILINE)
    assert key not in second
    assert "admin key" not in second
    assert [] == [line for line in first.splitlines() if "INFO" in line and key in line]
    assert not (tmp_path / "data/first-keys.json").exists()


def test_where_no_terminal_is_the_keys_go_to_a_file_of_the_owners_and_not_to_the_log(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as first:
        (shown,) = [line for line in first if line.startswith("first keys")]
    file = tmp_path / "data/first-keys.json"
    keys = json.loads(file.read_text())

    assert str(file) in shown
    assert 0o600 == file.stat().st_mode & 0o777
    assert {"token", "API key", "admin key"} == keys.keys()
    assert not {keys["API key"], keys["admin key"]} & set(" ".join(first).split())
    file.unlink()
    with serving(tmp_path) as second:
        assert not any(line.startswith("first keys") for line in second)
    assert not file.exists()


def test_for_machines_the_welcome_is_one_json_line(tmp_path: Path) -> None:
    with serving(tmp_path, "--json") as (line,):
        welcome = json.loads(line)

        assert {"url", "data_dir", "token", "made"} == welcome.keys()
        assert 200 == httpx.get(f"{welcome['url']}/healthz", trust_env=False).status_code


def test_a_folder_in_use_is_a_clear_error(shared: ServerProcess) -> None:
    ran = run("serve", *at(shared), "--port", "0")

    assert_refused(ran, 3, "data_folder_in_use")
    assert str(shared.process.pid) in ran.err


def test_a_port_in_use_is_a_clear_error(shared: ServerProcess, tmp_path: Path) -> None:
    port = shared.url.rpartition(":")[2]

    ran = run("serve", "--data", str(tmp_path / "other"), "--port", port)

    assert_refused(ran, 3, "address_in_use")
    assert port in ran.err


def test_of_two_servers_that_begin_at_once_on_one_port_one_serves(tmp_path: Path) -> None:
    port = str(a_free_port())
    arguments = ("serve", "--port", port, "--json", "--data")
    both = [begin(*arguments, str(tmp_path / name)) for name in ("one", "other")]
    welcomes = [process.stdout.readline() for process in both if process.stdout]
    for process in both:
        process.send_signal(signal.SIGTERM)
    ended = [process.communicate(timeout=60)[1] for process in both]

    assert [False, True] == sorted(bool(welcome) for welcome in welcomes)
    assert [0, 3] == sorted(process.returncode for process in both)
    (refused,) = [said for process, said in zip(both, ended, strict=True) if process.returncode]
    assert "address_in_use" == json.loads(refused)["code"]


def test_a_bad_setting_is_a_clear_error(tmp_path: Path) -> None:
    unread = run("serve", cwd=tmp_path, INDELIBLE_MAX_BATCH="many")
    unknown = call("serve", cwd=tmp_path, INDELIBLE_MAX_BACH="10")

    assert_refused(unread, 2, "setting_invalid")
    assert "INDELIBLE_MAX_BATCH=many" in unread.err
    assert_refused(unknown, 2, "setting_invalid")
    assert "INDELIBLE_MAX_BACH" in unknown.err
    assert not (tmp_path / "data").exists()


def test_a_journal_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_text("not a database " * 100)

    assert_refused(run("serve", "--data", str(tmp_path), "--port", "0"), 3, "journal_damaged")


def test_ctrl_c_ends_a_server_with_one_line(tmp_path: Path) -> None:
    process = begin("serve", "--port", str(a_free_port()), "--json", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert 0 == process.returncode
    started, stopped = err.splitlines()
    assert " answers at " in started
    assert "stopped by SIGINT" in stopped


def test_an_empty_address_is_refused_since_it_would_mean_every_one(tmp_path: Path) -> None:
    for command in (("serve", "--data", "d"), ("witness", "serve", "--data", "w", "--log", "x")):
        ran = call(*command, "--listen", "", "--port", "0", cwd=tmp_path)
        assert_refused(ran, 2, "called_wrongly")
        assert "0.0.0.0" in ran.err
    assert [] == list(tmp_path.iterdir())


def test_an_address_that_is_not_this_machines_is_not_mended_by_another_port(tmp_path: Path) -> None:
    ran = run("serve", "--data", str(tmp_path / "d"), "--listen", "192.0.2.1", "--port", "0")

    assert_refused(ran, 3, "address_in_use")
    assert "--listen" in ran.err
    assert "--port" not in ran.err
