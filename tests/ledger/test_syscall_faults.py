"""Each distinct system call of the sealer fails once, and is once the last that its process makes.

A process that stores and seals is traced first, so that what it does to which kind of file is
known and not guessed. Then it runs anew for each of these calls with a fault injected there: EIO,
or SIGKILL before the call was made. After a clean start nothing acknowledged may be missing, and no
two checkpoints that anybody could have seen may contradict each other.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from indelible.cli.audit import targets_of
from indelible.layout import LOCK_FILE
from indelible.ledger.audit.whole import audit_log
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT
from indelible.ledger.format.note import open_note
from indelible.ledger.format.tree import leaf_hash, root_of
from tests.foreign.needs import Missing, needed
from tests.ledger.sealing import PROJECT, ROUNDS, Parts
from tests.world import environment

pytestmark = [pytest.mark.slow(minutes=3), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SYSCALLS = (
    "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,"
    "close,mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate"
)
FAULTS = {"EIO": "error=EIO", "SIGKILL": "signal=SIGKILL"}
AT_ONCE = 2

# Of all that the process writes, what the sealer writes. The journal's own files are part of it
# where a log's birth and the follower's cursor are noted; what has no say in recovery is not.
_NOT_THE_SEALERS = re.compile(r"unique\.db|.*-shm$|serve\.lock")
_CALL = re.compile(r"[0-9]+ +([a-z0-9]+)\((.*)")


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """The `nth` call of `syscall` on exactly `path`, relative to the data folder."""

    syscall: str
    path: str
    nth: int

    @property
    def site(self) -> tuple[str, str]:
        """What makes calls alike: the call, and the path without its numbers."""
        return self.syscall, re.sub(r"[0-9]+", "N", self.path)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run with a fault said, and whether the fault struck."""

    lines: tuple[str, ...]
    struck: bool

    def said(self, word: str) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.lines if line.startswith(f"{word} ")]


def strace() -> str:
    """The tracer.

    Raises:
        Missing: there is none.
    """
    found = shutil.which("strace")
    if found is None:
        raise Missing("no strace on PATH; on Debian: apt-get install strace")
    return found


