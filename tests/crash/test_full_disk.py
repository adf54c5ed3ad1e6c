"""A disk that takes no more, for a real server process."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.load import Load, complaints, resend
from tests.world import (
    ServerProcess,
    assert_canonical_error,
    audit,
    product,
    spawn,
    started,
)

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ROOM_BYTES = 100_000


def let_files_grow_to(server: ServerProcess, size_bytes: int) -> None:
    """The kernel refuses every write of the server beyond this offset of a file.

    It says EFBIG where a full disk says ENOSPC; Python leaves the signal that goes with it ignored.
    """
    _, most = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size_bytes, most))


@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill], ids=["stopped", "killed"])
def test_what_was_acknowledged_before_a_write_failed_survives_and_the_rest_was_answered_503(
    tmp_path: Path, end: Callable[[ServerProcess], object]
) -> None:
    data_dir = tmp_path / "data"
    with started(data_dir) as server:
        load = Load(server.url)
        load.start()
        load.until_acked(100)
        let_files_grow_to(server, (data_dir / "journal.db-wal").stat().st_size + ROOM_BYTES)
        history = load.join()

        assert {503} == {status for status, _ in history.refused}
        assert {"unavailable"} == {json.loads(text)["code"] for _, text in history.refused}
        assert [] == complaints(server.events(), history)
        health = server.http.get("/healthz")
        assert (503, "failing") == (health.status_code, health.json()["status"])

        # A write that failed is not tried again, even when there is room: what the file holds is
        # known only after a restart.
        let_files_grow_to(server, resource.RLIM_INFINITY)
        for answer in (server.send(product()), server.send_audit(audit())):
            assert_canonical_error(answer, 503, "unavailable")
        end(server)

    server = spawn(data_dir)
    try:
        assert "ok" == server.http.get("/healthz").json()["status"]
        log = server.events()
        assert [] == complaints(log, history)
        assert len(history.acks) <= len(log) < len(history.sent_ids())

        history.acks += resend(server.url, history.sent).acks
        log = server.events()
        assert [] == complaints(log, history)
        assert len(history.sent_ids()) == len(log)
    finally:
        server.end()
