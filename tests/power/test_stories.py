"""After a power cut at any moment every promise holds: told for each story of `stories.py`.

A run of all tests tries some moments of the stories that are told most often; which ones, changes
with pytest's seed. `make test-slow` tries every moment of every story.
"""

import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power.disk import moments
from tests.power.stories import STORIES, Story
from tests.power.trial import told, told_of, tried, tried_by_two, workshop

SAMPLED = ("first-start", "border", "erasure", "backup", "restore", "witness", "spool")
MOMENTS = 2


@pytest.fixture
def folder() -> Iterator[Path]:
    with workshop() as made:
        yield made / "told"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A server says of a folder that was cut off what it must; here that is nothing to look at."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", SAMPLED)
def test_some_power_cuts_break_no_promise(name: str, library: Path, folder: Path) -> None:
    story, seed = STORIES[name], str(random.getrandbits(32))
    recording = told(story, library, folder)
    some = random.sample(moments(recording), MOMENTS)
    tally = tried(story, recording, seed=seed, wanted=some)

    assert [] == tally.broken, told_of(story, recording, tally, seed=seed)


@pytest.mark.slow(minutes=3)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("story", STORIES.values(), ids=lambda story: story.name)
def test_no_power_cut_breaks_a_promise(story: Story, library: Path, folder: Path) -> None:
    seed = str(random.getrandbits(32))
    recording = told(story, library, folder)
    tally = tried_by_two(story, recording, seed=seed)

    sys.stdout.write(f"{story.name}: {tally.points} moments, {tally.states} states\n")
    assert [] == tally.broken, told_of(story, recording, tally, seed=seed)
