"""What an auditor points our tools at is hostile: folders, addresses, receipts, journals.

Whatever lies there, a command ends soon, with little memory, and says in a sentence what it does
not read; no file outside is shown, and no key goes to an address that was not named.
"""

import contextlib
import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.policy import Policy, Witness
from indelible.ledger.format.tree import Hashes, leaf_hash
from indelible.ledger.witness.cosigners import Cosigners
from tests.cli.command import PROGRAM, Ran, assert_refused, call, run, surroundings
from tests.ledger.audit.audited import ORIGIN, POLICY_OF_LOG, SIGNER, Shop, sealed
from tests.world import API_KEY, started

BUNDLE, TILE = "tile/entries/000.p/20", "tile/0/000.p/20"
KEY = "iml_live_a-key-of-the-auditor"
OUTSIDE = "what-lies-outside-of-the-folder"
SOON_S = 20
MEMORY = 1 << 30
"""Of the address space of a command: several times what it needs for an honest log."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """20 events in three seals; not to be changed."""
    return sealed(tmp_path_factory.mktemp("kept") / "data", 5, 7, 8)


@pytest.fixture
def shop(kept: Shop, tmp_path: Path) -> Shop:
    """A copy of it."""
    return kept.copy(tmp_path / "data")


def audit(where: Path | str, *more: str, **env: str) -> Ran:
    """`indelible audit`, by an auditor who remembers nothing."""
    with tempfile.TemporaryDirectory() as state:
        return call("audit", str(where), "--state", state, *more, cwd=None, **env)


def _have_little(memory: int = MEMORY) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def limited(*arguments: str, memory: int = MEMORY) -> Ran:
    """A command in a process that has little memory, and must end soon."""
    process = subprocess.run(
        [*PROGRAM, *arguments],
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SOON_S,
        preexec_fn=partial(_have_little, memory),
        check=False,
    )
    for word in ("Traceback", "out_of_memory"):
        assert word not in process.stderr, process.stderr
    return Ran(process.returncode, process.stdout, process.stderr)


_ONE_AFTER_THE_OTHER = """
import json, sys
from indelible.cli.main import run
codes = []
for command in json.loads(sys.argv[1]):
    print("$", command, file=sys.stderr)
    codes.append(int(run(command)))
