"""Many projects on one server: one that cannot be sealed delays no other.

How soon hundreds of them are sealed is measured by `python -m bench projects`.
"""

import time
from pathlib import Path

import pytest

from tests.query.log import new_log
from tests.world import TOKEN, ServerProcess, product, started


@pytest.mark.clocked
def test_a_project_whose_folder_is_a_file_delays_no_other_and_goes_on_once_it_is_back(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "data") as server, new_log(server) as other:
        assert "receipt" in sealed(server, TOKEN)
        folder = server.data_dir / "ledger/default"
        aside = folder.rename(folder.with_name("aside"))
        folder.write_text("in the way")
        assert "receipt" not in sealed(server, TOKEN, timeout="300ms")

        for _ in range(8):
            began = time.monotonic()
            assert "receipt" in sealed(server, other.token)
            assert time.monotonic() - began < 0.9
            time.sleep(0.2)

        folder.unlink()
        aside.rename(folder)
        until_sealed(server)
        assert "receipt" in sealed(server, TOKEN)
        assert 200 == server.http.get("/healthz").status_code


def sealed(server: ServerProcess, token: str, timeout: str = "20s") -> dict[str, object]:
    """What becomes of a new event that asks for its receipt."""
    answer = server.http.post(f"/api/e?wait=sealed&timeout={timeout}", json=product(api_key=token))
    (event,) = answer.json()["events"]
    return dict(event)


def until_sealed(server: ServerProcess) -> None:
    deadline = time.monotonic() + 120
    while server.http.get("/healthz").json()["ledger"]["oldest_unsealed_s"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
