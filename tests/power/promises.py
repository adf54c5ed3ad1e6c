"""What must hold after a power cut, given what had been promised before it.

Each check takes the folder as the cut left it, starts the real code on it, and says which promises
are broken. A check may change the folder: it gets one of its own.
"""

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from indelible.cli.audit import targets_of
from indelible.errors import IndelibleError, InvalidApiKey, JournalShorter
from indelible.layout import CLI_FILE
from indelible.ledger.audit.sources import FolderSource
from indelible.ledger.audit.whole import audit_log
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT
from indelible.ledger.format.note import parse_note
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tree import leaf_hash, root_of
from indelible.ledger.format.verify import Verdict, verify_receipt
from indelible.ledger.seals import SEALS_FILE, Seals
from tests.cli.command import call
from tests.power.door import Door, opened

logging.getLogger("httpx").setLevel(logging.WARNING)

STARTS: Final = "the server starts"
KEYS: Final = "keys that were shown are valid"
STORED: Final = "an acknowledged event is in the log, as it was sent"
ONCE: Final = "an event that is sent again is stored once"
RECEIPTS: Final = "a receipt that was handed out is of this log"
READERS: Final = "readers find every tile below a published checkpoint"
FORWARD: Final = "a published checkpoint never goes back"
WHOLE: Final = "the log verifies as a whole"
ERASED: Final = "erased content is in no file"
EXPIRED: Final = "what is older than a project keeps is erased"
CERTIFIED: Final = "the certificate of an erasure is in the log"
TIMES: Final = "when an event was sealed is known after a clean stop"
BACKUP: Final = "a backup that was reported can be restored"
RESTORED: Final = "a restore that was reported serves"
INTACT: Final = "no database is damaged"
REPEATED: Final = "a restore that was broken off can be repeated"
RETIRED: Final = "the key of a frozen log is out of use"
WITNESS: Final = "a witness that was announced is there"
COSIGNED: Final = "a witness remembers what it has cosigned"
SAFE: Final = "an audit event that was called safe arrives, once"
OUTPUT: Final = "a file that a command reported is whole"
REMEMBERED: Final = "an auditor remembers what it found sound"
POISONED: Final = "nothing is promised after a sync that failed"

Mark = dict[str, Any]


@dataclass(slots=True)
class Found:
    """How many promises were looked at, and which do not hold."""

    checked: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def hold(self, promise: str, held: object, detail: str = "") -> None:
        """Count a promise, and note it if it does not hold."""
        self.checked += 1
        if not held:
            self.broken.append((promise, detail[:300]))

    def trying(self, promise: str, what: Callable[[], None]) -> bool:
        """Run a part of a check in which any failure breaks this promise."""
        self.checked += 1
        try:
            what()
        except Exception as error:
            self.broken.append((promise, f"{type(error).__name__}: {error}"[:300]))
            return False
        return True


def of_kind(marks: Iterable[Mark], promise: str) -> list[Mark]:
    return [one for one in marks if one["promise"] == promise]


# The server


def check_server(data: Path, marks: list[Mark], found: Found) -> None:
    """Everything that a server's data folder has promised."""
    check_readers(data, marks, found)
    check_erased(data, marks, found)
    for path in sorted(data.glob("*.db")):
        found.trying(INTACT, partial(_intact, path))
    check_times(data, marks, found)

    def serve() -> None:
        with opened(data, whole=False) as door:
            check_door(door, marks, found)

    if found.trying(STARTS, serve):
        found.trying(WHOLE, lambda: _audited(data))
        check_erased(data, marks, found)


def check_times(data: Path, marks: list[Mark], found: Found) -> None:
    """When an event was sealed is known for as long as the server was stopped cleanly since."""
    for one in of_kind(marks, "stopped"):
        with tempfile.TemporaryDirectory() as elsewhere:
            for path in data.glob(f"{SEALS_FILE}*"):
                shutil.copy(path, elsewhere)
            seals = Seals(Path(elsewhere, SEALS_FILE))
            times = seals.times(one["origin"], one["sealed"])
            seals.close()
        found.hold(TIMES, times.sealed_at_ms == one["at_ms"], f"{times} of {one}")


def check_readers(data: Path, marks: list[Mark], found: Found) -> None:
    """The folder as any web server would serve it, before ours is started again."""
    ledger = data / "ledger"
    for log in sorted(ledger.iterdir()) if ledger.is_dir() else []:
        if (log / CHECKPOINT).exists():
            audit = audit_log(FolderSource(log))
            found.hold(READERS, Verdict.VERIFIED is audit.verdict, _findings(audit))
    for one in of_kind(marks, "published"):
        note = data / "ledger" / one["log"] / one["note"]
        size = _size(note)
        found.hold(FORWARD, one["size"] <= size, f"{one['note']} is at {size}, was {one['size']}")


