"""Telling a story, and looking at what a power cut could have left of it."""

import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.nursery import inherited
from tests.power.disk import State, assert_believable, crash_points, from_afar, moments
from tests.power.promises import Found
from tests.power.recording import Recording, contents_of, record
from tests.power.stories import STORIES, Story

ROOT: Final = Path(__file__).parents[2]
_MEMORY: Final = Path("/dev/shm")


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder, in memory where there is such a place: nothing in it need outlive the test."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="power-", dir=place) as folder:
        yield Path(folder).resolve()


def told(
    story: Story,
    library: Path,
    folder: Path,
    *,
    source: Path | None = None,
    prepared: Path | None = None,
) -> Recording:
    """Record a story in `folder`; `prepared` is one that was prepared before."""
    if prepared is not None:
        shutil.copytree(prepared, folder)
    else:
        prepare(story, folder)
    recording = record(
        library, folder, story.programs(folder), source=source, stop_after=story.stop_after
    )
    assert_believable(recording, folder, contents_of(folder))
    return recording


def prepare(story: Story, folder: Path) -> None:
    """What the folder holds before the story begins."""
    folder.mkdir(parents=True)
    if story.prepare is None:
        return
    command = [sys.executable, "-m", "tests.power.stories", story.name, "prepare", str(folder)]
    subprocess.run(command, cwd=ROOT, env=inherited(), check=True, timeout=120)
    for path in folder.rglob("*-shm"):
        path.unlink()


def keep(recording: Recording) -> Path:
    """Put a recording where the test's end does not take it, to be looked at again."""
    handle, name = tempfile.mkstemp(".recording", prefix="power-")
    with os.fdopen(handle, "wb") as file:
        pickle.dump(recording, file)
    return Path(name)


@dataclass(slots=True)
class Broken:
    """A promise that a power cut breaks, and where."""

    promise: str
    detail: str
    after: int
    call: str
    how: str

    def __str__(self) -> str:
        return (
            f"{self.promise} — {self.detail}\n    after call {self.after} ({self.call}): {self.how}"
        )


@dataclass(slots=True)
class Tally:
    """What was looked at. `points` are the moments at which something new could be left."""

    points: int = 0
    states: int = 0
    checked: int = 0
    broken: list[Broken] = field(default_factory=list)

    @property
    def promises(self) -> Counter[str]:
        return Counter(one.promise for one in self.broken)

    def add(self, other: "Tally") -> None:
        self.points += other.points
        self.states += other.states
        self.checked += other.checked
        self.broken += other.broken


def tried(
    story: Story,
    recording: Recording,
    *,
    seed: str,
    wanted: Collection[int] | None = None,
    until: str | None = None,
) -> Tally:
    """Cut the power at every moment that is wanted, in every way that is tried, and check.

    Stops once the promise `until` is found broken.
    """
    tally = Tally()
    with workshop() as work:
        for point in crash_points(recording, seed=seed, wanted=wanted):
            tally.points += 1
            marks = recording.marks(point.after)
            for state in point.states:
                tally.states += 1
                found = look(story, state, marks, work / "state")
                tally.checked += found.checked
                call = str(recording.calls[point.after - 1]) if point.after else "the beginning"
                tally.broken += [
                    Broken(promise, detail, point.after, call[:120], state.how)
                    for promise, detail in found.broken
                ]
                if until is not None and any(until == promise for promise, _ in found.broken):
                    return tally
    return tally


def sought(story: Story, recording: Recording, promise: str, *, seed: str) -> Tally:
    """Look for a moment at which this promise is broken, from afar first."""
    whole = Tally()
    for wanted in from_afar(moments(recording)):
        tally = tried(story, recording, seed=seed, wanted=wanted, until=promise)
        whole.add(tally)
        if promise in whole.promises:
            break
    return whole


def tried_by_two(story: Story, recording: Recording, *, seed: str) -> Tally:
    """Every moment, shared between two processes."""
    whole = Tally()
    context = multiprocessing.get_context("spawn")  # a fork would have this process's threads
    with ProcessPoolExecutor(2, context) as pool:
        parts = [moments(recording)[first::2] for first in range(2)]
        jobs = [pool.submit(_tried, story.name, recording, seed, part) for part in parts]
        for job in jobs:
            whole.add(job.result())
    whole.broken.sort(key=lambda one: one.after)
    return whole


def _tried(name: str, recording: Recording, seed: str, wanted: list[int]) -> Tally:
    logging.disable(logging.ERROR)  # what a server says of a folder that was cut off
    return tried(STORIES[name], recording, seed=seed, wanted=wanted)


def states_at(recording: Recording, *, seed: str, after: int) -> list[State]:
    """What may be left at one moment."""
    points = crash_points(recording, seed=seed, wanted={after})
    return [state for point in points for state in point.states]


def told_of(story: Story, recording: Recording, tally: Tally, *, seed: str) -> str:
    """What a test says where a promise is broken: the first of each, and how to see it again."""
    first = {one.promise: one for one in reversed(tally.broken)}
    kept = keep(recording)
    replay = f"python -m tests.power replay {kept} {story.name} {seed}"
    lines = [f"{one}\n    again: {replay} {one.after}" for one in first.values()]
    return "\n".join([f"{len(tally.broken)} promises of {story.name} are broken", *lines])


def look(story: Story, state: State, marks: list[dict[str, object]], folder: Path) -> Found:
    """Put a state in a folder, run the story's check on it, and clear it away."""
    state.put(folder)
    found = Found()
    try:
        story.check(folder, marks, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found
