"""docs/how-to/data-quality.md does what it says, on the command line."""

from pathlib import Path

from tests.quality.page import PAGE, printed, steps, timeless
from tests.world import started


def test_every_command_of_the_page_prints_what_the_page_shows(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server:
        shown = 0
        for script, expected in steps(PAGE.read_text()):
            found = printed(server, script, tmp_path)
            if expected is not None:
                shown += 1
                assert timeless(expected) == timeless(found), script
    assert shown >= 4


def test_no_line_of_the_page_is_wider_than_a_terminal(tmp_path: Path) -> None:
    for _, expected in steps(PAGE.read_text()):
        for line in (expected or "").splitlines():
            assert len(line) <= 80 or "tx_" in line, line
