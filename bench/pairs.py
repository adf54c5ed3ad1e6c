"""CPU of one event, this checkout beside another: ``python -m bench.pairs OTHER [--turns 5]``.

OTHER is a checkout with an environment of its own (`make setup` there). Rates on a shared machine
scatter by 15 %; the CPU time of an event does not. Both servers get the same load in turns: single
events on 64 connections and batches of 100 on 8, with sealing on and every event synced. The result
is the median of the ratios of neighbouring runs.
"""

import argparse
import contextlib
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from tests.nursery import inherited
from tests.world import ADMIN_KEY, API_KEY, TOKEN, a_free_port

from bench.__main__ import conditions, load
from bench.usage import by_process, cpu_by_process_s

_HERE: Final = Path(__file__).parent.parent
# The names that an older checkout knows; this one still takes them where no host is named.
_KEYS: Final = {
    "INDELIBLE_TOKEN": TOKEN,
    "INDELIBLE_API_KEY": API_KEY,
    "INDELIBLE_ADMIN_KEY": ADMIN_KEY,
}
_SHAPES: Final = {"single": (64, 1), "batched": (8, 100)}


class Turn(NamedTuple):
    """What one run of a server came to."""

    cpu_us: float
    events_per_s: float
    p99_ms: float
    by_process: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--turns", type=int, default=5, help="pairs of runs")
    parser.add_argument("--seconds", type=float, default=6, help="of load in each run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="indelible-pairs-") as folder:
        print(conditions(Path(folder)))
        for shape, (connections, size) in _SHAPES.items():
            pairs = []
            for number in range(given.turns):
                order = [_HERE, given.other] if number % 2 else [given.other, _HERE]
                runs = {
                    checkout: _turn(checkout, connections, size, given.seconds)
                    for checkout in order
                }
                pairs.append((runs[_HERE], runs[given.other]))
                print(
                    f"  {shape} {number + 1}: {_shown(pairs[-1][0])}; other {_shown(pairs[-1][1])}"
                )
            ratio = statistics.median(mine.cpu_us / other.cpu_us for mine, other in pairs)
            mine = statistics.median(mine.cpu_us for mine, _ in pairs)
            other = statistics.median(other.cpu_us for _, other in pairs)
            print(
                f"{shape}: CPU {mine:.1f} µs an event, other {other:.1f} µs; "
                f"median ratio of {given.turns} pairs {ratio:.2f}",
                flush=True,
            )


def _shown(turn: Turn) -> str:
    rate = f"{turn.events_per_s:,.0f}/s, p99 {turn.p99_ms:.0f} ms"
    return f"{turn.cpu_us:.1f} µs ({turn.by_process}), {rate}"


def _turn(checkout: Path, connections: int, size: int, seconds: float) -> Turn:
    with (
        tempfile.TemporaryDirectory(prefix="indelible-pairs-") as folder,
        _serving(checkout, Path(folder)) as (pid, port),
    ):
        load(port, seconds=0.5, connections=connections, size=size)  # warm
        before, events_before = cpu_by_process_s(pid), _events(port)
        outcome = load(port, seconds=seconds, connections=connections, size=size)
        after, events = cpu_by_process_s(pid), _events(port) - events_before
    spent_s = {name: spent - before.get(name, 0.0) for name, spent in after.items()}
    return Turn(
        1e6 * sum(spent_s.values()) / events,
        outcome["events_per_s"],
        outcome["p99_ms"],
        by_process(spent_s, events),
    )


@contextlib.contextmanager
def _serving(checkout: Path, folder: Path) -> Iterator[tuple[int, int]]:
    port = a_free_port()
    process = subprocess.Popen(
        [checkout / ".venv/bin/indelible", "serve", "--data", folder / "data", "--port", str(port)],
        env={**inherited(), **_KEYS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(1_000):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
                break
            time.sleep(0.02)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _events(port: int) -> float:
    text = httpx.get(
        f"http://127.0.0.1:{port}/metrics",
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        trust_env=False,
    ).text
    for line in text.splitlines():
        if line.startswith("indelible_group_events_sum"):
            return float(line.split()[1])
    raise AssertionError("the server counts no events")


if __name__ == "__main__":
    main()