def check_erased(data: Path, marks: list[Mark], found: Found) -> None:
    """No byte of what was erased, in whatever file."""
    secrets = [text.encode() for one in of_kind(marks, "erased") for text in one["secrets"]]
    if not secrets:
        return
    for path in sorted(data.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        left = [secret for secret in secrets if secret in content]
        found.hold(ERASED, not left, f"{left[:1]} in {path.name}")


def check_door(door: Door, marks: list[Mark], found: Found) -> None:
    """What a running server must show."""
    erased = {tx for one in of_kind(marks, "erased") for tx in one["txs"]}
    begun = {tx for one in of_kind(marks, "erasing") for tx in one["txs"]}
    logs: dict[str, list[dict[str, Any]]] = {}
    for one in of_kind(marks, "stored"):
        if one["key"] not in logs:
            logs[one["key"]] = _log_of(door, one["key"])
        log = logs[one["key"]]
        _check_event(one, log, erased, begun, found)
    _check_once(door, marks, logs, found)
    for one in of_kind(marks, "expiring"):
        door.house.following.retention.expire()
        kept = json.dumps(_log_of(door, one["key"]))
        left = [content for content in one["contents"] if content in kept]
        found.hold(EXPIRED, not left, f"{left} are there")
    for one in of_kind(marks, "certificate"):
        log = _log_of(door, one["key"])
        at = log[one["index"]] if one["index"] < len(log) else {}
        found.hold(CERTIFIED, (at.get("kind"), at.get("tx_id")) == ("erasure", one["tx"]), str(at))
    for one in of_kind(marks, "sealed"):
        _check_receipt(one, door, found)
    door.write_cli_file()
    written = json.loads((door.house.settings.data_dir / CLI_FILE).read_text())
    found.hold(KEYS, door.opens("admin", written["admin_key"]), CLI_FILE)
    for one in of_kind(marks, "key"):
        found.hold(KEYS, door.opens(one["role"], one["secret"]), one["role"])


def _log_of(door: Door, key: str) -> list[dict[str, Any]]:
    """The log that a key opens; nothing where it opens none."""
    try:
        return door.export(key)
    except InvalidApiKey:
        return []


def _check_event(
    one: Mark, log: list[dict[str, Any]], erased: set[str], begun: set[str], found: Found
) -> None:
    index = one["index"]
    event = log[index] if index < len(log) else {}
    found.hold(STORED, one["tx"] == event.get("tx_id"), f"index {index} of {len(log)}: {event}")
    content = one["content"] in json.dumps(event)
    if one["tx"] in erased:
        found.hold(ERASED, not content, f"index {index} can be read")
    elif one["tx"] not in begun:
        found.hold(STORED, content, f"index {index}: {event}")


def _check_once(
    door: Door, marks: list[Mark], logs: dict[str, list[dict[str, Any]]], found: Found
) -> None:
    """Every client sends again what was acknowledged, and nothing comes of it."""
    for request in {
        json.dumps(one["request"]): one["request"] for one in of_kind(marks, "stored")
    }.values():
        answer = door.ask(**request)
        found.hold(ONCE, answer.status_code in (200, 202), answer.text)
    for key, before in logs.items():
        log = _log_of(door, key)
        found.hold(ONCE, len(before) == len(log), f"{len(log) - len(before)} are stored again")
        ids = [event.get("uuid") or event.get("idempotency_key") for event in log]
        known = [one for one in ids if one is not None]
        found.hold(ONCE, len(known) == len(set(known)), "two events have one id")


def _check_receipt(one: Mark, door: Door, found: Found) -> None:
    verdict = verify_receipt(one["receipt"], parse_policy(one["policy"])).verdict
    found.hold(RECEIPTS, Verdict.VERIFIED is verdict, "it does not verify")
    note = parse_note(Proof.parse(one["receipt"]).checkpoint)
    signed = Checkpoint.parse(note.text)
    journal, log = door.house.storing.journal, door.house.following.ledger.logs.named(one["log"])
    if log is None:
        found.hold(RECEIPTS, False, f"there is no log {one['log']}")
        return
    leaves = journal.leaves(log.project_id, 0, signed.size)
    held = log.origin == signed.origin and (
        log.signer is None  # a frozen one: the journal of today is not the one it was made from
        or (
            len(leaves) == signed.size
            and root_of([leaf_hash(one) for one in leaves]) == signed.root
        )
    )
    found.hold(RECEIPTS, held, f"signed at {signed.size}, {len(leaves)} events are here")


def _audited(data: Path) -> None:
    for target in targets_of(data, project=None, policy=None, memory=None):
        if not (data / "ledger" / target.name).is_dir():
            continue  # frozen where its files never were
        audit = audit_log(target.source, target.known)
        if audit.verdict is not Verdict.VERIFIED:
            raise AssertionError(_findings(audit))


def _findings(audit: Any) -> str:
    return "; ".join(str(finding) for finding in audit.findings)


def _size(note: Path) -> int:
    """Of a published checkpoint; -1 where there is none that can be read."""
    try:
        return Checkpoint.parse(parse_note(note.read_text()).text).size
    except (OSError, IndelibleError, UnicodeDecodeError):
        return -1


# Backup and restore


def check_backup(folder: Path, marks: list[Mark], found: Found) -> None:
    """Whatever has the name of the backup can be restored into an empty folder."""
    reported = of_kind(marks, "backed up")
    backup = folder / "backups" / "monday.db"
    found.hold(BACKUP, backup.exists() or not reported, "it is gone")
    if backup.exists():
        fresh = folder / "fresh"

        def restore() -> None:
            ran = call("restore", str(backup), "--data", str(fresh), "--new-log")
            assert 0 == ran.code, ran.err
            with opened(fresh, whole=False) as door:
                for one in reported:
                    log = door.export(one["key"])
                    assert one["contents"] == [
                        content for content in one["contents"] if content in json.dumps(log)
                    ], "an event is missing"

        found.trying(BACKUP, restore)
        shutil.rmtree(fresh, ignore_errors=True)


def check_restore(folder: Path, marks: list[Mark], found: Found) -> None:
    """Before it was reported: it can be repeated, and what is there serves. After: it is done."""
    data, backup = folder / "data", folder / "monday.db"
    facts = json.loads((folder / "facts.json").read_text())
    reported = of_kind(marks, "restored")
    if not reported:
        if (data / "journal.db").exists():
            as_it_is = folder / "as-it-is"
            shutil.copytree(data, as_it_is)
            found.trying(INTACT, lambda: _intact(as_it_is / "journal.db"))
            found.trying(REPEATED, lambda: _serves_or_refuses(as_it_is, facts))
            shutil.rmtree(as_it_is)
        ran = call("restore", str(backup), "--data", str(data), *facts["arguments"])
        found.hold(REPEATED, 0 == ran.code, ran.err)
        if ran.code:
            return
    found.trying(RESTORED if reported else REPEATED, lambda: _holds(data, facts, erased=True))
    if facts["frozen"]:
        found.hold(RETIRED, not (data / "keys" / "default.key").exists(), "it is there")
    check_server(data, [*facts["marks"], *marks], found)


def _serves_or_refuses(data: Path, facts: dict[str, Any]) -> None:
    """A folder in the middle of a restore may ask for it to be repeated, and never serve less."""
    with contextlib.suppress(JournalShorter), opened(data, whole=False) as door:
        text = json.dumps(door.export(facts["key"]))
        for content in facts["kept"]:
            assert content in text, f"{content} is missing"
        if facts["frozen"]:
            succeeded = door.house.following.ledger.logs.named("default.2") is not None
            assert succeeded != ("content-lost" in text), "it is a mixture of two journals"


def _intact(path: Path) -> None:
    """A database with its WAL is whole, as SQLite sees it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as elsewhere:
        for end in ("", "-wal"):
            if path.with_name(path.name + end).exists():
                shutil.copy(path.with_name(path.name + end), elsewhere)
        connection = apsw.Connection(str(Path(elsewhere, path.name)))
        try:
            said = connection.execute("PRAGMA integrity_check").fetchall()
        finally:
            connection.close()
    assert [("ok",)] == said, f"{path.name}: {said[:2]}"


def _holds(data: Path, facts: dict[str, Any], *, erased: bool = False) -> None:
    with opened(data, whole=False) as door:
        text = json.dumps(door.export(facts["key"]))
    for content in facts["kept"]:
        assert content in text, f"{content} is missing"
    if erased:
        for content in facts["erased"]:
            assert content not in text, f"{content} is back"


# Files of commands


def check_output(folder: Path, marks: list[Mark], found: Found) -> None:
    """A file that was reported is there as it was; one that was replaced is the old or the new."""
    for one in of_kind(marks, "written"):
        path = folder / one["path"]
        content = path.read_bytes() if path.exists() else None
        found.hold(OUTPUT, content is not None and one["size"] == len(content), one["path"])
    for path in sorted((folder / "out").glob("[!.]*")):
        found.hold(OUTPUT, path.stat().st_size > 0, f"{path.name} is empty")
    for one in of_kind(marks, "remembered"):
        kept = [path.read_text() for path in (folder / one["path"]).glob("[!.]*")]
        found.hold(REMEMBERED, any(json.loads(text)["size"] >= one["size"] for text in kept), "no")