def assert_may_trace(tracer: str, folder: Path) -> None:
    """Fail where tracing is denied: a fault that cannot be injected proves nothing."""
    tried = subprocess.run(
        [
            tracer,
            "-f",
            "-o",
            folder / "tried",
            "-e",
            "inject=rmdir:error=EIO",
            "rmdir",
            folder / "x",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Input/output error" not in tried.stderr:
        pytest.fail(
            f"tracing is denied here, so nothing was shown of the sealer: {tried.stderr.strip()}"
            " (in a container: --cap-add SYS_PTRACE)",
            pytrace=False,
        )


def trace(tracer: str, folder: Path, log: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Run the process that seals under the tracer."""
    return subprocess.run(
        [
            tracer,
            "-f",
            "-y",
            "-o",
            log,
            *more,
            sys.executable,
            "-m",
            "tests.ledger.sealing",
            folder,
        ],
        cwd=ROOT,
        env=environment(PYTHONDONTWRITEBYTECODE="1", PYTHONHASHSEED="0"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def calls_in(log: Iterable[str], folder: Path) -> Iterator[Call]:
    """The calls that a trace has on files of the data folder, in order."""
    seen: Counter[tuple[str, str]] = Counter()
    inside = re.compile(re.escape(str(folder)) + r"(?:/([^\">]*))?[\">]")
    for line in log:
        call = _CALL.match(line)
        place = inside.search(line)
        if call is None or place is None:
            continue
        path = place[1] or ""
        if not _NOT_THE_SEALERS.fullmatch(path) and not path.startswith("unique.db"):
            seen[call[1], path] += 1
            yield Call(call[1], path, seen[call[1], path])


def distinct(calls: Sequence[Call]) -> list[Call]:
    """Of the calls that are alike the first and the last; of those on a journal, which its own
    tests fail in every way, the last."""
    first: dict[tuple[str, str], Call] = {}
    last: dict[tuple[str, str], Call] = {}
    for call in calls:
        if not call.path.startswith(("journal.db", "seals.db")):
            first.setdefault(call.site, call)
        last[call.site] = call
    return sorted({*first.values(), *last.values()})


def run_with_fault(tracer: str, folder: Path, call: Call, fault: str) -> Run:
    log = folder.with_suffix(".trace")
    target = folder / call.path if call.path else folder
    done = trace(
        tracer,
        folder,
        log,
        "-P",
        str(target),
        "-e",
        f"trace={call.syscall}",
        "-e",
        f"inject={call.syscall}:{FAULTS[fault]}:when={call.nth}",
    )
    told = log.read_text(errors="replace")
    struck = "(INJECTED)" in told if fault == "EIO" else "killed by SIGKILL" in told
    return Run(tuple(done.stdout.splitlines()), struck)


def test_whatever_call_fails_or_is_the_last_the_log_recovers(tmp_path: Path) -> None:
    with needed():
        tracer = strace()
    assert_may_trace(tracer, tmp_path)
    clean = tmp_path / "clean"
    trace(tracer, clean, tmp_path / "log", "-e", f"trace={SYSCALLS}")
    with (tmp_path / "log").open(errors="replace") as log:
        calls = distinct(list(calls_in(log, clean)))

    jobs = [(call, fault) for call in calls for fault in FAULTS]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        runs = list(
            threads.map(lambda job: tell(tracer, tmp_path / f"{job[0]}", *job[1]), enumerate(jobs))
        )

    complaints = [
        f"{fault} at call {call.nth} of {call.syscall} on {call.path or 'the folder'}: {wrong}"
        for (call, fault), (_, wrongs) in zip(jobs, runs, strict=True)
        for wrong in wrongs
    ]
    assert [] == complaints
    struck = Counter(
        (call.syscall, fault)
        for (call, fault), (run, _) in zip(jobs, runs, strict=True)
        if run.struck
    )
    sys.stdout.write(f"{table(struck)}\n")
    missed = [job for job, (run, _) in zip(jobs, runs, strict=True) if not run.struck]
    assert [] == missed  # each is where the trace has it: the process does the same every time
    assert {"openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "close", "mkdir"} <= {
        syscall for syscall, _ in struck
    }
    assert struck.total() >= 150
    # A sync that failed ended the sealer, or the journal; nothing else that failed once did so in
    # silence.
    for (call, fault), (run, _) in zip(jobs, runs, strict=True):
        if fault == "EIO" and call.syscall == "fsync":
            code = "unavailable" if call.path.startswith("journal.db") else "sync_failed"
            assert [code] == run.said("stopped"), call
    assert {0, 1, len(ROUNDS)} <= {len(run.said("stored")) for run, _ in runs}  # early and late


def tell(tracer: str, folder: Path, call: Call, fault: str) -> tuple[Run, list[str]]:
    """One run with a fault, a clean start after it, and what is wrong then."""
    run = run_with_fault(tracer, folder, call, fault)
    wrong = complaints_after(folder, run)
    shutil.rmtree(folder)
    return run, wrong


def complaints_after(folder: Path, run: Run) -> list[str]:
    notes = [base64.b64decode(one).decode() for one in run.said("signed")]
    published = folder / "ledger" / PROJECT / CHECKPOINT
    if published.exists():
        notes.append(published.read_text())
    notes += locked(folder)
    acknowledged = max([int(count) for count in run.said("stored")], default=0)

    parts = Parts(folder)  # a clean start
    notes.append(parts.note())
    parts.store(5)
    parts.seal()
    notes += [parts.note(), *locked(folder)]
    entries = parts.journal.leaves(parts.project_id, 0, parts.journal.next_index(parts.project_id))
    payloads = [one.payload for one in parts.journal.read(parts.project_id, 0, acknowledged)]
    key = parts.log.key
    parts.close()

    wrong: list[str] = []
    if payloads != [b"%d" % n for n in range(acknowledged)]:
        wrong.append("an acknowledged event is missing")
    hashes = [leaf_hash(entry) for entry in entries]
    checkpoints = [Checkpoint.parse(open_note(note, [key]).text) for note in notes]
    # One history: each is the beginning of what the journal holds, so each of the next one.
    wrong += [
        f"the checkpoint of {one.size} is of another history"
        for one in checkpoints
        if one.root != root_of(hashes[: one.size])
    ]
    if checkpoints[-1].size != len(entries):
        wrong.append(f"{len(entries)} events are stored and {checkpoints[-1].size} are sealed")
    if list(folder.rglob("ledger/**/*.tmp")):
        wrong.append("a draft is left")
    (target,) = targets_of(folder, project=None, policy=None, memory=None)
    wrong += [str(finding) for finding in audit_log(target.source, target.known).findings]
    return wrong


def locked(folder: Path) -> list[str]:
    """The note in the lock store, as somebody who reads the file finds it."""
    path = folder / LOCK_FILE
    if not path.exists() or not path.stat().st_size:
        return []
    connection = apsw.Connection(str(path))
    try:
        return [str(note) for (note,) in connection.execute("SELECT note FROM head")]
    except apsw.SQLError:  # no table yet
        return []
    finally:
        connection.close()


def table(struck: Counter[tuple[str, str]]) -> str:
    syscalls = sorted({syscall for syscall, _ in struck})
    rows = [
        f"{syscall:<12}" + "".join(f"{struck[syscall, fault]:>9}" for fault in FAULTS)
        for syscall in syscalls
    ]
    head = f"{'injected':<12}" + "".join(f"{fault:>9}" for fault in FAULTS)
    return "\n".join([head, *rows, f"{struck.total()} faults in all"])


# That the checks can fail


def test_the_checks_notice_a_lost_event_and_a_second_history(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    parts = Parts(folder)
    parts.store(3)
    parts.seal()
    signer = parts.log.signer
    assert signer is not None
    other = signer.sign(Checkpoint(parts.log.origin, 2, bytes(32)).text)
    parts.close()
    signed = "signed " + base64.b64encode(other.encode()).decode()

    assert [] == complaints_after(folder, Run(("stored 3",), struck=True))
    wrong = complaints_after(folder, Run(("stored 99", signed), struck=True))
    assert [
        "an acknowledged event is missing",
        "the checkpoint of 2 is of another history",
    ] == wrong

    (folder / "ledger" / PROJECT / "tile/0/000.p/3").write_bytes(os.urandom(96))
    assert complaints_after(folder, Run((), struck=True))