print(json.dumps(codes), file=sys.stderr)
"""


def limited_one_after_the_other(commands: list[list[str]]) -> str:
    """The same for several commands in one process; all that they said of what went wrong."""
    process = subprocess.run(
        [sys.executable, "-c", _ONE_AFTER_THE_OTHER, json.dumps(commands)],
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SOON_S,
        preexec_fn=_have_little,
        check=False,
    )
    assert 0 == process.returncode, process.stderr
    for word in ("Traceback", "out_of_memory"):
        assert word not in process.stderr, process.stderr
    return process.stderr


# What an attacker may put in the place of a file


def _empty(path: Path) -> None:
    path.touch()


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(4_096))


def _huge(path: Path) -> None:
    """Three gigabytes of nothing, which take no room."""
    with path.open("wb") as file:
        file.truncate(3 << 30)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)  # by its name: the whole path is longer than an address may be


def _good_link(path: Path) -> None:
    """A link to a copy of what was there."""
    path.symlink_to(path.with_name(f"{path.name}.before"))


REPLACED: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "socket": _socket,
    "device by a link": lambda path: path.symlink_to("/dev/zero"),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a good copy": _good_link,
    "huge": _huge,
    "empty": _empty,
    "garbage": _garbage,
}
NO_FILE = ("pipe", "socket", "device by a link", "link to a good copy", "link to itself", "huge")


def replace(path: Path, kind: str, *, keep: Path) -> None:
    """Put something else in the place of a file or a folder; what was there lies in `keep`."""
    before = keep / f"{path.name}.before"
    path.rename(before)
    if kind == "link to a good copy":
        path.symlink_to(before)
    else:
        REPLACED[kind](path)


# Folders


@pytest.mark.parametrize("kind", NO_FILE)
def test_only_a_regular_file_of_its_size_is_read_as_a_tile(
    shop: Shop, tmp_path: Path, kind: str
) -> None:
    replace(shop.log / TILE, kind, keep=tmp_path)

    ran = audit(shop.folder, "--json")

    assert 3 == ran.code
    (found,) = ran.json["logs"][0]["findings"]
    assert ("tiles", TILE, "cannot be checked") == (
        found["check"],
        found["file"],
        found["gravity"],
    )
    if kind != "huge":
        words = ("pipe", "socket or a device", "link")
        assert any(word in found["sentence"] for word in words), found["sentence"]


@pytest.mark.parametrize("name", [CHECKPOINT, WITNESSED, POLICY, BUNDLE, "lock.db", "journal.db"])
@pytest.mark.parametrize("kind", ["pipe", "device by a link", "link to a good copy"])
def test_no_file_of_a_log_is_taken_from_a_pipe_or_through_a_link(
    shop: Shop, tmp_path: Path, name: str, kind: str
) -> None:
    path = (shop.folder if name.endswith(".db") else shop.log) / name
    replace(path, kind, keep=tmp_path)

    ran = audit(shop.folder)

    assert 3 == ran.code, ran.out
    assert (
        "not a regular file" in ran.out + ran.err or "it is a link" in (ran.out + ran.err).lower()
    )


@pytest.mark.parametrize(
    "place", ["ledger", "ledger/shop", "ledger/shop/tile", "ledger/shop/tile/0"]
)
def test_no_link_leads_out_of_the_folder_that_was_named(
    shop: Shop, tmp_path: Path, place: str
) -> None:
    replace(shop.folder / place, "link to a good copy", keep=tmp_path)

    for command in (("audit", str(shop.folder)), ("attack", str(shop.folder))):
        ran = call(*command, XDG_STATE_HOME=str(tmp_path / "state"))
        assert 3 == ran.code, ran.out
        assert "link" in ran.out + ran.err
    tar = tmp_path / "evidence.tar"
    packed = call("evidence", str(tar), "--project", "shop", "--data", str(shop.folder))
    assert_refused(packed, 3, "tile_malformed" if "tile" in place else "file_refused")
    assert not tar.exists()


def test_the_folder_that_was_named_may_itself_be_a_link(shop: Shop, tmp_path: Path) -> None:
    for number, folder in enumerate((shop.folder, shop.log)):
        named = tmp_path / f"named-{number}"
        named.symlink_to(folder)
        assert 0 == audit(named).code


def test_nothing_of_a_file_outside_is_shown(shop: Shop, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{OUTSIDE}\n")
    for name in (CHECKPOINT, WITNESSED, POLICY):
        (shop.log / name).unlink()
        (shop.log / name).symlink_to(secret)

    for more in ((), ("--json",)):
        ran = audit(shop.log, *more)
        assert 3 == ran.code
        assert OUTSIDE not in ran.out + ran.err


def test_a_folder_deeper_than_any_log_is_not_followed_down(shop: Shop) -> None:
    deep = shop.log
    with contextlib.chdir(deep):
        for _ in range(1_200):  # deeper than a path is long
            Path("deeper").mkdir()
            os.chdir("deeper")

    try:
        ran = audit(shop.log)
        assert 3 == ran.code
        assert "This is no file of a log" in ran.out
    finally:
        subprocess.run(["rm", "-r", str(shop.log / "deeper")], check=True)


ACTS = "\x1b[2J\x9b31m\u202ebad\x7f"
"""Clears a terminal, turns it red, turns the order of letters round."""


def assert_harmless(ran: Ran) -> None:
    assert not {"\x1b", "\x9b", "\u202e", "\x7f"} & set(ran.out + ran.err)


def test_what_a_name_or_a_word_would_do_to_a_terminal_is_shown_and_not_done(shop: Shop) -> None:
    (shop.log / ACTS).touch()
    (shop.log / b"\xff".decode("utf-8", "surrogateescape")).touch()

    for more in ((), ("--json",)):
        ran = audit(shop.log, *more)
        assert 3 == ran.code
        assert_harmless(ran)
    names = {found["file"] for found in ran.json["logs"][0]["findings"]}
    assert {ACTS, "\udcff"} == names, "the JSON says what it is all the same"

    (shop.log / POLICY).write_text(f"{ACTS} is no word\n")
    assert_harmless(audit(shop.log))


def test_what_a_payload_would_do_to_a_terminal_is_shown_and_not_done(tmp_path: Path) -> None:
    shop = Shop.new(tmp_path / "data")
    shop.store(1, payload=ACTS.encode())
    shop.seal()
    receipt, policy = tmp_path / "receipt", tmp_path / "policy"
    receipt.write_text(shop.receipt(0))
    policy.write_text(POLICY_OF_LOG.text)

    for more in ((), ("--json",)):
        ran = call("verify", str(receipt), "--policy", str(policy), *more)
        assert 0 == ran.code
        assert_harmless(ran)
    assert ACTS == ran.json["payload"]


def test_a_message_has_a_readable_length(shop: Shop, tmp_path: Path) -> None:
    (shop.log / POLICY).write_text("a" * 500_000 + " b\nquorum none\n")
    assert len(audit(shop.log).out) < 5_000

    policy = tmp_path / "policy"
    policy.write_text("a" * 500_000)
    refused = call("verify", str(policy), "--policy", str(policy))
    assert_refused(refused, 3, "policy_malformed")
    assert len(refused.err) < 5_000


def test_a_command_has_little_memory_for_a_file_of_gigabytes(shop: Shop) -> None:
    for name in (BUNDLE, TILE, CHECKPOINT, WITNESSED, POLICY):
        _huge(shop.log / name)

    assert 3 == limited("audit", str(shop.log), "--state", str(shop.folder / "state")).code


@pytest.mark.slow
def test_an_audit_holds_no_more_of_a_large_log_than_its_hashes(tmp_path: Path) -> None:
    """The events that are compared at once have half a gigabyte, and the process as much in all."""
    shop = Shop.new(tmp_path / "data")
    for _ in range(16):
        shop.store(32, payload=b'"%s"' % (b"x" * (1 << 20)))
    shop.seal()

    assert 0 == limited("audit", str(shop.folder), "--state", str(tmp_path), memory=1 << 29).code


# Receipts and policies


@pytest.mark.parametrize("kind", [kind for kind in REPLACED if kind != "link to a good copy"])
def test_a_receipt_or_a_policy_that_is_no_file_is_refused_at_once(
    kept: Shop, tmp_path: Path, kind: str
) -> None:
    good = {"receipt": tmp_path / "receipt", "policy": tmp_path / "policy"}
    good["receipt"].write_text(kept.receipt(7))
    good["policy"].write_text(POLICY_OF_LOG.text)
    bad = tmp_path / "bad"
    REPLACED[kind](bad)

    for receipt, policy in ((bad, good["policy"]), (good["receipt"], bad)):
        ran = call("verify", str(receipt), "--policy", str(policy))
        assert ran.code == (2 if kind in ("nothing", "folder", "link to nowhere") else 3)
        if ran.err:
            assert_refused(ran, ran.code, ran.err.partition(":")[0])
    assert 0 == call("verify", str(good["receipt"]), "--policy", str(good["policy"])).code


def test_a_receipt_by_a_link_that_was_named_is_read(kept: Shop, tmp_path: Path) -> None:
    for name, text in (("receipt", kept.receipt(7)), ("policy", POLICY_OF_LOG.text)):
        (tmp_path / f"{name}.real").write_text(text)
        (tmp_path / name).symlink_to(f"{name}.real")
    checked = call("verify", str(tmp_path / "receipt"), "--policy", str(tmp_path / "policy"))
    assert 0 == checked.code


def test_a_receipt_from_an_endless_pipe_is_refused(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(POLICY_OF_LOG.text)
    with Path("/dev/zero").open("rb") as endless:
        process = subprocess.run(
            [*PROGRAM, "verify", "-", "--policy", str(policy)],
            env=surroundings(),
            stdin=endless,
            capture_output=True,
            text=True,
            timeout=SOON_S,
            check=False,
        )
    assert_refused(Ran(process.returncode, process.stdout, process.stderr), 3, "file_refused")


@pytest.mark.parametrize("what", ["lines", "note"])
def test_a_receipt_of_millions_of_parts_takes_little_memory(
    kept: Shop, tmp_path: Path, what: str
) -> None:
    text = kept.receipt(7)
    head, _, checkpoint = text.partition("\n\n")
    many = 20_000_000
    made = {
        "lines": f"{head}\n" + "ab\n" * many + f"\n{checkpoint}",
        "note": f"{head}\n\n{checkpoint}" + "ab\n" * many,
    }
    receipt, policy = tmp_path / "receipt", tmp_path / "policy"
    receipt.write_text(made[what])
    policy.write_text(POLICY_OF_LOG.text)

    assert 3 == limited("verify", str(receipt), "--policy", str(policy)).code


# Addresses


class Hostile:
    """A server whose every connection is answered by `script`, and what it was asked."""

    def __init__(self, script: Callable[[socket.socket, str], None]) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.requests: list[str] = []
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        self._stopped.set()
        self._listening.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (part := connection.recv(65_536)):
                head += part
            if b"\r\n\r\n" not in head:  # its time was up before it asked
                return
            self.requests.append(head.decode("latin-1"))
            self._script(connection, head.split(b" ")[1].decode("latin-1"))


@contextlib.contextmanager
def hostile(script: Callable[[socket.socket, str], None]) -> Iterator[Hostile]:
    server = Hostile(script)
    try:
        yield server
    finally:
        server.close()


def says(*parts: bytes, then: Callable[[socket.socket], None] | None = None) -> Callable[..., None]:
    """A script that sends this, whatever was asked."""

    def script(connection: socket.socket, _: str) -> None:
        for part in parts:
            connection.sendall(part)
        if then is not None:
            then(connection)

    return script


def forever(part: bytes, *, pause_s: float = 0.0) -> Callable[[socket.socket], None]:
    """Sends this again and again, until the other side has had enough."""

    def send(connection: socket.socket) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            connection.sendall(part)
            time.sleep(pause_s)

    return send


OK = b"HTTP/1.1 200 OK\r\n"
JSON_OK = OK + b"Content-Type: application/json\r\n"
ENDLESS = {
    "a head that never ends": says(OK, then=forever(b"X-More: header\r\n")),
    "a line of the head that never ends": says(OK, then=forever(b"X" * 60_000)),
    "a head a byte at a time": says(OK, then=forever(b"X", pause_s=0.1)),
    "one interim answer after another": says(then=forever(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a body that never ends": says(OK + b"\r\n", then=forever(b"x" * 65_536)),
    "a body a byte at a time": says(
        OK + b"Content-Length: 100000\r\n\r\n", then=forever(b"x", pause_s=0.1)
    ),
    "chunks that never end": says(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", then=forever(b"1\r\nx\r\n")
    ),
    "trailers that never end": says(
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", then=forever(b"X-More: trailer\r\n")
    ),
    "nothing": says(then=lambda connection: time.sleep(30)),
    "a length of exabytes": says(OK + b"Content-Length: 9223372036854775807\r\n\r\nhello"),
}


@pytest.mark.parametrize("how", ENDLESS)
def test_an_address_that_never_ends_its_answer_ends_the_audit_soon(how: str) -> None:
    with hostile(ENDLESS[how]) as server:
        began = time.monotonic()
        ran = audit(server.url, "--timeout", "0.3")
        took_s = time.monotonic() - began

    assert 3 == ran.code
    assert took_s < SOON_S


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_key_goes_to_another_address(code: int) -> None:
    with hostile(says(OK + b"Content-Length: 0\r\n\r\n")) as other:
        leads = f"HTTP/1.1 {code} Elsewhere\r\nLocation: {other.url}/x\r\nContent-Length: 0\r\n\r\n"
        with hostile(says(leads.encode())) as named:
            ran = audit(named.url, INDELIBLE_API_KEY=KEY)
        assert f"leads to {other.url}/x: no redirect is followed" in ran.out

    assert (3, []) == (ran.code, other.requests)
    assert all(f"Authorization: Bearer {KEY}" in request for request in named.requests)


def test_the_key_of_a_server_does_not_go_to_another_log() -> None:
    with hostile(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as theirs:
        for ours, is_sent in (
            (theirs.url, True),
            (theirs.url.removeprefix("http://"), True),
            ("https://events.example", False),
            (theirs.url.replace("http:", "https:"), False),
            ("http://127.0.0.1:1", False),
        ):
            theirs.requests.clear()
            audit(theirs.url, INDELIBLE_API_KEY=KEY, INDELIBLE_HOST=ours)
            assert {is_sent} == {KEY in request for request in theirs.requests}, ours


def test_no_proxy_sees_what_is_asked_of_this_machine() -> None:
    empty = says(OK + b"Content-Length: 0\r\n\r\n")
    with hostile(empty) as proxy, hostile(empty) as named:
        audit(named.url, INDELIBLE_API_KEY=KEY, http_proxy=proxy.url, no_proxy="")

    assert ([], True) == (proxy.requests, named.requests != [])


BROKEN = {
    "shorter than it says": (b"Content-Length: %d\r\n\r\n", 7),
    "a chunk that is cut short": (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n", 7),
    "packed, which was not asked for": (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", 0),
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_answer_that_broke_off_is_no_file(kept: Shop, how: str) -> None:
    """Cut where the first part of it would be a sound note: by its lines of witnesses."""
    head, _ = BROKEN[how]
    whole = (kept.log / CHECKPOINT).read_bytes()
    cut = whole[: whole.rindex(b"\n", 0, -1) + 1]
    sent = gzip.compress(whole) if "packed" in how else cut

    def script(connection: socket.socket, path: str) -> None:
        content = (kept.log / path.lstrip("/")).read_bytes()
        if path != f"/{CHECKPOINT}":
            connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
            return
        length = len(sent) if "packed" in how else len(whole)
        connection.sendall(OK + head % length + sent)

    with hostile(script) as server:
        ran = audit(server.url, "--json")

    assert 3 == ran.code
    (found,) = ran.json["logs"][0]["findings"]
    assert (CHECKPOINT, "cannot be checked") == (found["file"], found["gravity"])
    assert ("packed as gzip" in found["sentence"]) == ("packed" in how)


def test_a_log_of_a_billion_events_that_is_served_for_ever_ends_at_the_time_given() -> None:
    note = SIGNER.sign(Checkpoint(ORIGIN, 1 << 30, bytes(32)).text).encode()
    notes = {f"/{CHECKPOINT}": note, f"/{POLICY}": f"log {SIGNER.key.text}\nquorum none\n".encode()}

    def script(connection: socket.socket, path: str) -> None:
        content = notes.get(path)
        if path == f"/{WITNESSED}":
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        if content is None:
            content = bytes(8_192) if "/0/" in path else (b"\x00\x60" + bytes(96)) * 256
            time.sleep(0.05)
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)

    with hostile(script) as server:
        began = time.monotonic()
        ran = audit(server.url, "--timeout", "2")
        took_s = time.monotonic() - began

    assert ran.code in (1, 3)
    assert took_s < SOON_S


def test_a_checkpoint_of_more_events_than_there_can_be_is_no_work(shop: Shop) -> None:
    for size in (2**63, 2**64, 10**20 - 1):
        (shop.log / CHECKPOINT).write_text(SIGNER.sign(Checkpoint(ORIGIN, size, bytes(32)).text))
        assert audit(shop.log).code in (1, 3)
        tar = shop.folder / "out.tar"
        packed = call("evidence", str(tar), "--project", "shop", "--data", str(shop.folder))
        assert 3 == packed.code
        assert not tar.exists()


# Journals


def rewritten(shop: Shop, *statements: str) -> None:
    """Change the journal, its schema included, as an attacker would."""
    with contextlib.closing(apsw.Connection(str(shop.folder / "journal.db"))) as connection:
        connection.execute("PRAGMA writable_schema = ON; PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


_COPY = "CREATE TABLE kept AS SELECT * FROM event_1; DROP TABLE event_1; DROP VIEW event;"
SCHEMAS = {
    "a view that counts for ever": (
        f"{_COPY} CREATE VIEW event AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1"
        " FROM n) SELECT id, x'' AS leaf, x'' AS unique_key, x'' AS salts, x'' AS record, x'' AS"
        " payload FROM n",
        "CREATE VIEW event_1 AS SELECT * FROM event",
    ),
    "a view in the place of the logs": (
        "ALTER TABLE log RENAME TO other; CREATE VIEW log AS WITH RECURSIVE n(i) AS (SELECT 1"
        " UNION ALL SELECT i + 1 FROM n) SELECT 'log' || i AS name, 1 AS project_id, NULL AS"
        " origin, NULL AS vkey, 'open' AS state FROM n",
    ),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON event_1 BEGIN DELETE FROM project; END",),
    "a column that is computed": (
        f"{_COPY} CREATE TABLE event_1 (id INTEGER PRIMARY KEY, leaf, unique_key, salts, record,"
        " payload AS (hex(zeroblob(100000000))))",
    ),
    "a table that is a program": (
        f"{_COPY} CREATE VIRTUAL TABLE event_1 USING fts5(id, leaf, salts, record, payload)",
    ),
    "a project of another number than there can be": (
        "PRAGMA foreign_keys = OFF; UPDATE project SET id = 9223372036854775807; UPDATE log SET"
        " project_id = 9223372036854775807",
    ),
    "a log that lies elsewhere": ("UPDATE log SET name = '../../../../etc'",),
    "a log of an absolute name": ("UPDATE log SET name = '/etc'",),
    "a name that is no UTF-8": ("UPDATE log SET origin = CAST(x'ff' AS TEXT)",),
    "an id that is a text": (
        f"{_COPY} CREATE TABLE event_1 (id TEXT PRIMARY KEY, leaf, unique_key, salts, record,"
        " payload) WITHOUT ROWID; INSERT INTO event_1 SELECT 'x' || id, leaf, unique_key, salts,"
        " record, payload FROM kept",
        "CREATE VIEW event AS SELECT id, leaf, unique_key, salts, record, payload FROM event_1",
    ),
    "no table of the events": (_COPY,),
}


@pytest.mark.parametrize("what", SCHEMAS)
def test_a_journal_with_a_schema_that_is_none_of_ours_cannot_be_checked(
    shop: Shop, what: str
) -> None:
    rewritten(shop, *SCHEMAS[what])

    for command in (("audit",), ("attack",)):
        ran = run(*command, str(shop.folder), XDG_STATE_HOME=str(shop.folder.parent))
        assert ran.code in ((1, 3) if "id that is a text" in what else (3,)), ran.out


@pytest.mark.parametrize(
    "what", ["a view that counts for ever", "a trigger", "a column that is computed"]
)
def test_no_copy_is_made_of_a_journal_with_such_a_schema(
    shop: Shop, tmp_path: Path, what: str
) -> None:
    rewritten(shop, *SCHEMAS[what])
    target = tmp_path / "copy.db"

    assert_refused(run("backup", str(target), "--data", str(shop.folder)), 1, "journal_damaged")
    empty = tmp_path / "empty"
    restored = run("restore", str(shop.folder / "journal.db"), "--data", str(empty))
    assert_refused(restored, 1, "journal_damaged")
    assert not target.exists()
    assert not (empty / "journal.db").exists()


def test_a_text_that_is_no_utf_8_is_named_as_the_row_that_was_altered(shop: Shop) -> None:
    shop.sql("UPDATE event_1 SET payload = CAST(x'ff' AS TEXT) WHERE id = ?", shop.row_id(7))

    ran = audit(shop.folder, "--json")

    assert 1 == ran.code
    assert [7] == [found["index"] for found in ran.json["logs"][0]["findings"]]


@pytest.mark.parametrize("lead_to", ["the root", "the first page"])
def test_a_tree_whose_pages_lead_back_to_themselves_ends(tmp_path: Path, lead_to: str) -> None:
    """A page above the rows has one child only, many times: some kilobytes, and no end of rows."""
    shop = sealed(tmp_path / "data", 3_000)
    path = shop.folder / "journal.db"
    rewritten(shop)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        root = int(
            connection.execute("SELECT rootpage FROM sqlite_schema WHERE name='event_1'").get
        )
        size = int(connection.pragma("page_size"))
    content = bytearray(path.read_bytes())
    at = (root - 1) * size
    assert 5 == content[at], "a page above others"
    count = int.from_bytes(content[at + 3 : at + 5], "big")
    assert count > 3
    cells = [
        at + int.from_bytes(content[at + 12 + 2 * cell : at + 14 + 2 * cell], "big")
        for cell in range(count)
    ]
    child = root.to_bytes(4, "big")
    if lead_to == "the first page":
        child = bytes(content[cells[0] : cells[0] + 4])
    for place in (*cells, at + 8):
        content[place : place + 4] = child
    path.write_bytes(content)

    ran = audit(shop.folder)
    assert ran.code in (1, 3)
    if lead_to == "the first page":
        assert "its ids are in no order" in ran.out
    target = tmp_path / "copy.db"
    assert_refused(run("backup", str(target), "--data", str(shop.folder)), 1, "journal_damaged")


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["pipe", "device by a link"])
def test_sqlites_other_files_are_not_opened_unless_they_are_regular(
    shop: Shop, end: str, kind: str
) -> None:
    beside = shop.folder / f"journal.db{end}"
    beside.unlink(missing_ok=True)
    REPLACED[kind](beside)

    assert_refused(run("audit", str(shop.folder)), 3, "journal_unreadable")


# The server, its files, and the commands that speak with it


def test_the_server_serves_nothing_through_a_link_in_the_ledger(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        sent = server.http.post("/v1/events?wait=sealed", json={"payload": "{}"}, headers=headers)
        assert sent.is_success, sent.text
        log = server.data_dir / "ledger" / "default"
        secret = tmp_path / "secret"
        secret.write_text(OUTSIDE)
        bundle = next((log / "tile" / "entries").glob("000.p/*"))
        # What was signed is served all the same: it is known from elsewhere.
        signed = {path: path.read_bytes() for path in (bundle, log / POLICY)}
        for path, kind in ((log / WITNESSED, "link"), (bundle, "link"), (log / POLICY, "pipe")):
            path.unlink(missing_ok=True)
            if kind == "link":
                path.symlink_to(secret)
            else:
                os.mkfifo(path)
            answer = server.http.get(f"/ledger/default/{path.relative_to(log)}", headers=headers)
            assert OUTSIDE not in answer.text
            if path in signed:
                assert (200, signed[path]) == (answer.status_code, answer.content)
            else:
                assert 404 == answer.status_code, answer.text
        folder = log / "tile" / "entries"
        folder.rename(tmp_path / "entries")
        folder.symlink_to(tmp_path / "entries")
        again = server.http.get(f"/ledger/default/{bundle.relative_to(log)}", headers=headers)
        assert (200, signed[bundle]) == (again.status_code, again.content)


@pytest.mark.parametrize("kind", ["pipe", "device by a link", "huge", "folder", "garbage"])
def test_a_server_does_not_start_on_a_policy_that_is_no_file(tmp_path: Path, kind: str) -> None:
    policy = tmp_path / "policy"
    REPLACED[kind](policy)

    ran = call(
        "serve",
        "--port",
        "0",
        "--data",
        str(tmp_path / "data"),
        INDELIBLE_WITNESS_POLICY=str(policy),
    )

    assert_refused(ran, 2, "setting_invalid")


@pytest.mark.parametrize(
    "kind", ["pipe", "device by a link", "huge", "others may write", "garbage"]
)
def test_the_file_that_names_the_server_is_not_read_if_another_user_may_have_written_it(
    tmp_path: Path, kind: str
) -> None:
    with hostile(says(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        file = tmp_path / "cli.json"
        if kind == "others may write":
            file.write_text(json.dumps({"host": server.url, "admin_key": "theirs"}))
            file.chmod(0o666)
        else:
            REPLACED[kind](file)
        ran = call("tail", "-n", "1", INDELIBLE_DATA_DIR=str(tmp_path), INDELIBLE_API_KEY=KEY)

    assert [] == server.requests
    wanted = "server_unreachable" if kind == "garbage" else "file_refused"
    assert_refused(ran, 3, wanted)


def test_where_address_and_key_are_named_that_file_has_no_say(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cli.json")
    with hostile(says(JSON_OK + b'Content-Length: 13\r\n\r\n{"events":[]}')) as server:
        named = {"INDELIBLE_HOST": server.url, "INDELIBLE_API_KEY": KEY}
        call("where", "x", cwd=None, INDELIBLE_DATA_DIR=str(tmp_path), **named)

    assert {True} == {f"Bearer {KEY}" in request for request in server.requests}


def test_no_command_follows_a_redirect_with_its_key() -> None:
    with hostile(says(JSON_OK + b"Content-Length: 2\r\n\r\n{}")) as other:
        leads = f"HTTP/1.1 307 Elsewhere\r\nLocation: {other.url}/x\r\nContent-Length: 0\r\n\r\n"
        with hostile(says(leads.encode())) as named:
            for command in (
                ("tail",),
                ("where", "x"),
                ("export",),
                ("project", "list"),
                ("send", "x", "--distinct-id", "y"),
                ("erase", "--distinct-id", "y", "--yes"),
                ("receipt", "x"),
                ("policy",),
            ):
                ran = call(*command, INDELIBLE_HOST=named.url, INDELIBLE_ADMIN_KEY=KEY)
                assert ran.code in (2, 3), (command, ran.out, ran.err)

    assert [] == other.requests
    assert [] != named.requests


@pytest.mark.parametrize("how", ["a head a byte at a time", "a body a byte at a time"])
@pytest.mark.slow
def test_a_command_ends_however_slowly_it_is_answered(how: str) -> None:
    with hostile(ENDLESS[how]) as server:
        began = time.monotonic()
        ran = call("where", "x", INDELIBLE_HOST=server.url, INDELIBLE_ADMIN_KEY=KEY)
        took_s = time.monotonic() - began

    assert_refused(ran, 3, "server_unreachable")
    assert took_s < 45


def test_a_packed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(1 << 26))
    head = JSON_OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with hostile(says(head, bomb)) as server:
        for command in (("where", "x"), ("export",)):
            ran = call(*command, INDELIBLE_HOST=server.url, INDELIBLE_ADMIN_KEY=KEY)
            assert_refused(ran, 3, "bad_answer")
    assert all("accept-encoding: identity" in one.lower() for one in server.requests)


@pytest.mark.slow
def test_an_answer_that_never_ends_is_not_kept_in_memory() -> None:
    with hostile(says(JSON_OK + b"\r\n", then=forever(b" " * 65_536))) as server:
        ran = call("where", "x", INDELIBLE_HOST=server.url, INDELIBLE_ADMIN_KEY=KEY)
    assert ran.code == 3, ran.err


def test_what_a_command_writes_replaces_a_link_and_leaves_what_it_led_to(
    shop: Shop, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(OUTSIDE)
    output = tmp_path / "out.tar"
    output.symlink_to(secret)

    made = call("evidence", str(output), "--project", "shop", "--data", str(shop.folder))
    copied = call("backup", str(output), "--data", str(shop.folder))

    assert 0 == made.code, made.err
    assert not output.is_symlink()
    assert_refused(copied, 2, "already_exists")
    assert OUTSIDE == secret.read_text()


# Any of it, anywhere

PLACES = (
    "ledger/shop/checkpoint",
    "ledger/shop/witnessed",
    "ledger/shop/policy",
    f"ledger/shop/{TILE}",
    f"ledger/shop/{BUNDLE}",
    "ledger/shop/tile/0/000.p/5",
    "ledger/shop/tile/0/000.p",
    "ledger/shop/tile/entries",
    "ledger/shop",
    "ledger",
    "journal.db",
    "journal.db-wal",
    "lock.db",
    "keys/shop.key",
    "keys",
)


@pytest.mark.slow(minutes=3)
@settings(max_examples=60)
@given(
    changes=st.dictionaries(st.sampled_from(PLACES), st.sampled_from(sorted(REPLACED)), max_size=3)
)
def test_whatever_lies_in_a_folder_every_command_ends_soon_with_a_sentence(
    kept: Shop, changes: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as made:
        shop = kept.copy(Path(made, "data"))
        aside = Path(made, "aside")
        for number, (place, kind) in enumerate(sorted(changes.items(), reverse=True)):
            keep = aside / str(number)
            keep.mkdir(parents=True)
            if (shop.folder / place).exists():
                replace(shop.folder / place, kind, keep=keep)
        state = ["--state", str(Path(made, "state"))]
        here = ["--data", str(shop.folder)]
        said = limited_one_after_the_other(
            [
                ["audit", str(shop.folder), *state],
                ["audit", str(shop.log), *state],
                ["evidence", str(Path(made, "out.tar")), "--project", "shop", *here],
                ["verify", str(shop.log / CHECKPOINT), "--policy", str(shop.log / POLICY)],
                ["backup", str(Path(made, "copy.db")), *here],
                ["doctor", *here],
            ]
        )
    *lines, codes = said.splitlines()
    assert {0, 1, 2, 3} >= set(json.loads(codes)), said
    # Each that failed said so in two lines, and nothing else was said.
    assert all(line.startswith(("$", "try: ")) or ": " in line for line in lines), said


@pytest.mark.slow(minutes=3)
@settings(max_examples=100)
@given(
    path=st.sampled_from([CHECKPOINT, WITNESSED, POLICY, TILE, BUNDLE]),
    head=st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n",
            b"HTTP/1.1 302 Found\r\n",
            b"HTTP/1.1 999 \xff\x1b[31m\r\n",
            b"HTTP/1.1 204 No Content\r\n",
            b"ICY 200\r\n",
            b"",
        ]
    ),
    fields=st.lists(
        st.sampled_from(
            [
                b"Content-Length: -1\r\n",
                b"Content-Length: 12, 13\r\n",
                b"Content-Length: 99999999999999999999\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Transfer-Encoding: gzip, chunked\r\n",
                b"Content-Encoding: br\r\n",
                b": nameless\r\n",
                b"X: " + b"y" * 70_000 + b"\r\n",
                b"X: y\r\n" * 200,
                b" folded\r\n",
            ]
        ),
        max_size=3,
    ),
    body=st.one_of(st.binary(max_size=300), st.just(b"x" * 400_000), st.just(b"fffffffff\r\nx")),
)
def test_whatever_an_address_answers_the_audit_ends_soon_with_a_sentence(
    kept: Shop, path: str, head: bytes, fields: list[bytes], body: bytes
) -> None:
    def script(connection: socket.socket, asked: str) -> None:
        if asked == f"/{path}":
            connection.sendall(head + b"".join(fields) + b"\r\n" + body)
            return
        content = (kept.log / asked.lstrip("/")).read_bytes()
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)

    with hostile(script) as server:
        ran = audit(server.url, "--timeout", "5", INDELIBLE_API_KEY=KEY)

    assert ran.code in (0, 1, 3), ran.err
    assert "\x1b" not in ran.out + ran.err


# The witnesses that a server asks


@pytest.mark.parametrize("how", ["leads elsewhere", "packed"])
def test_a_witness_leads_no_server_elsewhere_and_unpacks_nothing_in_it(how: str) -> None:
    cosigner = Cosigner("witness.example/x", b"\x05" * 32)
    note = SIGNER.sign(Checkpoint(ORIGIN, 1, leaf_hash(b"a")).text)
    with hostile(says(OK + b"Content-Length: 0\r\n\r\n")) as other:
        bomb = gzip.compress(bytes(1 << 26))
        sent = {
            "leads elsewhere": (
                b"HTTP/1.1 307 Elsewhere\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n"
                % other.url.encode()
            ),
            "packed": OK
            + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
            + bomb,
        }[how]
        with hostile(says(sent)) as named:
            policy = Policy((), (Witness("x", cosigner.key, named.url),), (), "x")
            cosigners = Cosigners(policy, timeout_s=5.0, clock=lambda: 0)
            try:
                asked = cosigners.ask(note, Hashes([leaf_hash(b"a")]))
            finally:
                cosigners.close()

    assert not asked.is_met
    assert [] == other.requests
    assert all("accept-encoding: identity" in one.lower() for one in named.requests)
