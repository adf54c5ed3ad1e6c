"""The documentation says what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_reference_pages_are_those_that_the_code_makes() -> None:
    check = [sys.executable, "docs/generate.py", "--check"]
    result = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert (0, "") == (result.returncode, result.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert [] == broken


def test_every_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=\[]", line)[0] for line in project["optional-dependencies"]["server"]}
    text = (ROOT / "docs/dependencies.md").read_text()
    assert set() == {name for name in names if name not in text}
    assert [] == project["dependencies"]


def test_every_decision_is_on_the_list() -> None:
    folder = ROOT / "docs/decisions"
    pages = {page.name for page in folder.glob("0*.md")}
    assert pages == set(re.findall(r"\((0[^)]+)\)", (folder / "README.md").read_text()))
