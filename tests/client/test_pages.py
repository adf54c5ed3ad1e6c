"""The how-to pages of the client do what they say: their code runs, against a real server."""

import re
from pathlib import Path

import pytest

from tests.world import API_KEY, TOKEN, ServerProcess

pytest_plugins = ["pytester"]

PAGES = Path(__file__).parent.parent.parent / "docs/how-to"


def blocks(page: str) -> list[str]:
    """The page's pieces of Python, in order."""
    found = re.findall(
        r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL
    )
    assert found
    return found


@pytest.mark.parametrize("page", ["python-client.md", "privacy.md"])
def test_the_code_of_a_page_runs_from_top_to_bottom(
    shared: ServerProcess, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDELIBLE_HOST", shared.url)
    monkeypatch.setenv("INDELIBLE_TOKEN", TOKEN)
    monkeypatch.setenv("INDELIBLE_API_KEY", API_KEY)
    reader: dict[str, object] = {}
    clients = []
    for block in blocks(page):
        exec(block, reader)  # the page itself is under test
        clients.append(reader["client"])

    for client in set(clients):
        assert client.flush(60)  # type: ignore[attr-defined]
        assert {} == client.counts().lost  # type: ignore[attr-defined]
        assert {} == client.audit.counts().lost  # type: ignore[attr-defined]
        client.shutdown(60)  # type: ignore[attr-defined]


def test_the_page_about_tests_is_a_test_that_passes(pytester: pytest.Pytester) -> None:
    with_fixture, *others = blocks("test-your-events.md")
    pytester.makepyfile(with_fixture)
    # Of the plugins that are installed here, schemathesis takes seconds to import.
    outcome = pytester.runpytest_inprocess("-pno:cacheprovider", "-pno:schemathesis")
    outcome.assert_outcomes(passed=1)

    for block in others:
        exec(block, {})
