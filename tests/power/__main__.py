"""What the power cuts show, in tables, and one of them again.

python -m tests.power stories [NAME …]        every moment of each story
python -m tests.power removals [TEXT]         each sync whose line has the text, removed
python -m tests.power replay FILE STORY SEED AFTER
                                              a moment of a recording that a test has kept
"""

import logging
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.power.recording import Op, Recording, built
from tests.power.removals import remove
from tests.power.stories import STORIES
from tests.power.test_removals import removed
from tests.power.trial import (
    Tally,
    look,
    prepare,
    sought,
    states_at,
    told,
    told_of,
    tried_by_two,
    workshop,
)

_SEED = "shown"


def stories(names: Sequence[str]) -> bool:
    """A line for each story, and one for all."""
    say(
        f"{'story':<22}{'calls':>7}{'syncs':>7}{'moments':>9}{'states':>8}{'each':>6}{'promises':>10}"
    )
    whole, began = Tally(), time.monotonic()
    for name in names or STORIES:
        story = STORIES[name]
        with workshop() as folder:
            recording = told(story, built(Path(tempfile.gettempdir())), folder / "told")
        tally = tried_by_two(story, recording, seed=_SEED)
        line(name, recording, tally)
        if tally.broken:
            say(told_of(story, recording, tally, seed=_SEED))
        whole.add(tally)
    each = whole.states / whole.points
    say(f"{'all':<36}{whole.points:>9}{whole.states:>8}{each:>6.1f}{whole.checked:>10}")
    say(f"{len(whole.broken)} broken; {time.monotonic() - began:.0f} s")
    return not whole.broken


def line(name: str, recording: Recording, tally: Tally) -> None:
    syncs = sum(call.op is Op.SYNC for call in recording.calls)
    each = tally.states / max(1, tally.points)
    say(
        f"{name:<22}{len(recording.calls):>7}{syncs:>7}{tally.points:>9}{tally.states:>8}"
        f"{each:>6.1f}{tally.checked:>10}"
    )


def removals(text: str) -> bool:
    """A line for each sync: red where a power cut without it breaks the promise of its row."""
    missed, began = 0, time.monotonic()
    rows = [(removal, row) for removal, row in removed() if text in removal.name]
    with workshop() as work:
        for number, (removal, row) in enumerate(rows):
            story, prepared = STORIES[row.story], work / row.story
            if not prepared.exists():
                prepare(story, prepared)
            recording = told(
                story,
                built(Path(tempfile.gettempdir())),
                work / f"told-{number}",
                source=remove(removal, work / f"source-{number}"),
                prepared=prepared,
            )
            tally = sought(story, recording, row.promise, seed=_SEED)
            is_red = row.promise in tally.promises
            missed += not is_red
            word = "red" if is_red else "MISSED"
            say(f"{word:<7}{tally.states:>5} states  {row.story:<23}{removal.name}: {row.promise}")
    say(f"{len(rows) - missed} of {len(rows)} red; {time.monotonic() - began:.0f} s")
    return not missed


def replay(file: str, name: str, seed: str, after: str) -> bool:
    """The broken promises of every state at one moment; the folders stay to be looked at."""
    recording: Recording = pickle.loads(Path(file).read_bytes())
    marks, broken = recording.marks(int(after)), 0
    place = Path(tempfile.mkdtemp(prefix="power-"))
    for number, state in enumerate(states_at(recording, seed=seed, after=int(after))):
        found = look(STORIES[name], state, marks, place / "checked")
        if found.broken:
            broken += 1
            state.put(place / str(number))
            say(f"{place / str(number)}: {state.how}")
            for promise, detail in found.broken:
                say(f"    {promise}: {detail}")
    return not broken


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> bool:
    logging.disable(logging.CRITICAL)
    match arguments:
        case ["stories", *names]:
            return stories(names)
        case ["removals", *text]:
            return removals("".join(text))
        case ["replay", file, name, seed, after]:
            return replay(file, name, seed, after)
    say(__doc__ or "")
    return False


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
