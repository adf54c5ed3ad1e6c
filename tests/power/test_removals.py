"""Every sync is needed: without it, a power cut breaks a promise. And none is added unnoticed."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power.removals import SOURCE, Fault, Site, remove, sites
from tests.power.stories import STORIES
from tests.power.table import FAULTS, SYNCS, Row
from tests.power.trial import Tally, prepare, sought, told, workshop

Removed = tuple[Site | Fault, Row]

# A thread beside the story may sync, by the way, what the removal leaves unsynced.
TELLINGS = 5


def removed() -> list[Removed]:
    found = {site.name: site for site in sites()}
    syncs: list[Removed] = [(found[name], row) for name, row in SYNCS.items() if name in found]
    return [*syncs, *FAULTS.items()]


def test_each_sync_of_the_product_has_its_line_in_the_table() -> None:
    assert sorted(site.name for site in sites()) == sorted(SYNCS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_of_order_can_be_put_in(fault: Fault) -> None:
    assert 1 == (SOURCE / fault.file).read_text().count(fault.text)


@pytest.fixture(scope="module")
def folders() -> Iterator[Path]:
    logging.disable(logging.ERROR)
    with workshop() as made:
        yield made
    logging.disable(logging.NOTSET)


@pytest.mark.slow(minutes=2)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", removed(), ids=lambda what: what[0].name)
def test_without_it_a_power_cut_breaks_a_promise(
    what: Removed, library: Path, folders: Path, tmp_path: Path
) -> None:
    removal, row = what
    story = STORIES[row.story]
    prepared = folders / story.name
    if not prepared.exists():
        prepare(story, prepared)
    source = remove(removal, tmp_path)
    tally = Tally()
    for _ in range(TELLINGS):
        with workshop() as work:
            recording = told(story, library, work / "told", source=source, prepared=prepared)
            tally.add(sought(story, recording, row.promise, seed="removed"))
        if row.promise in tally.promises:
            break

    sys.stdout.write(f"{removal.name}: {row.promise}, after {tally.states} states\n")
    assert row.promise in tally.promises, f"{tally.states} states of {row.story}: {tally.promises}"
