"""Run the catalogue: see `tests.faults`."""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.catalogue import FAULTS, ROOT, Fault

ROOM: Final = tuple(
    f"tests/{room}"
    for room in ("journal", "ledger", "erasure", "edge", "api", "serving", "processes")
)

_WITHIN_S: Final = 300.0
_ROOM_WITHIN_S: Final = 3600.0
_LEFT_OUT: Final = shutil.ignore_patterns(
    ".venv", ".git", "__pycache__", ".*_cache", ".hypothesis", "dist", "data"
)
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
_NOTHING_RUN: Final = 5


class Run(NamedTuple):
    """What came of some tests: None where all passed, else the one that failed first."""

    failed: str | None
    hung: bool = False


class Judged(NamedTuple):
    """What came of a fault."""

    fault: Fault
    is_noticed: bool
    how: str
    took_s: float

    @property
    def is_as_expected(self) -> bool:
        """Whether it was noticed, unless the catalogue says that nobody can tell."""
        return self.is_noticed == (self.fault.equivalent is None)


class Copy:
    """A copy of this checkout, into which one fault at a time is put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        shutil.copytree(ROOT, self.folder, ignore=_LEFT_OUT, symlinks=True)

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """The copy has the fault during the `with`."""
        path = self.folder / fault.path
        sound = path.read_text("utf-8")
        assert 1 == sound.count(fault.before), f"the catalogue is out of date: {fault.meaning}"
        self._write(path, sound.replace(fault.before, fault.after))
        try:
            yield
        finally:
            self._write(path, sound)

    def run(self, tests: Sequence[str], *, within_s: float) -> Run:
        """Run these tests up to the first that fails."""
        command = [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "--timeout=120"),
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:rerunfailures"),
            *("-m", "not slow and not clocked", *tests),
        ]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that what the tests started ends with them
        )
        try:
            said, _ = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            return Run("", hung=True)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.returncode != _NOTHING_RUN, f"no test was run: {tests}"
        failed = _FAILED.search(said)
        if process.returncode == 0:
            return Run(None)
        assert failed is not None, said
        return Run(failed[1])

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        # Its time has seconds only: a change within one would not be seen.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def judge(copy: Copy, fault: Fault, *, whole_room: bool) -> Judged:
    """Put the fault in, and see whether its tests, or those of the whole room, notice."""
    began = time.monotonic()
    tests, within_s = (ROOM, _ROOM_WITHIN_S) if whole_room else (fault.tests, _WITHIN_S)
    with copy.broken(fault):
        run = copy.run(tests, within_s=within_s)
    if run.failed is None:
        is_noticed, how = False, "SURVIVED"
    elif run.hung:
        is_noticed, how = True, f"hung for {within_s:g} s"
    elif copy.run([run.failed.partition("[")[0]], within_s=within_s).failed is None:
        is_noticed, how = True, run.failed
    else:
        is_noticed, how = False, f"fails without the fault too: {run.failed}"
    return Judged(fault, is_noticed, how, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER")
    parser.add_argument("--room", action="store_true", help="run the tests of the whole room")
    asked = parser.parse_args()
    numbers = asked.numbers or range(1, len(FAULTS) + 1)
    judged: list[Judged] = []
    with tempfile.TemporaryDirectory(prefix="indelible-faults-") as folder:
        copy = Copy(Path(folder))
        for number in numbers:
            fault = FAULTS[number - 1]
            one = judge(copy, fault, whole_room=asked.room)
            judged.append(one)
            sign = "" if one.is_as_expected else "  <--"
            sys.stdout.write(
                f"{number:2}  {fault.path.removeprefix('src/indelible/')}: {fault.meaning}\n"
                f"    {one.how} ({one.took_s:.0f} s){sign}\n"
            )
            if not one.is_noticed and fault.equivalent is not None:
                sys.stdout.write(f"    nobody can tell: {fault.equivalent}\n")
            sys.stdout.flush()
    noticed = sum(one.is_noticed for one in judged)
    sys.stdout.write(
        f"{noticed} of {len(judged)} noticed, {100 * noticed / len(judged):.0f} %;"
        f" {sum(one.fault.equivalent is not None for one in judged)} change nothing that anybody"
        " can tell\n"
    )
    return 0 if all(one.is_as_expected for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
